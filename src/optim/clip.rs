//! Gradient clipping by the global L2 norm.

use burn::tensor::Tensor;

/// From this length on Burn's CPU backend sums a vector in pieces, in an order that depends on threads and
/// on chance.
const LONG: usize = 4 << 20;

/// Global L2 norm over all gradients, on the host. The order of the sum depends on shapes only.
pub fn global_norm(grads: &[Tensor<1>]) -> f64 {
    let squares: Vec<Tensor<1>> = grads.iter().map(|g| sum(g.clone() * g.clone())).collect();
    if squares.is_empty() {
        return 0.0;
    }
    f64::from(Tensor::cat(squares, 0).sum().into_scalar::<f32>()).sqrt()
}

/// The sum of `values`, long ones in pieces that are summed in order.
pub(super) fn sum(values: Tensor<1>) -> Tensor<1> {
    let [length] = values.dims();
    if length < LONG {
        return values.sum();
    }
    let pieces = (0..length).step_by(LONG / 2).map(|start| {
        let end = length.min(start + LONG / 2);
        values.clone().slice(start..end).sum()
    });
    Tensor::cat(pieces.collect(), 0).sum()
}

/// Divides all gradients by `max(1, norm / max_norm)`.
pub fn clip(grads: Vec<Tensor<1>>, norm: f64, max_norm: f64) -> Vec<Tensor<1>> {
    let factor = norm / max_norm;
    if factor <= 1.0 {
        return grads;
    }
    grads.into_iter().map(|g| g.div_scalar(factor)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    /// Five million values, and once more in other numbers of threads.
    #[test]
    fn a_long_norm_does_not_depend_on_threads() {
        let values: Vec<f32> = (0..5 << 20)
            .map(|i| (i as f32 * 0.731).sin() * 1e-2)
            .collect();
        let reference = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
        let data = TensorData::new(values.clone(), [values.len()]);
        let tensor: Tensor<1> = Tensor::from_data(data, &Device::flex());
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| global_norm(std::slice::from_ref(&tensor)))
        };
        let one = run(1);
        assert!((one / reference.sqrt() - 1.0).abs() < 1e-4, "{one}");
        for threads in [2, 3, 5] {
            assert_eq!(one.to_bits(), run(threads).to_bits(), "{threads} threads");
        }
    }
}
