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
    let (center_x, center_y) = (image.width() as f64 / 2.0, image.height() as f64 / 2.0);
    let angle = -degrees.to_radians();
    let (sin, cos) = (round15(angle.sin()), round15(angle.cos()));
    let offset_x = cos * -center_x + sin * -center_y + center_x;
    let offset_y = -sin * -center_x + cos * -center_y + center_y;
    transform(image, [cos, sin, offset_x, -sin, cos, offset_y], fill)
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
    sample(image, matrix, &mut out);
    out
}

simd! {
    /// Replaces the pixels of `out` whose source lies inside `image`.
    fn sample(image: &Rgb8, m: [f64; 6], out: &mut Rgb8) {
        let (width, height) = (image.width() as f64, image.height() as f64);
        for y in 0..out.height() {
            let yc = y as f64 + 0.5;
            for (x, pixel) in out.row_mut(y).chunks_exact_mut(3).enumerate() {
                let xc = x as f64 + 0.5;
                let source_x = m[0] * xc + m[1] * yc + m[2];
                let source_y = m[3] * xc + m[4] * yc + m[5];
                if source_x >= 0.0 && source_x < width && source_y >= 0.0 && source_y < height {
                    pixel.copy_from_slice(&bicubic(image, source_x - 0.5, source_y - 0.5));
                }
            }
        }
    }
}

#[inline(always)]
fn bicubic(image: &Rgb8, x: f64, y: f64) -> [u8; 3] {
    let (left, top) = (x.floor(), y.floor());
    let (dx, dy) = (x - left, y - top);
    let (left, top) = (left as isize - 1, top as isize - 1);
    let (last_x, last_y) = (image.width() as isize - 1, image.height() as isize - 1);
    let columns = [0, 1, 2, 3].map(|k| 3 * (left + k).clamp(0, last_x) as usize);
    // Pixels as four numbers each, so that all channels are one vector operation.
    let across = [0, 1, 2, 3].map(|k| {
        let row = image.row((top + k).clamp(0, last_y) as usize);
        let pixels = columns.map(|column| {
            let pixel = &row[column..column + 3];
            [
                f64::from(pixel[0]),
                f64::from(pixel[1]),
                f64::from(pixel[2]),
                0.0,
            ]
        });
        cubic(&pixels, dx)
    });
    let value = cubic(&across, dy);
    // The conversion truncates and saturates.
    [value[0] as u8, value[1] as u8, value[2] as u8]
}

/// Cubic convolution with a = -1 through four equidistant values, at `d` after the second; lane by
/// lane.
#[inline(always)]
fn cubic([v1, v2, v3, v4]: &[[f64; 4]; 4], d: f64) -> [f64; 4] {
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
