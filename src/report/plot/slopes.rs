//! Slopes of paired seeds: for each variant a small panel in which every seed that the variant shares
//! with its baseline is a line from the one to the other. Lines that all go the same way are an effect that
//! no summary is needed for.

use super::canvas::{Anchor, Canvas, Rect, Text, draw};
use super::scale::{Scale, Tick};
use super::style::{self, Look, Mark};
use super::{Plot, PlotError, font};
use crate::report::frame;
use crate::report::metric::Metric;
use crate::report::table::cells::{Cells, Source};
use polars::prelude::*;

/// More panels than this make a page, not a plot.
const MOST_PANELS: usize = 12;
/// Panels side by side.
const COLUMNS: usize = 3;
const PANEL_HEIGHT: f64 = 92.0;
/// Lines of a panel's head.
const HEAD_LINE: f64 = 10.5;
/// Space between panels.
const BETWEEN: f64 = 8.0;
/// Share of a panel's width to the left and right of the slopes.
const INSET: f64 = 0.2;
/// Distance in pixels of a mean's mark from its runs.
const MEAN_APART: f64 = 7.0;

struct Panel {
    variant: String,
    baseline: String,
    label: String,
    /// Seed, baseline's value, variant's value.
    pairs: Vec<(u64, f64, f64)>,
}

impl Panel {
    fn means(&self) -> (f64, f64) {
        let n = self.pairs.len() as f64;
        let sum = |get: fn(&(u64, f64, f64)) -> f64| self.pairs.iter().map(get).sum::<f64>() / n;
        (sum(|pair| pair.1), sum(|pair| pair.2))
    }
}

/// The plot of `source`'s metric; `None` where no variant shares two seeds with its baseline, or where more
/// do than panels can show.
pub fn plot(cells: &Cells<'_>, source: &Source, name: String) -> Result<Option<Plot>, PlotError> {
    let panels = panels(cells, source);
    if panels.is_empty() || panels.len() > MOST_PANELS {
        return Ok(None);
    }
    let metric = cells.data.metric(&source.metric);
    let values = panels
        .iter()
        .flat_map(|panel| panel.pairs.iter().flat_map(|pair| [pair.1, pair.2]));
    let Some((low, high)) = super::scale::extent(values) else {
        return Ok(None);
    };
    let scale = Scale::linear(low, high).padded(0.08);
    let ticks = scale.ticks(4, false);
    let svg = paint(
        &name,
        &panels,
        scale,
        &ticks,
        &metric,
        &cells.data.experiment.title,
    )?;
    let several = cells.data.stages().len() > 1;
    let after = if several {
        format!(" after {}", source.stage)
    } else {
        String::new()
    };
    Ok(Some(Plot {
        caption: format!(
            "{}{after} of the baseline (left) and of each variant (right), one line per shared seed; \
             the thick grey line joins the means, which stand beside the runs (diamond: baseline, square: variant). Solid: better than the baseline, dashed: not better.",
            crate::report::text::sentence(&metric.words)
        ),
        csv: csv(&panels)?,
        svg,
        name,
        pictures: Vec::new(),
    }))
}

fn panels(cells: &Cells<'_>, source: &Source) -> Vec<Panel> {
    let own = |variant: u32| cells.variants.iter().find(|other| other.index == variant);
    cells
        .variants
        .iter()
        .filter_map(|variant| {
            let baseline =
                own(cells.baseline(variant)?).filter(|own| own.index != variant.index)?;
            let theirs = cells.values(baseline.index, source);
            let pairs: Vec<(u64, f64, f64)> = cells
                .values(variant.index, source)
                .iter()
                .filter_map(|(seed, ours)| {
                    let (_, theirs) = theirs.iter().find(|(other, _)| other == seed)?;
                    Some((*seed, *theirs, *ours))
                })
                .collect();
            (pairs.len() > 1).then(|| Panel {
                variant: variant.name.to_owned(),
                baseline: baseline.name.to_owned(),
                label: crate::report::text::clean(&cells.display_name(variant)),
                pairs,
            })
        })
        .collect()
}

