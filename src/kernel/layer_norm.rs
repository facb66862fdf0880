//! Layer normalisation over rows (PyTorch's `LayerNorm`: biased variance, eps inside the root).

use super::parallel::{Hole, block_rows, build, map_blocks, sum_in_order};
use super::simd::{LANES, fold, map2, map3, simd, sum};

/// Mean and reciprocal standard deviation of each row.
pub type Moments = Vec<(f32, f32)>;

/// Normalised rows of x `[rows, d]`, and the moments that the backward pass needs.
pub fn forward(x: &[f32], weight: &[f32], bias: &[f32], eps: f32) -> (Vec<f32>, Moments) {
    let width = weight.len();
    let rows = x.len() / width;
    let per_block = block_rows(rows);
    let moments: Moments = map_blocks(rows.div_ceil(per_block), |block| {
        let rows = per_block.min(rows - block * per_block);
        let start = block * per_block * width;
        let mut moments = vec![(0.0, 0.0); rows];
        row_moments(&mut moments, &x[start..start + rows * width], width, eps);
        moments
    })
    .concat();
    let y = build(x.len(), per_block * width, |index, y| {
        let (start, rows) = (index * per_block, y.len() / width);
        let x = &x[start * width..(start + rows) * width];
        normalise(y, x, &moments[start..start + rows], weight, bias)
    });
    (y, moments)
}

/// Gradients with respect to input, weight and bias.
pub fn backward(
    g: &[f32],
    x: &[f32],
    moments: &[(f32, f32)],
    weight: &[f32],
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let width = weight.len();
    let rows = x.len() / width;
    let per_block = block_rows(rows);
    let dx = build(x.len(), per_block * width, |index, dx| {
        let (start, rows) = (index * per_block, dx.len() / width);
        let range = start * width..(start + rows) * width;
        let moments = &moments[start..start + rows];
        input_gradient(dx, &g[range.clone()], &x[range], moments, weight)
    });
    let parts = map_blocks(rows.div_ceil(per_block), |block| {
        let start = block * per_block;
        let end = rows.min(start + per_block);
        let range = start * width..end * width;
        let mut sums = vec![0.0; 2 * width];
        parameter_gradients(
            &mut sums,
            &g[range.clone()],
            &x[range],
            &moments[start..end],
        );
        sums
    });
    let mut sums = sum_in_order(parts, 2 * width);
    let bias = sums.split_off(width);
    (dx, sums, bias)
}

simd! {
    fn row_moments(moments: &mut [(f32, f32)], x: &[f32], width: usize, eps: f32) {
        for (moment, row) in moments.iter_mut().zip(x.chunks_exact(width)) {
            let mean = sum(row) / width as f32;
            let mut lanes = [0.0f32; LANES];
            let chunks = row.chunks_exact(LANES);
            let rest = chunks.remainder();
            for chunk in chunks {
                for lane in 0..LANES {
                    let centred = chunk[lane] - mean;
                    lanes[lane] = centred.mul_add(centred, lanes[lane]);
                }
            }
            for (lane, value) in rest.iter().enumerate() {
                let centred = value - mean;
                lanes[lane] = centred.mul_add(centred, lanes[lane]);
            }
            let variance = fold(lanes) / width as f32;
            *moment = (mean, 1.0 / (variance + eps).sqrt());
        }
    }
}

simd! {
    fn normalise<'h>(
        y: Hole<'h>,
        x: &[f32],
        moments: &[(f32, f32)],
        weight: &[f32],
        bias: &[f32],
    ) -> &'h mut [f32] {
        let width = weight.len();
        assert!(
            y.len() == x.len() && moments.len() * width == x.len(),
            "whole rows, as many of each"
        );
        let rows = y.chunks_exact_mut(width).zip(x.chunks_exact(width));
        for ((y, x), &(mean, scale)) in rows.zip(moments) {
            map3(y, x, weight, bias, |x, w, b| ((x - mean) * scale).mul_add(w, b));
        }
        // SAFETY: the rows cover `y`, and each was written.
        unsafe { y.assume_init_mut() }
    }
}

simd! {
    fn input_gradient<'h>(
        dx: Hole<'h>,
        g: &[f32],
        x: &[f32],
        moments: &[(f32, f32)],
        weight: &[f32],
    ) -> &'h mut [f32] {
        let width = weight.len();
        assert!(
            dx.len() == x.len() && g.len() == x.len() && moments.len() * width == x.len(),
            "whole rows, as many of each"
        );
        let rows = dx.chunks_exact_mut(width).zip(g.chunks_exact(width)).zip(x.chunks_exact(width));
        for (((dx, g), x), &(mean, scale)) in rows.zip(moments) {
            // dx holds g * weight first.
            let dx = map2(dx, g, weight, |g, w| g * w);
            let mean_g = sum(dx) / width as f32;
            // sum(g w x_hat) = scale * (sum(g w x) - mean * sum(g w)) loses digits: centre first.
            let mut lanes = [0.0f32; LANES];
            let (chunks_d, chunks_x) = (dx.chunks_exact(LANES), x.chunks_exact(LANES));
            let (rest_d, rest_x) = (chunks_d.remainder(), chunks_x.remainder());
            for (d, x) in chunks_d.zip(chunks_x) {
                for lane in 0..LANES {
                    lanes[lane] = d[lane].mul_add(x[lane] - mean, lanes[lane]);
                }
            }
            for (lane, (d, x)) in rest_d.iter().zip(rest_x).enumerate() {
                lanes[lane] = d.mul_add(x - mean, lanes[lane]);
            }
            let mean_gx = fold(lanes) * scale / width as f32;
            for (d, x) in dx.iter_mut().zip(x) {
                let normal = (x - mean) * scale;
                *d = scale * (*d - normal.mul_add(mean_gx, mean_g));
            }
        }
        // SAFETY: the rows cover `dx`, and each was written.
        unsafe { dx.assume_init_mut() }
    }
}

simd! {
    fn parameter_gradients(sums: &mut [f32], g: &[f32], x: &[f32], moments: &[(f32, f32)]) {
        let width = sums.len() / 2;
        let (weight, bias) = sums.split_at_mut(width);
        for ((g, x), (mean, scale)) in
            g.chunks_exact(width).zip(x.chunks_exact(width)).zip(moments)
        {
            for (((w, b), g), x) in weight.iter_mut().zip(bias.iter_mut()).zip(g).zip(x) {
                *w = g.mul_add((x - mean) * scale, *w);
                *b += g;
            }
        }
    }
}
