//! A whole stage: set up or resume, train epoch by epoch, evaluate, leave weights and predictions.

use super::checkpoint::{self, Best, Position};
use super::evaluation::{Evaluation, evaluate};
use super::further::{self, Evaluated};
use super::observer::Observer;
use super::phases::Phases;
use super::step::{Learner, StepContext};
use super::{TrainError, device};
use crate::data::{Dataset, EvalTransform, Loader, Mixer, Sampler, TrainTransform};
use crate::kernel;
use crate::model::parameter::{self, HostParameter};
use crate::model::weights::{self, WeightsError};
use crate::model::{Architecture, VisionTransformer};
use crate::optim::Optimizer;
use crate::optim::ema::Ema;
use crate::optim::group::Group;
use crate::optim::schedule::Schedule;
use crate::rundir::event::EventKind;
use crate::rundir::layout::RunDir;
use crate::rundir::predictions;
use crate::rundir::stage::{Launch, StageSpec, Task};
use crate::rundir::standstill::Stopwatch;
use crate::weights::write_atomically;
use burn::tensor::{Device, Tensor, TensorData};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Runs the stage `spec` in `dir` to its end, from its last checkpoint if there is one.
///
/// # Errors
/// See [`TrainError`]; a stage that was asked to stop has written a checkpoint.
pub fn run(
    spec: &StageSpec,
    launch: &Launch,
    dir: &RunDir,
    observer: &mut dyn Observer,
) -> Result<(), TrainError> {
    dir.tidy();
    let device = device::open(&launch.device)?;
    let dataset = Dataset::open(&spec.recipe.data.name, launch.data_root.as_deref())?;
    let found = dataset.hash()?;
    if found != spec.data_hash {
        return Err(TrainError::DataChanged {
            planned: spec.data_hash.clone(),
            found,
        });
    }
    let further = further::open(spec, launch, &dataset)?;
    let started = Stopwatch::start();
    let mut stage = Stage {
        spec,
        launch,
        dir,
        headline: further::headline(spec, &dataset),
        further,
        dataset,
        device,
        images: 0,
    };
    let steps = match spec.task {
        Task::Train => stage.train(observer)?,
        Task::Evaluate => stage.evaluate_parent(observer)?,
        Task::Command => {
            return Err(TrainError::Config(
                "a program's stage is not for the trainer".into(),
            ));
        }
    };
    observer.event(resources(started, stage.images))?;
    observer.event(EventKind::Finished { step: steps })?;
    observer.sync()?;
    // Not before: whoever is killed up to here goes on from them.
    dir.drop_checkpoints();
    Ok(())
}

struct Stage<'a> {
    spec: &'a StageSpec,
    launch: &'a Launch,
    dir: &'a RunDir,
    dataset: Dataset,
    /// The evaluation that is the stage's result.
    headline: Evaluated,
    /// Those of the final weights besides.
    further: Vec<Evaluated>,
    device: Device,
    /// Images trained on by this attempt.
    images: u64,
}

