//! The result by variant: every run as a ring, the mean with its 95 % t interval, the baseline as a line.

use super::canvas::{Anchor, Canvas, Rect, Text, draw};
use super::scale::{Scale, Tick};
use super::series::{n_words, scale_for};
use super::style::{self, Look, Mark};
use super::{Plot, PlotError, font};
use crate::report::frame;
use crate::report::metric::Metric;
use crate::report::statistics::{Interval, Sample};
use crate::report::table::Cell;
use crate::report::table::build::headline;
use crate::report::table::cells::Cells;
use crate::report::text::sentence;
use polars::prelude::*;

const ROW: f64 = 18.0;
const EXTRA_LINE: f64 = 10.5;
/// Above this a plot is no longer read; the table and `results.csv` are.
const MOST_ROWS: usize = 80;
/// Space between groups of variants that have a baseline of their own.
const GROUP_GAP: f64 = 7.0;
/// Largest share of the width that labels may take.
const LABELS: f64 = 0.42;

/// One variant of the plot.
struct Item {
    name: String,
    lines: Vec<String>,
    values: Vec<(u64, f64)>,
    sample: Option<Sample>,
    interval: Option<Interval>,
    /// Whether the interval is over images (one run) instead of over seeds.
    over_images: bool,
    state: String,
    baseline: Option<u32>,
    is_baseline: bool,
    height: f64,
}

/// The plot; `None` where no variant has a result.
pub fn plot(cells: &Cells<'_>) -> Result<Option<Plot>, PlotError> {
    if cells.variants.len() > MOST_ROWS {
        return Ok(None);
    }
    let source = headline(cells);
    let metric = cells.data.metric(&source.metric);
    let room = style::WIDTH * LABELS;
    let mut items: Vec<Item> = cells
        .variants
        .iter()
        .map(|variant| {
            let values = cells.values(variant.index, &source).to_vec();
            let sample = cells.sample(variant.index, &source);
            let over_seeds = sample.and_then(|sample| sample.t_interval());
            let over_images = cells.image_interval(variant, &source);
            let baseline = cells.baseline(variant);
            let is_baseline = baseline == Some(variant.index);
            let name = cells.display_name(variant);
            let name = crate::report::text::clean(&name);
            let lines = font::wrap(&name, style::SMALL_TEXT, is_baseline, room, 2);
            let state = match cells.value(variant, &source, 0, true) {
                Cell::State(state) => state.words(),
                _ => String::new(),
            };
            Item {
                height: ROW + EXTRA_LINE * (lines.len() - 1) as f64,
                name: variant.name.to_owned(),
                lines,
                values,
                sample,
                interval: over_seeds.or(over_images),
                over_images: over_seeds.is_none(),
                state,
                baseline,
                is_baseline,
            }
        })
        .collect();
    // Variants that share a baseline stand together, in the order of the plan.
    let mut order: Vec<Option<u32>> = Vec::new();
    for item in &items {
        if !order.contains(&item.baseline) {
            order.push(item.baseline);
        }
    }
    items.sort_by_key(|item| order.iter().position(|baseline| *baseline == item.baseline));

    let numbers: Vec<f64> = items
        .iter()
        .flat_map(|item| item.values.iter().map(|(_, value)| *value))
        .collect();
    let intervals = items
        .iter()
        .filter_map(|item| Some((item.interval?, item.values.len())));
    let Some(scale) = scale_for(&numbers, intervals) else {
        return Ok(None);
    };
    let name = "result".to_owned();
    let svg = paint(
        &name,
        &items,
        scale,
        &metric,
        order.len() - 1,
        &cells.data.experiment.title,
    )?;
    Ok(Some(Plot {
        caption: caption(cells, &items, &metric),
        svg,
        csv: csv(&items)?,
        name,
    }))
}

