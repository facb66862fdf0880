//! Image operations with given parameters: 8-bit RGB in, 8-bit RGB out.
//!
//! Each follows Pillow's arithmetic so that the bytes are equal, not only close: the recipe's
//! published numbers were trained through Pillow, and equal bytes make every later comparison exact.

pub mod affine;
pub mod affine_nearest;
pub mod blur;
pub mod enhance;
pub mod geometry;
pub mod grayscale;
pub mod histogram;
pub mod hue;
pub mod resize;
pub mod tone;

use crate::data::Rgb8;

/// Colour of pixels that a geometric operation brings in from outside: the ImageNet mean in 8 bits.
pub const FILL: [u8; 3] = [124, 116, 104];

/// One operation with its argument, as a policy draws it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Op {
    /// See [`grayscale::grayscale`].
    Grayscale,
    /// Threshold from which values are inverted; 256 leaves the image alone.
    Solarize(u16),
    /// See [`tone::solarize_add`]: added to values below 128.
    SolarizeAdd(u8),
    /// Bits kept, 0 to 8.
    Posterize(u8),
    /// See [`tone::invert`].
    Invert,
    /// See [`histogram::equalize`].
    Equalize,
    /// See [`histogram::autocontrast`].
    AutoContrast,
    /// Standard deviation in pixels.
    GaussianBlur(f32),
    /// Blend factor with black.
    Brightness(f32),
    /// Blend factor with the mean grey.
    Contrast(f32),
    /// Blend factor with the grayscale image.
    Saturation(f32),
    /// Blend factor with the smoothed image.
    Sharpness(f32),
    /// Turn of the hue circle, -0.5 to 0.5.
    Hue(f32),
    /// Degrees, counter-clockwise.
    Rotate(f64),
    /// Columns the source moves by per row.
    ShearX(f64),
    /// Rows the source moves by per column.
    ShearY(f64),
    /// Fraction of the width the source moves by.
    TranslateXRel(f64),
    /// Fraction of the height the source moves by.
    TranslateYRel(f64),
    /// Degrees, counter-clockwise; nearest sampling, black outside.
    RotateNearest(f64),
    /// As `ShearX`; nearest sampling, black outside.
    ShearXNearest(f64),
    /// As `ShearY`; nearest sampling, black outside.
    ShearYNearest(f64),
    /// Pixels the image moves right by; black outside.
    TranslateX(i32),
    /// Pixels the image moves down by; black outside.
    TranslateY(i32),
}

impl Op {
    /// Applies the operation. Geometric ones sample bicubically and fill with [`FILL`] unless they say
    /// otherwise.
    pub fn apply(self, image: &mut Rgb8) {
        match self {
            Op::Grayscale => grayscale::grayscale(image),
            Op::Solarize(threshold) => tone::solarize(image, threshold),
            Op::SolarizeAdd(add) => tone::solarize_add(image, add),
            Op::Posterize(bits) => tone::posterize(image, bits),
            Op::Invert => tone::invert(image),
            Op::Equalize => histogram::equalize(image),
            Op::AutoContrast => histogram::autocontrast(image),
            Op::GaussianBlur(sigma) => blur::gaussian_blur(image, sigma),
            Op::Brightness(factor) => enhance::brightness(image, factor),
            Op::Contrast(factor) => enhance::contrast(image, factor),
            Op::Saturation(factor) => enhance::saturation(image, factor),
            Op::Sharpness(factor) => enhance::sharpness(image, factor),
            Op::Hue(factor) => hue::hue(image, factor),
            Op::Rotate(degrees) => *image = affine::rotate(image, degrees, FILL),
            Op::ShearX(factor) => *image = affine::shear_x(image, factor, FILL),
            Op::ShearY(factor) => *image = affine::shear_y(image, factor, FILL),
            Op::TranslateXRel(part) => *image = affine::translate_x_rel(image, part, FILL),
            Op::TranslateYRel(part) => *image = affine::translate_y_rel(image, part, FILL),
            Op::RotateNearest(degrees) => *image = affine_nearest::rotate(image, degrees),
            Op::ShearXNearest(factor) => *image = affine_nearest::shear_x(image, factor),
            Op::ShearYNearest(factor) => *image = affine_nearest::shear_y(image, factor),
            Op::TranslateX(columns) => *image = affine_nearest::translate(image, columns, 0),
            Op::TranslateY(rows) => *image = affine_nearest::translate(image, 0, rows),
        }
    }
}

/// Replaces every byte of `image` by its entry in `table`.
fn map_bytes(image: &mut Rgb8, table: &[u8; 256]) {
    for value in image.data_mut() {
        *value = table[usize::from(*value)];
    }
}
