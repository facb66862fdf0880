//! Checkpoints: everything that a stage needs to go on as if it had never stopped.
//!
//! A checkpoint is a safetensors file (`checkpoints/step-<n>.safetensors`) of `model.<name>`,
//! `<state>.<name>` per part of the optimizer's state, and `ema.<name>`; its metadata entry `ablate`
//! holds version, fingerprint, position, running sums and the BLAKE3 of everything else. Final weights
//! (`final.safetensors`) are the same without optimizer and prefixes, so they load anywhere, and so are
//! those of the best evaluation (`best.safetensors`).
//!
//! Files are written whole under a temporary name, synced and renamed; a damaged one is refused and set aside
//! (`step-<n>.safetensors.refused`), and the one before it is used. One that can't be read isn't damaged: the attempt
//! fails, and the next one reads it.

use super::TrainError;
use crate::model::parameter::HostParameter;
use crate::weights;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensorError, SafeTensors};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Version of the format.
const VERSION: &str = "1";

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

/// Writes a checkpoint of the stage `fingerprint` and removes all but the newest `keep`; returns its name.
pub fn write(
    folder: &Path,
    fingerprint: &str,
    checkpoint: &Checkpoint,
    keep: usize,
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
    // An old checkpoint that stays costs space only. Newer ones than this were refused, and set aside, when the stage
    // was resumed.
    for old in list(folder)
        .unwrap_or_default()
        .into_iter()
        .skip(keep.max(1))
    {
        let _ = std::fs::remove_file(old);
    }
    Ok(name)
}

/// Writes final weights.
pub fn write_final(
    path: &Path,
    fingerprint: &str,
    weights: &[HostParameter],
) -> Result<(), TrainError> {
    write_file(path, fingerprint, Metadata::new(), weights)
}

/// Where a stage was best.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Best {
    /// Steps done by then.
    pub step: u64,
    /// From 0.
    pub epoch: u32,
    /// The headline's top-1 accuracy in per cent.
    pub top1: f64,
}

/// Writes the weights of the best evaluation so far.
pub fn write_best(
    path: &Path,
    fingerprint: &str,
    best: Best,
    weights: &[HostParameter],
) -> Result<(), TrainError> {
    let metadata = Metadata::from([
        ("step".to_owned(), best.step.to_string()),
        ("epoch".to_owned(), best.epoch.to_string()),
        (
            "top1_bits".to_owned(),
            format!("{:016x}", best.top1.to_bits()),
        ),
        ("top1".to_owned(), best.top1.to_string()),
    ]);
    write_file(path, fingerprint, metadata, weights)
}

/// What is known of the best evaluation of earlier attempts; `None` where none was kept.
pub fn read_best(path: &Path, fingerprint: &str) -> Result<Option<Best>, TrainError> {
    let (metadata, _) = match read_file(path) {
        Err(TrainError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            return Ok(None);
        }
        read => read?,
    };
    let fields = Fields::of(path, &metadata, fingerprint)?;
    Ok(Some(Best {
        step: fields.number("step")?,
        epoch: fields.number("epoch")?,
        top1: fields.bits("top1_bits")?,
    }))
}

/// The newest checkpoint of the stage that is whole, and those that were refused.
pub type Latest = (Option<Checkpoint>, Vec<Refused>);

/// A checkpoint that is damaged, or of another stage or version.
#[derive(Debug)]
pub struct Refused {
    pub path: PathBuf,
    pub error: TrainError,
}

impl Refused {
    /// Sets the file aside, so that it doesn't count among the stage's checkpoints; nothing is lost.
    pub fn set_aside(&self) -> Result<(), TrainError> {
        let mut aside = self.path.clone().into_os_string();
        aside.push(".refused");
        std::fs::rename(&self.path, aside).map_err(TrainError::io(&self.path))
    }
}

/// The newest checkpoint of the stage in `folder` that is whole, and what was wrong with newer ones.
///
/// # Errors
/// Where one can't be read, which says nothing of what is in it.
pub fn latest(folder: &Path, fingerprint: &str) -> Result<Latest, TrainError> {
    let mut refused = Vec::new();
    for path in list(folder).map_err(TrainError::io(folder))? {
        match read(&path, fingerprint) {
            Ok(checkpoint) => return Ok((Some(checkpoint), refused)),
            Err(TrainError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            Err(error @ TrainError::Io { .. }) => return Err(error),
            Err(error) => refused.push(Refused { path, error }),
        }
    }
    Ok((None, refused))
}

/// Reads weights for a model (a stage's final weights), verified.
pub fn read_weights(path: &Path) -> Result<Vec<HostParameter>, TrainError> {
    Ok(read_file(path)?.1)
}

fn read(path: &Path, fingerprint: &str) -> Result<Checkpoint, TrainError> {
    let (metadata, tensors) = read_file(path)?;
    let fields = Fields::of(path, &metadata, fingerprint)?;
    let position = Position {
        step: fields.number("step")?,
        loss_sum: fields.bits("loss_sum_bits")?,
        epoch_steps: fields.number("epoch_steps")?,
    };
    Ok(Checkpoint { position, tensors })
}

/// The metadata of a file of ours.
struct Fields<'f> {
    path: &'f Path,
    metadata: &'f Metadata,
}

