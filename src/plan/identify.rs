//! Identity of the stages of every run: rules, costs, fingerprints; in parallel over variants.

use super::command::Program;
use super::init::InitWeights;
use super::layers::{self, StageLayers};
use super::model::{Cost, DataDescription, Fingerprint, Variant};
use super::{Resolvers, cost, fingerprint};
use crate::rundir::stage::{DataShape, NamedSet, TRAINER_REVISION};
use crate::spec::check::RULES;
use crate::spec::experiment::Experiment;
use crate::spec::fields::{FIELDS, index};
use crate::spec::problem::{Position, Report, Severity};
use crate::spec::recipe::DataConfig;
use crate::spec::resolved::{Flat, UNSET, ValueId, Values, View};
use crate::spec::value::Value;
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

const DATA_NAME: usize = index("data.name");

const DATA_ROOT: usize = index("data.root");

const EVAL_SETS: usize = index("eval.sets");

/// The values that say which data set a recipe uses.
pub(in crate::plan) fn data_key(flat: &Flat) -> (ValueId, ValueId) {
    (flat[DATA_NAME], flat[DATA_ROOT])
}

/// The values that say which evaluation sets a recipe uses, and whose classes their labels are.
fn sets_key(flat: &Flat) -> (ValueId, ValueId, ValueId) {
    (flat[DATA_NAME], flat[DATA_ROOT], flat[EVAL_SETS])
}

/// The data sets of a plan, by the values that name them.
pub(in crate::plan) type DataTable = Vec<((ValueId, ValueId), DataConfig, DataDescription)>;

/// The evaluation sets of a plan, by the values that name them; recipes without any are not listed.
pub(in crate::plan) type SetTable = Vec<((ValueId, ValueId, ValueId), Vec<NamedSet>)>;

/// The evaluation sets of a recipe.
pub(in crate::plan) fn sets_of<'a>(table: &'a SetTable, flat: &Flat) -> &'a [NamedSet] {
    // Most plans have none.
    if table.is_empty() {
        return &[];
    }
    let key = sets_key(flat);
    let found = table.iter().find(|(known, _)| *known == key);
    found.map_or(&[], |(_, sets)| sets)
}

/// Asks for every different data set and evaluation set once.
pub(in crate::plan) fn describe_data(
    layers: &[StageLayers],
    programs: &[Option<Program>],
    variants: &[Variant],
    values: &Values,
    resolvers: &Resolvers<'_>,
    reports: &mut Vec<Report>,
) -> Option<(DataTable, SetTable)> {
    let mut table: DataTable = Vec::new();
    let mut sets: SetTable = Vec::new();
    let mut failed_sets = HashSet::new();
    let mut failed = HashSet::new();
    for (stage, program) in layers.iter().zip(programs) {
        if program.is_some() {
            continue;
        }
        let varies = |part: &Vec<Vec<Vec<layers::Override>>>| {
            let mut all = part.iter().flatten().flatten();
            all.any(|set| [DATA_NAME, DATA_ROOT, EVAL_SETS].contains(&usize::from(set.field)))
        };
        // Most experiments use one data set: one variant then stands for all.
        let varies = varies(&stage.general) || varies(&stage.own);
        let looked_at = if varies {
            variants.len()
        } else {
            1.min(variants.len())
        };
        for variant in &variants[..looked_at] {
            let flat = stage.resolve(variant, values);
            let key = data_key(&flat);
            if failed.contains(&key) {
                continue;
            }
            let config = DataConfig {
                name: values.get(key.0).as_text().unwrap_or_default().to_owned(),
                root: values.get(key.1).as_text().map(str::to_owned),
            };
            if table.iter().all(|(known, ..)| *known != key) {
                match (resolvers.data)(&config) {
                    Ok(description) => table.push((key, config.clone(), description)),
                    Err(message) => {
                        failed.insert(key);
                        let field = if config.root.is_some() {
                            DATA_ROOT
                        } else {
                            DATA_NAME
                        };
                        let position = stage.origins(variant)[field].position;
                        reports.push(Report::error(position, message));
                        continue;
                    }
                }
            }
            let key = sets_key(&flat);
            let names = values.get(key.2).items();
            if names.is_empty()
                || failed_sets.contains(&key)
                || sets.iter().any(|(known, _)| *known == key)
            {
                continue;
            }
            let mut found = Vec::with_capacity(names.len());
            for name in names.iter().filter_map(Value::as_text) {
                let known = sets
                    .iter()
                    .filter(|((data, root, _), _)| (*data, *root) == (key.0, key.1));
                let known = known
                    .flat_map(|(_, sets)| sets)
                    .find(|set| set.name == name);
                match known.map_or_else(|| (resolvers.sets)(name, &config), |set| Ok(set.clone())) {
                    Ok(set) => found.push(set),
                    Err(message) => {
                        failed_sets.insert(key);
                        let position = stage.origins(variant)[EVAL_SETS].position;
                        reports.push(Report::error(position, message));
                    }
                }
            }
            if !failed_sets.contains(&key) {
                sets.push((key, found));
            }
        }
    }
    (failed.is_empty() && failed_sets.is_empty()).then_some((table, sets))
}

