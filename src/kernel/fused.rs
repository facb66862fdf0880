//! The fused forms as functions on tensors; the counterpart of [`super::plain`].

use super::op::FusedOps;
use burn::backend::Dispatch;
use burn::tensor::Tensor;

/// [`super::linear`] in its fused form.
pub fn linear(x: Tensor<3>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as FusedOps>::fused_linear(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
    ))
}

/// [`super::linear_gelu`] in its fused form.
pub fn linear_gelu(x: Tensor<3>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as FusedOps>::fused_linear_gelu(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
    ))
}

/// [`super::layer_norm`] in its fused form.
pub fn layer_norm(x: Tensor<3>, weight: Tensor<1>, bias: Tensor<1>, eps: f32) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as FusedOps>::fused_layer_norm(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        eps,
    ))
}

/// [`super::attention`] in its fused form.
pub fn attention(qkv: Tensor<3>, heads: usize) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as FusedOps>::fused_attention(
        qkv.into_dispatch(),
        heads,
    ))
}

/// [`super::residual`] in its fused form.
pub fn residual(
    x: Tensor<3>,
    y: Tensor<3>,
    gamma: Option<Tensor<1>>,
    keep: Option<&[f32]>,
) -> Tensor<3> {
    let keep = keep.map(<[f32]>::to_vec).unwrap_or_default();
    let (x, y) = (x.into_dispatch(), y.into_dispatch());
    Tensor::from_dispatch(match gamma {
        Some(gamma) => {
            <Dispatch as FusedOps>::fused_residual_scaled(x, y, gamma.into_dispatch(), keep)
        }
        None => <Dispatch as FusedOps>::fused_residual(x, y, keep),
    })
}
