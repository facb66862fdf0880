//! Checkpoints: everything that a stage needs to go on as if it had never stopped.
//!
//! A checkpoint is a safetensors file (`checkpoints/step-<n>.safetensors`) of `model.<name>`,
//! `<state>.<name>` per part of the optimizer's state, and `ema.<name>`; its metadata entry `ablate`
//! holds version, fingerprint, position, running sums and the BLAKE3 of everything else. Final weights
//! (`final.safetensors`) are the same without optimizer and prefixes, so they load anywhere.
//!
//! Files are written whole under a temporary name, synced and renamed; a damaged one is refused and
//! the one before it is used.

use super::TrainError;
use crate::model::parameter::HostParameter;
use crate::weights;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensorError, SafeTensors};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Version of the format.
const VERSION: &str = "1";

/// Checkpoints kept besides the final weights.
const KEEP: usize = 2;

/// What a file says of itself, in one entry of the safetensors header: several would come in an order
/// that changes from run to run, and equal stages should leave equal bytes.
type Metadata = BTreeMap<String, String>;

/// The header's entry.
const ENTRY: &str = "ablate";

/// Where a stage stands. Randomness is keyed by it, so there is no generator to store.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Position {
    /// Optimizer steps done in the stage.
    pub step: u64,
    /// Sum of the losses of this epoch's steps.
    pub loss_sum: f64,
    /// Steps done in this epoch.
    pub epoch_steps: u64,
}

/// A stage's state.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    pub position: Position,
    /// `model.*`, optimizer state, `ema.*`.
    pub tensors: Vec<HostParameter>,
}

impl Checkpoint {
    /// The tensors under `prefix`, without it.
    pub fn take(&mut self, prefix: &str) -> Vec<HostParameter> {
        let (taken, rest) = std::mem::take(&mut self.tensors)
            .into_iter()
            .partition(|tensor| tensor.name.starts_with(prefix));
        self.tensors = rest;
        let taken: Vec<HostParameter> = taken;
        taken
            .into_iter()
            .map(|tensor| HostParameter {
                name: tensor.name[prefix.len()..].to_owned(),
                ..tensor
            })
            .collect()
    }
}

/// Writes a checkpoint of the stage `fingerprint` and removes all but the last few; returns its name.
pub fn write(
    folder: &Path,
    fingerprint: &str,
    checkpoint: &Checkpoint,
) -> Result<String, TrainError> {
    let name = format!("step-{:010}.safetensors", checkpoint.position.step);
    let Position {
        step,
        loss_sum,
        epoch_steps,
    } = checkpoint.position;
    let metadata = Metadata::from([
        ("step".to_owned(), step.to_string()),
        (
            "loss_sum_bits".to_owned(),
            format!("{:016x}", loss_sum.to_bits()),
        ),
        ("epoch_steps".to_owned(), epoch_steps.to_string()),
    ]);
    write_file(
        &folder.join(&name),
        fingerprint,
        metadata,
        &checkpoint.tensors,
    )?;
    for old in list(folder).into_iter().skip(KEEP) {
        // An old checkpoint that stays costs space only.
        let _ = std::fs::remove_file(old);
    }
    Ok(name)
}

/// Writes final weights, then removes all checkpoints: the stage is done with them.
pub fn write_final(
    path: &Path,
    fingerprint: &str,
    weights: &[HostParameter],
) -> Result<(), TrainError> {
    write_file(path, fingerprint, Metadata::new(), weights)?;
    if let Some(folder) = path.parent() {
        for old in list(folder) {
            let _ = std::fs::remove_file(old);
        }
    }
    Ok(())
}

/// The newest checkpoint of the stage that is whole, and what was wrong with newer ones.
pub fn latest(folder: &Path, fingerprint: &str) -> (Option<Checkpoint>, Vec<TrainError>) {
    let mut refused = Vec::new();
    for path in list(folder) {
        match read(&path, fingerprint) {
            Ok(checkpoint) => return (Some(checkpoint), refused),
            Err(error) => refused.push(error),
        }
    }
    (None, refused)
}

/// Reads weights for a model (a stage's final weights), verified.
pub fn read_weights(path: &Path) -> Result<Vec<HostParameter>, TrainError> {
    Ok(read_file(path)?.1)
}

fn read(path: &Path, fingerprint: &str) -> Result<Checkpoint, TrainError> {
    let (metadata, tensors) = read_file(path)?;
    let damaged = |what: &str| TrainError::Damaged {
        path: path.display().to_string(),
        what: what.to_owned(),
    };
    if metadata.get("fingerprint").map(String::as_str) != Some(fingerprint) {
        return Err(damaged("it belongs to another stage"));
    }
    let field = |name: &str| {
        metadata
            .get(name)
            .ok_or_else(|| damaged(&format!("it lacks `{name}`")))
    };
    let number = |name: &str| field(name)?.parse::<u64>().map_err(|_| damaged(name));
    let bits = u64::from_str_radix(field("loss_sum_bits")?, 16).map_err(|_| damaged("loss_sum"))?;
    let position = Position {
        step: number("step")?,
        loss_sum: f64::from_bits(bits),
        epoch_steps: number("epoch_steps")?,
    };
    Ok(Checkpoint { position, tensors })
}

/// Checkpoints in `folder`, newest first.
fn list(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            name.starts_with("step-") && name.ends_with(".safetensors")
        })
        .collect();
    paths.sort_unstable_by(|a, b| b.cmp(a));
    paths
}

