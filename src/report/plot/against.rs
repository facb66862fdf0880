//! A metric against a number (a numeric axis, the test resolution): one line per series, with intervals
//! and single runs.

use super::canvas::draw;
use super::chart::{Axis, Chart};
use super::scale::{Scale, Tick, extent};
use super::series::{n_words, scale_for};
use super::style::{self, Look};
use super::{Plot, PlotError};
use crate::report::frame;
use crate::report::statistics::{Interval, Sample};
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

/// A line.
pub(super) struct Series {
    pub label: String,
    pub points: Vec<Point>,
}

/// The runs of one variant at one value.
pub(super) struct Point {
    pub x: f64,
    pub values: Vec<f64>,
    pub sample: Sample,
    pub interval: Option<Interval>,
}

impl Point {
    /// The point at `x` of a variant's numbers from `source`, if it has any.
    pub fn of(cells: &Cells<'_>, variant: u32, source: &Source, x: f64) -> Option<Point> {
        let sample = cells.sample(variant, source)?;
        let values = cells.values(variant, source).iter();
        Some(Point {
            x,
            values: values.map(|(_, value)| *value).collect(),
            sample,
            interval: sample.t_interval(),
        })
    }
}

/// What is plotted.
pub(super) struct Sweep<'a> {
    /// Stem of the plot's files.
    pub name: String,
    /// Metric on the vertical axis.
    pub metric: &'a str,
    /// What the values are, and their unit (may be empty).
    pub words: &'a str,
    pub unit: &'a str,
    pub ticks: Vec<Tick>,
    pub series: Vec<Series>,
    /// Index of the series that deltas are taken against.
    pub baseline: Option<usize>,
    /// End of the caption's first sentence.
    pub after: String,
    /// Whether the horizontal axis is logarithmic; `None`: where the values span a wide range.
    pub log: Option<bool>,
    /// Whether a series is a line.
    pub joined: bool,
}

/// Draws it; `None` with fewer than two values, or more lines than can be told apart.
pub(super) fn plot(cells: &Cells<'_>, sweep: Sweep<'_>) -> Result<Option<Plot>, PlotError> {
    let Sweep {
        name,
        metric,
        words,
        unit,
        ticks,
        series,
        baseline,
        after,
        log,
        joined,
    } = sweep;
    let metric = cells.data.metric(metric);
    let shown: std::collections::BTreeSet<u64> = series
        .iter()
        .flat_map(|series| series.points.iter().map(|point| point.x.to_bits()))
        .collect();
    let joined = joined && series.iter().any(|series| series.points.len() > 1);
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
    let values = ticks.iter().map(|tick| tick.value);
    let Some((low, high)) = extent(values.chain(points().map(|point| point.x))) else {
        return Ok(None);
    };
    let x_scale = if low > 0.0 && log.unwrap_or(high / low >= LOG_RATIO) {
        Scale::log(low, high)
    } else {
        Scale::linear(low, high)
    };
    let x_scale = x_scale.padded(0.06);
    // Values without labels of their own: round ones.
    let ticks = if ticks.is_empty() {
        x_scale.ticks(5, false)
    } else {
        ticks
    };
    let x = Axis {
        label: if unit.is_empty() {
            words.to_owned()
        } else {
            format!("{words} ({unit})")
        },
        scale: x_scale,
        ticks,
    };
    let y = Axis {
        label: metric.words.clone(),
        scale: y_scale,
        ticks: y_scale.ticks(6, false),
    };
    let looks = Look::all(series.len(), baseline);
    let entries = series
        .iter()
        .map(|series| series.label.clone())
        .zip(looks.iter().copied())
        .collect();
    let chart = Chart::new(x, y, entries);
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
                if joined {
                    canvas.path(&line, look.colour, style::DATA_LINE, look.dash);
                }
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
        "{} against {words}{} ({}).",
        sentence(&metric.words),
        after,
        n_words(counts)
    );
    if points().any(|point| point.sample.n > 1) {
        caption.push_str(" Rings: single runs; marks: their mean, bars: its 95 % t interval.");
    }
    Ok(Some(Plot {
        name,
        caption,
        svg,
        csv: csv(words, &series)?,
        pictures: Vec::new(),
    }))
}

fn series_count(looks: &[Look]) -> f64 {
    looks.len() as f64
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
