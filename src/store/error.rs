//! Errors of the store.

use crate::rundir::durable;
use std::path::{Path, PathBuf};

/// Why the store can't do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("there is no store at {}; `ablate run` creates one, `--store DIR` names another", dir.display())]
    Missing { dir: PathBuf },
    #[error("can't {action} {}: {source}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    /// Never repaired or replaced: that is for a person to decide.
    #[error(
        "{} is damaged ({what}); nothing was changed: `ablate recover` rebuilds it from the run directories",
        path.display()
    )]
    Damaged { path: PathBuf, what: String },
    #[error("{} is no ablate store ({what}); nothing was changed", path.display())]
    Foreign { path: PathBuf, what: String },
    #[error(
        "{} was written by a newer ablate (schema {found}, this program knows {known}): it can be read, not written; update ablate",
        path.display()
    )]
    Newer {
        path: PathBuf,
        found: i64,
        known: i64,
    },
    #[error(
        "{} has schema {found}: this program brings it to {known} as soon as no other `ablate` is at work on it",
        path.display()
    )]
    Outdated {
        path: PathBuf,
        found: i64,
        known: i64,
    },
    /// Reading failed where the tables may have changed since this program was built.
    #[error(
        "{} was written by a newer ablate (schema {found}, this program knows {known}) and can't be read here: {source}; update ablate",
        path.display()
    )]
    Incompatible {
        path: PathBuf,
        found: i64,
        known: i64,
        source: sqlx::Error,
    },
    #[error("store {} is in use by {holder}", dir.display())]
    InUse { dir: PathBuf, holder: String },
    #[error("another program holds {} locked, for too long: close it and try again", path.display())]
    Busy { path: PathBuf },
    #[error("no space left for {}", path.display())]
    Full { path: PathBuf },
    /// The disk or its file system failed. Final: what is on disk is unknown until the store is opened
    /// again.
    #[error("reading or writing {} failed: {message}", path.display())]
    Disk { path: PathBuf, message: String },
    #[error("the store was opened to read")]
    ReadOnly,
    #[error("no {what} `{name}` in the store")]
    Unknown { what: &'static str, name: String },
    /// The statement of a user.
    #[error("{message}")]
    Sql { message: String },
    #[error("store {}: {source}", path.display())]
    Database { path: PathBuf, source: sqlx::Error },
    #[error("store {}: {what} of {id} can't be read: {source}", path.display())]
    Json {
        path: PathBuf,
        what: &'static str,
        id: String,
        source: serde_json::Error,
    },
}

/// Seconds that a reader waits for a lock that another program holds on the database.
pub(super) const BUSY_SECONDS: u64 = 10;

/// Whether an extended result code is of a write that may have found no room: `SQLITE_IOERR_WRITE`, `_TRUNCATE`, and
/// `_SHMSIZE`. A failed sync is final.
fn wants_room(code: Option<i32>) -> bool {
    matches!(code, Some(778 | 1546 | 4874))
}

/// Whether a few bytes more can be written beside `path`.
fn has_room(path: &Path) -> bool {
    use std::io::Write;
    let folder = path.parent().unwrap_or(Path::new("."));
    let probe = || {
        let mut file = tempfile::tempfile_in(folder)?;
        file.write_all(&[0; 64 << 10])?;
        file.sync_data()
    };
    !probe().is_err_and(|error| durable::is_full(&error))
}

impl StoreError {
    /// What can't be done with the file at `path`.
    pub(super) fn io(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(std::io::Error) -> StoreError + use<> {
        let path = path.to_owned();
        move |source| match durable::is_full(&source) {
            true => StoreError::Full { path },
            false => StoreError::Io {
                action,
                path,
                source,
            },
        }
    }

    /// Classifies an error of SQLite by its result code (<https://www.sqlite.org/rescode.html>).
    pub(super) fn from_sqlx(path: &Path, error: sqlx::Error) -> StoreError {
        let path = path.to_owned();
        let whole = error
            .as_database_error()
            .and_then(|error| error.code())
            .and_then(|code| code.parse::<i32>().ok());
        let code = whole.map(|code| code & 0xff);
        let message = || match error.as_database_error() {
            Some(error) => error.message().to_owned(),
            None => error.to_string(),
        };
        match code {
            Some(5 | 6) => StoreError::Busy { path },
            // Of a quota that is used up SQLite says no more than that it can't write.
            Some(10) if wants_room(whole) && !has_room(&path) => StoreError::Full { path },
            Some(10) => StoreError::Disk {
                path,
                message: message(),
            },
            Some(11 | 26) => StoreError::Damaged {
                path,
                what: message(),
            },
            Some(13) => StoreError::Full { path },
            _ => StoreError::Database {
                path,
                source: error,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SQLite says `SQLITE_IOERR_WRITE` where a quota is used up; a failed sync (1034) is another matter.
    #[test]
    fn a_write_that_failed_may_want_room() {
        assert!(
            [778, 1546, 4874]
                .into_iter()
                .all(|code| wants_room(Some(code)))
        );
        assert!(
            [10, 1034, 266, 13]
                .into_iter()
                .all(|code| !wants_room(Some(code)))
        );
        let folder = tempfile::tempdir().unwrap();
        assert!(has_room(&folder.path().join("ablate.db")));
        let none = std::io::Error::from_raw_os_error(libc::EDQUOT);
        let error = StoreError::io("write", folder.path())(none);
        assert!(matches!(error, StoreError::Full { .. }), "{error}");
        let failed = std::io::Error::from_raw_os_error(libc::EIO);
        let error = StoreError::io("write", folder.path())(failed);
        assert!(matches!(error, StoreError::Io { .. }), "{error}");
    }
}
