//! Rows that the store hands to commands and reports: plain data.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// State of a run or a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Pending,
    Running,
    Done,
    Failed,
}

/// An experiment as stored by the last `ablate run` of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExperimentRow {
    pub name: String,
    pub title: String,
    pub claim: String,
    pub profile: String,
    /// Axes and their labels in the file's order.
    pub axes: Vec<crate::plan::model::AxisInfo>,
    pub stage_names: Vec<String>,
    /// What deltas are taken against: one entry per axis, its label, or `None` where the run with
    /// the same label is meant.
    pub baseline: Option<Vec<Option<String>>>,
    pub report: crate::plan::model::ReportSpec,
    /// Unix time of the last `ablate run`.
    pub updated: f64,
}

/// A run: a variant with one seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRow {
    /// `<experiment>/<variant>/s<seed>`; what `ablate show` and `ablate logs` take.
    pub id: String,
    pub experiment: String,
    pub variant: String,
    /// Position of the variant in the plan.
    pub variant_index: u32,
    /// One label per axis.
    pub labels: Vec<String>,
    pub seed: u64,
    /// Failed if one of its stages failed, done if all are done.
    pub status: Status,
    /// Failure class of the failed stage.
    pub failure: Option<String>,
    /// Fingerprints of its stages, in the order of `ExperimentRow::stage_names`.
    pub stages: Vec<String>,
    /// Wall seconds of its stages' finished attempts.
    pub wall_seconds: Option<f64>,
}

/// One result of one run: a metric of an evaluation of the final weights of one of its stages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResultRow {
    pub run: String,
    pub variant_index: u32,
    pub seed: u64,
    /// Name of the stage.
    pub stage: String,
    /// Fingerprint of the stage.
    pub fingerprint: String,
    /// Evaluation set (`val`).
    pub set: String,
    pub resolution: u32,
    pub metric: String,
    pub value: f64,
    /// Whether it belongs to the evaluation that is the stage's result: on `val`, at the recipe's
    /// `eval.resolution`.
    pub headline: bool,
}

/// One point of a training curve, per epoch. There may be a million of them: they share their words.
#[derive(Debug, Clone, PartialEq)]
pub struct CurveRow {
    pub run: Arc<str>,
    pub variant_index: u32,
    pub seed: u64,
    pub stage: Arc<str>,
    /// 0-based epoch.
    pub epoch: u32,
    /// `train_loss`, `lr`, or an evaluation metric as `<set>/<metric>` (`val/top1`).
    pub metric: Arc<str>,
    pub value: f64,
}

/// One execution of a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptRow {
    pub stage: String,
    pub attempt: u32,
    pub device: String,
    pub host: String,
    pub pid: Option<u32>,
    pub started: f64,
    pub ended: Option<f64>,
    pub status: Status,
    pub failure: Option<String>,
    pub message: Option<String>,
    pub exit_code: Option<i32>,
    pub peak_rss_bytes: Option<u64>,
    pub log: String,
}
