//! Experiments as they come from the store, for tests of tables, plots and files.

use crate::plan::model::{AxisInfo, DataDescription, Plan, ReportSpec};
use crate::report::background::Background;
use crate::report::data::ExperimentData;
use crate::report::statistics::Bitset;
use crate::rundir::predictions::Prediction;
use crate::rundir::stage::DataShape;
use crate::spec::experiment::{Options, read};
use crate::spec::library;
use crate::store::StageRow;
use crate::store::rows::{CurveRow, ExperimentRow, ResultRow, RunRow, Status};
use std::collections::BTreeMap;

/// Epochs of every curve.
const EPOCHS: u32 = 10;

/// Builds an experiment step by step.
pub struct Fixture {
    pub data: ExperimentData,
}

impl Fixture {
    /// An experiment whose variants are the product of `axes`, with `seeds` runs each, all pending.
    pub fn product(name: &str, axes: &[(&str, &[&str])], seeds: u64, stages: &[&str]) -> Self {
        let mut combinations: Vec<Vec<String>> = vec![Vec::new()];
        for (_, labels) in axes {
            combinations = combinations
                .iter()
                .flat_map(|left| {
                    labels.iter().map(move |label| {
                        let mut labels = left.clone();
                        labels.push((*label).to_owned());
                        labels
                    })
                })
                .collect();
        }
        let variants = combinations
            .into_iter()
            .map(|labels| (labels.join(","), labels))
            .collect();
        Fixture::list(name, axes, variants, seeds, stages)
    }

    /// An experiment with these variants (name, labels).
    pub fn list(
        name: &str,
        axes: &[(&str, &[&str])],
        variants: Vec<(String, Vec<String>)>,
        seeds: u64,
        stages: &[&str],
    ) -> Self {
        let axes = axes
            .iter()
            .map(|(name, labels)| AxisInfo {
                name: (*name).to_owned(),
                labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            })
            .collect();
        let mut runs = Vec::new();
        for (index, (variant, labels)) in variants.into_iter().enumerate() {
            for seed in 0..seeds {
                runs.push(RunRow {
                    id: format!("{name}/{variant}/s{seed}"),
                    experiment: name.to_owned(),
                    variant: variant.clone(),
                    variant_index: index as u32,
                    labels: labels.clone(),
                    seed,
                    status: Status::Pending,
                    failure: None,
                    stages: stages
                        .iter()
                        .map(|stage| format!("{index:04x}{seed:04x}{stage}"))
                        .collect(),
                    wall_seconds: None,
                });
            }
        }
        let experiment = ExperimentRow {
            name: name.to_owned(),
            title: format!("The {name} ablation"),
            claim: String::new(),
            profile: "quick".to_owned(),
            axes,
            stage_names: stages.iter().map(|stage| (*stage).to_owned()).collect(),
            baseline: None,
            report: ReportSpec::default(),
            updated: 1_764_000_000.0,
        };
        let data = ExperimentData {
            experiment,
            runs,
            results: Vec::new(),
            curves: Vec::new(),
            predictions: BTreeMap::new(),
            correct: BTreeMap::new(),
            data_set: Some("bluemarble-climate".to_owned()),
            deviations: Vec::new(),
            background: Background::default(),
        };
        Fixture { data }
    }

    pub fn baseline(mut self, labels: &[Option<&str>]) -> Self {
        self.data.experiment.baseline = Some(
            labels
                .iter()
                .map(|label| label.map(str::to_owned))
                .collect(),
        );
        self
    }

    pub fn columns(mut self, axes: &[&str]) -> Self {
        self.data.experiment.report.columns = axes.iter().map(|axis| (*axis).to_owned()).collect();
        self
    }

    /// Finishes every run: its top-1 after stage `stage` is `top1(variant, stage) + spread × noise`.
    pub fn finish(mut self, spread: f64, top1: impl Fn(usize, usize) -> f64) -> Self {
        let stages = self.data.experiment.stage_names.clone();
        for run in &mut self.data.runs {
            run.status = Status::Done;
            run.wall_seconds = Some(60.0);
            let variant = run.variant_index as usize;
            for (position, stage) in stages.iter().enumerate() {
                let shared = noise(run.seed * 31 + position as u64);
                let own = noise(run.seed * 1009 + run.variant_index as u64 * 17 + position as u64);
                let value = top1(variant, position) + spread * (0.6 * shared + 0.8 * own);
                // Shares of 1800 images, as an evaluation set of that size gives.
                let right = (value / 100.0 * 1800.0).round();
                let metrics = [
                    ("loss", 4.6 * (1.0 - right / 1800.0)),
                    ("top1", right / 18.0),
                    ("top5", 95.0 + right / 900.0),
                ];
                for (metric, value) in metrics {
                    self.data.results.push(ResultRow {
                        run: run.id.clone(),
                        variant_index: run.variant_index,
                        seed: run.seed,
                        stage: stage.clone(),
                        fingerprint: run.stages[position].clone(),
                        set: "val".to_owned(),
                        resolution: 48,
                        metric: metric.to_owned(),
                        value,
                        headline: true,
                    });
                }
                for epoch in 0..EPOCHS {
                    let share = f64::from(epoch + 1) / f64::from(EPOCHS);
                    let wobble = noise(run.seed * 77 + u64::from(epoch) * 13 + variant as u64);
                    let rows = [
                        (
                            "train_loss",
                            0.6 + 1.6 * (-3.0 * share).exp()
                                + 0.01 * variant as f64
                                + 0.02 * wobble,
                        ),
                        ("lr", 0.003 * (1.0 - share)),
                        (
                            "val/top1",
                            value * (1.0 - (-4.0 * share).exp()) + 0.3 * spread * wobble,
                        ),
                    ];
                    for (metric, value) in rows {
                        self.data.curves.push(CurveRow {
                            run: run.id.as_str().into(),
                            variant_index: run.variant_index,
                            seed: run.seed,
                            stage: stage.as_str().into(),
                            epoch,
                            metric: metric.into(),
                            value,
                        });
                    }
                }
            }
        }
        self
    }

