//! Durations as people write them: `90s`, `10m`, `1h30m`, `2d`.

use std::time::Duration;

/// What to write instead of a text that is no duration.
pub const HINT: &str = "write a number and a unit, for example `90s`, `10m`, `1h30m` or `2d`";

/// Longest duration that is taken: a hundred years.
const LONGEST: f64 = 100.0 * 365.0 * 86_400.0;

/// The duration that `text` names; `None` if it is none. A number without a unit counts seconds.
pub fn parse(text: &str) -> Option<Duration> {
    let text = text.trim();
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        let letters = rest[digits..]
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(rest.len() - digits);
        let unit = match &rest[digits..digits + letters] {
            "ms" => 1e-3,
            "s" => 1.0,
            "" if digits == text.len() => 1.0,
            "m" | "min" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        seconds += number * unit;
        rest = &rest[digits + letters..];
    }
    let usable = !text.is_empty() && seconds > 0.0 && seconds <= LONGEST;
    usable.then(|| Duration::from_secs_f64(seconds))
}

/// [`parse`] for the command line.
pub fn parse_argument(text: &str) -> Result<Duration, String> {
    parse(text).ok_or_else(|| HINT.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notation() {
        for (text, seconds) in [
            ("90", 90.0),
            ("90s", 90.0),
            ("0.2s", 0.2),
            ("250ms", 0.25),
            ("10m", 600.0),
            ("1h30m", 5400.0),
            ("2d", 172_800.0),
            (" 1.5h ", 5400.0),
        ] {
            assert_eq!(
                parse(text),
                Some(Duration::from_secs_f64(seconds)),
                "{text}"
            );
        }
        for text in [
            "",
            "s",
            "1x",
            "-1s",
            "0",
            "1h30",
            "1e3",
            "10 m",
            "nan",
            "1..2s",
            "99999999d",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
