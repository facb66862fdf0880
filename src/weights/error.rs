//! Why a file of weights can't be read or written. Every message names the file.

use crate::model::weights::WeightsError;

#[derive(Debug, thiserror::Error)]
pub enum WeightsFileError {
    #[error("{path}: {source}")]
    Io {
        path: String,
        source: std::io::Error,
    },
    #[error("{path} holds no weights: {what}")]
    Unknown { path: String, what: String },
    #[error("{path} is damaged: {what}")]
    Damaged { path: String, what: String },
    #[error(
        "{path} wants to run `{name}` while it is loaded: refused, and nothing of it was run. Weights need no code; get them from another source, or save the state dict alone"
    )]
    Code { path: String, name: String },
    #[error("{path}: tensor `{tensor}`: {what}")]
    Tensor {
        path: String,
        tensor: String,
        what: String,
    },
    #[error("{path}: {source}")]
    Shapes { path: String, source: WeightsError },
}
