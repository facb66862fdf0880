//! AutoAugment with the policies that were searched on ImageNet, as timm draws it.
//!
//! One of 25 sub-policies is drawn per image; its two operations are applied in order, each with a
//! probability of its own, at a magnitude of its own from 0 to 10. `mstdX` (timm's addition) draws
//! the magnitude from a normal distribution around it, clipped to [0, 10]. Blend factors are
//! 0.1 + 0.18 m: brighter, sharper with m, not further from 1.
//!
//! Source: timm 0.3.2 and 1.0.31, `data/auto_augment.py`, whose tables are the same. Geometric
//! operations are those of RandAugment: bicubic, filled with the ImageNet mean. torchvision's
//! `AutoAugment` has the table of `original` with other magnitudes, nearest sampling and black fill.
//!
//! Trap: timm's name `v0` is not the paper's policy but that of EfficientNet's TPU code; the paper's
//! is `original`. The four names differ by Posterize, too.

use super::ops::Op;
use super::rand_augment::{MAX_LEVEL, RandOp};
use crate::rng::KeyedRng;
pub use crate::spec::policy::{AutoAugment, AutoAugmentTable};

/// Operation, probability, magnitude.
pub type Step = (AutoOp, f64, u8);

/// The operations of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoOp {
    /// One of RandAugment's, of the list that does not increase.
    Plain(RandOp),
    /// Keeps 8 bits at magnitude 10, 4 at 0: the paper's.
    PosterizeOriginal,
    /// Keeps 4 bits at magnitude 0, none at 10.
    PosterizeIncreasing,
}

impl AutoOp {
    /// The operation at magnitude `level` (0 to 10); `negative` flips the sign of arguments that have
    /// one.
    pub fn at(self, level: f64, negative: bool) -> Op {
        match self {
            AutoOp::Plain(op) => op.at(level, false, negative),
            AutoOp::PosterizeOriginal => Op::Posterize(4 + (level / MAX_LEVEL * 4.0) as u8),
            AutoOp::PosterizeIncreasing => RandOp::Posterize.at(level, true, negative),
        }
    }
}

const AUTO_CONTRAST: AutoOp = AutoOp::Plain(RandOp::AutoContrast);
const COLOR: AutoOp = AutoOp::Plain(RandOp::Color);
const CONTRAST: AutoOp = AutoOp::Plain(RandOp::Contrast);
const EQUALIZE: AutoOp = AutoOp::Plain(RandOp::Equalize);
const INVERT: AutoOp = AutoOp::Plain(RandOp::Invert);
const POSTERIZE: AutoOp = AutoOp::Plain(RandOp::Posterize);
const ROTATE: AutoOp = AutoOp::Plain(RandOp::Rotate);
const SHARPNESS: AutoOp = AutoOp::Plain(RandOp::Sharpness);
const SHEAR_X: AutoOp = AutoOp::Plain(RandOp::ShearX);
const SHEAR_Y: AutoOp = AutoOp::Plain(RandOp::ShearY);
const SOLARIZE: AutoOp = AutoOp::Plain(RandOp::Solarize);
const SOLARIZE_ADD: AutoOp = AutoOp::Plain(RandOp::SolarizeAdd);
const TRANSLATE_Y: AutoOp = AutoOp::Plain(RandOp::TranslateYRel);

/// arXiv 1805.09501, table 9, with each row twice that the paper lists twice.
const ORIGINAL: [[Step; 2]; 25] = [
    [(AutoOp::PosterizeOriginal, 0.4, 8), (ROTATE, 0.6, 9)],
    [(SOLARIZE, 0.6, 5), (AUTO_CONTRAST, 0.6, 5)],
    [(EQUALIZE, 0.8, 8), (EQUALIZE, 0.6, 3)],
    [
        (AutoOp::PosterizeOriginal, 0.6, 7),
        (AutoOp::PosterizeOriginal, 0.6, 6),
    ],
    [(EQUALIZE, 0.4, 7), (SOLARIZE, 0.2, 4)],
    [(EQUALIZE, 0.4, 4), (ROTATE, 0.8, 8)],
    [(SOLARIZE, 0.6, 3), (EQUALIZE, 0.6, 7)],
    [(AutoOp::PosterizeOriginal, 0.8, 5), (EQUALIZE, 1.0, 2)],
    [(ROTATE, 0.2, 3), (SOLARIZE, 0.6, 8)],
    [(EQUALIZE, 0.6, 8), (AutoOp::PosterizeOriginal, 0.4, 6)],
    [(ROTATE, 0.8, 8), (COLOR, 0.4, 0)],
    [(ROTATE, 0.4, 9), (EQUALIZE, 0.6, 2)],
    [(EQUALIZE, 0.0, 7), (EQUALIZE, 0.8, 8)],
    [(INVERT, 0.6, 4), (EQUALIZE, 1.0, 8)],
    [(COLOR, 0.6, 4), (CONTRAST, 1.0, 8)],
    [(ROTATE, 0.8, 8), (COLOR, 1.0, 2)],
    [(COLOR, 0.8, 8), (SOLARIZE, 0.8, 7)],
    [(SHARPNESS, 0.4, 7), (INVERT, 0.6, 8)],
    [(SHEAR_X, 0.6, 5), (EQUALIZE, 1.0, 9)],
    [(COLOR, 0.4, 0), (EQUALIZE, 0.6, 3)],
    [(EQUALIZE, 0.4, 7), (SOLARIZE, 0.2, 4)],
    [(SOLARIZE, 0.6, 5), (AUTO_CONTRAST, 0.6, 5)],
    [(INVERT, 0.6, 4), (EQUALIZE, 1.0, 8)],
    [(COLOR, 0.6, 4), (CONTRAST, 1.0, 8)],
    [(EQUALIZE, 0.8, 8), (EQUALIZE, 0.6, 3)],
];

