//! Fused operations of the Vision Transformer on the CPU.
//!
//! Burn's CPU backend runs a Vision Transformer as many small element-wise passes over memory. The
//! five operations here do the same work in one pass each, with hand-written backward passes:
//!
//! | operation | file |
//! | --- | --- |
//! | linear with bias | [`linear`] |
//! | linear with bias and exact GELU | [`linear`] |
//! | layer normalisation | [`layer_norm`] |
//! | multi-head attention | [`attention`] |
//! | residual with LayerScale and stochastic depth | [`residual`] |
//!
//! [`update`] is the optimizers' part: one pass over each parameter.
//!
//! [`recompute`] runs a part of the model again in the backward pass instead of keeping its tensors.
//!
//! [`op`] hands them to Burn as a backend extension with autodiff. Modules in `model` call the
//! functions of this file, which take the fused form on a CPU device and Burn's own operations
//! elsewhere; [`set_fused`] turns fusion off for comparison.
//!
//! Every sum is taken in an order that depends on shapes only, never on the number of threads, so
//! results are the same bit for bit with any number of threads.

pub mod attention;
pub mod fused;
pub mod layer_norm;
pub mod linear;
pub mod matmul;
pub mod op;
pub mod parallel;
pub mod plain;
pub mod recompute;
pub mod residual;
pub mod simd;
pub mod update;

use burn::backend::DispatchDevice;
use burn::tensor::Tensor;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Turns fusion off in the processes that see it (`off`), for comparison: results differ in their last
/// digits.
pub use crate::rundir::stage::FUSION_SWITCH as SWITCH;

static FUSED: LazyLock<AtomicBool> =
    LazyLock::new(|| AtomicBool::new(!crate::rundir::stage::is_fusion_off()));

/// Turns the fused operations on or off for the whole process. At the start they are on, unless
/// [`SWITCH`] says otherwise.
pub fn set_fused(on: bool) {
    FUSED.store(on, Ordering::Relaxed);
}

/// Whether fusion is on.
pub fn is_on() -> bool {
    FUSED.load(Ordering::Relaxed)
}

/// Whether `x` lives where the fused operations can be used.
fn is_fused<const D: usize>(x: &Tensor<D>) -> bool {
    is_on() && is_cpu(x.device().inner().as_dispatch())
}

fn is_cpu(device: &DispatchDevice) -> bool {
    match device {
        DispatchDevice::Flex(_) => true,
        #[allow(unreachable_patterns)] // other devices exist with other features only
        _ => false,
    }
}

/// `x W^T + b`: x `[batch, tokens, in]`, W `[out, in]`, b `[out]` -> `[batch, tokens, out]`.
pub fn linear(x: Tensor<3>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<3> {
    if is_fused(&x) {
        fused::linear(x, weight, bias)
    } else {
        plain::linear(x, weight, bias)
    }
}

/// `gelu(x W^T + b)` with the exact (erf) GELU; shapes as in [`linear`].
pub fn linear_gelu(x: Tensor<3>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<3> {
    if is_fused(&x) {
        fused::linear_gelu(x, weight, bias)
    } else {
        plain::linear_gelu(x, weight, bias)
    }
}

/// Layer normalisation over the last dimension: x `[batch, tokens, d]`, weight and bias `[d]`.
pub fn layer_norm(x: Tensor<3>, weight: Tensor<1>, bias: Tensor<1>, eps: f32) -> Tensor<3> {
    if is_fused(&x) {
        fused::layer_norm(x, weight, bias, eps)
    } else {
        plain::layer_norm(x, weight, bias, eps)
    }
}

/// Multi-head self-attention of packed queries, keys and values.
///
/// qkv `[batch, tokens, 3 d]`, laid out per token as `[3, heads, d / heads]` (timm's fused `qkv`)
/// -> `[batch, tokens, d]`. Scores are scaled by `(d / heads)^-0.5`.
pub fn attention(qkv: Tensor<3>, heads: usize) -> Tensor<3> {
    if is_fused(&qkv) {
        fused::attention(qkv, heads)
    } else {
        plain::attention(qkv, heads)
    }
}

/// `x + keep * gamma * y`: x and y `[batch, tokens, d]`, gamma `[d]` (LayerScale), `keep` one factor
/// per sample (stochastic depth: 0, or the reciprocal of the survival probability).
pub fn residual(
    x: Tensor<3>,
    y: Tensor<3>,
    gamma: Option<Tensor<1>>,
    keep: Option<&[f32]>,
) -> Tensor<3> {
    if is_fused(&x) {
        fused::residual(x, y, gamma, keep)
    } else {
        plain::residual(x, y, gamma, keep)
    }
}

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod view_tests;
