//! The embedded data set `bluemarble-climate`: 48 x 48 colour patches of NASA's Blue Marble in nine
//! climate zones. Origin and licence stand in `NOTICE.txt` beside the archive.

use super::dataset::Sample;
use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;
use std::sync::LazyLock;

/// Its name.
pub const NAME: &str = "bluemarble-climate";

/// The notice that comes with the data.
pub const NOTICE: &str = include_str!("embedded/bluemarble-climate/NOTICE.txt");

static ARCHIVE: &[u8] = include_bytes!("embedded/bluemarble-climate/bluemarble-climate.tar.gz");

/// The archive's images, still encoded, in one buffer.
struct Unpacked {
    bytes: Vec<u8>,
    files: HashMap<String, Range<usize>>,
}

static UNPACKED: LazyLock<Unpacked> =
    LazyLock::new(|| unpack(ARCHIVE).expect("the archive is part of the program and tested"));

fn unpack(archive: &[u8]) -> std::io::Result<Unpacked> {
    let mut unpacked = Unpacked {
        bytes: Vec::with_capacity(archive.len() * 2),
        files: HashMap::new(),
    };
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        if !entry.header().entry_type().is_file() || !path.contains('/') {
            continue;
        }
        let start = unpacked.bytes.len();
        entry.read_to_end(&mut unpacked.bytes)?;
        unpacked.files.insert(path, start..unpacked.bytes.len());
    }
    Ok(unpacked)
}

/// The encoded bytes of the image at `path` (`train/desert/y1136x0191.jpg`).
pub(in crate::data) fn file(path: &str) -> Option<&'static [u8]> {
    let unpacked: &'static Unpacked = &UNPACKED;
    unpacked
        .files
        .get(path)
        .map(|range| &unpacked.bytes[range.clone()])
}

/// Bytes of all encoded images.
pub(in crate::data) fn size() -> usize {
    UNPACKED.bytes.capacity()
}

/// Classes, and the samples of train and val, in the order of an image folder.
pub(in crate::data) fn index() -> (Vec<String>, [Vec<Sample>; 2]) {
    let mut paths: Vec<&str> = UNPACKED.files.keys().map(String::as_str).collect();
    paths.sort_unstable();
    let class_of = |path: &'static str| path.split('/').nth(1).unwrap_or_default();
    let train = paths.iter().filter(|path| path.starts_with("train/"));
    let mut classes: Vec<String> = train.map(|path| class_of(path).to_owned()).collect();
    classes.dedup();
    let samples = |prefix: &str| {
        let paths = paths.iter().filter(|path| path.starts_with(prefix));
        paths
            .filter_map(|path| {
                let label = classes.binary_search_by(|class| class.as_str().cmp(class_of(path)));
                Some(Sample {
                    path: (*path).to_owned(),
                    label: label.ok()? as u32,
                })
            })
            .collect()
    };
    let splits = [samples("train/"), samples("val/")];
    (classes, splits)
}
