//! Exports: what the store holds, in the forms of other programs.
//!
//! | part | owns |
//! | --- | --- |
//! | [`columnar`] | views and tables as Parquet, Arrow IPC or CSV, by polars |
//! | [`tensorboard`] | curves as TensorBoard's event files |

pub mod columnar;
pub mod tensorboard;

#[cfg(test)]
mod tests;

use super::frame::FrameError;
use crate::store::StoreError;
use std::path::{Path, PathBuf};

/// Why there is no export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("can't write {path}: {source}")]
    Io {
        path: String,
        source: std::io::Error,
    },
    #[error("can't write {path}: {source}")]
    Form {
        path: String,
        source: polars::prelude::PolarsError,
    },
}

fn io_error(path: &Path) -> impl Fn(std::io::Error) -> ExportError + '_ {
    |source| ExportError::Io {
        path: path.display().to_string(),
        source,
    }
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub path: PathBuf,
    /// Rows, or points of curves.
    pub rows: u64,
}
