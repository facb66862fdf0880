//! Sizes on the command line: `10GiB`, `512MiB`, `80GB`, or bytes.

/// The number of bytes that `text` names.
pub fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1u64,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => {
            return Err(format!(
                "unknown unit `{unit}`; valid: KiB, MiB, GiB, TiB, KB, MB, GB, TB"
            ));
        }
    };
    let number: f64 = number
        .parse()
        .map_err(|_| "expected a size such as 10GiB".to_owned())?;
    let bytes = number * factor as f64;
    if bytes >= 1.0 && bytes < u64::MAX as f64 {
        Ok(bytes as u64)
    } else {
        Err("expected a size of at least one byte".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse("10GiB"), Ok(10 << 30));
        assert_eq!(parse(" 1.5 gib"), Ok(3 << 29));
        assert_eq!(parse("80GB"), Ok(80_000_000_000));
        assert_eq!(parse("512m"), Ok(512 << 20));
        assert_eq!(parse("4096"), Ok(4096));
        for wrong in ["", "GiB", "10 parsec", "0", "-1", "1e999", "."] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
