//! The residual connection with LayerScale and stochastic depth: `x + keep * gamma * y`.

use super::parallel::{Hole, block_rows, build, map_blocks, sum_in_order};
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
    /// Factors of the samples that `count` rows from `first` on belong to.
    fn keep_of(&self, first: usize, count: usize) -> Vec<f32> {
        let factor = |row: usize| self.keep.map_or(1.0, |keep| keep[row / self.tokens]);
        (first..first + count).map(factor).collect()
    }
}

/// `x + keep * gamma * y`, all `[batch, tokens, d]`.
pub fn forward(x: &[f32], y: &[f32], scale: Scale<'_>) -> Vec<f32> {
    let width = scale.dim;
    let per_block = block_rows(x.len() / width);
    build(x.len(), per_block * width, |index, out| {
        let range = index * per_block * width..index * per_block * width + out.len();
        let keep = scale.keep_of(index * per_block, out.len() / width);
        let (x, y) = (&x[range.clone()], &y[range]);
        match scale.gamma {
            Some(gamma) => scaled_add(out, x, y, gamma, &keep),
            None => add(out, x, y, width, &keep),
        }
    })
}

/// Gradient with respect to the branch y: `g * gamma * keep`.
pub fn backward_branch(g: &[f32], scale: Scale<'_>) -> Vec<f32> {
    let width = scale.dim;
    let per_block = block_rows(g.len() / width);
    build(g.len(), per_block * width, |index, dy| {
        let start = index * per_block * width;
        let keep = scale.keep_of(index * per_block, dy.len() / width);
        let g = &g[start..start + dy.len()];
        match scale.gamma {
            Some(gamma) => scaled(dy, g, gamma, &keep),
            None => times(dy, g, width, &keep),
        }
    })
}

/// Gradient with respect to gamma: the sum over rows of `g * y * keep`.
pub fn backward_gamma(g: &[f32], y: &[f32], scale: Scale<'_>) -> Vec<f32> {
    let width = scale.dim;
    let rows = g.len() / width;
    let per_block = block_rows(rows);
    let parts = map_blocks(rows.div_ceil(per_block), |block| {
        let mut total = vec![0.0; width];
        let count = per_block.min(rows - block * per_block);
        let range = block * per_block * width..(block * per_block + count) * width;
        let keep = scale.keep_of(block * per_block, count);
        accumulate(&mut total, &g[range.clone()], &y[range], &keep);
        total
    });
    sum_in_order(parts, width)
}

simd! {
    fn scaled_add<'h>(out: Hole<'h>, x: &[f32], y: &[f32], gamma: &[f32], keep: &[f32]) -> &'h mut [f32] {
        let width = gamma.len();
        assert!(
            x.len() == out.len() && y.len() == out.len() && out.len() == keep.len() * width,
            "whole rows, as many of each"
        );
        let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(y.chunks_exact(width));
        for (((out, x), y), &keep) in rows.zip(keep) {
            map3(out, x, y, gamma, |x, y, gamma| (y * gamma).mul_add(keep, x));
        }
        // SAFETY: the rows cover `out`, and each was written.
        unsafe { out.assume_init_mut() }
    }
}

simd! {
    fn add<'h>(out: Hole<'h>, x: &[f32], y: &[f32], width: usize, keep: &[f32]) -> &'h mut [f32] {
        assert!(
            x.len() == out.len() && y.len() == out.len() && out.len() == keep.len() * width,
            "whole rows, as many of each"
        );
        let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(y.chunks_exact(width));
        for (((out, x), y), &keep) in rows.zip(keep) {
            map2(out, x, y, |x, y| y.mul_add(keep, x));
        }
        // SAFETY: the rows cover `out`, and each was written.
        unsafe { out.assume_init_mut() }
    }
}

simd! {
    fn scaled<'h>(out: Hole<'h>, g: &[f32], gamma: &[f32], keep: &[f32]) -> &'h mut [f32] {
        let width = gamma.len();
        assert!(
            g.len() == out.len() && out.len() == keep.len() * width,
            "whole rows, as many of each"
        );
        let rows = out.chunks_exact_mut(width).zip(g.chunks_exact(width));
        for ((out, g), &keep) in rows.zip(keep) {
            map2(out, g, gamma, |g, gamma| g * gamma * keep);
        }
        // SAFETY: the rows cover `out`, and each was written.
        unsafe { out.assume_init_mut() }
    }
}

simd! {
    fn times<'h>(out: Hole<'h>, g: &[f32], width: usize, keep: &[f32]) -> &'h mut [f32] {
        assert!(
            g.len() == out.len() && out.len() == keep.len() * width,
            "whole rows, as many of each"
        );
        let rows = out.chunks_exact_mut(width).zip(g.chunks_exact(width));
        for ((out, g), &keep) in rows.zip(keep) {
            map1(out, g, |g| g * keep);
        }
        // SAFETY: the rows cover `out`, and each was written.
        unsafe { out.assume_init_mut() }
    }
}

simd! {
    fn accumulate(total: &mut [f32], g: &[f32], y: &[f32], keep: &[f32]) {
        let width = total.len();
        for ((g, y), &keep) in g.chunks_exact(width).zip(y.chunks_exact(width)).zip(keep) {
            for ((t, g), y) in total.iter_mut().zip(g).zip(y) {
                *t = (g * y).mul_add(keep, *t);
            }
        }
    }
}
