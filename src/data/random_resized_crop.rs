//! Random resized crop (RRC), timm's variant: a random rectangle, resized to a square.

use super::Rgb8;
use super::ops::resize::resize_crop;
use super::rgb8::Rect;
use crate::rng::KeyedRng;

/// Rectangles that are tried before the fallback.
const ATTEMPTS: usize = 10;

/// The distribution of the rectangle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RandomResizedCrop {
    /// Range of the area as a fraction of the image.
    pub scale: [f64; 2],
    /// Range of width over height; log-uniform.
    pub ratio: [f64; 2],
}

impl RandomResizedCrop {
    /// Draws the rectangle for an image of `width` x `height`.
    pub fn draw(&self, width: usize, height: usize, rng: &mut KeyedRng) -> Rect {
        let area = width as f64 * height as f64;
        for _ in 0..ATTEMPTS {
            let target = rng.uniform(self.scale[0], self.scale[1]) * area;
            let aspect = rng.uniform(self.ratio[0].ln(), self.ratio[1].ln()).exp();
            // A rectangle has at least one pixel; tiny images would round to none.
            let side = |area: f64| (area.sqrt().round_ties_even() as usize).max(1);
            let (w, h) = (side(target * aspect), side(target / aspect));
            if w <= width && h <= height {
                let top = rng.below((height - h) as u64 + 1) as usize;
                let left = rng.below((width - w) as u64 + 1) as usize;
                return Rect {
                    left,
                    top,
                    width: w,
                    height: h,
                };
            }
        }
        self.fallback(width, height)
    }

    /// The largest central rectangle whose aspect is allowed.
    pub fn fallback(&self, width: usize, height: usize) -> Rect {
        let aspect = width as f64 / height as f64;
        let (mut w, mut h) = (width, height);
        if aspect < self.ratio[0] {
            h = (width as f64 / self.ratio[0]).round_ties_even() as usize;
        } else if aspect > self.ratio[1] {
            w = (height as f64 * self.ratio[1]).round_ties_even() as usize;
        }
        let (w, h) = (w.clamp(1, width), h.clamp(1, height));
        Rect {
            left: (width - w) / 2,
            top: (height - h) / 2,
            width: w,
            height: h,
        }
    }
}

/// Crops `rect` and resizes it to a square of side `size`.
pub fn apply(image: &Rgb8, rect: Rect, size: usize) -> Rgb8 {
    resize_crop(image, rect, size, size)
}
