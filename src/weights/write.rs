//! Writing weights: safetensors that load anywhere, with a digest of their content.

use super::describe::Description;
use super::error::WeightsFileError;
use super::names::{self, Naming};
use super::read::HEADS_KEY;
use super::safetensors_file::DIGEST_KEY;
use crate::model::parameter::HostParameter;
use crate::rundir::durable::{self, Durable};
use safetensors::tensor::{Dtype, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// BLAKE3 over names, shapes and values, in the order of the names.
pub fn digest(tensors: &[HostParameter]) -> String {
    let mut sorted: Vec<_> = tensors.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let mut hasher = blake3::Hasher::new();
    for tensor in sorted {
        hasher.update(tensor.name.as_bytes());
        hasher.update(format!("{:?}", tensor.shape).as_bytes());
        hasher.update(&bytes(&tensor.values));
    }
    hasher.finalize().to_hex().to_string()
}

/// Values as little-endian bytes.
fn bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// Writes `parameters` (official names) to `path` as f32 under the names of `naming`, then reads the
/// file again and compares. The metadata get `notes`, the number of heads, what the model is, and a
/// digest.
///
/// # Errors
/// The parameters are not those of a Vision Transformer, or the file can't be written.
pub fn export(
    path: &Path,
    parameters: &[HostParameter],
    num_heads: Option<usize>,
    naming: Naming,
    notes: &BTreeMap<String, String>,
) -> Result<Description, WeightsFileError> {
    let shown = || path.display().to_string();
    let shapes = parameters
        .iter()
        .map(|p| (p.name.as_str(), p.shape.as_slice()));
    let description = Description::of(shapes).map_err(|source| WeightsFileError::Shapes {
        path: shown(),
        source,
    })?;
    let named: Vec<HostParameter> = parameters
        .iter()
        .map(|parameter| HostParameter {
            name: match naming {
                Naming::Official => parameter.name.clone(),
                Naming::Timm => names::timm(&parameter.name, description.parallel_branches),
            },
            ..parameter.clone()
        })
        .collect();
    let mut metadata: HashMap<String, String> = notes.clone().into_iter().collect();
    let mut note = |key: &str, value: String| metadata.insert(key.to_owned(), value);
    // What loaders of safetensors look for.
    note("format", "pt".to_owned());
    note(
        "program",
        concat!("ablate ", env!("CARGO_PKG_VERSION")).to_owned(),
    );
    note("names", naming.name().to_owned());
    note("architecture", description.title());
    note("resolution", description.resolution().to_string());
    if let Some(heads) = num_heads {
        note(HEADS_KEY, heads.to_string());
    }
    note(DIGEST_KEY, digest(&named));
    let damaged = |what: String| WeightsFileError::Damaged {
        path: shown(),
        what,
    };
    let data: Vec<Vec<u8>> = named.iter().map(|tensor| bytes(&tensor.values)).collect();
    let views = named
        .iter()
        .zip(&data)
        .map(|(tensor, data)| {
            let view = TensorView::new(Dtype::F32, tensor.shape.clone(), data)
                .map_err(|error| damaged(error.to_string()))?;
            Ok((tensor.name.as_str(), view))
        })
        .collect::<Result<Vec<_>, WeightsFileError>>()?;
    let content = safetensors::serialize(views, Some(metadata))
        .map_err(|error| damaged(error.to_string()))?;
    write_atomically(path, &content).map_err(|source| WeightsFileError::Io {
        path: shown(),
        source,
    })?;
    // The digest covers every value; the order is the reference's on both sides.
    let again = super::read(path)?;
    if digest(&again.parameters) == digest(parameters) {
        Ok(description)
    } else {
        Err(damaged("it doesn't hold what was written".to_owned()))
    }
}

/// Writes a file whole: temporary name, sync, rename, sync of the folder.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    durable::replace(path, bytes, Durable::Yes)
}

/// The same for a file that `write` fills at a temporary place, so that it need not be in memory as a whole.
pub fn replace_with(
    path: &Path,
    write: impl FnOnce(&Path) -> std::io::Result<()>,
) -> std::io::Result<()> {
    durable::replace_with(path, Durable::Yes, |file| write(file.path()))
}
