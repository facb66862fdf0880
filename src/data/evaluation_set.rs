//! Evaluation sets: images that a trained model is evaluated on, labelled by the classes of its
//! training set.
//!
//! A set is an image folder, `val/<class>/*` or with the class folders right under its root. Folders are
//! named as those of the training set, or by the number of the class among them, sorted, as ImageNet-V2 is
//! published; a class may be missing. Where the root holds a file of labels
//! ([`LABEL_FILES`]), that file says what an image shows, folders mean nothing, and an image may have
//! several labels: "Are we done with ImageNet?" (arXiv 2006.07159) counts a prediction as right if it is
//! one of them, and leaves images without any out.

use super::content_hash::{self, Purpose};
use super::dataset::Sample;
use super::image_folder::{entries, is_image};
use super::{DataError, Dataset, Split};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Files of labels, relative to a set's root; the first that is there counts.
pub const LABEL_FILES: [&str; 2] = ["labels.json", "real.json"];

/// Images with the classes that they show.
#[derive(Debug, Clone)]
pub struct EvaluationSet {
    dataset: Dataset,
    /// Labels by image, where a file gives them; else the data set's own.
    labels: Option<Vec<Vec<u32>>>,
    /// The file of labels, relative to the root.
    label_file: Option<&'static str>,
}

impl EvaluationSet {
    /// The val split of the data set that was trained on.
    pub fn val(dataset: &Dataset) -> EvaluationSet {
        EvaluationSet {
            dataset: dataset.clone(),
            labels: None,
            label_file: None,
        }
    }

    /// The set called `name` in the folder `root`, or the embedded data set's val split without one, for
    /// a model of `classes`. Only directories and the file of labels are read.
    ///
    /// # Errors
    /// No such folder, no images, a class that is not among `classes`, a file of labels that can't be
    /// understood or doesn't fit the images.
    pub fn open(
        name: &str,
        root: Option<&Path>,
        classes: &[String],
    ) -> Result<EvaluationSet, DataError> {
        let numbers: HashMap<&str, u32> = classes
            .iter()
            .enumerate()
            .map(|(number, class)| (class.as_str(), number as u32))
            .collect();
        let unknown = |class: &str| DataError::UnknownSetClass {
            set: name.to_owned(),
            class: class.to_owned(),
        };
        let Some(root) = root else {
            let embedded = Dataset::embedded();
            let mut samples = embedded.samples(Split::Val).to_vec();
            for sample in &mut samples {
                let class = &embedded.classes()[sample.label as usize];
                sample.label = *numbers.get(class.as_str()).ok_or_else(|| unknown(class))?;
            }
            let dataset = Dataset::of_samples(name, None, classes, samples);
            return Ok(EvaluationSet {
                dataset,
                labels: None,
                label_file: None,
            });
        };
        if !root.is_dir() {
            return Err(DataError::NoFolder(root.to_path_buf()));
        }
        let below = if root.join("val").is_dir() {
            "val/"
        } else {
            ""
        };
        let label_file = LABEL_FILES
            .into_iter()
            .find(|file| root.join(file).is_file());
        let (samples, labels) = match label_file {
            None => (by_folders(root, below, &numbers, &unknown)?, None),
            Some(file) => {
                let file = LabelFile::read(&root.join(file), &numbers)?;
                let (samples, labels) = file.label(images(root, below)?, below)?;
                (samples, Some(labels))
            }
        };
        if samples.is_empty() {
            return Err(DataError::NoImages(root.join(below)));
        }
        Ok(EvaluationSet {
            dataset: Dataset::of_samples(name, Some(root), classes, samples),
            labels,
            label_file,
        })
    }

