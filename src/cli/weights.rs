//! `ablate weights`: published weights in, weights of runs out.

use super::exit::Exit;
use super::lookup::{self, LookupError, Target};
use super::planning::say;
use crate::report::text::clean;
use crate::rundir::layout::RunDir;
use crate::rundir::stage::StageSpec;
use crate::weights::{self, Naming, Weights, WeightsFileError};
use clap::{Args, Subcommand};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Read published weights, or write those of a run for other programs
#[derive(Debug, Clone, Args)]
pub struct WeightsArgs {
    #[command(subcommand)]
    pub command: WeightsCommand,
}

/// What to do with weights.
#[derive(Debug, Clone, Subcommand)]
pub enum WeightsCommand {
    Import(ImportArgs),
    Export(ExportArgs),
}

/// Say what a file of weights holds, and convert it to safetensors
///
/// Reads files of torch.save (of any age) and safetensors, with the names of facebookresearch/deit or
/// timm: a state dict, or a checkpoint that holds one under `model` or `state_dict`. Nothing in the file
/// is run.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Write the weights here, as safetensors in float32
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Names of the parameters in that file
    #[arg(long, value_enum, default_value_t = Naming::Official)]
    pub names: Naming,
}

/// Write the final weights of a run as safetensors, for timm or for the reference
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// Id of a run (`EXPERIMENT/VARIANT/sSEED`), the beginning of one, or of a stage's fingerprint
    #[arg(value_name = "RUN")]
    pub run: String,
    /// Stage of the run [default: the last one]
    #[arg(long, value_name = "NAME")]
    pub stage: Option<String>,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Names of the parameters: those that `timm.create_model("deit3_…").load_state_dict` takes, or the
    /// reference's
    #[arg(long, value_enum, default_value_t = Naming::Timm)]
    pub names: Naming,
    /// Folder of the store
    #[arg(
        long,
        value_name = "DIR",
        env = "ABLATE_STORE",
        default_value = "ablate-store"
    )]
    pub store: PathBuf,
}

