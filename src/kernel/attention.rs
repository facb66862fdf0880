//! Multi-head self-attention on packed queries, keys and values.
//!
//! Per sample and head: scores `s Q K^T`, softmax over keys, product with V. Heads are read from and
//! written to the packed layout in place, without the transposes of the textbook form. The softmax
//! is kept for the backward pass: `heads * tokens^2` values a sample.

use super::matmul::{Matrix, matmul};
use super::parallel::buffer;
use super::simd::{LANES, dot, exp, fold, max, simd};
use rayon::prelude::*;

/// Sizes of an attention: fixed by the packed input.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub batch: usize,
    pub tokens: usize,
    /// Width of the residual stream (`heads * head_dim`).
    pub dim: usize,
    pub heads: usize,
}

impl Shape {
    fn head_dim(self) -> usize {
        self.dim / self.heads
    }

    fn scale(self) -> f32 {
        (self.head_dim() as f32).powf(-0.5)
    }

    /// Values of one sample's softmax.
    fn scores(self) -> usize {
        self.heads * self.tokens * self.tokens
    }

    /// Q, K and V of head `head` in one sample of the packed input.
    fn parts(self, qkv: &[f32], head: usize) -> [Matrix<'_>; 3] {
        [0, 1, 2].map(|part| {
            let start = part * self.dim + head * self.head_dim();
            Matrix::strided(&qkv[start..], self.tokens, self.head_dim(), 3 * self.dim)
        })
    }
}

/// Output `[batch, tokens, dim]` and the softmax `[batch, heads, tokens, tokens]`.
pub fn forward(qkv: &[f32], shape: Shape) -> (Vec<f32>, Vec<f32>) {
    let mut out = buffer(shape.batch * shape.tokens * shape.dim);
    let mut softmax = buffer(shape.batch * shape.scores());
    let sample = |(out, (softmax, qkv)): (&mut [f32], (&mut [f32], &[f32]))| {
        for head in 0..shape.heads {
            let [q, k, v] = shape.parts(qkv, head);
            let square = shape.tokens * shape.tokens;
            let scores = &mut softmax[head * square..(head + 1) * square];
            matmul(scores, shape.tokens, false, shape.scale(), q, k.t());
            softmax_rows(scores, shape.tokens);
            let scores = Matrix::new(scores, shape.tokens, shape.tokens);
            matmul(
                &mut out[head * shape.head_dim()..],
                shape.dim,
                false,
                1.0,
                scores,
                v,
            );
        }
    };
    let (width_out, width_qkv) = (shape.tokens * shape.dim, 3 * shape.tokens * shape.dim);
    if rayon::current_num_threads() == 1 {
        out.chunks_mut(width_out)
            .zip(
                softmax
                    .chunks_mut(shape.scores())
                    .zip(qkv.chunks(width_qkv)),
            )
            .for_each(sample);
    } else {
        out.par_chunks_mut(width_out)
            .zip(
                softmax
                    .par_chunks_mut(shape.scores())
                    .zip(qkv.par_chunks(width_qkv)),
            )
            .for_each(sample);
    }
    (out, softmax)
}

/// Gradient with respect to the packed input, from the output's gradient `g [batch, tokens, dim]`.
pub fn backward(g: &[f32], qkv: &[f32], softmax: &[f32], shape: Shape) -> Vec<f32> {
    let mut dqkv = buffer(qkv.len());
    let square = shape.tokens * shape.tokens;
    let sample =
        |work: &mut Vec<f32>, dqkv: &mut [f32], g: &[f32], softmax: &[f32], qkv: &[f32]| {
            work.resize(square, 0.0);
            for head in 0..shape.heads {
                let [q, k, v] = shape.parts(qkv, head);
                let p = &softmax[head * square..(head + 1) * square];
                let g = Matrix::strided(
                    &g[head * shape.head_dim()..],
                    shape.tokens,
                    shape.head_dim(),
                    shape.dim,
                );
                let starts = [0, 1, 2].map(|part| part * shape.dim + head * shape.head_dim());
                let stride = 3 * shape.dim;
                let p_matrix = Matrix::new(p, shape.tokens, shape.tokens);
                matmul(&mut dqkv[starts[2]..], stride, false, 1.0, p_matrix.t(), g);
                matmul(work, shape.tokens, false, 1.0, g, v.t());
                softmax_gradient(work, p, shape.tokens);
                let ds = Matrix::new(work, shape.tokens, shape.tokens);
                matmul(&mut dqkv[starts[0]..], stride, false, shape.scale(), ds, k);
                matmul(
                    &mut dqkv[starts[1]..],
                    stride,
                    false,
                    shape.scale(),
                    ds.t(),
                    q,
                );
            }
        };
    let (width_g, width_qkv) = (shape.tokens * shape.dim, 3 * shape.tokens * shape.dim);
    if rayon::current_num_threads() == 1 {
        let mut work = Vec::new();
        for (((dqkv, g), softmax), qkv) in dqkv
            .chunks_mut(width_qkv)
            .zip(g.chunks(width_g))
            .zip(softmax.chunks(shape.scores()))
            .zip(qkv.chunks(width_qkv))
        {
            sample(&mut work, dqkv, g, softmax, qkv);
        }
    } else {
        dqkv.par_chunks_mut(width_qkv)
            .zip(g.par_chunks(width_g))
            .zip(softmax.par_chunks(shape.scores()))
            .zip(qkv.par_chunks(width_qkv))
            .for_each_init(Vec::new, |work, (((dqkv, g), softmax), qkv)| {
                sample(work, dqkv, g, softmax, qkv);
            });
    }
    dqkv
}

simd! {
    fn softmax_rows(scores: &mut [f32], width: usize) {
        for row in scores.chunks_exact_mut(width) {
            let largest = max(row);
            let mut lanes = [0.0f32; LANES];
            let mut chunks = row.chunks_exact_mut(LANES);
            for chunk in &mut chunks {
                for lane in 0..LANES {
                    chunk[lane] = exp(chunk[lane] - largest);
                    lanes[lane] += chunk[lane];
                }
            }
            for (lane, value) in chunks.into_remainder().iter_mut().enumerate() {
                *value = exp(*value - largest);
                lanes[lane] += *value;
            }
            let inverse = 1.0 / fold(lanes);
            for value in row.iter_mut() {
                *value *= inverse;
            }
        }
    }
}

simd! {
    /// Turns the softmax's gradient into the scores': `p * (dp - sum(p * dp))`, row by row.
    fn softmax_gradient(dp: &mut [f32], p: &[f32], width: usize) {
        for (dp, p) in dp.chunks_exact_mut(width).zip(p.chunks_exact(width)) {
            let mean = dot(dp, p);
            for (d, p) in dp.iter_mut().zip(p) {
                *d = p * (*d - mean);
            }
        }
    }
}
