//! Files that programs read: found by the patterns of an experiment, hashed, and hashed again before they are used.

use crate::rundir::stage::InputFile;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
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
    #[error("`{pattern}` matches more than {MOST} files, or leads through as many folders")]
    TooMany { pattern: String },
    /// Neither an experiment nor a plan, which is JSON, could name it.
    #[error("the name of {path} is not UTF-8: rename it, or leave it out")]
    NotText { path: String },
    #[error("can't read {path}: {source}")]
    Read { path: String, source: io::Error },
    /// Found when a stage starts.
    #[error("{path} has changed since the experiment was planned; plan it again")]
    Changed { path: String },
}

/// The files in `folder` that `pattern` names, hashed, by path. A folder stands for all files below it, hidden ones left
/// out; `*` and `?` match within a name, `**` any number of folders. Links are followed.
///
/// # Errors
/// None matches, too many do, or one can't be read.
pub fn find(folder: &Path, pattern: &str) -> Result<Vec<InputFile>, InputError> {
    let parts: Vec<&str> = pattern.split('/').collect();
    let (start, parts) = match parts.split_first() {
        Some((&"", rest)) => (PathBuf::from("/"), rest),
        _ => (folder.to_owned(), &parts[..]),
    };
    let prefix = if pattern.starts_with('/') { "/" } else { "" };
    let mut search = Search {
        pattern,
        found: Vec::new(),
        above: Vec::new(),
        folders: 0,
    };
    search.matching(&start, prefix, parts, false)?;
    let mut paths = search.found;
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

/// Folders by their numbers: device and inode.
type Identity = (u64, u64);

/// A search for the files that one pattern names. Links are followed, to folders, too; one that leads back to a folder
/// that it lies in holds nothing new and is left.
struct Search<'s> {
    pattern: &'s str,
    found: Vec<String>,
    /// The folders that lead to where the search is.
    above: Vec<Identity>,
    /// How many were opened.
    folders: usize,
}

impl Search<'_> {
    /// Adds the files in `folder` that the parts of a pattern match; `prefix` is its path so far. `deep`: folders
    /// below are looked through anyway.
    fn matching(
        &mut self,
        folder: &Path,
        prefix: &str,
        parts: &[&str],
        deep: bool,
    ) -> Result<(), InputError> {
        let Some((part, rest)) = parts.split_first() else {
            // A folder at the end stands for all that it holds.
            return self.each(folder, |search, name, path, is_folder| {
                let name = text(name, &path)?;
                search.add(&joined(prefix, name), &path, is_folder)
            });
        };
        if part.is_empty() || *part == "." {
            return self.matching(folder, prefix, rest, deep);
        }
        if *part == "**" {
            if rest.iter().all(|part| matches!(*part, "" | "." | "**")) {
                return self.matching(folder, prefix, &[], false);
            }
            self.matching(folder, prefix, rest, true)?;
            return self.each(folder, |search, name, path, is_folder| match is_folder {
                true => {
                    let prefix = joined(prefix, text(name, &path)?);
                    search.matching(&path, &prefix, parts, true)
                }
                false => Ok(()),
            });
        }
        if !part.contains(['*', '?']) {
            let path = folder.join(part);
            return if path.is_dir() {
                self.matching(&path, &joined(prefix, part), rest, false)
            } else {
                if rest.is_empty() && path.symlink_metadata().is_ok() {
                    self.push(joined(prefix, part))?;
                }
                Ok(())
            };
        }
        if !folder.is_dir() {
            return Ok(());
        }
        self.each(folder, |search, name, path, is_folder| {
            if !is_match(part, &name.to_string_lossy()) {
                return Ok(());
            }
            let name = joined(prefix, text(name, &path)?);
            match (is_folder, rest.is_empty()) {
                (true, false) => search.matching(&path, &name, rest, false),
                (true, true) if deep => Ok(()),
                (_, true) => search.add(&name, &path, is_folder),
                (false, false) => Ok(()),
            }
        })
    }

    /// Adds a file, or all files below a folder.
    fn add(&mut self, name: &str, path: &Path, is_folder: bool) -> Result<(), InputError> {
        match is_folder {
            true => self.matching(path, name, &[], false),
            false => self.push(name.to_owned()),
        }
    }

    fn push(&mut self, name: String) -> Result<(), InputError> {
        self.found.push(name);
        match self.found.len() > MOST {
            true => Err(self.too_many()),
            false => Ok(()),
        }
    }

    fn too_many(&self) -> InputError {
        InputError::TooMany {
            pattern: self.pattern.to_owned(),
        }
    }

    /// Calls `each` with the name and path of every entry of a folder that isn't hidden, and whether it is a folder.
    fn each(
        &mut self,
        folder: &Path,
        mut each: impl FnMut(&mut Self, &OsStr, PathBuf, bool) -> Result<(), InputError>,
    ) -> Result<(), InputError> {
        let failed = |source| InputError::Read {
            path: folder.display().to_string(),
            source,
        };
        let metadata = std::fs::metadata(folder).map_err(failed)?;
        let identity = (metadata.dev(), metadata.ino());
        if self.above.contains(&identity) {
            return Ok(());
        }
        // Links can make many ways of few folders.
        self.folders += 1;
        if self.folders > MOST {
            return Err(self.too_many());
        }
        self.above.push(identity);
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if name.as_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            let is_folder = path.is_dir();
            each(self, &name, path, is_folder)?;
        }
        self.above.pop();
        Ok(())
    }
}

