//! The content hash of a data set, and its memory between processes.
//!
//! The hash is BLAKE3 over, for every image in byte order of the relative paths: the length of the
//! path, the path, and the BLAKE3 of the file's bytes. A folder and the same files embedded have the
//! same hash.
//!
//! Reading a large data set takes minutes, so a folder's hash is remembered in a small file of the
//! user's cache, under a signature of its root and of every file's size and time of change. The
//! memory is only ever a shortcut: a missing, damaged or outdated file is ignored.

use super::DataError;
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const FORMAT: &str = "ablate data hash 1";

/// A file changed more recently than this may change again within the resolution of its time
/// stamp, so the hash is not remembered yet.
const SETTLED: Duration = Duration::from_secs(2);

/// What a folder is read as. Each reads other files of it, and so has a memory of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::data) enum Purpose {
    Training,
    Evaluation,
}

/// BLAKE3 of a file's bytes.
pub(in crate::data) fn hash_file(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

/// Content hash of the files at `paths`, whose contents `file` hashes; in parallel.
pub(in crate::data) fn content_hash(
    mut paths: Vec<&str>,
    file: impl Fn(&str) -> Result<[u8; 32], DataError> + Sync,
) -> Result<String, DataError> {
    paths.sort_unstable();
    let files: Vec<Result<[u8; 32], DataError>> = paths.par_iter().map(|path| file(path)).collect();
    let mut hasher = blake3::Hasher::new();
    for (path, file) in paths.iter().zip(files) {
        hasher.update(&(path.len() as u64).to_le_bytes());
        hasher.update(path.as_bytes());
        hasher.update(&file?);
    }
    Ok(hex128(&hasher))
}

/// Content hash of the files `paths` below `root`, remembered in `cache` if there is one.
pub(in crate::data) fn folder_hash(
    root: &Path,
    paths: Vec<&str>,
    purpose: Purpose,
    cache: Option<&Path>,
) -> Result<String, DataError> {
    let read = |path: &str| {
        let path = root.join(path);
        std::fs::read(&path)
            .map(|bytes| hash_file(&bytes))
            .map_err(|e| DataError::io(&path, e))
    };
    let Some(cache) = cache else {
        return content_hash(paths, read);
    };
    let root_path = std::path::absolute(root).unwrap_or_else(|_| root.to_path_buf());
    let mut memory = named(&root_path);
    if purpose == Purpose::Evaluation {
        memory.update(b"evaluation");
    }
    let file = cache.join(format!("{}.txt", hex128(&memory)));
    let Signature { digest, settled } = signature(&root_path, &paths)?;
    if let Some(hash) = recall(&file, &digest) {
        return Ok(hash);
    }
    let hash = content_hash(paths, read)?;
    if settled {
        remember(&file, &digest, &hash);
    }
    Ok(hash)
}

/// `$XDG_CACHE_HOME/ablate/data`, or `~/.cache/ablate/data`.
pub(in crate::data) fn default_cache_dir() -> Option<PathBuf> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(cache.join("ablate").join("data"))
}

struct Signature {
    digest: String,
    /// Whether no file changed just now.
    settled: bool,
}

/// Digest of the root, and of every file's path, size and time of change.
fn signature(root: &Path, paths: &[&str]) -> Result<Signature, DataError> {
    let stats: Vec<Result<(u64, Duration), DataError>> = paths
        .par_iter()
        .map(|path| {
            let path = root.join(path);
            let stat = std::fs::metadata(&path).map_err(|e| DataError::io(&path, e))?;
            let changed = stat.modified().map_err(|e| DataError::io(&path, e))?;
            Ok((
                stat.len(),
                changed.duration_since(UNIX_EPOCH).unwrap_or_default(),
            ))
        })
        .collect();
    let mut hasher = named(root);
    let mut newest = Duration::ZERO;
    for (path, stat) in paths.iter().zip(stats) {
        let (size, changed) = stat?;
        newest = newest.max(changed);
        hasher.update(&(path.len() as u64).to_le_bytes());
        hasher.update(path.as_bytes());
        hasher.update(&size.to_le_bytes());
        hasher.update(&changed.as_nanos().to_le_bytes());
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Ok(Signature {
        digest: hex128(&hasher),
        settled: newest + SETTLED < now,
    })
}

fn named(root: &Path) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    hasher.update(root.as_os_str().as_encoded_bytes());
    hasher.update(&[0]);
    hasher
}

fn hex128(hasher: &blake3::Hasher) -> String {
    hasher.finalize().to_hex()[..32].to_owned()
}

/// The text of a memory: three lines, and their own hash against damage.
fn memory(signature: &str, hash: &str) -> String {
    let body = format!("{FORMAT}\n{signature}\n{hash}\n");
    let check = blake3::hash(body.as_bytes()).to_hex();
    format!("{body}{check}\n")
}

fn recall(file: &Path, signature: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let hash = text.lines().nth(2)?;
    (text == memory(signature, hash)).then(|| hash.to_owned())
}

/// Written beside and renamed: a reader sees all of it or nothing. Failing costs time later, no more.
fn remember(file: &Path, signature: &str, hash: &str) {
    let write = || -> std::io::Result<()> {
        let folder = file.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut beside = tempfile::NamedTempFile::new_in(folder)?;
        std::io::Write::write_all(&mut beside, memory(signature, hash).as_bytes())?;
        beside.persist(file)?;
        Ok(())
    };
    let _ = write();
}
