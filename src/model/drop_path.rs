//! Stochastic depth (Huang et al. 2016): per sample, a residual branch is left out at random and the
//! survivors are scaled by the reciprocal of the survival probability.
//!
//! DeiT III uses one rate for every block, DeiT a rate that grows linearly from 0 with depth. Every
//! branch draws its own mask, after LayerScale.

use crate::rng::{KeyedRng, Purpose};
use crate::spec::recipe::DropPathRule;

/// Rate of block `index` of `depth`.
pub fn rate(rule: DropPathRule, drop_path: f64, index: usize, depth: usize) -> f64 {
    match rule {
        DropPathRule::Constant => drop_path,
        // torch.linspace(0, rate, depth)
        DropPathRule::Linear if depth > 1 => drop_path * index as f64 / (depth - 1) as f64,
        DropPathRule::Linear => 0.0,
    }
}

/// Factors of one training step: per block, per branch (attention branches, then MLP branches), one
/// factor per sample; `None` for a branch that keeps all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DropPathMasks(pub Vec<Vec<Option<Vec<f32>>>>);

impl DropPathMasks {
    /// Draws the masks of step `step` of epoch `epoch` for `batch` samples, `branches` a block.
    pub fn draw(
        rates: &[f64],
        branches: usize,
        batch: usize,
        seed: u64,
        epoch: u32,
        step: u64,
    ) -> Self {
        let mut rng = KeyedRng::new(seed, Purpose::DropPath, epoch, step);
        let mask = |rate: f64, rng: &mut KeyedRng| {
            let keep = 1.0 - rate;
            (0..batch)
                .map(|_| {
                    if rng.chance(keep) {
                        (1.0 / keep) as f32
                    } else {
                        0.0
                    }
                })
                .collect()
        };
        DropPathMasks(
            rates
                .iter()
                .map(|&rate| {
                    (0..branches)
                        .map(|_| (rate > 0.0).then(|| mask(rate, &mut rng)))
                        .collect()
                })
                .collect(),
        )
    }

    /// Factors of `branch` in block `block`.
    pub fn get(&self, block: usize, branch: usize) -> Option<&[f32]> {
        self.0.get(block)?.get(branch)?.as_deref()
    }

    /// The part for samples `range` of the batch (a micro-batch).
    pub fn narrow(&self, range: std::ops::Range<usize>) -> Self {
        let branch =
            |mask: &Option<Vec<f32>>| mask.as_ref().map(|mask| mask[range.clone()].to_vec());
        DropPathMasks(
            self.0
                .iter()
                .map(|block| block.iter().map(branch).collect())
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_over_depth() {
        assert_eq!(rate(DropPathRule::Constant, 0.2, 0, 12), 0.2);
        assert_eq!(rate(DropPathRule::Linear, 0.1, 0, 12), 0.0);
        assert_eq!(rate(DropPathRule::Linear, 0.1, 11, 12), 0.1);
        assert_eq!(rate(DropPathRule::Linear, 0.1, 0, 1), 0.0);
    }

    #[test]
    fn masks_have_the_right_mean_and_values() {
        let masks = DropPathMasks::draw(&[0.0, 0.4], 2, 4000, 1, 2, 3);
        assert_eq!(masks.get(0, 1), None);
        let mask = masks.get(1, 0).unwrap();
        assert!(mask.iter().all(|&m| m == 0.0 || m == (1.0f64 / 0.6) as f32));
        let mean = mask.iter().sum::<f32>() / mask.len() as f32;
        assert!((mean - 1.0).abs() < 0.06, "{mean}");
        assert_ne!(masks.get(1, 0), masks.get(1, 1));
        assert_eq!(
            masks.narrow(10..20).get(1, 1).unwrap(),
            &masks.get(1, 1).unwrap()[10..20]
        );
    }
}
