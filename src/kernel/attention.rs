//! Multi-head self-attention on packed queries, keys and values.
//!
//! Per sample and head: scores `s Q K^T`, softmax over keys, product with V. Heads are read from and
//! written to the packed layout in place, without the transposes of the textbook form. The softmax
//! is kept for the backward pass: `heads * tokens^2` values a sample.

use super::matmul::{Matrix, matmul, matmul_fill, matmul_into};
use super::parallel::{Hole, build, build_pair, each_row};
use super::simd::{LANES, dot, exp, fold, max, simd};
use std::cell::RefCell;

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
///
/// # Panics
/// If the heads don't share the width evenly.
pub fn forward(qkv: &[f32], shape: Shape) -> (Vec<f32>, Vec<f32>) {
    let width = shape.tokens * shape.dim;
    build_pair(
        [shape.batch * width, shape.batch * shape.scores()],
        [width, shape.scores()],
        |sample, out, softmax| {
            let qkv = &qkv[sample * 3 * width..(sample + 1) * 3 * width];
            let square = shape.tokens * shape.tokens;
            let softmax = each_row(softmax, square, |head, scores| {
                let [q, k, _] = shape.parts(qkv, head);
                let scores = matmul_fill(scores, shape.scale(), q, k.t());
                softmax_rows(scores, shape.tokens);
                scores
            });
            (mix(out, softmax, qkv, shape), softmax)
        },
    )
}

/// The output alone, `[batch, tokens, dim]`, where no backward pass follows.
pub fn output(qkv: &[f32], shape: Shape) -> Vec<f32> {
    let width = shape.tokens * shape.dim;
    build(shape.batch * width, width, |sample, out| {
        let qkv = &qkv[sample * 3 * width..(sample + 1) * 3 * width];
        with_scratch(shape.scores(), |softmax| {
            for (head, scores) in softmax
                .chunks_exact_mut(shape.tokens * shape.tokens)
                .enumerate()
            {
                let [q, k, _] = shape.parts(qkv, head);
                matmul(scores, shape.tokens, false, shape.scale(), q, k.t());
                softmax_rows(scores, shape.tokens);
            }
            mix(out, softmax, qkv, shape)
        })
    })
}

/// One sample's values, mixed by its softmax.
fn mix<'h>(out: Hole<'h>, softmax: &[f32], qkv: &[f32], shape: Shape) -> &'h mut [f32] {
    let square = shape.tokens * shape.tokens;
    assert!(
        shape.heads * shape.head_dim() == shape.dim && out.len() == shape.tokens * shape.dim,
        "heads share the width evenly"
    );
    for (head, scores) in softmax.chunks_exact(square).take(shape.heads).enumerate() {
        let [_, _, v] = shape.parts(qkv, head);
        let scores = Matrix::new(scores, shape.tokens, shape.tokens);
        matmul_into(
            &mut out[head * shape.head_dim()..],
            shape.dim,
            1.0,
            scores,
            v,
        );
    }
    assert_eq!(softmax.len(), shape.scores(), "a softmax for each head");
    // SAFETY: head h wrote columns h * head_dim to (h + 1) * head_dim of every row, and together the heads
    // have the width of a row.
    unsafe { out.assume_init_mut() }
}

/// Gradient with respect to the packed input, from the output's gradient `g [batch, tokens, dim]`.
///
/// # Panics
/// If the heads don't share the width evenly.
pub fn backward(g: &[f32], qkv: &[f32], softmax: &[f32], shape: Shape) -> Vec<f32> {
    let Shape { tokens, dim, .. } = shape;
    let (width, square, stride) = (tokens * dim, tokens * tokens, 3 * dim);
    assert_eq!(
        shape.heads * shape.head_dim(),
        dim,
        "heads share the width evenly"
    );
    build(qkv.len(), 3 * width, |sample, dqkv| {
        let qkv = &qkv[sample * 3 * width..(sample + 1) * 3 * width];
        let g = &g[sample * width..(sample + 1) * width];
        let softmax = &softmax[sample * shape.scores()..(sample + 1) * shape.scores()];
        assert_eq!(dqkv.len(), 3 * width, "whole samples");
        with_scratch(square, |work| {
            for head in 0..shape.heads {
                let [q, k, v] = shape.parts(qkv, head);
                let p = &softmax[head * square..(head + 1) * square];
                let g = &g[head * shape.head_dim()..];
                let g = Matrix::strided(g, tokens, shape.head_dim(), dim);
                let [dq, dk, dv] = [0, 1, 2].map(|part| part * dim + head * shape.head_dim());
                let p_matrix = Matrix::new(p, tokens, tokens);
                matmul_into(&mut dqkv[dv..], stride, 1.0, p_matrix.t(), g);
                matmul(work, tokens, false, 1.0, g, v.t());
                softmax_gradient(work, p, tokens);
                let ds = Matrix::new(work, tokens, tokens);
                matmul_into(&mut dqkv[dq..], stride, shape.scale(), ds, k);
                matmul_into(&mut dqkv[dk..], stride, shape.scale(), ds.t(), q);
            }
        });
        // SAFETY: each head wrote its columns of queries, keys and values in every row; together they have
        // the width of a packed row.
        unsafe { dqkv.assume_init_mut() }
    })
}

/// Runs `work` on `len` numbers of this thread's own, whatever they are.
fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    thread_local! {
        static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    }
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < len {
            scratch.resize(len, 0.0);
        }
        work(&mut scratch[..len])
    })
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
