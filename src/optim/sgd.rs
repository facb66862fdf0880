//! SGD with momentum, PyTorch's form: decay is added to the gradient, the first momentum buffer is the
//! gradient itself.

use super::group::Group;
use crate::spec::recipe::OptimizerConfig;
use burn::tensor::Tensor;

#[derive(Debug, Clone)]
pub struct Sgd {
    momentum: f64,
    nesterov: bool,
    weight_decay: f64,
    groups: Vec<Group>,
    buffers: Vec<Tensor<1>>,
}

impl Sgd {
    pub fn new(config: &OptimizerConfig, groups: Vec<Group>) -> Self {
        Sgd {
            momentum: config.momentum,
            nesterov: config.nesterov,
            weight_decay: config.weight_decay,
            groups,
            buffers: Vec::new(),
        }
    }

    pub(super) fn step(
        &mut self,
        lr: f64,
        params: Vec<Tensor<1>>,
        grads: Vec<Tensor<1>>,
    ) -> Vec<Tensor<1>> {
        let first = self.buffers.is_empty();
        let mut buffers = Vec::with_capacity(params.len());
        let old = std::mem::take(&mut self.buffers);
        let mut old = old.into_iter();
        let params = params
            .into_iter()
            .zip(grads)
            .enumerate()
            .map(|(index, (p, g))| {
                let decay = self.groups[index].weight_decay(self.weight_decay);
                let g = if decay == 0.0 {
                    g
                } else {
                    g + p.clone().mul_scalar(decay)
                };
                if self.momentum == 0.0 {
                    return p - g.mul_scalar(lr);
                }
                let buffer = match old.next() {
                    Some(buffer) if !first => buffer.mul_scalar(self.momentum) + g.clone(),
                    _ => g.clone(),
                };
                buffers.push(buffer.clone());
                let update = if self.nesterov {
                    g + buffer.mul_scalar(self.momentum)
                } else {
                    buffer
                };
                p - update.mul_scalar(lr)
            })
            .collect();
        self.buffers = buffers;
        params
    }

    pub(super) fn state(&self) -> super::State {
        if self.buffers.is_empty() {
            return Vec::new();
        }
        vec![("momentum_buffer", self.buffers.clone())]
    }

    pub(super) fn restore(&mut self, parts: Vec<Vec<Tensor<1>>>) {
        self.buffers = parts.into_iter().next().unwrap_or_default();
    }
}
