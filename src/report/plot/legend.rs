//! The legend: below the plot, in as many columns as fit.

use super::canvas::{Anchor, Canvas, Text};
use super::font;
use super::style::{self, Look};

/// Length of a sample of the line.
const SAMPLE: f64 = 20.0;
const LINE_HEIGHT: f64 = 13.0;
/// Space between columns.
const BETWEEN: f64 = 12.0;

/// Entries, laid out for a width.
#[derive(Debug, Clone)]
pub struct Legend {
    entries: Vec<(String, Look)>,
    columns: usize,
    /// Width of each column's text.
    widths: Vec<f64>,
}

impl Legend {
    /// Lays `entries` out within `room`; labels wider than that are cut.
    pub fn new(entries: Vec<(String, Look)>, room: f64) -> Self {
        let setting = Text::TICK;
        let one = room - SAMPLE - style::GAP;
        let entries: Vec<(String, Look)> = entries
            .into_iter()
            .map(|(label, look)| {
                let label = crate::report::text::clean(&label);
                (font::elide(&label, setting.size, setting.bold, one), look)
            })
            .collect();
        let measured: Vec<f64> = entries
            .iter()
            .map(|(label, _)| setting.width(label))
            .collect();
        let most = entries.len().clamp(1, 4);
        let (columns, widths) = (1..=most)
            .rev()
            .map(|columns| {
                let rows = entries.len().div_ceil(columns).max(1);
                // Filled column by column, so that neighbours in the plan stay together.
                let widths: Vec<f64> = measured
                    .chunks(rows)
                    .map(|column| column.iter().copied().fold(0.0, f64::max))
                    .collect();
                (columns, widths)
            })
            .find(|(columns, widths)| {
                let text: f64 = widths.iter().sum();
                *columns == 1
                    || text
                        + widths.len() as f64 * (SAMPLE + style::GAP)
                        + widths.len().saturating_sub(1) as f64 * BETWEEN
                        <= room
            })
            .unwrap_or((1, vec![one]));
        Legend {
            entries,
            columns,
            widths,
        }
    }

    fn rows(&self) -> usize {
        self.entries.len().div_ceil(self.columns)
    }

    /// Height that it takes.
    pub fn height(&self) -> f64 {
        self.rows() as f64 * LINE_HEIGHT
    }

    /// Draws it with its upper left at `left`, `top`.
    pub fn draw(&self, canvas: &mut Canvas<'_>, left: f64, top: f64) {
        let rows = self.rows().max(1);
        for (position, (label, look)) in self.entries.iter().enumerate() {
            let column = position / rows;
            let before: f64 = self.widths[..column]
                .iter()
                .map(|width| width + SAMPLE + style::GAP + BETWEEN)
                .sum();
            let x = left + before;
            let y = top + (position % rows) as f64 * LINE_HEIGHT + LINE_HEIGHT / 2.0;
            if look.joined {
                canvas.path(
                    &[(x, y), (x + SAMPLE, y)],
                    look.colour,
                    style::DATA_LINE,
                    look.dash,
                );
            }
            canvas.mark((x + SAMPLE / 2.0, y), look);
            canvas.text(
                label,
                (x + SAMPLE + style::GAP, y),
                Anchor::Left,
                Text::TICK,
            );
        }
    }
}
