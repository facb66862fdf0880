//! `augment.policy`: the notation of augmentation policies, as timm writes them.
//!
//! | text | policy |
//! | --- | --- |
//! | `none` | no operation |
//! | `three_augment` | 3-Augment (DeiT III) |
//! | `rand-m9-mstd0.5-inc1` | RandAugment |
//! | `original-mstd0.5`, `originalr`, `v0`, `v0r` | AutoAugment with one of timm's tables; `autoaugment` is `original` |
//! | `trivialaugment` | TrivialAugment Wide |
//!
//! Here stands what a text means; what a policy draws stands with the transforms.

use super::problem::nearest;

/// A parsed policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Policy {
    /// No operation.
    None,
    /// One of the recipe's 3-Augment operations.
    ThreeAugment,
    RandAugment(RandAugment),
    AutoAugment(AutoAugment),
    /// TrivialAugment Wide.
    TrivialAugment,
}

impl Policy {
    /// Whether colour jitter is used beside it: timm leaves it out with every policy but
    /// 3-Augment.
    pub fn keeps_color_jitter(self) -> bool {
        matches!(self, Policy::None | Policy::ThreeAugment)
    }
}

/// The parameters of RandAugment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RandAugment {
    /// Mean magnitude, 0 to 10.
    pub magnitude: f64,
    /// Standard deviation of the magnitude.
    pub magnitude_std: f64,
    /// Operations drawn per image.
    pub num_ops: usize,
    /// Probability that a drawn operation is applied.
    pub prob: f64,
    /// Whether every operation gets stronger with the magnitude.
    pub increasing: bool,
}

/// The parameters of AutoAugment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AutoAugment {
    /// The table of sub-policies.
    pub table: AutoAugmentTable,
    /// Standard deviation of the magnitude; 0: the table's.
    pub magnitude_std: f64,
}

/// timm's tables of 25 sub-policies, all searched on ImageNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoAugmentTable {
    /// `original`: that of the paper (arXiv 1805.09501, table 9); posterize keeps 4 to 8 bits.
    Original,
    /// `originalr`: the same, posterize keeps fewer bits the larger the magnitude.
    OriginalR,
    /// `v0`: that of EfficientNet's TPU code; posterize keeps 0 to 4 bits.
    V0,
    /// `v0r`: the same, posterize keeps fewer bits the larger the magnitude.
    V0R,
}

/// Examples to offer in error messages.
pub const HELP: &str = "write `none`, `three_augment`, `autoaugment`, `trivialaugment`, or RandAugment \
     or AutoAugment as timm does, such as `rand-m9-mstd0.5-inc1` or `original-mstd0.5`";

/// Regular expression of the texts that [`parse`] takes, for the JSON Schema; ranges are left to the
/// parser.
pub const PATTERN: &str = "^(none|three_augment|trivialaugment|rand(-(m|n|p|mstd|inc)[0-9.]+)*|\
     (autoaugment|originalr?|v0r?)(-mstd[0-9.]+)?)$";

const LARGEST_MAGNITUDE: f64 = 10.0;

/// timm draws magnitudes uniformly above this, which is not built.
const LARGEST_STD: f64 = 100.0;

/// Operations that RandAugment chooses from.
const RAND_OPS: f64 = 15.0;

/// The policy that `text` names. The error says what is wrong with it, and what to write instead.
///
/// `inc0` is refused: timm 0.3.2, which the reference pins, reads it as the increasing list, later
/// versions do not. So are `w`, `t` and `mmax`, which change the distribution in ways that are not
/// built.
pub fn parse(text: &str) -> Result<Policy, (String, String)> {
    match text {
        "none" => return Ok(Policy::None),
        "three_augment" => return Ok(Policy::ThreeAugment),
        "trivialaugment" => return Ok(Policy::TrivialAugment),
        _ => {}
    }
    let mut parts = text.split('-');
    let result = match parts.next().unwrap_or_default() {
        "rand" => rand_augment(parts).map(Policy::RandAugment),
        "autoaugment" | "original" => auto_augment(AutoAugmentTable::Original, parts),
        "originalr" => auto_augment(AutoAugmentTable::OriginalR, parts),
        "v0" => auto_augment(AutoAugmentTable::V0, parts),
        "v0r" => auto_augment(AutoAugmentTable::V0R, parts),
        _ => {
            let why = format!("`{text}` is no augmentation policy");
            return Err((why, advice(text)));
        }
    };
    result.map_err(|(why, advice)| (format!("`{text}`: {why}"), advice))
}

