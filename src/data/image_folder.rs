//! Image folders: `train/<class>/*` and `val/<class>/*`, as torchvision's ImageFolder reads them.

use super::DataError;
use super::dataset::{Sample, Split};
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// What the directories of an image folder say; no image was opened.
#[derive(Debug)]
pub struct ImageFolder {
    /// Names of the class folders of `train`, in byte order.
    pub classes: Vec<String>,
    /// Samples of train and val: by class, then by file name, in byte order.
    pub splits: [Vec<Sample>; 2],
}

impl ImageFolder {
    /// Reads the directories below `root`. Files count as images by their extension (`jpg`, `jpeg`,
    /// `png`, in any case); hidden ones and folders inside class folders do not count.
    ///
    /// # Errors
    /// No such folder, no `train` or `val`, no class folders, a class folder of `train` without
    /// images, no images in `val`, a class in `val` that `train` does not have, names that are no
    /// UTF-8.
    pub fn open(root: &Path) -> Result<ImageFolder, DataError> {
        if !root.is_dir() {
            return Err(DataError::NoFolder(root.to_path_buf()));
        }
        let folders = |split: Split| -> Result<Vec<String>, DataError> {
            let path = root.join(split.name());
            if !path.is_dir() {
                let root = root.to_path_buf();
                return Err(DataError::NoSplit {
                    root,
                    split: split.name(),
                });
            }
            let folders = entries(&path, |path, kind| {
                kind.is_dir() || kind.is_symlink() && path.is_dir()
            })?;
            if folders.is_empty() {
                return Err(DataError::NoClasses(path));
            }
            Ok(folders)
        };
        let classes = folders(Split::Train)?;
        let val_classes = folders(Split::Val)?;

        let train = samples(root, Split::Train, &classes, &classes)?;
        let with_images = |label: usize| train.binary_search_by_key(&(label as u32), |s| s.label);
        if let Some(empty) = (0..classes.len()).find(|&label| with_images(label).is_err()) {
            return Err(DataError::NoImages(
                root.join("train").join(&classes[empty]),
            ));
        }
        let val = samples(root, Split::Val, &val_classes, &classes)?;
        if val.is_empty() {
            return Err(DataError::NoImages(root.join("val")));
        }
        Ok(ImageFolder {
            classes,
            splits: [train, val],
        })
    }
}

/// The samples of `folders` of a split, labelled by `classes`.
fn samples(
    root: &Path,
    split: Split,
    folders: &[String],
    classes: &[String],
) -> Result<Vec<Sample>, DataError> {
    let per_class: Vec<Result<Vec<Sample>, DataError>> = folders
        .par_iter()
        .map(|folder| {
            let Ok(label) = classes.binary_search(folder) else {
                let (root, class) = (root.to_path_buf(), folder.clone());
                return Err(DataError::UnknownClass { root, class });
            };
            let files = entries(&root.join(split.name()).join(folder), |path, kind| {
                is_image(path) && (kind.is_file() || kind.is_symlink() && path.is_file())
            })?;
            let path = |file| format!("{}/{folder}/{file}", split.name());
            Ok(files
                .into_iter()
                .map(|file| Sample {
                    path: path(file),
                    label: label as u32,
                })
                .collect())
        })
        .collect();
    let mut all = Vec::new();
    for samples in per_class {
        all.append(&mut samples?);
    }
    Ok(all)
}

/// Names in `folder` that are not hidden and that `wanted` accepts, in byte order.
pub(in crate::data) fn entries(
    folder: &Path,
    wanted: impl Fn(&Path, std::fs::FileType) -> bool,
) -> Result<Vec<String>, DataError> {
    let fail = |e| DataError::io(folder, e);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let path: PathBuf = entry.path();
        if !wanted(&path, entry.file_type().map_err(fail)?) {
            continue;
        }
        let name = entry
            .file_name()
            .into_string()
            .map_err(|_| DataError::NotUtf8(path))?;
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether the extension is an image's.
pub(in crate::data) fn is_image(path: &Path) -> bool {
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or("");
    ["jpg", "jpeg", "png"]
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}
