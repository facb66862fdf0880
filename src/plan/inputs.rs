//! Files that programs read: found by the patterns of an experiment, hashed, and hashed again before they are used.

use crate::rundir::stage::InputFile;
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Most files of a stage.
const MOST: usize = 100_000;

/// Why inputs can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("no file matches `{0}`")]
    Missing(String),
    #[error("`{pattern}` matches more than {MOST} files")]
    TooMany { pattern: String },
    #[error("can't read {path}: {source}")]
    Read { path: String, source: io::Error },
    /// Found when a stage starts.
    #[error("{path} has changed since the experiment was planned; plan it again")]
    Changed { path: String },
}

/// The files in `folder` that `pattern` names, hashed, by path. A folder stands for all files below it; `*` and `?` match
/// within a name, `**` any number of folders.
///
/// # Errors
/// None matches, too many do, or one can't be read.
pub fn find(folder: &Path, pattern: &str) -> Result<Vec<InputFile>, InputError> {
    let mut paths = Vec::new();
    let parts: Vec<&str> = pattern.split('/').collect();
    let (start, parts) = match parts.split_first() {
        Some((&"", rest)) => (PathBuf::from("/"), rest),
        _ => (folder.to_owned(), &parts[..]),
    };
    let prefix = if pattern.starts_with('/') { "/" } else { "" };
    matching(&start, prefix, parts, pattern, &mut paths)?;
    paths.sort();
    paths.dedup();
    if paths.is_empty() {
        return Err(InputError::Missing(pattern.to_owned()));
    }
    paths
        .into_iter()
        .map(|path| {
            let file = folder.join(&path);
            match hash(&file) {
                Ok(hash) => Ok(InputFile { path, hash }),
                Err(source) => Err(InputError::Read {
                    path: file.display().to_string(),
                    source,
                }),
            }
        })
        .collect()
}

/// Whether the files in `folder` are still those that were planned.
///
/// # Errors
/// One has changed, or can't be read.
pub fn check(folder: &Path, inputs: &[InputFile]) -> Result<(), InputError> {
    for input in inputs {
        let path = folder.join(&input.path);
        let found = hash(&path).map_err(|source| InputError::Read {
            path: path.display().to_string(),
            source,
        })?;
        if found != input.hash {
            return Err(InputError::Changed {
                path: path.display().to_string(),
            });
        }
    }
    Ok(())
}

/// What tells a file from what it was before: size, time of change in nanoseconds, and number.
type Stamp = (u64, i64, i64, u64);

/// BLAKE3 of a file. A file that this process has hashed before and that wasn't written since isn't read again: every
/// stage of an experiment reads the same ones.
fn hash(path: &Path) -> io::Result<String> {
    static KNOWN: Mutex<Option<HashMap<PathBuf, (Stamp, String)>>> = Mutex::new(None);
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let stamp = (
        metadata.size(),
        metadata.ctime(),
        metadata.ctime_nsec(),
        metadata.ino(),
    );
    let known = |map: &Option<HashMap<PathBuf, (Stamp, String)>>| {
        let (then, hash) = map.as_ref()?.get(path)?;
        (*then == stamp).then(|| hash.clone())
    };
    if let Some(hash) = known(&KNOWN.lock().unwrap_or_else(PoisonError::into_inner)) {
        return Ok(hash);
    }
    let hash = super::init::file_hash(path)?;
    // A file that was changed a moment ago may change again within the clock's grain.
    let age = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |now| now.as_secs() as i64)
        - metadata.ctime();
    if age >= 2 {
        KNOWN
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_default()
            .insert(path.to_owned(), (stamp, hash.clone()));
    }
    Ok(hash)
}