/// BLAKE3 of everything in a file but the digest itself.
fn digest(metadata: &Metadata, tensors: &[HostParameter]) -> String {
    let mut hasher = blake3::Hasher::new();
    for (key, value) in metadata.iter().filter(|(key, _)| *key != "blake3") {
        hasher.update(format!("{key:?}={value:?};").as_bytes());
    }
    hasher.update(weights::digest(tensors).as_bytes());
    hasher.finalize().to_hex().to_string()
}

/// The little-endian bytes of `values`; a view where that is how they lie in memory.
fn bytes(values: &[f32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        let size = size_of_val(values);
        // SAFETY: any four bytes of a number are bytes, and the view lives as long as the numbers.
        Cow::Borrowed(unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size) })
    } else {
        Cow::Owned(
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        )
    }
}

fn write_file(
    path: &Path,
    fingerprint: &str,
    mut metadata: Metadata,
    tensors: &[HostParameter],
) -> Result<(), TrainError> {
    metadata.insert("version".to_owned(), VERSION.to_owned());
    metadata.insert("fingerprint".to_owned(), fingerprint.to_owned());
    let blake3 = digest(&metadata, tensors);
    metadata.insert("blake3".to_owned(), blake3);
    let damaged = |what: String| TrainError::Damaged {
        path: path.display().to_string(),
        what,
    };
    let data: Vec<Cow<'_, [u8]>> = tensors.iter().map(|tensor| bytes(&tensor.values)).collect();
    let views = tensors
        .iter()
        .zip(&data)
        .map(|(tensor, data)| {
            let view = TensorView::new(Dtype::F32, tensor.shape.clone(), data);
            Ok((
                tensor.name.as_str(),
                view.map_err(|error| damaged(error.to_string()))?,
            ))
        })
        .collect::<Result<Vec<_>, TrainError>>()?;
    let entry = serde_json::to_string(&metadata).map_err(|error| damaged(error.to_string()))?;
    let header = HashMap::from([(ENTRY.to_owned(), entry)]);
    weights::replace_with(path, |temporary| {
        safetensors::serialize_to_file(views, Some(header), temporary).map_err(
            |error| match error {
                SafeTensorError::IoError(error) => error,
                other => std::io::Error::other(other),
            },
        )
    })
    .map_err(TrainError::io(path))
}

fn read_file(path: &Path) -> Result<(Metadata, Vec<HostParameter>), TrainError> {
    let damaged = |what: &str| TrainError::Damaged {
        path: path.display().to_string(),
        what: what.to_owned(),
    };
    let bytes = std::fs::read(path).map_err(TrainError::io(path))?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(&e.to_string()))?;
    let entry = header
        .metadata()
        .as_ref()
        .and_then(|entries| entries.get(ENTRY));
    let entry = entry.ok_or_else(|| damaged("its header lacks the entry `ablate`"))?;
    let metadata: Metadata =
        serde_json::from_str(entry).map_err(|error| damaged(&error.to_string()))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| damaged(&e.to_string()))?;
    let mut tensors = Vec::new();
    for (name, view) in file.iter() {
        if view.dtype() != Dtype::F32 {
            return Err(damaged(&format!("{name} is not f32")));
        }
        let values = view
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        tensors.push(HostParameter {
            name: name.to_owned(),
            shape: view.shape().to_vec(),
            values,
        });
    }
    if metadata.get("version").map(String::as_str) != Some(VERSION) {
        return Err(damaged("its version is unknown"));
    }
    if metadata.get("blake3") != Some(&digest(&metadata, &tensors)) {
        return Err(damaged("its checksum doesn't match"));
    }
    Ok((metadata, tensors))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(step: u64) -> Checkpoint {
        let tensor = |name: &str, values: Vec<f32>| HostParameter {
            name: name.to_owned(),
            shape: vec![values.len()],
            values,
        };
        Checkpoint {
            position: Position {
                step,
                loss_sum: 0.1 + 0.2,
                epoch_steps: 3,
            },
            tensors: vec![
                tensor("model.a", vec![1.0, -0.0, f32::MIN_POSITIVE]),
                tensor("exp_avg.a", vec![step as f32; 3]),
            ],
        }
    }

    #[test]
    fn newest_whole_one_is_used() {
        let folder = tempfile::tempdir().unwrap();
        for step in 1..=4 {
            write(folder.path(), "f", &checkpoint(step)).unwrap();
        }
        assert_eq!(list(folder.path()).len(), KEEP);
        let (found, refused) = latest(folder.path(), "f");
        let mut found = found.unwrap();
        assert!(refused.is_empty());
        assert_eq!(found.position, checkpoint(4).position);
        let model = found.take("model.");
        assert_eq!(model[0].name, "a");
        assert_eq!(model[0].values[1].to_bits(), (-0.0f32).to_bits());
        // Any flipped byte of the newest is noticed.
        let newest = list(folder.path()).remove(0);
        let bytes = std::fs::read(&newest).unwrap();
        for position in (8..bytes.len()).step_by(3) {
            let mut bad = bytes.clone();
            bad[position] ^= 1;
            std::fs::write(&newest, &bad).unwrap();
            let (found, refused) = latest(folder.path(), "f");
            assert_eq!(found.unwrap().position.step, 3, "byte {position}");
            assert_eq!(refused.len(), 1);
        }
        std::fs::write(&newest, &bytes[..bytes.len() / 2]).unwrap();
        assert_eq!(latest(folder.path(), "f").0.unwrap().position.step, 3);
        assert!(latest(folder.path(), "other").0.is_none());
    }
}