/// Fingerprints and costs of every stage of every run, before equal stages are merged.
pub(in crate::plan) struct Identified {
    /// By variant, then seed, then stage.
    pub fingerprints: Vec<Fingerprint>,
    /// By variant, then stage.
    pub costs: Vec<Cost>,
}

/// A broken rule: stage, rule, and the values of the fields it is about.
type Broken = (u32, u32, [ValueId; 5]);

struct Work<'a> {
    experiment: &'a Experiment,
    layers: &'a [StageLayers],
    values: &'a Values,
    data: &'a DataTable,
    init: &'a [Option<String>],
    sets: &'a SetTable,
    /// By stage, and the names of the parameters.
    programs: (&'a [Option<Program>], &'a [String]),
    seeds: &'a [u64],
    broken: Mutex<HashMap<Broken, u32>>,
    unset: Mutex<HashSet<(u32, u32)>>,
}

/// Checks, costs and identifies every stage of every run.
#[allow(clippy::too_many_arguments)]
pub(in crate::plan) fn identify(
    experiment: &Experiment,
    layers: &[StageLayers],
    variants: &[Variant],
    values: &Values,
    (data, sets): (&DataTable, &SetTable),
    init: &[Option<InitWeights>],
    programs: (&[Option<Program>], &[String]),
    seeds: &[u64],
    reports: &mut Vec<Report>,
) -> Option<Identified> {
    let stages = layers.len();
    let mut fingerprints = vec![Fingerprint([0; 16]); variants.len() * seeds.len() * stages];
    let mut costs = vec![Cost::default(); variants.len() * stages];
    let init: Vec<Option<String>> = init
        .iter()
        .map(|init| Some(fingerprint::weights_origin(&init.as_ref()?.hash)))
        .collect();
    let work = Work {
        experiment,
        layers,
        values,
        data,
        init: &init,
        sets,
        programs,
        seeds,
        broken: Mutex::default(),
        unset: Mutex::default(),
    };
    variants
        .par_iter()
        .enumerate()
        .zip(fingerprints.par_chunks_mut(seeds.len() * stages))
        .zip(costs.par_chunks_mut(stages))
        .with_min_len(64)
        .for_each_init(
            || (String::new(), String::new()),
            |(body, text), (((number, variant), fingerprints), costs)| {
                for stage in 0..stages {
                    work.stage(
                        number as u32,
                        variant,
                        stage,
                        body,
                        text,
                        fingerprints,
                        costs,
                    );
                }
            },
        );
    work.report(variants, reports);
    let errors = reports
        .iter()
        .any(|report| report.severity == Severity::Error);
    (!errors).then_some(Identified {
        fingerprints,
        costs,
    })
}