    /// The images, as the val split of a data set. Of several labels its label is the first.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.dataset.len(Split::Val)
    }

    /// Whether it has no image; sets that were opened have some.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What image `index` shows: one class or more, ascending. Panics if there is no such image.
    pub fn labels(&self, index: usize) -> &[u32] {
        match &self.labels {
            Some(labels) => &labels[index],
            None => std::slice::from_ref(&self.dataset.samples(Split::Val)[index].label),
        }
    }

    /// Whether every image has one label, so that its rank and its loss mean something.
    pub fn is_single_labelled(&self) -> bool {
        (0..self.len()).all(|index| self.labels(index).len() == 1)
    }

    /// Content hash over the images and the file of labels, as [`Dataset::hash`]; remembered alike.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn hash(&self) -> Result<String, DataError> {
        let samples = self.dataset.samples(Split::Val);
        let mut paths: Vec<&str> = samples.iter().map(|sample| sample.path.as_str()).collect();
        paths.extend(self.label_file);
        let cache = content_hash::default_cache_dir();
        self.dataset
            .hash_of(paths, Purpose::Evaluation, cache.as_deref())
    }
}

/// The samples of class folders: by class folder, then by file name, in byte order.
fn by_folders(
    root: &Path,
    below: &str,
    numbers: &HashMap<&str, u32>,
    unknown: &dyn Fn(&str) -> DataError,
) -> Result<Vec<Sample>, DataError> {
    let base = root.join(below);
    let folders = folders(&base)?;
    if folders.is_empty() {
        return Err(DataError::NoClasses(base));
    }
    let numbered = are_numbers(&folders, numbers);
    let mut samples = Vec::new();
    for class in folders {
        let label = match numbered {
            true => class.parse().map_err(|_| unknown(&class))?,
            false => *numbers.get(class.as_str()).ok_or_else(|| unknown(&class))?,
        };
        let files = files(&base.join(&class))?;
        samples.extend(files.into_iter().map(|file| Sample {
            path: format!("{below}{class}/{file}"),
            label,
        }));
    }
    Ok(samples)
}

/// Whether folders are named by the numbers of classes (`0` to `999`) and not by their names. Where a
/// number is also the name of a class, names count.
fn are_numbers(folders: &[String], numbers: &HashMap<&str, u32>) -> bool {
    folders.iter().all(|folder| {
        let number = folder
            .parse()
            .is_ok_and(|number: usize| number < numbers.len());
        number && !numbers.contains_key(folder.as_str())
    })
}

/// Paths of all images, relative to the root: those right in the folder, then those in its folders.
fn images(root: &Path, below: &str) -> Result<Vec<String>, DataError> {
    let base = root.join(below);
    let mut paths: Vec<String> = files(&base)?
        .into_iter()
        .map(|file| format!("{below}{file}"))
        .collect();
    for folder in folders(&base)? {
        let files = files(&base.join(&folder))?;
        paths.extend(files.iter().map(|file| format!("{below}{folder}/{file}")));
    }
    Ok(paths)
}

fn folders(base: &Path) -> Result<Vec<String>, DataError> {
    entries(base, |path, kind| {
        kind.is_dir() || kind.is_symlink() && path.is_dir()
    })
}

fn files(folder: &Path) -> Result<Vec<String>, DataError> {
    entries(folder, |path, kind| {
        is_image(path) && (kind.is_file() || kind.is_symlink() && path.is_file())
    })
}

/// A file of labels.
struct LabelFile {
    path: PathBuf,
    entries: Entries,
}

enum Entries {
    /// By path, relative to the root or to `val`, or by file name.
    ByPath(HashMap<String, Vec<u32>>),
    /// By the number in the names of ImageNet's validation images (`ILSVRC2012_val_00000001.JPEG` is
    /// the first): the form in which the ReaL labels are published.
    ByNumber(Vec<Vec<u32>>),
}

