//! The feed-forward part of a block: linear, exact GELU, linear.

use super::init;
use super::linear::Linear;
use super::parameter::{Parameters, Visitor};
use burn::tensor::{Device, Tensor};

/// `fc1`: `[hidden, d]`, `fc2`: `[d, hidden]`.
#[derive(Debug, Clone)]
pub struct Mlp {
    pub fc1: Linear,
    pub fc2: Linear,
}

impl Mlp {
    pub fn new(dim: usize, hidden: usize, init: &mut init::Source, device: &Device) -> Self {
        Mlp {
            fc1: Linear::new(dim, hidden, init, device),
            fc2: Linear::new(hidden, dim, init, device),
        }
    }

    /// x `[batch, tokens, d]` -> `[batch, tokens, d]`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.fc2.forward(self.fc1.forward_gelu(x))
    }
}

impl Parameters for Mlp {
    fn visit(&mut self, prefix: &str, visitor: &mut impl Visitor) {
        self.fc1.visit(&format!("{prefix}fc1."), visitor);
        self.fc2.visit(&format!("{prefix}fc2."), visitor);
    }
}
