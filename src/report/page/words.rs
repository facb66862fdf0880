//! Times, sizes and counts in words.

/// `43 s`, `12 min 5 s`, `3 h 20 min`.
pub fn duration(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600..172_800 => format!("{} h {} min", whole / 3600, whole / 60 % 60),
        _ => format!("{:.1} days", seconds / 86_400.0),
    }
}

/// Three significant digits and an SI prefix: `2.31 P`, to be followed by a unit.
pub fn si(value: f64) -> String {
    const PREFIXES: [(f64, &str); 7] = [
        (1e21, "Z"),
        (1e18, "E"),
        (1e15, "P"),
        (1e12, "T"),
        (1e9, "G"),
        (1e6, "M"),
        (1e3, "k"),
    ];
    let found = PREFIXES.into_iter().find(|(factor, _)| value >= *factor);
    let (factor, prefix) = found.unwrap_or((1.0, ""));
    let scaled = value / factor;
    let decimals = match scaled {
        scaled if scaled >= 99.95 => 0,
        scaled if scaled >= 9.995 => 1,
        _ => 2,
    };
    format!("{scaled:.decimals$} {prefix}")
}

/// Bytes in MiB or GiB.
pub fn bytes(bytes: u64) -> String {
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    if mebibytes < 1024.0 {
        format!("{mebibytes:.0} MiB")
    } else {
        format!("{:.1} GiB", mebibytes / 1024.0)
    }
}

/// `1 run`, `3 runs`.
pub fn count(n: usize, what: &str) -> String {
    if n == 1 {
        format!("1 {what}")
    } else {
        format!("{n} {what}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_in_words() {
        assert_eq!(duration(3.21), "3.2 s");
        assert_eq!(duration(59.7), "1 min 0 s");
        assert_eq!(duration(3_725.0), "1 h 2 min");
        assert_eq!(duration(200_000.0), "2.3 days");
        assert_eq!(si(2.314e15), "2.31 P");
        assert_eq!(si(209_545.0), "210 k");
        assert_eq!(si(12.0), "12.0 ");
        assert_eq!(bytes(150 << 20), "150 MiB");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
        assert_eq!(
            (count(1, "run"), count(3, "run")),
            ("1 run".into(), "3 runs".into())
        );
    }
}