/// EfficientNet's TPU code.
const V0: [[Step; 2]; 25] = [
    [(EQUALIZE, 0.8, 1), (SHEAR_Y, 0.8, 4)],
    [(COLOR, 0.4, 9), (EQUALIZE, 0.6, 3)],
    [(COLOR, 0.4, 1), (ROTATE, 0.6, 8)],
    [(SOLARIZE, 0.8, 3), (EQUALIZE, 0.4, 7)],
    [(SOLARIZE, 0.4, 2), (SOLARIZE, 0.6, 2)],
    [(COLOR, 0.2, 0), (EQUALIZE, 0.8, 8)],
    [(EQUALIZE, 0.4, 8), (SOLARIZE_ADD, 0.8, 3)],
    [(SHEAR_X, 0.2, 9), (ROTATE, 0.6, 8)],
    [(COLOR, 0.6, 1), (EQUALIZE, 1.0, 2)],
    [(INVERT, 0.4, 9), (ROTATE, 0.6, 0)],
    [(EQUALIZE, 1.0, 9), (SHEAR_Y, 0.6, 3)],
    [(COLOR, 0.4, 7), (EQUALIZE, 0.6, 0)],
    [(POSTERIZE, 0.4, 6), (AUTO_CONTRAST, 0.4, 7)],
    [(SOLARIZE, 0.6, 8), (COLOR, 0.6, 9)],
    [(SOLARIZE, 0.2, 4), (ROTATE, 0.8, 9)],
    [(ROTATE, 1.0, 7), (TRANSLATE_Y, 0.8, 9)],
    [(SHEAR_X, 0.0, 0), (SOLARIZE, 0.8, 4)],
    [(SHEAR_Y, 0.8, 0), (COLOR, 0.6, 4)],
    [(COLOR, 1.0, 0), (ROTATE, 0.6, 2)],
    [(EQUALIZE, 0.8, 4), (EQUALIZE, 0.0, 8)],
    [(EQUALIZE, 1.0, 4), (AUTO_CONTRAST, 0.6, 2)],
    [(SHEAR_Y, 0.4, 7), (SOLARIZE_ADD, 0.6, 7)],
    [(POSTERIZE, 0.8, 2), (SOLARIZE, 0.6, 10)],
    [(SOLARIZE, 0.6, 8), (EQUALIZE, 0.6, 1)],
    [(COLOR, 0.8, 6), (ROTATE, 0.4, 5)],
];

impl AutoAugment {
    /// The sub-policies of the table.
    pub fn sub_policies(&self) -> [[Step; 2]; 25] {
        let (mut table, posterize) = match self.table {
            AutoAugmentTable::Original => (ORIGINAL, AutoOp::PosterizeOriginal),
            AutoAugmentTable::OriginalR => (ORIGINAL, AutoOp::PosterizeIncreasing),
            AutoAugmentTable::V0 => (V0, POSTERIZE),
            AutoAugmentTable::V0R => (V0, AutoOp::PosterizeIncreasing),
        };
        for (op, ..) in table.as_flattened_mut() {
            if matches!(*op, AutoOp::PosterizeOriginal | POSTERIZE) {
                *op = posterize;
            }
        }
        table
    }

    /// Draws the operations of one image, in order: none, one or two.
    pub fn draw(&self, rng: &mut KeyedRng) -> Vec<Op> {
        let table = self.sub_policies();
        let mut ops = Vec::with_capacity(2);
        for (op, prob, magnitude) in table[rng.below(table.len() as u64) as usize] {
            if !rng.chance(prob) {
                continue;
            }
            let mut level = f64::from(magnitude);
            if self.magnitude_std > 0.0 {
                level = (level + self.magnitude_std * rng.normal()).clamp(0.0, MAX_LEVEL);
            }
            ops.push(op.at(level, rng.chance(0.5)));
        }
        ops
    }
}
