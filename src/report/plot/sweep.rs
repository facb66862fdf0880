//! The headline metric against a numeric axis (epochs, resolution), one line per stage and per
//! combination of the other axes.

use super::canvas::draw;
use super::chart::{Axis, Chart};
use super::scale::{Scale, Tick};
use super::series::{file_part, n_words, scale_for};
use super::style::{self, Look};
use super::{Plot, PlotError};
use crate::report::data::{axis_words, numeric_labels};
use crate::report::frame;
use crate::report::metric::Metric;
use crate::report::statistics::{Interval, Sample};
use crate::report::table::build::headline;
use crate::report::table::cells::{Cells, Source};
use crate::report::text::sentence;
use polars::prelude::*;

/// From this ratio of largest to smallest value on, the axis is logarithmic.
const LOG_RATIO: f64 = 30.0;
/// More lines than this can't be told apart.
const MOST_SERIES: usize = 16;
/// Distance in pixels between the marks of neighbouring series at the same value.
const DODGE: f64 = 3.0;
/// Distance in pixels of the single runs from their mean, so that neither hides the other.
const RUNS: f64 = 5.5;

struct Series {
    label: String,
    points: Vec<Point>,
}

struct Point {
    x: f64,
    values: Vec<f64>,
    sample: Sample,
    interval: Option<Interval>,
}

/// One plot per numeric axis that has results at two or more of its values.
pub fn plots(cells: &Cells<'_>) -> Result<Vec<Plot>, PlotError> {
    let axes = &cells.data.experiment.axes;
    let mut plots = Vec::new();
    for (position, axis) in axes.iter().enumerate() {
        if let Some((values, unit)) = numeric_labels(&axis.labels) {
            plots.extend(plot(cells, position, &values, &unit)?);
        }
    }
    Ok(plots)
}

fn plot(
    cells: &Cells<'_>,
    axis: usize,
    values: &[f64],
    unit: &str,
) -> Result<Option<Plot>, PlotError> {
    let info = &cells.data.experiment.axes[axis];
    let source = headline(cells);
    let metric = Metric::named(&source.metric);
    let series = series(cells, axis, values, &source);
    let shown: std::collections::BTreeSet<u64> = series
        .iter()
        .flat_map(|series| series.points.iter().map(|point| point.x.to_bits()))
        .collect();
    if shown.len() < 2 || series.len() > MOST_SERIES {
        return Ok(None);
    }
    let points = || series.iter().flat_map(|series| &series.points);
    let numbers: Vec<f64> = points()
        .flat_map(|point| point.values.iter().copied())
        .collect();
    let intervals = points().filter_map(|point| Some((point.interval?, point.sample.n)));
    let Some(y_scale) = scale_for(&numbers, intervals) else {
        return Ok(None);
    };
    let (low, high) = values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
            (low.min(*v), high.max(*v))
        });
    let x_scale = if low > 0.0 && high / low >= LOG_RATIO {
        Scale::log(low, high)
    } else {
        Scale::linear(low, high)
    };
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
    let x = Axis {
        label: if unit.is_empty() {
            words.clone()
        } else {
            format!("{words} ({unit})")
        },
        scale: x_scale.padded(0.06),
        ticks,
    };
    let y = Axis {
        label: metric.words.clone(),
        scale: y_scale,
        ticks: y_scale.ticks(6, false),
    };
    let looks = Look::all(series.len(), None);
    let entries = series
        .iter()
        .map(|series| series.label.clone())
        .zip(looks.iter().copied())
        .collect();
    let chart = Chart::new(x, y, entries);
    let name = format!("by-{}", file_part(&words));
    let svg = draw(
        &name,
        (chart.width, chart.height),
        &cells.data.experiment.title,
        |canvas| {
            chart.draw(canvas);
            for (index, (series, look)) in series.iter().zip(&looks).enumerate() {
                let dodge = (index as f64 - (series_count(&looks) - 1.0) / 2.0) * DODGE;
                let at = |x: f64, y: f64| (chart.x.scale.at(x) + dodge, chart.y.scale.at(y));
                let line: Vec<_> = series
                    .points
                    .iter()
                    .map(|point| at(point.x, point.sample.mean))
                    .collect();
                canvas.path(&line, look.colour, style::DATA_LINE, look.dash);
                for point in &series.points {
                    if let Some(interval) = point.interval {
                        let (low, high) = (
                            chart.y.scale.clamp(interval.low),
                            chart.y.scale.clamp(interval.high),
                        );
                        let (from, to) = (at(point.x, low), at(point.x, high));
                        canvas.line(from, to, look.colour, style::AXIS_LINE);
                        for (end, bound) in [(from, interval.low), (to, interval.high)] {
                            if chart.y.scale.shows(bound) {
                                canvas.line(
                                    (end.0 - 2.0, end.1),
                                    (end.0 + 2.0, end.1),
                                    look.colour,
                                    style::AXIS_LINE,
                                );
                            }
                        }
                    }
                }
                for (point, place) in series.points.iter().zip(&line) {
                    if point.values.len() > 1 {
                        for value in &point.values {
                            let (x, y) = at(point.x, *value);
                            canvas.ring((x + RUNS, y), 1.3, look.colour);
                        }
                    }
                    canvas.mark(*place, look);
                }
            }
        },
    )?;
    let counts = points().map(|point| point.sample.n);
    let mut caption = format!(
        "{} against {words} ({}).",
        sentence(&metric.words),
        n_words(counts)
    );
    if points().any(|point| point.sample.n > 1) {
        caption.push_str(" Rings: single runs; marks: their mean, bars: its 95 % t interval.");
    }
    Ok(Some(Plot {
        name,
        caption,
        svg,
        csv: csv(&words, &series)?,
    }))
}

fn series_count(looks: &[Look]) -> f64 {
    looks.len() as f64
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
                    let sample = cells.sample(variant.index, &source)?;
                    Some(Point {
                        x,
                        values: cells
                            .values(variant.index, &source)
                            .iter()
                            .map(|(_, value)| *value)
                            .collect(),
                        sample,
                        interval: sample.t_interval(),
                    })
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

fn csv(axis: &str, series: &[Series]) -> Result<String, PlotError> {
    let rows: Vec<(&str, &Point)> = series
        .iter()
        .flat_map(|series| {
            series
                .points
                .iter()
                .map(|point| (series.label.as_str(), point))
        })
        .collect();
    let frame = df!(
        "series" => rows.iter().map(|(label, _)| *label).collect::<Vec<_>>(),
        axis => rows.iter().map(|(_, point)| point.x).collect::<Vec<_>>(),
        "n" => rows.iter().map(|(_, point)| point.sample.n as u64).collect::<Vec<_>>(),
        "mean" => rows.iter().map(|(_, point)| point.sample.mean).collect::<Vec<_>>(),
        "sd" => rows.iter().map(|(_, point)| point.sample.sd).collect::<Vec<_>>(),
        "low" => rows.iter().map(|(_, point)| point.interval.map(|interval| interval.low)).collect::<Vec<_>>(),
        "high" => rows.iter().map(|(_, point)| point.interval.map(|interval| interval.high)).collect::<Vec<_>>(),
    )
    .map_err(|source| frame::FrameError { what: "the plot against an axis", source })?;
    Ok(frame::to_csv(frame)?)
}
