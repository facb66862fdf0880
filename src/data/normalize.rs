//! From 8-bit RGB to the network's input: `(byte / 255 - mean) / std`, channels first.

use super::Rgb8;
use std::array::from_fn;
use std::sync::LazyLock;

/// Means of ImageNet's channels.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];

/// Standard deviations of ImageNet's channels.
pub const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// All 256 results per channel, each computed in 32-bit floats as PyTorch does.
static TABLE: LazyLock<[[f32; 256]; 3]> = LazyLock::new(|| {
    from_fn(|channel| from_fn(|v| (v as f32 / 255.0 - MEAN[channel]) / STD[channel]))
});

/// Writes `image` to `out`, `[3, height, width]`. Panics if the lengths differ: a defect.
pub fn normalize(image: &Rgb8, out: &mut [f32]) {
    let plane = image.width() * image.height();
    assert_eq!(out.len(), 3 * plane, "the output holds one image");
    let [red, green, blue] = &*TABLE;
    let (out_red, rest) = out.split_at_mut(plane);
    let (out_green, out_blue) = rest.split_at_mut(plane);
    let planes = out_red.iter_mut().zip(out_green).zip(out_blue);
    for (((r, g), b), pixel) in planes.zip(image.pixels()) {
        *r = red[usize::from(pixel[0])];
        *g = green[usize::from(pixel[1])];
        *b = blue[usize::from(pixel[2])];
    }
}
