//! The headline metric against a numeric axis (epochs, resolution), one line per stage and per
//! combination of the other axes.

use super::against::{self, Point, Reference, Series, Sweep};
use super::scale::Tick;
use super::series::file_part;
use super::{Plot, PlotError};
use crate::report::data::{axis_words, numeric_labels};
use crate::report::table::cells::{Cells, Source};
use crate::report::table::published;
use crate::spec::published as spec;

/// One plot of `source`'s metric per numeric axis (whose words end in `ending`) that has results at two or more of
/// its values; after every stage, or after `only` one.
pub fn plots(
    cells: &Cells<'_>,
    source: &Source,
    ending: &str,
    only: Option<&str>,
) -> Result<Vec<Plot>, PlotError> {
    let axes = &cells.data.experiment.axes;
    let mut plots = Vec::new();
    for (position, axis) in axes.iter().enumerate() {
        if !axis_words(&axis.name).ends_with(ending) {
            continue;
        }
        if let Some((values, unit)) = numeric_labels(&axis.labels) {
            plots.extend(plot(cells, source, (position, &values, &unit), only)?);
        }
    }
    Ok(plots)
}

fn plot(
    cells: &Cells<'_>,
    source: &Source,
    (axis, values, unit): (usize, &[f64], &str),
    only: Option<&str>,
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
    let words = cells.data.axis_words(axis);
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
            series: series(cells, axis, values, source, only),
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
    let all = &cells.data.experiment.report.reference;
    all.iter()
        .filter(|reference| published::source(cells, reference) == *source)
        // Of another set than is shown, which the file doesn't say it is to stand for.
        .filter(|reference| {
            let row = reference.id.as_deref().and_then(spec::result);
            let of_row = row.and_then(spec::Published::evaluation_set);
            reference.set.is_some() || of_row.is_none_or(|set| set == source.set)
        })
        // The end of a curve is a number only where there is no other.
        .filter(|reference| {
            let is_end = reference.value.is_none() && reference.id.is_none();
            !is_end
                || !all.iter().any(|other| {
                    other.at == reference.at
                        && other.curve.is_none()
                        && other.number().is_some()
                        && published::source(cells, other) == *source
                })
        })
        .filter_map(|reference| {
            let label = reference.at.get(axis)?.as_ref()?;
            let others = reference.at.iter().enumerate();
            let others: Vec<&str> = others
                .filter(|(position, _)| *position != axis)
                .filter_map(|(_, label)| label.as_deref())
                .collect();
            Some(Reference {
                label: others.join(", "),
                x: values[labels.iter().position(|known| known == label)?],
                value: reference.number()?,
            })
        })
        .collect()
}

/// The lines: every combination of the other axes' labels, after each stage.
fn series(
    cells: &Cells<'_>,
    axis: usize,
    values: &[f64],
    headline: &Source,
    only: Option<&str>,
) -> Vec<Series> {
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
        for stage in stages
            .iter()
            .filter(|stage| only.is_none_or(|only| only == stage.as_str()))
        {
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
