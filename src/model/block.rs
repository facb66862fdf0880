//! One block: pre-norm attention and MLP with LayerScale and stochastic depth, with one or more
//! branches of each side by side.
//!
//! With two branches it is the parallel block of "Three things everyone should know about Vision
//! Transformers" (Touvron et al. 2022): both attentions read the block's input, both MLPs the sum
//! after them. Official names number further branches: `norm1`, `norm11`; `attn`, `attn1`;
//! `gamma_1`, `gamma_1_1`.

use super::attention::Attention;
use super::drop_path::DropPathMasks;
use super::init;
use super::layer_norm::LayerNorm;
use super::mlp::Mlp;
use super::parameter::{self, Parameters, Visitor};
use super::vit::Architecture;
use crate::kernel;
use crate::kernel::recompute::{self, Gradient, Leaf, PartGradients};
use burn::tensor::{Device, Tensor};

/// A residual branch around `inner`.
#[derive(Debug, Clone)]
pub struct Branch<T> {
    pub norm: LayerNorm,
    pub inner: T,
    /// LayerScale (Touvron et al. 2021): per-channel factors `[d]`.
    pub gamma: Option<Tensor<1>>,
}

#[derive(Debug, Clone)]
pub struct Block {
    pub attention: Vec<Branch<Attention>>,
    pub mlp: Vec<Branch<Mlp>>,
}

impl Block {
    pub fn new(arch: &Architecture, init: &mut init::Source, device: &Device) -> Self {
        let dim = arch.embed_dim;
        let gamma =
            |init: &mut init::Source| arch.layer_scale.map(|v| init.constant([dim], v, device));
        let mut block = Block {
            attention: Vec::new(),
            mlp: Vec::new(),
        };
        for _ in 0..arch.parallel_branches {
            block.attention.push(Branch {
                norm: LayerNorm::new(dim, init, device),
                inner: Attention::new(dim, arch.num_heads, init, device),
                gamma: gamma(init),
            });
        }
        for _ in 0..arch.parallel_branches {
            block.mlp.push(Branch {
                norm: LayerNorm::new(dim, init, device),
                inner: Mlp::new(dim, arch.mlp_hidden(), init, device),
                gamma: gamma(init),
            });
        }
        block
    }

    /// x `[batch, tokens, d]`; `index` is this block's position, for its masks.
    pub fn forward(&self, x: Tensor<3>, index: usize, masks: Option<&DropPathMasks>) -> Tensor<3> {
        let keep = |branch| masks.and_then(|masks| masks.get(index, branch));
        let input = x.clone();
        let mut x = x;
        for (number, branch) in self.attention.iter().enumerate() {
            let y = branch.inner.forward(branch.norm.forward(input.clone()));
            x = kernel::residual(x, y, branch.gamma.clone(), keep(number));
        }
        let input = x.clone();
        for (number, branch) in self.mlp.iter().enumerate() {
            let y = branch.inner.forward(branch.norm.forward(input.clone()));
            x = kernel::residual(
                x,
                y,
                branch.gamma.clone(),
                keep(self.attention.len() + number),
            );
        }
        x
    }
}

impl Block {
    /// [`Block::forward`] without keeping the block's intermediate tensors: the backward pass runs it again.
    /// The results are the same bit for bit. Where that can't be done (outside autodiff, on a GPU), this is
    /// [`Block::forward`].
    pub fn forward_recomputed(
        &self,
        x: Tensor<3>,
        index: usize,
        masks: Option<&DropPathMasks>,
    ) -> Tensor<3> {
        let mut plain = self.clone();
        let leaves = leaves(&mut plain);
        let (true, Some(leaves)) = (recompute::is_possible(&x), leaves) else {
            return self.forward(x, index, masks);
        };
        let values = parameter::values(&mut plain);
        parameter::replace(&mut plain, values, false);
        // The same masks again, so that the same paths are dropped.
        let masks =
            masks.map(|masks| DropPathMasks(masks.0.get(index).cloned().into_iter().collect()));
        let (first, first_masks) = (plain.clone(), masks.clone());
        recompute::recompute(
            x,
            leaves,
            move |x| first.forward(x, 0, first_masks.as_ref()),
            move |x, g| plain.gradients(x, g, masks.as_ref()),
        )
    }

    /// Gradients of the block, whose tensors are outside autodiff, at input `x` for an output gradient `g`.
    fn gradients(
        &self,
        x: Tensor<3>,
        g: Tensor<3>,
        masks: Option<&DropPathMasks>,
    ) -> PartGradients {
        let mut block = self.clone();
        let values = parameter::values(&mut block);
        parameter::replace(&mut block, values, true);
        let x = Tensor::from_inner(x).require_grad();
        let y = block.forward(x.clone(), 0, masks);
        // The gradient of this sum with respect to y is g, exactly.
        let mut grads = (y * Tensor::from_inner(g)).sum().backward();
        let input = x
            .grad_remove(&mut grads)
            .unwrap_or_else(|| x.clone().inner().zeros_like());
        struct Take<'a> {
            grads: &'a mut burn::tensor::Gradients,
            taken: Vec<Option<Gradient>>,
        }
        impl Visitor for Take<'_> {
            fn visit<const D: usize>(&mut self, _: &str, value: &mut Tensor<D>) {
                let gradient = value.grad_remove(self.grads);
                self.taken.push(gradient.and_then(Gradient::of));
            }
        }
        let mut take = Take {
            grads: &mut grads,
            taken: Vec::new(),
        };
        block.visit("", &mut take);
        PartGradients {
            input,
            leaves: take.taken,
        }
    }
}

/// The leaves of all parameters of `part`; `None` if one is none.
fn leaves(part: &mut impl Parameters) -> Option<Vec<Leaf>> {
    struct Leaves(Vec<Option<Leaf>>);
    impl Visitor for Leaves {
        fn visit<const D: usize>(&mut self, _: &str, value: &mut Tensor<D>) {
            self.0.push(Leaf::of(value));
        }
    }
    let mut leaves = Leaves(Vec::new());
    part.visit("", &mut leaves);
    leaves.0.into_iter().collect()
}

impl<T: Parameters> Branch<T> {
    /// `norm` and `gamma` are numbered by their place in the block (1 attention, 2 MLP).
    fn visit(
        &mut self,
        prefix: &str,
        place: usize,
        inner: &str,
        number: usize,
        visitor: &mut impl Visitor,
    ) {
        let (suffix, gamma_suffix) = if number == 0 {
            (String::new(), String::new())
        } else {
            (number.to_string(), format!("_{number}"))
        };
        self.norm
            .visit(&format!("{prefix}norm{place}{suffix}."), visitor);
        self.inner
            .visit(&format!("{prefix}{inner}{suffix}."), visitor);
        if let Some(gamma) = &mut self.gamma {
            visitor.visit(&format!("{prefix}gamma_{place}{gamma_suffix}"), gamma);
        }
    }
}

impl Parameters for Block {
    fn visit(&mut self, prefix: &str, visitor: &mut impl Visitor) {
        for (number, branch) in self.attention.iter_mut().enumerate() {
            branch.visit(prefix, 1, "attn", number, visitor);
        }
        for (number, branch) in self.mlp.iter_mut().enumerate() {
            branch.visit(prefix, 2, "mlp", number, visitor);
        }
    }
}
