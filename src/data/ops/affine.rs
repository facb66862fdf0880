//! Rotation, shear and translation: Pillow's affine transform with bicubic sampling.
//!
//! This is not the resize kernel: a = -1.0 and no antialiasing, and the result is truncated to
//! 8 bits. The source of a pixel is `M * (x + 0.5, y + 0.5)`; where that lies outside the image the
//! fill colour stays, inside it neighbours are clamped at the border.

use super::geometry::{rotate_half, rotate_quarter};
use crate::data::Rgb8;
use crate::kernel::simd::simd;

/// Rotates counter-clockwise about the centre, keeping the size.
pub fn rotate(image: &Rgb8, degrees: f64, fill: [u8; 3]) -> Rgb8 {
    let degrees = degrees.rem_euclid(360.0);
    // Pillow takes exact multiples of 90 degrees through transposes.
    if degrees == 0.0 {
        return image.clone();
    } else if degrees == 180.0 {
        return rotate_half(image);
    } else if image.width() == image.height() && (degrees == 90.0 || degrees == 270.0) {
        return rotate_quarter(image, degrees == 90.0);
    }
    transform(image, rotation(image, degrees), fill)
}

/// Pillow's matrix of a rotation about the centre of `image`.
pub(super) fn rotation(image: &Rgb8, degrees: f64) -> [f64; 6] {
    let (center_x, center_y) = (image.width() as f64 / 2.0, image.height() as f64 / 2.0);
    let angle = -degrees.to_radians();
    let (sin, cos) = (round15(angle.sin()), round15(angle.cos()));
    let offset_x = cos * -center_x + sin * -center_y + center_x;
    let offset_y = -sin * -center_x + cos * -center_y + center_y;
    [cos, sin, offset_x, -sin, cos, offset_y]
}

/// Source x = x + `factor` * y.
pub fn shear_x(image: &Rgb8, factor: f64, fill: [u8; 3]) -> Rgb8 {
    transform(image, [1.0, factor, 0.0, 0.0, 1.0, 0.0], fill)
}

/// Source y = y + `factor` * x.
pub fn shear_y(image: &Rgb8, factor: f64, fill: [u8; 3]) -> Rgb8 {
    transform(image, [1.0, 0.0, 0.0, factor, 1.0, 0.0], fill)
}

/// Source x = x + `part` * width.
pub fn translate_x_rel(image: &Rgb8, part: f64, fill: [u8; 3]) -> Rgb8 {
    transform(
        image,
        [1.0, 0.0, part * image.width() as f64, 0.0, 1.0, 0.0],
        fill,
    )
}

/// Source y = y + `part` * height.
pub fn translate_y_rel(image: &Rgb8, part: f64, fill: [u8; 3]) -> Rgb8 {
    transform(
        image,
        [1.0, 0.0, 0.0, 0.0, 1.0, part * image.height() as f64],
        fill,
    )
}

/// Python's `round(x, 15)`, to within what the matrix can show.
fn round15(x: f64) -> f64 {
    (x * 1e15).round_ties_even() / 1e15
}

fn transform(image: &Rgb8, matrix: [f64; 6], fill: [u8; 3]) -> Rgb8 {
    let mut out = Rgb8::filled(image.width(), image.height(), fill);
    let wide = |[r, g, b]: &[u8; 3]| [f64::from(*r), f64::from(*g), f64::from(*b), 0.0];
    let pixels: Vec<[f64; 4]> = image.pixels().map(wide).collect();
    sample(&pixels, matrix, &mut out);
    out
}

simd! {
    /// Replaces the pixels of `out` whose source lies inside the image of `pixels`, which is of the
    /// same size. Pixels are four numbers, so that all channels are one vector operation.
    fn sample(pixels: &[[f64; 4]], m: [f64; 6], out: &mut Rgb8) {
        let (width, height) = (out.width(), out.height());
        for y in 0..height {
            let yc = y as f64 + 0.5;
            for (x, pixel) in out.row_mut(y).chunks_exact_mut(3).enumerate() {
                let xc = x as f64 + 0.5;
                let source_x = m[0] * xc + m[1] * yc + m[2];
                let source_y = m[3] * xc + m[4] * yc + m[5];
                if !(source_x >= 0.0
                    && source_x < width as f64
                    && source_y >= 0.0
                    && source_y < height as f64)
                {
                    continue;
                }
                let (source_x, source_y) = (source_x - 0.5, source_y - 0.5);
                let (left, top) = (source_x.floor(), source_y.floor());
                let (dx, dy) = (source_x - left, source_y - top);
                let clip = |i: isize, n: usize| i.clamp(0, n as isize - 1) as usize;
                let (left, top) = (left as isize - 1, top as isize - 1);
                let columns: [usize; 4] = [
                    clip(left, width),
                    clip(left + 1, width),
                    clip(left + 2, width),
                    clip(left + 3, width),
                ];
                let across = |k: isize| {
                    let row = &pixels[clip(top + k, height) * width..][..width];
                    cubic(&row[columns[0]], &row[columns[1]], &row[columns[2]], &row[columns[3]], dx)
                };
                let value = cubic(&across(0), &across(1), &across(2), &across(3), dy);
                // The conversion truncates and saturates.
                pixel[0] = value[0] as u8;
                pixel[1] = value[1] as u8;
                pixel[2] = value[2] as u8;
            }
        }
    }
}

type Lanes = [f64; 4];

/// Cubic convolution with a = -1 through four equidistant values, at `d` after the second; lane by
/// lane.
#[inline(always)]
fn cubic(v1: &Lanes, v2: &Lanes, v3: &Lanes, v4: &Lanes, d: f64) -> Lanes {
    let mut out = [0.0; 4];
    for lane in 0..4 {
        let (v1, v2, v3, v4) = (v1[lane], v2[lane], v3[lane], v4[lane]);
        let p2 = -v1 + v3;
        let p3 = 2.0 * (v1 - v2) + v3 - v4;
        let p4 = -v1 + v2 - v3 + v4;
        out[lane] = v2 + d * (p2 + d * (p3 + d * p4));
    }
    out
}