    /// Costs of every stage: `flops(variant)` operations, `parameters(variant)`, and a speed that goes with
    /// them.
    pub fn costs(
        mut self,
        flops: impl Fn(usize) -> f64,
        parameters: impl Fn(usize) -> u64,
    ) -> Self {
        for run in &self.data.runs {
            let variant = run.variant_index as usize;
            for fingerprint in &run.stages {
                let seconds = flops(variant) / 3e10;
                self.data.background.stages.insert(
                    fingerprint.clone(),
                    StageRow {
                        fingerprint: fingerprint.clone(),
                        seed: run.seed,
                        data_name: "bluemarble-climate".to_owned(),
                        data_hash: "0123456789abcdef".to_owned(),
                        flops: flops(variant),
                        parameters: parameters(variant),
                        steps: 100,
                        status: run.status,
                        attempts: 1,
                        wall_seconds: Some(seconds),
                        cpu_seconds: Some(0.9 * seconds),
                        images: Some(39_150),
                        images_seconds: Some(seconds * (1.0 + 0.01 * noise(run.seed))),
                        peak_rss_bytes: Some(150 << 20),
                        energy_joules: None,
                    },
                );
            }
        }
        self
    }

    /// Configurations of the first run of each variant, from the program's own experiment of this name: its
    /// variants in turn.
    pub fn configurations(mut self, experiment: &str) -> Self {
        let plan = planned(experiment);
        for run in self.data.runs.iter().filter(|run| run.seed == 0) {
            let variant = run.variant_index % plan.variants.len() as u32;
            let planned = plan.runs.iter().find(|other| other.variant == variant);
            let stages = &planned.expect("every variant has a run").stages;
            for (fingerprint, stage) in run.stages.iter().zip(stages) {
                let spec = plan.stage_spec(*stage);
                self.data
                    .background
                    .configs
                    .insert(fingerprint.clone(), spec);
            }
        }
        self
    }

    /// Per-image results for every finished run, in agreement with its top-1.
    pub fn predictions(mut self) -> Self {
        for row in self.data.results.iter().filter(|row| row.metric == "top1") {
            let right = (row.value * 18.0).round() as usize;
            let predictions = (0..1800)
                .map(|image| Prediction {
                    label: 0,
                    class: 0,
                    rank: u32::from(image >= right),
                    loss: 1.0,
                })
                .collect();
            self.data.correct.insert(
                row.fingerprint.clone(),
                Bitset::new((0..1800).map(|image| image < right)),
            );
            self.data
                .predictions
                .insert(row.fingerprint.clone(), predictions);
        }
        self
    }

    /// Top-1 at further test resolutions after `stage`, highest at 4/3 of each variant's own `train` side;
    /// the headline is that of the own side.
    pub fn resolutions(mut self, stage: &str, train: &[u32], sides: &[u32]) -> Self {
        let own: Vec<ResultRow> = self
            .data
            .results
            .extract_if(.., |row| row.stage == stage && row.metric == "top1")
            .collect();
        for row in own {
            let train = train[row.variant_index as usize];
            for &side in sides {
                let off = |side: u32| (f64::from(3 * side) / f64::from(4 * train)).ln().powi(2);
                self.data.results.push(ResultRow {
                    resolution: side,
                    value: row.value + 20.0 * (off(train) - off(side)),
                    headline: side == train,
                    ..row.clone()
                });
            }
        }
        self
    }

    /// Results on another evaluation set, after the last stage.
    pub fn set(mut self, name: &str, metrics: &[&str]) -> Self {
        let last = self.data.experiment.stage_names.last().cloned();
        let rows: Vec<ResultRow> = self
            .data
            .results
            .iter()
            .filter(|row| Some(&row.stage) == last.as_ref() && row.headline)
            .filter(|row| metrics.contains(&row.metric.as_str()))
            .map(|row| ResultRow {
                set: name.to_owned(),
                value: row.value - 8.0,
                headline: false,
                ..row.clone()
            })
            .collect();
        self.data.results.extend(rows);
        self
    }

