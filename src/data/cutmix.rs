//! CutMix: a box of each image is pasted from its partner, sample B - 1 - i of a group of B.

use super::rgb8::Rect;
use crate::rng::KeyedRng;

/// How the box grows from its centre when the cut is odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoxRule {
    /// timm 0.3.2, which the reference pins: `cut / 2` to both sides, so an odd cut loses a pixel.
    Timm032,
    /// Later releases: the odd pixel goes to the high side.
    Timm1,
}

/// The box of a cut with `lam` centred on (`cx`, `cy`) in an image of `width` x `height`: of side
/// `int(side * sqrt(1 - lam))` per axis, clipped to the image; it may be empty.
pub fn cut_box(width: usize, height: usize, lam: f64, cx: usize, cy: usize, rule: BoxRule) -> Rect {
    let ratio = (1.0 - lam).max(0.0).sqrt();
    let axis = |side: usize, center: usize| {
        let cut = (side as f64 * ratio) as usize;
        let high_half = match rule {
            BoxRule::Timm032 => cut / 2,
            BoxRule::Timm1 => cut.div_ceil(2),
        };
        let low = center.saturating_sub(cut / 2);
        (low, (center + high_half).min(side).saturating_sub(low))
    };
    let (left, width) = axis(width, cx);
    let (top, height) = axis(height, cy);
    Rect {
        left,
        top,
        width,
        height,
    }
}

/// Draws the box for a given `lam`: its centre is uniform over the pixels.
pub fn draw_box(width: usize, height: usize, lam: f64, rng: &mut KeyedRng) -> Rect {
    let cy = rng.below(height as u64) as usize;
    let cx = rng.below(width as u64) as usize;
    cut_box(width, height, lam, cx, cy, BoxRule::Timm032)
}

/// `lam` as the targets use it: the fraction of the image outside the box.
pub fn corrected_lam(width: usize, height: usize, cut: Rect) -> f64 {
    1.0 - (cut.width * cut.height) as f64 / (width * height) as f64
}

/// Exchanges the box between partners: `images` is a group `[B, 3, height, width]`.
pub fn apply(images: &mut [f32], width: usize, height: usize, cut: Rect) {
    super::mixup::for_partners(images, 3 * width * height, |a, b| {
        let planes = a
            .chunks_exact_mut(width * height)
            .zip(b.chunks_exact_mut(width * height));
        for (a, b) in planes {
            for y in cut.top..cut.top + cut.height {
                let row = y * width + cut.left..y * width + cut.left + cut.width;
                a[row.clone()].swap_with_slice(&mut b[row]);
            }
        }
    });
}
