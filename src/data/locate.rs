//! Finding a data set by its name.
//!
//! In this order: the recipe's own `data.root`, `--data NAME=PATH`, the environment variable
//! `ABLATE_DATA_<NAME>`, the user's `data.yaml`, the embedded data set.

use super::{DataError, Dataset, embedded};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where a data set is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatasetLocation {
    /// In the program.
    Embedded,
    /// An image folder.
    Folder(PathBuf),
}

impl DatasetLocation {
    /// The image folder's root; `None` for the embedded data set.
    pub fn root(&self) -> Option<&Path> {
        match self {
            DatasetLocation::Embedded => None,
            DatasetLocation::Folder(root) => Some(root),
        }
    }

    /// Opens the data set under the name `name`.
    ///
    /// # Errors
    /// See [`Dataset::open_folder`].
    pub fn open(&self, name: &str) -> Result<Dataset, DataError> {
        Dataset::open(name, self.root())
    }
}

/// A name that nothing resolves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "data set `{name}` is not known{}; name its folder in one of three ways: \
     `--data {name}=PATH` on the command line, the environment variable `{variable}`, \
     or a line `{name}: PATH` in {}",
    did_you_mean(near),
    file.display()
)]
pub struct Unresolved {
    /// The name that was asked for.
    pub name: String,
    /// The environment variable that was looked at.
    pub variable: String,
    /// The user's file that was looked at.
    pub file: PathBuf,
    /// Known names that are near, nearest first.
    pub near: Vec<String>,
}

fn did_you_mean(near: &[String]) -> String {
    match near {
        [] => String::new(),
        names => format!(" (did you mean `{}`?)", names.join("`, `")),
    }
}

/// Finds the data set `name`. `root` is the recipe's `data.root`; `overrides` are the pairs of
/// `--data`, of which the last one for a name counts. Relative paths of these and of the environment
/// variable are relative to the working directory, those of the user's file to that file.
///
/// # Errors
/// [`DataError::Unresolved`] if nothing names it, [`DataError::DataFile`] if the user's file cannot
/// be understood. Whether the folder exists is seen when it is opened. Folders are absolute paths:
/// a worker need not run where the user stood.
pub fn resolve(
    name: &str,
    root: Option<&str>,
    overrides: &[(String, PathBuf)],
) -> Result<DatasetLocation, DataError> {
    resolve_in(name, root, overrides, &|variable| {
        std::env::var_os(variable)
    })
}

/// [`resolve`] in a given environment.
fn resolve_in(
    name: &str,
    root: Option<&str>,
    overrides: &[(String, PathBuf)],
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<DatasetLocation, DataError> {
    let set = |variable: &str| environment(variable).filter(|value| !value.is_empty());
    let home = set("HOME").map(PathBuf::from);
    if let Some(root) = root {
        return Ok(folder(expand_home(Path::new(root), home.as_deref())));
    }
    if let Some((_, path)) = overrides.iter().rev().find(|(known, _)| known == name) {
        return Ok(folder(expand_home(path, home.as_deref())));
    }
    let variable = variable_of(name);
    if let Some(path) = set(&variable) {
        return Ok(folder(expand_home(Path::new(&path), home.as_deref())));
    }
    let config = set("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(home.as_ref()?.join(".config")))
        .unwrap_or_else(|| PathBuf::from(".config"));
    let file = config.join("ablate").join("data.yaml");
    let listed = read_data_file(&file)?;
    if let Some(path) = listed.get(name) {
        let path = expand_home(Path::new(path), home.as_deref());
        let base = file.parent().unwrap_or(Path::new(""));
        return Ok(folder(base.join(path)));
    }
    if name == embedded::NAME {
        return Ok(DatasetLocation::Embedded);
    }
    let known = overrides.iter().map(|(name, _)| name.as_str());
    let known = known
        .chain(listed.keys().map(String::as_str))
        .chain([embedded::NAME]);
    let near = nearest(name, known);
    Err(Unresolved {
        name: name.to_owned(),
        variable,
        file,
        near,
    }
    .into())
}

fn folder(path: PathBuf) -> DatasetLocation {
    DatasetLocation::Folder(std::path::absolute(&path).unwrap_or(path))
}

/// `ABLATE_DATA_` and the name in upper case, with `_` for all that is no letter or digit.
fn variable_of(name: &str) -> String {
    let letter = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    format!(
        "ABLATE_DATA_{}",
        name.chars().map(letter).collect::<String>()
    )
}

fn expand_home(path: &Path, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_path_buf(),
    }
}

/// The flat map of names to paths in `file`; empty if there is no such file.
fn read_data_file(file: &Path) -> Result<BTreeMap<String, String>, DataError> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => return Ok(BTreeMap::new()),
        Err(e) => return Err(DataError::io(file, e)),
    };
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(blank) {
        return Ok(BTreeMap::new());
    }
    serde_yaml::from_str(&text).map_err(|e| DataError::DataFile {
        path: file.to_path_buf(),
        message: format!("a flat map of names to paths is expected: {e}"),
    })
}

