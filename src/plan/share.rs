//! Sharing: stages with one fingerprint are one stage.

use super::identify::Identified;
use super::model::{Fingerprint, PlannedRun, PlannedStage, Variant};
use crate::spec::experiment::Experiment;
use crate::spec::problem::Report;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A hasher for keys that are hashes already.
#[derive(Default)]
struct Taken(u64);

impl Hasher for Taken {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = self.0.rotate_left(5) ^ u64::from_le_bytes(word);
        }
    }

    fn write_usize(&mut self, _length: usize) {}
}

/// Runs, stages, and the run that each stage was first planned for.
pub(in crate::plan) type Shared = (Vec<PlannedRun>, Vec<PlannedStage>, Vec<(u32, u64)>);

/// Runs and stages; stages with one fingerprint are one stage.
pub(in crate::plan) fn share(
    experiment: &Experiment,
    variants: &[Variant],
    seeds: &[u64],
    identified: &Identified,
) -> Shared {
    let count = experiment.stages.len();
    let mut numbers: HashMap<Fingerprint, u32, BuildHasherDefault<Taken>> =
        HashMap::with_capacity_and_hasher(
            identified.fingerprints.len(),
            BuildHasherDefault::default(),
        );
    let mut runs = Vec::with_capacity(variants.len() * seeds.len());
    let mut stages: Vec<PlannedStage> = Vec::new();
    let mut first = Vec::new();
    let mut fingerprints = identified.fingerprints.chunks(count);
    for variant in 0..variants.len() {
        for &seed in seeds {
            let Some(own) = fingerprints.next() else {
                continue;
            };
            let mut planned = Vec::with_capacity(count);
            for (name, &fingerprint) in own.iter().enumerate() {
                let number = *numbers.entry(fingerprint).or_insert_with(|| {
                    let parent: Option<u32> =
                        experiment.stages[name].from.map(|parent| planned[parent]);
                    let cost = identified.costs[variant * count + name];
                    stages.push(PlannedStage {
                        name: name as u32,
                        fingerprint,
                        parent,
                        cost,
                    });
                    first.push((variant as u32, seed));
                    (stages.len() - 1) as u32
                });
                planned.push(number);
            }
            runs.push(PlannedRun {
                variant: variant as u32,
                seed,
                stages: planned,
            });
        }
    }
    (runs, stages, first)
}

/// Warns of variants that train the same thing.
pub(in crate::plan) fn same_variants(
    experiment: &Experiment,
    variants: &[Variant],
    runs: &[PlannedRun],
    seeds: usize,
    reports: &mut Vec<Report>,
) {
    let mut known: HashMap<&[u32], u32, BuildHasherDefault<Mixed>> =
        HashMap::with_capacity_and_hasher(variants.len(), BuildHasherDefault::default());
    let mut same = Vec::new();
    for run in runs.iter().step_by(seeds.max(1)) {
        if let Some(&other) = known.get(run.stages.as_slice()) {
            same.push((other, run.variant));
        } else {
            known.insert(&run.stages, run.variant);
        }
    }
    let name = |index: u32| &variants[index as usize].name;
    if let Some(&(a, b)) = same.first() {
        let more = if same.len() > 1 {
            format!(" (and {} more pairs)", same.len() - 1)
        } else {
            String::new()
        };
        let message = format!(
            "variants `{}` and `{}` are the same in every stage{more}",
            name(a),
            name(b)
        );
        reports.push(
            Report::warning(experiment.design_position, message).hint(
                "they are trained once and reported twice; a later layer may hide what differs",
            ),
        );
    }
}

/// A fast hasher for short lists of numbers that nobody chooses.
#[derive(Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(4) {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 =
                (self.0 ^ u64::from(u32::from_le_bytes(word))).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn write_usize(&mut self, _length: usize) {}
}
