//! Patch embedding: a convolution whose kernel and stride are the patch, as one matrix product.

use super::init;
use super::parameter::{Parameters, Visitor};
use crate::kernel;
use burn::tensor::{Device, Tensor};

/// Weight `[d, channels, patch, patch]`, bias `[d]`.
#[derive(Debug, Clone)]
pub struct PatchEmbed {
    pub weight: Tensor<4>,
    pub bias: Tensor<1>,
}

impl PatchEmbed {
    pub fn new(
        channels: usize,
        patch: usize,
        dim: usize,
        init: &mut init::Source,
        device: &Device,
    ) -> Self {
        let bound = 1.0 / ((channels * patch * patch) as f64).sqrt();
        PatchEmbed {
            weight: init.uniform([dim, channels, patch, patch], bound, device),
            bias: init.uniform([dim], bound, device),
        }
    }

    /// Images `[batch, channels, height, width]` -> `[batch, patches, d]`, patches row by row. Pixels
    /// beyond the last whole patch are left out, as the strided convolution does.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<3> {
        let [batch, channels, height, width] = images.dims();
        let [dim, _, patch, _] = self.weight.dims();
        let (rows, columns) = (height / patch, width / patch);
        let images = if rows * patch == height && columns * patch == width {
            images
        } else {
            images.slice([0..batch, 0..channels, 0..rows * patch, 0..columns * patch])
        };
        let patches = images
            .reshape([batch, channels, rows, patch, columns, patch])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch, rows * columns, channels * patch * patch]);
        let weight = self.weight.clone().reshape([dim, channels * patch * patch]);
        kernel::linear(patches, weight, self.bias.clone())
    }
}

impl Parameters for PatchEmbed {
    fn visit(&mut self, prefix: &str, visitor: &mut impl Visitor) {
        visitor.visit(&format!("{prefix}proj.weight"), &mut self.weight);
        visitor.visit(&format!("{prefix}proj.bias"), &mut self.bias);
    }
}
