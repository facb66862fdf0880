//! Binarised targets: both classes of a mixed pair count in full.
//!
//! Trap: with label smoothing every class would become positive; the reference runs BCE with
//! smoothing 0, and the validation of a recipe insists on it.

use crate::spec::recipe::LossName;

/// The target that the loss wants: for `bce` and `bce_sum` every positive entry becomes 1 (the
/// reference's `targets.gt(0.0)`).
pub fn binarise(name: LossName, target: &mut [f32]) {
    if matches!(name, LossName::Bce | LossName::BceSum) {
        for value in target {
            *value = if *value > 0.0 { 1.0 } else { 0.0 };
        }
    }
}
