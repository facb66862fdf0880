//! RandAugment as timm writes and draws it (`rand-m9-mstd0.5-inc1`).
//!
//! `n` operations (2 unless `-nN` says otherwise) are drawn with replacement from 15 (the paper of
//! RandAugment has 14; timm adds SolarizeAdd), each is applied with probability 1/2, at a magnitude
//! drawn anew for each from a normal distribution around `m`, clipped to [0, 10]. `-inc1` selects
//! the list in which every operation gets stronger with the magnitude.

use super::DataError;
use super::ops::Op;
use crate::rng::KeyedRng;

const MAX_LEVEL: f64 = 10.0;

/// Probability that a drawn operation is applied.
const APPLY: f64 = 0.5;

/// The operations, in timm's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the field's own
pub enum RandOp {
    AutoContrast,
    Equalize,
    Invert,
    Rotate,
    Posterize,
    Solarize,
    SolarizeAdd,
    Color,
    Contrast,
    Brightness,
    Sharpness,
    ShearX,
    ShearY,
    TranslateXRel,
    TranslateYRel,
}

impl RandOp {
    /// All of them.
    pub const ALL: [RandOp; 15] = [
        RandOp::AutoContrast,
        RandOp::Equalize,
        RandOp::Invert,
        RandOp::Rotate,
        RandOp::Posterize,
        RandOp::Solarize,
        RandOp::SolarizeAdd,
        RandOp::Color,
        RandOp::Contrast,
        RandOp::Brightness,
        RandOp::Sharpness,
        RandOp::ShearX,
        RandOp::ShearY,
        RandOp::TranslateXRel,
        RandOp::TranslateYRel,
    ];

    /// The operation at magnitude `level` (0 to 10). `negative` flips the sign of arguments that
    /// have one; `increasing` selects timm's increasing list.
    pub fn at(self, level: f64, increasing: bool, negative: bool) -> Op {
        let part = level / MAX_LEVEL;
        let signed = |value: f64| if negative { -value } else { value };
        let factor = || {
            if increasing {
                1.0 + signed(part * 0.9)
            } else {
                part * 1.8 + 0.1
            }
            .max(0.0) as f32
        };
        match self {
            RandOp::AutoContrast => Op::AutoContrast,
            RandOp::Equalize => Op::Equalize,
            RandOp::Invert => Op::Invert,
            RandOp::Rotate => Op::Rotate(signed(part * 30.0)),
            RandOp::Posterize => {
                let bits = (part * 4.0) as u8;
                Op::Posterize(if increasing {
                    4u8.saturating_sub(bits)
                } else {
                    bits
                })
            }
            RandOp::Solarize => {
                let threshold = (part * 256.0) as u16;
                Op::Solarize(if increasing {
                    256u16.saturating_sub(threshold)
                } else {
                    threshold
                })
            }
            RandOp::SolarizeAdd => Op::SolarizeAdd((part * 110.0) as u8),
            RandOp::Color => Op::Saturation(factor()),
            RandOp::Contrast => Op::Contrast(factor()),
            RandOp::Brightness => Op::Brightness(factor()),
            RandOp::Sharpness => Op::Sharpness(factor()),
            RandOp::ShearX => Op::ShearX(signed(part * 0.3)),
            RandOp::ShearY => Op::ShearY(signed(part * 0.3)),
            RandOp::TranslateXRel => Op::TranslateXRel(signed(part * 0.45)),
            RandOp::TranslateYRel => Op::TranslateYRel(signed(part * 0.45)),
        }
    }
}

/// A parsed RandAugment string.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RandAugment {
    /// Mean magnitude, 0 to 10.
    pub magnitude: f64,
    /// Standard deviation of the magnitude.
    pub magnitude_std: f64,
    /// Operations drawn per image.
    pub num_ops: usize,
    /// Whether every operation gets stronger with the magnitude.
    pub increasing: bool,
}

const KNOWN: &str = "known parts: mN (magnitude, 0 to 10), nN (operations per image), mstdX \
                     (standard deviation of the magnitude), inc1 (increasing list); an example: \
                     rand-m9-mstd0.5-inc1";

