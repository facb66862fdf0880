//! The frame of a plot with one labelled row per thing and a number along the horizontal axis: labels on the
//! left, light grid, ticks and the axis' words below.

use super::canvas::{Anchor, Canvas, Rect, Text};
use super::font;
use super::scale::{Scale, Tick};
use super::style;

/// Height of a row with one line of text.
const ROW: f64 = 18.0;
/// Added for each further line.
pub(super) const EXTRA_LINE: f64 = 10.5;
/// Space between groups of rows.
const GROUP_GAP: f64 = 7.0;
/// Largest share of the width that labels may take.
const LABELS: f64 = 0.42;
/// Space between a label and the data area.
const LABEL_GAP: f64 = style::GAP + 3.0;

/// The label of a row, wrapped.
pub(super) struct RowLabel {
    lines: Vec<String>,
    bold: bool,
}

impl RowLabel {
    /// Wraps `name` to the room that labels have.
    pub fn new(name: &str, bold: bool) -> Self {
        let name = crate::report::text::clean(name);
        let room = style::WIDTH * LABELS;
        RowLabel {
            lines: font::wrap(&name, style::SMALL_TEXT, bold, room, 2),
            bold,
        }
    }

    fn height(&self) -> f64 {
        ROW + EXTRA_LINE * (self.lines.len() - 1) as f64
    }

    fn width(&self) -> f64 {
        self.lines
            .iter()
            .map(|line| font::width(line, style::SMALL_TEXT, self.bold))
            .fold(0.0, f64::max)
    }
}

/// Where rows, ticks and words lie.
pub(super) struct Rows {
    pub panel: Rect,
    pub scale: Scale,
    pub height: f64,
    /// Top and bottom of each row.
    pub places: Vec<(f64, f64)>,
    ticks: Vec<Tick>,
    tick_y: f64,
    label_y: f64,
}

impl Rows {
    /// Lays out `labels`; `groups[i]` is the group of row `i`, and equal ones stand together. `right_room` is
    /// kept free to the right of the data area.
    pub fn new(labels: &[RowLabel], groups: &[usize], scale: Scale, right_room: f64) -> Self {
        let widest = labels.iter().map(RowLabel::width).fold(0.0, f64::max);
        let left = style::MARGIN + widest + LABEL_GAP;
        let ticks = |scale: Scale| scale.ticks(((style::WIDTH - left) / 42.0) as usize, false);
        let overhang = ticks(scale)
            .last()
            .map_or(0.0, |tick| Text::TICK.width(&tick.label) / 2.0);
        let right = style::WIDTH - style::MARGIN - overhang.max(2.0).max(right_room);
        let scale = scale.over(left, right);
        let top = style::MARGIN;
        let mut y = top;
        let mut places = Vec::with_capacity(labels.len());
        for (index, label) in labels.iter().enumerate() {
            if index > 0 && groups[index] != groups[index - 1] {
                y += GROUP_GAP;
            }
            places.push((y, y + label.height()));
            y += label.height();
        }
        let bottom = y;
        let tick_y = bottom + 4.0 + style::SMALL_TEXT / 2.0;
        let label_y = tick_y + style::SMALL_TEXT / 2.0 + style::GAP + style::TEXT / 2.0;
        Rows {
            panel: Rect {
                left,
                top,
                right,
                bottom,
            },
            ticks: ticks(scale),
            scale,
            height: label_y + style::TEXT / 2.0 + style::MARGIN,
            places,
            tick_y,
            label_y,
        }
    }

    /// Middle of row `index`.
    pub fn middle(&self, index: usize) -> f64 {
        let (top, bottom) = self.places[index];
        (top + bottom) / 2.0
    }

    /// Draws the grid and the labels; the data comes on top of them.
    pub fn draw_grid(&self, canvas: &mut Canvas<'_>, labels: &[RowLabel]) {
        for tick in &self.ticks {
            let x = self.scale.at(tick.value);
            canvas.line(
                (x, self.panel.top),
                (x, self.panel.bottom),
                style::GRID,
                style::GRID_LINE,
            );
            canvas.text(&tick.label, (x, self.tick_y), Anchor::Middle, Text::TICK);
        }
        for (index, label) in labels.iter().enumerate() {
            let setting = Text {
                bold: label.bold,
                ..Text::TICK
            };
            let first = self.middle(index) - EXTRA_LINE * (label.lines.len() - 1) as f64 / 2.0;
            for (number, line) in label.lines.iter().enumerate() {
                canvas.text(
                    line,
                    (
                        self.panel.left - LABEL_GAP,
                        first + EXTRA_LINE * number as f64,
                    ),
                    Anchor::Right,
                    setting,
                );
            }
        }
    }

    /// Draws the axis with its words.
    pub fn draw_axis(&self, canvas: &mut Canvas<'_>, words: &str) {
        let Rect {
            left,
            right,
            bottom,
            ..
        } = self.panel;
        canvas.line(
            (left, bottom),
            (right, bottom),
            style::INK,
            style::AXIS_LINE,
        );
        let label = font::elide(
            words,
            style::TEXT,
            false,
            style::WIDTH - 2.0 * style::MARGIN,
        );
        // Centred under the data, moved where it would reach beyond the figure.
        let half = Text::LABEL.width(&label) / 2.0;
        let middle = ((left + right) / 2.0)
            .min(style::WIDTH - style::MARGIN - half)
            .max(style::MARGIN + half);
        canvas.text(&label, (middle, self.label_y), Anchor::Middle, Text::LABEL);
    }
}

/// Draws an interval from `low` to `high` at height `y`: whiskers at its ends, arrow heads where it runs out of
/// the scale; dotted without whiskers if `dotted`.
pub(super) fn interval(
    canvas: &mut Canvas<'_>,
    scale: &Scale,
    (low, high): (f64, f64),
    y: f64,
    colour: plotters::style::RGBColor,
    dotted: bool,
) {
    let (from, to) = (scale.clamp(low), scale.clamp(high));
    let dash = dotted.then_some((1.6, 1.6));
    canvas.path(
        &[(scale.at(from), y), (scale.at(to), y)],
        colour,
        style::DATA_LINE,
        dash,
    );
    for (bound, shown) in [(low, from), (high, to)] {
        let x = scale.at(shown);
        if !scale.shows(bound) {
            let inward = if bound < shown { 4.0 } else { -4.0 };
            canvas.area(
                &[(x, y), (x + inward, y - 2.2), (x + inward, y + 2.2)],
                colour,
                1.0,
            );
        } else if !dotted {
            canvas.line((x, y - 2.2), (x, y + 2.2), colour, style::DATA_LINE);
        }
    }
}
