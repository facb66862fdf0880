//! The same operations through Burn's own, on any device.

use burn::tensor::{Tensor, TensorData, activation};

/// See [`super::linear`].
pub fn linear(x: Tensor<3>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<3> {
    let [batch, tokens, inputs] = x.dims();
    let [outputs, _] = weight.dims();
    // As one matrix: Burn's batched product would build a weight gradient per sample and sum them.
    let y = x
        .reshape([batch * tokens, inputs])
        .matmul(weight.transpose());
    (y + bias.unsqueeze()).reshape([batch, tokens, outputs])
}

/// See [`super::linear_gelu`].
pub fn linear_gelu(x: Tensor<3>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<3> {
    activation::gelu(linear(x, weight, bias))
}

/// See [`super::layer_norm`].
pub fn layer_norm(x: Tensor<3>, weight: Tensor<1>, bias: Tensor<1>, eps: f32) -> Tensor<3> {
    let mean = x.clone().mean_dim(2);
    let centred = x - mean;
    let variance = centred.clone().powi_scalar(2).mean_dim(2);
    let normal = centred / (variance + eps).sqrt();
    normal * weight.unsqueeze() + bias.unsqueeze()
}

/// See [`super::attention`].
pub fn attention(qkv: Tensor<3>, heads: usize) -> Tensor<3> {
    let [batch, tokens, width] = qkv.dims();
    let dim = width / 3;
    let head_dim = dim / heads;
    let qkv = qkv
        .reshape([batch, tokens, 3, heads, head_dim])
        .permute([2, 0, 3, 1, 4]);
    let [q, k, v] = [0usize, 1, 2].map(|part| {
        qkv.clone()
            .narrow(0, part, 1)
            .reshape([batch, heads, tokens, head_dim])
    });
    let scores = q
        .mul_scalar((head_dim as f32).powf(-0.5))
        .matmul(k.swap_dims(2, 3));
    // Spelled out: Burn's own softmax takes other operations with gradients than without, and a block that is run
    // again in the backward pass must give the same bits.
    let shifted = scores.clone() - scores.detach().max_dim(3);
    let exponentials = shifted.exp();
    let softmax = exponentials.clone() / exponentials.sum_dim(3);
    let mixed = softmax.matmul(v);
    mixed.swap_dims(1, 2).reshape([batch, tokens, dim])
}

/// See [`super::residual`].
pub fn residual(
    x: Tensor<3>,
    y: Tensor<3>,
    gamma: Option<Tensor<1>>,
    keep: Option<&[f32]>,
) -> Tensor<3> {
    let y = match gamma {
        Some(gamma) => y * gamma.unsqueeze(),
        None => y,
    };
    let y = match keep {
        Some(keep) => {
            let data = TensorData::new(keep.to_vec(), [keep.len(), 1, 1]);
            y * Tensor::<3>::from_data(data, &x.device())
        }
        None => y,
    };
    x + y
}
