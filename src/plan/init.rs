//! Weights from a file that a stage starts from: the key `init`.

use crate::spec::experiment::Experiment;
use crate::spec::problem::{Problem, Report, Severity};
use std::fs::File;
use std::path::{Path, PathBuf};

/// A file of weights that a stage starts from.
#[derive(Debug, Clone, PartialEq)]
pub struct InitWeights {
    /// Absolute.
    pub path: PathBuf,
    /// BLAKE3 of the file, in hexadecimal.
    pub hash: String,
    /// Where the experiment names it: a problem without a message.
    pub place: Problem,
}

impl InitWeights {
    /// A problem with the file, at the place that names it.
    pub fn problem(&self, message: String) -> Problem {
        Problem {
            message,
            ..self.place.clone()
        }
    }
}

/// BLAKE3 of the file at `path`, in hexadecimal.
///
/// # Errors
/// The file can't be read.
pub fn file_hash(path: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Finds and hashes the files that stages start from, by stage. Relative paths are looked for from the
/// folder of the experiment file. Files that can't be read are reported.
pub(in crate::plan) fn find(
    experiment: &Experiment,
    reports: &mut Vec<Report>,
) -> Vec<Option<InitWeights>> {
    let mut found: Vec<Option<InitWeights>> = Vec::new();
    for stage in &experiment.stages {
        let init = stage.init.as_ref().and_then(|(name, position)| {
            let folder = experiment.library.folder().unwrap_or(Path::new(""));
            let path = folder.join(name);
            let path = std::path::absolute(&path).unwrap_or(path);
            let known = found.iter().flatten().find(|known| known.path == path);
            let hash = match known {
                Some(known) => Ok(known.hash.clone()),
                None => file_hash(&path),
            };
            match hash {
                Ok(hash) => Some(InitWeights {
                    path,
                    hash,
                    place: experiment.sources.problem(&Report {
                        severity: Severity::Error,
                        position: *position,
                        message: String::new(),
                        hint: None,
                    }),
                }),
                Err(error) => {
                    let message = format!("can't read the weights {}: {error}", path.display());
                    reports.push(
                        Report::error(*position, message)
                            .hint("a relative path starts at the experiment file's folder"),
                    );
                    None
                }
            }
        });
        found.push(init);
    }
    found
}
