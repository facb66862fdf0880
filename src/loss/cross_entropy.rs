//! Cross-entropy with soft targets. A label is a target with one 1, label smoothing and Mixup are
//! targets too (`data::mixer` makes them), so there is one rule for all.
//!
//! Trap: Burn's and PyTorch's `CrossEntropyLoss` also exist for class indices with smoothing built in;
//! used on mixed targets they smooth twice.

use burn::tensor::{Tensor, activation};

/// Soft-target cross-entropy: logits and target `[batch, classes]` -> scalar `[1]`, sum over classes,
/// mean over the batch (timm's `SoftTargetCrossEntropy`).
pub fn soft_target_cross_entropy(logits: Tensor<2>, target: Tensor<2>) -> Tensor<1> {
    let [batch, _] = logits.dims();
    super::sum(activation::log_softmax(logits, 1) * target).div_scalar(-(batch as f64))
}
