//! Losses on logits and soft targets.
//!
//! | file | rule |
//! | --- | --- |
//! | [`cross_entropy`] | soft-target cross-entropy: `ce`, with or without smoothing and mixing |
//! | [`binary_cross_entropy`](mod@binary_cross_entropy) | binary cross-entropy and its two reductions |
//! | [`binarise`](mod@binarise) | the target of `bce`: every positive entry is 1 |

pub mod binarise;
pub mod binary_cross_entropy;
pub mod cross_entropy;

#[cfg(test)]
mod tests;

/// Terms from which on Burn's CPU backend sums in pieces, in an order that depends on threads and on chance.
const LONG: usize = 4 << 20;

/// The sum of `terms [batch, classes]`, many of them row by row, so that its order depends on shapes only.
fn sum(terms: Tensor<2>) -> Tensor<1> {
    if terms.shape().num_elements() < LONG {
        terms.sum()
    } else {
        terms.sum_dim(1).sum()
    }
}

pub use binarise::binarise;
pub use binary_cross_entropy::{Reduction, binary_cross_entropy};
pub use cross_entropy::soft_target_cross_entropy;

use crate::spec::recipe::LossName;
use burn::tensor::Tensor;

/// Loss of the recipe on a (mixed, soft) target. For `bce` and `bce_sum` the target must be binarised
/// already: [`binarise`](fn@binarise).
pub fn loss(name: LossName, logits: Tensor<2>, target: Tensor<2>) -> Tensor<1> {
    match name {
        LossName::Ce => soft_target_cross_entropy(logits, target),
        LossName::Bce | LossName::BceSoft => binary_cross_entropy(logits, target, Reduction::Mean),
        LossName::BceSum | LossName::BceSoftSum => {
            binary_cross_entropy(logits, target, Reduction::Sum)
        }
    }
}
