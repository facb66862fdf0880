//! 3-Augment (DeiT III): exactly one of grayscale, solarize and Gaussian blur, always applied.

use super::ops::Op;
use crate::rng::KeyedRng;
use crate::spec::recipe::ThreeAugmentOp;

/// Values from here on are inverted by the policy's solarize.
const SOLARIZE_THRESHOLD: u16 = 128;

/// Range of the blur's standard deviation in pixels.
const BLUR_SIGMA: [f64; 2] = [0.1, 2.0];

/// Draws the operation, each of `choices` equally likely; `None` only if there are none.
pub fn draw(choices: &[ThreeAugmentOp], rng: &mut KeyedRng) -> Option<Op> {
    if choices.is_empty() {
        return None;
    }
    Some(match choices[rng.below(choices.len() as u64) as usize] {
        ThreeAugmentOp::Grayscale => Op::Grayscale,
        ThreeAugmentOp::Solarize => Op::Solarize(SOLARIZE_THRESHOLD),
        ThreeAugmentOp::GaussianBlur => {
            Op::GaussianBlur(rng.uniform(BLUR_SIGMA[0], BLUR_SIGMA[1]) as f32)
        }
    })
}
