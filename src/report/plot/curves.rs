//! Training curves: a metric, the loss or the learning rate per epoch, the mean over seeds with a band of one
//! standard deviation, one line per variant.

use super::canvas::draw;
use super::chart::{Axis, Chart};
use super::scale::{Scale, extent};
use super::series::{file_part, n_words};
use super::style::{self, Look};
use super::{Plot, PlotError};
use crate::report::frame::{self, CurvePoint};
use crate::report::statistics::Sample;
use crate::report::table::cells::Cells;
use crate::report::text::sentence;
use polars::prelude::*;

/// Bands of more lines than this only hide each other.
pub(super) const MOST_BANDS: usize = 6;
/// More lines than this can't be told apart.
pub const MOST_LINES: usize = 24;
/// The label of a line that stands for all variants.
const ALL: &str = "all variants";
/// Marks on a line.
const MARKS: usize = 5;

pub(super) struct Line {
    pub label: String,
    pub is_baseline: bool,
    /// Epochs done, summary over seeds.
    pub points: Vec<(u32, Sample)>,
    /// Epochs of the whole training; `None` where the configuration isn't known.
    planned: Option<u32>,
}

impl Line {
    /// Where the training ends, or, if nobody knows, the last point.
    pub fn end(&self) -> f64 {
        let last = self.points.last().map(|point| point.0);
        f64::from(self.planned.max(last).unwrap_or(1))
    }

    /// Whether seeds differ, by more than the rounding of their mean.
    pub fn varies(&self) -> bool {
        let mut points = self.points.iter();
        points.any(|(_, sample)| sample.sd > Some(1e-12 * sample.mean.abs()))
    }
}

/// Which curves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curves<'a> {
    /// This metric on every evaluation set that has it per epoch.
    Metric(&'a str),
    TrainLoss,
    /// The loss on every evaluation set that has it per epoch.
    EvalLoss,
    LearningRate,
}

/// For each stage, or `only` one, the curves of `what`, where recorded.
pub fn plots(
    cells: &Cells<'_>,
    what: Curves<'_>,
    only: Option<&str>,
) -> Result<Vec<Plot>, PlotError> {
    if cells.variants.len() > MOST_LINES {
        return Ok(Vec::new());
    }
    let on_sets = |metric: &str| -> Vec<String> {
        let sets = cells.sets().iter();
        sets.map(|set| format!("{set}/{metric}")).collect()
    };
    let names = match what {
        Curves::Metric(metric) => on_sets(metric),
        Curves::EvalLoss => on_sets("loss"),
        Curves::TrainLoss => vec!["train_loss".to_owned()],
        Curves::LearningRate => vec!["lr".to_owned()],
    };
    let mut plots = Vec::new();
    for (position, stage) in cells.data.stages().iter().enumerate() {
        if only.is_some_and(|only| only != stage) {
            continue;
        }
        for name in &names {
            let points = frame::curve_points(cells.data, stage, name);
            // A set that only the final weights are evaluated on has no curve.
            if points.iter().all(|point| point.epoch == points[0].epoch) {
                continue;
            }
            plots.extend(plot(cells, position, stage, name, &points)?);
        }
    }
    Ok(plots)
}

