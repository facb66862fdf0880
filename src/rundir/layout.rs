//! Names of the entries of a run directory.

use crate::rundir::stage::StageSpec;
use crate::spec::command::WEIGHTS;
use std::path::{Path, PathBuf};

/// Paths inside one run directory.
#[derive(Debug, Clone)]
pub struct RunDir {
    root: PathBuf,
}

impl RunDir {
    /// The directory at `root` (not created).
    pub fn new(root: impl Into<PathBuf>) -> Self {
        RunDir { root: root.into() }
    }

    /// The directory of stage `fingerprint` in the store at `store`.
    pub fn in_store(store: &Path, fingerprint: &str) -> Self {
        RunDir::new(store.join("stages").join(fingerprint))
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn stage(&self) -> PathBuf {
        self.root.join("stage.json")
    }

    pub fn launch(&self) -> PathBuf {
        self.root.join("launch.json")
    }

    pub fn events(&self) -> PathBuf {
        self.root.join("events.jsonl")
    }

    /// How the attempts began and ended, written by the scheduler.
    pub fn attempts(&self) -> PathBuf {
        self.root.join("attempts.jsonl")
    }

    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// Removes what writers that were killed have left under temporary names. The caller is the only writer.
    pub fn tidy(&self) {
        for folder in [self.root.clone(), self.checkpoints()] {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let name = name.as_encoded_bytes();
                if name.starts_with(b".new-") || name.starts_with(b".tmp") {
                    // What stays costs space only.
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        }
    }

    /// [`drop_checkpoints`](Self::drop_checkpoints) of a stage whose event log says that it has finished, once that is on
    /// the disk: whoever wrote it may not have come to that.
    pub fn drop_checkpoints_of_finished(&self) {
        let is_durable = std::fs::File::open(self.events()).and_then(|log| log.sync_data());
        if is_durable.is_ok() {
            self.drop_checkpoints();
        }
    }

    /// Removes the checkpoints (`step-*`) of a stage that is done. What can't be removed costs space only.
    pub fn drop_checkpoints(&self) {
        for entry in std::fs::read_dir(self.checkpoints())
            .into_iter()
            .flatten()
            .flatten()
        {
            if entry.file_name().as_encoded_bytes().starts_with(b"step-") {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Final weights: what a child stage starts from.
    pub fn weights(&self) -> PathBuf {
        self.root.join("checkpoints").join("final.safetensors")
    }

    /// Weights of the best evaluation, where they are kept.
    pub fn best(&self) -> PathBuf {
        self.root.join("checkpoints").join("best.safetensors")
    }

    pub fn predictions(&self) -> PathBuf {
        self.root.join("predictions.bin")
    }

    /// Per-image results of a further evaluation of the final weights.
    pub fn further_predictions(&self, set: &str, resolution: usize) -> PathBuf {
        self.root
            .join(format!("predictions-{set}-{resolution}.bin"))
    }

    /// The folder of a stage's own program.
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// Where the program of an attempt appends its reports.
    pub fn reports(&self, attempt: u32) -> PathBuf {
        self.root.join(format!("reports-{attempt}.jsonl"))
    }

    /// What of a finished stage is not there, though a child may start from it: final weights, or what its
    /// program has promised. `None`: all is there.
    pub fn missing_output(&self) -> Option<PathBuf> {
        let weights = || Some(self.weights()).filter(|path| !path.exists());
        let spec = std::fs::read(self.stage())
            .ok()
            .and_then(|bytes| serde_json::from_slice::<StageSpec>(&bytes).ok());
        let Some(program) = spec.and_then(|spec| spec.command) else {
            return weights();
        };
        let promised = program.outputs.iter().map(|name| self.work().join(name));
        let mut all = std::iter::once(self.work()).chain(promised);
        let missing = all.find(|path| !path.exists());
        // A built-in child looks for them where those of built-in stages are.
        let for_trainer = || program.outputs.iter().any(|name| name == WEIGHTS);
        missing.or_else(|| weights().filter(|_| for_trainer()))
    }

    pub fn attempt_log(&self, attempt: u32) -> PathBuf {
        self.root.join(format!("attempt-{attempt}.log"))
    }
}
