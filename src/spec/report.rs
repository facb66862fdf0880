//! The `report` section: which tables and plots an experiment wants, and what they may claim.
//!
//! Plain data that is stored with the experiment. Fields that an older program didn't write have
//! their defaults.

use super::command::Metric;
use super::published;
use serde::{Deserialize, Serialize};

mod read;

pub(super) use read::read;
pub(super) use read::{CORRECTIONS, DIRECTIONS, METRICS, PLOT_KINDS, PLOT_X, TABLE_KINDS};

/// The `report` section of an experiment file, validated.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReportSpec {
    /// Of the experiment; it decides which tables there are where the file lists none.
    pub design: DesignKind,
    /// Metrics of the tables, the first is the headline. Empty: `top1`.
    pub metrics: Vec<String>,
    /// What programs say of the metrics that they report.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub described: Vec<Metric>,
    /// Axes along the rows; empty: all axes that are not columns.
    pub rows: Vec<String>,
    /// Axes along the columns; may be empty.
    pub columns: Vec<String>,
    /// How p values answer for the number of comparisons.
    pub correction: Correction,
    /// Largest difference of the headline metric, in its unit, that counts as none.
    pub margin: Option<f64>,
    /// Draws of the seed x image bootstrap; 0: none.
    pub bootstrap: u32,
    /// `None`: those that suit the design.
    pub tables: Option<Vec<TableSpec>>,
    /// `None`: all that the results allow.
    pub plots: Option<Vec<PlotSpec>>,
    /// Published numbers and the variants that they belong to.
    pub reference: Vec<ReferenceSpec>,
}

/// The experiment's design, by name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DesignKind {
    #[default]
    Product,
    Zip,
    List,
    OneAtATime,
    LeaveOneOut,
    Path,
}

/// How p values answer for the number of comparisons.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Correction {
    None,
    /// Holm's step-down procedure: any tests.
    #[default]
    Holm,
    /// Dunnett's test: several variants against one baseline, with one common variance.
    Dunnett,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableSpec {
    /// Stem of its files.
    pub name: String,
    pub title: Option<String>,
    pub kind: TableKind,
    /// Axes; empty: the section's.
    pub rows: Vec<String>,
    /// Axes; empty: the section's.
    pub columns: Vec<String>,
    /// Empty: the section's.
    pub metrics: Vec<String>,
    /// `None`: the experiment's. One entry per axis.
    pub baseline: Option<Vec<Option<String>>>,
    pub sort: Option<Sort>,
    /// Axis whose labels head groups of rows.
    pub groups: Option<String>,
    /// What the labels of axes stand for, in columns of check marks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ticks: Vec<Tick>,
    /// Further notes below the table.
    pub footnotes: Vec<String>,
    /// Rows as columns, where people read it.
    pub transposed: bool,
}

impl Default for TableSpec {
    fn default() -> Self {
        TableSpec {
            name: "table".to_owned(),
            title: None,
            kind: TableKind::Auto,
            rows: Vec::new(),
            columns: Vec::new(),
            metrics: Vec::new(),
            baseline: None,
            sort: None,
            groups: None,
            ticks: Vec::new(),
            footnotes: Vec::new(),
            transposed: false,
        }
    }
}

/// A column of check marks: a part that some labels of an axis have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    pub axis: String,
    /// The column's head.
    pub part: String,
    /// The labels that have it.
    pub labels: Vec<String>,
}

/// What a table shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableKind {
    /// A pivot where there are columns, else what suits the design.
    #[default]
    Auto,
    /// One row per variant, one column per metric.
    Variants,
    /// Axes along rows and columns, the headline metric in the cells.
    Pivot,
    /// One row per changed ingredient, with its delta.
    Ingredients,
    /// One row per step of a path, with the delta to the step before and to the start.
    Roadmap,
    /// One row per variant, one column per test resolution or stage.
    Resolutions,
    /// One row per comparison: delta, p values, effect size, probability of outperforming.
    Comparisons,
    /// Main effects and two-way interactions of a factorial design.
    Effects,
    /// Published numbers beside ours.
    Published,
}

/// Order of a table's rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sort {
    /// A metric (best first) or an axis (in the order of its labels).
    pub by: String,
    pub reversed: bool,
}

/// One plot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlotSpec {
    pub kind: PlotKind,
    /// Stem of its files; `None`: made from the kind.
    pub name: Option<String>,
    pub title: Option<String>,
    /// `None`: the headline metric.
    pub metric: Option<String>,
    /// Along the x axis of `against`.
    pub x: Option<PlotX>,
    /// `None`: the last stage.
    pub stage: Option<String>,
    /// Axis along the rows of `heatmap`.
    pub rows: Option<String>,
    /// Axis along the columns of `heatmap`.
    pub columns: Option<String>,
    /// Pictures a row of `samples`.
    pub count: Option<u32>,
}

impl Default for PlotSpec {
    fn default() -> Self {
        PlotSpec {
            kind: PlotKind::Curves,
            name: None,
            title: None,
            metric: None,
            x: None,
            stage: None,
            rows: None,
            columns: None,
            count: None,
        }
    }
}

/// What a plot shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlotKind {
    /// Those that there are where the file lists none.
    Usual,
    /// Every run and the mean of every variant.
    Result,
    /// A metric over the epochs, with bands over seeds.
    Curves,
    /// A metric against cost: epochs, FLOPs, parameters or throughput.
    Against,
    /// A metric over the train or test resolution.
    Resolution,
    /// Deltas with intervals and the zero line.
    Forest,
    /// Paired seeds, baseline to variant.
    Slopes,
    /// Two axes, the headline metric as colour.
    Heatmap,
    /// What each augmentation policy does to the same pictures.
    Samples,
    /// Training loss over the epochs.
    Loss,
    /// Learning rate over the epochs.
    Lr,
}

/// What `against` has along x.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlotX {
    Epochs,
    Flops,
    Parameters,
    /// Images per second.
    Throughput,
}

/// A published number and the variants that it belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReferenceSpec {
    /// One entry per axis; `None`: any label.
    pub at: Vec<Option<String>>,
    /// Row of the published results (`R0161`).
    pub id: Option<String>,
    /// Name of a published training curve (`run01`).
    pub curve: Option<String>,
    /// Where the file gives the number itself.
    pub value: Option<f64>,
    pub std: Option<f64>,
    pub metric: String,
    /// `None`: the last stage.
    pub stage: Option<String>,
    /// Evaluation set; `None`: the headline's.
    pub set: Option<String>,
    /// Where only a statement is published: how these variants are said to compare with the baseline.
    pub direction: Option<Direction>,
    pub source: String,
    pub confidence: String,
}

/// What a publication says of a difference that it gives no number for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Better,
    Worse,
    /// No difference that matters.
    None,
}

impl ReferenceSpec {
    /// The published number: the file's own, that of the row, or the end of the curve.
    pub fn number(&self) -> Option<f64> {
        let row = || published::result(self.id.as_deref()?)?.value;
        let end = || Some(published::curve(self.curve.as_deref()?).last()?.1);
        self.value.or_else(row).or_else(end)
    }
}

impl Default for ReferenceSpec {
    fn default() -> Self {
        ReferenceSpec {
            at: Vec::new(),
            id: None,
            curve: None,
            value: None,
            std: None,
            metric: "top1".to_owned(),
            stage: None,
            set: None,
            direction: None,
            source: String::new(),
            confidence: String::new(),
        }
    }
}

#[cfg(test)]
mod tests;
