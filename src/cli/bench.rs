//! `ablate bench`: how fast this machine trains, and what the scheduler costs.

mod schedule;

use super::exit::Exit;
use super::planning::say;
use crate::model::Architecture;
use crate::plan::cost::VitShape;
use crate::rundir::host;
use crate::spec::arch;
use crate::spec::recipe::{DropPathRule, OptimizerConfig, OptimizerName};
use crate::train::bench::{self, Bench, Step};
use crate::train::{TrainError, device};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use std::io::Write;
use std::num::NonZeroUsize;

/// Measure the speed of parts of the program on this machine
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    pub what: What,
}

/// What is measured.
#[derive(Debug, Clone, Subcommand)]
pub enum What {
    Train(TrainArgs),
    Schedule(schedule::ScheduleArgs),
}

/// Training steps on random images: forward, backward, optimizer
#[derive(Debug, Clone, Args)]
pub struct TrainArgs {
    /// Architecture, as in `model.arch`
    #[arg(long, value_name = "NAME", default_value = "vit_micro_patch8")]
    pub arch: String,
    /// Side of the images in pixels
    #[arg(long, value_name = "PIXELS", default_value = "48")]
    pub resolution: NonZeroUsize,
    /// Images a step
    #[arg(long, value_name = "N", default_value = "64")]
    pub batch: NonZeroUsize,
    #[arg(long, value_name = "N", default_value = "1000")]
    pub classes: NonZeroUsize,
    /// Compute threads
    #[arg(long, value_name = "N", default_value = "1")]
    pub threads: NonZeroUsize,
    /// Steps that count, after two that don't
    #[arg(long, value_name = "N", default_value = "10")]
    pub steps: NonZeroUsize,
    #[arg(long, value_name = "NAME", value_enum, default_value_t = BenchOptimizer::Adamw)]
    pub optimizer: BenchOptimizer,
    /// Stochastic depth rate
    #[arg(long, value_name = "RATE", default_value_t = 0.05)]
    pub drop_path: f64,
    /// Where to train: cpu, cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
    /// Use Burn's own operations instead of the fused ones
    #[arg(long)]
    pub unfused: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t = BenchFormat::Text)]
    pub format: BenchFormat,
}

/// Optimizer of a benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchOptimizer {
    Lamb,
    Adamw,
}

/// How figures are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchFormat {
    Text,
    Json,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
struct Figures {
    arch: String,
    resolution: usize,
    batch: usize,
    threads: usize,
    device: String,
    fused: bool,
    /// Of the median step.
    images_per_second: f64,
    flops_per_second: f64,
    /// Of a large matrix product on the same threads; only on a CPU.
    peak_flops_per_second: Option<f64>,
    peak_rss_bytes: u64,
    /// Median over steps, each phase by itself.
    seconds: Step,
    median_seconds: f64,
    best_seconds: f64,
    worst_seconds: f64,
}

/// Runs the command.
pub async fn run(args: &BenchArgs) -> Exit {
    let args = match &args.what {
        What::Train(args) => args,
        What::Schedule(args) => return schedule::run(args).await,
    };
    match measure(args) {
        Ok(figures) => {
            let text = match args.format {
                BenchFormat::Text => text(&figures),
                BenchFormat::Json => {
                    serde_json::to_string_pretty(&figures).unwrap_or_default() + "\n"
                }
            };
            // A closed pipe has read what it wanted.
            let _ = std::io::stdout().write_all(text.as_bytes());
            Exit::Done
        }
        Err(error) => {
            say(format_args!("error: {error}"));
            Exit::Usage
        }
    }
}

