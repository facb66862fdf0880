//! Timing of training steps, phase by phase: the steps that a stage takes, on random or on real images.

use super::TrainError;
use super::checkpoint::{self, Position};
use super::phases::Phases;
use super::step::{Learner, StepContext};
use crate::data::{Batch, Dataset, Loader, Mixer, Sampler, TrainTransform};
use crate::kernel;
use crate::kernel::matmul::{Matrix, matmul};
use crate::model::parameter;
use crate::model::{Architecture, VisionTransformer};
use crate::optim::Optimizer;
use crate::optim::ema::Ema;
use crate::optim::group::Group;
use crate::rng::{KeyedRng, Purpose};
use crate::rundir::stage::DataShape;
use crate::spec::recipe::Recipe;
use burn::tensor::Device;
use std::time::Instant;

/// Steps that come first and don't count.
const WARM_UP: usize = 2;

/// What is timed.
#[derive(Debug, Clone)]
pub struct Bench {
    pub recipe: Recipe,
    pub source: Source,
    /// Steps that count; a few more come first.
    pub steps: usize,
    /// Fused operations.
    pub fused: bool,
    /// Threads that prepare batches; 0: the compute thread does it.
    pub loader_threads: usize,
}

/// Where images come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// The same random images at every step, with labels of so many classes.
    Random { classes: usize },
    /// A data set, through the recipe's augmentation.
    Data(Box<Dataset>),
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Timing {
    /// One per step that counts.
    pub steps: Vec<Phases>,
    /// Writing a checkpoint.
    pub checkpoint_seconds: f64,
}

/// Runs training steps and returns the time of each, without the warm-up; then writes a checkpoint.
pub fn run(bench: &Bench, device: &Device) -> Result<Timing, TrainError> {
    kernel::set_fused(bench.fused);
    let recipe = &bench.recipe;
    let autodiff = device.clone().autodiff();
    let classes = match &bench.source {
        Source::Random { classes } => *classes,
        Source::Data(dataset) => dataset.shape().classes,
    };
    let arch = Architecture::new(&recipe.model, recipe.train.resolution, classes);
    let mut model = VisionTransformer::new(arch, 0, &autodiff);
    model.recompute = recipe.train.gradient_checkpointing;
    let shapes = parameter::shapes(&mut model);
    let groups = shapes
        .iter()
        .map(|(name, shape)| Group::of(name, shape))
        .collect();
    let ema = recipe
        .ema
        .decay
        .map(|decay| Ema::new(decay, parameter::values(&mut model)));
    let mut learner = Learner {
        model,
        optimizer: Optimizer::new(&recipe.optimizer, groups),
        ema,
        phases: Phases::default(),
    };
    let mixer = Mixer::new(&recipe.mix, classes, recipe.loss.label_smoothing)?;
    let context = StepContext {
        recipe,
        seed: 0,
        mixer: &mixer,
        device: &autodiff,
        parts: recipe.train.accumulation,
    };
    let mut batches = Batches::new(bench, classes)?;
    let mut steps = Vec::new();
    for number in 0..bench.steps + WARM_UP {
        let start = Instant::now();
        let batch = batches.next()?;
        let data = start.elapsed().as_secs_f64();
        let loss = learner.step(&context, batch, 0, recipe.optimizer.lr)?;
        if !loss.is_finite() {
            return Err(TrainError::Config("the loss is not finite".to_owned()));
        }
        let told = learner.phases.total();
        wait(device)?;
        let mut phases = Phases {
            data,
            ..learner.phases
        };
        // What a device still had to do.
        phases.optimizer += (start.elapsed().as_secs_f64() - data - told).max(0.0);
        if number >= WARM_UP {
            steps.push(phases);
        }
    }
    Ok(Timing {
        steps,
        checkpoint_seconds: checkpoint_seconds(&mut learner)?,
    })
}

fn checkpoint_seconds(learner: &mut Learner) -> Result<f64, TrainError> {
    let folder = tempfile::tempdir().map_err(TrainError::io(&std::env::temp_dir()))?;
    let start = Instant::now();
    let checkpoint = learner.checkpoint(Position::default());
    checkpoint::write(folder.path(), "benchmark", &checkpoint, 1)?;
    Ok(start.elapsed().as_secs_f64())
}

/// An endless supply of batches.
enum Batches<'a> {
    Random(Batch),
    Data {
        dataset: &'a Dataset,
        transform: TrainTransform,
        sampler: Sampler,
        threads: usize,
        epoch: u32,
        loader: Loader,
    },
}

impl<'a> Batches<'a> {
    fn new(bench: &'a Bench, classes: usize) -> Result<Self, TrainError> {
        let train = &bench.recipe.train;
        match &bench.source {
            Source::Random { .. } => {
                let mut rng = KeyedRng::new(0, Purpose::Test, 0, 0);
                let size = train.batch_size * 3 * train.resolution * train.resolution;
                Ok(Batches::Random(Batch {
                    images: (0..size).map(|_| rng.normal() as f32).collect(),
                    labels: (0..train.batch_size)
                        .map(|_| rng.below(classes as u64) as u32)
                        .collect(),
                    step: 0,
                }))
            }
            Source::Data(dataset) => {
                let transform = TrainTransform::new(&bench.recipe.augment, train.resolution)?;
                let DataShape { train_images, .. } = dataset.shape();
                let sampler = Sampler::new(train_images, train.batch_size, 1, 1, 0)?;
                let threads = bench.loader_threads;
                let loader = Loader::train(dataset, &transform, &sampler, 0, 0, threads);
                Ok(Batches::Data {
                    dataset,
                    transform,
                    sampler,
                    threads,
                    epoch: 0,
                    loader,
                })
            }
        }
    }

    fn next(&mut self) -> Result<Batch, TrainError> {
        match self {
            Batches::Random(batch) => Ok(batch.clone()),
            Batches::Data {
                dataset,
                transform,
                sampler,
                threads,
                epoch,
                loader,
            } => loop {
                if let Some(batch) = loader.next() {
                    return Ok(batch?);
                }
                if sampler.steps_per_epoch() == 0 {
                    let message = "the data set has fewer images than a batch";
                    return Err(TrainError::Config(message.to_owned()));
                }
                *epoch += 1;
                *loader = Loader::train(dataset, transform, sampler, *epoch, 0, *threads);
            },
        }
    }
}

/// Operations per second of a large matrix product on every thread of the pool at once: what the
/// machine gives at most, for programs that use this product.
pub fn peak_flops() -> f64 {
    const SIDE: usize = 768;
    let product = |repeats: usize| {
        let (a, b) = (vec![1.0f32; SIDE * SIDE], vec![0.5f32; SIDE * SIDE]);
        let mut out = vec![0.0f32; SIDE * SIDE];
        for _ in 0..repeats {
            let (a, b) = (Matrix::new(&a, SIDE, SIDE), Matrix::new(&b, SIDE, SIDE));
            matmul(&mut out, SIDE, false, 1.0, a, b);
        }
        std::hint::black_box(out[0]);
    };
    rayon::broadcast(|_| product(2));
    let best = (0..5)
        .map(|_| {
            let start = Instant::now();
            rayon::broadcast(|_| product(8));
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    let threads = rayon::current_num_threads() as f64;
    threads * 8.0 * 2.0 * (SIDE as f64).powi(3) / best
}

fn wait(device: &Device) -> Result<(), TrainError> {
    device
        .sync()
        .map_err(|error| TrainError::Config(format!("the device failed: {error:?}")))
}
