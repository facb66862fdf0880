//! Image files to 8-bit RGB, as Pillow's `Image.open(file).convert("RGB")`.
//!
//! The format goes by content and not by name: ImageNet has a PNG named `.JPEG`, and CMYK JPEGs.
//! EXIF orientation is ignored, an alpha channel is dropped without blending. Decoders differ from
//! libjpeg-turbo by a few levels in the inverse DCT and the upsampling of chroma.

use crate::data::{DataError, Rgb8};
use image::DynamicImage;

/// Decodes the bytes of a JPEG or PNG file. `file` names it in errors.
///
/// # Errors
/// Bytes that are no JPEG or PNG, are damaged, or ask for more memory than the decoder allows.
pub fn decode(bytes: &[u8], file: &str) -> Result<Rgb8, DataError> {
    let wrap = |source| DataError::Decode {
        file: file.to_owned(),
        source,
    };
    let decoded = image::load_from_memory(bytes).map_err(wrap)?;
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    let data = match decoded {
        DynamicImage::ImageRgb8(image) => image.into_raw(),
        DynamicImage::ImageRgba8(image) => drop_channels(&image.into_raw(), 4),
        DynamicImage::ImageLuma8(image) => spread(image.into_raw().into_iter()),
        DynamicImage::ImageLumaA8(image) => spread(image.into_raw().into_iter().step_by(2)),
        // 16 bits keep their high byte, as in Pillow.
        DynamicImage::ImageRgb16(image) => high_bytes(&image.into_raw()),
        DynamicImage::ImageRgba16(image) => drop_channels(&high_bytes(&image.into_raw()), 4),
        DynamicImage::ImageLuma16(image) => spread(high_bytes(&image.into_raw()).into_iter()),
        DynamicImage::ImageLumaA16(image) => {
            spread(high_bytes(&image.into_raw()).into_iter().step_by(2))
        }
        other => other.to_rgb8().into_raw(),
    };
    Rgb8::from_raw(width, height, data).ok_or_else(|| {
        wrap(image::ImageError::Parameter(
            image::error::ParameterError::from_kind(
                image::error::ParameterErrorKind::DimensionMismatch,
            ),
        ))
    })
}

fn drop_channels(data: &[u8], channels: usize) -> Vec<u8> {
    data.chunks_exact(channels)
        .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
        .collect()
}

fn spread(gray: impl Iterator<Item = u8>) -> Vec<u8> {
    gray.flat_map(|v| [v; 3]).collect()
}

fn high_bytes(data: &[u16]) -> Vec<u8> {
    data.iter().map(|v| (v >> 8) as u8).collect()
}
