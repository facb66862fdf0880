//! Frames: rows as columns, grouped by polars, and their export as CSV.
//!
//! Polars groups and sorts; what is computed from a group's values is computed by
//! [`statistics`](super::statistics), in the order of the seeds, so that a number never depends on
//! how many threads grouped it.

use super::data::ExperimentData;
use super::statistics::Sample;
use polars::prelude::*;
use std::collections::BTreeMap;

/// A frame that can't be made.
#[derive(Debug, thiserror::Error)]
#[error("can't build the frame of {what}: {source}")]
pub struct FrameError {
    pub what: &'static str,
    pub source: PolarsError,
}

fn failed(what: &'static str) -> impl FnOnce(PolarsError) -> FrameError {
    move |source| FrameError { what, source }
}

/// The values of one metric over the seeds of one variant, after one stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    pub variant_index: u32,
    pub stage: String,
    pub set: String,
    /// Test resolution; `None`: each run's own, whatever it is.
    pub resolution: Option<u32>,
    pub metric: String,
    /// (seed, value), by seed; of several resolutions of a run the headline's comes last.
    pub values: Vec<(u64, f64)>,
}

impl Arm {
    /// Its values without the seeds.
    pub fn numbers(&self) -> Vec<f64> {
        self.values.iter().map(|(_, value)| *value).collect()
    }

    /// Its summary. An arm has at least one value.
    pub fn sample(&self) -> Option<Sample> {
        Sample::of(&self.numbers())
    }
}

/// One point of a curve: the values of all seeds of one variant at one epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct CurvePoint {
    pub variant_index: u32,
    /// 0-based.
    pub epoch: u32,
    /// By seed.
    pub values: Vec<f64>,
}

/// One row per run, stage, evaluation set and metric: `run`, `variant`, `variant_index`, one column
/// per axis (`axis:NAME`), `seed`, `stage`, `set`, `resolution`, `metric`, `value`, and whether it belongs to
/// the stage's result, `headline`.
pub fn results(data: &ExperimentData) -> Result<DataFrame, FrameError> {
    let runs: std::collections::HashMap<&str, &crate::store::rows::RunRow> =
        data.runs.iter().map(|run| (run.id.as_str(), run)).collect();
    let rows = &data.results;
    let text = |get: fn(&crate::store::rows::ResultRow) -> &str| {
        rows.iter().map(get).collect::<Vec<&str>>()
    };
    let variant = |row: &crate::store::rows::ResultRow| runs.get(row.run.as_str());
    let mut columns: Vec<Column> = vec![
        Column::new("run".into(), text(|row| &row.run)),
        Column::new(
            "variant".into(),
            rows.iter()
                .map(|row| variant(row).map(|run| run.variant.as_str()))
                .collect::<Vec<_>>(),
        ),
        Column::new(
            "variant_index".into(),
            rows.iter().map(|row| row.variant_index).collect::<Vec<_>>(),
        ),
    ];
    for (axis, info) in data.experiment.axes.iter().enumerate() {
        columns.push(Column::new(
            format!("axis:{}", info.name).into(),
            rows.iter()
                .map(|row| {
                    variant(row)
                        .and_then(|run| run.labels.get(axis))
                        .map(String::as_str)
                })
                .collect::<Vec<_>>(),
        ));
    }
    columns.extend([
        Column::new(
            "seed".into(),
            rows.iter().map(|row| row.seed).collect::<Vec<_>>(),
        ),
        Column::new("stage".into(), text(|row| &row.stage)),
        Column::new("set".into(), text(|row| &row.set)),
        Column::new(
            "resolution".into(),
            rows.iter().map(|row| row.resolution).collect::<Vec<_>>(),
        ),
        Column::new("metric".into(), text(|row| &row.metric)),
        Column::new(
            "value".into(),
            rows.iter().map(|row| row.value).collect::<Vec<_>>(),
        ),
        Column::new(
            "headline".into(),
            rows.iter().map(|row| row.headline).collect::<Vec<_>>(),
        ),
    ]);
    DataFrame::new_infer_height(columns)
        .and_then(|frame| {
            collect(frame.lazy().sort(
                [
                    "variant_index",
                    "seed",
                    "stage",
                    "set",
                    "resolution",
                    "metric",
                ],
                in_order(),
            ))
        })
        .map_err(failed("results"))
}

