//! From an experiment to its plan: checks, fingerprints, stages that runs share.

use super::layers::{self, StageLayers};
use super::model::{
    AxisInfo, Configurations, Cost, ExperimentInfo, Fingerprint, Plan, PlannedRun, PlannedStage,
    ReportSpec, Variant,
};
use super::{cost, design, fingerprint};
use crate::rundir::stage::{DataShape, TRAINER_REVISION, Task};
use crate::spec::check::RULES;
use crate::spec::experiment::{self, Experiment, Options};
use crate::spec::fields::{FIELDS, index};
use crate::spec::problem::{Position, Problems, Report, Severity};
use crate::spec::recipe::DataConfig;
use crate::spec::resolved::{Flat, UNSET, ValueId, Values, View};
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::path::Path;
use std::sync::Mutex;

pub use super::model::DataDescription;

/// Largest number of cells (variants x seeds) that is planned without being asked to.
pub const DEFAULT_MAX_CELLS: u64 = 100_000;

/// Says what a data set holds, or why it can't be used. Called once for every different data set,
/// before anything is expanded.
pub type Resolver<'a> = dyn Fn(&DataConfig) -> Result<DataDescription, String> + 'a;

/// What to plan.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub options: Options,
    /// Largest number of cells; `None`: [`DEFAULT_MAX_CELLS`].
    pub max_cells: Option<u64>,
}

/// Plans the experiment file at `path`, or the built-in experiment of that name.
pub fn plan_file(
    path: &Path,
    request: &Request,
    resolver: &Resolver<'_>,
) -> Result<Plan, Problems> {
    let experiment = experiment::load(path, &request.options)?;
    plan(experiment, request.max_cells, resolver)
}

/// Plans an experiment. All problems of all its variants are reported at once.
pub fn plan(
    mut experiment: Experiment,
    max_cells: Option<u64>,
    resolver: &Resolver<'_>,
) -> Result<Plan, Problems> {
    let mut reports = std::mem::take(&mut experiment.warnings);
    match build(
        &mut experiment,
        max_cells.unwrap_or(DEFAULT_MAX_CELLS),
        resolver,
        &mut reports,
    ) {
        Some(mut plan)
            if reports
                .iter()
                .all(|report| report.severity == Severity::Warning) =>
        {
            plan.warnings = Problems::new(&experiment.sources, &reports).0;
            Ok(plan)
        }
        _ => Err(Problems::new(&experiment.sources, &reports)),
    }
}

fn build(
    experiment: &mut Experiment,
    max_cells: u64,
    resolver: &Resolver<'_>,
    reports: &mut Vec<Report>,
) -> Option<Plan> {
    check_size(experiment, max_cells)
        .map_err(|report| reports.push(report))
        .ok()?;
    let mut values = Values::default();
    let layers = layers::build(experiment, &mut values, reports)?;
    if reports
        .iter()
        .any(|report| report.severity == Severity::Error)
    {
        return None;
    }
    let variants = design::expand(experiment)
        .map_err(|found| reports.extend(found))
        .ok()?;
    let data = describe_data(experiment, &layers, &variants, &values, resolver, reports)?;
    let tasks: Vec<Task> = experiment.stages.iter().map(|stage| stage.task).collect();
    let seeds = experiment.seeds.to_vec();
    let identified = identify(
        experiment, &layers, &variants, &values, &data, &seeds, reports,
    )?;
    let (runs, stages, first) = share(experiment, &variants, &seeds, &identified);
    same_variants(experiment, &variants, &runs, seeds.len(), reports);
    Some(Plan {
        experiment: describe(experiment),
        axes: experiment
            .axes
            .iter()
            .map(|axis| AxisInfo {
                name: axis.name.clone(),
                labels: axis
                    .values
                    .iter()
                    .map(|value| value.label.clone())
                    .collect(),
            })
            .collect(),
        variants,
        runs,
        stages,
        warnings: Vec::new(),
        configurations: Configurations {
            values,
            layers,
            tasks,
            first,
            data,
        },
    })
}

fn describe(experiment: &Experiment) -> ExperimentInfo {
    let source = experiment.sources.get(0);
    ExperimentInfo {
        name: experiment.name.clone(),
        title: experiment.title.clone(),
        claim: experiment.claim.clone(),
        profile: experiment.profile.clone(),
        source: source
            .map(|source| source.text.to_string())
            .unwrap_or_default(),
        path: source.map(|source| source.name.clone()).unwrap_or_default(),
        stage_names: experiment
            .stages
            .iter()
            .map(|stage| stage.name.clone())
            .collect(),
        baseline: design::baseline(experiment),
        report: ReportSpec {
            metrics: experiment.report.metrics.clone(),
            rows: experiment.report.rows.clone(),
            columns: experiment.report.columns.clone(),
        },
    }
}

