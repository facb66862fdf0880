//! AdamW (Loshchilov and Hutter 2019), PyTorch's form: `p *= 1 - lr * weight_decay`, then Adam's step.

use super::Moments;
use super::group::Group;
use crate::kernel::update;
use crate::spec::recipe::OptimizerConfig;
use burn::tensor::Tensor;

#[derive(Debug, Clone)]
pub struct AdamW {
    pub(super) moments: Moments,
    weight_decay: f64,
    groups: Vec<Group>,
}

impl AdamW {
    pub fn new(config: &OptimizerConfig, groups: Vec<Group>) -> Self {
        AdamW {
            moments: Moments::new(config),
            weight_decay: config.weight_decay,
            groups,
        }
    }

    /// The update of parameter `index` in its fused form.
    pub(super) fn fused_rule(&self, index: usize) -> update::Rule {
        update::Rule::AdamW {
            decay: self.groups[index].weight_decay(self.weight_decay),
        }
    }

    pub(super) fn step(
        &mut self,
        lr: f64,
        params: Vec<Tensor<1>>,
        grads: Vec<Tensor<1>>,
    ) -> Vec<Tensor<1>> {
        self.moments.begin(&params);
        params
            .into_iter()
            .zip(grads)
            .enumerate()
            .map(|(index, (p, g))| {
                let decay = self.groups[index].weight_decay(self.weight_decay);
                let update = self.moments.direction(index, g);
                p.mul_scalar(1.0 - lr * decay) - update.mul_scalar(lr)
            })
            .collect()
    }
}
