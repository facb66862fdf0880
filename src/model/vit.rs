//! The Vision Transformer of DeiT III.
//!
//! Patch embedding, position embedding (without a place for the class token, unless asked for), class
//! token, blocks, final norm, and one linear layer on the class token.

use super::block::Block;
use super::drop_path::{self, DropPathMasks};
use super::init;
use super::layer_norm::LayerNorm;
use super::linear::Linear;
use super::parameter::{self, Parameters, Visitor};
use super::patch_embed::PatchEmbed;
use crate::spec::recipe::{DropPathRule, ModelConfig};
use burn::tensor::{Device, Tensor};

/// Everything that fixes the parameters' shapes and the forward pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    /// Side of the square image in pixels.
    pub resolution: usize,
    pub channels: usize,
    pub patch_size: usize,
    pub embed_dim: usize,
    pub depth: usize,
    pub num_heads: usize,
    pub mlp_ratio: f64,
    pub parallel_branches: usize,
    pub layer_scale: Option<f64>,
    pub drop_path: f64,
    pub drop_path_rule: DropPathRule,
    pub pos_embed_class: bool,
    pub classes: usize,
}

impl Architecture {
    /// The recipe's model at `resolution` pixels for `classes` classes.
    pub fn new(config: &ModelConfig, resolution: usize, classes: usize) -> Self {
        Architecture {
            resolution,
            channels: 3,
            patch_size: config.patch_size,
            embed_dim: config.embed_dim,
            depth: config.depth,
            num_heads: config.num_heads,
            mlp_ratio: config.mlp_ratio,
            parallel_branches: config.parallel_branches,
            layer_scale: config.layer_scale,
            drop_path: config.drop_path,
            drop_path_rule: config.drop_path_rule,
            pos_embed_class: config.pos_embed_class,
            classes,
        }
    }

    /// Patches along one side.
    pub fn grid(&self) -> usize {
        self.resolution / self.patch_size
    }

    /// Hidden width of the MLPs.
    pub fn mlp_hidden(&self) -> usize {
        (self.embed_dim as f64 * self.mlp_ratio) as usize
    }

    /// Length of the position embedding.
    pub fn positions(&self) -> usize {
        self.grid() * self.grid() + usize::from(self.pos_embed_class)
    }

    /// Stochastic depth rate of every block.
    pub fn drop_path_rates(&self) -> Vec<f64> {
        (0..self.depth)
            .map(|i| drop_path::rate(self.drop_path_rule, self.drop_path, i, self.depth))
            .collect()
    }
}

#[derive(Debug, Clone)]
pub struct VisionTransformer {
    pub arch: Architecture,
    pub cls_token: Tensor<3>,
    pub pos_embed: Tensor<3>,
    pub patch_embed: PatchEmbed,
    pub blocks: Vec<Block>,
    pub norm: LayerNorm,
    pub head: Linear,
    /// Whether blocks are run again in the backward pass instead of keeping their tensors (gradient
    /// checkpointing). It changes no result.
    pub recompute: bool,
}

impl VisionTransformer {
    /// A freshly initialised model on `device` (an autodiff device for training).
    pub fn new(arch: Architecture, seed: u64, device: &Device) -> Self {
        let init = &mut init::Source::new(seed);
        let dim = arch.embed_dim;
        VisionTransformer {
            cls_token: init.normal([1, 1, dim], 0.02, device),
            pos_embed: init.normal([1, arch.positions(), dim], 0.02, device),
            patch_embed: PatchEmbed::new(arch.channels, arch.patch_size, dim, init, device),
            blocks: (0..arch.depth)
                .map(|_| Block::new(&arch, init, device))
                .collect(),
            norm: LayerNorm::new(dim, init, device),
            head: Linear::new(dim, arch.classes, init, device),
            recompute: false,
            arch,
        }
    }

    /// Images `[batch, channels, height, width]` -> logits `[batch, classes]`. `masks` drops paths
    /// (training); without them every branch is kept.
    pub fn forward(&self, images: Tensor<4>, masks: Option<&DropPathMasks>) -> Tensor<2> {
        let mut x = self.tokens(images);
        for (index, block) in self.blocks.iter().enumerate() {
            x = if self.recompute {
                block.forward_recomputed(x, index, masks)
            } else {
                block.forward(x, index, masks)
            };
        }
        self.classify(x)
    }

    /// Tokens before the first block, `[batch, 1 + patches, d]`.
    pub fn tokens(&self, images: Tensor<4>) -> Tensor<3> {
        let [batch, ..] = images.dims();
        let cls = self
            .cls_token
            .clone()
            .expand([batch, 1, self.arch.embed_dim]);
        let patches = self.patch_embed.forward(images);
        if self.arch.pos_embed_class {
            Tensor::cat(vec![cls, patches], 1) + self.pos_embed.clone()
        } else {
            Tensor::cat(vec![cls, patches + self.pos_embed.clone()], 1)
        }
    }

    /// Logits from the tokens after the last block. The norm works token by token, so only the class
    /// token goes through it.
    pub fn classify(&self, x: Tensor<3>) -> Tensor<2> {
        let [batch, _, dim] = x.dims();
        let cls = self.norm.forward(x.slice([0..batch, 0..1, 0..dim]));
        self.head.forward(cls).reshape([batch, self.arch.classes])
    }

    /// The same weights outside autodiff: its forward pass builds no graph.
    pub fn without_autodiff(&self) -> Self {
        let mut copy = self.clone();
        let values = parameter::values(&mut copy);
        parameter::replace(&mut copy, values, false);
        copy
    }
}

impl Parameters for VisionTransformer {
    fn visit(&mut self, prefix: &str, visitor: &mut impl Visitor) {
        visitor.visit(&format!("{prefix}cls_token"), &mut self.cls_token);
        visitor.visit(&format!("{prefix}pos_embed"), &mut self.pos_embed);
        self.patch_embed
            .visit(&format!("{prefix}patch_embed."), visitor);
        for (index, block) in self.blocks.iter_mut().enumerate() {
            block.visit(&format!("{prefix}blocks.{index}."), visitor);
        }
        self.norm.visit(&format!("{prefix}norm."), visitor);
        self.head.visit(&format!("{prefix}head."), visitor);
    }
}