fn paint(
    name: &str,
    items: &[Item],
    scale: Scale,
    metric: &Metric,
    gaps: usize,
    title: &str,
) -> Result<String, PlotError> {
    let label_width = items
        .iter()
        .flat_map(|item| {
            item.lines
                .iter()
                .map(|line| font::width(line, style::SMALL_TEXT, item.is_baseline))
        })
        .fold(0.0, f64::max);
    let left = style::MARGIN + label_width + style::GAP + 3.0;
    let ticks = |scale: Scale| scale.ticks(((style::WIDTH - left) / 42.0) as usize, false);
    let overhang = ticks(scale)
        .last()
        .map_or(0.0, |tick| Text::TICK.width(&tick.label) / 2.0);
    let right = style::WIDTH - style::MARGIN - overhang.max(2.0);
    let scale = scale.over(left, right);
    let ticks: Vec<Tick> = ticks(scale);
    let top = style::MARGIN;
    let rows: f64 = items.iter().map(|item| item.height).sum();
    let bottom = top + rows + gaps as f64 * GROUP_GAP;
    let tick_y = bottom + 4.0 + style::SMALL_TEXT / 2.0;
    let label_y = tick_y + style::SMALL_TEXT / 2.0 + style::GAP + style::TEXT / 2.0;
    let height = label_y + style::TEXT / 2.0 + style::MARGIN;
    let panel = Rect {
        left,
        top,
        right,
        bottom,
    };

    draw(name, (style::WIDTH, height), title, |canvas| {
        for tick in &ticks {
            let x = scale.at(tick.value);
            canvas.line(
                (x, panel.top),
                (x, panel.bottom),
                style::GRID,
                style::GRID_LINE,
            );
            canvas.text(&tick.label, (x, tick_y), Anchor::Middle, Text::TICK);
        }
        let mut y = panel.top;
        let mut start = 0;
        while start < items.len() {
            let length = items[start..]
                .iter()
                .take_while(|item| item.baseline == items[start].baseline)
                .count();
            let group = &items[start..start + length];
            let group_height: f64 = group.iter().map(|item| item.height).sum();
            if let Some(mean) = group
                .iter()
                .find(|item| item.is_baseline)
                .and_then(|item| item.sample)
                .map(|s| s.mean)
                && group.len() > 1
            {
                let x = scale.at(mean);
                canvas.path(
                    &[(x, y), (x, y + group_height)],
                    style::FAINT_INK,
                    style::AXIS_LINE,
                    Some((3.0, 2.0)),
                );
            }
            for item in group {
                row(canvas, item, y, panel, scale);
                y += item.height;
            }
            start += length;
            y += GROUP_GAP;
        }
        canvas.line(
            (left, bottom),
            (right, bottom),
            style::INK,
            style::AXIS_LINE,
        );
        let middle = (left + right) / 2.0;
        let label = font::elide(
            &metric.words,
            style::TEXT,
            false,
            style::WIDTH - 2.0 * style::MARGIN,
        );
        // Centred under the data, moved where it would reach beyond the figure.
        let half = Text::LABEL.width(&label) / 2.0;
        let middle = middle
            .min(style::WIDTH - style::MARGIN - half)
            .max(style::MARGIN + half);
        canvas.text(&label, (middle, label_y), Anchor::Middle, Text::LABEL);
    })
}

