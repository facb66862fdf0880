//! Operations that follow from the histogram of each channel: autocontrast, equalize.

use crate::data::Rgb8;
use std::array::from_fn;

/// Stretches each channel so that its darkest value becomes 0 and its brightest 255. A channel of
/// one value is left alone.
pub fn autocontrast(image: &mut Rgb8) {
    let tables = histograms(image).map(|histogram| {
        let low = histogram.iter().position(|&n| n > 0).unwrap_or(0);
        let high = histogram.iter().rposition(|&n| n > 0).unwrap_or(0);
        if high <= low {
            return from_fn(|v| v as u8);
        }
        let scale = 255.0 / (high - low) as f64;
        let offset = -(low as f64) * scale;
        // Float to integer truncates and saturates, which is Pillow's clip to 0..=255.
        from_fn(|v| (v as f64 * scale + offset) as u8)
    });
    map_channels(image, &tables);
}

/// Equalizes the histogram of each channel.
pub fn equalize(image: &mut Rgb8) {
    let tables = histograms(image).map(|histogram| {
        let total: u64 = histogram.iter().sum();
        let last = histogram
            .iter()
            .rev()
            .find(|&&n| n > 0)
            .copied()
            .unwrap_or(0);
        let step = (total - last) / 255;
        if step == 0 {
            return from_fn(|v| v as u8);
        }
        let mut below = step / 2;
        from_fn(|v| {
            let value = (below / step).min(255) as u8;
            below += histogram[v];
            value
        })
    });
    map_channels(image, &tables);
}

fn histograms(image: &Rgb8) -> [[u64; 256]; 3] {
    let mut counts = [[0u64; 256]; 3];
    for pixel in image.pixels() {
        for (counts, &value) in counts.iter_mut().zip(pixel) {
            counts[usize::from(value)] += 1;
        }
    }
    counts
}

fn map_channels(image: &mut Rgb8, tables: &[[u8; 256]; 3]) {
    for pixel in image.pixels_mut() {
        *pixel = from_fn(|channel| tables[channel][usize::from(pixel[channel])]);
    }
}
