//! Linear layer: `y = x W^T + b`.

use super::init;
use super::parameter::{Parameters, Visitor};
use crate::kernel;
use burn::tensor::{Device, Tensor};

/// Weight `[out, in]`, bias `[out]`.
#[derive(Debug, Clone)]
pub struct Linear {
    pub weight: Tensor<2>,
    pub bias: Tensor<1>,
}

impl Linear {
    /// Weight from a normal distribution with standard deviation 0.02, bias zero.
    pub fn new(inputs: usize, outputs: usize, init: &mut init::Source, device: &Device) -> Self {
        Linear {
            weight: init.normal([outputs, inputs], 0.02, device),
            bias: init.constant([outputs], 0.0, device),
        }
    }

    /// x `[batch, tokens, in]` -> `[batch, tokens, out]`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        kernel::linear(x, self.weight.clone(), self.bias.clone())
    }

    /// The same, through the exact GELU.
    pub fn forward_gelu(&self, x: Tensor<3>) -> Tensor<3> {
        kernel::linear_gelu(x, self.weight.clone(), self.bias.clone())
    }
}

impl Parameters for Linear {
    fn visit(&mut self, prefix: &str, visitor: &mut impl Visitor) {
        visitor.visit(&format!("{prefix}weight"), &mut self.weight);
        visitor.visit(&format!("{prefix}bias"), &mut self.bias);
    }
}
