//! Initial values as the reference draws them, under keyed random numbers.
//!
//! Linear weights, position embedding and class token: normal, standard deviation 0.02 (the
//! reference truncates at +-2, a hundred standard deviations away). Patch convolution: PyTorch's
//! default, uniform in +-1/sqrt(fan_in) for weight and bias, because the reference re-initialises
//! linear and norm layers only. Biases zero, norms one, LayerScale its constant.
//!
//! Each parameter has a key of its own (seed, position), so the values don't depend on the order of
//! evaluation or on the other parameters' sizes.

use crate::rng::{KeyedRng, Purpose};
use burn::tensor::{Device, Tensor, TensorData};

/// Draws parameter after parameter.
#[derive(Debug)]
pub struct Source {
    seed: u64,
    next: u64,
}

impl Source {
    pub fn new(seed: u64) -> Self {
        Source { seed, next: 0 }
    }

    fn draw<const D: usize>(
        &mut self,
        shape: [usize; D],
        device: &Device,
        mut value: impl FnMut(&mut KeyedRng) -> f64,
    ) -> Tensor<D> {
        let mut rng = KeyedRng::new(self.seed, Purpose::Init, 0, self.next);
        self.next += 1;
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| value(&mut rng) as f32)
            .collect();
        let tensor = Tensor::from_data(TensorData::new(values, shape), device);
        if device.is_autodiff() {
            tensor.require_grad()
        } else {
            tensor
        }
    }

    /// Normal with mean 0 and standard deviation `std`.
    pub fn normal<const D: usize>(
        &mut self,
        shape: [usize; D],
        std: f64,
        device: &Device,
    ) -> Tensor<D> {
        self.draw(shape, device, |rng| std * rng.normal())
    }

    /// Uniform in [-bound, bound).
    pub fn uniform<const D: usize>(
        &mut self,
        shape: [usize; D],
        bound: f64,
        device: &Device,
    ) -> Tensor<D> {
        self.draw(shape, device, |rng| rng.uniform(-bound, bound))
    }

    /// All `value`.
    pub fn constant<const D: usize>(
        &mut self,
        shape: [usize; D],
        value: f64,
        device: &Device,
    ) -> Tensor<D> {
        self.draw(shape, device, |_| value)
    }
}
