//! LAMB (You et al. 2020) as the DeiT III recipe uses it: NVIDIA Apex's `FusedLAMB`, which timm's
//! `Lamb` follows.
//!
//! 1. All gradients are divided by `max(1, G / max_grad_norm)`, G their global norm (in
//!    [`super::Optimizer::step`]).
//! 2. Adam's direction with bias correction, plus `weight_decay * p`.
//! 3. Where the weight decay is not 0, the direction is scaled per tensor by the trust ratio
//!    `|p| / |direction|` (1 if either is 0; no upper bound).
//!
//! Trap: 1-D tensors, position embedding and class token have no decay, hence no trust ratio: they
//! take plain Adam steps at LAMB's large learning rate.

use super::Moments;
use super::clip;
use super::group::Group;
use crate::kernel::update;
use crate::spec::recipe::OptimizerConfig;
use burn::tensor::Tensor;

#[derive(Debug, Clone)]
pub struct Lamb {
    pub(super) moments: Moments,
    weight_decay: f64,
    groups: Vec<Group>,
    /// Trust ratio for tensors without weight decay, too (timm's `always_adapt`).
    pub always_adapt: bool,
    /// Trust ratio of at most 1 (timm's `trust_clip`).
    pub trust_clip: bool,
}

impl Lamb {
    pub fn new(config: &OptimizerConfig, groups: Vec<Group>) -> Self {
        Lamb {
            moments: Moments::new(config),
            weight_decay: config.weight_decay,
            groups,
            always_adapt: config.always_adapt,
            trust_clip: config.trust_clip,
        }
    }

    /// The update of parameter `index` in its fused form.
    pub(super) fn fused_rule(&self, index: usize) -> update::Rule {
        let decay = self.groups[index].weight_decay(self.weight_decay);
        update::Rule::Lamb {
            decay,
            adapt: decay != 0.0 || self.always_adapt,
            clip: self.trust_clip,
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
                let mut update = self.moments.direction(index, g);
                if decay != 0.0 {
                    update = update + p.clone().mul_scalar(decay);
                }
                if decay != 0.0 || self.always_adapt {
                    let ratio = trust_ratio(&p, &update);
                    let ratio = if self.trust_clip {
                        ratio.clamp_max(1.0)
                    } else {
                        ratio
                    };
                    update = update * ratio;
                }
                p - update.mul_scalar(lr)
            })
            .collect()
    }
}

/// `|p| / |update|`, 1 if either is 0; a tensor of one element, so that no device waits for the host.
fn trust_ratio(p: &Tensor<1>, update: &Tensor<1>) -> Tensor<1> {
    let norm = |t: &Tensor<1>| clip::sum(t.clone() * t.clone()).sqrt();
    let (p_norm, update_norm) = (norm(p), norm(update));
    let none = p_norm
        .clone()
        .equal_elem(0.0)
        .bool_or(update_norm.clone().equal_elem(0.0));
    (p_norm / update_norm).mask_fill(none, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::recipe::OptimizerName;
    use burn::tensor::Device;

    /// Norm of the first step of a vector without decay and of a matrix of norm 10 with decay.
    fn first_steps(always_adapt: bool, trust_clip: bool) -> [f32; 2] {
        let config = OptimizerConfig {
            name: OptimizerName::Lamb,
            lr: 1.0,
            weight_decay: 1e-3,
            betas: [0.9, 0.999],
            eps: 1e-8,
            momentum: 0.0,
            nesterov: false,
            max_grad_norm: None,
            always_adapt,
            trust_clip,
        };
        let mut lamb = Lamb::new(&config, vec![Group::NoDecay, Group::Decay]);
        let tensor = |values: [f32; 4]| Tensor::<1>::from_data(values, &Device::flex());
        let params = vec![tensor([0.05; 4]), tensor([5.0; 4])];
        let grads = vec![tensor([1.0, -1.0, 1.0, -1.0]); 2];
        let after = lamb.step(1.0, params.clone(), grads);
        let norm = |(before, after): (Tensor<1>, Tensor<1>)| {
            let step = before - after;
            (step.clone() * step).sum().sqrt().into_scalar::<f32>()
        };
        let norms: Vec<f32> = params.into_iter().zip(after).map(norm).collect();
        [norms[0], norms[1]]
    }

    #[test]
    fn variants_come_from_the_recipe() {
        let near = |[a, b]: [f32; 2], [x, y]: [f32; 2]| {
            assert!((a - x).abs() < 1e-3 && (b - y).abs() < 1e-2, "{a} {b}");
        };
        // Adam's first direction is the gradient's sign, of norm 2: the vector moves by it, the matrix
        // by its own norm.
        near(first_steps(false, false), [2.0, 10.0]);
        near(first_steps(true, false), [0.1, 10.0]);
        near(first_steps(false, true), [2.0, 2.0]);
        near(first_steps(true, true), [0.1, 2.0]);
    }

    /// Five million values, in other numbers of threads.
    #[test]
    fn a_long_ratio_does_not_depend_on_threads() {
        let vector = |factor: f32| -> Tensor<1> {
            let values: Vec<f32> = (0..5 << 20)
                .map(|i| (i as f32 * factor).sin() * 1e-2)
                .collect();
            let length = values.len();
            Tensor::from_data(
                burn::tensor::TensorData::new(values, [length]),
                &Device::flex(),
            )
        };
        let (p, update) = (vector(0.731), vector(0.377));
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| trust_ratio(&p, &update).into_scalar::<f32>().to_bits())
        };
        let one = run(1);
        for threads in [2, 3, 5] {
            assert_eq!(one, run(threads), "{threads} threads");
        }
    }
}
