//! From an experiment to its plan: checks, fingerprints, stages that runs share.

use super::identify::{describe_data, identify};
use super::model::{AxisInfo, Configurations, ExperimentInfo, Plan, ReportSpec};
use super::share::{same_variants, share};
use super::{command, design, init, layers};
use crate::rundir::stage::{NamedSet, Task};
use crate::spec::command::Metric;
use crate::spec::experiment::{self, Experiment, Options};
use crate::spec::problem::{Problems, Report, Severity};
use crate::spec::recipe::DataConfig;
use crate::spec::resolved::Values;
use std::path::Path;

pub use super::model::DataDescription;

/// Largest number of cells (variants x seeds) that is planned without being asked to.
pub const DEFAULT_MAX_CELLS: u64 = 100_000;

/// Says what a data set holds, or why it can't be used. Called once for every different data set,
/// before anything is expanded.
pub type Resolver<'a> = dyn Fn(&DataConfig) -> Result<DataDescription, String> + 'a;

/// Says what the evaluation set of this name holds for models of the classes of this data set, or why it
/// can't be used. Called once for every different pair, before anything is expanded.
pub type SetResolver<'a> = dyn Fn(&str, &DataConfig) -> Result<NamedSet, String> + 'a;

/// Who knows the data sets.
#[derive(Clone, Copy)]
pub struct Resolvers<'a> {
    pub data: &'a Resolver<'a>,
    pub sets: &'a SetResolver<'a>,
}

impl<'a> Resolvers<'a> {
    /// Data sets only: an experiment that names evaluation sets can't be planned.
    pub fn data_only(data: &'a Resolver<'a>) -> Resolvers<'a> {
        Resolvers {
            data,
            sets: &|name, _| Err(format!("evaluation set `{name}` is not known")),
        }
    }
}

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
    plan_file_with(path, request, &Resolvers::data_only(resolver))
}

/// [`plan_file`] for experiments with evaluation sets.
pub fn plan_file_with(
    path: &Path,
    request: &Request,
    resolvers: &Resolvers<'_>,
) -> Result<Plan, Problems> {
    let experiment = experiment::load(path, &request.options)?;
    plan_with(experiment, request.max_cells, resolvers)
}

/// Plans an experiment. All problems of all its variants are reported at once.
pub fn plan(
    experiment: Experiment,
    max_cells: Option<u64>,
    resolver: &Resolver<'_>,
) -> Result<Plan, Problems> {
    plan_with(experiment, max_cells, &Resolvers::data_only(resolver))
}

/// [`plan`] for experiments with evaluation sets.
pub fn plan_with(
    mut experiment: Experiment,
    max_cells: Option<u64>,
    resolvers: &Resolvers<'_>,
) -> Result<Plan, Problems> {
    let mut reports = std::mem::take(&mut experiment.warnings);
    match build(
        &mut experiment,
        max_cells.unwrap_or(DEFAULT_MAX_CELLS),
        resolvers,
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
    resolvers: &Resolvers<'_>,
    reports: &mut Vec<Report>,
) -> Option<Plan> {
    check_size(experiment, max_cells)
        .map_err(|report| reports.push(report))
        .ok()?;
    let mut values = Values::default();
    let (layers, params) = layers::build(experiment, &mut values, reports)?;
    if reports
        .iter()
        .any(|report| report.severity == Severity::Error)
    {
        return None;
    }
    let variants = design::expand(experiment)
        .map_err(|found| reports.extend(found))
        .ok()?;
    let programs = command::find(experiment, &params, reports);
    let described = describe_data(&layers, &programs, &variants, &values, resolvers, reports);
    let (data, sets) = described?;
    let init = init::find(experiment, reports);
    let tasks: Vec<Task> = experiment.stages.iter().map(|stage| stage.task).collect();
    let seeds = experiment.seeds.to_vec();
    let identified = identify(
        experiment,
        &layers,
        &variants,
        &values,
        (&data, &sets),
        &init,
        (&programs, &params),
        &seeds,
        reports,
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
        priorities: experiment.priorities.clone(),
        execution: experiment.execution.clone(),
        warnings: Vec::new(),
        configurations: Configurations {
            values,
            layers,
            tasks,
            init,
            first,
            data,
            sets,
            programs,
            params,
            folder: command::folder(experiment),
        },
    })
}

/// What is stored of an experiment itself: what its design and its programs' metrics make of the file.
pub fn describe(experiment: &Experiment) -> ExperimentInfo {
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
            metrics: shown_metrics(experiment),
            described: described_metrics(experiment),
            ..experiment.report.clone()
        },
    }
}

/// The metrics of tables: those that the file names, else those that the last stage's program promises.
fn shown_metrics(experiment: &Experiment) -> Vec<String> {
    let last = experiment.stages.last();
    match last.and_then(|stage| stage.command.as_ref()) {
        Some(command) if experiment.report.metrics.is_empty() => command
            .metrics
            .iter()
            .map(|metric| metric.name.clone())
            .collect(),
        _ => experiment.report.metrics.clone(),
    }
}

/// What the programs say of their metrics; the last stage that names one wins.
fn described_metrics(experiment: &Experiment) -> Vec<Metric> {
    let mut described: Vec<Metric> = Vec::new();
    let commands = experiment.stages.iter().rev();
    for metric in commands
        .filter_map(|stage| stage.command.as_ref())
        .flat_map(|command| &command.metrics)
    {
        if described.iter().all(|known| known.name != metric.name) {
            described.push(metric.clone());
        }
    }
    described
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