/// Refuses a grid that is too large, before it is made.
fn check_size(experiment: &Experiment, max_cells: u64) -> Result<(), Report> {
    let variants = design::count(experiment).saturating_add(experiment.include.len() as u128);
    let cells = variants.saturating_mul(u128::from(experiment.seeds.len()));
    if cells <= u128::from(max_cells) && variants < u128::from(u32::MAX) {
        return Ok(());
    }
    let number = |n: u128| {
        if n < 1_000_000 {
            n.to_string()
        } else {
            format!("{:.3e}", n as f64)
        }
    };
    let message = format!(
        "the experiment has {} cells ({} variants x {} seeds), more than {max_cells}",
        number(cells),
        number(variants),
        experiment.seeds.len()
    );
    Err(Report::error(experiment.design_position, message)
        .hint("use another design (`one_at_a_time`, `zip`, `list`), `exclude`, or raise the limit with `--max-cells`"))
}

const DATA_NAME: usize = index("data.name");
const DATA_ROOT: usize = index("data.root");

/// The values that say which data set a recipe uses.
pub(in crate::plan) fn data_key(flat: &Flat) -> (ValueId, ValueId) {
    (flat[DATA_NAME], flat[DATA_ROOT])
}

type DataTable = Vec<((ValueId, ValueId), DataConfig, DataDescription)>;

fn describe_data(
    experiment: &Experiment,
    layers: &[StageLayers],
    variants: &[Variant],
    values: &Values,
    resolver: &Resolver<'_>,
    reports: &mut Vec<Report>,
) -> Option<DataTable> {
    let mut table: DataTable = Vec::new();
    let mut failed = HashSet::new();
    for (stage, _) in layers.iter().zip(&experiment.stages) {
        let varies = |part: &Vec<Vec<Vec<layers::Override>>>| {
            let mut all = part.iter().flatten().flatten();
            all.any(|set| [DATA_NAME, DATA_ROOT].contains(&usize::from(set.field)))
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
            if failed.contains(&key) || table.iter().any(|(known, ..)| *known == key) {
                continue;
            }
            let config = DataConfig {
                name: values.get(key.0).as_text().unwrap_or_default().to_owned(),
                root: values.get(key.1).as_text().map(str::to_owned),
            };
            match resolver(&config) {
                Ok(description) => table.push((key, config, description)),
                Err(message) => {
                    failed.insert(key);
                    let field = if config.root.is_some() {
                        DATA_ROOT
                    } else {
                        DATA_NAME
                    };
                    reports.push(Report::error(
                        stage.origins(variant)[field].position,
                        message,
                    ));
                }
            }
        }
    }
    failed.is_empty().then_some(table)
}

/// Fingerprints and costs of every stage of every run, before equal stages are merged.
struct Identified {
    /// By variant, then seed, then stage.
    fingerprints: Vec<Fingerprint>,
    /// By variant, then stage.
    costs: Vec<Cost>,
}

/// A broken rule: stage, rule, and the values of the fields it is about.
type Broken = (u32, u32, [ValueId; 5]);

struct Work<'a> {
    experiment: &'a Experiment,
    layers: &'a [StageLayers],
    values: &'a Values,
    data: &'a DataTable,
    seeds: &'a [u64],
    broken: Mutex<HashMap<Broken, u32>>,
    unset: Mutex<HashSet<(u32, u32)>>,
}

fn identify(
    experiment: &Experiment,
    layers: &[StageLayers],
    variants: &[Variant],
    values: &Values,
    data: &DataTable,
    seeds: &[u64],
    reports: &mut Vec<Report>,
) -> Option<Identified> {
    let stages = layers.len();
    let mut fingerprints = vec![Fingerprint([0; 16]); variants.len() * seeds.len() * stages];
    let mut costs = vec![Cost::default(); variants.len() * stages];
    let work = Work {
        experiment,
        layers,
        values,
        data,
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
        costs[stage] = cost::of_view(&view, task);
        body.clear();
        fingerprint::body(body, &flat, self.values);
        let stages = self.layers.len();
        for (run, &seed) in self.seeds.iter().enumerate() {
            let parent = self.experiment.stages[stage]
                .from
                .map(|parent| fingerprints[run * stages + parent].hex());
            let parent = parent
                .as_ref()
                .and_then(|hex| std::str::from_utf8(hex).ok());
            text.clear();
            fingerprint::header(text, TRAINER_REVISION, task, seed, &data.hash, parent);
            text.push_str(body);
            fingerprints[run * stages + stage] = fingerprint::hash(text);
        }
    }

    fn report(&self, variants: &[Variant], reports: &mut Vec<Report>) {
        let mut unset: Vec<(u32, u32)> = lock(&self.unset).iter().copied().collect();
        unset.sort_unstable();
        for stages in unset.chunk_by(|a, b| a.0 == b.0) {
            let stage = &self.experiment.stages[stages[0].0 as usize];
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

type Shared = (Vec<PlannedRun>, Vec<PlannedStage>, Vec<(u32, u64)>);

/// Runs and stages; stages with one fingerprint are one stage.
fn share(
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
fn same_variants(
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