/// The arms of the frame that [`results`] made, by variant, stage, set and metric; and by test resolution
/// too, if `by_resolution`.
pub fn arms(results: &DataFrame, by_resolution: bool) -> Result<Vec<Arm>, FrameError> {
    let mut keys = vec!["variant_index", "stage", "set", "metric"];
    if by_resolution {
        keys.push("resolution");
    }
    let grouped = results
        .clone()
        .lazy()
        .sort(
            [
                "variant_index",
                "stage",
                "set",
                "metric",
                "seed",
                "headline",
                "resolution",
            ],
            in_order(),
        )
        .group_by_stable(keys.iter().map(|key| col(*key)).collect::<Vec<_>>())
        .agg([col("seed"), col("value")]);
    let grouped = collect(grouped).map_err(failed("arms"))?;
    read_arms(&grouped, by_resolution).map_err(failed("arms"))
}

fn read_arms(grouped: &DataFrame, by_resolution: bool) -> PolarsResult<Vec<Arm>> {
    let variants = grouped.column("variant_index")?.u32()?;
    let (stages, sets, metrics) = (
        grouped.column("stage")?.str()?,
        grouped.column("set")?.str()?,
        grouped.column("metric")?.str()?,
    );
    let (seeds, values) = (
        grouped.column("seed")?.list()?,
        grouped.column("value")?.list()?,
    );
    let resolutions = by_resolution
        .then(|| grouped.column("resolution")?.u32())
        .transpose()?;
    let mut arms = Vec::with_capacity(grouped.height());
    for row in 0..grouped.height() {
        let seeds = list_u64(seeds, row)?;
        let values = list_f64(values, row)?;
        arms.push(Arm {
            variant_index: variants.get(row).unwrap_or_default(),
            stage: stages.get(row).unwrap_or_default().to_owned(),
            set: sets.get(row).unwrap_or_default().to_owned(),
            resolution: resolutions.and_then(|resolutions| resolutions.get(row)),
            metric: metrics.get(row).unwrap_or_default().to_owned(),
            values: seeds.into_iter().zip(values).collect(),
        });
    }
    Ok(arms)
}

/// The points of the curves of one stage and metric, by variant and epoch.
pub fn curve_points(data: &ExperimentData, stage: &str, metric: &str) -> Vec<CurvePoint> {
    // Without a frame: names alone would take more room than all numbers.
    let mut points: BTreeMap<(u32, u32), Vec<(u64, f64)>> = BTreeMap::new();
    let rows = data.curves.iter();
    for row in rows.filter(|row| &*row.metric == metric && &*row.stage == stage) {
        let values = points.entry((row.variant_index, row.epoch)).or_default();
        values.push((row.seed, row.value));
    }
    points
        .into_iter()
        .map(|((variant_index, epoch), mut values)| {
            values.sort_by_key(|(seed, _)| *seed);
            CurvePoint {
                variant_index,
                epoch,
                values: values.into_iter().map(|(_, value)| value).collect(),
            }
        })
        .collect()
}

/// `frame` as CSV: a header, fields quoted where they must be, every float in the shortest form that
/// reads back as itself.
pub fn to_csv(mut frame: DataFrame) -> Result<String, FrameError> {
    let mut bytes = Vec::new();
    outside_runtimes(|| CsvWriter::new(&mut bytes).finish(&mut frame))
        .map_err(failed("a CSV file"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn collect(frame: LazyFrame) -> PolarsResult<DataFrame> {
    outside_runtimes(|| frame.collect())
}

/// Runs `work` on a thread of its own: polars blocks inside, which panics on a thread of a
/// single-threaded tokio runtime.
pub(super) fn outside_runtimes<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

fn in_order() -> SortMultipleOptions {
    SortMultipleOptions::default().with_maintain_order(true)
}

fn list_f64(lists: &ListChunked, row: usize) -> PolarsResult<Vec<f64>> {
    match lists.get_as_series(row) {
        Some(series) => Ok(series.f64()?.into_no_null_iter().collect()),
        None => Ok(Vec::new()),
    }
}

fn list_u64(lists: &ListChunked, row: usize) -> PolarsResult<Vec<u64>> {
    match lists.get_as_series(row) {
        Some(series) => Ok(series.u64()?.into_no_null_iter().collect()),
        None => Ok(Vec::new()),
    }
}
