//! Bicubic resize: Pillow's two-pass resampler in 8-bit fixed point.
//!
//! Kernel a = -0.5, its support scaled when shrinking (antialiased), coefficients normalised and
//! rounded to 22 bits. An axis that keeps its length is not resampled. Each of the two passes rounds
//! to 8 bits, so their order shows; see [`vertical_first`].

use crate::data::Rgb8;
use crate::data::rgb8::Rect;
use crate::kernel::simd::simd;
use std::ops::Range;

/// Bits after the point of a coefficient.
const PRECISION: u32 = 32 - 8 - 2;

/// Whether the vertical pass comes first: where the height loses more pixels than twice what the
/// width loses (a width that grows loses a negative number). Otherwise the horizontal pass does.
///
/// Source: `ImagingResampleInner` in Pillow's `Resample.c`, release 13 (python-pillow/Pillow#9549).
/// Trap: the rule compares numbers of pixels, not ratios, and earlier releases, with which the
/// reference trained, always start with the horizontal pass; the bytes differ by 1 here and there.
fn vertical_first(from: (usize, usize), to: (usize, usize)) -> bool {
    let lost = |from: usize, to: usize| from as i128 - to as i128;
    let (columns, rows) = (lost(from.0, to.0), lost(from.1, to.1));
    rows > 0 && rows > 2 * columns
}

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
    let mut horizontal = axis(rect.width, width, window.left, window.width);
    let vertical = axis(rect.height, height, window.top, window.height);

    let source = Rows {
        data: image.data(),
        start: (rect.top * image.width() + rect.left) * 3,
        stride: image.width() * 3,
        length: rect.width * 3,
    };
    let row_bytes = window.width * 3;
    match (&mut horizontal, &vertical) {
        (None, None) => {
            for y in 0..window.height {
                let row = &source.get(window.top + y)[window.left * 3..][..row_bytes];
                out.row_mut(y).copy_from_slice(row);
            }
        }
        (Some(horizontal), None) => {
            combine_columns(horizontal, &source, window.top, row_bytes, out.data_mut());
        }
        (None, Some(vertical)) => {
            let start = source.start + window.left * 3;
            let columns = Rows {
                start,
                length: row_bytes,
                ..source
            };
            combine_rows(vertical, &columns, 0, out.data_mut());
        }
        (Some(horizontal), Some(vertical))
            if vertical_first((rect.width, rect.height), (width, height)) =>
        {
            let needed = horizontal.inputs();
            let columns = Rows {
                start: source.start + needed.start * 3,
                length: needed.len() * 3,
                ..source
            };
            let mut between = vec![0u8; columns.length * window.height];
            combine_rows(vertical, &columns, 0, &mut between);
            horizontal
                .first
                .iter_mut()
                .for_each(|first| *first -= needed.start);
            let between = Rows {
                data: &between,
                start: 0,
                stride: columns.length,
                length: columns.length,
            };
            combine_columns(horizontal, &between, 0, row_bytes, out.data_mut());
        }
        (Some(horizontal), Some(vertical)) => {
            let needed = vertical.inputs();
            let mut between = vec![0u8; row_bytes * needed.len()];
            combine_columns(horizontal, &source, needed.start, row_bytes, &mut between);
            let between = Rows {
                data: &between,
                start: 0,
                stride: row_bytes,
                length: row_bytes,
            };
            combine_rows(vertical, &between, needed.start, out.data_mut());
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
    #[inline(always)]
    fn of(&self, i: usize) -> (usize, &[i32]) {
        (
            self.first[i],
            &self.weights[i * self.stride..][..self.taps[i]],
        )
    }
}

/// Rows of bytes inside a larger image.
struct Rows<'a> {
    data: &'a [u8],
    /// First byte of row 0.
    start: usize,
    /// Bytes from one row to the next.
    stride: usize,
    /// Bytes of a row.
    length: usize,
}

impl Rows<'_> {
    #[inline(always)]
    fn get(&self, y: usize) -> &[u8] {
        &self.data[self.start + y * self.stride..][..self.length]
    }
}

