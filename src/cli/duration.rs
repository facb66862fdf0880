//! Durations on the command line: `90s`, `45m`, `1d12h`.

use std::time::Duration;

/// Units, the largest first, in seconds.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// Reads a duration: whole numbers with units, the larger units first. Never zero.
pub fn parse(text: &str) -> Result<Duration, String> {
    let problem = || "a time such as 90s, 45m, 8h or 1d12h is expected".to_owned();
    let mut seconds: u64 = 0;
    let mut units = UNITS.iter();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .ok_or_else(|| format!("`{rest}` has no unit; {}", problem()))?;
        let count: u64 = rest[..end].parse().map_err(|_| problem())?;
        let unit = rest[end..].chars().next().ok_or_else(problem)?;
        let &(_, length) = units.find(|(name, _)| *name == unit).ok_or_else(problem)?;
        seconds = count
            .checked_mul(length)
            .and_then(|more| seconds.checked_add(more))
            .ok_or_else(problem)?;
        rest = &rest[end + unit.len_utf8()..];
    }
    match seconds {
        0 => Err(problem()),
        seconds => Ok(Duration::from_secs(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, seconds) in [
            ("90s", 90),
            ("45m", 2_700),
            ("8h", 28_800),
            ("1d12h", 129_600),
            ("1h0m5s", 3_605),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in [
            "",
            "0s",
            "5",
            "1.5h",
            "h",
            "5m1h",
            "1h1h",
            "-1s",
            "1 h",
            "99999999999999999999s",
            "9999999999999999d",
            "1é",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
