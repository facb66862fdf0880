//! Data sets: named classes, and labelled images in two splits.

use super::content_hash::{Purpose, content_hash, hash_file};
use super::image_folder::ImageFolder;
use super::{DataError, Rgb8, content_hash, decode, embedded};
use crate::rundir::stage::DataShape;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// The two parts of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// What is trained on.
    Train,
    /// What is evaluated on.
    Val,
}

impl Split {
    /// Both.
    pub const ALL: [Split; 2] = [Split::Train, Split::Val];

    /// Its folder's name.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Val => "val",
        }
    }
}

/// A labelled image of a split, not yet decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Path below the data set's root, with `/` between the parts.
    pub path: String,
    /// Index into the classes.
    pub label: u32,
}

/// A data set. Cheap to clone; clones share the cache of decoded images.
#[derive(Debug, Clone)]
pub struct Dataset {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    source: Source,
    classes: Vec<String>,
    splits: [Vec<Sample>; 2],
    decoded: DecodedCache,
}

#[derive(Debug)]
enum Source {
    Embedded,
    Folder(PathBuf),
}

impl Dataset {
    /// The data set that is part of the program, [`embedded::NAME`]. Unpacked once per process.
    pub fn embedded() -> Dataset {
        static EMBEDDED: OnceLock<Dataset> = OnceLock::new();
        EMBEDDED
            .get_or_init(|| {
                let (classes, splits) = embedded::index();
                Dataset::assemble(embedded::NAME.to_owned(), Source::Embedded, classes, splits)
            })
            .clone()
    }

    /// The image folder at `root` (`train/<class>/*`, `val/<class>/*`), called `name`. Only the
    /// directories are read.
    ///
    /// # Errors
    /// See [`ImageFolder::open`].
    pub fn open_folder(name: &str, root: &Path) -> Result<Dataset, DataError> {
        let ImageFolder { classes, splits } = ImageFolder::open(root)?;
        let source = Source::Folder(root.to_path_buf());
        Ok(Dataset::assemble(name.to_owned(), source, classes, splits))
    }

    /// The image folder at `root`, or the embedded data set without one: what a worker is told.
    ///
    /// # Errors
    /// See [`ImageFolder::open`].
    pub fn open(name: &str, root: Option<&Path>) -> Result<Dataset, DataError> {
        match root {
            Some(root) => Dataset::open_folder(name, root),
            None => Ok(Dataset::embedded()),
        }
    }

    /// A data set of `classes` with nothing but the val split `samples`, whose paths are relative to
    /// `root` or name embedded files.
    pub(in crate::data) fn of_samples(
        name: &str,
        root: Option<&Path>,
        classes: &[String],
        samples: Vec<Sample>,
    ) -> Dataset {
        let source = root.map_or(Source::Embedded, |root| Source::Folder(root.to_path_buf()));
        let splits = [Vec::new(), samples];
        // It is gone through once, with the final weights: nothing of it is kept.
        Dataset::keeping(name.to_owned(), source, classes.to_vec(), splits, 0)
    }

    fn assemble(
        name: String,
        source: Source,
        classes: Vec<String>,
        splits: [Vec<Sample>; 2],
    ) -> Dataset {
        Dataset::keeping(name, source, classes, splits, CACHE_BYTES)
    }