fn measure(args: &TrainArgs) -> Result<Figures, TrainError> {
    let sizes = arch::expand(&args.arch).map_err(|hint| {
        TrainError::Config(format!("unknown architecture `{}`; {hint}", args.arch))
    })?;
    let device = device::open(&args.device)?;
    let arch = Architecture {
        resolution: args.resolution.get(),
        channels: 3,
        patch_size: sizes.patch_size as usize,
        embed_dim: sizes.embed_dim as usize,
        depth: sizes.depth as usize,
        num_heads: sizes.num_heads as usize,
        mlp_ratio: 4.0,
        parallel_branches: sizes.parallel_branches as usize,
        layer_scale: Some(1e-4),
        drop_path: args.drop_path,
        drop_path_rule: DropPathRule::Constant,
        pos_embed_class: false,
        classes: args.classes.get(),
    };
    if arch.grid() == 0 {
        return Err(TrainError::Config(format!(
            "{} pixels are less than a patch of {}",
            arch.resolution, arch.patch_size
        )));
    }
    let shape = VitShape {
        patch_size: arch.patch_size as u64,
        embed_dim: arch.embed_dim as u64,
        depth: arch.depth as u64,
        parallel_branches: arch.parallel_branches as u64,
        mlp_ratio: arch.mlp_ratio,
        layer_scale: true,
        pos_embed_class: false,
        classes: arch.classes as u64,
    };
    let flops = 3.0 * shape.forward_flops(arch.resolution as u64);
    let bench = Bench {
        arch,
        optimizer: optimizer(args.optimizer),
        batch: args.batch.get(),
        steps: args.steps.get(),
        fused: !args.unfused,
    };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(args.threads.get())
        .build()
        .map_err(|error| TrainError::Config(error.to_string()))?;
    let (steps, peak) = pool.install(|| {
        let peak = (args.device == "cpu").then(bench::peak_flops);
        bench::run(&bench, &device).map(|steps| (steps, peak))
    })?;
    let by = |phase: fn(&Step) -> f64| {
        let mut values: Vec<f64> = steps.iter().map(phase).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let median = |phase: fn(&Step) -> f64| by(phase)[steps.len() / 2];
    let totals = by(Step::total);
    let median_seconds = totals[totals.len() / 2];
    let images_per_second = args.batch.get() as f64 / median_seconds;
    Ok(Figures {
        arch: args.arch.clone(),
        resolution: args.resolution.get(),
        batch: args.batch.get(),
        threads: args.threads.get(),
        device: args.device.clone(),
        fused: !args.unfused,
        images_per_second,
        flops_per_second: images_per_second * flops,
        peak_flops_per_second: peak,
        peak_rss_bytes: host::usage().peak_rss_bytes,
        seconds: Step {
            input: median(|step| step.input),
            forward: median(|step| step.forward),
            backward: median(|step| step.backward),
            optimizer: median(|step| step.optimizer),
        },
        median_seconds,
        best_seconds: totals[0],
        worst_seconds: totals[totals.len() - 1],
    })
}

fn optimizer(name: BenchOptimizer) -> OptimizerConfig {
    OptimizerConfig {
        name: match name {
            BenchOptimizer::Lamb => OptimizerName::Lamb,
            BenchOptimizer::Adamw => OptimizerName::AdamW,
        },
        lr: 1e-4,
        weight_decay: 0.05,
        betas: [0.9, 0.999],
        eps: 1e-8,
        momentum: 0.0,
        nesterov: false,
        max_grad_norm: Some(1.0),
        always_adapt: false,
        trust_clip: false,
    }
}

fn text(figures: &Figures) -> String {
    let share = match figures.peak_flops_per_second {
        Some(peak) => format!(
            ", {:.0} % of a large matrix product's {:.1}",
            100.0 * figures.flops_per_second / peak,
            peak / 1e9
        ),
        None => String::new(),
    };
    let ms = |seconds: f64| seconds * 1e3;
    let Step {
        input,
        forward,
        backward,
        optimizer,
    } = figures.seconds;
    format!(
        "{} at {} px, batch {}, {} thread(s) of {}, {}\n\
         {:.1} images/s, {:.1} GFLOP/s{share}\n\
         step {:.1} ms (best {:.1}, worst {:.1}): input {:.1}, forward {:.1}, backward {:.1}, optimizer {:.1}\n\
         peak memory {:.0} MiB\n",
        figures.arch,
        figures.resolution,
        figures.batch,
        figures.threads,
        figures.device,
        if figures.fused {
            "fused operations"
        } else {
            "Burn's own operations"
        },
        figures.images_per_second,
        figures.flops_per_second / 1e9,
        ms(figures.median_seconds),
        ms(figures.best_seconds),
        ms(figures.worst_seconds),
        ms(input),
        ms(forward),
        ms(backward),
        ms(optimizer),
        figures.peak_rss_bytes as f64 / 1024.0 / 1024.0,
    )
}