impl Work<'_> {
    #[allow(clippy::too_many_arguments)]
    fn stage(
        &self,
        number: u32,
        variant: &Variant,
        stage: usize,
        body: &mut String,
        text: &mut String,
        fingerprints: &mut [Fingerprint],
        costs: &mut [Cost],
    ) {
        if let Some(program) = &self.programs.0[stage] {
            self.program(program, variant, stage, fingerprints);
            return;
        }
        let flat = self.layers[stage].resolve(variant, self.values);
        if flat.contains(&UNSET) {
            let mut unset = lock(&self.unset);
            let missing = flat.iter().enumerate().filter(|(_, id)| **id == UNSET);
            unset.extend(missing.map(|(field, _)| (stage as u32, field as u32)));
            return;
        }
        let key = data_key(&flat);
        let Some((_, _, data)) = self.data.iter().find(|(known, ..)| *known == key) else {
            return;
        };
        let task = self.experiment.stages[stage].task;
        let view = View {
            flat: &flat,
            values: self.values,
            shape: data.shape,
        };
        for (rule_number, rule) in RULES.iter().enumerate() {
            if rule.is_broken(&view, task) {
                let mut ids = [UNSET; 5];
                for (slot, &field) in ids.iter_mut().zip(rule.fields) {
                    *slot = flat[field];
                }
                // The first variant stands for all, whichever thread was first.
                let mut broken = lock(&self.broken);
                let first = broken
                    .entry((stage as u32, rule_number as u32, ids))
                    .or_insert(number);
                *first = (*first).min(number);
            }
        }
        let sets = sets_of(self.sets, &flat);
        costs[stage] = cost::of_view(&view, task, sets);
        body.clear();
        fingerprint::body(body, &flat, self.values, sets);
        let stages = self.layers.len();
        for (run, &seed) in self.seeds.iter().enumerate() {
            let parent = self.experiment.stages[stage]
                .from
                .map(|parent| fingerprints[run * stages + parent].hex());
            let parent = parent
                .as_ref()
                .and_then(|hex| std::str::from_utf8(hex).ok())
                .or(self.init[stage].as_deref());
            text.clear();
            fingerprint::header(text, TRAINER_REVISION, task, seed, &data.hash, parent);
            text.push_str(body);
            fingerprints[run * stages + stage] = fingerprint::hash(text);
        }
    }

    /// Identifies the runs of a variant in a program's stage.
    fn program(
        &self,
        program: &Program,
        variant: &Variant,
        stage: usize,
        fingerprints: &mut [Fingerprint],
    ) {
        let layers = &self.layers[stage];
        if let Some(field) = program.missing(layers, variant, self.values) {
            lock(&self.unset).insert((stage as u32, field as u32));
            return;
        }
        let stages = self.layers.len();
        for (run, &seed) in self.seeds.iter().enumerate() {
            let parent = self.experiment.stages[stage]
                .from
                .map(|parent| fingerprints[run * stages + parent].to_string());
            let command = program.spec(layers, variant, self.values, self.programs.1, seed);
            let text = fingerprint::of_command(seed, parent.as_deref(), &command);
            fingerprints[run * stages + stage] = fingerprint::hash(&text);
        }
    }

    fn report(&self, variants: &[Variant], reports: &mut Vec<Report>) {
        let mut unset: Vec<(u32, u32)> = lock(&self.unset).iter().copied().collect();
        unset.sort_unstable();
        for stages in unset.chunk_by(|a, b| a.0 == b.0) {
            let number = stages[0].0 as usize;
            if let Some(program) = &self.programs.0[number] {
                let missing = stages.iter().map(|(_, field)| *field as usize);
                reports.extend(missing.map(|field| program.report_missing(field)));
                continue;
            }
            let stage = &self.experiment.stages[number];
            let recipe = stage.recipe.as_ref().or(self.experiment.recipe.as_ref());
            let (name, position) =
                recipe.map_or(("", Position::default()), |(name, at)| (name.as_str(), *at));
            let fields: Vec<String> = stages
                .iter()
                .map(|(_, field)| format!("`{}`", FIELDS[*field as usize].path))
                .collect();
            let message = format!(
                "recipe `{name}` leaves {} open, and nothing else sets it",
                fields.join(", ")
            );
            reports.push(
                Report::error(position, message)
                    .hint("set it in `set`, in every value of an axis, or in the recipe"),
            );
        }
        let mut broken: Vec<(Broken, u32)> = lock(&self.broken)
            .iter()
            .map(|(key, first)| (*key, *first))
            .collect();
        broken.sort_unstable_by_key(|(key, first)| (*first, *key));
        // A handful shows what is wrong; a large grid can break a rule in every cell.
        broken.truncate(1000);
        for ((stage, rule, _), number) in broken {
            let rule = &RULES[rule as usize];
            let variant = &variants[number as usize];
            let layers = &self.layers[stage as usize];
            let flat = layers.resolve(variant, self.values);
            let key = data_key(&flat);
            let shape = self
                .data
                .iter()
                .find(|(known, ..)| *known == key)
                .map(|(_, _, data)| data.shape);
            let shape = shape.unwrap_or(DataShape {
                classes: 0,
                train_images: 0,
                val_images: 0,
                kept_bytes: 0,
            });
            let (message, hint) = rule.explain(&View {
                flat: &flat,
                values: self.values,
                shape,
            });
            let origins = layers.origins(variant);
            let position = rule
                .fields
                .iter()
                .map(|&field| origins[field])
                .max()
                .unwrap_or_default()
                .position;
            let place = match (self.experiment.stages.len(), variants.len()) {
                (1, 1) => String::new(),
                (1, _) => format!(" (variant `{}`)", variant.name),
                _ => {
                    let stage = &self.experiment.stages[stage as usize].name;
                    format!(" (stage `{stage}` of variant `{}`)", variant.name)
                }
            };
            let report = Report {
                severity: rule.severity,
                position,
                message: format!("{message}{place}"),
                hint: (!hint.is_empty()).then(|| hint.to_owned()),
            };
            let told = |r: &Report| {
                r.position == position && r.message.starts_with(&message) && r.hint == report.hint
            };
            if !reports.iter().any(told) {
                reports.push(report);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
