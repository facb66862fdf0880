//! Simple random crop (SRC) of DeiT III: resize the shorter side to the training resolution, pad by
//! reflection, crop a square. The crop spans nearly the whole shorter side.

use super::Rgb8;
use super::ops::geometry::reflect;
use super::ops::resize::{resize_window, shorter_side};
use super::rgb8::Rect;
use crate::rng::KeyedRng;

/// The distribution of the crop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimpleRandomCrop {
    /// Side of the square, in pixels.
    pub size: usize,
    /// Reflected pixels on every side (the recipe: 4).
    pub padding: usize,
}

/// Top left corner of the square in the padded image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corner {
    /// Column.
    pub left: usize,
    /// Row.
    pub top: usize,
}

impl SimpleRandomCrop {
    /// Draws the corner for an image of `width` x `height`.
    pub fn draw(&self, width: usize, height: usize, rng: &mut KeyedRng) -> Corner {
        let (width, height) = shorter_side(width, height, self.size);
        let free = |n: usize| (n + 2 * self.padding - self.size) as u64;
        let top = rng.below(free(height) + 1) as usize;
        let left = rng.below(free(width) + 1) as usize;
        Corner { left, top }
    }

    /// Applies it. Neither the whole resized image nor the padded one is ever made.
    pub fn apply(&self, image: &Rgb8, corner: Corner) -> Rgb8 {
        let (width, height) = shorter_side(image.width(), image.height(), self.size);
        let columns = self.sources(corner.left, width);
        let rows = self.sources(corner.top, height);
        let (left, window_width) = span(&columns);
        let (top, window_height) = span(&rows);
        let window = Rect {
            left,
            top,
            width: window_width,
            height: window_height,
        };
        let resized = resize_window(image, image.bounds(), width, height, window);
        let mut out = Rgb8::filled(self.size, self.size, [0; 3]);
        for (y, &row) in rows.iter().enumerate() {
            let source = resized.row(row - top);
            for (pixel, &column) in out.row_mut(y).chunks_exact_mut(3).zip(&columns) {
                pixel.copy_from_slice(&source[(column - left) * 3..][..3]);
            }
        }
        out
    }

    /// Positions in the resized image of the square's pixels along one axis.
    fn sources(&self, start: usize, n: usize) -> Vec<usize> {
        (start..start + self.size)
            .map(|i| reflect(i as i64 - self.padding as i64, n))
            .collect()
    }
}

/// First position and length of the range that `positions` touch.
fn span(positions: &[usize]) -> (usize, usize) {
    let first = positions.iter().copied().min().unwrap_or(0);
    let last = positions.iter().copied().max().unwrap_or(0);
    (first, last - first + 1)
}
