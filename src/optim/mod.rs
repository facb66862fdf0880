//! Optimizers, parameter groups and learning-rate schedules.
//!
//! Optimizers work on flat vectors: one tensor per stored parameter, so norms are taken per tensor as
//! the reference does (the fused qkv weight is one). Everything runs on the parameters' device.

pub mod adamw;
pub mod clip;
pub mod ema;
pub mod group;
pub mod lamb;
pub mod schedule;
pub mod sgd;

use crate::kernel::update::{self, Adam, Slot};
use crate::spec::recipe::{OptimizerConfig, OptimizerName};
use burn::tensor::Tensor;
use group::Group;

/// State that an optimizer keeps per parameter, by name (`exp_avg`, `exp_avg_sq`,
/// `momentum_buffer`), in the order of the parameters.
pub type State = Vec<(&'static str, Vec<Tensor<1>>)>;

/// The update rule.
#[derive(Debug, Clone)]
pub enum Rule {
    Lamb(lamb::Lamb),
    AdamW(adamw::AdamW),
    Sgd(sgd::Sgd),
}

/// An optimizer over a fixed list of parameters: clipping, then the update rule.
#[derive(Debug, Clone)]
pub struct Optimizer {
    pub rule: Rule,
    max_grad_norm: Option<f64>,
    grad_norm: f64,
}

/// What gradients of the norm `norm` are divided by; not a number where the norm is none, as in PyTorch.
fn divisor(norm: f64, max_norm: f64) -> f64 {
    let factor = norm / max_norm;
    if factor <= 1.0 { 1.0 } else { factor }
}

impl Optimizer {
    /// The recipe's optimizer for parameters in the groups `groups`.
    pub fn new(config: &OptimizerConfig, groups: Vec<Group>) -> Self {
        let rule = match config.name {
            OptimizerName::Lamb => Rule::Lamb(lamb::Lamb::new(config, groups)),
            OptimizerName::AdamW => Rule::AdamW(adamw::AdamW::new(config, groups)),
            OptimizerName::Sgd => Rule::Sgd(sgd::Sgd::new(config, groups)),
        };
        Optimizer {
            rule,
            max_grad_norm: config.max_grad_norm,
            grad_norm: 0.0,
        }
    }

    /// One update at learning rate `lr`: new parameters from parameters and gradients, all vectors
    /// outside autodiff and in the order of the groups.
    pub fn step(
        &mut self,
        lr: f64,
        params: Vec<Tensor<1>>,
        grads: Vec<Tensor<1>>,
    ) -> Vec<Tensor<1>> {
        if let Some(params) = self.fused_step(lr, &params, &grads) {
            return params;
        }
        self.grad_norm = clip::global_norm(&grads);
        let grads = match self.max_grad_norm {
            Some(max_norm) => clip::clip(grads, self.grad_norm, max_norm),
            None => grads,
        };
        match &mut self.rule {
            Rule::Lamb(lamb) => lamb.step(lr, params, grads),
            Rule::AdamW(adamw) => adamw.step(lr, params, grads),
            Rule::Sgd(sgd) => sgd.step(lr, params, grads),
        }
    }

    /// [`Optimizer::step`] of Adam and LAMB on the CPU: one pass over each parameter.
    fn fused_step(
        &mut self,
        lr: f64,
        params: &[Tensor<1>],
        grads: &[Tensor<1>],
    ) -> Option<Vec<Tensor<1>>> {
        if !update::is_possible(params) {
            return None;
        }
        let moments = match &mut self.rule {
            Rule::Lamb(lamb) => &mut lamb.moments,
            Rule::AdamW(adamw) => &mut adamw.moments,
            Rule::Sgd(_) => return None,
        };
        moments.begin(params);
        let adam = moments.coefficients();
        let first = std::mem::take(&mut moments.exp_avg);
        let second = std::mem::take(&mut moments.exp_avg_sq);
        self.grad_norm = update::global_norm(grads);
        let divisor = self
            .max_grad_norm
            .map_or(1.0, |max_norm| divisor(self.grad_norm, max_norm));
        let slots = params.iter().zip(grads).zip(first.into_iter().zip(second));
        let slots = slots
            .enumerate()
            .map(|(index, ((param, grad), moments))| Slot {
                param: param.clone(),
                grad: grad.clone(),
                exp_avg: moments.0,
                exp_avg_sq: moments.1,
                rule: match &self.rule {
                    Rule::Lamb(lamb) => lamb.fused_rule(index),
                    Rule::AdamW(adamw) => adamw.fused_rule(index),
                    Rule::Sgd(_) => unreachable!("SGD has left above"),
                },
            });
        let slots: Vec<Slot> = slots.collect();
        let (params, [first, second]) = update::step(slots, adam, lr, divisor);
        let moments = match &mut self.rule {
            Rule::Lamb(lamb) => &mut lamb.moments,
            Rule::AdamW(adamw) => &mut adamw.moments,
            Rule::Sgd(_) => return None,
        };
        (moments.exp_avg, moments.exp_avg_sq) = (first, second);
        Some(params)
    }

    /// Global L2 norm of the last step's gradients, before clipping.
    pub fn grad_norm(&self) -> f64 {
        self.grad_norm
    }

    /// The state to be stored; empty before the first step.
    pub fn state(&self) -> State {
        match &self.rule {
            Rule::Lamb(lamb) => lamb.moments.state(),
            Rule::AdamW(adamw) => adamw.moments.state(),
            Rule::Sgd(sgd) => sgd.state(),
        }
    }

    /// Names of the state's parts.
    pub fn state_names(&self) -> &'static [&'static str] {
        match self.rule {
            Rule::Lamb(_) | Rule::AdamW(_) => &["exp_avg", "exp_avg_sq"],
            Rule::Sgd(_) => &["momentum_buffer"],
        }
    }

    /// Continues from a stored state after `steps` updates; the parts in the order of
    /// [`Optimizer::state_names`].
    pub fn restore(&mut self, steps: u64, parts: Vec<Vec<Tensor<1>>>) {
        match &mut self.rule {
            Rule::Lamb(lamb) => lamb.moments.restore(steps, parts),
            Rule::AdamW(adamw) => adamw.moments.restore(steps, parts),
            Rule::Sgd(sgd) => sgd.restore(parts),
        }
    }
}

