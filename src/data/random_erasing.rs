//! Random erasing: one box of unit normal noise, after normalisation.

use super::rgb8::Rect;
use crate::rng::KeyedRng;

const ATTEMPTS: usize = 10;

/// Range of the box's area as a fraction of the image.
const AREA: [f64; 2] = [0.02, 1.0 / 3.0];

/// Smallest aspect; the largest is its inverse, and the draw is log-uniform.
const MIN_ASPECT: f64 = 0.3;

/// Draws the box for an image of `width` x `height`: `None` with probability 1 - `probability`, or
/// if ten boxes do not fit (a box is smaller than the image on both axes).
pub fn draw(probability: f64, width: usize, height: usize, rng: &mut KeyedRng) -> Option<Rect> {
    if !rng.chance(probability) {
        return None;
    }
    let area = width as f64 * height as f64;
    for _ in 0..ATTEMPTS {
        let target = rng.uniform(AREA[0], AREA[1]) * area;
        let aspect = rng.uniform(MIN_ASPECT.ln(), -MIN_ASPECT.ln()).exp();
        let h = (target * aspect).sqrt().round_ties_even() as usize;
        let w = (target / aspect).sqrt().round_ties_even() as usize;
        if w < width && h < height {
            let top = rng.below((height - h) as u64 + 1) as usize;
            let left = rng.below((width - w) as u64 + 1) as usize;
            return Some(Rect {
                left,
                top,
                width: w,
                height: h,
            });
        }
    }
    None
}

/// Fills `rect` of `image` (`[3, height, width]`, normalised) with unit normal noise.
pub fn apply(image: &mut [f32], width: usize, rect: Rect, rng: &mut KeyedRng) {
    let plane = image.len() / 3;
    for channel in image.chunks_exact_mut(plane.max(1)) {
        for row in channel
            .chunks_exact_mut(width)
            .skip(rect.top)
            .take(rect.height)
        {
            for value in &mut row[rect.left..rect.left + rect.width] {
                *value = rng.normal() as f32;
            }
        }
    }
}
