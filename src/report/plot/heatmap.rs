//! Heatmap of a grid of two factors: the mean in every cell, by colour and in figures.

use super::canvas::{Anchor, Canvas, Rect, Text, draw};
use super::style;
use super::{Plot, PlotError, font};
use crate::report::frame;
use crate::report::metric::{self, Metric};
use crate::report::statistics::Sample;
use crate::report::table::Cell;
use crate::report::table::cells::{Cells, Source};
use plotters::style::RGBColor;
use polars::prelude::*;

/// More than this has no room for figures.
const MOST_COLUMNS: usize = 8;
const MOST_ROWS: usize = 16;
/// Heights of a cell with the mean alone, and with the standard deviation under it.
const CELL: [f64; 2] = [20.0, 30.0];
const BAR: f64 = 8.0;
/// Largest share of the width that the rows' labels may take.
const LABELS: f64 = 0.3;

/// Six points of the map `cividis` (Nuñez, Anderton and Renslow 2018, doi 10.1371/journal.pone.0199239),
/// which reads alike with and without colour blindness and in grey.
const CIVIDIS: [(u8, u8, u8); 6] = [
    (0x00, 0x22, 0x4E),
    (0x35, 0x45, 0x6C),
    (0x66, 0x69, 0x70),
    (0x94, 0x8E, 0x77),
    (0xC8, 0xB8, 0x66),
    (0xFE, 0xE8, 0x38),
];
/// Ink on a coloured cell. Not the house's ink: a page in the dark changes that one, and a cell keeps its colour.
const ON_LIGHT: RGBColor = RGBColor(0x11, 0x11, 0x11);
const ON_DARK: RGBColor = RGBColor(0xFE, 0xFE, 0xFE);

struct Grid {
    /// Words of the axes along rows and columns, and their labels.
    rows: (String, Vec<String>),
    columns: (String, Vec<String>),
    /// Names of the two axes.
    names: [String; 2],
    /// Row by row: the summary, or the words for its absence.
    cells: Vec<Result<Sample, String>>,
}

/// The plot of `source`'s metric; `None` unless exactly two axes vary and at least two cells have results.
///
/// `wanted`: the axes along rows and columns, where the file names them.
pub fn plot(
    cells: &Cells<'_>,
    source: &Source,
    name: String,
    wanted: [Option<&str>; 2],
) -> Result<Option<Plot>, PlotError> {
    let Some(grid) = grid(cells, source, wanted) else {
        return Ok(None);
    };
    let known = || grid.cells.iter().filter_map(|cell| cell.as_ref().ok());
    let (true, Some((low, high))) = (
        known().count() > 1,
        super::scale::extent(known().map(|sample| sample.mean)),
    ) else {
        return Ok(None);
    };
    let metric = cells.data.metric(&source.metric);
    let decimals = cells.decimals(source);
    let svg = paint(
        &name,
        &grid,
        (low, high),
        &metric,
        decimals,
        &cells.data.experiment.title,
    )?;
    let spread = if known().any(|sample| sample.sd.is_some()) {
        "; below the mean, the standard deviation over seeds"
    } else {
        ""
    };
    let counts = known().map(|sample| sample.n);
    Ok(Some(Plot {
        caption: format!(
            "{} by {} and {} ({}){spread}. Brighter is better.",
            crate::report::text::sentence(&metric.words),
            grid.rows.0,
            grid.columns.0,
            super::series::n_words(counts)
        ),
        csv: csv(&grid)?,
        svg,
        name,
        pictures: Vec::new(),
    }))
}