/// First and second moments of Adam, with bias correction.
#[derive(Debug, Clone)]
pub struct Moments {
    beta1: f64,
    beta2: f64,
    eps: f64,
    pub steps: u64,
    exp_avg: Vec<Tensor<1>>,
    exp_avg_sq: Vec<Tensor<1>>,
}

impl Moments {
    fn new(config: &OptimizerConfig) -> Self {
        let [beta1, beta2] = config.betas;
        Moments {
            beta1,
            beta2,
            eps: config.eps,
            steps: 0,
            exp_avg: Vec::new(),
            exp_avg_sq: Vec::new(),
        }
    }

    /// Counts a step; must come before the updates of that step.
    fn begin(&mut self, params: &[Tensor<1>]) {
        if self.exp_avg.is_empty() {
            self.exp_avg = params.iter().map(Tensor::zeros_like).collect();
            self.exp_avg_sq = self.exp_avg.clone();
        }
        self.steps += 1;
    }

    /// Coefficients of the present step.
    fn coefficients(&self) -> Adam {
        let t = self.steps.min(i32::MAX as u64) as i32;
        Adam {
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.eps,
            corrections: [1.0 - self.beta1.powi(t), 1.0 - self.beta2.powi(t)],
        }
    }

    /// Adam's direction for parameter `index`: `m_hat / (sqrt(v_hat) + eps)`.
    fn direction(&mut self, index: usize, grad: Tensor<1>) -> Tensor<1> {
        let take =
            |slot: &mut Tensor<1>| std::mem::replace(slot, Tensor::empty([0], &grad.device()));
        let m = take(&mut self.exp_avg[index]);
        let v = take(&mut self.exp_avg_sq[index]);
        let square = grad.clone() * grad.clone();
        let m = m.mul_scalar(self.beta1) + grad.mul_scalar(1.0 - self.beta1);
        let v = v.mul_scalar(self.beta2) + square.mul_scalar(1.0 - self.beta2);
        let [correction1, correction2] = self.coefficients().corrections;
        let denominator = v
            .clone()
            .sqrt()
            .div_scalar(correction2.sqrt())
            .add_scalar(self.eps);
        let direction = m.clone().div_scalar(correction1) / denominator;
        self.exp_avg[index] = m;
        self.exp_avg_sq[index] = v;
        direction
    }

    fn state(&self) -> State {
        if self.exp_avg.is_empty() {
            return Vec::new();
        }
        vec![
            ("exp_avg", self.exp_avg.clone()),
            ("exp_avg_sq", self.exp_avg_sq.clone()),
        ]
    }

    fn restore(&mut self, steps: u64, parts: Vec<Vec<Tensor<1>>>) {
        let mut parts = parts.into_iter();
        self.steps = steps;
        self.exp_avg = parts.next().unwrap_or_default();
        self.exp_avg_sq = parts.next().unwrap_or_default();
    }
}

#[cfg(test)]
mod tests;