impl LabelFile {
    fn read(path: &Path, numbers: &HashMap<&str, u32>) -> Result<LabelFile, DataError> {
        let wrong = |message: String| DataError::Labels {
            path: path.to_path_buf(),
            message,
        };
        let text = std::fs::read_to_string(path).map_err(|error| DataError::io(path, error))?;
        let json: Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let entries = match json {
            Value::Object(map) => Entries::ByPath(
                map.into_iter()
                    .map(|(key, value)| {
                        let labels = labels(&value, numbers)
                            .map_err(|message| wrong(format!("`{key}`: {message}")))?;
                        Ok((key, labels))
                    })
                    .collect::<Result<_, DataError>>()?,
            ),
            Value::Array(list) => Entries::ByNumber(
                list.iter()
                    .enumerate()
                    .map(|(index, value)| {
                        labels(value, numbers)
                            .map_err(|message| wrong(format!("entry {}: {message}", index + 1)))
                    })
                    .collect::<Result<_, DataError>>()?,
            ),
            _ => {
                return Err(wrong(
                    "a map from files to lists of classes is expected".to_owned(),
                ));
            }
        };
        Ok(LabelFile {
            path: path.to_path_buf(),
            entries,
        })
    }

    /// The images of `paths` that have labels, and their labels.
    fn label(
        &self,
        paths: Vec<String>,
        below: &str,
    ) -> Result<(Vec<Sample>, Vec<Vec<u32>>), DataError> {
        let wrong = |message: String| DataError::Labels {
            path: self.path.clone(),
            message,
        };
        let mut used = HashSet::new();
        let (mut samples, mut all) = (Vec::new(), Vec::new());
        for path in paths {
            let labels = match &self.entries {
                Entries::ByPath(map) => {
                    let inside = path.strip_prefix(below).unwrap_or(&path);
                    let file = path.rsplit('/').next().unwrap_or(&path);
                    let (key, labels) = [&path, inside, file]
                        .into_iter()
                        .find_map(|key| map.get_key_value(key))
                        .ok_or_else(|| wrong(format!("it has no entry for {path}")))?;
                    if !used.insert(key.as_str()) {
                        return Err(wrong(format!(
                            "`{key}` is the name of several images; write their paths"
                        )));
                    }
                    labels
                }
                Entries::ByNumber(list) => number(&path)
                    .and_then(|number| list.get(number.checked_sub(1)?))
                    .ok_or_else(|| {
                        wrong(format!(
                            "a list goes by the numbers of ImageNet's validation images, and {path} has none up to {}",
                            list.len()
                        ))
                    })?,
            };
            if let Some(&label) = labels.first() {
                samples.push(Sample { path, label });
                all.push(labels.clone());
            }
        }
        if let Entries::ByPath(map) = &self.entries
            && let Some(key) = map
                .iter()
                .filter(|(key, labels)| !labels.is_empty() && !used.contains(key.as_str()))
                .map(|(key, _)| key)
                .min()
        {
            return Err(wrong(format!("there is no image for its entry `{key}`")));
        }
        Ok((samples, all))
    }
}

/// One class or a list of them, by index or by name; ascending, each once.
fn labels(value: &Value, numbers: &HashMap<&str, u32>) -> Result<Vec<u32>, String> {
    let one = |value: &Value| match value {
        Value::String(class) => numbers
            .get(class.as_str())
            .copied()
            .ok_or_else(|| format!("class `{class}` is not in the training set")),
        Value::Number(number) => number
            .as_u64()
            .filter(|&number| number < numbers.len() as u64)
            .map(|number| number as u32)
            .ok_or_else(|| {
                format!(
                    "class {number} is not in the training set, which has {} classes",
                    numbers.len()
                )
            }),
        _ => Err("a class is a name or an index".to_owned()),
    };
    let mut labels: Vec<u32> = match value {
        Value::Array(items) => items.iter().map(one).collect::<Result<_, _>>()?,
        single => vec![one(single)?],
    };
    labels.sort_unstable();
    labels.dedup();
    Ok(labels)
}

/// The number at the end of a file's name, its extension left out.
fn number(path: &str) -> Option<usize> {
    let stem = Path::new(path).file_stem()?.to_str()?;
    stem.rsplit('_').next()?.parse().ok()
}
