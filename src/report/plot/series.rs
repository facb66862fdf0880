//! What several kinds of plot share: words, names of files, ranges.

use super::scale::{Scale, extent};
use crate::report::statistics::Interval;

/// `text` as part of a file's name: lower-case ASCII letters, digits, `-` and `_`.
pub fn file_part(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            'a'..='z' | '0'..='9' | '_' => out.push(c),
            'A'..='Z' => out.push(c.to_ascii_lowercase()),
            _ if out.ends_with('-') || out.is_empty() => {}
            _ => out.push('-'),
        }
    }
    out.trim_end_matches('-').to_owned()
}

/// A scale for `values` with their intervals, each with its n. The interval of two runs, which may be
/// twelve times as wide as their distance, is let run out of the plot instead of pressing everything else
/// together.
pub fn scale_for(
    values: &[f64],
    intervals: impl IntoIterator<Item = (Interval, usize)>,
) -> Option<Scale> {
    let (low, high) = extent(values.iter().copied())?;
    let span = if high > low {
        high - low
    } else {
        (low.abs() * 0.02).max(1e-6)
    };
    let (mut from, mut to) = (low, high);
    for (interval, n) in intervals {
        let room = if n == 2 { 0.5 * span } else { f64::INFINITY };
        from = from.min(interval.low.max(low - room));
        to = to.max(interval.high.min(high + room));
    }
    Some(Scale::linear(from, to).padded(0.05))
}

/// `n = 3`, or `n = 2 to 3`.
pub fn n_words(counts: impl IntoIterator<Item = usize>) -> String {
    let (least, most) = counts
        .into_iter()
        .fold((usize::MAX, 0), |(least, most), n| {
            (least.min(n), most.max(n))
        });
    if least >= most {
        format!("n = {most}")
    } else {
        format!("n = {least} to {most}")
    }
}
