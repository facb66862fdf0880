//! RandAugment as timm writes and draws it (`rand-m9-mstd0.5-inc1`).
//!
//! `n` operations (2 unless `-nN` says otherwise) are drawn with replacement from 15 (the paper of
//! RandAugment has 14; timm adds SolarizeAdd), each is applied with probability 1/2 (`-pX`), at a magnitude
//! drawn anew for each from a normal distribution around `m`, clipped to [0, 10]. `-inc1` selects
//! the list in which every operation gets stronger with the magnitude.

use super::ops::Op;
use crate::rng::KeyedRng;
pub use crate::spec::policy::RandAugment;

/// The largest magnitude.
pub(super) const MAX_LEVEL: f64 = 10.0;

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

impl RandAugment {
    /// Draws the operations of one image, in order; none, some or all of `num_ops`.
    pub fn draw(&self, rng: &mut KeyedRng) -> Vec<Op> {
        let mut ops = Vec::with_capacity(self.num_ops);
        for _ in 0..self.num_ops {
            let op = RandOp::ALL[rng.below(RandOp::ALL.len() as u64) as usize];
            if !rng.chance(self.prob) {
                continue;
            }
            let level = self.magnitude + self.magnitude_std * rng.normal();
            let negative = rng.chance(0.5);
            ops.push(op.at(level.clamp(0.0, MAX_LEVEL), self.increasing, negative));
        }
        ops
    }
}