fn advice(text: &str) -> String {
    // Names by which other programs and papers know them.
    let plain = text.to_lowercase().replace(['_', '-', ' '], "");
    let meant = match plain.as_str() {
        "3augment" | "3a" | "threeaugment" => Some("three_augment"),
        "autoaug" | "aa" | "autoaugment" | "imagenet" => Some("autoaugment"),
        "trivialaugmentwide" | "ta" | "tawide" | "trivialaugment" => Some("trivialaugment"),
        "randaugment" | "randaug" | "ra" => Some("rand-m9-mstd0.5-inc1"),
        _ => nearest(
            text,
            [
                "none",
                "three_augment",
                "autoaugment",
                "trivialaugment",
                "original",
                "originalr",
            ],
        ),
    };
    meant.map_or(HELP.to_owned(), |name| format!("did you mean `{name}`?"))
}

fn rand_augment<'a>(parts: impl Iterator<Item = &'a str>) -> Result<RandAugment, (String, String)> {
    const KNOWN: &str = "known parts of RandAugment: mN (magnitude, 0 to 10), nN (operations per image), \
                         pX (probability of each), mstdX (standard deviation of the magnitude), inc1 \
                         (increasing list); an example: `rand-m9-mstd0.5-inc1`";
    let mut policy = RandAugment {
        magnitude: LARGEST_MAGNITUDE,
        magnitude_std: 0.0,
        num_ops: 2,
        prob: 0.5,
        increasing: false,
    };
    read_parts(parts, KNOWN, |key, value| {
        let number = || value.ok_or("a number is expected after the letters");
        match key {
            "m" => {
                policy.magnitude =
                    up_to(LARGEST_MAGNITUDE, number()?, "magnitudes go from 0 to 10")?
            }
            "mstd" => {
                let why = "standard deviations go from 0 to 100";
                policy.magnitude_std = up_to(LARGEST_STD, number()?, why)?;
            }
            "n" => {
                let why = "a whole number from 1 to 15 is expected";
                let n = up_to(RAND_OPS, number()?, why)?;
                if n < 1.0 || n.fract() != 0.0 {
                    return Err(why);
                }
                policy.num_ops = n as usize;
            }
            "p" => policy.prob = up_to(1.0, number()?, "probabilities go from 0 to 1")?,
            "inc" if value == Some(1.0) => policy.increasing = true,
            "inc" => return Err("write `inc1`, or leave it out"),
            "mmax" => return Err("magnitudes are always clipped to [0, 10]"),
            "w" | "t" | "tweights" => return Err("weighted choice is not supported"),
            _ => return Err("not known"),
        }
        Ok(())
    })?;
    Ok(policy)
}

fn auto_augment<'a>(
    table: AutoAugmentTable,
    parts: impl Iterator<Item = &'a str>,
) -> Result<Policy, (String, String)> {
    const KNOWN: &str = "the only part of AutoAugment is mstdX (standard deviation of the magnitude); an \
                         example: `original-mstd0.5`";
    let mut magnitude_std = 0.0;
    read_parts(parts, KNOWN, |key, value| {
        if key != "mstd" {
            return Err("not known");
        }
        let number = value.ok_or("a number is expected after the letters")?;
        magnitude_std = up_to(LARGEST_STD, number, "standard deviations go from 0 to 100")?;
        Ok(())
    })?;
    Ok(Policy::AutoAugment(AutoAugment {
        table,
        magnitude_std,
    }))
}

