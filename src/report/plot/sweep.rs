//! The headline metric against a numeric axis (epochs, resolution), one line per stage and per
//! combination of the other axes.

use super::against::{self, Point, Reference, Series, Sweep};
use super::scale::Tick;
use super::series::file_part;
use super::{Plot, PlotError};
use crate::report::data::{axis_words, numeric_labels};
use crate::report::table::cells::{Cells, Source};

/// One plot of `source`'s metric per numeric axis (whose words end in `ending`) that has results at two or more of
/// its values.
pub fn plots(cells: &Cells<'_>, source: &Source, ending: &str) -> Result<Vec<Plot>, PlotError> {
    let axes = &cells.data.experiment.axes;
    let mut plots = Vec::new();
    for (position, axis) in axes.iter().enumerate() {
        if !axis_words(&axis.name).ends_with(ending) {
            continue;
        }
        if let Some((values, unit)) = numeric_labels(&axis.labels) {
            plots.extend(plot(cells, source, position, &values, &unit)?);
        }
    }
    Ok(plots)
}

fn plot(
    cells: &Cells<'_>,
    source: &Source,
    axis: usize,
    values: &[f64],
    unit: &str,
) -> Result<Option<Plot>, PlotError> {
    let info = &cells.data.experiment.axes[axis];
    let mut ticks: Vec<Tick> = info
        .labels
        .iter()
        .zip(values)
        .map(|(label, value)| Tick {
            value: *value,
            label: label.trim_end_matches(unit).trim().to_owned(),
        })
        .collect();
    ticks.sort_by(|a, b| a.value.total_cmp(&b.value));
    let words = axis_words(&info.name);
    let unit = if unit.is_empty() && words.ends_with("resolution") {
        "px"
    } else {
        unit
    };
    against::plot(
        cells,
        Sweep {
            name: format!("by-{}", file_part(&words)),
            metric: &source.metric,
            words: &words,
            unit,
            ticks,
            series: series(cells, axis, values, source),
            published: published(cells, axis, values, source),
            baseline: None,
            after: String::new(),
            log: None,
            joined: true,
        },
    )
}

/// What the experiment file's references say at the values of an axis, for the same metric.
fn published(cells: &Cells<'_>, axis: usize, values: &[f64], source: &Source) -> Vec<Reference> {
    let labels = &cells.data.experiment.axes[axis].labels;
    let references = cells.data.experiment.report.reference.iter();
    references
        .filter(|reference| {
            let stage = reference.stage.as_ref();
            let set = reference.set.as_ref();
            reference.metric == source.metric
                && stage.is_none_or(|stage| *stage == source.stage)
                && set.is_none_or(|set| *set == source.set)
        })
        .filter_map(|reference| {
            let label = reference.at.get(axis)?.as_ref()?;
            Some(Reference {
                x: values[labels.iter().position(|known| known == label)?],
                value: reference.number()?,
            })
        })
        .collect()
}

/// The lines: every combination of the other axes' labels, after each stage.
fn series(cells: &Cells<'_>, axis: usize, values: &[f64], headline: &Source) -> Vec<Series> {
    let info = &cells.data.experiment.axes[axis];
    let stages = cells.data.stages();
    let others = |labels: &[String]| -> Vec<String> {
        labels
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != axis)
            .map(|(_, label)| label.clone())
            .collect()
    };
    let mut combinations: Vec<Vec<String>> = Vec::new();
    for variant in &cells.variants {
        let key = others(variant.labels);
        if !combinations.contains(&key) {
            combinations.push(key);
        }
    }
    let mut all = Vec::new();
    for combination in &combinations {
        for stage in stages {
            let source = Source {
                stage: stage.clone(),
                ..headline.clone()
            };
            let mut points: Vec<Point> = cells
                .variants
                .iter()
                .filter(|variant| others(variant.labels) == *combination)
                .filter_map(|variant| {
                    let label = variant.labels.get(axis)?;
                    let x = values[info.labels.iter().position(|other| other == label)?];
                    Point::of(cells, variant.index, &source, x)
                })
                .collect();
            points.sort_by(|a, b| a.x.total_cmp(&b.x));
            if points.is_empty() {
                continue;
            }
            let mut parts = combination.clone();
            if stages.len() > 1 {
                parts.push(format!("after {stage}"));
            }
            all.push(Series {
                label: parts.join(", "),
                points,
            });
        }
    }
    all
}
