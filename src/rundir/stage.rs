//! What a worker is told: the stage's identity (`stage.json`) and the circumstances of one attempt
//! (`launch.json`).

pub use crate::rundir::command::{CommandSpec, InputFile};
use crate::spec::recipe::Recipe;
pub use crate::spec::task::{DataShape, NamedSet, Task};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Revision of the trainer's semantics. Raised whenever the same configuration would give another
/// result; part of every fingerprint.
pub const TRAINER_REVISION: u32 = 3;

/// Turns the fused operations of the trainer off in the processes that see it (`off`), for comparison. What
/// comes of it differs in the last digits, so it is told in the stage's events.
pub const FUSION_SWITCH: &str = "ABLATE_FUSION";

/// Whether [`FUSION_SWITCH`] turns it off, in the words that people use for that.
pub fn is_fusion_off() -> bool {
    let value = std::env::var(FUSION_SWITCH).unwrap_or_default();
    matches!(&*value.to_ascii_lowercase(), "off" | "0" | "false" | "no")
}

/// Revision of how programs are run. Raised whenever the same [`CommandSpec`] would be run in another way; part of
/// the fingerprints of their stages, which [`TRAINER_REVISION`] is not.
pub const COMMAND_REVISION: u32 = 1;

/// A stage: complete and canonical. Nothing that changes a result is implied by code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageSpec {
    /// Format of this file.
    pub version: u32,
    /// [`TRAINER_REVISION`] of the program that planned it.
    pub trainer_revision: u32,
    /// BLAKE3 of everything else here, in lower-case hexadecimal, 32 digits (128 bits).
    pub fingerprint: String,
    pub task: Task,
    /// Not written for a program's stage: what it is told of the recipe is in `command`.
    #[serde(default = "Recipe::none", skip_serializing_if = "Recipe::is_none")]
    pub recipe: Recipe,
    pub seed: u64,
    /// Content hash of the data set; empty for a program's stage, which has `inputs`.
    pub data_hash: String,
    /// Number of classes of the data set, and images in its train and val splits.
    pub data_shape: DataShape,
    /// The sets that `recipe.eval.sets` names, in its order.
    pub evaluation_sets: Vec<NamedSet>,
    /// Fingerprint of the stage whose final weights this one starts from.
    pub parent: Option<String>,
    /// BLAKE3 of the file of weights that this one starts from, instead of a parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_weights: Option<String>,
    /// The program that it runs ([`Task::Command`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandSpec>,
}

/// The circumstances of one attempt: what cannot change the result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    pub attempt: u32,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// Compute threads.
    pub threads: usize,
    /// Threads that prepare batches; 0: the compute thread does it.
    pub loader_threads: usize,
    /// Root of the image folder; `None`: the embedded data set.
    pub data_root: Option<PathBuf>,
    /// Roots of the evaluation sets by name; `None`: the embedded data set.
    #[serde(default)]
    pub evaluation_roots: BTreeMap<String, Option<PathBuf>>,
    /// Run directory of the parent stage.
    pub parent_dir: Option<PathBuf>,
    /// The file of weights that the stage starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_file: Option<PathBuf>,
    /// The experiment file's folder, which programs are started in; `None`: the scheduler's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// Seconds between `step` events.
    pub log_seconds: f64,
    /// Seconds between checkpoints.
    pub checkpoint_seconds: f64,
    /// Epochs between checkpoints, besides those by time; `None`: by time only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_epochs: Option<u32>,
    /// The newest checkpoints that are kept while the stage isn't done; at least 1.
    #[serde(default = "two")]
    pub keep_checkpoints: usize,
    /// Keep the weights of the best evaluation (`checkpoints/best.safetensors`), too.
    #[serde(default)]
    pub keep_best: bool,
    /// Parts of an optimizer step, instead of the recipe's `train.accumulation`: smaller parts for a device
    /// that ran out of memory. The batch and every draw stay the same, sums are taken in another order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accumulation: Option<usize>,
}

fn two() -> usize {
    2
}
