//! Gradient clipping by the global L2 norm.

use burn::tensor::Tensor;

/// Global L2 norm over all gradients, on the host.
pub fn global_norm(grads: &[Tensor<1>]) -> f64 {
    let squares: Vec<Tensor<1>> = grads
        .iter()
        .map(|g| (g.clone() * g.clone()).sum())
        .collect();
    if squares.is_empty() {
        return 0.0;
    }
    f64::from(Tensor::cat(squares, 0).sum().into_scalar::<f32>()).sqrt()
}

/// Divides all gradients by `max(1, norm / max_norm)`.
pub fn clip(grads: Vec<Tensor<1>>, norm: f64, max_norm: f64) -> Vec<Tensor<1>> {
    let factor = norm / max_norm;
    if factor <= 1.0 {
        return grads;
    }
    grads.into_iter().map(|g| g.div_scalar(factor)).collect()
}
