//! `ablate eval`: weights on a data set, without training.

use super::exit::Exit;
use super::planning::say;
use super::status::TextFormat;
use super::weights::{WeightsCliError, find};
use crate::data::{DataError, Dataset, EvalTransform, EvaluationSet, locate};
use crate::model::weights::load;
use crate::model::{VisionTransformer, weights::WeightsError};
use crate::report::text::clean;
use crate::train::evaluation::evaluate;
use crate::train::{TrainError, device};
use crate::weights::{self, WeightsFileError};
use clap::Args;
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Evaluate weights on a data set without training
///
/// The position embedding is interpolated to the resolution; the head must be for as many classes as the
/// data set has. Images go through the reference's evaluation transform.
#[derive(Debug, Clone, Args)]
pub struct EvalArgs {
    /// A file (torch.save or safetensors), or a run (`EXPERIMENT/VARIANT/sSEED`, or the beginning of it)
    #[arg(value_name = "WEIGHTS")]
    pub weights: String,
    /// The data set, and its folder where it isn't configured; its val split is used
    #[arg(long, value_name = "NAME[=PATH]")]
    pub data: String,
    /// Side of the images in pixels [default: the run's, or that of the position embedding]
    #[arg(long, value_name = "N")]
    pub resolution: Option<usize>,
    /// Part of the short side that the centre crop keeps [default: the run's, or 1]
    #[arg(long, value_name = "X")]
    pub crop_ratio: Option<f64>,
    /// Attention heads, which a file's shapes don't tell [default: the run's, or the reference's]
    #[arg(long, value_name = "N")]
    pub heads: Option<usize>,
    /// Where to compute: cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
    /// Form of the answer
    #[arg(long, value_enum, default_value_t = TextFormat::Text)]
    pub format: TextFormat,
    /// Folder of the store, for runs
    #[arg(
        long,
        value_name = "DIR",
        env = "ABLATE_STORE",
        default_value = "ablate-store"
    )]
    pub store: PathBuf,
}

/// Why weights could not be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    #[error(transparent)]
    Weights(#[from] WeightsCliError),
    #[error(transparent)]
    File(#[from] WeightsFileError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Train(#[from] TrainError),
    #[error("the weights don't fit: {0}")]
    Fit(#[from] WeightsError),
    #[error("the weights are for {weights} classes, the data set `{name}` has {data}")]
    Classes {
        weights: usize,
        name: String,
        data: usize,
    },
    #[error(
        "the number of heads is unknown for a width of {0}; name it with `--heads` (it must divide the width)"
    )]
    Heads(usize),
    #[error("a resolution of {resolution} is smaller than one patch ({patch})")]
    Resolution { resolution: usize, patch: usize },
    #[error("a crop ratio of {0} is not in (0, 1]")]
    CropRatio(f64),
    #[error("can't write the answer: {0}")]
    Stdout(#[source] std::io::Error),
}

#[derive(Debug, Serialize)]
struct Answer {
    weights: String,
    model: String,
    data: String,
    resolution: usize,
    crop_ratio: f64,
    /// Images of the val split.
    n: usize,
    /// Per cent.
    top1: f64,
    top5: f64,
    /// Mean cross-entropy; null if it is not finite.
    loss: f64,
}

/// Runs the command.
pub async fn run(args: &EvalArgs) -> Exit {
    let answer = evaluate_weights(args).await.and_then(|answer| {
        match std::io::stdout().write_all(render(&answer, args.format).as_bytes()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(EvalError::Stdout(error))
            }
            _ => Ok(()),
        }
    });
    match answer {
        Ok(()) => Exit::Done,
        Err(error) => {
            say(format_args!("error: {error}"));
            match error {
                EvalError::Weights(error) => error.exit(),
                EvalError::Train(_) => Exit::Failed,
                EvalError::Stdout(_) => Exit::Store,
                _ => Exit::Usage,
            }
        }
    }
}

async fn evaluate_weights(args: &EvalArgs) -> Result<Answer, EvalError> {
    let file = Path::new(&args.weights);
    // What the weights were made with: heads, resolution, crop ratio.
    let (weights, heads, resolution, crop_ratio) = if file.is_file() {
        let weights = weights::read(file)?;
        let (heads, resolution) = (weights.num_heads(), weights.description.resolution());
        (weights, heads, resolution, 1.0)
    } else {
        let found = find(&args.store, &args.weights, None).await?;
        let (model, eval) = (&found.spec.recipe.model, &found.spec.recipe.eval);
        let heads = Some(model.num_heads);
        (found.weights, heads, eval.resolution, eval.crop_ratio)
    };
    let description = weights.description;
    let resolution = args.resolution.unwrap_or(resolution);
    let crop_ratio = args.crop_ratio.unwrap_or(crop_ratio);
    let width = description.embed_dim;
    let heads = args
        .heads
        .or(heads)
        .filter(|heads| *heads > 0 && width.is_multiple_of(*heads))
        .ok_or(EvalError::Heads(width))?;
    if resolution < description.patch_size {
        return Err(EvalError::Resolution {
            resolution,
            patch: description.patch_size,
        });
    }
    if !(crop_ratio > 0.0 && crop_ratio <= 1.0) {
        return Err(EvalError::CropRatio(crop_ratio));
    }
    let (name, overrides) = match args.data.split_once('=') {
        Some((name, path)) => (name, vec![(name.to_owned(), PathBuf::from(path))]),
        None => (args.data.as_str(), Vec::new()),
    };
    let location = locate::resolve(name, None, &overrides)?;
    let dataset = Dataset::open(name, location.root())?;
    let classes = dataset.classes().len();
    if classes != description.classes {
        return Err(EvalError::Classes {
            weights: description.classes,
            name: name.to_owned(),
            data: classes,
        });
    }
    let device = device::open(&args.device)?;
    let mut arch = description.architecture(heads);
    arch.resolution = resolution;
    let mut model = VisionTransformer::new(arch, 0, &device);
    load(&mut model, weights.parameters, false)?;
    let transform = EvalTransform::new(resolution, crop_ratio)?;
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(8));
    let set = EvaluationSet::val(&dataset);
    let evaluation = evaluate(&model, &set, &transform, threads, &device, || Ok(()))?;
    let metrics = evaluation.metrics();
    let metric = |name: &str| metrics.get(name).copied().unwrap_or(f64::NAN);
    Ok(Answer {
        weights: args.weights.clone(),
        model: description.title(),
        data: name.to_owned(),
        resolution,
        crop_ratio,
        n: evaluation.predictions.len(),
        top1: metric("top1"),
        top5: metric("top5"),
        loss: metric("loss"),
    })
}

fn render(answer: &Answer, format: TextFormat) -> String {
    match format {
        TextFormat::Json => serde_json::to_string_pretty(answer).unwrap_or_default() + "\n",
        TextFormat::Text => format!(
            "weights     {}\nmodel       {}\ndata        {}, {} images\nresolution  {} px, crop ratio {}\ntop1        {:.4} %\ntop5        {:.4} %\nloss        {:.6}\n",
            clean(&answer.weights),
            answer.model,
            clean(&answer.data),
            answer.n,
            answer.resolution,
            answer.crop_ratio,
            answer.top1,
            answer.top5,
            answer.loss
        ),
    }
}
