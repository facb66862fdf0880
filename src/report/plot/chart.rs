//! A chart with numeric axes: margins measured from the text, light grid, labels with units.

use super::canvas::{Anchor, Canvas, Rect, Text};
use super::font;
use super::legend::Legend;
use super::scale::{Scale, Tick};
use super::style;

/// An axis before it is placed.
#[derive(Debug, Clone)]
pub struct Axis {
    /// What it shows, with its unit.
    pub label: String,
    pub scale: Scale,
    pub ticks: Vec<Tick>,
}

/// Where everything of a chart lies.
#[derive(Debug, Clone)]
pub struct Chart {
    pub width: f64,
    pub height: f64,
    /// The data area.
    pub panel: Rect,
    pub x: Axis,
    pub y: Axis,
    legend: Option<Legend>,
    legend_top: f64,
}

/// Space between a tick label and the axis.
const TICK_GAP: f64 = 4.0;

impl Chart {
    /// Lays a chart out: one column wide, with a data area of the house's height. `entries` make its legend.
    pub fn new(x: Axis, y: Axis, entries: Vec<(String, super::style::Look)>) -> Self {
        let width = style::WIDTH;
        let text_height = style::TEXT;
        let y_ticks = y
            .ticks
            .iter()
            .map(|tick| Text::TICK.width(&tick.label))
            .fold(0.0, f64::max);
        let left = style::MARGIN + text_height + style::GAP + y_ticks + TICK_GAP;
        // A last tick label at the right end reaches beyond the data area by half its width.
        let overhang = x
            .ticks
            .last()
            .map_or(0.0, |tick| Text::TICK.width(&tick.label) / 2.0);
        let right = width - style::MARGIN - overhang.max(2.0);
        let top = style::MARGIN + style::SMALL_TEXT / 2.0;
        let bottom = top + style::PANEL_HEIGHT;
        let panel = Rect {
            left,
            top,
            right,
            bottom,
        };
        let label_bottom = bottom + TICK_GAP + style::SMALL_TEXT + style::GAP + text_height;
        let legend = (entries.len() > 1).then(|| Legend::new(entries, width - 2.0 * style::MARGIN));
        let legend_top = label_bottom + style::GAP + 2.0;
        let height = match &legend {
            Some(legend) => legend_top + legend.height() + style::MARGIN,
            None => label_bottom + style::MARGIN,
        };
        let x = Axis {
            scale: x.scale.over(left, right),
            ..x
        };
        let y = Axis {
            scale: y.scale.over(bottom, top),
            ..y
        };
        Chart {
            width,
            height,
            panel,
            x,
            y,
            legend,
            legend_top,
        }
    }

    /// Draws grid, axes, labels and legend; the data comes on top of it.
    pub fn draw(&self, canvas: &mut Canvas<'_>) {
        let Rect {
            left,
            top,
            right,
            bottom,
        } = self.panel;
        for tick in &self.y.ticks {
            let y = self.y.scale.at(tick.value);
            canvas.line((left, y), (right, y), style::GRID, style::GRID_LINE);
            canvas.text(&tick.label, (left - TICK_GAP, y), Anchor::Right, Text::TICK);
        }
        let tick_y = bottom + TICK_GAP + style::SMALL_TEXT / 2.0;
        let mut free = f64::NEG_INFINITY;
        for tick in &self.x.ticks {
            let x = self.x.scale.at(tick.value);
            canvas.line((x, top), (x, bottom), style::GRID, style::GRID_LINE);
            let half = Text::TICK.width(&tick.label) / 2.0;
            // Where values lie too close for all labels, the grid line stays and its label goes.
            if x - half > free {
                canvas.text(&tick.label, (x, tick_y), Anchor::Middle, Text::TICK);
                free = x + half + 3.0;
            }
        }
        canvas.line(
            (left, bottom),
            (right, bottom),
            style::INK,
            style::AXIS_LINE,
        );
        canvas.line((left, top), (left, bottom), style::INK, style::AXIS_LINE);
        let x_label = font::elide(&self.x.label, style::TEXT, false, self.panel.width());
        let label_y = tick_y + style::SMALL_TEXT / 2.0 + style::GAP + style::TEXT / 2.0;
        canvas.text(
            &x_label,
            ((left + right) / 2.0, label_y),
            Anchor::Middle,
            Text::LABEL,
        );
        let y_label = font::elide(
            &self.y.label,
            style::TEXT,
            false,
            self.panel.height() + style::TEXT,
        );
        let label_x = style::MARGIN + style::TEXT / 2.0;
        canvas.text(
            &y_label,
            (label_x, (top + bottom) / 2.0),
            Anchor::Upward,
            Text::LABEL,
        );
        if let Some(legend) = &self.legend {
            legend.draw(canvas, style::MARGIN, self.legend_top);
        }
    }
}
