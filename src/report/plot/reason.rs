//! Why a plot that an experiment file asks for isn't there, in words that name what is missing.

use super::against_cost::{self, Cost};
use super::wanted;
use crate::report::data::axis_words;
use crate::report::table::cells::Cells;
use crate::spec::report::{PlotKind, PlotSpec};

/// A sentence for the report.
pub fn missing(cells: &Cells<'_>, spec: &PlotSpec) -> String {
    let kind = serde_json::to_value(spec.kind).unwrap_or_default();
    let kind = kind.as_str().unwrap_or_default();
    let name = match &spec.name {
        Some(name) => format!("{kind} (`{name}`)"),
        None => kind.to_owned(),
    };
    format!(
        "Asked for and not drawn: {name}, because {}.",
        because(cells, spec)
    )
}

fn because(cells: &Cells<'_>, spec: &PlotSpec) -> String {
    let source = wanted::source(cells, spec);
    let known = cells
        .variants
        .iter()
        .filter(|variant| cells.sample(variant.index, &source).is_some())
        .count();
    let of = cells.variants.len();
    let several = cells.data.stages().len() > 1;
    let after = if several {
        format!(" after {}", source.stage)
    } else {
        String::new()
    };
    let metric = cells.data.metric(&source.metric).short;
    let none = format!("no run has a {metric}{after} yet");
    match spec.kind {
        PlotKind::Usual => "there are no results yet".to_owned(),
        PlotKind::Curves | PlotKind::Loss | PlotKind::Lr if of > super::MOST_CURVES => format!(
            "{of} lines can't be told apart (at most {})",
            super::MOST_CURVES
        ),
        PlotKind::Curves => {
            format!("no run has a {metric} of two epochs, which `eval.every` decides on")
        }
        PlotKind::Loss | PlotKind::Lr => "no run has recorded two epochs".to_owned(),
        PlotKind::Samples => {
            "the variants' augmentation isn't known, or all have the same".to_owned()
        }
        _ if known == 0 => none,
        PlotKind::Result => format!("{of} rows are no plot any more"),
        PlotKind::Against => cost(cells, wanted::cost(spec), known),
        PlotKind::Resolution => {
            let numeric = cells.data.experiment.axes.iter();
            let mut resolutions =
                numeric.filter(|axis| axis_words(&axis.name).ends_with("resolution"));
            match resolutions.next() {
                None => "no axis is a resolution and no stage was tested at several".to_owned(),
                Some(axis) => format!(
                    "fewer than two values of axis `{}` have a {metric}{after}, or its labels are no numbers",
                    axis.name
                ),
            }
        }
        PlotKind::Forest | PlotKind::Slopes if cells.baseline.is_none() => {
            "the experiment has no `baseline`".to_owned()
        }
        PlotKind::Forest => format!("no variant and its baseline both have a {metric}{after}"),
        PlotKind::Slopes => {
            format!(
                "no variant shares two seeds with its baseline that both have a {metric}{after}, or more than twelve do"
            )
        }
        PlotKind::Heatmap => {
            let varying = cells.data.experiment.axes.iter();
            let varying = varying.filter(|axis| axis.labels.len() > 1).count();
            if varying == 2 {
                format!(
                    "fewer than two cells of the grid have a {metric}{after}, or the grid is too large to be read"
                )
            } else {
                format!("it needs two axes that vary, and {varying} do")
            }
        }
    }
}

fn cost(cells: &Cells<'_>, cost: Cost, known: usize) -> String {
    let words = cost.words();
    if cells.variants.len() > against_cost::MOST_VARIANTS {
        return format!("{} variants are too many", cells.variants.len());
    }
    if known < 2 {
        return "only one variant has a result yet".to_owned();
    }
    let values: Vec<f64> = cells
        .variants
        .iter()
        .filter_map(|variant| cost.of(&cells.data.background.cost(variant)?))
        .collect();
    match super::scale::extent(values.iter().copied()) {
        None => format!("nothing is known of the {words} of these runs"),
        Some((low, high)) if high < low * against_cost::SAME => {
            format!("all variants have the same {words}, give or take a tenth")
        }
        Some(_) => "there are more lines than can be told apart".to_owned(),
    }
}
