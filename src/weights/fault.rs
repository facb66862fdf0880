//! Faults found inside a file, before the file's name is known to the message.

use super::error::WeightsFileError;
use std::path::Path;

/// What is wrong with a file's content.
#[derive(Debug)]
pub(super) enum Fault {
    Io(std::io::Error),
    /// Not a file of weights at all.
    Unknown(String),
    Damaged(String),
    /// The full name of what it wants to run.
    Code(String),
    Tensor(String, String),
}

impl Fault {
    pub fn damaged(what: impl Into<String>) -> Self {
        Fault::Damaged(what.into())
    }

    pub fn tensor(tensor: &str, what: impl Into<String>) -> Self {
        Fault::Tensor(tensor.to_owned(), what.into())
    }

    /// The error for a person, who knows the file by `path`.
    pub fn at(self, path: &Path) -> WeightsFileError {
        let path = path.display().to_string();
        match self {
            Fault::Io(source) => WeightsFileError::Io { path, source },
            Fault::Unknown(what) => WeightsFileError::Unknown { path, what },
            Fault::Damaged(what) => WeightsFileError::Damaged { path, what },
            Fault::Code(name) => WeightsFileError::Code { path, name },
            Fault::Tensor(tensor, what) => WeightsFileError::Tensor { path, tensor, what },
        }
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Fault::damaged("it ends too early"),
            std::io::ErrorKind::InvalidData => Fault::Damaged(error.to_string()),
            _ => Fault::Io(error),
        }
    }
}