/// Adds the files below `folder` that the parts of a pattern match; `prefix` is its path so far.
fn matching(
    folder: &Path,
    prefix: &str,
    parts: &[&str],
    pattern: &str,
    found: &mut Vec<String>,
) -> Result<(), InputError> {
    if found.len() > MOST {
        return Err(InputError::TooMany {
            pattern: pattern.to_owned(),
        });
    }
    let failed = |source| InputError::Read {
        path: folder.display().to_string(),
        source,
    };
    let joined = |name: &str| match prefix {
        "" | "/" => format!("{prefix}{name}"),
        prefix => format!("{prefix}/{name}"),
    };
    let Some((part, rest)) = parts.split_first() else {
        // A folder at the end stands for all that it holds.
        return matching(folder, prefix, &["**", "*"], pattern, found);
    };
    if part.is_empty() || *part == "." {
        return matching(folder, prefix, rest, pattern, found);
    }
    if !part.contains(['*', '?']) {
        let path = folder.join(part);
        return if path.is_dir() {
            matching(&path, &joined(part), rest, pattern, found)
        } else {
            if rest.is_empty() && path.exists() {
                found.push(joined(part));
            }
            Ok(())
        };
    }
    if !folder.is_dir() {
        return Ok(());
    }
    let deep = *part == "**";
    if deep {
        matching(folder, prefix, rest, pattern, found)?;
    }
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        // A name that is no UTF-8 can't be written in an experiment, nor in JSON.
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
            continue;
        };
        let path = entry.path();
        // Links to folders are not followed by `**`: they may lead in a circle.
        let is_folder = entry.file_type().map_err(failed)?.is_dir();
        if deep {
            if is_folder {
                matching(&path, &joined(name), parts, pattern, found)?;
            }
        } else if is_match(part, name) {
            if path.is_dir() {
                if !rest.is_empty() {
                    matching(&path, &joined(name), rest, pattern, found)?;
                }
            } else if rest.is_empty() {
                found.push(joined(name));
            }
        }
    }
    Ok(())
}

/// Whether `name` matches a pattern of `*` (any characters) and `?` (one).
fn is_match(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last `*` stands, and what it has swallowed up to.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p, n));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == '?' || pattern[p] == name[n]) {
            p += 1;
            n += 1;
        } else if let Some((at, swallowed)) = star {
            star = Some((at, swallowed + 1));
            p = at + 1;
            n = swallowed + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("train.py", "a"),
            ("data/1.csv", "b"),
            ("data/2.csv", "c"),
            ("data/deep/3.csv", "d"),
            ("data/.hidden", "e"),
            ("data/notes.txt", "f"),
        ] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    fn names(folder: &Path, pattern: &str) -> Vec<String> {
        let found = find(folder, pattern).unwrap();
        found.into_iter().map(|input| input.path).collect()
    }

    #[test]
    fn patterns_find_files() {
        let folder = folder();
        let folder = folder.path();
        assert_eq!(names(folder, "train.py"), ["train.py"]);
        assert_eq!(names(folder, "data/*.csv"), ["data/1.csv", "data/2.csv"]);
        assert_eq!(names(folder, "./data/?.csv"), ["data/1.csv", "data/2.csv"]);
        let all = ["data/1.csv", "data/2.csv", "data/deep/3.csv"];
        assert_eq!(names(folder, "**/*.csv"), all);
        assert_eq!(names(folder, "data/**/*.csv"), all);
        let below = [
            "data/1.csv",
            "data/2.csv",
            "data/deep/3.csv",
            "data/notes.txt",
        ];
        assert_eq!(names(folder, "data"), below);
        assert_eq!(names(folder, "data/"), below);
        let absolute = folder.join("data/1.csv").display().to_string();
        assert_eq!(names(folder, &absolute), std::slice::from_ref(&absolute));
        for missing in ["data/*.png", "nothing", "train.py/x", "x/*"] {
            assert!(
                matches!(find(folder, missing), Err(InputError::Missing(_))),
                "{missing}"
            );
        }
    }

    #[test]
    fn a_changed_file_is_seen() {
        let folder = folder();
        let inputs = find(folder.path(), "data/*.csv").unwrap();
        assert_eq!(inputs[0].hash, blake3::hash(b"b").to_hex().as_str());
        check(folder.path(), &inputs).unwrap();
        std::fs::write(folder.path().join("data/2.csv"), "C").unwrap();
        let error = check(folder.path(), &inputs).unwrap_err();
        assert!(error.to_string().contains("2.csv has changed"), "{error}");
        std::fs::remove_file(folder.path().join("data/1.csv")).unwrap();
        assert!(matches!(
            check(folder.path(), &inputs),
            Err(InputError::Read { .. })
        ));
    }

    #[test]
    fn stars_match_any_characters() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*.csv", "a.csv", true),
            ("*.csv", "a.csv.gz", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b", false),
            ("?", "é", true),
            ("??", "é", false),
        ] {
            assert_eq!(is_match(pattern, name), expected, "{pattern} {name}");
        }
    }
}