fn paint(
    name: &str,
    panels: &[Panel],
    scale: Scale,
    ticks: &[Tick],
    metric: &Metric,
    title: &str,
) -> Result<String, PlotError> {
    let tick_width = ticks
        .iter()
        .map(|tick| Text::TICK.width(&tick.label))
        .fold(0.0, f64::max);
    let left = style::MARGIN + style::TEXT + style::GAP + tick_width + 4.0;
    let columns = panels.len().min(COLUMNS);
    let room = style::WIDTH - style::MARGIN - 2.0 - left;
    let width = (room - BETWEEN * (columns - 1) as f64) / columns as f64;
    let heads: Vec<Vec<String>> = panels
        .iter()
        .map(|panel| font::wrap(&panel.label, style::SMALL_TEXT, false, width, 2))
        .collect();
    let lines: Vec<usize> = heads
        .chunks(columns)
        .map(|row| row.iter().map(Vec::len).max().unwrap_or(1))
        .collect();
    // Head, panel, the words under it.
    let row_height = |row: usize| {
        HEAD_LINE * lines[row] as f64 + 3.0 + PANEL_HEIGHT + 4.0 + style::SMALL_TEXT + BETWEEN
    };
    let height =
        style::MARGIN + (0..lines.len()).map(row_height).sum::<f64>() - BETWEEN + style::MARGIN;
    draw(name, (style::WIDTH, height), title, |canvas| {
        let mut top = style::MARGIN;
        for (row, chunk) in panels.chunks(columns).enumerate() {
            let panel_top = top + HEAD_LINE * lines[row] as f64 + 3.0;
            for (column, panel) in chunk.iter().enumerate() {
                let x = left + column as f64 * (width + BETWEEN);
                let head = &heads[row * columns + column];
                for (number, line) in head.iter().enumerate() {
                    let below = (head.len() - number) as f64 - 0.5;
                    canvas.text(
                        line,
                        (x + width / 2.0, panel_top - 3.0 - HEAD_LINE * below),
                        Anchor::Middle,
                        Text::TICK,
                    );
                }
                let rect = Rect {
                    left: x,
                    top: panel_top,
                    right: x + width,
                    bottom: panel_top + PANEL_HEIGHT,
                };
                paint_panel(canvas, panel, rect, scale, ticks, metric, column == 0);
            }
            top += row_height(row);
        }
        let label = font::elide(
            &metric.words,
            style::TEXT,
            false,
            height - 2.0 * style::MARGIN,
        );
        canvas.text(
            &label,
            (style::MARGIN + style::TEXT / 2.0, height / 2.0),
            Anchor::Upward,
            Text::LABEL,
        );
    })
}

fn paint_panel(
    canvas: &mut Canvas<'_>,
    panel: &Panel,
    rect: Rect,
    scale: Scale,
    ticks: &[Tick],
    metric: &Metric,
    with_labels: bool,
) {
    let scale = scale.over(rect.bottom, rect.top);
    for tick in ticks {
        let y = scale.at(tick.value);
        canvas.line(
            (rect.left, y),
            (rect.right, y),
            style::GRID,
            style::GRID_LINE,
        );
        if with_labels {
            canvas.text(&tick.label, (rect.left - 4.0, y), Anchor::Right, Text::TICK);
        }
    }
    let xs = [
        rect.left + INSET * rect.width(),
        rect.right - INSET * rect.width(),
    ];
    for x in xs {
        canvas.line(
            (x, rect.top),
            (x, rect.bottom),
            style::GRID,
            style::GRID_LINE,
        );
    }
    canvas.line(
        (rect.left, rect.bottom),
        (rect.right, rect.bottom),
        style::INK,
        style::AXIS_LINE,
    );
    let words_y = rect.bottom + 4.0 + style::SMALL_TEXT / 2.0;
    canvas.text("base", (xs[0], words_y), Anchor::Middle, Text::TICK);
    canvas.text("variant", (xs[1], words_y), Anchor::Middle, Text::TICK);
    let (theirs, ours) = panel.means();
    let ends = [(xs[0], scale.at(theirs)), (xs[1], scale.at(ours))];
    canvas.path(&ends, style::GRID_BOLD, style::DATA_LINE * 2.5, None);
    for (_, theirs, ours) in &panel.pairs {
        let (look, dash) = if metric.better(*ours, *theirs) {
            (Look::of(0), None)
        } else {
            (Look::of(1), Some((3.0, 2.0)))
        };
        let ends = [(xs[0], scale.at(*theirs)), (xs[1], scale.at(*ours))];
        canvas.path(&ends, look.colour, style::AXIS_LINE, dash);
        for end in ends {
            canvas.ring(end, 1.5, look.colour);
        }
    }
    // The means stand outside, so that they hide no run.
    let marks = [
        (ends[0], -MEAN_APART, Look::baseline()),
        (
            ends[1],
            MEAN_APART,
            Look {
                mark: Mark::Square,
                ..Look::baseline()
            },
        ),
    ];
    for ((x, y), apart, look) in marks {
        canvas.mark((x + apart, y), &look);
    }
}

fn csv(panels: &[Panel]) -> Result<String, PlotError> {
    let rows: Vec<(&Panel, &(u64, f64, f64))> = panels
        .iter()
        .flat_map(|panel| panel.pairs.iter().map(move |pair| (panel, pair)))
        .collect();
    let frame = df!(
        "variant" => rows.iter().map(|(panel, _)| panel.variant.as_str()).collect::<Vec<_>>(),
        "baseline" => rows.iter().map(|(panel, _)| panel.baseline.as_str()).collect::<Vec<_>>(),
        "seed" => rows.iter().map(|(_, pair)| pair.0).collect::<Vec<_>>(),
        "baseline_value" => rows.iter().map(|(_, pair)| pair.1).collect::<Vec<_>>(),
        "variant_value" => rows.iter().map(|(_, pair)| pair.2).collect::<Vec<_>>(),
    )
    .map_err(|source| frame::FrameError {
        what: "the slopes",
        source,
    })?;
    Ok(frame::to_csv(frame)?)
}