impl<'f> Fields<'f> {
    /// Of a file that must be the stage's own.
    fn of(
        path: &'f Path,
        metadata: &'f Metadata,
        fingerprint: &str,
    ) -> Result<Fields<'f>, TrainError> {
        let fields = Fields { path, metadata };
        if fields.text("fingerprint")? == fingerprint {
            Ok(fields)
        } else {
            Err(fields.damaged("it belongs to another stage".to_owned()))
        }
    }

    fn damaged(&self, what: String) -> TrainError {
        TrainError::Damaged {
            path: self.path.display().to_string(),
            what,
        }
    }

    fn text(&self, name: &str) -> Result<&str, TrainError> {
        let value = self.metadata.get(name).map(String::as_str);
        value.ok_or_else(|| self.damaged(format!("it lacks `{name}`")))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, TrainError> {
        let number = self.text(name)?.parse();
        number.map_err(|_| self.damaged(format!("its `{name}` is no number")))
    }

    /// A float as the sixteen digits of its bits.
    fn bits(&self, name: &str) -> Result<f64, TrainError> {
        let bits = u64::from_str_radix(self.text(name)?, 16);
        bits.map(f64::from_bits)
            .map_err(|_| self.damaged(format!("its `{name}` is no number")))
    }
}

/// Checkpoints in `folder`, newest first.
fn list(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with("step-") && name.ends_with(".safetensors")) {
            paths.push(path);
        }
    }
    paths.sort_unstable_by(|a, b| b.cmp(a));
    Ok(paths)
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
    metadata
        .entry("version".to_owned())
        .or_insert_with(|| VERSION.to_owned());
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
    if metadata.get("blake3") != Some(&digest(&metadata, &tensors)) {
        return Err(damaged("its checksum doesn't match"));
    }
    match metadata.get("version").map(String::as_str) {
        Some(VERSION) => {}
        version => {
            let version = version.unwrap_or("none");
            return Err(TrainError::Version {
                path: path.display().to_string(),
                version: version.to_owned(),
                known: VERSION,
            });
        }
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
            write(folder.path(), "f", &checkpoint(step), 2).unwrap();
        }
        assert_eq!(list(folder.path()).unwrap().len(), 2);
        let (found, refused) = latest(folder.path(), "f").unwrap();
        let mut found = found.unwrap();
        assert!(refused.is_empty());
        assert_eq!(found.position, checkpoint(4).position);
        let model = found.take("model.");
        assert_eq!(model[0].name, "a");
        assert_eq!(model[0].values[1].to_bits(), (-0.0f32).to_bits());
        assert!(latest(folder.path(), "other").unwrap().0.is_none());
        let none = folder.path().join("none");
        assert!(latest(&none, "f").unwrap().0.is_none());
    }

    /// Nothing is known of what is in a file that can't be read.
    #[test]
    fn one_that_can_not_be_read_is_not_refused() {
        let folder = tempfile::tempdir().unwrap();
        for step in [3, 4] {
            write(folder.path(), "f", &checkpoint(step), 2).unwrap();
        }
        let newest = list(folder.path()).unwrap().remove(0);
        std::fs::remove_file(&newest).unwrap();
        // Reading a folder is an error that no file system keeps to itself.
        std::fs::create_dir(&newest).unwrap();
        let error = latest(folder.path(), "f").unwrap_err();
        assert!(matches!(error, TrainError::Io { .. }), "{error}");
        std::fs::remove_dir(&newest).unwrap();
        let (found, _) = latest(folder.path(), "f").unwrap();
        assert_eq!(found.unwrap().position.step, 3);
        // Nor is a folder without checkpoints one that can't be listed.
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(latest(&file, "f").is_err());
    }

    /// What was refused when the stage was resumed has a higher step than what comes next.
    #[test]
    fn refused_ones_push_out_no_good_one() {
        for keep in [1, 2] {
            let folder = tempfile::tempdir().unwrap();
            for step in 7..=8 {
                write(folder.path(), "f", &checkpoint(step), 2).unwrap();
            }
            for path in list(folder.path()).unwrap() {
                std::fs::write(path, "").unwrap();
            }
            let (found, refused) = latest(folder.path(), "f").unwrap();
            assert!(found.is_none());
            assert_eq!(refused.len(), 2);
            for refused in refused {
                refused.set_aside().unwrap();
            }
            for step in [3, 5] {
                write(folder.path(), "f", &checkpoint(step), keep).unwrap();
                let (found, refused) = latest(folder.path(), "f").unwrap();
                assert_eq!(found.unwrap().position.step, step, "keep {keep}");
                assert!(refused.is_empty(), "{refused:?}");
            }
            assert_eq!(list(folder.path()).unwrap().len(), keep);
            // They are kept for whoever wants to look at them, as long as the stage isn't done.
            let aside = folder.path().join("step-0000000008.safetensors.refused");
            assert!(aside.exists());
        }
    }

    /// Whatever is wrong with the newest one, it is refused by name and the one before it is used.
    #[test]
    fn damaged_ones_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for step in [3, 4] {
            write(folder.path(), "f", &checkpoint(step), 2).unwrap();
        }
        let newest = list(folder.path()).unwrap().remove(0);
        let whole = std::fs::read(&newest).unwrap();
        let refused = |bytes: &[u8], what: &str| {
            std::fs::write(&newest, bytes).unwrap();
            let (found, refused) = latest(folder.path(), "f").unwrap();
            assert_eq!(found.unwrap().position.step, 3, "{what}");
            assert_eq!(refused.len(), 1, "{what}");
            let message = refused[0].error.to_string();
            assert!(message.contains("step-0000000004.safetensors"), "{message}");
            message
        };
        for position in (0..whole.len()).step_by(3) {
            for bit in [1, 0x80] {
                let mut bad = whole.clone();
                bad[position] ^= bit;
                refused(&bad, &format!("a flipped bit of byte {position}"));
            }
        }
        for length in [0, 1, 8, whole.len() / 2, whole.len() - 1] {
            refused(&whole[..length], &format!("cut off after {length} bytes"));
        }
        refused(&vec![0; whole.len()], "zeroes");
        let longer = [whole.as_slice(), b"x"].concat();
        refused(&longer, "a byte more");
        // Written by a program that knows better.
        let metadata = Metadata::from([("version".to_owned(), "2".to_owned())]);
        write_file(&newest, "f", metadata, &checkpoint(4).tensors).unwrap();
        let message = refused(&std::fs::read(&newest).unwrap(), "a newer version");
        assert!(message.contains("version 2"), "{message}");
        // Both: the stage starts again.
        std::fs::write(&list(folder.path()).unwrap()[1], "").unwrap();
        let (found, refused) = latest(folder.path(), "f").unwrap();
        assert!(found.is_none());
        assert_eq!(refused.len(), 2);
    }

    #[test]
    fn as_many_are_kept_as_are_wanted() {
        for keep in [1, 3] {
            let folder = tempfile::tempdir().unwrap();
            for step in 1..=5 {
                write(folder.path(), "f", &checkpoint(step), keep).unwrap();
            }
            let steps: Vec<u64> = list(folder.path())
                .unwrap()
                .iter()
                .map(|path| read(path, "f").unwrap().position.step)
                .collect();
            let newest: Vec<u64> = (0..keep as u64).map(|back| 5 - back).collect();
            assert_eq!(steps, newest);
        }
    }

    #[test]
    fn the_best_is_remembered_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("best.safetensors");
        assert_eq!(read_best(&path, "f").unwrap(), None);
        let best = Best {
            step: 7,
            epoch: 2,
            top1: 0.1 + 0.2,
        };
        write_best(&path, "f", best, &checkpoint(7).tensors).unwrap();
        assert_eq!(read_best(&path, "f").unwrap(), Some(best));
        assert!(read_best(&path, "g").is_err());
        std::fs::write(&path, "").unwrap();
        assert!(read_best(&path, "f").is_err());
    }

    #[test]
    fn leftovers_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = folder.path().join("checkpoints");
        write(&checkpoints, "f", &checkpoint(1), 2).unwrap();
        for name in ["checkpoints/.new-abc", ".tmpXYZ"] {
            std::fs::write(folder.path().join(name), "half").unwrap();
        }
        crate::rundir::layout::RunDir::new(folder.path()).tidy();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(std::fs::read_dir(&checkpoints).unwrap().count(), 1);
    }
}
