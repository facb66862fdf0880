//! The residual connection with LayerScale and stochastic depth: `x + keep * gamma * y`.

use super::parallel::{Hole, block_rows, build, each_row, map_blocks, sum_in_order};
use super::simd::{map1, map2, map3, simd};

/// What scales the branch: LayerScale's factors and one factor per sample, either may be absent.
#[derive(Debug, Clone, Copy)]
pub struct Scale<'a> {
    /// `[d]`.
    pub gamma: Option<&'a [f32]>,
    /// `[batch]`.
    pub keep: Option<&'a [f32]>,
    pub tokens: usize,
    pub dim: usize,
}

impl Scale<'_> {
    /// Factor of the sample that row `row` belongs to.
    fn keep_of(&self, row: usize) -> f32 {
        self.keep.map_or(1.0, |keep| keep[row / self.tokens])
    }
}

/// `x + keep * gamma * y`, all `[batch, tokens, d]`.
pub fn forward(x: &[f32], y: &[f32], scale: Scale<'_>) -> Vec<f32> {
    let width = scale.dim;
    let per_block = block_rows(x.len() / width);
    build(x.len(), per_block * width, |index, out| {
        each_row(out, width, |row, out| {
            let row = index * per_block + row;
            let range = row * width..(row + 1) * width;
            let (x, y) = (&x[range.clone()], &y[range]);
            match scale.gamma {
                Some(gamma) => scaled_add(out, x, y, gamma, scale.keep_of(row)),
                None => add(out, x, y, scale.keep_of(row)),
            }
        })
    })
}

/// Gradient with respect to the branch y: `g * gamma * keep`.
pub fn backward_branch(g: &[f32], scale: Scale<'_>) -> Vec<f32> {
    let width = scale.dim;
    let per_block = block_rows(g.len() / width);
    build(g.len(), per_block * width, |index, dy| {
        each_row(dy, width, |row, dy| {
            let row = index * per_block + row;
            let g = &g[row * width..(row + 1) * width];
            match scale.gamma {
                Some(gamma) => scaled(dy, g, gamma, scale.keep_of(row)),
                None => times(dy, g, scale.keep_of(row)),
            }
        })
    })
}

/// Gradient with respect to gamma: the sum over rows of `g * y * keep`.
pub fn backward_gamma(g: &[f32], y: &[f32], scale: Scale<'_>) -> Vec<f32> {
    let width = scale.dim;
    let rows = g.len() / width;
    let per_block = block_rows(rows);
    let parts = map_blocks(rows.div_ceil(per_block), |block| {
        let mut total = vec![0.0; width];
        for row in block * per_block..rows.min((block + 1) * per_block) {
            let range = row * width..(row + 1) * width;
            accumulate(&mut total, &g[range.clone()], &y[range], scale.keep_of(row));
        }
        total
    });
    sum_in_order(parts, width)
}

simd! {
    fn scaled_add<'h>(out: Hole<'h>, x: &[f32], y: &[f32], gamma: &[f32], keep: f32) -> &'h mut [f32] {
        map3(out, x, y, gamma, |x, y, gamma| (y * gamma).mul_add(keep, x))
    }
}

simd! {
    fn add<'h>(out: Hole<'h>, x: &[f32], y: &[f32], keep: f32) -> &'h mut [f32] {
        map2(out, x, y, |x, y| y.mul_add(keep, x))
    }
}

simd! {
    fn scaled<'h>(out: Hole<'h>, g: &[f32], gamma: &[f32], keep: f32) -> &'h mut [f32] {
        map2(out, g, gamma, |g, gamma| g * gamma * keep)
    }
}

simd! {
    fn times<'h>(out: Hole<'h>, g: &[f32], keep: f32) -> &'h mut [f32] {
        map1(out, g, |g| g * keep)
    }
}

simd! {
    fn accumulate(total: &mut [f32], g: &[f32], y: &[f32], keep: f32) {
        for ((t, g), y) in total.iter_mut().zip(g).zip(y) {
            *t = (g * y).mul_add(keep, *t);
        }
    }
}