impl Stage<'_> {
    fn train(&mut self, observer: &mut dyn Observer) -> Result<u64, TrainError> {
        let recipe = &self.spec.recipe;
        let classes = self.spec.data_shape.classes;
        let autodiff = self.device.clone().autodiff();
        let transform = TrainTransform::new(&recipe.augment, recipe.train.resolution)?;
        let mixer = Mixer::new(&recipe.mix, classes, recipe.loss.label_smoothing)?;
        let sampler = Sampler::new(
            self.spec.data_shape.train_images,
            recipe.train.batch_size,
            recipe.train.repeated_augmentation,
            recipe.mix.groups,
            self.spec.seed,
        )?;
        let schedule = Schedule::new(&recipe.schedule, recipe.optimizer.lr, recipe.train.epochs);
        let per_epoch = sampler.steps_per_epoch() as u64;
        let total_steps = per_epoch * recipe.train.epochs as u64;

        let (mut learner, mut position) = self.learner(&autodiff, observer)?;
        observer.event(started(self.launch, position.step, total_steps))?;
        let parts = self.parts(observer)?;
        self.circumstances(observer)?;
        let context = StepContext {
            recipe,
            seed: self.spec.seed,
            mixer: &mixer,
            device: &autodiff,
            parts,
        };
        let mut best = self.best(observer)?;

        let mut last_log = Stopwatch::start();
        let mut images_since_log = 0u64;
        let mut last_checkpoint = Instant::now();
        // A checkpoint after an epoch's last step still counts that epoch's steps.
        let first_epoch = ((position.step - position.epoch_steps) / per_epoch.max(1)) as usize;
        for epoch in first_epoch..recipe.train.epochs {
            let epoch_start = Stopwatch::start();
            let start = position.epoch_steps as usize;
            let loader = Loader::train(
                &self.dataset,
                &transform,
                &sampler,
                epoch as u32,
                start,
                self.launch.loader_threads,
            );
            for batch in loader {
                let batch = batch?;
                let count = batch.labels.len() as u64;
                let lr = schedule.lr(epoch, batch.step as f64 / per_epoch as f64);
                let loss = learner.step(&context, batch, epoch as u32, lr)?;
                if !loss.is_finite() {
                    return Err(TrainError::Diverged {
                        loss,
                        step: position.step,
                        epoch,
                        lr,
                    });
                }
                position.step += 1;
                position.epoch_steps += 1;
                position.loss_sum += loss;
                self.images += count;
                images_since_log += count;
                if last_log.elapsed() >= Duration::from_secs_f64(self.launch.log_seconds) {
                    observer.event(EventKind::Step {
                        step: position.step,
                        epoch: epoch as u32,
                        loss,
                        lr,
                        grad_norm: learner.optimizer.grad_norm(),
                        images_per_second: images_since_log as f64
                            / last_log.elapsed().as_secs_f64(),
                    })?;
                    last_log = Stopwatch::start();
                    images_since_log = 0;
                }
                let due = last_checkpoint.elapsed().as_secs_f64() >= self.launch.checkpoint_seconds;
                let stop = observer.stop_requested();
                // After the last step, too: an evaluation may take long.
                if due || stop {
                    self.checkpoint(&mut learner, position, observer)?;
                    last_checkpoint = Instant::now();
                }
                if stop {
                    return Err(TrainError::Stopped {
                        step: position.step,
                    });
                }
            }
            observer.event(EventKind::Epoch {
                epoch: epoch as u32,
                step: position.step,
                train_loss: position.loss_sum / position.epoch_steps.max(1) as f64,
                lr: schedule.lr(epoch, (per_epoch - 1) as f64 / per_epoch as f64),
                seconds: epoch_start.elapsed().as_secs_f64(),
            })?;
            let last = epoch + 1 == recipe.train.epochs;
            let at = (epoch as u32, position.step);
            match self.evaluate_epoch(&mut learner, at, last, &mut best, observer) {
                // Before anything of the next epoch: whoever goes on from here evaluates again.
                Err(TrainError::Stopped { .. }) => {
                    self.checkpoint(&mut learner, position, observer)?;
                    return Err(TrainError::Stopped {
                        step: position.step,
                    });
                }
                result => result?,
            }
            position.loss_sum = 0.0;
            position.epoch_steps = 0;
            let by_epoch = |every: u32| every > 0 && (epoch as u32 + 1).is_multiple_of(every);
            if !last && self.launch.checkpoint_epochs.is_some_and(by_epoch) {
                self.checkpoint(&mut learner, position, observer)?;
                last_checkpoint = Instant::now();
            }
        }
        let weights = self.final_weights(&mut learner);
        let path = self.dir.weights();
        checkpoint::write_final(&path, &self.spec.fingerprint, &weights)?;
        Ok(position.step)
    }

    /// The evaluations after an epoch, as far as there are any.
    fn evaluate_epoch(
        &self,
        learner: &mut Learner,
        at: (u32, u64),
        last: bool,
        best: &mut Option<Best>,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        if last && !self.further.is_empty() {
            let weights = self.final_weights(learner);
            self.evaluate_further(&weights, at.0, at.1, observer)?;
        }
        if last || (at.0 as usize + 1).is_multiple_of(self.spec.recipe.eval.every) {
            let weights = self.evaluated_weights(learner);
            let evaluation = self.evaluate(weights, &self.headline, observer)?;
            let path = last.then(|| self.dir.predictions());
            self.record(&evaluation, &self.headline, at, path, observer)?;
            self.keep_best(learner, &evaluation, at, best)?;
        }
        Ok(())
    }

    /// A fresh learner, or the one of the last checkpoint.
    fn learner(
        &self,
        device: &Device,
        observer: &mut dyn Observer,
    ) -> Result<(Learner, Position), TrainError> {
        let recipe = &self.spec.recipe;
        let classes = self.spec.data_shape.classes;
        let arch = Architecture::new(&recipe.model, recipe.train.resolution, classes);
        let mut model = VisionTransformer::new(arch, self.spec.seed, device);
        model.recompute = recipe.train.gradient_checkpointing;
        let (resumed, refused) =
            checkpoint::latest(&self.dir.checkpoints(), &self.spec.fingerprint)?;
        for refused in refused {
            observer.event(EventKind::Warning {
                message: format!("checkpoint refused: {}", refused.error),
            })?;
            refused.set_aside()?;
        }
        if resumed.is_none() && (self.spec.parent.is_some() || self.spec.init_weights.is_some()) {
            let adapted = weights::load(&mut model, self.starting_weights()?, true)
                .map_err(|error| self.misfit(error))?;
            if let Some((old, new)) = adapted.pos_embed {
                let message =
                    format!("position embedding interpolated from {old}x{old} to {new}x{new}");
                observer.event(EventKind::Warning { message })?;
            }
            if adapted.head {
                let message = format!("head re-initialised for {classes} classes");
                observer.event(EventKind::Warning { message })?;
            }
        }
        let shapes = parameter::shapes(&mut model);
        let groups = shapes
            .iter()
            .map(|(name, shape)| Group::of(name, shape))
            .collect();
        let mut optimizer = Optimizer::new(&recipe.optimizer, groups);
        let mut position = Position::default();
        let mut average = None;
        if let Some(mut checkpoint) = resumed {
            position = checkpoint.position;
            weights::load(&mut model, checkpoint.take("model."), true)?;
            let inner = device.clone().inner();
            let mut in_order = |prefix: &str| vectors(checkpoint.take(prefix), &shapes, &inner);
            let parts = optimizer
                .state_names()
                .iter()
                .map(|name| in_order(&format!("{name}.")))
                .collect();
            optimizer.restore(position.step, parts);
            average = Some(in_order("ema.")).filter(|average| average.len() == shapes.len());
        }
        let ema = recipe.ema.decay.map(|decay| {
            Ema::new(
                decay,
                average.unwrap_or_else(|| parameter::values(&mut model)),
            )
        });
        Ok((
            Learner {
                model,
                optimizer,
                ema,
                phases: Phases::default(),
            },
            position,
        ))
    }

    fn checkpoint(
        &self,
        learner: &mut Learner,
        position: Position,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let checkpoint = learner.checkpoint(position);
        let file = checkpoint::write(
            &self.dir.checkpoints(),
            &self.spec.fingerprint,
            &checkpoint,
            self.launch.keep_checkpoints,
        )?;
        observer.event(EventKind::Checkpointed {
            step: position.step,
            file,
        })?;
        observer.sync()
    }

    /// Tells what the recipe doesn't: fusion that was turned off changes the last digits, and gradient
    /// checkpointing is there on a CPU only.
    fn circumstances(&self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let on_cpu = self.launch.device == "cpu";
        if on_cpu && !kernel::is_on() {
            observer.event(EventKind::Deviated {
                what: "fused operations".to_owned(),
                planned: "on".to_owned(),
                actual: "off".to_owned(),
            })?;
        }
        if !on_cpu && self.spec.recipe.train.gradient_checkpointing {
            let message = "`train.gradient_checkpointing` has no effect on this device";
            observer.event(EventKind::Warning {
                message: message.to_owned(),
            })?;
        }
        Ok(())
    }

    /// Parts of a step's batch: the recipe's, or those that the launch asks for, which is told.
    fn parts(&self, observer: &mut dyn Observer) -> Result<usize, TrainError> {
        let train = &self.spec.recipe.train;
        let parts = self.launch.accumulation.unwrap_or(train.accumulation);
        if parts == train.accumulation {
            return Ok(parts);
        }
        if parts == 0 || !train.batch_size.is_multiple_of(parts) {
            return Err(TrainError::Config(format!(
                "a batch of {} can't be taken in {parts} equal parts",
                train.batch_size
            )));
        }
        observer.event(EventKind::Deviated {
            what: "train.accumulation".to_owned(),
            planned: train.accumulation.to_string(),
            actual: parts.to_string(),
        })?;
        Ok(parts)
    }

    /// The best evaluation of earlier attempts. One that is damaged is as good as none.
    fn best(&self, observer: &mut dyn Observer) -> Result<Option<Best>, TrainError> {
        if !self.launch.keep_best {
            return Ok(None);
        }
        match checkpoint::read_best(&self.dir.best(), &self.spec.fingerprint) {
            Ok(best) => Ok(best),
            Err(error @ TrainError::Io { .. }) => Err(error),
            Err(error) => {
                observer.event(EventKind::Warning {
                    message: format!("best weights refused: {error}"),
                })?;
                Ok(None)
            }
        }
    }

    /// Keeps the weights that were just evaluated if none were better so far. Only more is better: going on
    /// from an earlier checkpoint repeats evaluations, and ends with the same file.
    fn keep_best(
        &self,
        learner: &mut Learner,
        evaluation: &Evaluation,
        (epoch, step): (u32, u64),
        best: &mut Option<Best>,
    ) -> Result<(), TrainError> {
        let metrics = evaluation.metrics();
        let Some(&top1) = metrics.get("top1").filter(|_| self.launch.keep_best) else {
            return Ok(());
        };
        if best.is_some_and(|best| top1 <= best.top1) {
            return Ok(());
        }
        let found = Best { step, epoch, top1 };
        let weights = self.final_weights(learner);
        checkpoint::write_best(&self.dir.best(), &self.spec.fingerprint, found, &weights)?;
        *best = Some(found);
        Ok(())
    }

    /// Weights that are evaluated and kept: the raw ones, or their average if the recipe says so.
    fn final_weights(&self, learner: &mut Learner) -> Vec<HostParameter> {
        let mut weights = parameter::export(&mut learner.model);
        if let (true, Some(ema)) = (self.spec.recipe.ema.eval, &learner.ema) {
            for (host, average) in weights.iter_mut().zip(&ema.average) {
                host.values = HostParameter::new("", average.clone().into_data()).values;
            }
        }
        weights
    }

    /// A model for evaluation, at the evaluation's resolution and outside autodiff.
    fn evaluated_weights(&self, learner: &mut Learner) -> Weights {
        if self.spec.recipe.eval.resolution == self.spec.recipe.train.resolution
            && !(self.spec.recipe.ema.eval && learner.ema.is_some())
        {
            return Weights::Model(Box::new(learner.model.without_autodiff()));
        }
        Weights::Host(self.final_weights(learner))
    }

    fn evaluate(
        &self,
        weights: Weights,
        what: &Evaluated,
        observer: &mut dyn Observer,
    ) -> Result<Evaluation, TrainError> {
        let recipe = &self.spec.recipe;
        let model = match weights {
            Weights::Model(model) => *model,
            Weights::Host(weights) => {
                let classes = self.spec.data_shape.classes;
                let arch = Architecture::new(&recipe.model, what.resolution, classes);
                let mut model = VisionTransformer::new(arch, self.spec.seed, &self.device);
                let adapted = weights::load(&mut model, weights, false)
                    .map_err(|error| self.misfit(error))?;
                if adapted.head {
                    return Err(TrainError::Config(format!(
                        "the weights to evaluate are for another number of classes than the data set's {classes}"
                    )));
                }
                model
            }
        };
        let transform = EvalTransform::new(what.resolution, recipe.eval.crop_ratio)?;
        evaluate(
            &model,
            &what.set,
            &transform,
            self.launch.loader_threads,
            &self.device,
            || match observer.stop_requested() {
                // Whoever goes on from the last checkpoint evaluates again.
                true => Err(TrainError::Stopped { step: 0 }),
                false => observer.sync(),
            },
        )
    }

    /// The further evaluations of the final weights. They come before the headline, so that the log's last
    /// evaluation is the stage's result.
    fn evaluate_further(
        &self,
        weights: &[HostParameter],
        epoch: u32,
        step: u64,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        for what in &self.further {
            let evaluation = self.evaluate(Weights::Host(weights.to_vec()), what, observer)?;
            let path = self.dir.further_predictions(&what.name, what.resolution);
            self.record(&evaluation, what, (epoch, step), Some(path), observer)?;
        }
        Ok(())
    }

    /// Tells of an evaluation; one of the final weights leaves its predictions at `path`.
    fn record(
        &self,
        evaluation: &Evaluation,
        what: &Evaluated,
        (epoch, step): (u32, u64),
        path: Option<PathBuf>,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let last = path.is_some();
        if let Some(path) = path {
            write_atomically(&path, &predictions::encode(&evaluation.predictions))
                .map_err(TrainError::io(&path))?;
        }
        observer.event(EventKind::Evaluated {
            epoch,
            step,
            set: what.name.clone(),
            resolution: what.resolution as u32,
            metrics: evaluation.metrics(),
            last,
        })?;
        observer.sync()
    }

    /// The weights that the stage starts from: its parent's, or those of a file.
    fn starting_weights(&self) -> Result<Vec<HostParameter>, TrainError> {
        let Some(planned) = &self.spec.init_weights else {
            return self.parent_weights();
        };
        let Some(path) = &self.launch.init_file else {
            return Err(TrainError::Config(
                "the stage starts from a file of weights, but was told of none".into(),
            ));
        };
        let found = crate::plan::init::file_hash(path).map_err(TrainError::io(path))?;
        if found != *planned {
            return Err(TrainError::InitChanged {
                path: path.display().to_string(),
                planned: planned.clone(),
                found,
            });
        }
        Ok(crate::weights::read(path)?.parameters)
    }

    /// Why the weights that the stage starts from can't be loaded.
    fn misfit(&self, error: WeightsError) -> TrainError {
        match (&self.spec.init_weights, &self.launch.init_file) {
            (Some(_), Some(path)) => TrainError::Init {
                path: path.display().to_string(),
                source: error,
            },
            _ => TrainError::Weights(error),
        }
    }

    fn parent_weights(&self) -> Result<Vec<HostParameter>, TrainError> {
        let Some(parent) = &self.launch.parent_dir else {
            return Err(TrainError::Config(
                "the stage has a parent, but no run directory of it".into(),
            ));
        };
        checkpoint::read_weights(&RunDir::new(parent).weights())
    }

    fn evaluate_parent(&mut self, observer: &mut dyn Observer) -> Result<u64, TrainError> {
        observer.event(started(self.launch, 0, 0))?;
        self.circumstances(observer)?;
        let weights = self.starting_weights()?;
        self.evaluate_further(&weights, 0, 0, observer)?;
        let evaluation = self.evaluate(Weights::Host(weights.clone()), &self.headline, observer)?;
        let path = Some(self.dir.predictions());
        self.record(&evaluation, &self.headline, (0, 0), path, observer)?;
        // A child of an evaluation starts from the same weights.
        checkpoint::write_final(&self.dir.weights(), &self.spec.fingerprint, &weights)?;
        Ok(0)
    }
}

