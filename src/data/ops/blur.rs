//! Gaussian blur as Pillow approximates it: three box blurs in x, then three in y.
//!
//! The width of the box is fractional: its outermost pixels weigh less (Gwosdek, Grewenig, Bruhn and
//! Weickert, "Theoretical foundations of Gaussian convolution by extended box filtering", SSVM
//! 2011). Each pass rounds to 8 bits; edges are replicated.

use crate::data::Rgb8;
use crate::kernel::simd::simd;

const PASSES: usize = 3;

/// Blurs with standard deviation `sigma` in pixels. Zero and less change nothing.
pub fn gaussian_blur(image: &mut Rgb8, sigma: f32) {
    if !(sigma > 0.0 && sigma.is_finite()) {
        return;
    }
    let kernel = BoxKernel::new(sigma);
    let row_bytes = image.width() * 3;

    // A row with its replicated ends, so that the passes need no special case.
    let mut line = vec![0u8; row_bytes + 6 * kernel.reach()];
    for y in 0..image.height() {
        for _ in 0..PASSES {
            let row = image.row_mut(y);
            extend_row(row, kernel.reach(), &mut line);
            blur_line(&kernel, &line, row);
        }
    }

    let mut blurred = vec![0u8; image.data().len()];
    for _ in 0..PASSES {
        blur_columns(&kernel, image.data(), row_bytes, &mut blurred);
        image.data_mut().copy_from_slice(&blurred);
    }
}

/// A box of 2 r + 1 full pixels and a fraction of one more on each side, in 24-bit fixed point.
struct BoxKernel {
    radius: usize,
    full: u32,
    edge: u32,
}

impl BoxKernel {
    fn new(sigma: f32) -> BoxKernel {
        // The arithmetic is Pillow's, 32-bit floats where it has them.
        let sigma2 = sigma * sigma / PASSES as f32;
        let length = (12.0 * f64::from(sigma2) + 1.0).sqrt() as f32;
        let whole = ((length - 1.0) / 2.0).floor();
        let fraction = (2.0 * whole + 1.0) * (whole * (whole + 1.0) - 3.0 * sigma2)
            / (6.0 * (sigma2 - (whole + 1.0) * (whole + 1.0)));
        let half_width = whole + fraction;
        let radius = half_width as usize;
        let full = ((1u32 << 24) as f32 / (half_width * 2.0 + 1.0)) as u32;
        let edge = ((1u32 << 24).saturating_sub((radius as u32 * 2 + 1).saturating_mul(full))) / 2;
        BoxKernel { radius, full, edge }
    }

    /// Pixels that the box reaches to either side.
    #[inline(always)]
    fn reach(&self) -> usize {
        self.radius + 1
    }

    #[inline(always)]
    fn weigh(&self, inner: u32, outer: u32) -> u8 {
        ((inner * self.full + outer * self.edge + (1 << 23)) >> 24) as u8
    }
}

simd! {
    /// `line` is the row with `reach()` extra pixels on each side.
    fn blur_line(kernel: &BoxKernel, line: &[u8], out: &mut [u8]) {
        let span = 6 * kernel.reach();
        let tap = |i: usize, pixel: usize| u32::from(line[i + 3 * pixel]);
        match kernel.radius {
            0 => {
                let (left, middle, right) = (line, &line[3..], &line[6..]);
                for (((out, &l), &m), &r) in out.iter_mut().zip(left).zip(middle).zip(right) {
                    *out = kernel.weigh(u32::from(m), u32::from(l) + u32::from(r));
                }
            }
            1 => {
                let n = out.len();
                let taps: [&[u8]; 5] = std::array::from_fn(|tap| &line[tap * 3..tap * 3 + n]);
                for (i, out) in out.iter_mut().enumerate() {
                    let tap = |t: usize| u32::from(taps[t][i]);
                    *out = kernel.weigh(tap(1) + tap(2) + tap(3), tap(0) + tap(4));
                }
            }
            radius => {
                let mut sums = [0u32; 3];
                for (channel, sum) in sums.iter_mut().enumerate() {
                    *sum = (0..2 * radius + 1).map(|pixel| tap(channel, pixel)).sum();
                }
                for (i, out) in out.iter_mut().enumerate() {
                    let sum = &mut sums[i % 3];
                    *sum = *sum + tap(i, 2 * radius + 1) - tap(i, 0);
                    *out = kernel.weigh(*sum, tap(i, 0) + u32::from(line[i + span]));
                }
            }
        }
    }
}

simd! {
    /// Combines rows of `row_bytes` bytes above and below each row of `source`.
    fn blur_columns(kernel: &BoxKernel, source: &[u8], row_bytes: usize, out: &mut [u8]) {
        let last = source.len() / row_bytes - 1;
        let row = |y: isize| {
            let y = y.clamp(0, last as isize) as usize;
            &source[y * row_bytes..(y + 1) * row_bytes]
        };
        let radius = kernel.radius as isize;
        let mut sums: Vec<u32> = Vec::new();
        for (y, out) in out.chunks_exact_mut(row_bytes).enumerate() {
            let y = y as isize;
            let (above, below) = (row(y - radius - 1), row(y + radius + 1));
            match radius {
                0 => {
                    for (((out, &m), &a), &b) in out.iter_mut().zip(row(y)).zip(above).zip(below) {
                        *out = kernel.weigh(u32::from(m), u32::from(a) + u32::from(b));
                    }
                }
                1 => {
                    let inner = row(y - 1).iter().zip(row(y)).zip(row(y + 1));
                    for ((out, ((&p, &q), &r)), (&a, &b)) in
                        out.iter_mut().zip(inner).zip(above.iter().zip(below))
                    {
                        *out = kernel.weigh(
                            u32::from(p) + u32::from(q) + u32::from(r),
                            u32::from(a) + u32::from(b),
                        );
                    }
                }
                _ => {
                    if sums.is_empty() {
                        sums = vec![0; row_bytes];
                        for d in -radius - 1..radius {
                            add_row(&mut sums, row(d));
                        }
                    }
                    for (i, out) in out.iter_mut().enumerate() {
                        sums[i] = sums[i] + u32::from(row(y + radius)[i]) - u32::from(above[i]);
                        *out = kernel.weigh(sums[i], u32::from(above[i]) + u32::from(below[i]));
                    }
                }
            }
        }
    }
}

fn add_row(sums: &mut [u32], row: &[u8]) {
    for (sum, &value) in sums.iter_mut().zip(row) {
        *sum += u32::from(value);
    }
}

fn extend_row(row: &[u8], reach: usize, line: &mut [u8]) {
    let (first, last) = (&row[..3], &row[row.len() - 3..]);
    let (head, rest) = line.split_at_mut(3 * reach);
    let (middle, tail) = rest.split_at_mut(row.len());
    head.chunks_exact_mut(3)
        .for_each(|pixel| pixel.copy_from_slice(first));
    middle.copy_from_slice(row);
    tail.chunks_exact_mut(3)
        .for_each(|pixel| pixel.copy_from_slice(last));
}
