//! Pictures in a plot: plotters draws lines and text, and pictures are laid over its drawing. Each output
//! has its own way to hold them.

use super::PlotError;
use super::canvas::Rect;
use crate::data::Rgb8;
use image::ImageEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};

/// A picture and where it lies, in CSS pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    pub place: Rect,
    pub image: Rgb8,
}

/// `svg` with the pictures as `<image>` elements that hold their data, on top of all else.
pub(super) fn embed(plot: &str, svg: &str, pictures: &[Picture]) -> Result<String, PlotError> {
    let mut elements = String::new();
    for Picture { place, image } in pictures {
        let data = base64(&png(image).map_err(|error| PlotError::Draw {
            plot: plot.to_owned(),
            message: error.to_string(),
        })?);
        // The drawing's own unit is a tenth of a pixel.
        let fine = |length: f64| (length * super::canvas::FINE).round();
        elements.push_str(&format!(
            "<image x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" href=\"data:image/png;base64,{data}\"/>\n",
            fine(place.left),
            fine(place.top),
            fine(place.width()),
            fine(place.height()),
        ));
    }
    let end = svg.rfind("</svg>").unwrap_or(svg.len());
    Ok(format!("{}{elements}{}", &svg[..end], &svg[end..]))
}

fn png(image: &Rgb8) -> Result<Vec<u8>, image::ImageError> {
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, FilterType::Adaptive)
        .write_image(
            image.data(),
            image.width() as u32,
            image.height() as u32,
            image::ExtendedColorType::Rgb8,
        )?;
    Ok(bytes)
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            if digit <= chunk.len() {
                text.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_the_standard() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn a_picture_survives_its_png() {
        let mut image = Rgb8::filled(5, 3, [1, 2, 3]);
        image.data_mut()[7] = 200;
        let read = image::load_from_memory(&png(&image).unwrap())
            .unwrap()
            .to_rgb8();
        assert_eq!(read.as_raw().as_slice(), image.data());
    }
}
