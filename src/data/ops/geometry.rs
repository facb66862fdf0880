//! Operations that move whole pixels: flip, turn, crop, reflected padding.

use crate::data::Rgb8;
use crate::data::rgb8::Rect;

/// Mirrors left and right.
pub fn hflip(image: &mut Rgb8) {
    let width = image.width();
    for y in 0..image.height() {
        let (pixels, _) = image.row_mut(y).as_chunks_mut::<3>();
        debug_assert_eq!(pixels.len(), width);
        pixels.reverse();
    }
}

/// Turns by 180 degrees.
pub fn rotate_half(image: &Rgb8) -> Rgb8 {
    let mut out = image.clone();
    out.data_mut().as_chunks_mut::<3>().0.reverse();
    out
}

/// Turns by 90 degrees, counter-clockwise or clockwise; width and height change places.
pub fn rotate_quarter(image: &Rgb8, counter_clockwise: bool) -> Rgb8 {
    let (width, height) = (image.height(), image.width());
    let mut out = Rgb8::filled(width, height, [0; 3]);
    for y in 0..height {
        for (x, pixel) in out.row_mut(y).chunks_exact_mut(3).enumerate() {
            let source = if counter_clockwise {
                image.pixel(height - 1 - y, x)
            } else {
                image.pixel(y, width - 1 - x)
            };
            pixel.copy_from_slice(&source);
        }
    }
    out
}

/// The part of `image` in `rect`; what lies outside the image is left out.
pub fn crop(image: &Rgb8, rect: Rect) -> Rgb8 {
    let rect = rect.clamped(image.width(), image.height());
    let mut out = Rgb8::filled(rect.width, rect.height, [0; 3]);
    for y in 0..rect.height {
        let row = &image.row(rect.top + y)[rect.left * 3..(rect.left + rect.width) * 3];
        out.row_mut(y).copy_from_slice(row);
    }
    out
}

/// Index of the source of position `i` in a line of `n` pixels mirrored at its first and last one.
/// The edge is not repeated. Positions further out than the line is long reflect again.
pub fn reflect(i: i64, n: usize) -> usize {
    let period = (2 * (n as i64 - 1)).max(1);
    let i = i.rem_euclid(period);
    i.min(period - i).min(n as i64 - 1) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reflection_does_not_repeat_the_edge() {
        let line: Vec<usize> = (-4..8).map(|i| reflect(i, 4)).collect();
        assert_eq!(line, [2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]);
        assert!((-9..9).all(|i| reflect(i, 1) == 0));
    }

    #[test]
    fn quarter_turns() {
        let image = Rgb8::from_raw(2, 1, vec![1, 1, 1, 2, 2, 2]).unwrap();
        let turned = rotate_quarter(&image, true);
        assert_eq!((turned.width(), turned.height()), (1, 2));
        assert_eq!(turned.data(), [2, 2, 2, 1, 1, 1]);
        assert_eq!(rotate_quarter(&turned, false), image);
        assert_eq!(rotate_quarter(&turned, true), rotate_half(&image));
    }
}