    /// Takes a run's results away and sets its state.
    pub fn lose(mut self, variant: u32, seed: u64, status: Status, failure: Option<&str>) -> Self {
        for run in &mut self.data.runs {
            if run.variant_index == variant && run.seed == seed {
                run.status = status;
                run.failure = failure.map(str::to_owned);
            }
        }
        self.data
            .results
            .retain(|row| row.variant_index != variant || row.seed != seed);
        self.data
            .curves
            .retain(|row| row.variant_index != variant || row.seed != seed);
        self
    }

    /// Takes a variant out of the grid.
    pub fn exclude(mut self, variant: u32) -> Self {
        self.data.runs.retain(|run| run.variant_index != variant);
        self.data.results.retain(|row| row.variant_index != variant);
        self.data.curves.retain(|row| row.variant_index != variant);
        self
    }
}

/// The plan of one of the program's experiments.
pub fn planned(name: &str) -> Plan {
    let text = library::experiments()
        .find(|(known, _)| *known == name)
        .expect("a built-in experiment")
        .1;
    let options = Options {
        profile: Some("quick".to_owned()),
        ..Options::default()
    };
    let shape = DataShape {
        classes: 9,
        train_images: 3906,
        val_images: 926,
        kept_bytes: 0,
    };
    let data = |_: &_| {
        Ok(DataDescription {
            hash: "0".repeat(64),
            shape,
        })
    };
    let experiment = read(&format!("{name}.yaml"), text, None, &options)
        .unwrap_or_else(|problems| panic!("{problems}"));
    crate::plan::plan(experiment, None, &data).unwrap_or_else(|problems| panic!("{problems}"))
}

/// A number in [-1.7, 1.7] with variance 1 for a counter.
pub fn noise(counter: u64) -> f64 {
    let mut z = counter.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let uniform = ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64;
    (uniform - 0.5) * 12f64.sqrt()
}

/// `loss.yaml`: two losses by two models, three seeds, losses along the columns.
pub fn loss() -> Fixture {
    Fixture::product(
        "loss",
        &[
            ("loss.name", &["ce", "bce"]),
            ("model", &["ViT-Ti", "ViT-S"]),
        ],
        3,
        &["train"],
    )
    .baseline(&[Some("ce"), None])
    .columns(&["loss.name"])
    .finish(0.6, |variant, _| [52.0, 56.5, 49.1, 56.9][variant])
}

/// `augmentation.yaml`: one axis, seven variants.
pub fn augmentation(seeds: u64) -> Fixture {
    let labels = [
        "none",
        "rand-augment",
        "grayscale",
        "solarize",
        "gaussian-blur",
        "three-augment",
        "three-augment + color jitter",
    ];
    Fixture::product("augmentation", &[("augment", &labels)], seeds, &["train"])
        .baseline(&[Some("rand-augment")])
        .finish(0.7, |variant, _| {
            [50.2, 53.0, 51.1, 51.9, 50.8, 54.6, 55.2][variant]
        })
}

/// `epochs.yaml`: a numeric axis.
pub fn epochs(seeds: u64) -> Fixture {
    Fixture::product(
        "epochs",
        &[("train.epochs", &["6", "8", "12", "16"])],
        seeds,
        &["train"],
    )
    .baseline(&[Some("6")])
    .finish(0.5, |variant, _| [48.3, 52.2, 55.9, 57.3][variant])
}

/// `fixres.yaml`: a numeric axis and two stages.
pub fn fixres(seeds: u64) -> Fixture {
    Fixture::product(
        "fixres",
        &[("train.resolution", &["24", "32", "40", "48"])],
        seeds,
        &["pretrain", "finetune"],
    )
    .baseline(&[Some("48")])
    .finish(0.5, |variant, stage| {
        [[38.0, 47.0, 52.5, 55.0], [51.2, 55.4, 56.8, 55.9]][stage][variant]
    })
}

/// `crop.yaml`: two variants.
pub fn crop(seeds: u64) -> Fixture {
    Fixture::product(
        "crop",
        &[("augment.crop", &["rrc", "src"])],
        seeds,
        &["train"],
    )
    .baseline(&[Some("rrc")])
    .finish(0.5, |variant, _| [53.4, 55.1][variant])
}

/// `fixres.yaml` with the train/test resolution curve, and two further sets.
pub fn test_resolutions(seeds: u64) -> Fixture {
    let mut fixture = fixres(seeds)
        .resolutions("pretrain", &[24, 32, 40, 48], &[24, 32, 40, 48, 56, 64])
        .set("imagenet-real", &["top1"])
        .set("imagenet-v2", &["top1", "top5", "loss"]);
    fixture.data.experiment.name = "test-resolutions".to_owned();
    fixture
}
