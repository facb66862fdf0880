//! `ablate bench`: how fast this machine trains, what the scheduler costs, and what the program survives.

mod report;
mod schedule;
mod soak;

use super::exit::Exit;
use super::planning::say;
use crate::data::Dataset;
use crate::kernel;
use crate::model::Architecture;
use crate::plan::cost::VitShape;
use crate::plan::memory;
use crate::rundir::host;
use crate::spec::arch;
use crate::spec::recipe::{
    AugmentConfig, CropName, DataConfig, DropPathRule, EmaConfig, EvalConfig, LossConfig, LossName,
    MixConfig, ModelConfig, OptimizerConfig, OptimizerName, Recipe, ScheduleConfig, ScheduleName,
    TrainConfig,
};
use crate::train::bench::{self, Bench, Source};
use crate::train::phases::Phases;
use crate::train::{TrainError, device, products};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use std::io::Write;
use std::num::NonZeroUsize;
use std::os::unix::process::CommandExt;

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
    Soak(soak::SoakArgs),
    Report(report::ReportBenchArgs),
}

/// Training steps: data, forward, backward, optimizer
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
    /// Micro-batches a step
    #[arg(long, value_name = "N", default_value = "1")]
    pub accumulation: NonZeroUsize,
    /// Classes of random images
    #[arg(long, value_name = "N", default_value = "1000")]
    pub classes: NonZeroUsize,
    /// Images: the same random ones at every step, or the built-in data set with the augmentation of the
    /// recipe `quick`
    #[arg(long, value_enum, default_value_t = BenchImages::Random)]
    pub images: BenchImages,
    /// Compute threads
    #[arg(long, value_name = "N", default_value = "1")]
    pub threads: NonZeroUsize,
    /// Threads that prepare batches; 0: the compute thread does it
    #[arg(long, value_name = "N", default_value = "0")]
    pub loader_threads: usize,
    /// Steps that count, after two that don't
    #[arg(long, value_name = "N", default_value = "10")]
    pub steps: NonZeroUsize,
    #[arg(long, value_name = "NAME", value_enum, default_value_t = BenchOptimizer::Adamw)]
    pub optimizer: BenchOptimizer,
    /// Keep an average of the weights
    #[arg(long)]
    pub ema: bool,
    /// Stochastic depth rate
    #[arg(long, value_name = "RATE", default_value_t = 0.05)]
    pub drop_path: f64,
    /// Where to train: cpu, cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
    /// Use Burn's own operations instead of the fused ones
    #[arg(long)]
    pub unfused: bool,
    /// Run blocks again in the backward pass instead of keeping their tensors
    #[arg(long)]
    pub gradient_checkpointing: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t = BenchFormat::Text)]
    pub format: BenchFormat,
}

/// Images of a benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchImages {
    Random,
    BuiltIn,
}

/// Optimizer of a benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchOptimizer {
    Lamb,
    Adamw,
    Sgd,
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
    /// A step's matrix products by themselves; only on a CPU.
    products_seconds: Option<f64>,
    peak_rss_bytes: u64,
    /// What a plan says of the same training, without its evaluations; only on a CPU.
    estimated_bytes: Option<u64>,
    /// Median over steps, each phase by itself.
    seconds: Phases,
    /// What a step spends besides data and its two passes, the checkpoints' part included, over the step.
    share_around: f64,
    /// Writing one checkpoint.
    checkpoint_seconds: f64,
    median_seconds: f64,
    best_seconds: f64,
    worst_seconds: f64,
}

/// Runs the command.
pub async fn run(args: &BenchArgs) -> Exit {
    match &args.what {
        What::Train(args) => train(args),
        What::Schedule(args) => schedule::run(args).await,
        What::Soak(args) => soak::run(args),
        What::Report(args) => report::run(args).await,
    }
}

/// The allocator's setting that workers are started with. It is read when a process starts.
const PURGE: &str = "MIMALLOC_PURGE_DELAY";

/// Starts this program anew as workers are started, so that it measures what they do; not if the environment has
/// a setting already.
fn as_a_worker() {
    if std::env::var_os(PURGE).is_some() {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        let mut command = std::process::Command::new(program);
        command.args(std::env::args_os().skip(1)).env(PURGE, "-1");
        say(format_args!("can't start again: {}", command.exec()));
    }
}

