//! One optimizer step: mix, forward, backward, accumulate, update.

use super::TrainError;
use super::checkpoint::{Checkpoint, Position};
use super::phases::{Clock, Phases};
use crate::data::{Batch, Mixer};
use crate::loss;
use crate::model::parameter::{self, HostParameter};
use crate::model::{DropPathMasks, VisionTransformer};
use crate::optim::Optimizer;
use crate::optim::ema::Ema;
use crate::spec::recipe::Recipe;
use burn::tensor::{Device, Tensor, TensorData};

/// What a step changes.
pub struct Learner {
    pub model: VisionTransformer,
    pub optimizer: Optimizer,
    pub ema: Option<Ema>,
    /// Where the time of the last step went (`data` is the caller's).
    pub phases: Phases,
}

/// What stays the same over the steps of a stage.
pub struct StepContext<'a> {
    pub recipe: &'a Recipe,
    pub seed: u64,
    pub mixer: &'a Mixer,
    /// An autodiff device.
    pub device: &'a Device,
    /// Parts of a step's batch, one after the other; divides the batch.
    pub parts: usize,
}

impl Learner {
    /// Takes one step on `batch` at learning rate `lr` and returns the loss before it.
    ///
    /// A loss that is not finite is returned without an update.
    pub fn step(
        &mut self,
        context: &StepContext<'_>,
        mut batch: Batch,
        epoch: u32,
        lr: f64,
    ) -> Result<f64, TrainError> {
        let recipe = context.recipe;
        let mut phases = Phases::default();
        let mut clock = Clock::start();
        let side = recipe.train.resolution;
        let step = batch.step as u64;
        let size = batch.labels.len();
        let mut targets = context.mixer.mix_batch(
            &mut batch.images,
            &batch.labels,
            side,
            side,
            context.seed,
            epoch,
            step,
        )?;
        loss::binarise(recipe.loss.name, &mut targets);
        let masks = DropPathMasks::draw(
            &self.model.arch.drop_path_rates(),
            2 * self.model.arch.parallel_branches,
            size,
            context.seed,
            epoch,
            step,
        );

        clock.lap(&mut phases.mix);

        let parts = context.parts.max(1);
        let (micro, classes) = (size / parts, self.model.arch.classes);
        let mut total_loss = 0.0;
        let mut total: Option<Vec<Tensor<1>>> = None;
        for part in 0..parts {
            let range = part * micro..(part + 1) * micro;
            let image = 3 * side * side;
            let (images, target) = if parts == 1 {
                (
                    std::mem::take(&mut batch.images),
                    std::mem::take(&mut targets),
                )
            } else {
                (
                    batch.images[range.start * image..range.end * image].to_vec(),
                    targets[range.start * classes..range.end * classes].to_vec(),
                )
            };
            let images = TensorData::new(images, [micro, 3, side, side]);
            let images = Tensor::from_data(images, context.device);
            let target = TensorData::new(target, [micro, classes]);
            let target = Tensor::from_data(target, context.device);
            let masks = if parts == 1 {
                masks.clone()
            } else {
                masks.narrow(range)
            };
            clock.lap(&mut phases.input);
            let logits = self.model.forward(images, Some(&masks));
            let value = loss::loss(recipe.loss.name, logits, target);
            let loss = f64::from(value.clone().into_scalar::<f32>());
            total_loss += loss / parts as f64;
            clock.lap(&mut phases.forward);
            if !loss.is_finite() {
                return Ok(loss);
            }
            let mut grads = value.backward();
            let grads = parameter::gradients(&mut self.model, &mut grads);
            clock.lap(&mut phases.backward);
            total = Some(match total {
                None => grads,
                Some(total) => total.into_iter().zip(grads).map(|(a, b)| a + b).collect(),
            });
            clock.lap(&mut phases.optimizer);
        }
        let mut grads = total.unwrap_or_default();
        if parts > 1 {
            let scale = 1.0 / parts as f64;
            grads = grads
                .into_iter()
                .map(|grad| grad.mul_scalar(scale))
                .collect();
        }
        let params = parameter::values(&mut self.model);
        let params = self.optimizer.step(lr, params, grads);
        if let Some(ema) = &mut self.ema {
            ema.update(&params);
        }
        parameter::replace(&mut self.model, params, true);
        clock.lap(&mut phases.optimizer);
        self.phases = phases;
        Ok(total_loss)
    }

    /// Everything that training goes on from, at `position`.
    pub fn checkpoint(&mut self, position: Position) -> Checkpoint {
        let mut tensors = parameter::export(&mut self.model);
        let shapes: Vec<(String, Vec<usize>)> = tensors
            .iter()
            .map(|own| (own.name.clone(), own.shape.clone()))
            .collect();
        for tensor in &mut tensors {
            tensor.name.insert_str(0, "model.");
        }
        let mut add = |prefix: &str, values: &[Tensor<1>]| {
            tensors.extend(shapes.iter().zip(values).map(|((name, shape), value)| {
                let mut host = HostParameter::new("", value.clone().into_data());
                host.name = format!("{prefix}.{name}");
                host.shape = shape.clone();
                host
            }));
        };
        for (part, values) in self.optimizer.state() {
            add(part, &values);
        }
        if let Some(ema) = &self.ema {
            add("ema", &ema.average);
        }
        Checkpoint { position, tensors }
    }
}
