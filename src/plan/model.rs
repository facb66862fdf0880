//! The plan: plain data that `schedule`, `store` and `report` read.

use crate::rundir::stage::StageSpec;
use serde::{Deserialize, Serialize};

/// What an experiment file expands to.
#[derive(Debug, Clone)]
pub struct Plan {
    pub experiment: ExperimentInfo,
    pub axes: Vec<AxisInfo>,
    pub variants: Vec<Variant>,
    pub runs: Vec<PlannedRun>,
    pub stages: Vec<PlannedStage>,
    /// How a stage's full configuration is rebuilt on demand (`Plan::stage_spec`).
    pub(in crate::plan) configurations: Configurations,
}

/// Placeholder for the expansion's compact representation; owned by `plan`.
#[derive(Debug, Clone, Default)]
pub struct Configurations {}

/// What the experiment says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExperimentInfo {
    pub name: String,
    pub title: String,
    pub claim: String,
    pub profile: String,
    /// Text of the file, as read.
    pub source: String,
    pub path: String,
    /// Names of the stages in topological order; the last one is the run's result.
    pub stage_names: Vec<String>,
    /// The baseline: one label per axis, `None` where deltas are taken between variants of equal label.
    pub baseline: Option<Vec<Option<String>>>,
    /// The `report:` section, already validated.
    pub report: ReportSpec,
}

/// The `report:` section of an experiment file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ReportSpec {
    /// Metrics of the table, the first is the headline. Empty: `top1`.
    pub metrics: Vec<String>,
    /// Axes along the rows; empty: all axes that are not columns.
    pub rows: Vec<String>,
    /// Axes along the columns; may be empty.
    pub columns: Vec<String>,
}

/// An axis and its labels, in the file's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AxisInfo {
    pub name: String,
    pub labels: Vec<String>,
}

/// One combination of axis values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Index into the labels of each axis; designs that leave an axis out (a `path`) use its first.
    pub labels: Vec<u32>,
    /// Display name, unique in the experiment (`bce,ViT-S`; `full`; `- layer_scale`).
    pub name: String,
}

/// A variant with one seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedRun {
    /// Index into [`Plan::variants`].
    pub variant: u32,
    pub seed: u64,
    /// Indices into [`Plan::stages`], one per name in `ExperimentInfo::stage_names`.
    pub stages: Vec<u32>,
}

/// One job: shared by every run that needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedStage {
    /// Index into `ExperimentInfo::stage_names`.
    pub name: u32,
    pub fingerprint: Fingerprint,
    /// Index of the parent stage.
    pub parent: Option<u32>,
    pub cost: Cost,
}

/// 128 bits of BLAKE3.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 16]);

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// What a stage is expected to need.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Floating-point operations of training and evaluation (2 per multiply-add).
    pub flops: f64,
    pub parameters: u64,
    pub steps: u64,
    pub disk_bytes: u64,
}

impl Plan {
    /// The complete configuration of stage `index`.
    pub fn stage_spec(&self, _index: u32) -> StageSpec {
        todo!("owned by plan")
    }
}