fn train(args: &TrainArgs) -> Exit {
    as_a_worker();
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

/// Time between checkpoints where nothing else is said.
const CHECKPOINT_SECONDS: f64 = 60.0;

fn measure(args: &TrainArgs) -> Result<Figures, TrainError> {
    let sizes = arch::expand(&args.arch).map_err(|hint| {
        TrainError::Config(format!("unknown architecture `{}`; {hint}", args.arch))
    })?;
    let device = device::open(&args.device)?;
    if args.resolution.get() < sizes.patch_size as usize {
        return Err(TrainError::Config(format!(
            "{} pixels are less than a patch of {}",
            args.resolution, sizes.patch_size
        )));
    }
    if !args.batch.get().is_multiple_of(args.accumulation.get()) {
        return Err(TrainError::Config(format!(
            "{} micro-batches don't divide a batch of {}",
            args.accumulation, args.batch
        )));
    }
    let recipe = recipe(args, sizes);
    let source = match args.images {
        BenchImages::Random => Source::Random {
            classes: args.classes.get(),
        },
        BenchImages::BuiltIn => Source::Data(Box::new(Dataset::embedded())),
    };
    let classes = match &source {
        Source::Random { classes } => *classes,
        Source::Data(dataset) => dataset.shape().classes,
    };
    let shape = VitShape::new(&recipe.model, classes);
    let flops = 3.0 * shape.forward_flops(recipe.train.resolution as u64);
    let architecture = Architecture::new(&recipe.model, recipe.train.resolution, classes);
    let micro = args.batch.get() / args.accumulation.get();
    let bench = Bench {
        recipe,
        source,
        steps: args.steps.get(),
        fused: !args.unfused && kernel::is_on(),
        loader_threads: args.loader_threads,
    };
    let load = memory::Load {
        fused: bench.fused,
        data_bytes: match &bench.source {
            Source::Random { .. } => 0,
            Source::Data(dataset) => dataset.shape().kept_bytes,
        },
        ..memory::Load::of_training(&bench.recipe)
    };
    let estimated = memory::training_bytes(&shape, &load);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(args.threads.get())
        .build()
        .map_err(|error| TrainError::Config(error.to_string()))?;
    let on_cpu = args.device == "cpu";
    let (timing, usage, bounds) = pool.install(|| {
        let timing = bench::run(&bench, &device)?;
        // Before the yardsticks take memory of their own.
        let usage = host::usage();
        let products = || args.accumulation.get() as f64 * products::seconds(&architecture, micro);
        let bounds = on_cpu.then(|| (bench::peak_flops(), products()));
        Ok::<_, TrainError>((timing, usage, bounds))
    })?;
    let steps = &timing.steps;
    let by = |phase: fn(&Phases) -> f64| {
        let mut values: Vec<f64> = steps.iter().map(phase).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let median = |phase: fn(&Phases) -> f64| by(phase)[steps.len() / 2];
    let totals = by(Phases::total);
    let median_seconds = totals[totals.len() / 2];
    let images_per_second = args.batch.get() as f64 / median_seconds;
    let checkpoints = timing.checkpoint_seconds / CHECKPOINT_SECONDS;
    Ok(Figures {
        arch: args.arch.clone(),
        resolution: args.resolution.get(),
        batch: args.batch.get(),
        threads: args.threads.get(),
        device: args.device.clone(),
        fused: !args.unfused && kernel::is_on(),
        images_per_second,
        flops_per_second: images_per_second * flops,
        peak_flops_per_second: bounds.map(|(peak, _)| peak),
        products_seconds: bounds.map(|(_, products)| products),
        peak_rss_bytes: usage.peak_rss_bytes,
        estimated_bytes: on_cpu.then_some(estimated),
        seconds: Phases {
            data: median(|step| step.data),
            mix: median(|step| step.mix),
            input: median(|step| step.input),
            forward: median(|step| step.forward),
            backward: median(|step| step.backward),
            optimizer: median(|step| step.optimizer),
        },
        share_around: median(Phases::around) / median_seconds + checkpoints,
        checkpoint_seconds: timing.checkpoint_seconds,
        median_seconds,
        best_seconds: totals[0],
        worst_seconds: totals[totals.len() - 1],
    })
}

/// The recipe of a benchmark: what the arguments say, and `quick`'s augmentation.
fn recipe(args: &TrainArgs, sizes: arch::Arch) -> Recipe {
    Recipe {
        model: ModelConfig {
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
        },
        data: DataConfig {
            name: "random".to_owned(),
            root: None,
        },
        train: TrainConfig {
            resolution: args.resolution.get(),
            epochs: 1,
            batch_size: args.batch.get(),
            accumulation: args.accumulation.get(),
            repeated_augmentation: 1,
            gradient_checkpointing: args.gradient_checkpointing,
        },
        optimizer: OptimizerConfig {
            name: match args.optimizer {
                BenchOptimizer::Lamb => OptimizerName::Lamb,
                BenchOptimizer::Adamw => OptimizerName::AdamW,
                BenchOptimizer::Sgd => OptimizerName::Sgd,
            },
            lr: 1e-4,
            weight_decay: 0.05,
            betas: [0.9, 0.999],
            eps: 1e-8,
            momentum: 0.9,
            nesterov: false,
            max_grad_norm: Some(1.0),
            always_adapt: false,
            trust_clip: false,
        },
        schedule: ScheduleConfig {
            name: ScheduleName::Constant,
            warmup_epochs: 0,
            warmup_lr: 0.0,
            min_lr: 0.0,
        },
        loss: LossConfig {
            name: LossName::Bce,
            label_smoothing: 0.0,
        },
        mix: MixConfig {
            mixup_alpha: 0.8,
            cutmix_alpha: 1.0,
            prob: match args.images {
                BenchImages::Random => 0.0,
                BenchImages::BuiltIn => 0.5,
            },
            switch_prob: 0.5,
            groups: 1,
        },
        augment: AugmentConfig {
            crop: CropName::Rrc,
            rrc_scale: [0.35, 1.0],
            rrc_ratio: [0.75, 4.0 / 3.0],
            src_padding: 4,
            hflip: 0.5,
            policy: "none".to_owned(),
            three_augment_ops: Vec::new(),
            color_jitter: 0.0,
            random_erasing: 0.0,
        },
        ema: EmaConfig {
            decay: args.ema.then_some(0.9999),
            eval: false,
        },
        eval: EvalConfig {
            resolution: args.resolution.get(),
            crop_ratio: 1.0,
            every: 1,
            resolutions: Vec::new(),
            sets: Vec::new(),
        },
    }
}

fn text(figures: &Figures) -> String {
    let ms = |seconds: f64| seconds * 1e3;
    let mib = |bytes: u64| bytes as f64 / 1024.0 / 1024.0;
    let share = match figures.peak_flops_per_second {
        Some(peak) => format!(
            ", {:.0} % of a large matrix product's {:.1}",
            100.0 * figures.flops_per_second / peak,
            peak / 1e9
        ),
        None => String::new(),
    };
    let bound = match figures.products_seconds {
        Some(products) => format!(
            "matrix products alone {:.1} ms: the step takes {:.2} times as long\n",
            ms(products),
            figures.median_seconds / products
        ),
        None => String::new(),
    };
    let estimate = match figures.estimated_bytes {
        Some(bytes) => format!(", estimated {:.0} MiB", mib(bytes)),
        None => String::new(),
    };
    let Phases {
        data,
        mix,
        input,
        forward,
        backward,
        optimizer,
    } = figures.seconds;
    format!(
        "{} at {} px, batch {}, {} thread(s) of {}, {}\n\
         {:.1} images/s, {:.1} GFLOP/s{share}\n\
         step {:.1} ms (best {:.1}, worst {:.1}): data {:.1}, mix {:.1}, input {:.1}, forward {:.1}, backward {:.1}, optimizer {:.1}\n\
         {bound}\
         around the passes {:.1} % of a step; a checkpoint takes {:.1} ms, one a minute\n\
         peak memory {:.0} MiB{estimate}\n",
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
        ms(data),
        ms(mix),
        ms(input),
        ms(forward),
        ms(backward),
        ms(optimizer),
        100.0 * figures.share_around,
        ms(figures.checkpoint_seconds),
        mib(figures.peak_rss_bytes),
    )
}
