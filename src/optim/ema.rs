//! Exponential moving average of the weights (timm's `ModelEma`): `e = decay * e + (1 - decay) * p`
//! after every step.

use crate::kernel::update;
use burn::tensor::Tensor;

/// The average of a list of parameters.
#[derive(Debug, Clone)]
pub struct Ema {
    decay: f64,
    pub average: Vec<Tensor<1>>,
}

impl Ema {
    /// Starts at the parameters' present values.
    pub fn new(decay: f64, params: Vec<Tensor<1>>) -> Self {
        Ema {
            decay,
            average: params,
        }
    }

    /// Takes in the parameters after a step.
    pub fn update(&mut self, params: &[Tensor<1>]) {
        if update::is_possible(&self.average) {
            self.average = update::blend(std::mem::take(&mut self.average), params, self.decay);
            return;
        }
        for (average, p) in self.average.iter_mut().zip(params) {
            *average =
                average.clone().mul_scalar(self.decay) + p.clone().mul_scalar(1.0 - self.decay);
        }
    }
}
