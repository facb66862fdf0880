//! A metric against a number (a numeric axis, the test resolution): one line per series, with intervals
//! and single runs.

use super::canvas::draw;
use super::chart::{Axis, Chart};
use super::scale::{Scale, Tick, extent};
use super::series::{n_words, scale_for};
use super::style::{self, Look, Mark};
use super::{Plot, PlotError};
use crate::report::frame;
use crate::report::statistics::{Interval, Sample};
use crate::report::table::cells::{Cells, Source};
use crate::report::text::sentence;
use polars::prelude::*;
use std::collections::BTreeMap;

/// From this ratio of largest to smallest value on, the axis is logarithmic.
const LOG_RATIO: f64 = 30.0;
/// More lines than this can't be told apart.
const MOST_SERIES: usize = 16;
/// Room in pixels of a series' mark where several stand at the same value, and of its single runs beside it.
const SLOT: f64 = 7.0;
const RUNS: f64 = 5.0;
/// Share of the distance to the next value that marks of one value may take.
const FREE: f64 = 0.8;
/// With more lines than this single runs hide more than they show; the data has them.
const MOST_WITH_RUNS: usize = 3;

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

/// A published number at one value.
pub(super) struct Reference {
    /// The other axes' labels that it stands beside.
    pub label: String,
    pub x: f64,
    pub value: f64,
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
    /// What the experiment file's references say at these values.
    pub published: Vec<Reference>,
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
        mut published,
        baseline,
        after,
        log,
        joined,
    } = sweep;
    published.sort_by(|a, b| a.x.total_cmp(&b.x));
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
        .chain(published.iter().map(|reference| reference.value))
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
    let x_scale = x_scale.padded(0.08);
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
    let mut entries: Vec<(String, Look)> = series
        .iter()
        .map(|series| series.label.clone())
        .zip(looks.iter().map(|look| Look { joined, ..*look }))
        .collect();
    let theirs = Theirs::new(&published);
    if !published.is_empty() {
        if entries.len() == 1 && entries[0].0.is_empty() {
            entries[0].0 = "ours".to_owned();
        }
        for (label, look) in theirs.names() {
            entries.push((label, look));
        }
    }
    let chart = Chart::new(x, y, entries);
    let places = Places::new(&chart, &series);
    let svg = draw(
        &name,
        (chart.width, chart.height),
        &cells.data.experiment.title,
        |canvas| {
            chart.draw(canvas);
            for reference in &published {
                let (look, shift) = theirs.place(reference);
                let x = chart.x.scale.at(reference.x) + shift;
                canvas.mark((x, chart.y.scale.at(reference.value)), &look);
            }
            for (index, (series, look)) in series.iter().zip(&looks).enumerate() {
                let at = |x: f64, y: f64| {
                    (
                        chart.x.scale.at(x) + places.shift(index, x),
                        chart.y.scale.at(y),
                    )
                };
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
                    if places.with_runs && point.values.len() > 1 {
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
        caption.push_str(if places.with_runs {
            " Rings: single runs; marks: their mean, bars: its 95 % t interval."
        } else {
            " Marks: means over seeds, bars: their 95 % t intervals."
        });
    }
    let reaches_on = points()
        .filter_map(|point| point.interval)
        .any(|interval| !(chart.y.scale.shows(interval.low) && chart.y.scale.shows(interval.high)));
    if reaches_on {
        caption.push_str(" A bar without an end reaches beyond the plot.");
    }
    if places.side_by_side {
        caption.push_str(" Marks of one value stand side by side.");
    }
    if !published.is_empty() {
        caption.push_str(
            " Grey marks without bars: the published numbers that the experiment file lays beside these, each of its \
             own setting.",
        );
    }
    Ok(Some(Plot {
        name,
        caption,
        svg,
        csv: csv(words, &series, &published)?,
        pictures: Vec::new(),
    }))
}

/// The published numbers by what they stand beside.
struct Theirs {
    labels: Vec<String>,
    /// By value: the labels that have a number there.
    at: BTreeMap<u64, Vec<usize>>,
}

/// Marks of published numbers: none has a line, and none is ours.
const THEIR_MARKS: [Mark; 3] = [Mark::Cross, Mark::Plus, Mark::Star];

impl Theirs {
    fn new(published: &[Reference]) -> Self {
        let (mut labels, mut at): (Vec<String>, BTreeMap<u64, Vec<usize>>) = Default::default();
        for reference in published {
            if !labels.contains(&reference.label) {
                labels.push(reference.label.clone());
            }
            let own = labels.iter().position(|label| *label == reference.label);
            let there = at.entry(reference.x.to_bits()).or_default();
            match own {
                Some(own) if !there.contains(&own) => there.push(own),
                _ => {}
            }
        }
        Theirs { labels, at }
    }

    fn look(&self, index: usize) -> Look {
        Look {
            mark: THEIR_MARKS[index % THEIR_MARKS.len()],
            joined: false,
            ..Look::published()
        }
    }

    /// The legend's entries: one, or as many as there are lines of the others' labels.
    fn names(&self) -> Vec<(String, Look)> {
        let several = self.labels.len() > 1;
        let named = self.labels.iter().enumerate();
        named
            .map(|(index, label)| {
                let name = match several && !label.is_empty() {
                    true => format!("published, {label}"),
                    false => "published".to_owned(),
                };
                (name, self.look(index))
            })
            .collect()
    }

    /// How a number looks, and the pixels that it stands beside its value.
    fn place(&self, reference: &Reference) -> (Look, f64) {
        let own = self
            .labels
            .iter()
            .position(|label| *label == reference.label);
        let own = own.unwrap_or(0);
        let there = self.at.get(&reference.x.to_bits());
        let place = there.and_then(|there| there.iter().position(|other| *other == own));
        let count = there.map_or(1, Vec::len) as f64;
        let shift = (place.unwrap_or(0) as f64 - (count - 1.0) / 2.0) * SLOT;
        (self.look(own), shift)
    }
}

/// Where marks stand that share a value: side by side, within what is free to the next value.
struct Places {
    /// By value: the series that have a point there.
    at: BTreeMap<u64, Vec<usize>>,
    /// Pixels of a series, by value.
    slots: BTreeMap<u64, f64>,
    /// Whether single runs are shown.
    with_runs: bool,
    side_by_side: bool,
}

impl Places {
    fn new(chart: &Chart, series: &[Series]) -> Self {
        let mut at: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (index, series) in series.iter().enumerate() {
            for point in &series.points {
                at.entry(point.x.to_bits()).or_default().push(index);
            }
        }
        // Values are positive or few: their order as numbers is what counts.
        let mut xs: Vec<f64> = at.keys().map(|bits| f64::from_bits(*bits)).collect();
        xs.sort_by(f64::total_cmp);
        let pixels: Vec<f64> = xs.iter().map(|x| chart.x.scale.at(*x)).collect();
        let free = |place: usize| -> f64 {
            let x = pixels[place];
            let mut free = 2.0 * (x - chart.panel.left).min(chart.panel.right - x);
            if place > 0 {
                free = free.min(pixels[place] - pixels[place - 1]);
            }
            if let Some(next) = pixels.get(place + 1) {
                free = free.min(next - pixels[place]);
            }
            FREE * free.max(0.0)
        };
        let room = |place: usize| free(place) / at[&xs[place].to_bits()].len() as f64;
        let roomy = (0..xs.len()).all(|place| room(place) >= SLOT + RUNS);
        let with_runs = series.len() <= MOST_WITH_RUNS && roomy;
        let wanted = if with_runs { SLOT + RUNS } else { SLOT };
        Places {
            slots: (0..xs.len())
                .map(|place| (xs[place].to_bits(), room(place).min(wanted)))
                .collect(),
            side_by_side: at.values().any(|there| there.len() > 1),
            at,
            with_runs,
        }
    }

    /// Pixels that the mark of a series stands beside its value.
    fn shift(&self, series: usize, x: f64) -> f64 {
        let (Some(there), Some(slot)) = (self.at.get(&x.to_bits()), self.slots.get(&x.to_bits()))
        else {
            return 0.0;
        };
        let place = there.iter().position(|own| *own == series).unwrap_or(0);
        (place as f64 - (there.len() as f64 - 1.0) / 2.0) * slot
    }
}

fn csv(axis: &str, series: &[Series], published: &[Reference]) -> Result<String, PlotError> {
    // What a published number is a mean of isn't known.
    let theirs: Vec<Point> = published
        .iter()
        .map(|theirs| Point {
            x: theirs.x,
            values: Vec::new(),
            sample: Sample {
                n: 0,
                mean: theirs.value,
                sd: None,
            },
            interval: None,
        })
        .collect();
    let ours = series.iter().flat_map(|series| {
        series
            .points
            .iter()
            .map(|point| (series.label.as_str(), point))
    });
    let several = Theirs::new(published).labels.len() > 1;
    let names: Vec<String> = published
        .iter()
        .map(|theirs| match several && !theirs.label.is_empty() {
            true => format!("published, {}", theirs.label),
            false => "published".to_owned(),
        })
        .collect();
    let rows: Vec<(&str, &Point)> = ours
        .chain(names.iter().map(String::as_str).zip(&theirs))
        .collect();
    let frame = df!(
        "series" => rows.iter().map(|(label, _)| *label).collect::<Vec<_>>(),
        axis => rows.iter().map(|(_, point)| point.x).collect::<Vec<_>>(),
        "n" => rows.iter().map(|(_, point)| (point.sample.n > 0).then_some(point.sample.n as u64)).collect::<Vec<_>>(),
        "mean" => rows.iter().map(|(_, point)| point.sample.mean).collect::<Vec<_>>(),
        "sd" => rows.iter().map(|(_, point)| point.sample.sd).collect::<Vec<_>>(),
        "low" => rows.iter().map(|(_, point)| point.interval.map(|interval| interval.low)).collect::<Vec<_>>(),
        "high" => rows.iter().map(|(_, point)| point.interval.map(|interval| interval.high)).collect::<Vec<_>>(),
    )
    .map_err(|source| frame::FrameError { what: "the plot against an axis", source })?;
    Ok(frame::to_csv(frame)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(label: &str, xs: &[f64]) -> Series {
        let points = xs.iter().map(|x| Point {
            x: *x,
            values: vec![49.0, 50.0, 51.0],
            sample: Sample::of(&[49.0, 50.0, 51.0]).expect("three"),
            interval: None,
        });
        Series {
            label: label.to_owned(),
            points: points.collect(),
        }
    }

    fn places(all: &[Series]) -> (Chart, Places) {
        let axis = |scale: Scale| Axis {
            label: String::new(),
            scale,
            ticks: Vec::new(),
        };
        let x = axis(Scale::linear(24.0, 64.0).padded(0.08));
        let chart = Chart::new(x, axis(Scale::linear(40.0, 60.0)), Vec::new());
        let places = Places::new(&chart, all);
        (chart, places)
    }

    /// Marks that share a value don't cover each other, and none comes near the next value's.
    #[test]
    fn marks_have_room_of_their_own() {
        let sides = [24.0, 32.0, 40.0, 48.0, 56.0, 64.0];
        for count in 1..=4 {
            let all: Vec<Series> = (0..count).map(|_| series("s", &sides)).collect();
            let (chart, places) = places(&all);
            // Three with their runs would reach over the edge here.
            assert_eq!(places.with_runs, count < 3);
            assert_eq!(places.side_by_side, count > 1);
            let mut xs: Vec<f64> = (0..count)
                .flat_map(|index| {
                    let (chart, places) = (&chart, &places);
                    sides.map(|side| chart.x.scale.at(side) + places.shift(index, side))
                })
                .collect();
            xs.sort_by(f64::total_cmp);
            for pair in xs.windows(2) {
                assert!(pair[1] - pair[0] > 2.0 * style::MARK, "{count}: {pair:?}");
            }
            assert!(xs[0] > chart.panel.left && *xs.last().unwrap() < chart.panel.right);
        }
    }

    #[test]
    fn a_mark_alone_at_its_value_stands_there() {
        let (_, places) = places(&[series("a", &[24.0, 40.0]), series("b", &[32.0, 64.0])]);
        assert!(!places.side_by_side);
        for (index, x) in [(0, 24.0), (0, 40.0), (1, 32.0), (1, 64.0)] {
            assert_eq!(places.shift(index, x), 0.0);
        }
    }
}
