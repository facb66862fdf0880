//! Blends of an image with a degenerate version of itself: brightness, contrast, saturation,
//! sharpness.
//!
//! As in Pillow: `degenerate + factor * (image - degenerate)` in 32-bit floats, clipped, then
//! truncated (not rounded) to 8 bits. A factor of 1 returns the image, 0 the degenerate version.

use super::grayscale::luma;
use super::map_bytes;
use crate::data::Rgb8;
use std::array::from_fn;

/// Blends with black.
pub fn brightness(image: &mut Rgb8, factor: f32) {
    map_bytes(image, &from_fn(|v| blend(0, v as u8, factor)));
}

/// Blends with the constant that is the rounded mean of the grayscale image.
pub fn contrast(image: &mut Rgb8, factor: f32) {
    let sum: u64 = image.pixels().map(|&pixel| u64::from(luma(pixel))).sum();
    let mean = (sum as f64 / image.pixels().len() as f64 + 0.5) as u8;
    map_bytes(image, &from_fn(|v| blend(mean, v as u8, factor)));
}

/// Blends with the grayscale image.
pub fn saturation(image: &mut Rgb8, factor: f32) {
    for pixel in image.pixels_mut() {
        let gray = luma(*pixel);
        *pixel = pixel.map(|value| blend(gray, value, factor));
    }
}

/// Blends with the smoothed image: factors above 1 sharpen.
pub fn sharpness(image: &mut Rgb8, factor: f32) {
    let smooth = smooth(image);
    for (value, &degenerate) in image.data_mut().iter_mut().zip(smooth.data()) {
        *value = blend(degenerate, *value, factor);
    }
}

#[inline]
fn blend(degenerate: u8, value: u8, factor: f32) -> u8 {
    let from = f32::from(degenerate);
    // The conversion truncates and saturates.
    (from + factor * (f32::from(value) - from)) as u8
}

/// Pillow's SMOOTH filter: 1 1 1 / 1 5 1 / 1 1 1 over 13, rounded; the outermost pixels stay.
fn smooth(image: &Rgb8) -> Rgb8 {
    let mut out = image.clone();
    let (width, height) = (image.width(), image.height());
    if width < 3 || height < 3 {
        return out;
    }
    for y in 1..height - 1 {
        let (above, here, below) = (image.row(y - 1), image.row(y), image.row(y + 1));
        let target = &mut out.row_mut(y)[3..(width - 1) * 3];
        for (i, value) in target.iter_mut().enumerate() {
            let column =
                |row: &[u8]| u32::from(row[i]) + u32::from(row[i + 3]) + u32::from(row[i + 6]);
            let sum = column(above) + column(here) + column(below) + 4 * u32::from(here[i + 3]);
            // A sum over 13 is never halfway between two integers.
            *value = ((2 * sum + 13) / 26) as u8;
        }
    }
    out
}
