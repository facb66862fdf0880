//! Reading a file of weights: what it is, whether it is a Vision Transformer's, and only then its values.

use super::describe::Description;
use super::dtype::Dtype;
use super::error::WeightsFileError;
use super::fault::Fault;
use super::names::{self, Naming};
use super::pickle::clean;
use super::safetensors_file::SafetensorsFile;
use super::torch::TorchFile;
use crate::model::parameter::HostParameter;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

/// Metadata key of the number of heads in files of this program.
pub(super) const HEADS_KEY: &str = "num_heads";

/// Format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `torch.save`
    TorchZip,
    /// `torch.save` before PyTorch 1.6
    TorchLegacy,
    Safetensors,
}

impl Format {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Format::TorchZip => "torch.save",
            Format::TorchLegacy => "torch.save, pre-zip",
            Format::Safetensors => "safetensors",
        }
    }
}

/// Weights from a file: all parameters of one Vision Transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// Under official names, in the order of the reference's state dict.
    pub parameters: Vec<HostParameter>,
    /// What the shapes tell of the model.
    pub description: Description,
    pub format: Format,
    /// Whose names the file uses.
    pub naming: Naming,
    /// Element type in the file (the widest one).
    pub dtype: Dtype,
    /// The key of a checkpoint that the state dict stood under.
    pub part: Option<String>,
    /// Metadata of a safetensors file.
    pub metadata: BTreeMap<String, String>,
}

impl Weights {
    /// Number of heads: the one that the file's metadata name, else the usual one for the width.
    pub fn num_heads(&self) -> Option<usize> {
        let named = self
            .metadata
            .get(HEADS_KEY)
            .and_then(|text| text.parse().ok());
        named
            .filter(|heads| *heads > 0 && self.description.embed_dim.is_multiple_of(*heads))
            .or_else(|| self.description.usual_heads())
    }
}

/// Reads the weights in the file at `path`, whatever its name: `torch.save` (zip or older) of a state
/// dict, of `{"model": …}` or `{"state_dict": …}` with anything beside it, or safetensors; in f16,
/// bf16, f32 or f64; with official names or timm's.
///
/// # Errors
/// See [`WeightsFileError`]; nothing in the file is run, and shapes are checked before values are read.
pub fn read(path: &Path) -> Result<Weights, WeightsFileError> {
    let fault = |fault: Fault| fault.at(path);
    let mut file = File::open(path).map_err(|error| fault(Fault::Io(error)))?;
    let (format, length) = recognise(&mut file).map_err(fault)?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    match format {
        Format::Safetensors => {
            let mut bytes = Vec::new();
            reader
                .read_to_end(&mut bytes)
                .map_err(|error| fault(Fault::Io(error)))?;
            let file = SafetensorsFile::open(&bytes).map_err(fault)?;
            let listed = Listed::new(file.shapes(), path)?;
            let (tensors, dtype) = file.load().map_err(fault)?;
            Ok(listed.weights(tensors, format, dtype, None, file.metadata))
        }
        Format::TorchZip | Format::TorchLegacy => {
            let file = if format == Format::TorchZip {
                TorchFile::open_zip(reader, length)
            } else {
                TorchFile::open_legacy(reader, length)
            }
            .map_err(fault)?;
            let listed = Listed::new(file.shapes(), path)?;
            let part = file.part.map(str::to_owned);
            let (tensors, dtype) = file.load().map_err(fault)?;
            Ok(listed.weights(tensors, format, dtype, part, BTreeMap::new()))
        }
    }
}

/// The format, by content, and the number of bytes.
fn recognise(file: &mut File) -> Result<(Format, u64), Fault> {
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(Fault::Unknown("it is a folder".to_owned()));
    }
    let length = metadata.len();
    let mut start = Vec::new();
    file.by_ref().take(64).read_to_end(&mut start)?;
    file.rewind()?;
    let format = match start.as_slice() {
        [] => return Err(Fault::Unknown("it is empty".to_owned())),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => Format::TorchZip,
        [0x80, ..] if start.get(8) != Some(&b'{') => Format::TorchLegacy,
        [_, _, _, _, _, _, _, _, b'{', ..] => Format::Safetensors,
        [b'<', ..] => {
            let what = "it is a web page; was the download refused?";
            return Err(Fault::Unknown(what.to_owned()));
        }
        text if text.starts_with(b"version https://git-lfs") => {
            let what = "it is a pointer of Git LFS; fetch the file itself with `git lfs pull`";
            return Err(Fault::Unknown(what.to_owned()));
        }
        _ => {
            let what = "it is neither a file of torch.save nor safetensors";
            return Err(Fault::Unknown(what.to_owned()));
        }
    };
    Ok((format, length))
}

/// Names and shapes that were found to be those of a Vision Transformer.
struct Listed {
    description: Description,
    naming: Naming,
    /// Official name by name in the file.
    official: HashMap<String, String>,
}

impl Listed {
    fn new(shapes: Vec<(String, Vec<usize>)>, path: &Path) -> Result<Self, WeightsFileError> {
        if shapes.is_empty() {
            return Err(Fault::Unknown("it has no tensors".to_owned()).at(path));
        }
        // Data-parallel training leaves its prefix.
        let wrapped = shapes.iter().all(|(name, _)| name.starts_with("module."));
        let bare = |name: &str| match name.strip_prefix("module.") {
            Some(bare) if wrapped => bare.to_owned(),
            _ => name.to_owned(),
        };
        let naming = names::naming(shapes.iter().map(|(name, _)| {
            if wrapped {
                name.trim_start_matches("module.")
            } else {
                name
            }
        }));
        let mut official = HashMap::with_capacity(shapes.len());
        let mut by_official: HashMap<String, Vec<usize>> = HashMap::with_capacity(shapes.len());
        for (name, shape) in shapes {
            let name_official = names::official(&bare(&name));
            if by_official.insert(name_official.clone(), shape).is_some() {
                let what = "it stands there twice";
                return Err(Fault::tensor(&clean(&name_official), what).at(path));
            }
            official.insert(name, name_official);
        }
        let description = Description::of(
            by_official
                .iter()
                .map(|(name, shape)| (name.as_str(), shape.as_slice())),
        )
        .map_err(|source| WeightsFileError::Shapes {
            path: path.display().to_string(),
            source,
        })?;
        Ok(Listed {
            description,
            naming,
            official,
        })
    }

    fn weights(
        self,
        tensors: Vec<HostParameter>,
        format: Format,
        dtype: Dtype,
        part: Option<String>,
        metadata: BTreeMap<String, String>,
    ) -> Weights {
        let mut by_name: HashMap<&str, HostParameter> = HashMap::with_capacity(tensors.len());
        for mut tensor in tensors {
            if let Some(name) = self.official.get(&tensor.name) {
                tensor.name.clone_from(name);
                by_name.insert(name, tensor);
            }
        }
        let order = self.description.shapes();
        let parameters = order
            .iter()
            .filter_map(|(name, _)| by_name.remove(name.as_str()))
            .collect();
        Weights {
            parameters,
            description: self.description,
            format,
            naming: self.naming,
            dtype,
            part,
            metadata,
        }
    }
}