    fn keeping(
        name: String,
        source: Source,
        classes: Vec<String>,
        splits: [Vec<Sample>; 2],
        capacity: usize,
    ) -> Dataset {
        let decoded = DecodedCache::new(splits.each_ref().map(Vec::len), capacity);
        Dataset {
            inner: Arc::new(Inner {
                name,
                source,
                classes,
                splits,
                decoded,
            }),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Names of the classes; a label is an index into them.
    pub fn classes(&self) -> &[String] {
        &self.inner.classes
    }

    /// The samples of `split`: sorted by class, then by file name.
    pub fn samples(&self, split: Split) -> &[Sample] {
        &self.inner.splits[split as usize]
    }

    /// Number of images in `split`.
    pub fn len(&self, split: Split) -> usize {
        self.samples(split).len()
    }

    /// The label of image `index` of `split`. Panics if there is no such image.
    pub fn label(&self, split: Split, index: usize) -> u32 {
        self.samples(split)[index].label
    }

    /// Number of classes and images.
    pub fn shape(&self) -> DataShape {
        DataShape {
            classes: self.inner.classes.len(),
            train_images: self.len(Split::Train),
            val_images: self.len(Split::Val),
            kept_bytes: self.kept_bytes(),
        }
    }

    /// Bytes that a process comes to keep of this data set: decoded images, as far as a few of each split tell,
    /// the index, and the encoded files of the embedded one.
    fn kept_bytes(&self) -> u64 {
        let splits = Split::ALL.iter().map(|&split| {
            let count = self.len(split);
            let looked = count.min(PROBES);
            let sizes: Vec<usize> = (0..looked)
                .filter_map(|probe| self.decoded_size(split, probe * count / looked))
                .map(|size| if size <= LARGEST_CACHED { size } else { 0 })
                .collect();
            let total = sizes.iter().sum::<usize>() as u64 * count as u64;
            total.checked_div(sizes.len() as u64).unwrap_or(0)
        });
        let images = splits.sum::<u64>().min(self.inner.decoded.capacity as u64);
        let encoded = match self.inner.source {
            Source::Embedded => embedded::size() as u64,
            Source::Folder(_) => 0,
        };
        let count = self.len(Split::Train) + self.len(Split::Val);
        images + encoded + INDEX_BYTES * count as u64
    }

    /// Bytes of image `index` of `split` when it is decoded, from its header; `None` if it can't be read.
    fn decoded_size(&self, split: Split, index: usize) -> Option<usize> {
        let sample = &self.samples(split)[index];
        let size = match &self.inner.source {
            Source::Embedded => {
                let bytes = embedded::file(&sample.path)?;
                image::ImageReader::new(std::io::Cursor::new(bytes))
                    .with_guessed_format()
                    .ok()?
                    .into_dimensions()
            }
            Source::Folder(root) => image::ImageReader::open(root.join(&sample.path))
                .ok()?
                .with_guessed_format()
                .ok()?
                .into_dimensions(),
        };
        let (width, height) = size.ok()?;
        Some(3 * width as usize * height as usize)
    }

    /// What errors call image `index` of `split`.
    pub fn file(&self, split: Split, index: usize) -> String {
        let path = &self.samples(split)[index].path;
        match &self.inner.source {
            Source::Embedded => format!("{}:{path}", embedded::NAME),
            Source::Folder(root) => root.join(path).display().to_string(),
        }
    }

    /// Image `index` of `split`, decoded. Small images are decoded once and kept, up to
    /// [`CACHE_BYTES`]; those of a further evaluation set aren't. Panics if there is no such image.
    ///
    /// # Errors
    /// The file cannot be read or decoded; the error names it.
    pub fn image(&self, split: Split, index: usize) -> Result<Arc<Rgb8>, DataError> {
        let slot = &self.inner.decoded.slots[split as usize][index];
        if let Some(image) = slot.get() {
            return Ok(image.clone());
        }
        let sample = &self.samples(split)[index];
        let image = match &self.inner.source {
            Source::Embedded => {
                let bytes = embedded::file(&sample.path).unwrap_or_default();
                decode::decode(bytes, &self.file(split, index))?
            }
            Source::Folder(root) => {
                let path = root.join(&sample.path);
                let bytes = std::fs::read(&path).map_err(|e| DataError::io(&path, e))?;
                decode::decode(&bytes, &self.file(split, index))?
            }
        };
        let image = Arc::new(image);
        if self.inner.decoded.admits(image.data().len()) {
            // Another thread may have been first; its image is the same.
            let _ = slot.set(image.clone());
        }
        Ok(image)
    }

    /// Content hash: 128 bits of BLAKE3 in 32 hexadecimal digits, over the relative path and the
    /// content of every image. A folder's is remembered between processes, so that asking again
    /// costs a walk over the directories only.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn hash(&self) -> Result<String, DataError> {
        let cache = content_hash::default_cache_dir();
        self.hash_of(self.paths(), Purpose::Training, cache.as_deref())
    }

    /// Content hash of these files of the data set.
    pub(in crate::data) fn hash_of(
        &self,
        paths: Vec<&str>,
        purpose: Purpose,
        cache: Option<&Path>,
    ) -> Result<String, DataError> {
        match &self.inner.source {
            Source::Embedded => {
                let file = |path: &str| Ok(hash_file(embedded::file(path).unwrap_or_default()));
                content_hash(paths, file)
            }
            Source::Folder(root) => content_hash::folder_hash(root, paths, purpose, cache),
        }
    }

    /// Relative paths of all images.
    fn paths(&self) -> Vec<&str> {
        self.inner
            .splits
            .iter()
            .flatten()
            .map(|sample| sample.path.as_str())
            .collect()
    }
}

/// Bytes of decoded images that a data set keeps.
pub const CACHE_BYTES: usize = 256 << 20;

/// Larger images are not kept: for them reading and decoding is not what repeats cheaply.
const LARGEST_CACHED: usize = 64 << 10;

/// Images of a split whose size is looked at for an estimate of memory.
const PROBES: usize = 8;

/// Bytes of an image's entry in the index: path, label, place in the cache and in the order of an epoch.
const INDEX_BYTES: u64 = 150;

#[derive(Debug)]
struct DecodedCache {
    slots: [Vec<OnceLock<Arc<Rgb8>>>; 2],
    bytes: AtomicUsize,
    capacity: usize,
}

impl DecodedCache {
    /// Keeps up to `capacity` bytes.
    fn new(lengths: [usize; 2], capacity: usize) -> DecodedCache {
        let slots = lengths.map(|n| std::iter::repeat_with(OnceLock::new).take(n).collect());
        DecodedCache {
            slots,
            bytes: AtomicUsize::new(0),
            capacity,
        }
    }

    /// Whether an image of `bytes` may be kept; if so it is counted.
    fn admits(&self, bytes: usize) -> bool {
        bytes <= LARGEST_CACHED
            && self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.capacity
    }
}
