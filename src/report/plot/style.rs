//! The house style: sizes, colours, marks. All lengths are CSS pixels (96 to the inch).

use plotters::style::RGBColor;

/// One column of a paper: 3.25 inches.
pub const WIDTH: f64 = 312.0;
/// Height of a plot's data area.
pub const PANEL_HEIGHT: f64 = 160.0;
/// 8 pt.
pub const TEXT: f64 = 10.6;
/// 7 pt, for tick labels.
pub const SMALL_TEXT: f64 = 9.3;
/// Space around the whole figure.
pub const MARGIN: f64 = 5.0;
/// Space between things that belong together.
pub const GAP: f64 = 4.0;

/// Widths of lines.
pub const GRID_LINE: f64 = 0.6;
pub const AXIS_LINE: f64 = 0.8;
pub const DATA_LINE: f64 = 1.3;
/// Radius of a mark.
pub const MARK: f64 = 2.7;
/// Opacity of a band.
pub const BAND: f64 = 0.16;

pub const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
pub const FAINT_INK: RGBColor = RGBColor(0x76, 0x76, 0x76);
pub const GRID: RGBColor = RGBColor(0xE4, 0xE4, 0xE4);
/// A line under others.
pub const GRID_BOLD: RGBColor = RGBColor(0xB4, 0xB4, 0xB4);
pub const PAPER: RGBColor = RGBColor(0xFF, 0xFF, 0xFF);

/// Okabe and Ito's palette, told apart with every common form of colour blindness; without its yellow,
/// which is too light for lines on white, and with black kept for the baseline.
const PALETTE: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x56, 0xB4, 0xE9),
];

/// Shapes that tell series apart without colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Circle,
    Square,
    Triangle,
    TriangleDown,
    Cross,
    Plus,
    Star,
    /// The baseline's, in every plot.
    Diamond,
}

/// One more than colours, so that a colour comes back with another mark.
const MARKS: [Mark; 7] = [
    Mark::Circle,
    Mark::Square,
    Mark::Triangle,
    Mark::TriangleDown,
    Mark::Cross,
    Mark::Plus,
    Mark::Star,
];

/// Dash and gap; `None`: solid.
pub type Dash = Option<(f64, f64)>;

const DASHES: [Dash; 4] = [None, Some((5.0, 2.2)), Some((1.6, 1.8)), Some((9.0, 2.2))];

/// How one series looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    pub colour: RGBColor,
    pub mark: Mark,
    pub dash: Dash,
    /// Whether the marks are joined.
    pub joined: bool,
}

impl Look {
    /// The look of series `index`: colours first, then dashes, with another mark each.
    pub fn of(index: usize) -> Self {
        Look {
            colour: PALETTE[index % PALETTE.len()],
            mark: MARKS[index % MARKS.len()],
            dash: DASHES[(index / PALETTE.len()) % DASHES.len()],
            joined: true,
        }
    }

    /// The look of the one variant that all others are compared with.
    pub fn baseline() -> Self {
        Look {
            colour: INK,
            mark: Mark::Diamond,
            dash: None,
            joined: true,
        }
    }

    /// The look of published numbers beside ours.
    pub fn published() -> Self {
        Look {
            colour: FAINT_INK,
            mark: Mark::Cross,
            dash: Some((1.6, 1.8)),
            joined: true,
        }
    }

    /// Looks of `count` series, of which `baseline` may be the baseline.
    pub fn all(count: usize, baseline: Option<usize>) -> Vec<Self> {
        let mut next = 0;
        (0..count)
            .map(|index| {
                if Some(index) == baseline {
                    return Look::baseline();
                }
                next += 1;
                Look::of(next - 1)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without colour: by the mark, or by the dash of the line.
    #[test]
    fn series_differ_in_mark_or_dash() {
        for baseline in [None, Some(0), Some(3)] {
            let looks = Look::all(24, baseline);
            for (index, a) in looks.iter().enumerate() {
                for b in &looks[..index] {
                    assert!(a.mark != b.mark || a.dash != b.dash, "{a:?} and {b:?}");
                }
                if Some(index) == baseline {
                    assert!(looks.iter().filter(|b| b.mark == a.mark).count() == 1);
                }
            }
        }
    }
}
