//! Linear layer with bias, optionally followed by the exact GELU.
//!
//! Weights are `[out, in]`, as PyTorch stores them. Some rows at a time go through the matrix product
//! and its epilogue (bias, GELU) while they are in cache.

use super::matmul::{Matrix, matmul_fill};
use super::parallel::{Hole, block_rows, build, build_pair, job_rows, map_blocks, sum_in_order};
use super::simd::{add_assign, gelu, gelu_with_derivative, map2, simd};

/// `x w^T + b`: x `[rows, in]`, w `[out, in]`, b `[out]` -> `[rows, out]`.
pub fn forward(x: &[f32], w: &[f32], b: &[f32], inputs: usize) -> Vec<f32> {
    let outputs = b.len();
    let rows = x.len() / inputs;
    let per_job = job_rows(rows);
    build(rows * outputs, per_job * outputs, |index, hole| {
        let y = product(hole, index * per_job, x, w, inputs, outputs);
        add_bias(y, b);
        y
    })
}

/// `gelu(x w^T + b)`, `[rows, out]`.
pub fn forward_gelu(x: &[f32], w: &[f32], b: &[f32], inputs: usize) -> Vec<f32> {
    let outputs = b.len();
    let rows = x.len() / inputs;
    let per_job = job_rows(rows);
    build(rows * outputs, per_job * outputs, |index, hole| {
        let y = product(hole, index * per_job, x, w, inputs, outputs);
        bias_gelu(y, b);
        y
    })
}

/// `gelu(x w^T + b)` and the derivative of the GELU at its argument, both `[rows, out]`.
pub fn forward_gelu_with_derivative(
    x: &[f32],
    w: &[f32],
    b: &[f32],
    inputs: usize,
) -> (Vec<f32>, Vec<f32>) {
    let outputs = b.len();
    let rows = x.len() / inputs;
    let per_job = job_rows(rows);
    build_pair(
        [rows * outputs; 2],
        [per_job * outputs; 2],
        |index, y, derivative| {
            let y = product(y, index * per_job, x, w, inputs, outputs);
            let derivative = bias_gelu_derivative(derivative, y, b);
            (y, derivative)
        },
    )
}

/// One block of rows from `start` of `x w^T`.
fn product<'h>(
    y: Hole<'h>,
    start: usize,
    x: &[f32],
    w: &[f32],
    inputs: usize,
    outputs: usize,
) -> &'h mut [f32] {
    let rows = y.len() / outputs;
    let x = &x[start * inputs..(start + rows) * inputs];
    let w = Matrix::new(w, outputs, inputs).t();
    matmul_fill(y, 1.0, Matrix::new(x, rows, inputs), w)
}

/// Gradient with respect to the input: `g w`, g `[rows, out]` -> `[rows, in]`.
pub fn backward_input(g: &[f32], w: &[f32], inputs: usize) -> Vec<f32> {
    let outputs = w.len() / inputs;
    let rows = g.len() / outputs;
    let per_job = job_rows(rows);
    build(rows * inputs, per_job * inputs, |index, dx| {
        let (start, rows) = (index * per_job, dx.len() / inputs);
        let g = &g[start * outputs..(start + rows) * outputs];
        let w = Matrix::new(w, outputs, inputs);
        matmul_fill(dx, 1.0, Matrix::new(g, rows, outputs), w)
    })
}

/// Gradient with respect to the weight: `g^T x`, `[out, in]`.
pub fn backward_weight(g: &[f32], x: &[f32], outputs: usize, inputs: usize) -> Vec<f32> {
    let rows = x.len() / inputs;
    let per_job = job_rows(outputs);
    build(outputs * inputs, per_job * inputs, |index, dw| {
        let count = dw.len() / inputs;
        // Without rows there is nothing to begin at.
        let g = g.get(index * per_job..).unwrap_or_default();
        let g = Matrix::strided(g, rows, count, outputs).t();
        matmul_fill(dw, 1.0, g, Matrix::new(x, rows, inputs))
    })
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
    const BLOCK: usize = 1 << 16;
    build(g.len(), BLOCK, |index, out| {
        let range = index * BLOCK..index * BLOCK + out.len();
        multiply(out, &g[range.clone()], &derivative[range])
    })
}

simd! {
    fn multiply<'h>(out: Hole<'h>, a: &[f32], b: &[f32]) -> &'h mut [f32] {
        map2(out, a, b, |a, b| a * b)
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
    fn bias_gelu(y: &mut [f32], b: &[f32]) {
        for row in y.chunks_exact_mut(b.len()) {
            for (y, b) in row.iter_mut().zip(b) {
                *y = gelu(*y + b);
            }
        }
    }
}

simd! {
    fn bias_gelu_derivative<'h>(derivative: Hole<'h>, y: &mut [f32], b: &[f32]) -> &'h mut [f32] {
        let width = b.len();
        assert!(
            derivative.len() == y.len() && y.len().is_multiple_of(width),
            "whole rows, as many in both"
        );
        let rows = y.chunks_exact_mut(width).zip(derivative.chunks_exact_mut(width));
        for (row, derivative) in rows {
            for ((y, d), b) in row.iter_mut().zip(derivative).zip(b) {
                let (value, slope) = gelu_with_derivative(*y + b);
                *y = value;
                d.write(slope);
            }
        }
        // SAFETY: rows of the bias's width cover both, so each derivative was written.
        unsafe { derivative.assume_init_mut() }
    }
}