impl RandAugment {
    /// Parses timm's notation.
    ///
    /// # Errors
    /// The part that is not understood, and what is. `inc0` is refused: timm reads any `incN`,
    /// `inc0` too, as the increasing list. So are `w` and `mmax`, which change the distribution in
    /// ways that are not built.
    pub fn parse(text: &str) -> Result<RandAugment, DataError> {
        let bad = |part: &str, why: &str| {
            let message = format!("`{text}`: part `{part}`: {why}; {KNOWN}");
            DataError::config("augment.policy", message)
        };
        let mut parts = text.split('-');
        let head = parts.next().unwrap_or("");
        if head != "rand" {
            return Err(bad(head, "a RandAugment policy begins with `rand`"));
        }
        let mut policy = RandAugment {
            magnitude: 10.0,
            magnitude_std: 0.0,
            num_ops: 2,
            increasing: false,
        };
        let mut seen: Vec<&str> = Vec::new();
        for part in parts {
            let digits = part
                .find(|c: char| !c.is_ascii_alphabetic())
                .unwrap_or(part.len());
            let (key, value) = part.split_at(digits);
            if seen.contains(&key) {
                return Err(bad(part, "given twice"));
            }
            seen.push(key);
            let number = || {
                let number = value
                    .parse::<f64>()
                    .ok()
                    .filter(|v| v.is_finite() && *v >= 0.0);
                number.ok_or_else(|| bad(part, "a number is expected after the letters"))
            };
            match key {
                "m" => {
                    policy.magnitude = number()?;
                    if policy.magnitude > MAX_LEVEL {
                        return Err(bad(part, "magnitudes go from 0 to 10"));
                    }
                }
                "mstd" => {
                    policy.magnitude_std = number()?;
                    if policy.magnitude_std > MAX_LEVEL {
                        return Err(bad(part, "standard deviations go from 0 to 10"));
                    }
                }
                "n" => {
                    policy.num_ops = match value.parse() {
                        Ok(n @ 1..=15) => n,
                        _ => return Err(bad(part, "an integer from 1 to 15 is expected")),
                    };
                }
                "inc" if number()? == 1.0 => policy.increasing = true,
                "inc" => return Err(bad(part, "write `inc1`, or leave it out")),
                "mmax" => return Err(bad(part, "magnitudes are always clipped to [0, 10]")),
                "w" => return Err(bad(part, "weighted choice is not supported")),
                _ => return Err(bad(part, "not known")),
            }
        }
        Ok(policy)
    }

    /// Draws the operations of one image, in order; none, some or all of `num_ops`.
    pub fn draw(&self, rng: &mut KeyedRng) -> Vec<Op> {
        let mut ops = Vec::with_capacity(self.num_ops);
        for _ in 0..self.num_ops {
            let op = RandOp::ALL[rng.below(RandOp::ALL.len() as u64) as usize];
            if !rng.chance(APPLY) {
                continue;
            }
            let level = self.magnitude + self.magnitude_std * rng.normal();
            let negative = rng.chance(0.5);
            ops.push(op.at(level.clamp(0.0, MAX_LEVEL), self.increasing, negative));
        }
        ops
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notation() {
        let policy = RandAugment::parse("rand-m9-mstd0.5-inc1").unwrap();
        let expected = RandAugment {
            magnitude: 9.0,
            magnitude_std: 0.5,
            num_ops: 2,
            increasing: true,
        };
        assert_eq!(policy, expected);
        assert_eq!(RandAugment::parse("rand-n3-m7").unwrap().num_ops, 3);
        for (text, part) in [
            ("randaug-m9", "`randaug`"),
            ("rand-m11", "`m11`"),
            ("rand-m9-mst0.5", "`mst0.5`"),
            ("rand-m9-inc0", "`inc0`"),
            ("rand-m9-m8", "`m8`"),
            ("rand-mnan", "`mnan`"),
            ("rand-m-1", "`m`"),
            ("rand-n0", "`n0`"),
            ("rand-", "``"),
            ("rand-m9-mmax20", "`mmax20`"),
        ] {
            let message = RandAugment::parse(text).unwrap_err().to_string();
            assert!(
                message.contains(part) && message.contains("mstdX"),
                "{message}"
            );
        }
    }
}