fn grid(cells: &Cells<'_>, source: &Source, wanted: [Option<&str>; 2]) -> Option<Grid> {
    let data = cells.data;
    if !cells.by_labels() {
        return None;
    }
    let axes = &data.experiment.axes;
    let varying: Vec<usize> = (0..axes.len())
        .filter(|axis| axes[*axis].labels.len() > 1)
        .collect();
    let &[first, second] = &varying[..] else {
        return None;
    };
    // The axis that the table has along its columns; else the one with fewer labels, which fits better.
    let named = |axis: usize| match wanted {
        [_, Some(columns)] => axes[axis].name == columns,
        [Some(rows), None] => axes[axis].name != rows,
        [None, None] => data.experiment.report.columns.contains(&axes[axis].name),
    };
    let (row, column) = match (named(first), named(second)) {
        (true, false) => (second, first),
        (false, true) => (first, second),
        _ if axes[second].labels.len() <= axes[first].labels.len() => (first, second),
        _ => (second, first),
    };
    let (rows, columns) = (&axes[row], &axes[column]);
    if rows.labels.len() > MOST_ROWS || columns.labels.len() > MOST_COLUMNS {
        return None;
    }
    let mut content = Vec::with_capacity(rows.labels.len() * columns.labels.len());
    for own in &rows.labels {
        for other in &columns.labels {
            let variant = cells.variants.iter().find(|variant| {
                variant.labels.get(row) == Some(own) && variant.labels.get(column) == Some(other)
            });
            content.push(match variant {
                None => Err("—".to_owned()),
                Some(variant) => cells.sample(variant.index, source).ok_or_else(|| {
                    match cells.value(variant, source, 0, true) {
                        Cell::State(state) => state.words(),
                        _ => String::new(),
                    }
                }),
            });
        }
    }
    let clean = |labels: &[String]| {
        let labels = labels.iter();
        labels
            .map(|label| crate::report::text::clean(label))
            .collect()
    };
    let words = |name: &str| {
        let axis = cells.data.axis(name);
        axis.map_or_else(|| name.to_owned(), |axis| cells.data.axis_words(axis))
    };
    Some(Grid {
        rows: (words(&rows.name), clean(&rows.labels)),
        columns: (words(&columns.name), clean(&columns.labels)),
        names: [rows.name.clone(), columns.name.clone()],
        cells: content,
    })
}

