//! The evaluation's geometry: resize the shorter side, crop the centre.

use super::Rgb8;
use super::ops::resize::{resize_window, shorter_side};
use super::rgb8::Rect;

/// What the evaluation does with an image of a given size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CenterCrop {
    /// Size after resizing.
    pub resized: (usize, usize),
    /// The crop from the resized image.
    pub window: Rect,
}

impl CenterCrop {
    /// For images of `width` x `height`: the shorter side becomes `floor(size / crop_ratio)`, the
    /// offset of the crop is rounded half to even, as in torchvision.
    pub fn new(width: usize, height: usize, size: usize, crop_ratio: f64) -> CenterCrop {
        // Ratios above 1 would leave the crop larger than the image.
        let shorter = ((size as f64 / crop_ratio) as usize).max(size);
        let resized = shorter_side(width, height, shorter);
        let offset = |n: usize| ((n - size) as f64 / 2.0).round_ties_even() as usize;
        let window = Rect {
            left: offset(resized.0),
            top: offset(resized.1),
            width: size,
            height: size,
        };
        CenterCrop { resized, window }
    }

    /// Applies it.
    pub fn apply(&self, image: &Rgb8) -> Rgb8 {
        resize_window(
            image,
            image.bounds(),
            self.resized.0,
            self.resized.1,
            self.window,
        )
    }
}
