//! TrivialAugment (Müller and Hutter 2021), the Wide variant, as `torchvision.transforms`
//! draws and applies it with its defaults.
//!
//! One of 14 operations per image, always applied, at one of 31 equidistant magnitudes; where an
//! operation has a direction, it is drawn, too. One in 14 images therefore stays as it is, and more
//! do at magnitude 0.
//!
//! Source: torchvision 0.29.2, `TrivialAugmentWide()`. Its defaults are kept on purpose, although
//! AutoAugment and RandAugment here follow timm: nearest sampling and black fill. There is no
//! TrivialAugment in timm.
//!
//! Trap: translations are of up to 32 pixels whatever the image's size, a seventh of 224 pixels but
//! two thirds of 48.

use super::ops::Op;
use crate::rng::KeyedRng;

/// Number of magnitudes.
pub const BINS: usize = 31;

/// The operations, in torchvision's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the field's own
pub enum TrivialOp {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
}

impl TrivialOp {
    /// All of them.
    pub const ALL: [TrivialOp; 14] = [
        TrivialOp::Identity,
        TrivialOp::ShearX,
        TrivialOp::ShearY,
        TrivialOp::TranslateX,
        TrivialOp::TranslateY,
        TrivialOp::Rotate,
        TrivialOp::Brightness,
        TrivialOp::Color,
        TrivialOp::Contrast,
        TrivialOp::Sharpness,
        TrivialOp::Posterize,
        TrivialOp::Solarize,
        TrivialOp::AutoContrast,
        TrivialOp::Equalize,
    ];

    /// The operation at magnitude `bin` (0 to 30); `negative` flips the sign of arguments that have
    /// one. `None` for the identity.
    pub fn at(self, bin: usize, negative: bool) -> Option<Op> {
        // torchvision keeps its magnitudes as 32-bit floats.
        let linear = |low, high| f64::from(linspace(low, high, bin));
        let signed = |high| {
            let value = linear(0.0, high);
            if negative { -value } else { value }
        };
        let factor = || (1.0 + signed(0.99)) as f32;
        Some(match self {
            TrivialOp::Identity => return None,
            TrivialOp::ShearX => Op::ShearXNearest(signed(0.99)),
            TrivialOp::ShearY => Op::ShearYNearest(signed(0.99)),
            // Cut off to whole pixels, towards zero.
            TrivialOp::TranslateX => Op::TranslateX(signed(32.0) as i32),
            TrivialOp::TranslateY => Op::TranslateY(signed(32.0) as i32),
            TrivialOp::Rotate => Op::RotateNearest(signed(135.0)),
            TrivialOp::Brightness => Op::Brightness(factor()),
            TrivialOp::Color => Op::Saturation(factor()),
            TrivialOp::Contrast => Op::Contrast(factor()),
            TrivialOp::Sharpness => Op::Sharpness(factor()),
            // 8 bits down to 2; no bin lies halfway between two of them.
            TrivialOp::Posterize => Op::Posterize(8 - ((bin as f64 / 5.0).round() as u8)),
            // Values below a fractional threshold are those below the next whole one.
            TrivialOp::Solarize => Op::Solarize(linear(255.0, 0.0).ceil() as u16),
            TrivialOp::AutoContrast => Op::AutoContrast,
            TrivialOp::Equalize => Op::Equalize,
        })
    }
}

/// `torch.linspace(low, high, 31)[bin]`: the upper half is counted from the end.
fn linspace(low: f32, high: f32, bin: usize) -> f32 {
    let step = (high - low) / (BINS - 1) as f32;
    if bin < BINS / 2 {
        low + step * bin as f32
    } else {
        high - step * (BINS - 1 - bin) as f32
    }
}

/// Draws the operation of one image; `None`: it stays as it is.
pub fn draw(rng: &mut KeyedRng) -> Option<Op> {
    let op = TrivialOp::ALL[rng.below(TrivialOp::ALL.len() as u64) as usize];
    let bin = rng.below(BINS as u64) as usize;
    op.at(bin, rng.chance(0.5))
}