fn up_to(largest: f64, number: f64, why: &'static str) -> Result<f64, &'static str> {
    if number <= largest {
        Ok(number)
    } else {
        Err(why)
    }
}

/// Splits each part into letters and number (`None` where there is none) and hands them to `read`.
fn read_parts<'a>(
    parts: impl Iterator<Item = &'a str>,
    known: &str,
    mut read: impl FnMut(&str, Option<f64>) -> Result<(), &'static str>,
) -> Result<(), (String, String)> {
    let mut seen: Vec<&str> = Vec::new();
    for part in parts {
        let split = part
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(part.len());
        let (key, value) = part.split_at(split);
        let plain = value.chars().all(|c| c.is_ascii_digit() || c == '.');
        let number = value.parse::<f64>().ok().filter(|_| plain);
        let result = if seen.contains(&key) {
            Err("given twice")
        } else {
            read(key, number)
        };
        result.map_err(|why| (format!("part `{part}`: {why}"), known.to_owned()))?;
        seen.push(key);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notation() {
        let expected = RandAugment {
            magnitude: 9.0,
            magnitude_std: 0.5,
            num_ops: 2,
            prob: 0.5,
            increasing: true,
        };
        assert_eq!(
            parse("rand-m9-mstd0.5-inc1"),
            Ok(Policy::RandAugment(expected))
        );
        let Ok(Policy::RandAugment(policy)) = parse("rand-n3-m7-p0.25") else {
            panic!("not RandAugment");
        };
        assert_eq!(
            (policy.num_ops, policy.prob, policy.increasing),
            (3, 0.25, false)
        );
        for (text, table, magnitude_std) in [
            ("autoaugment", AutoAugmentTable::Original, 0.0),
            ("original", AutoAugmentTable::Original, 0.0),
            ("original-mstd0.5", AutoAugmentTable::Original, 0.5),
            ("originalr", AutoAugmentTable::OriginalR, 0.0),
            ("v0-mstd1", AutoAugmentTable::V0, 1.0),
            ("v0r", AutoAugmentTable::V0R, 0.0),
        ] {
            let expected = AutoAugment {
                table,
                magnitude_std,
            };
            assert_eq!(parse(text), Ok(Policy::AutoAugment(expected)), "{text}");
        }
        assert_eq!(parse("trivialaugment"), Ok(Policy::TrivialAugment));
    }

    #[test]
    fn errors_name_the_part() {
        for (text, part) in [
            ("rand-m11", "`m11`"),
            ("rand-m9-mst0.5", "`mst0.5`"),
            ("rand-m9-inc0", "`inc0`"),
            ("rand-m9-m8", "`m8`"),
            ("rand-mnan", "`mnan`"),
            ("rand-m-1", "`m`"),
            ("rand-n0", "`n0`"),
            ("rand-n1.5", "`n1.5`"),
            ("rand-p2", "`p2`"),
            ("rand-", "``"),
            ("rand-m9-mmax20", "`mmax20`"),
            ("rand-m1e1", "`m1e1`"),
            ("rand-tweights", "`tweights`"),
        ] {
            let (why, advice) = parse(text).unwrap_err();
            assert!(
                why.contains(part) && advice.contains("mstdX"),
                "{why}; {advice}"
            );
        }
        for (text, part) in [
            ("original-m9", "`m9`"),
            ("v0-mstd", "`mstd`"),
            ("v0-mstd101", "`mstd101`"),
            ("autoaugment-mstd1-mstd2", "`mstd2`"),
        ] {
            let (why, advice) = parse(text).unwrap_err();
            assert!(
                why.contains(part) && advice.contains("AutoAugment"),
                "{why}; {advice}"
            );
        }
        for (text, meant) in [
            ("TrivialAugmentWide", "trivialaugment"),
            ("auto_augment", "autoaugment"),
            ("trivialaugmet", "trivialaugment"),
            ("3-augment", "three_augment"),
            ("RandAugment", "rand-m9-mstd0.5-inc1"),
            ("orginal", "original"),
        ] {
            let (_, advice) = parse(text).unwrap_err();
            assert_eq!(advice, format!("did you mean `{meant}`?"));
        }
        assert_eq!(parse("augmix-m3").unwrap_err().1, HELP);
    }
}
