//! Layer normalisation with the reference's eps of 1e-6.

use super::init;
use super::parameter::{Parameters, Visitor};
use crate::kernel;
use burn::tensor::{Device, Tensor};

/// The reference's eps; PyTorch's own default of 1e-5 is visible in logits.
pub const EPS: f32 = 1e-6;

/// Weight and bias `[d]`.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    pub weight: Tensor<1>,
    pub bias: Tensor<1>,
}

impl LayerNorm {
    /// Weight one, bias zero.
    pub fn new(dim: usize, init: &mut init::Source, device: &Device) -> Self {
        LayerNorm {
            weight: init.constant([dim], 1.0, device),
            bias: init.constant([dim], 0.0, device),
        }
    }

    /// x `[batch, tokens, d]`, normalised over d.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        kernel::layer_norm(x, self.weight.clone(), self.bias.clone(), EPS)
    }
}

impl Parameters for LayerNorm {
    fn visit(&mut self, prefix: &str, visitor: &mut impl Visitor) {
        visitor.visit(&format!("{prefix}weight"), &mut self.weight);
        visitor.visit(&format!("{prefix}bias"), &mut self.bias);
    }
}
