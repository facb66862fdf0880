//! Losses on logits and soft targets.
//!
//! Reductions are the reference's and part of the recipe: cross-entropy sums over classes, binary
//! cross-entropy takes the mean over batch *and* classes, which makes its gradients about as many
//! times smaller as there are classes.

use crate::spec::recipe::LossName;
use burn::tensor::{Tensor, activation};

/// Soft-target cross-entropy: logits and target `[batch, classes]` -> scalar `[1]`, sum over classes,
/// mean over the batch (timm's `SoftTargetCrossEntropy`).
pub fn soft_target_cross_entropy(logits: Tensor<2>, target: Tensor<2>) -> Tensor<1> {
    let [batch, _] = logits.dims();
    (activation::log_softmax(logits, 1) * target)
        .sum()
        .div_scalar(-(batch as f64))
}

/// Binary cross-entropy with logits, mean over batch and classes (PyTorch's `BCEWithLogitsLoss`).
///
/// `(1 - t) z - log sigmoid(z)`: finite for any logit, and its gradient is `sigmoid(z) - t` to the
/// last digit.
pub fn binary_cross_entropy(logits: Tensor<2>, target: Tensor<2>) -> Tensor<1> {
    let negative = target.neg().add_scalar(1.0);
    (negative * logits.clone() - activation::log_sigmoid(logits)).mean()
}

/// Loss of the recipe on a (mixed, soft) target. For `bce` the target must be binarised already:
/// [`binarise`].
pub fn loss(name: LossName, logits: Tensor<2>, target: Tensor<2>) -> Tensor<1> {
    match name {
        LossName::Ce => soft_target_cross_entropy(logits, target),
        LossName::Bce | LossName::BceSoft => binary_cross_entropy(logits, target),
    }
}

/// The target that the loss wants: for `bce` every positive entry becomes 1, so both classes of a
/// mixed pair count in full.
///
/// Trap: with label smoothing every class would become positive; the reference runs BCE with
/// smoothing 0, and the validation of a recipe insists on it.
pub fn binarise(name: LossName, target: &mut [f32]) {
    if name == LossName::Bce {
        for value in target {
            *value = if *value > 0.0 { 1.0 } else { 0.0 };
        }
    }
}
