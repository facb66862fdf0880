//! Interpolation of position embeddings to another grid (FixRes, Touvron et al. 2019).
//!
//! PyTorch's `interpolate(mode="bicubic", align_corners=False)`: cubic convolution with a = -0.75
//! (Pillow's resize uses -0.5), half-pixel centres, indices clamped at the border, no antialiasing
//! even when the grid shrinks.

/// Resizes `values` `[old * old, dim]`, row-major over a square grid, to `[new * new, dim]`.
pub fn interpolate(values: &[f32], old: usize, new: usize, dim: usize) -> Vec<f32> {
    assert_eq!(values.len(), old * old * dim, "a square grid of vectors");
    if old == new {
        return values.to_vec();
    }
    let taps: Vec<[(usize, f64); 4]> = (0..new).map(|i| taps(i, old, new)).collect();
    let mut out = Vec::with_capacity(new * new * dim);
    for row_taps in &taps {
        for column_taps in &taps {
            for channel in 0..dim {
                let mut sum = 0.0;
                for &(row, row_weight) in row_taps {
                    for &(column, column_weight) in column_taps {
                        let value = values[(row * old + column) * dim + channel];
                        sum += row_weight * column_weight * f64::from(value);
                    }
                }
                out.push(sum as f32);
            }
        }
    }
    out
}

/// Source indices and weights of target index `i`.
fn taps(i: usize, old: usize, new: usize) -> [(usize, f64); 4] {
    const A: f64 = -0.75;
    let near = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    let source = (i as f64 + 0.5) * old as f64 / new as f64 - 0.5;
    let base = source.floor();
    let t = source - base;
    let weights = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
    let mut taps = [(0, 0.0); 4];
    for (offset, weight) in weights.into_iter().enumerate() {
        let index = (base as i64 + offset as i64 - 1).clamp(0, old as i64 - 1);
        taps[offset] = (index as usize, weight);
    }
    taps
}
