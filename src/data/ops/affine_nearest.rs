//! Rotation, shear and translation with nearest sampling, the outside filled with black: Pillow's
//! affine transform as torchvision calls it by default.
//!
//! Pillow computes source positions in 16.16 fixed point, from the centre of the first pixel on, so
//! that errors add up along a row; equal bytes need the same.

use super::geometry::{rotate_half, rotate_quarter};
use crate::data::Rgb8;

const BLACK: [u8; 3] = [0; 3];

/// Rotates counter-clockwise about the centre, keeping the size.
pub fn rotate(image: &Rgb8, degrees: f64) -> Rgb8 {
    let degrees = degrees.rem_euclid(360.0);
    // Pillow takes exact multiples of 90 degrees through transposes.
    if degrees == 0.0 {
        return image.clone();
    } else if degrees == 180.0 {
        return rotate_half(image);
    } else if image.width() == image.height() && (degrees == 90.0 || degrees == 270.0) {
        return rotate_quarter(image, degrees == 90.0);
    }
    transform(image, super::affine::rotation(image, degrees))
}

/// Source x = x + `factor` * y.
pub fn shear_x(image: &Rgb8, factor: f64) -> Rgb8 {
    transform(image, [1.0, factor, 0.0, 0.0, 1.0, 0.0])
}

/// Source y = y + `factor` * x.
pub fn shear_y(image: &Rgb8, factor: f64) -> Rgb8 {
    transform(image, [1.0, 0.0, 0.0, factor, 1.0, 0.0])
}

/// Moves the image right by `columns` and down by `rows` pixels.
pub fn translate(image: &Rgb8, columns: i32, rows: i32) -> Rgb8 {
    let (x, y) = (-f64::from(columns), -f64::from(rows));
    transform(image, [1.0, 0.0, x, 0.0, 1.0, y])
}

fn transform(image: &Rgb8, m: [f64; 6]) -> Rgb8 {
    let fixed = |v: f64| (v * 65536.0 + 0.5).floor() as i64;
    let (dx, dy) = ([fixed(m[0]), fixed(m[3])], [fixed(m[1]), fixed(m[4])]);
    let mut first = [
        fixed(m[2] + m[0] * 0.5 + m[1] * 0.5),
        fixed(m[5] + m[3] * 0.5 + m[4] * 0.5),
    ];
    let (width, height) = (image.width(), image.height());
    let mut out = Rgb8::filled(width, height, BLACK);
    for y in 0..height {
        let mut source = first;
        for pixel in out.row_mut(y).chunks_exact_mut(3) {
            let inside = |v: i64, n: usize| usize::try_from(v >> 16).ok().filter(|i| *i < n);
            if let (Some(x), Some(y)) = (inside(source[0], width), inside(source[1], height)) {
                pixel.copy_from_slice(&image.pixel(x, y));
            }
            source = [source[0] + dx[0], source[1] + dx[1]];
        }
        first = [first[0] + dy[0], first[1] + dy[1]];
    }
    out
}
