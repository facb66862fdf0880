//! What a stage does, and the size of what it does it on.

use serde::{Deserialize, Serialize};

/// What a stage does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Train, then evaluate.
    Train,
    /// Evaluate the weights that it starts from: a parent's, or a file's.
    Evaluate,
    /// Run a program of the user's own.
    Command,
}

impl Task {
    /// The name in YAML, fingerprints and the store.
    pub fn name(self) -> &'static str {
        match self {
            Task::Train => "train",
            Task::Evaluate => "evaluate",
            Task::Command => "command",
        }
    }
}

/// An evaluation set besides `val`: its name, which its results bear, and what identifies its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedSet {
    pub name: String,
    /// Content hash of its images and labels.
    pub hash: String,
    pub images: usize,
}

/// Size of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataShape {
    pub classes: usize,
    pub train_images: usize,
    pub val_images: usize,
    /// Bytes that a process keeps of it: decoded images and the index, estimated. Only a plan knows it, and no
    /// result depends on it.
    #[serde(skip)]
    pub kept_bytes: u64,
}