fn plot(
    cells: &Cells<'_>,
    position: usize,
    stage: &str,
    metric_name: &str,
    points: &[CurvePoint],
) -> Result<Option<Plot>, PlotError> {
    // Variants with the same schedule have one line: the others would lie under it.
    let by_value = metric_name == "lr";
    let lines = lines(cells, position, points, by_value);
    let (set, metric) = match metric_name.split_once('/') {
        Some((set, metric)) => (Some(set), cells.data.metric(metric)),
        None => (None, cells.data.metric(metric_name)),
    };
    let with_bands = lines.len() <= MOST_BANDS && lines.iter().any(Line::varies);
    let band = |sample: &Sample| {
        if with_bands {
            sample.sd.unwrap_or(0.0)
        } else {
            0.0
        }
    };
    let samples = || lines.iter().flat_map(|line| &line.points);
    let Some((low, high)) =
        extent(samples().flat_map(|(_, s)| [s.mean - band(s), s.mean + band(s)]))
    else {
        return Ok(None);
    };
    let last = samples().map(|(epoch, _)| *epoch).max().unwrap_or(1);
    if last < 2 {
        return Ok(None);
    }
    let several_stages = cells.data.stages().len() > 1;
    let x_scale = Scale::linear(0.0, f64::from(last));
    let y_scale = Scale::linear(low, high).padded(0.04);
    let words = match set {
        // "loss" alone could be the training loss.
        Some(set) if cells.sets().len() > 1 || metric.name == "loss" => {
            format!("{} on {set}", metric.words)
        }
        _ => metric.words.clone(),
    };
    let x = Axis {
        label: if several_stages {
            format!("epoch of {stage}")
        } else {
            "epoch".to_owned()
        },
        scale: x_scale,
        ticks: x_scale.ticks(6, true),
    };
    let y = Axis {
        label: words.clone(),
        scale: y_scale,
        ticks: y_scale.ticks(6, false),
    };
    let baselines: Vec<usize> = (0..lines.len())
        .filter(|index| lines[*index].is_baseline)
        .collect();
    let baseline = if baselines.len() == 1 {
        baselines.first().copied()
    } else {
        None
    };
    let looks = Look::all(lines.len(), baseline);
    let entries = lines
        .iter()
        .map(|line| line.label.clone())
        .zip(looks.iter().copied())
        .collect();
    let chart = Chart::new(x, y, entries);
    let mut name = "curves".to_owned();
    if several_stages {
        name = format!("{name}-{}", file_part(stage));
    }
    name = format!("{name}-{}", file_part(metric_name));
    let svg = draw(
        &name,
        (chart.width, chart.height),
        &cells.data.experiment.title,
        |canvas| {
            chart.draw(canvas);
            let at = |epoch: u32, value: f64| {
                (chart.x.scale.at(f64::from(epoch)), chart.y.scale.at(value))
            };
            if with_bands {
                for (line, look) in lines.iter().zip(&looks) {
                    let edge = |sign: f64| {
                        line.points.iter().map(move |(epoch, sample)| {
                            at(*epoch, sample.mean + sign * sample.sd.unwrap_or(0.0))
                        })
                    };
                    if line.varies() {
                        let outline: Vec<_> = edge(1.0).chain(edge(-1.0).rev()).collect();
                        canvas.area(&outline, look.colour, style::BAND);
                    }
                }
            }
            for (line, look) in lines.iter().zip(&looks) {
                let path: Vec<_> = line
                    .points
                    .iter()
                    .map(|(epoch, sample)| at(*epoch, sample.mean))
                    .collect();
                canvas.path(&path, look.colour, style::DATA_LINE, look.dash);
            }
            for (index, (line, look)) in lines.iter().zip(&looks).enumerate() {
                for place in marked(line.points.len(), index, lines.len()) {
                    let (epoch, sample) = &line.points[place];
                    canvas.mark(at(*epoch, sample.mean), look);
                }
            }
        },
    )?;
    let counts = samples().map(|(_, sample)| sample.n);
    let mut caption = format!("{} per epoch", sentence(&words));
    if several_stages {
        caption.push_str(&format!(" of {stage}"));
    }
    if samples().any(|(_, sample)| sample.n > 1) {
        let spread = if with_bands {
            ", band: ± one standard deviation".to_owned()
        } else if lines.iter().any(Line::varies) {
            format!(", without bands, which {} lines would hide", lines.len())
        } else {
            ", all alike".to_owned()
        };
        caption.push_str(&format!(
            "; line: mean over seeds ({}){spread}.",
            n_words(counts)
        ));
    } else {
        caption.push_str("; single runs (n = 1).");
    }
    if let [line] = &lines[..]
        && line.label == ALL
    {
        caption.push_str(" The same for all variants.");
    }
    if metric_name == "train_loss"
        && let Some(names) = losses(cells, position)
    {
        caption.push_str(&format!(
            " The variants train with different losses ({}), whose values are different quantities: only lines of \
             one loss can be compared.",
            names.join(", ")
        ));
    }
    Ok(Some(Plot {
        name,
        caption,
        svg,
        csv: csv(&lines)?,
        pictures: Vec::new(),
    }))
}

