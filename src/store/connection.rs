//! How connections to the database are opened.

use crate::store::error::BUSY_SECONDS;
use crate::store::network;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqlitePool};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Of any connection to the database at `path`.
pub(super) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .busy_timeout(Duration::from_secs(BUSY_SECONDS))
        .disable_statement_logging()
}

/// Of a connection that writes.
pub(super) fn write_options(path: &Path) -> SqliteConnectOptions {
    options(path)
        .journal_mode(journal_mode(path))
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .pragma("cache_size", "-32768")
}

/// Of a connection that can't write.
pub(super) fn read_options(path: &Path) -> SqliteConnectOptions {
    let options = options(path)
        .pragma("query_only", "ON")
        .pragma("cache_size", "-16384")
        .row_buffer_size(1024);
    let can_write = path.parent().is_some_and(can_write);
    // What a process that was killed in a transaction leaves in a rollback journal is undone by whoever comes next,
    // a reader, too.
    let undoes = journal_mode(path) != SqliteJournalMode::Wal && can_write;
    // Even a reader of a WAL database needs the shared memory file. On a medium that can't be written
    // (an archived store) there is no writer either, so the file can be read as it is.
    let archived = !with_suffix(path, "-wal").exists() && !can_write;
    options.read_only(!undoes).immutable(archived)
}

/// How the database at `path` is kept whole.
pub(super) fn journal_mode(path: &Path) -> SqliteJournalMode {
    let folder = path.parent().unwrap_or(Path::new("."));
    match network::name_of(folder) {
        // Without a file that comes and goes: that is what network file systems are slow at.
        Some(_) => SqliteJournalMode::Truncate,
        None => SqliteJournalMode::Wal,
    }
}

pub(super) fn readers(path: &Path) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(4)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(read_options(path))
}

/// `path` with `suffix` behind its name.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

pub(super) fn c_path(path: &Path) -> Option<std::ffi::CString> {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::CString::new(path.as_os_str().as_bytes()).ok()
}

fn can_write(folder: &Path) -> bool {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    // SAFETY: the path is a valid C string.
    c_path(folder).is_some_and(|path| unsafe { libc::access(path.as_ptr(), libc::W_OK) } == 0)
}
