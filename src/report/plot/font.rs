//! The font: embedded, measured the same everywhere, and used for the PNG.
//!
//! The SVG names it first and then fonts of the same advance widths (Liberation Sans, Arial,
//! Helvetica), so that a viewer without it still lays the text out as measured here.

use plotters::style::{FontDesc, FontFamily, FontStyle, register_font};
use resvg::usvg::fontdb;
use std::sync::{Arc, LazyLock};

/// Family as the SVG names it.
pub const FAMILY: &str = "Ablate Sans, Liberation Sans, Arial, Helvetica, sans-serif";

static REGULAR: &[u8] = include_bytes!("font/AblateSans-Regular.ttf");
static BOLD: &[u8] = include_bytes!("font/AblateSans-Bold.ttf");

/// Height of the font over its em: ascent 1854 and descent 434 of 2048 units. Plotters measures text
/// at a given height, the rest of the world at a given em.
const HEIGHT: f64 = (1854.0 + 434.0) / 2048.0;

static REGISTERED: LazyLock<bool> = LazyLock::new(|| {
    register_font(FAMILY, FontStyle::Normal, REGULAR).is_ok()
        && register_font(FAMILY, FontStyle::Bold, BOLD).is_ok()
});

/// Width of `text` at `size` (the em), in the unit of `size`.
pub fn width(text: &str, size: f64, bold: bool) -> f64 {
    // Measured large, because plotters rounds down to whole pixels.
    const EM: f64 = 1000.0;
    let style = if bold {
        FontStyle::Bold
    } else {
        FontStyle::Normal
    };
    let measured = REGISTERED
        .then(|| {
            FontDesc::new(FontFamily::Name(FAMILY), EM * HEIGHT, style)
                .layout_box(text)
                .ok()
        })
        .flatten();
    match measured {
        Some(((left, _), (right, _))) => f64::from(right - left) / EM * size,
        // The embedded font is sound (a test loads it); a wide guess rather than a panic.
        None => 0.6 * size * text.chars().count() as f64,
    }
}

/// `text`, cut with an ellipsis where it is wider than `room`.
pub fn elide(text: &str, size: f64, bold: bool, room: f64) -> String {
    if width(text, size, bold) <= room {
        return text.to_owned();
    }
    let characters: Vec<char> = text.chars().collect();
    for kept in (1..characters.len()).rev() {
        let candidate = format!(
            "{}…",
            characters[..kept].iter().collect::<String>().trim_end()
        );
        if width(&candidate, size, bold) <= room {
            return candidate;
        }
    }
    "…".to_owned()
}

/// `text` in at most `lines` lines of width `room`, broken at spaces, commas, hyphens and underscores
/// where it can be; the last line is cut with an ellipsis.
pub fn wrap(text: &str, size: f64, bold: bool, room: f64, lines: usize) -> Vec<String> {
    let mut pieces: Vec<String> = vec![String::new()];
    for c in text.chars() {
        if let Some(piece) = pieces.last_mut() {
            piece.push(c);
        }
        if matches!(c, ' ' | ',' | '-' | '_' | '/' | '+') {
            pieces.push(String::new());
        }
    }
    let mut wrapped: Vec<String> = vec![String::new()];
    for piece in pieces {
        let last = wrapped.len() - 1;
        let joined = format!("{}{piece}", wrapped[last]);
        if wrapped[last].is_empty()
            || wrapped.len() == lines
            || width(joined.trim_end(), size, bold) <= room
        {
            wrapped[last] = joined;
        } else {
            wrapped.push(piece);
        }
    }
    wrapped
        .iter()
        .map(|line| elide(line.trim(), size, bold, room))
        .collect()
}

/// The fonts for the PNG: ours alone, so that a machine's own fonts change nothing.
pub fn database() -> Arc<fontdb::Database> {
    static DATABASE: LazyLock<Arc<fontdb::Database>> = LazyLock::new(|| {
        let mut database = fontdb::Database::new();
        database.load_font_data(REGULAR.to_vec());
        database.load_font_data(BOLD.to_vec());
        database.set_sans_serif_family("Ablate Sans");
        Arc::new(database)
    });
    DATABASE.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_those_of_arial() {
        assert!(*REGISTERED);
        assert_eq!(database().len(), 2);
        // Advance widths in 1/2048 em: 0 is 1139, i 455, W 1933; Helvetica's 556, 222, 944 of 1000.
        assert!((width("0000000000", 10.0, false) - 55.6).abs() < 0.05);
        assert!((width("iiii", 10.0, false) - 8.88).abs() < 0.05);
        assert!((width("W", 10.0, false) - 9.44).abs() < 0.05);
        assert!(width("Wide", 10.0, true) > width("Wide", 10.0, false));
    }

    #[test]
    fn text_is_cut_to_its_room() {
        assert_eq!(elide("short", 10.0, false, 100.0), "short");
        let cut = elide("a label that is much too long", 10.0, false, 60.0);
        assert!(
            cut.ends_with('…') && width(&cut, 10.0, false) <= 60.0,
            "{cut}"
        );
        let lines = wrap("three-augment + color jitter", 10.0, false, 75.0, 2);
        assert_eq!(lines, ["three-augment +", "color jitter"]);
        assert_eq!(elide("anything", 10.0, false, 1.0), "…");
    }
}
