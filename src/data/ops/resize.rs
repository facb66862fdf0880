//! Bicubic resize: Pillow's two-pass resampler in 8-bit fixed point.
//!
//! Kernel a = -0.5, its support scaled when shrinking (antialiased), coefficients normalised and
//! rounded to 22 bits. The horizontal pass comes first and rounds to 8 bits, then the vertical one.
//! (From release 13 on Pillow takes the vertical pass first where the height shrinks much more than
//! the width; the reference trained with earlier releases.)

use crate::data::Rgb8;
use crate::data::rgb8::Rect;
use std::ops::Range;

/// Bits after the point of a coefficient.
const PRECISION: u32 = 32 - 8 - 2;

/// Resizes the part of `image` in `rect` to `width` x `height`. The kernel does not read outside of
/// `rect`: the result is that of cropping first.
pub fn resize_crop(image: &Rgb8, rect: Rect, width: usize, height: usize) -> Rgb8 {
    let (width, height) = (width.max(1), height.max(1));
    resize_window(
        image,
        rect,
        width,
        height,
        Rect {
            left: 0,
            top: 0,
            width,
            height,
        },
    )
}

/// Resizes the whole image to `width` x `height`.
pub fn resize(image: &Rgb8, width: usize, height: usize) -> Rgb8 {
    resize_crop(image, image.bounds(), width, height)
}

/// The part in `window` of what [`resize_crop`] returns, without computing the rest: an image of
/// extreme aspect ratio costs no more than its window.
pub fn resize_window(image: &Rgb8, rect: Rect, width: usize, height: usize, window: Rect) -> Rgb8 {
    let rect = rect.clamped(image.width(), image.height());
    let window = window.clamped(width.max(1), height.max(1));
    let mut out = Rgb8::filled(window.width, window.height, [0; 3]);

    let axis = |input: usize, output: usize, start: usize, count: usize| {
        (input != output).then(|| Coefficients::new(input, output, start, count))
    };
    let horizontal = axis(rect.width, width, window.left, window.width);
    let vertical = axis(rect.height, height, window.top, window.height);

    let source_row = |y: usize| &image.row(rect.top + y)[rect.left * 3..][..rect.width * 3];
    let unscaled_row = |y: usize| &source_row(y)[window.left * 3..][..window.width * 3];
    match (&horizontal, &vertical) {
        (None, None) => {
            for y in 0..window.height {
                out.row_mut(y).copy_from_slice(unscaled_row(window.top + y));
            }
        }
        (Some(horizontal), None) => {
            for y in 0..window.height {
                horizontal.combine_columns(source_row(window.top + y), out.row_mut(y));
            }
        }
        (None, Some(vertical)) => {
            for y in 0..window.height {
                vertical.combine_rows(y, unscaled_row, out.row_mut(y));
            }
        }
        (Some(horizontal), Some(vertical)) => {
            let row_bytes = window.width * 3;
            let rows = vertical.inputs();
            let mut between = vec![0u8; row_bytes * rows.len()];
            for (row, y) in between.chunks_exact_mut(row_bytes).zip(rows.clone()) {
                horizontal.combine_columns(source_row(y), row);
            }
            let row = |y: usize| &between[(y - rows.start) * row_bytes..][..row_bytes];
            for y in 0..window.height {
                vertical.combine_rows(y, row, out.row_mut(y));
            }
        }
    }
    out
}

/// Size after the shorter side has become `size`: the longer one is truncated, as in torchvision.
pub fn shorter_side(width: usize, height: usize, size: usize) -> (usize, usize) {
    if width <= height {
        (
            size,
            ((size as u128 * height as u128) / width as u128) as usize,
        )
    } else {
        (
            ((size as u128 * width as u128) / height as u128) as usize,
            size,
        )
    }
}

/// For each output pixel: the first input pixel and the weights from there on.
struct Coefficients {
    first: Vec<usize>,
    taps: Vec<usize>,
    weights: Vec<i32>,
    stride: usize,
}

impl Coefficients {
    /// For `count` outputs from `start` on, where `input` pixels become `output`.
    fn new(input: usize, output: usize, start: usize, count: usize) -> Coefficients {
        let scale = input as f64 / output as f64;
        let filter_scale = scale.max(1.0);
        let support = 2.0 * filter_scale;
        let stride = support.ceil() as usize * 2 + 1;
        let mut first = Vec::with_capacity(count);
        let mut taps = Vec::with_capacity(count);
        let mut weights = vec![0; stride * count];
        let mut exact = vec![0.0; stride];
        for (i, weights) in weights.chunks_exact_mut(stride).enumerate() {
            let center = ((start + i) as f64 + 0.5) * scale;
            // Truncation towards zero, then the clip at the borders.
            let low = ((center - support + 0.5) as i64).max(0) as usize;
            let high = ((center + support + 0.5) as i64).min(input as i64) as usize;
            let count = high.saturating_sub(low);
            let mut sum = 0.0;
            for (k, value) in exact[..count].iter_mut().enumerate() {
                *value = bicubic(((k + low) as f64 - center + 0.5) * (1.0 / filter_scale));
                sum += *value;
            }
            for (weight, &value) in weights.iter_mut().zip(&exact[..count]) {
                let value = if sum == 0.0 { value } else { value / sum };
                let scaled = value * f64::from(1u32 << PRECISION);
                *weight = (scaled + 0.5f64.copysign(scaled)) as i32;
            }
            first.push(low);
            taps.push(count);
        }
        Coefficients {
            first,
            taps,
            weights,
            stride,
        }
    }

    /// The inputs that the outputs read.
    fn inputs(&self) -> Range<usize> {
        let end = self
            .first
            .iter()
            .zip(&self.taps)
            .map(|(first, taps)| first + taps)
            .max();
        self.first.first().copied().unwrap_or(0)..end.unwrap_or(0)
    }

    /// First input, and weights, of output `i`.
    #[inline]
    fn of(&self, i: usize) -> (usize, &[i32]) {
        (
            self.first[i],
            &self.weights[i * self.stride..][..self.taps[i]],
        )
    }

    fn combine_columns(&self, row: &[u8], out: &mut [u8]) {
        let (row, _) = row.as_chunks::<3>();
        let (out, _) = out.as_chunks_mut::<3>();
        for (x, pixel) in out.iter_mut().enumerate() {
            let (first, weights) = self.of(x);
            let mut sums = [1i32 << (PRECISION - 1); 3];
            for (source, &weight) in row[first..first + weights.len()].iter().zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(source) {
                    *sum += i32::from(value) * weight;
                }
            }
            *pixel = sums.map(to_byte);
        }
    }

    fn combine_rows<'a>(&self, y: usize, row: impl Fn(usize) -> &'a [u8], out: &mut [u8]) {
        /// Bytes combined at a time: the sums stay in registers or the first cache.
        const BLOCK: usize = 96;
        let (first, weights) = self.of(y);
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            let mut sums = [1i32 << (PRECISION - 1); BLOCK];
            for (k, &weight) in weights.iter().enumerate() {
                let source = &row(first + k)[block * BLOCK..][..out.len()];
                for (sum, &value) in sums.iter_mut().zip(source) {
                    *sum += i32::from(value) * weight;
                }
            }
            for (value, &sum) in out.iter_mut().zip(&sums) {
                *value = to_byte(sum);
            }
        }
    }
}

#[inline]
fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// Keys' cubic with a = -0.5.
fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}
