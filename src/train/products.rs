//! The matrix products of a training step and nothing else: the time that no fused operation can go below.

use crate::kernel::matmul::{Matrix, matmul_fill, matmul_into};
use crate::kernel::parallel::{build, job_rows};
use crate::model::Architecture;
use std::time::Instant;

/// Seconds that the matrix products of one training step take by themselves, in the jobs and layouts of
/// the fused operations: the best of a few trials of each shape.
pub fn seconds(arch: &Architecture, batch: usize) -> f64 {
    let tokens = arch.grid() * arch.grid() + 1;
    let (rows, d, hidden) = (batch * tokens, arch.embed_dim, arch.mlp_hidden());
    let branches = (arch.depth * arch.parallel_branches) as f64;
    let pixels = arch.channels * arch.patch_size * arch.patch_size;
    let linears: f64 = [(d, 3 * d), (d, d), (d, hidden), (hidden, d)]
        .into_iter()
        .map(|(inputs, outputs)| linear(rows, inputs, outputs, true))
        .sum();
    branches * (linears + attention(arch, batch, tokens))
        + linear(batch * (tokens - 1), pixels, d, false)
        + linear(batch, d, arch.classes, true)
}

/// The shortest of a few runs, after one that doesn't count.
fn best(mut work: impl FnMut()) -> f64 {
    work();
    (0..3)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}

/// Forward product, weight gradient and, if asked for, input gradient.
fn linear(rows: usize, inputs: usize, outputs: usize, with_input: bool) -> f64 {
    let (x, w) = (vec![0.5f32; rows * inputs], vec![0.25f32; outputs * inputs]);
    let g = vec![0.5f32; rows * outputs];
    let per_job = job_rows(rows);
    let forward = best(|| {
        let y = build(rows * outputs, per_job * outputs, |index, y| {
            let (start, rows) = (index * per_job, y.len() / outputs);
            let x = Matrix::new(&x[start * inputs..], rows, inputs);
            matmul_fill(y, 1.0, x, Matrix::new(&w, outputs, inputs).t())
        });
        std::hint::black_box(y);
    });
    let weight = best(|| {
        let dw = crate::kernel::linear::backward_weight(&g, &x, outputs, inputs);
        std::hint::black_box(dw);
    });
    let input = || {
        best(|| {
            let dx = crate::kernel::linear::backward_input(&g, &w, inputs);
            std::hint::black_box(dx);
        })
    };
    forward + weight + if with_input { input() } else { 0.0 }
}

/// The six products of each head, forward and backward.
fn attention(arch: &Architecture, batch: usize, tokens: usize) -> f64 {
    let (d, heads) = (arch.embed_dim, arch.num_heads);
    let head = d / heads;
    assert_eq!(heads * head, d, "heads share the width evenly");
    let qkv = vec![0.1f32; batch * tokens * 3 * d];
    let square = tokens * tokens;
    best(|| {
        let out = build(qkv.len(), tokens * 3 * d, |sample, out| {
            let start = sample * tokens * 3 * d;
            let mut scores = vec![0.0f32; square];
            for number in 0..heads {
                let part = |part: usize| {
                    let start = start + part * d + number * head;
                    Matrix::strided(&qkv[start..], tokens, head, 3 * d)
                };
                let [q, k, v] = [0, 1, 2].map(part);
                for _ in 0..2 {
                    crate::kernel::matmul::matmul(&mut scores, tokens, false, 1.0, q, k.t());
                }
                let p = Matrix::new(&scores, tokens, tokens);
                // The output stands where the queries' gradient will.
                for (place, a, b) in [(0, p, v), (0, p, k), (1, p.t(), q), (2, p.t(), v)] {
                    let start = place * d + number * head;
                    matmul_into(&mut out[start..], 3 * d, 1.0, a, b);
                }
            }
            // SAFETY: each head wrote its columns of all three parts, and the heads share the width.
            unsafe { out.assume_init_mut() }
        });
        std::hint::black_box(out);
    })
}
