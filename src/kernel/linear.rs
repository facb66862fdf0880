//! Linear layer with bias, optionally followed by the exact GELU.
//!
//! Weights are `[out, in]`, as PyTorch stores them. Blocks of rows go through the matrix product
//! and its epilogue (bias, GELU) while they are in cache.

use super::matmul::{Matrix, matmul};
use super::parallel::{block_rows, buffer, for_blocks, map_blocks, sum_in_order};
use super::simd::{add_assign, gelu_with_derivative, simd};

/// Output rows of a weight gradient per job: independent of the number of threads.
const WEIGHT_ROWS: usize = 192;

/// `x w^T + b`: x `[rows, in]`, w `[out, in]`, b `[out]` -> `[rows, out]`.
pub fn forward(x: &[f32], w: &[f32], b: &[f32], inputs: usize) -> Vec<f32> {
    let outputs = b.len();
    let rows = x.len() / inputs;
    let mut y = buffer(rows * outputs);
    for_blocks(&mut y, outputs, block_rows(rows), |_, start, y| {
        product(y, start, x, w, inputs, outputs);
        add_bias(y, b);
    });
    y
}

/// `gelu(x w^T + b)` and the derivative of the GELU at its argument, both `[rows, out]`.
pub fn forward_gelu(x: &[f32], w: &[f32], b: &[f32], inputs: usize) -> (Vec<f32>, Vec<f32>) {
    let outputs = b.len();
    let rows = x.len() / inputs;
    let per_block = block_rows(rows);
    let mut y = buffer(rows * outputs);
    let mut derivative = buffer(rows * outputs);
    let block = per_block * outputs;
    let job = |index: usize, y: &mut [f32], derivative: &mut [f32]| {
        product(y, index * per_block, x, w, inputs, outputs);
        bias_gelu(y, derivative, b);
    };
    if rayon::current_num_threads() == 1 {
        for (i, (y, d)) in y
            .chunks_mut(block)
            .zip(derivative.chunks_mut(block))
            .enumerate()
        {
            job(i, y, d);
        }
    } else {
        use rayon::prelude::*;
        y.par_chunks_mut(block)
            .zip(derivative.par_chunks_mut(block))
            .enumerate()
            .for_each(|(i, (y, d))| job(i, y, d));
    }
    (y, derivative)
}

/// One block of rows from `start` of `x w^T`.
fn product(y: &mut [f32], start: usize, x: &[f32], w: &[f32], inputs: usize, outputs: usize) {
    let rows = y.len() / outputs;
    let x = &x[start * inputs..(start + rows) * inputs];
    matmul(
        y,
        outputs,
        false,
        1.0,
        Matrix::new(x, rows, inputs),
        Matrix::new(w, outputs, inputs).t(),
    );
}

/// Gradient with respect to the input: `g w`, g `[rows, out]` -> `[rows, in]`.
pub fn backward_input(g: &[f32], w: &[f32], inputs: usize) -> Vec<f32> {
    let outputs = w.len() / inputs;
    let rows = g.len() / outputs;
    let mut dx = buffer(rows * inputs);
    for_blocks(&mut dx, inputs, block_rows(rows), |_, start, dx| {
        let rows = dx.len() / inputs;
        let g = &g[start * outputs..(start + rows) * outputs];
        let w = Matrix::new(w, outputs, inputs);
        matmul(dx, inputs, false, 1.0, Matrix::new(g, rows, outputs), w);
    });
    dx
}

/// Gradient with respect to the weight: `g^T x`, `[out, in]`.
pub fn backward_weight(g: &[f32], x: &[f32], outputs: usize, inputs: usize) -> Vec<f32> {
    let rows = x.len() / inputs;
    let mut dw = buffer(outputs * inputs);
    for_blocks(&mut dw, inputs, WEIGHT_ROWS, |_, start, dw| {
        let count = dw.len() / inputs;
        let g = Matrix::strided(&g[start..], rows, count, outputs).t();
        matmul(dw, inputs, false, 1.0, g, Matrix::new(x, rows, inputs));
    });
    dw
}

/// Gradient with respect to the bias: the sum of the rows of `g`.
pub fn backward_bias(g: &[f32], outputs: usize) -> Vec<f32> {
    let rows = g.len() / outputs;
    let per_block = block_rows(rows);
    let parts = map_blocks(rows.div_ceil(per_block), |block| {
        let start = block * per_block * outputs;
        let end = g.len().min(start + per_block * outputs);
        let mut total = vec![0.0; outputs];
        for row in g[start..end].chunks_exact(outputs) {
            add_assign(&mut total, row);
        }
        total
    });
    sum_in_order(parts, outputs)
}

/// `g * derivative`, element by element.
pub fn backward_gelu(g: &[f32], derivative: &[f32]) -> Vec<f32> {
    let mut product = buffer(g.len());
    for_blocks(&mut product, 1, 1 << 16, |_, start, out| {
        let end = start + out.len();
        multiply(out, &g[start..end], &derivative[start..end]);
    });
    product
}

simd! {
    fn multiply(out: &mut [f32], a: &[f32], b: &[f32]) {
        for ((o, a), b) in out.iter_mut().zip(a).zip(b) {
            *o = a * b;
        }
    }
}

simd! {
    fn add_bias(y: &mut [f32], b: &[f32]) {
        for row in y.chunks_exact_mut(b.len()) {
            for (y, b) in row.iter_mut().zip(b) {
                *y += b;
            }
        }
    }
}

simd! {
    fn bias_gelu(y: &mut [f32], derivative: &mut [f32], b: &[f32]) {
        let width = b.len();
        for (row, derivative) in y.chunks_exact_mut(width).zip(derivative.chunks_exact_mut(width)) {
            for ((y, d), b) in row.iter_mut().zip(derivative).zip(b) {
                (*y, *d) = gelu_with_derivative(*y + b);
            }
        }
    }
}