/// Why weights could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WeightsCliError {
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error(transparent)]
    File(#[from] WeightsFileError),
    #[error("can't write the answer: {0}")]
    Stdout(#[source] std::io::Error),
}

impl WeightsCliError {
    pub(super) fn exit(&self) -> Exit {
        match self {
            WeightsCliError::Lookup(error) => error.exit(),
            WeightsCliError::File(_) => Exit::Usage,
            WeightsCliError::Stdout(_) => Exit::Store,
        }
    }
}

/// Runs the command.
pub async fn run(args: &WeightsArgs) -> Exit {
    let result = match &args.command {
        WeightsCommand::Import(args) => import(args),
        WeightsCommand::Export(args) => export(args).await,
    };
    let result = result.and_then(|text| {
        std::io::stdout()
            .write_all(text.as_bytes())
            .or_else(|error| match error.kind() {
                std::io::ErrorKind::BrokenPipe => Ok(()),
                _ => Err(WeightsCliError::Stdout(error)),
            })
    });
    match result {
        Ok(()) => Exit::Done,
        Err(error) => {
            say(format_args!("error: {error}"));
            error.exit()
        }
    }
}

fn import(args: &ImportArgs) -> Result<String, WeightsCliError> {
    let weights = weights::read(&args.file)?;
    let mut text = describe(&args.file, &weights);
    if let Some(out) = &args.out {
        let name = args.file.file_name().unwrap_or_default();
        let notes = BTreeMap::from([("source".to_owned(), name.display().to_string())]);
        let heads = weights.num_heads();
        weights::export(out, &weights.parameters, heads, args.names, &notes)?;
        text.push_str(&wrote(out, args.names));
    }
    Ok(text)
}

async fn export(args: &ExportArgs) -> Result<String, WeightsCliError> {
    let of_run = find(&args.store, &args.run, args.stage.as_deref()).await?;
    let model = &of_run.spec.recipe.model;
    let notes = BTreeMap::from([
        ("run".to_owned(), args.run.clone()),
        ("fingerprint".to_owned(), of_run.spec.fingerprint.clone()),
    ]);
    let parameters = &of_run.weights.parameters;
    let heads = Some(model.num_heads);
    weights::export(&args.out, parameters, heads, args.names, &notes)?;
    let mut text = describe(&of_run.path, &of_run.weights);
    text.push_str(&wrote(&args.out, args.names));
    Ok(text)
}

fn wrote(out: &Path, names: Naming) -> String {
    format!("wrote       {}, {} names\n", out.display(), names.name())
}

/// What a file holds, a line for each fact.
fn describe(path: &Path, weights: &Weights) -> String {
    let model = &weights.description;
    let part = weights
        .part
        .as_ref()
        .map_or(String::new(), |part| format!(", under `{part}`"));
    let heads = match weights.num_heads() {
        Some(heads) => format!("{heads} heads"),
        None => "number of heads unknown".to_owned(),
    };
    let branches = match model.parallel_branches {
        1 => String::new(),
        branches => format!(" of {branches} parallel branches"),
    };
    let scale = if model.layer_scale { "with" } else { "without" };
    let place = if model.pos_embed_class {
        "with"
    } else {
        "without"
    };
    let mut text = format!("file        {}\n", clean(&path.display().to_string()));
    text.push_str(&format!(
        "format      {}, {}, {} names{part}\n",
        weights.format.name(),
        weights.dtype.name(),
        weights.naming.name()
    ));
    text.push_str(&format!("model       {}\n", model.title()));
    text.push_str(&format!(
        "layers      {} blocks{branches}, width {}, {heads}, MLP {}, {scale} LayerScale\n",
        model.depth, model.embed_dim, model.mlp_hidden
    ));
    text.push_str(&format!(
        "resolution  {} px ({} x {} patches of {}, position embedding {place} a class token)\n",
        model.resolution(),
        model.grid,
        model.grid,
        model.patch_size
    ));
    text.push_str(&format!("classes     {}\n", model.classes));
    text.push_str(&format!("parameters  {}\n", model.parameters));
    text
}

/// Final weights of a stage of a run.
pub(super) struct RunWeights {
    pub path: PathBuf,
    pub spec: StageSpec,
    pub weights: Weights,
}

/// Finds and reads the final weights of the run `name` in the store at `store`: those of its stage
/// `stage`, or of its last one.
pub(super) async fn find(
    store: &Path,
    name: &str,
    stage: Option<&str>,
) -> Result<RunWeights, WeightsCliError> {
    let open = lookup::open(store, &mut std::io::stderr()).await?;
    let fingerprint = match lookup::find(&open, name).await? {
        Target::Stage(fingerprint) => fingerprint,
        Target::Run(run) => {
            let experiments = open.experiments().await.map_err(LookupError::from)?;
            let names = experiments
                .into_iter()
                .find(|experiment| experiment.name == run.experiment)
                .map(|experiment| experiment.stage_names)
                .unwrap_or_default();
            let position = match stage {
                None => run.stages.len().checked_sub(1),
                Some(stage) => names.iter().position(|known| known == stage),
            };
            let fingerprint = position.and_then(|position| run.stages.get(position));
            match (fingerprint, stage) {
                (Some(fingerprint), _) => fingerprint.clone(),
                (None, stage) => {
                    return Err(lookup::unknown("stage", stage.unwrap_or("train"), &names).into());
                }
            }
        }
    };
    let path = RunDir::in_store(store, &fingerprint).weights();
    if !path.exists() {
        let message = format!(
            "there are no final weights of `{name}` ({}): it is not trained, or they were removed",
            path.display()
        );
        return Err(LookupError::Nothing(message).into());
    }
    let config = open
        .stage_config(&fingerprint)
        .await
        .map_err(LookupError::from)?;
    let spec = config
        .and_then(|text| serde_json::from_str(&text).ok())
        .ok_or_else(|| {
            let message = format!("the store has no configuration of the stage {fingerprint}");
            LookupError::Nothing(message)
        })?;
    let weights = weights::read(&path)?;
    Ok(RunWeights {
        path,
        spec,
        weights,
    })
}