simd! {
    /// The horizontal pass: rows of `source` from `first_row` on become the rows of `out`, of
    /// `row_bytes` bytes each.
    fn combine_columns(
        coefficients: &Coefficients,
        source: &Rows<'_>,
        first_row: usize,
        row_bytes: usize,
        out: &mut [u8],
    ) {
        // Pixels as four 32-bit numbers, so that a tap is one vector operation.
        let mut wide = vec![[0i32; 4]; source.length / 3];
        for (y, out) in out.chunks_exact_mut(row_bytes).enumerate() {
            for (wide, pixel) in wide.iter_mut().zip(source.get(first_row + y).chunks_exact(3)) {
                *wide = [i32::from(pixel[0]), i32::from(pixel[1]), i32::from(pixel[2]), 0];
            }
            for (x, pixel) in out.chunks_exact_mut(3).enumerate() {
                let (first, weights) = coefficients.of(x);
                let mut sums = [1i32 << (PRECISION - 1); 4];
                for (source, &weight) in wide[first..first + weights.len()].iter().zip(weights) {
                    for lane in 0..4 {
                        sums[lane] += source[lane] * weight;
                    }
                }
                pixel[0] = to_byte(sums[0]);
                pixel[1] = to_byte(sums[1]);
                pixel[2] = to_byte(sums[2]);
            }
        }
    }
}

/// Bytes that the vertical pass combines at a time: their sums stay in registers.
const BLOCK: usize = 64;

simd! {
    /// The vertical pass: `source` holds the rows from `first_row` on of what `coefficients` index.
    fn combine_rows(
        coefficients: &Coefficients,
        source: &Rows<'_>,
        first_row: usize,
        out: &mut [u8],
    ) {
        for (y, out) in out.chunks_exact_mut(source.length).enumerate() {
            let (first, weights) = coefficients.of(y);
            let (blocks, rest) = out.as_chunks_mut::<BLOCK>();
            for (block, out) in blocks.iter_mut().enumerate() {
                let mut sums = [1i32 << (PRECISION - 1); BLOCK];
                for (k, &weight) in weights.iter().enumerate() {
                    let row = &source.get(first + k - first_row)[block * BLOCK..][..BLOCK];
                    for lane in 0..BLOCK {
                        sums[lane] += i32::from(row[lane]) * weight;
                    }
                }
                for lane in 0..BLOCK {
                    out[lane] = to_byte(sums[lane]);
                }
            }
            let start = source.length - rest.len();
            let mut sums = [1i32 << (PRECISION - 1); BLOCK];
            for (k, &weight) in weights.iter().enumerate() {
                let row = &source.get(first + k - first_row)[start..];
                for (sum, &value) in sums.iter_mut().zip(row) {
                    *sum += i32::from(value) * weight;
                }
            }
            for (value, &sum) in rest.iter_mut().zip(&sums) {
                *value = to_byte(sum);
            }
        }
    }
}

#[inline(always)]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_the_passes() {
        // Twice the columns lost is not enough, one more is.
        assert!(!vertical_first((120, 140), (100, 100)));
        assert!(vertical_first((120, 141), (100, 100)));
        // The width grows.
        assert!(vertical_first((50, 101), (100, 100)));
        assert!(!vertical_first((50, 100), (100, 100)));
        assert!(!vertical_first((50, 60), (100, 100)));
    }

    #[test]
    fn a_window_is_part_of_the_whole_in_either_order() {
        for (width, height) in [(31, 90), (90, 31), (20, 200)] {
            let data = (0..width * height * 3)
                .map(|i| (i * i % 251) as u8)
                .collect();
            let image = Rgb8::from_raw(width, height, data).unwrap();
            let whole = resize(&image, 24, 27);
            let window = Rect {
                left: 5,
                top: 7,
                width: 11,
                height: 13,
            };
            let part = resize_window(&image, image.bounds(), 24, 27, window);
            for y in 0..window.height {
                assert_eq!(part.row(y), &whole.row(y + 7)[15..48]);
            }
        }
    }
}
