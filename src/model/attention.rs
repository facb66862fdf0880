//! Multi-head self-attention with fused query, key and value projections (timm's `Attention`).

use super::init;
use super::linear::Linear;
use super::parameter::{Parameters, Visitor};
use crate::kernel;
use burn::tensor::{Device, Tensor};

/// `qkv`: `[3 d, d]`, rows in the order query, key, value; `proj`: `[d, d]`.
#[derive(Debug, Clone)]
pub struct Attention {
    pub qkv: Linear,
    pub proj: Linear,
    pub heads: usize,
}

impl Attention {
    pub fn new(dim: usize, heads: usize, init: &mut init::Source, device: &Device) -> Self {
        Attention {
            qkv: Linear::new(dim, 3 * dim, init, device),
            proj: Linear::new(dim, dim, init, device),
            heads,
        }
    }

    /// x `[batch, tokens, d]` -> `[batch, tokens, d]`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.proj
            .forward(kernel::attention(self.qkv.forward(x), self.heads))
    }
}

impl Parameters for Attention {
    fn visit(&mut self, prefix: &str, visitor: &mut impl Visitor) {
        self.qkv.visit(&format!("{prefix}qkv."), visitor);
        self.proj.visit(&format!("{prefix}proj."), visitor);
    }
}