/// Weights on their way to an evaluation.
enum Weights {
    Model(Box<VisionTransformer>),
    Host(Vec<HostParameter>),
}

/// Vectors in the order of `shapes`; empty if one is missing.
fn vectors(
    tensors: Vec<HostParameter>,
    shapes: &[(String, Vec<usize>)],
    device: &Device,
) -> Vec<Tensor<1>> {
    let mut by_name: std::collections::HashMap<String, Vec<f32>> = tensors
        .into_iter()
        .map(|tensor| (tensor.name, tensor.values))
        .collect();
    shapes
        .iter()
        .map(|(name, _)| {
            let values = by_name.remove(name)?;
            let size = values.len();
            Some(Tensor::from_data(TensorData::new(values, [size]), device))
        })
        .collect::<Option<Vec<_>>>()
        .unwrap_or_default()
}

fn started(launch: &Launch, resumed_step: u64, total_steps: u64) -> EventKind {
    EventKind::Started {
        host: crate::rundir::host::name(),
        pid: std::process::id(),
        device: launch.device.clone(),
        program: concat!("ablate ", env!("CARGO_PKG_VERSION")).to_owned(),
        resumed_step,
        total_steps,
    }
}

fn resources(started: Stopwatch, images: u64) -> EventKind {
    let usage = crate::rundir::host::usage();
    EventKind::Resources {
        peak_rss_bytes: usage.peak_rss_bytes,
        cpu_seconds: usage.cpu_seconds,
        wall_seconds: started.elapsed().as_secs_f64(),
        images,
    }
}
