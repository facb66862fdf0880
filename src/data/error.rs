//! The errors of the data room.

use std::path::{Path, PathBuf};

/// What can go wrong between a data set's name and a batch.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or folder could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// What was being read.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },

    /// A file is no image that can be decoded.
    #[error("cannot decode {file}: {source}")]
    Decode {
        /// The file: a path, or an entry of the embedded data set.
        file: String,
        /// The decoder's answer.
        #[source]
        source: image::ImageError,
    },

    /// The root of an image folder is missing or is no folder.
    #[error("no data set at {}: there is no such folder", .0.display())]
    NoFolder(PathBuf),

    /// `train` or `val` is missing.
    #[error(
        "{} has no folder `{split}`; an image folder holds train/<class>/* and val/<class>/*",
        root.display()
    )]
    NoSplit {
        /// Root of the data set.
        root: PathBuf,
        /// `train` or `val`.
        split: &'static str,
    },

    /// A split without class folders.
    #[error("{} has no class folders; images are expected in one folder per class", .0.display())]
    NoClasses(PathBuf),

    /// A class folder (or a split) without images.
    #[error("{} has no images (.jpg, .jpeg or .png)", .0.display())]
    NoImages(PathBuf),

    /// A class that the model could not have learned.
    #[error("class `{class}` is in {}/val but not in {}/train", root.display(), root.display())]
    UnknownClass {
        /// Root of the data set.
        root: PathBuf,
        /// Name of the class folder.
        class: String,
    },

    /// A class of an evaluation set that the model could not have learned.
    #[error(
        "evaluation set `{set}` has the class `{class}`, which is not in the training set; \
         its class folders are named as those of the training set, or all by numbers"
    )]
    UnknownSetClass {
        /// Name of the evaluation set.
        set: String,
        /// Name of the class folder.
        class: String,
    },

    /// A file of labels that can't be understood or doesn't fit its images.
    #[error("labels in {}: {message}", path.display())]
    Labels {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },

    /// File names become part of the data set's identity, so they have to be text.
    #[error("{} is not valid UTF-8; rename it", .0.display())]
    NotUtf8(PathBuf),

    /// A data set's name that nothing resolves.
    #[error("{0}")]
    Unresolved(#[from] crate::data::locate::Unresolved),

    /// The user's file of data sets is no flat map of names to paths.
    #[error("{}: {message}", path.display())]
    DataFile {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column where known.
        message: String,
    },

    /// A value of the recipe's `augment`, `mix` or `train` sections that cannot be used.
    #[error("{field}: {message}")]
    Config {
        /// Path of the field in the recipe.
        field: &'static str,
        /// What is wrong and what is allowed.
        message: String,
    },

    /// A loader thread panicked: a defect of the program.
    #[error("a loader thread panicked: {0}")]
    LoaderPanicked(String),
}

impl DataError {
    pub(in crate::data) fn io(path: &Path, source: std::io::Error) -> DataError {
        DataError::Io {
            path: path.to_path_buf(),
            source,
        }
    }

    pub(in crate::data) fn config(field: &'static str, message: impl Into<String>) -> DataError {
        DataError::Config {
            field,
            message: message.into(),
        }
    }
}
