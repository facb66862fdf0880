//! Which files are garbage, and how much their removal gives back.

use super::{Item, Reason};
use crate::rundir::layout::RunDir;
use crate::rundir::stage::{CommandSpec, StageSpec};
use crate::spec::command::WEIGHTS;
use crate::store::open::Store;
use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What of a stage that is done is kept besides its results.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    /// Final weights and the best ones.
    pub weights: bool,
    /// All that its program has left.
    pub work: bool,
}

impl Store {
    /// Files of a stage that is done and stays, but that nothing needs.
    pub(super) fn files_of(
        &self,
        folder: &Path,
        kept: Kept,
        failed: &[u32],
        items: &mut Vec<Item>,
    ) {
        let dir = RunDir::new(folder);
        let mut add = |path: PathBuf, reason| {
            if path.symlink_metadata().is_ok() {
                items.push(Item {
                    path: path.strip_prefix(&self.dir).unwrap_or(&path).to_owned(),
                    bytes: 0,
                    reason,
                });
            }
        };
        for path in entries(&dir.checkpoints()) {
            if name(&path).starts_with("step-") && dir.weights().exists() {
                add(path, Reason::Checkpoint);
            }
        }
        let program = program(&dir);
        if !kept.weights {
            add(dir.weights(), Reason::Weights);
            add(dir.best(), Reason::Weights);
            // The same file under the name that its program gave it.
            if let Some(program) = &program
                && program.outputs.iter().any(|name| name == WEIGHTS)
            {
                add(dir.work().join(WEIGHTS), Reason::Weights);
            }
        }
        if let Some(program) = program.filter(|_| !kept.work) {
            let mut outputs: Vec<PathBuf> = program
                .outputs
                .iter()
                .map(|name| dir.work().join(name))
                .collect();
            outputs.push(dir.work().join("metrics.json"));
            for path in besides(&dir.work(), &outputs) {
                add(path, Reason::Work);
            }
        }
        for path in entries(folder) {
            let name = name(&path);
            if name.starts_with("reports-") && name.ends_with(".jsonl") {
                add(path, Reason::Reports);
            } else if name.starts_with("events.jsonl.damaged-") {
                add(path, Reason::DamagedLog);
            }
        }
        for &attempt in failed {
            add(dir.attempt_log(attempt), Reason::FailedAttempt);
        }
    }

    /// What writes, removals, migrations and recoveries have left.
    pub(super) fn leftovers(&self, copies: bool, items: &mut Vec<Item>) {
        let mut add = |path: PathBuf, reason| {
            items.push(Item {
                bytes: 0,
                path: path.strip_prefix(&self.dir).unwrap_or(&path).to_owned(),
                reason,
            });
        };
        let taken: BTreeSet<PathBuf> = ["trash", "recovering"]
            .map(|name| self.dir.join(name))
            .into_iter()
            .filter(|path| path.exists())
            .collect();
        for path in taken {
            add(path, Reason::Leftover);
        }
        let mut looked_at = vec![self.dir.clone(), self.dir.join("records")];
        for folder in folders(&self.dir).into_values() {
            looked_at.extend([folder.join("checkpoints"), folder]);
        }
        for folder in looked_at {
            for path in entries(&folder) {
                // The names of `tempfile`: nobody is writing, for the caller has the store alone.
                let temporary = name(&path).starts_with(".new-") || name(&path).starts_with(".tmp");
                if temporary && path.is_file() {
                    add(path, Reason::Leftover);
                }
            }
        }
        // Whose runs have ended, for the caller has the store alone. Their names begin with their time.
        let mut logs = entries(&self.dir.join("logs"));
        logs.retain(|path| name(path).starts_with("run-") && name(path).ends_with(".log"));
        logs.pop();
        for path in logs {
            add(path, Reason::RunLog);
        }
        for path in entries(&self.dir) {
            let copy = ["ablate.db.schema-", "ablate.db.damaged-"]
                .iter()
                .any(|prefix| name(&path).starts_with(prefix));
            if copies && copy {
                add(path, Reason::Copy);
            }
        }
        for path in entries(&self.dir.join("records")) {
            if copies && name(&path).ends_with(".damaged") {
                add(path, Reason::Copy);
            }
        }
    }
}

/// The program of a stage that has one.
fn program(dir: &RunDir) -> Option<CommandSpec> {
    let bytes = std::fs::read(dir.stage()).ok()?;
    serde_json::from_slice::<StageSpec>(&bytes).ok()?.command
}

/// What lies in `folder` besides `outputs`, folders as a whole where none of them is below.
fn besides(folder: &Path, outputs: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in entries(folder) {
        if outputs.contains(&path) {
            continue;
        }
        match outputs.iter().any(|output| output.starts_with(&path)) {
            true => found.extend(besides(&path, outputs)),
            false => found.push(path),
        }
    }
    found
}

/// Sets how much the removal of all `items` of the store at `dir` gives back. A file with several names counts once, at
/// the first of them, and only if all its names go.
pub(super) fn measure(dir: &Path, items: &mut [Item]) {
    /// A file with several names.
    struct Shared {
        first: usize,
        bytes: u64,
        names: u64,
        going: u64,
    }
    fn walk(path: &Path, each: &mut dyn FnMut(std::fs::Metadata)) {
        match std::fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                entries(path).iter().for_each(|path| walk(path, each));
            }
            Ok(metadata) => each(metadata),
            Err(_) => {}
        }
    }
    let mut shared: HashMap<(u64, u64), Shared> = HashMap::new();
    for (index, item) in items.iter_mut().enumerate() {
        item.bytes = 0;
        walk(&dir.join(&item.path), &mut |file| match file.nlink() {
            0 | 1 => item.bytes += file.len(),
            names => {
                let entry = shared.entry((file.dev(), file.ino())).or_insert(Shared {
                    first: index,
                    bytes: file.len(),
                    names,
                    going: 0,
                });
                entry.going += 1;
            }
        });
    }
    for file in shared.into_values() {
        if file.going >= file.names {
            items[file.first].bytes += file.bytes;
        }
    }
}

/// Folders of stages by name.
pub(super) fn folders(dir: &Path) -> HashMap<String, PathBuf> {
    entries(&dir.join("stages"))
        .into_iter()
        .filter(|path| path.is_dir())
        .map(|path| (name(&path), path))
        .collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

pub(super) fn name(path: &Path) -> String {
    path.file_name()
        .map_or(String::new(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_two_names_gives_back_nothing_until_both_go() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        std::fs::create_dir(dir.join("both")).unwrap();
        std::fs::write(dir.join("both/one"), [0; 100]).unwrap();
        std::fs::hard_link(dir.join("both/one"), dir.join("both/two")).unwrap();
        std::fs::write(dir.join("alone"), [0; 7]).unwrap();
        let bytes = |paths: &[&str]| -> Vec<u64> {
            let item = |path: &&str| Item {
                path: path.into(),
                bytes: 1,
                reason: Reason::Work,
            };
            let mut items: Vec<Item> = paths.iter().map(item).collect();
            measure(dir, &mut items);
            items.iter().map(|item| item.bytes).collect()
        };
        assert_eq!(bytes(&["both/one", "alone", "nothing"]), [0, 7, 0]);
        assert_eq!(bytes(&["alone", "both/two", "both/one"]), [7, 100, 0]);
        assert_eq!(bytes(&["both"]), [100]);
    }
}