/// The training losses of a stage, where variants differ in them: by name, with the label smoothing.
fn losses(cells: &Cells<'_>, stage: usize) -> Option<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    for variant in &cells.variants {
        let spec = cells.data.background.config(variant, stage)?;
        if spec.command.is_some() {
            return None;
        }
        let loss = &spec.recipe.loss;
        let mut words = serde_json::to_value(loss.name).ok()?.as_str()?.to_owned();
        if loss.label_smoothing > 0.0 {
            words.push_str(&format!(" with smoothing {}", loss.label_smoothing));
        }
        if !found.contains(&words) {
            found.push(words);
        }
    }
    (found.len() > 1).then_some(found)
}

/// Places of the marks on a line: evenly spread, shifted from line to line so that they don't cover each
/// other.
pub(super) fn marked(points: usize, index: usize, lines: usize) -> Vec<usize> {
    if points <= MARKS {
        return (0..points).collect();
    }
    let step = points as f64 / MARKS as f64;
    let shift = step * (index as f64 + 0.5) / lines as f64;
    let mut places: Vec<usize> = (0..MARKS)
        .map(|mark| ((mark as f64 * step + shift) as usize).min(points - 1))
        .collect();
    places.dedup();
    places
}

/// One line per variant; variants whose runs share this stage are one line, and with `by_value` those with the
/// same means.
pub(super) fn lines(
    cells: &Cells<'_>,
    stage: usize,
    points: &[CurvePoint],
    by_value: bool,
) -> Vec<Line> {
    let mut lines: Vec<(Vec<&str>, Line, usize)> = Vec::new();
    for variant in &cells.variants {
        let of_variant: Vec<(u32, Sample)> = points
            .iter()
            .filter(|point| point.variant_index == variant.index)
            .filter_map(|point| {
                let finite: Vec<f64> = point
                    .values
                    .iter()
                    .copied()
                    .filter(|value| value.is_finite())
                    .collect();
                Some((point.epoch + 1, Sample::of(&finite)?))
            })
            .collect();
        if of_variant.is_empty() {
            continue;
        }
        let fingerprints: Vec<&str> = variant
            .runs
            .iter()
            .filter_map(|run| run.stages.get(stage))
            .map(String::as_str)
            .collect();
        let is_baseline = cells.is_baseline(variant);
        if let Some((_, line, more)) = lines.iter_mut().find(|(known, line, _)| {
            *known == fingerprints || by_value && same_means(&line.points, &of_variant)
        }) {
            *more += 1;
            line.is_baseline |= is_baseline;
            continue;
        }
        let label = cells.display_name(variant);
        let line = Line {
            label,
            is_baseline,
            points: of_variant,
            planned: cells
                .data
                .background
                .config(variant, stage)
                .filter(|spec| spec.command.is_none())
                .and_then(|spec| u32::try_from(spec.recipe.train.epochs).ok()),
        };
        lines.push((fingerprints, line, 0));
    }
    lines
        .into_iter()
        .map(|(_, mut line, more)| {
            if more + 1 == cells.variants.len() && more > 0 {
                line.label = ALL.to_owned();
            } else if more > 0 {
                line.label.push_str(&format!(" (and {more} more)"));
            }
            line
        })
        .collect()
}

fn same_means(a: &[(u32, Sample)], b: &[(u32, Sample)]) -> bool {
    let mean = |points: &[(u32, Sample)]| -> Vec<(u32, u64)> {
        let points = points.iter();
        points
            .map(|(epoch, sample)| (*epoch, sample.mean.to_bits()))
            .collect()
    };
    mean(a) == mean(b)
}

fn csv(lines: &[Line]) -> Result<String, PlotError> {
    let rows: Vec<(&str, u32, &Sample)> = lines
        .iter()
        .flat_map(|line| {
            line.points
                .iter()
                .map(|(epoch, sample)| (line.label.as_str(), *epoch, sample))
        })
        .collect();
    let frame = df!(
        "variant" => rows.iter().map(|(label, _, _)| *label).collect::<Vec<_>>(),
        "epoch" => rows.iter().map(|(_, epoch, _)| *epoch).collect::<Vec<_>>(),
        "n" => rows.iter().map(|(_, _, sample)| sample.n as u64).collect::<Vec<_>>(),
        "mean" => rows.iter().map(|(_, _, sample)| sample.mean).collect::<Vec<_>>(),
        "sd" => rows.iter().map(|(_, _, sample)| sample.sd).collect::<Vec<_>>(),
    )
    .map_err(|source| frame::FrameError {
        what: "the curves",
        source,
    })?;
    Ok(frame::to_csv(frame)?)
}