/// The colour at `share` (0 to 1) of the map.
fn colour(share: f64) -> RGBColor {
    let place = share.clamp(0.0, 1.0) * (CIVIDIS.len() - 1) as f64;
    let index = (place as usize).min(CIVIDIS.len() - 2);
    let part = place - index as f64;
    let (a, b) = (CIVIDIS[index], CIVIDIS[index + 1]);
    let mix = |a: u8, b: u8| (f64::from(a) + part * (f64::from(b) - f64::from(a))).round() as u8;
    RGBColor(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
}

/// Black or white, whichever has more contrast with `ground` (by relative luminance, WCAG 2).
fn ink_on(ground: RGBColor) -> RGBColor {
    let linear = |channel: u8| {
        let c = f64::from(channel) / 255.0;
        if c <= 0.040_45 {
            c / 12.92
        } else {
            ((c + 0.055) / 1.055).powf(2.4)
        }
    };
    let luminance =
        0.2126 * linear(ground.0) + 0.7152 * linear(ground.1) + 0.0722 * linear(ground.2);
    if luminance > 0.179 { ON_LIGHT } else { ON_DARK }
}

fn paint(
    name: &str,
    grid: &Grid,
    (low, high): (f64, f64),
    metric: &Metric,
    decimals: usize,
    title: &str,
) -> Result<String, PlotError> {
    let share = |value: f64| {
        let share = if high > low {
            (value - low) / (high - low)
        } else {
            0.5
        };
        if metric.higher_is_better {
            share
        } else {
            1.0 - share
        }
    };
    let rows: Vec<String> = grid
        .rows
        .1
        .iter()
        .map(|label| font::elide(label, style::SMALL_TEXT, false, style::WIDTH * LABELS))
        .collect();
    let widest = rows
        .iter()
        .map(|label| Text::TICK.width(label))
        .fold(0.0, f64::max);
    let with_sd = grid
        .cells
        .iter()
        .any(|cell| cell.as_ref().is_ok_and(|sample| sample.sd.is_some()));
    let cell_height = CELL[usize::from(with_sd)];
    let left = style::MARGIN + style::TEXT + style::GAP + widest + style::GAP;
    let right = style::WIDTH - style::MARGIN;
    let count = grid.columns.1.len();
    let width = (right - left) / count as f64;
    let heads: Vec<Vec<String>> = grid
        .columns
        .1
        .iter()
        .map(|label| font::wrap(label, style::SMALL_TEXT, false, width - 2.0, 2))
        .collect();
    let head_lines = heads.iter().map(Vec::len).max().unwrap_or(1);
    // The columns' axis, its labels, the cells, the bar with its figures.
    let head_top = style::MARGIN + style::TEXT + style::GAP;
    let top = head_top + 10.5 * head_lines as f64 + style::GAP;
    let bottom = top + cell_height * rows.len() as f64;
    let bar_top = bottom + 9.0;
    let figures_y = bar_top + BAR + 3.0 + style::SMALL_TEXT / 2.0;
    let height = figures_y + style::SMALL_TEXT / 2.0 + style::MARGIN;
    draw(name, (style::WIDTH, height), title, |canvas| {
        let axis = |words: &str, room: f64| font::elide(words, style::TEXT, false, room);
        canvas.text(
            &axis(&grid.columns.0, right - left),
            ((left + right) / 2.0, style::MARGIN + style::TEXT / 2.0),
            Anchor::Middle,
            Text::LABEL,
        );
        canvas.text(
            &axis(&grid.rows.0, bottom - style::MARGIN),
            (style::MARGIN + style::TEXT / 2.0, (top + bottom) / 2.0),
            Anchor::Upward,
            Text::LABEL,
        );
        for (index, head) in heads.iter().enumerate() {
            let x = left + (index as f64 + 0.5) * width;
            for (number, line) in head.iter().enumerate() {
                let below = (head.len() - number) as f64 - 0.5;
                canvas.text(
                    line,
                    (x, top - style::GAP - 10.5 * below),
                    Anchor::Middle,
                    Text::TICK,
                );
            }
        }
        for (index, label) in rows.iter().enumerate() {
            let y = top + (index as f64 + 0.5) * cell_height;
            canvas.text(label, (left - style::GAP, y), Anchor::Right, Text::TICK);
        }
        for (index, cell) in grid.cells.iter().enumerate() {
            let (row, column) = (index / count, index % count);
            let rect = Rect {
                left: left + column as f64 * width + 0.5,
                top: top + row as f64 * cell_height + 0.5,
                right: left + (column + 1) as f64 * width - 0.5,
                bottom: top + (row + 1) as f64 * cell_height - 0.5,
            };
            match cell {
                Ok(sample) => {
                    paint_cell(canvas, rect, sample, colour(share(sample.mean)), decimals)
                }
                Err(words) => paint_absent(canvas, rect, words),
            }
        }
        paint_bar(
            canvas,
            Rect {
                left,
                top: bar_top,
                right,
                bottom: bar_top + BAR,
            },
            figures_y,
            (low, high),
            metric,
            decimals,
        );
    })
}

fn paint_cell(
    canvas: &mut Canvas<'_>,
    rect: Rect,
    sample: &Sample,
    ground: RGBColor,
    decimals: usize,
) {
    canvas.fill(rect, ground);
    let centre = (
        (rect.left + rect.right) / 2.0,
        (rect.top + rect.bottom) / 2.0,
    );
    let setting = Text {
        colour: ink_on(ground),
        ..Text::TICK
    };
    let mean = metric::number(sample.mean, decimals);
    let Some(sd) = sample.sd else {
        canvas.text(&mean, centre, Anchor::Middle, setting);
        return;
    };
    canvas.text(&mean, (centre.0, centre.1 - 5.5), Anchor::Middle, setting);
    let spread = format!("± {}", metric::number(sd, decimals));
    canvas.text(&spread, (centre.0, centre.1 + 5.5), Anchor::Middle, setting);
}

/// A cell without a number: an outline and the words.
fn paint_absent(canvas: &mut Canvas<'_>, rect: Rect, words: &str) {
    let corners = [
        (rect.left, rect.top),
        (rect.right, rect.top),
        (rect.right, rect.bottom),
        (rect.left, rect.bottom),
        (rect.left, rect.top),
    ];
    canvas.path(&corners, style::GRID, style::AXIS_LINE, None);
    let centre = (
        (rect.left + rect.right) / 2.0,
        (rect.top + rect.bottom) / 2.0,
    );
    let lines = font::wrap(words, style::SMALL_TEXT, false, rect.width() - 2.0, 2);
    for (number, line) in lines.iter().enumerate() {
        let y = centre.1 + 10.5 * (number as f64 - (lines.len() - 1) as f64 / 2.0);
        canvas.text(line, (centre.0, y), Anchor::Middle, Text::FAINT);
    }
}

/// The bar that says what the colours mean, from the worst to the best cell.
fn paint_bar(
    canvas: &mut Canvas<'_>,
    rect: Rect,
    figures_y: f64,
    (low, high): (f64, f64),
    metric: &Metric,
    decimals: usize,
) {
    const STEPS: usize = 48;
    for step in 0..STEPS {
        let at = |step: usize| rect.left + rect.width() * step as f64 / STEPS as f64;
        canvas.fill(
            Rect {
                left: at(step),
                // Over the next one, which covers it again: no seams where edges fall between pixels.
                right: (at(step + 1) + 1.0).min(rect.right),
                ..rect
            },
            colour((step as f64 + 0.5) / STEPS as f64),
        );
    }
    let (worst, best) = if metric.higher_is_better {
        (low, high)
    } else {
        (high, low)
    };
    let (worst, best) = (
        metric::number(worst, decimals),
        metric::number(best, decimals),
    );
    canvas.text(&worst, (rect.left, figures_y), Anchor::Left, Text::TICK);
    canvas.text(&best, (rect.right, figures_y), Anchor::Right, Text::TICK);
    let room = rect.width() - Text::TICK.width(&worst) - Text::TICK.width(&best) - 12.0;
    let words = font::elide(&metric.words, style::SMALL_TEXT, false, room);
    let middle =
        (rect.left + Text::TICK.width(&worst) + rect.right - Text::TICK.width(&best)) / 2.0;
    canvas.text(&words, (middle, figures_y), Anchor::Middle, Text::TICK);
}

fn csv(grid: &Grid) -> Result<String, PlotError> {
    let count = grid.columns.1.len();
    let place = |index: usize| (index / count, index % count);
    let indices = || 0..grid.cells.len();
    let get = |index: usize| grid.cells[index].as_ref().ok();
    let frame = DataFrame::new_infer_height(vec![
        Column::new(
            format!("axis:{}", grid.names[0]).into(),
            indices()
                .map(|index| grid.rows.1[place(index).0].as_str())
                .collect::<Vec<_>>(),
        ),
        Column::new(
            format!("axis:{}", grid.names[1]).into(),
            indices()
                .map(|index| grid.columns.1[place(index).1].as_str())
                .collect::<Vec<_>>(),
        ),
        Column::new(
            "n".into(),
            indices()
                .map(|index| get(index).map_or(0, |sample| sample.n as u64))
                .collect::<Vec<_>>(),
        ),
        Column::new(
            "mean".into(),
            indices()
                .map(|index| get(index).map(|sample| sample.mean))
                .collect::<Vec<_>>(),
        ),
        Column::new(
            "sd".into(),
            indices()
                .map(|index| get(index).and_then(|sample| sample.sd))
                .collect::<Vec<_>>(),
        ),
        Column::new(
            "state".into(),
            indices()
                .map(|index| grid.cells[index].as_ref().err().map(String::as_str))
                .collect::<Vec<_>>(),
        ),
    ])
    .map_err(|source| frame::FrameError {
        what: "the heatmap",
        source,
    })?;
    Ok(frame::to_csv(frame)?)
}
