//! Layer normalisation over rows (PyTorch's `LayerNorm`: biased variance, eps inside the root).

use super::parallel::{block_rows, buffer, for_blocks, map_blocks, sum_in_order};
use super::simd::{LANES, dot, fold, simd, sum};

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
    let mut y = buffer(x.len());
    for_blocks(&mut y, width, per_block, |_, start, y| {
        let rows = y.len() / width;
        let x = &x[start * width..(start + rows) * width];
        normalise(y, x, &moments[start..start + rows], weight, bias);
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
    let mut dx = buffer(x.len());
    for_blocks(&mut dx, width, per_block, |_, start, dx| {
        let rows = dx.len() / width;
        let range = start * width..(start + rows) * width;
        input_gradient(
            dx,
            &g[range.clone()],
            &x[range],
            &moments[start..start + rows],
            weight,
        );
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
    fn normalise(y: &mut [f32], x: &[f32], moments: &[(f32, f32)], weight: &[f32], bias: &[f32]) {
        let width = weight.len();
        for ((y, x), (mean, scale)) in
            y.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(moments)
        {
            for (((y, x), w), b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                *y = ((x - mean) * scale).mul_add(*w, *b);
            }
        }
    }
}

simd! {
    fn input_gradient(
        dx: &mut [f32],
        g: &[f32],
        x: &[f32],
        moments: &[(f32, f32)],
        weight: &[f32],
    ) {
        let width = weight.len();
        let rows = dx.chunks_exact_mut(width).zip(g.chunks_exact(width)).zip(x.chunks_exact(width));
        for (((dx, g), x), (mean, scale)) in rows.zip(moments) {
            // dx holds g * weight first.
            for ((d, g), w) in dx.iter_mut().zip(g).zip(weight) {
                *d = g * w;
            }
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

/// Sum of squares of `values`, in an order that depends on the length only.
pub fn sum_of_squares(values: &[f32]) -> f64 {
    simd! {
        fn block(values: &[f32]) -> f32 {
            dot(values, values)
        }
    }
    values
        .chunks(4096)
        .map(|chunk| f64::from(block(chunk)))
        .sum()
}
