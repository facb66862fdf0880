//! What a worker is told: the stage's identity (`stage.json`) and the circumstances of one attempt
//! (`launch.json`).

use crate::spec::recipe::Recipe;
pub use crate::spec::task::{DataShape, NamedSet, Task};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Revision of the trainer's semantics. Raised whenever the same configuration would give another
/// result; part of every fingerprint.
pub const TRAINER_REVISION: u32 = 2;

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
    pub recipe: Recipe,
    pub seed: u64,
    /// Content hash of the data set.
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
    /// Seconds between `step` events.
    pub log_seconds: f64,
    /// Seconds between checkpoints.
    pub checkpoint_seconds: f64,
}