/// A name as it is written in a plan.
fn text<'n>(name: &'n OsStr, path: &Path) -> Result<&'n str, InputError> {
    name.to_str().ok_or_else(|| InputError::NotText {
        path: format!("{}", path.display()),
    })
}

/// The path of `name` below `prefix`.
fn joined(prefix: &str, name: &str) -> String {
    match prefix {
        "" | "/" => format!("{prefix}{name}"),
        prefix => format!("{prefix}/{name}"),
    }
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
    fn links_are_followed_and_not_in_circles() {
        use std::os::unix::fs::symlink;
        let folder = folder();
        let folder = folder.path();
        std::fs::create_dir_all(folder.join("real/more")).unwrap();
        std::fs::write(folder.join("real/more/x.csv"), "x").unwrap();
        symlink("../real", folder.join("data/split")).unwrap();
        symlink("..", folder.join("real/more/circle")).unwrap();
        let below = [
            "data/1.csv",
            "data/2.csv",
            "data/deep/3.csv",
            "data/notes.txt",
            "data/split/more/x.csv",
        ];
        for pattern in ["data", "data/*", "data/**", "data/**/*"] {
            assert_eq!(names(folder, pattern), below, "{pattern}");
        }
        let linked = ["data/split/more/x.csv"];
        assert_eq!(names(folder, "data/split"), linked);
        assert_eq!(names(folder, "data/*/more/*.csv"), linked);
        assert_eq!(names(folder, "data/**/x.csv"), linked);
        symlink("../../data", folder.join("real/more/back")).unwrap();
        assert_eq!(names(folder, "data"), below, "by way of a link, too");
        assert_eq!(names(folder, "data/split").len(), 5, "from there it is new");
        std::fs::remove_file(folder.join("real/more/back")).unwrap();
        let inputs = find(folder, "data").unwrap();
        std::fs::write(folder.join("real/more/x.csv"), "y").unwrap();
        assert!(matches!(
            check(folder, &inputs),
            Err(InputError::Changed { path }) if path.ends_with("x.csv")
        ));
        // A link to nothing is named.
        symlink("nowhere", folder.join("data/broken")).unwrap();
        for pattern in ["data", "data/broken", "data/b*"] {
            let error = find(folder, pattern).unwrap_err().to_string();
            assert!(error.contains("data/broken"), "{error}");
        }
    }

    #[test]
    fn names_that_no_plan_can_hold_are_refused() {
        let folder = folder();
        let folder = folder.path();
        let name = OsStr::from_bytes(b"caf\xe9.csv");
        std::fs::write(folder.join("data/deep").join(name), "x").unwrap();
        for pattern in ["data", "data/deep/*", "**/*.csv"] {
            let error = find(folder, pattern).unwrap_err().to_string();
            assert!(error.contains("not UTF-8"), "{pattern}: {error}");
            assert!(error.contains("data/deep/caf"), "{pattern}: {error}");
        }
        assert_eq!(names(folder, "data/*.csv"), ["data/1.csv", "data/2.csv"]);
        assert_eq!(names(folder, "**/*.txt"), ["data/notes.txt"]);
        let hidden = OsStr::from_bytes(b".caf\xe9");
        std::fs::remove_file(folder.join("data/deep").join(name)).unwrap();
        std::fs::write(folder.join("data").join(hidden), "x").unwrap();
        assert_eq!(names(folder, "data").len(), 4);
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