fn row(canvas: &mut Canvas<'_>, item: &Item, top: f64, panel: Rect, scale: Scale) {
    let middle = top + item.height / 2.0;
    let setting = Text {
        bold: item.is_baseline,
        ..Text::TICK
    };
    let first = middle - EXTRA_LINE * (item.lines.len() - 1) as f64 / 2.0;
    for (index, line) in item.lines.iter().enumerate() {
        canvas.text(
            line,
            (
                panel.left - style::GAP - 3.0,
                first + EXTRA_LINE * index as f64,
            ),
            Anchor::Right,
            setting,
        );
    }
    let Some(sample) = item.sample else {
        canvas.text(
            &item.state,
            (panel.left + style::GAP, middle),
            Anchor::Left,
            Text::FAINT,
        );
        return;
    };
    let look = if item.is_baseline {
        Look {
            mark: Mark::Diamond,
            ..Look::baseline()
        }
    } else {
        Look {
            mark: Mark::Circle,
            ..Look::of(0)
        }
    };
    // The runs a little below the mean, so that neither hides the other.
    let (mean_y, run_y) = if item.values.len() > 1 {
        (middle - 2.5, middle + 4.0)
    } else {
        (middle, middle)
    };
    if let Some(interval) = item.interval {
        let (from, to) = (scale.clamp(interval.low), scale.clamp(interval.high));
        let dash = if item.over_images {
            Some((1.6, 1.6))
        } else {
            None
        };
        canvas.path(
            &[(scale.at(from), mean_y), (scale.at(to), mean_y)],
            look.colour,
            style::DATA_LINE,
            dash,
        );
        for (bound, shown) in [(interval.low, from), (interval.high, to)] {
            let x = scale.at(shown);
            if scale.shows(bound) {
                if !item.over_images {
                    canvas.line(
                        (x, mean_y - 2.2),
                        (x, mean_y + 2.2),
                        look.colour,
                        style::DATA_LINE,
                    );
                }
            } else {
                // It runs out of the plot: an arrow head.
                let inward = if bound < shown { 4.0 } else { -4.0 };
                canvas.area(
                    &[
                        (x, mean_y),
                        (x + inward, mean_y - 2.2),
                        (x + inward, mean_y + 2.2),
                    ],
                    look.colour,
                    1.0,
                );
            }
        }
    }
    if item.values.len() > 1 {
        for (_, value) in &item.values {
            canvas.ring((scale.at(*value), run_y), 1.7, look.colour);
        }
    }
    canvas.mark((scale.at(sample.mean), mean_y), &look);
}

fn caption(cells: &Cells<'_>, items: &[Item], metric: &Metric) -> String {
    let counts = || {
        items
            .iter()
            .filter_map(|item| item.sample)
            .map(|sample| sample.n)
    };
    let several = items.iter().any(|item| item.values.len() > 1);
    let mut text = format!(
        "{} by variant ({}).",
        sentence(&metric.words),
        n_words(counts())
    );
    if several {
        text.push_str(" Rings: single runs; marks: their mean with its 95 % t interval.");
    }
    if items
        .iter()
        .any(|item| item.over_images && item.interval.is_some())
    {
        text.push_str(
            " Dotted: a single run with the 95 % Wilson interval over the evaluation set's images.",
        );
    }
    if let Some(baseline) = cells.data.baseline_words() {
        text.push_str(&format!(
            " Dashed line: the mean of the baseline ({baseline})."
        ));
    }
    text
}

fn csv(items: &[Item]) -> Result<String, PlotError> {
    let rows: Vec<(&Item, Option<(u64, f64)>)> = items
        .iter()
        .flat_map(|item| {
            let values: Vec<_> = if item.values.is_empty() {
                vec![None]
            } else {
                item.values.iter().copied().map(Some).collect()
            };
            values.into_iter().map(move |value| (item, value))
        })
        .collect();
    let kind = |item: &Item| match (item.interval, item.over_images) {
        (None, _) => None,
        (Some(_), true) => Some("wilson over images"),
        (Some(_), false) => Some("t over seeds"),
    };
    let frame = df!(
        "variant" => rows.iter().map(|(item, _)| item.name.as_str()).collect::<Vec<_>>(),
        "baseline" => rows.iter().map(|(item, _)| item.is_baseline).collect::<Vec<_>>(),
        "seed" => rows.iter().map(|(_, value)| value.map(|value| value.0)).collect::<Vec<_>>(),
        "value" => rows.iter().map(|(_, value)| value.map(|value| value.1)).collect::<Vec<_>>(),
        "n" => rows.iter().map(|(item, _)| item.values.len() as u64).collect::<Vec<_>>(),
        "mean" => rows.iter().map(|(item, _)| item.sample.map(|sample| sample.mean)).collect::<Vec<_>>(),
        "low" => rows.iter().map(|(item, _)| item.interval.map(|interval| interval.low)).collect::<Vec<_>>(),
        "high" => rows.iter().map(|(item, _)| item.interval.map(|interval| interval.high)).collect::<Vec<_>>(),
        "interval" => rows.iter().map(|(item, _)| kind(item)).collect::<Vec<_>>(),
    )
    .map_err(|source| frame::FrameError { what: "the plot by variant", source })?;
    Ok(frame::to_csv(frame)?)
}