/// At most three of `known` that resemble `name`, nearest first.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut near: Vec<(f64, &str)> = known
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(similarity, _)| *similarity >= 0.7)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    near.dedup_by_key(|(_, name)| *name);
    near.into_iter()
        .take(3)
        .map(|(_, name)| name.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Environment = Vec<(&'static str, OsString)>;

    fn look(
        name: &str,
        root: Option<&str>,
        overrides: &[(String, PathBuf)],
        environment: &Environment,
    ) -> Result<DatasetLocation, DataError> {
        resolve_in(name, root, overrides, &|variable| {
            environment
                .iter()
                .find(|(known, _)| *known == variable)
                .map(|(_, v)| v.clone())
        })
    }

    fn folder(path: &str) -> DatasetLocation {
        super::folder(path.into())
    }

    #[test]
    fn order_of_the_ways() {
        let config = tempfile::tempdir().unwrap();
        let file = config.path().join("ablate/data.yaml");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "# mine\nimagenet-1k: ~/in1k\nflowers: pictures\n").unwrap();
        let mut environment: Environment = vec![
            ("XDG_CONFIG_HOME", config.path().into()),
            ("HOME", "/home/a".into()),
            ("ABLATE_DATA_IMAGENET_1K", "/env".into()),
        ];
        let overrides = [
            ("imagenet-1k".into(), "/first".into()),
            ("imagenet-1k".into(), "/b".into()),
        ];
        let name = "imagenet-1k";
        assert_eq!(
            look(name, Some("/r"), &overrides, &environment).unwrap(),
            folder("/r")
        );
        assert_eq!(
            look(name, None, &overrides, &environment).unwrap(),
            folder("/b")
        );
        assert_eq!(look(name, None, &[], &environment).unwrap(), folder("/env"));
        let relative = look(name, Some("pictures"), &[], &environment).unwrap();
        assert!(relative.root().unwrap().is_absolute());
        environment.pop();
        assert_eq!(
            look(name, None, &[], &environment).unwrap(),
            folder("/home/a/in1k")
        );
        let flowers = file.parent().unwrap().join("pictures");
        let found = look("flowers", None, &[], &environment).unwrap();
        assert_eq!(found, DatasetLocation::Folder(flowers));
        let embedded = look(embedded::NAME, None, &[], &environment).unwrap();
        assert_eq!(embedded, DatasetLocation::Embedded);

        let message = look("imagenet1k", None, &[], &environment)
            .unwrap_err()
            .to_string();
        for part in [
            "`imagenet1k` is not known",
            "did you mean `imagenet-1k`",
            "--data imagenet1k=PATH",
            "ABLATE_DATA_IMAGENET1K",
            file.to_str().unwrap(),
        ] {
            assert!(message.contains(part), "{message}");
        }

        for bad in [
            "- a\n- b\n",
            "imagenet-1k: {a: b}\n",
            "a: b\na: c\n",
            "a: [\n",
        ] {
            std::fs::write(&file, bad).unwrap();
            let message = look(name, None, &[], &environment).unwrap_err().to_string();
            assert!(
                message.contains("data.yaml") && message.contains("flat map"),
                "{message}"
            );
        }
        std::fs::write(&file, "# nothing yet\n").unwrap();
        assert!(look(name, None, &[], &environment).is_err());
    }
}
