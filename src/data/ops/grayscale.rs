//! Grayscale.

use crate::data::Rgb8;

/// Luma of a pixel: ITU-R 601-2 weights in 16-bit fixed point, rounded.
pub fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((19595 * u32::from(r) + 38470 * u32::from(g) + 7471 * u32::from(b) + 32768) >> 16) as u8
}

/// Replaces each pixel by its luma, in all three channels.
pub fn grayscale(image: &mut Rgb8) {
    for pixel in image.pixels_mut() {
        *pixel = [luma(*pixel); 3];
    }
}
