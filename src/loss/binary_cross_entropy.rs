//! Binary cross-entropy: one yes-or-no question a class.
//!
//! Trap: the reduction is part of the recipe. The reference takes the mean over batch *and* classes
//! (PyTorch's default); a sum over classes has as many times larger gradients as there are classes,
//! which a clipping norm of 1 then always cuts.

use burn::tensor::{Tensor, activation};

/// How the terms `[batch, classes]` become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    /// Mean over batch and classes (PyTorch's `BCEWithLogitsLoss`; the reference's).
    Mean,
    /// Sum over classes, mean over the batch (timm's `BinaryCrossEntropy(sum_classes=True)`).
    Sum,
}

/// Binary cross-entropy with logits: logits and target `[batch, classes]` -> scalar `[1]`.
///
/// `(1 - t) z - log sigmoid(z)`: finite for any logit, and its gradient is `sigmoid(z) - t` to the
/// last digit.
pub fn binary_cross_entropy(
    logits: Tensor<2>,
    target: Tensor<2>,
    reduction: Reduction,
) -> Tensor<1> {
    let [batch, classes] = logits.dims();
    let negative = target.neg().add_scalar(1.0);
    let terms = negative * logits.clone() - activation::log_sigmoid(logits);
    match reduction {
        Reduction::Mean if batch * classes >= super::LONG => {
            super::sum(terms).div_scalar((batch * classes) as f64)
        }
        Reduction::Mean => terms.mean(),
        Reduction::Sum => super::sum(terms).div_scalar(batch as f64),
    }
}
