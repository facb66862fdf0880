//! Timing of training steps, phase by phase.

use super::TrainError;
use crate::kernel;
use crate::kernel::matmul::{Matrix, matmul};
use crate::loss;
use crate::model::parameter;
use crate::model::{Architecture, DropPathMasks, VisionTransformer};
use crate::optim::Optimizer;
use crate::optim::group::Group;
use crate::rng::{KeyedRng, Purpose};
use crate::spec::recipe::{LossName, OptimizerConfig};
use burn::tensor::{Device, Tensor, TensorData};
use serde::Serialize;
use std::time::Instant;

/// What is timed.
#[derive(Debug, Clone)]
pub struct Bench {
    pub arch: Architecture,
    pub optimizer: OptimizerConfig,
    pub batch: usize,
    /// Steps that count; two more come first.
    pub steps: usize,
    /// Fused operations.
    pub fused: bool,
}

/// Seconds of one step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Step {
    /// Images and targets to the device.
    pub input: f64,
    /// Forward pass and loss.
    pub forward: f64,
    pub backward: f64,
    /// Clipping, update, new leaves.
    pub optimizer: f64,
}

impl Step {
    /// The whole step.
    pub fn total(&self) -> f64 {
        self.input + self.forward + self.backward + self.optimizer
    }
}

/// Runs training steps on random images and returns the time of each, without the warm-up.
pub fn run(bench: &Bench, device: &Device) -> Result<Vec<Step>, TrainError> {
    kernel::set_fused(bench.fused);
    let autodiff = device.clone().autodiff();
    let arch = &bench.arch;
    let mut model = VisionTransformer::new(arch.clone(), 0, &autodiff);
    let shapes = parameter::shapes(&mut model);
    let groups = shapes
        .iter()
        .map(|(name, shape)| Group::of(name, shape))
        .collect();
    let mut optimizer = Optimizer::new(&bench.optimizer, groups);
    let (batch, side, classes) = (bench.batch, arch.resolution, arch.classes);
    let mut rng = KeyedRng::new(0, Purpose::Test, 0, 0);
    let size = batch * arch.channels * side * side;
    let images: Vec<f32> = (0..size).map(|_| rng.normal() as f32).collect();
    let mut targets = vec![0.0f32; batch * classes];
    for row in targets.chunks_exact_mut(classes) {
        row[rng.below(classes as u64) as usize] = 1.0;
    }
    let rates = arch.drop_path_rates();
    let branches = 2 * arch.parallel_branches;
    let mut steps = Vec::new();
    for number in 0..bench.steps + 2 {
        let mut clock = Clock(Instant::now());
        let data = TensorData::new(images.clone(), [batch, arch.channels, side, side]);
        let x = Tensor::from_data(data, &autodiff);
        let target = Tensor::from_data(
            TensorData::new(targets.clone(), [batch, classes]),
            &autodiff,
        );
        let masks = DropPathMasks::draw(&rates, branches, batch, 0, 0, number as u64);
        let input = clock.lap();
        let value = loss::loss(LossName::Bce, model.forward(x, Some(&masks)), target);
        if !value.clone().into_scalar::<f32>().is_finite() {
            return Err(TrainError::Config("the loss is not finite".to_owned()));
        }
        let forward = clock.lap();
        let mut grads = value.backward();
        let grads = parameter::gradients(&mut model, &mut grads);
        wait(device)?;
        let backward = clock.lap();
        let params = optimizer.step(1e-4, parameter::values(&mut model), grads);
        parameter::replace(&mut model, params, true);
        wait(device)?;
        let optimizer = clock.lap();
        if number >= 2 {
            steps.push(Step {
                input,
                forward,
                backward,
                optimizer,
            });
        }
    }
    Ok(steps)
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

struct Clock(Instant);

impl Clock {
    /// Seconds since the last lap.
    fn lap(&mut self) -> f64 {
        let now = Instant::now();
        let seconds = (now - self.0).as_secs_f64();
        self.0 = now;
        seconds
    }
}

fn wait(device: &Device) -> Result<(), TrainError> {
    device
        .sync()
        .map_err(|error| TrainError::Config(format!("the device failed: {error:?}")))
}
