//! Safetensors files: ours, timm's, and what anybody converted.

use super::dtype::Dtype;
use super::fault::Fault;
use super::pickle::clean;
use crate::model::parameter::HostParameter;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype as FileDtype;
use std::collections::BTreeMap;

/// Metadata key of the digest of all tensors.
pub(super) const DIGEST_KEY: &str = "blake3";

/// Prefix of the model's parameters in checkpoints of this program.
const CHECKPOINT_PREFIX: &str = "model.";

/// An open file, its tensors not yet converted.
pub(super) struct SafetensorsFile<'a> {
    file: SafeTensors<'a>,
    prefix: &'static str,
    pub metadata: BTreeMap<String, String>,
}

impl<'a> SafetensorsFile<'a> {
    /// Reads the header; it can't claim more bytes than there are.
    pub fn open(bytes: &'a [u8]) -> Result<Self, Fault> {
        let damaged = |error: safetensors::SafeTensorError| Fault::Damaged(error.to_string());
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
        let checkpoint = file.tensor("cls_token").is_err()
            && file
                .tensor(&format!("{CHECKPOINT_PREFIX}cls_token"))
                .is_ok();
        Ok(SafetensorsFile {
            file,
            prefix: if checkpoint { CHECKPOINT_PREFIX } else { "" },
            metadata: metadata.into_iter().collect(),
        })
    }

    /// Names and shapes.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let named = |name: &str| name.strip_prefix(self.prefix).map(str::to_owned);
        self.file
            .iter()
            .filter_map(|(name, view)| Some((named(name)?, view.shape().to_vec())))
            .collect()
    }

    /// Converts all tensors, and verifies the digest where there is one.
    pub fn load(&self) -> Result<(Vec<HostParameter>, Dtype), Fault> {
        let mut widest = Dtype::F16;
        let mut tensors = Vec::new();
        for (name, view) in self.file.iter() {
            let dtype = match view.dtype() {
                FileDtype::F16 => Dtype::F16,
                FileDtype::BF16 => Dtype::Bf16,
                FileDtype::F32 => Dtype::F32,
                FileDtype::F64 => Dtype::F64,
                other => {
                    let what = format!("its elements are {other:?}, no floats that weights have");
                    return Err(Fault::tensor(&clean(name), what));
                }
            };
            if dtype.size() > widest.size() || dtype == Dtype::Bf16 {
                widest = dtype;
            }
            tensors.push(HostParameter {
                name: name.to_owned(),
                shape: view.shape().to_vec(),
                values: dtype.decode(view.data()),
            });
        }
        if let Some(expected) = self.metadata.get(DIGEST_KEY)
            && *expected != super::digest(&tensors)
        {
            return Err(Fault::damaged("its checksum doesn't match"));
        }
        tensors.retain(|tensor| tensor.name.starts_with(self.prefix));
        for tensor in &mut tensors {
            tensor.name.drain(..self.prefix.len());
        }
        Ok((tensors, widest))
    }
}
