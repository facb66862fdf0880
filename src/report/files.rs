//! Files of reports and exports: written beside their place and renamed over it, so that a reader never sees half
//! of one.

use std::io::Write;
use std::path::Path;
use tempfile::NamedTempFile;

/// A file in the making; [`finish`] puts it in its place.
pub fn begin(path: &Path) -> std::io::Result<NamedTempFile> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".report-");
    #[cfg(unix)]
    {
        // A temporary file is private by default; a report is as readable as the user's other files.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

/// Puts what [`begin`] began at `path`.
pub fn finish(file: NamedTempFile, path: &Path) -> std::io::Result<()> {
    file.persist(path).map(drop).map_err(|error| error.error)
}

/// Puts `bytes` at `path` in one step; leaves a file that already has them alone.
pub fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let mut file = begin(path)?;
    file.write_all(bytes)?;
    finish(file, path)
}

/// A name as one folder or file: what would lead elsewhere becomes `_`.
pub fn folder_name(name: &str) -> String {
    let name: String = name
        .chars()
        .map(|c| {
            if super::text::is_unsafe(c) || matches!(c, '/' | '\\' | ':') {
                '_'
            } else {
                c
            }
        })
        .collect();
    if name.is_empty() || name.starts_with('.') {
        format!("_{name}")
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn files_are_readable_by_others_as_the_umask_says() {
        use std::os::unix::fs::PermissionsExt;
        let out = tempfile::tempdir().unwrap();
        let probe = out.path().join("probe");
        std::fs::write(&probe, "").unwrap();
        let path = out.path().join("file");
        replace(&path, b"x").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&probe));
    }

    #[test]
    fn names_stay_in_the_folder() {
        assert_eq!(folder_name("../../etc"), "_.._.._etc");
        assert_eq!(folder_name("a/b\n"), "a_b_");
        assert_eq!(folder_name(""), "_");
        assert_eq!(folder_name("loss"), "loss");
    }
}
