//! Operations that map each byte by a fixed table: invert, solarize, posterize.

use super::map_bytes;
use crate::data::Rgb8;
use std::array::from_fn;

/// Every value v becomes 255 - v.
pub fn invert(image: &mut Rgb8) {
    for value in image.data_mut() {
        *value = 255 - *value;
    }
}

/// Values of `threshold` and above are inverted.
pub fn solarize(image: &mut Rgb8, threshold: u16) {
    map_bytes(
        image,
        &from_fn(|v| {
            if v < usize::from(threshold) {
                v as u8
            } else {
                255 - v as u8
            }
        }),
    );
}

/// `add` is added to values below 128, capped at 255; the others stay.
pub fn solarize_add(image: &mut Rgb8, add: u8) {
    map_bytes(
        image,
        &from_fn(|v| {
            if v < 128 {
                (v as u8).saturating_add(add)
            } else {
                v as u8
            }
        }),
    );
}

/// Keeps the top `bits` bits of each value; 0 bits is black, 8 and more change nothing.
pub fn posterize(image: &mut Rgb8, bits: u8) {
    let mask = match bits {
        0 => 0,
        1..=7 => 0xffu8 << (8 - bits),
        _ => 0xff,
    };
    for value in image.data_mut() {
        *value &= mask;
    }
}
