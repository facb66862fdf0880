//! Colour jitter: brightness, contrast and saturation in a fresh random order per image; hue off.

use super::ops::Op;
use crate::rng::KeyedRng;

/// Draws the three operations in the order in which they apply, each factor uniform in
/// [1 - `strength`, 1 + `strength`] and never negative.
pub fn draw(strength: f64, rng: &mut KeyedRng) -> [Op; 3] {
    let mut factor = || rng.uniform((1.0 - strength).max(0.0), 1.0 + strength) as f32;
    let mut ops = [
        Op::Brightness(factor()),
        Op::Contrast(factor()),
        Op::Saturation(factor()),
    ];
    rng.shuffle(&mut ops);
    ops
}
