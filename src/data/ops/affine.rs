//! Rotation, shear and translation: Pillow's affine transform with bicubic sampling.
//!
//! This is not the resize kernel: a = -1.0 and no antialiasing, and the result is truncated to
//! 8 bits. The source of a pixel is `M * (x + 0.5, y + 0.5)`; where that lies outside the image the
//! fill colour stays, inside it neighbours are clamped at the border.

use super::geometry::{rotate_half, rotate_quarter};
use crate::data::Rgb8;

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

fn transform(image: &Rgb8, m: [f64; 6], fill: [u8; 3]) -> Rgb8 {
    let (width, height) = (image.width(), image.height());
    let mut out = Rgb8::filled(width, height, fill);
    for y in 0..height {
        let row = out.row_mut(y);
        let yc = y as f64 + 0.5;
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            let xc = x as f64 + 0.5;
            let source_x = m[0] * xc + m[1] * yc + m[2];
            let source_y = m[3] * xc + m[4] * yc + m[5];
            let inside =
                (0.0..width as f64).contains(&source_x) && (0.0..height as f64).contains(&source_y);
            if inside {
                pixel.copy_from_slice(&bicubic(image, source_x - 0.5, source_y - 0.5));
            }
        }
    }
    out
}

fn bicubic(image: &Rgb8, x: f64, y: f64) -> [u8; 3] {
    let (left, top) = (x.floor(), y.floor());
    let (dx, dy) = (x - left, y - top);
    let clip = |i: f64, n: usize| (i.max(0.0) as usize).min(n - 1);
    let columns: [usize; 4] =
        std::array::from_fn(|k| 3 * clip(left + k as f64 - 1.0, image.width()));
    let rows: [&[u8]; 4] =
        std::array::from_fn(|k| image.row(clip(top + k as f64 - 1.0, image.height())));
    std::array::from_fn(|channel| {
        let across =
            rows.map(|row| cubic(columns.map(|column| f64::from(row[column + channel])), dx));
        // The conversion truncates and saturates.
        cubic(across, dy) as u8
    })
}

/// Cubic convolution with a = -1 through four equidistant values, at `d` after the second.
#[inline]
fn cubic([v1, v2, v3, v4]: [f64; 4], d: f64) -> f64 {
    let p1 = v2;
    let p2 = -v1 + v3;
    let p3 = 2.0 * (v1 - v2) + v3 - v4;
    let p4 = -v1 + v2 - v3 + v4;
    p1 + d * (p2 + d * (p3 + d * p4))
}
