//! Numbers, durations and texts as people read them.

/// Lines of at most `width` characters, broken between words.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// `1 run`, `3 runs`.
pub fn many(count: usize, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{count} {noun}s")
    }
}

/// A number with three digits and a prefix: `4.2 TFLOP`, `12.0 MiB`.
pub fn scaled(value: f64, base: f64, unit: &str) -> String {
    const PREFIXES: [&str; 9] = ["", "k", "M", "G", "T", "P", "E", "Z", "Y"];
    let mut value = value;
    let mut prefix = 0;
    while value >= base && prefix + 1 < PREFIXES.len() {
        value /= base;
        prefix += 1;
    }
    let digits = if prefix == 0 {
        0
    } else if value < 10.0 {
        2
    } else if value < 100.0 {
        1
    } else {
        0
    };
    let binary = if base == 1024.0 && prefix > 0 {
        "i"
    } else {
        ""
    };
    let name = if base == 1024.0 && prefix == 1 {
        "K"
    } else {
        PREFIXES[prefix]
    };
    format!("{value:.digits$} {name}{binary}{unit}")
}

/// `40 s`, `12 min`, `3 h 20 min`, `5 d 2 h`, `12 years`.
pub fn duration(seconds: f64) -> String {
    if seconds < 90.0 {
        return format!("{} s", seconds.ceil());
    }
    let minutes = (seconds / 60.0).round();
    if minutes < 90.0 {
        return format!("{minutes} min");
    }
    if minutes < 48.0 * 60.0 {
        return format!("{} h {} min", (minutes / 60.0).floor(), minutes % 60.0);
    }
    let hours = (seconds / 3600.0).round();
    if hours < 1000.0 * 24.0 {
        return format!("{} d {} h", (hours / 24.0).floor(), hours % 24.0);
    }
    format!("{:.0} years", hours / (365.25 * 24.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(scaled(999.0, 1000.0, "FLOP"), "999 FLOP");
        assert_eq!(scaled(4.2e12, 1000.0, "FLOP"), "4.20 TFLOP");
        assert_eq!(scaled(1536.0, 1024.0, "B"), "1.50 KiB");
        assert_eq!(scaled(123_456_789.0, 1000.0, ""), "123 M");
        assert_eq!(
            [
                duration(0.2),
                duration(300.0),
                duration(7300.0),
                duration(3e5),
                duration(1e9)
            ],
            ["1 s", "5 min", "2 h 2 min", "3 d 11 h", "32 years"]
        );
    }
}
