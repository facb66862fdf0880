//! Hue shift through Pillow's 8-bit HSV. No recipe of the paper uses it.

use crate::data::Rgb8;

/// Turns the hue circle by `factor` (-0.5 to 0.5): the shift is `int(factor * 255)` modulo 256.
pub fn hue(image: &mut Rgb8, factor: f32) {
    let shift = (f64::from(factor) * 255.0) as i64 as u8;
    for pixel in image.pixels_mut() {
        let [h, s, v] = to_hsv(*pixel);
        *pixel = to_rgb([h.wrapping_add(shift), s, v]);
    }
}

fn to_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (max, min) = (r.max(g).max(b), r.min(g).min(b));
    if max == min {
        return [0, 0, max];
    }
    // Single precision where Pillow stores a float, double precision between.
    let range = f32::from(max - min);
    let part = |value: u8| f64::from(f32::from(max - value) / range);
    let sixths = if r == max {
        part(b) - part(g)
    } else if g == max {
        2.0 + part(r) - part(b)
    } else {
        4.0 + part(g) - part(r)
    } as f32;
    let h = ((f64::from(sixths) / 6.0 + 1.0) % 1.0) as f32;
    let s = range / f32::from(max);
    [
        (f64::from(h) * 255.0) as u8,
        (f64::from(s) * 255.0) as u8,
        max,
    ]
}

fn to_rgb([h, s, v]: [u8; 3]) -> [u8; 3] {
    if s == 0 {
        return [v; 3];
    }
    let sixths = (f64::from(h) * 6.0 / 255.0) as f32;
    let sector = sixths.floor();
    let f = f64::from(sixths - sector);
    let s = f64::from((f64::from(s) / 255.0) as f32);
    let scale = |part: f64| (f64::from(v) * part).round() as u8;
    let p = scale(1.0 - s);
    let q = scale(1.0 - s * f);
    let t = scale(1.0 - s * (1.0 - f));
    match sector as u8 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}
