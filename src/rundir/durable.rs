//! Durable files: whole or absent, and on disk when the call returns.
//!
//! Temporary file, write, fsync, rename, fsync of the folder. Every step passes one [`gate`], so that a
//! test can let the n-th of them fail ([`fault`]) and see what is left.
//!
//! A failed fsync is final for whoever writes: the kernel may have dropped the bytes and marked their
//! pages clean, so neither asking again nor reading the file shows the loss ("Can Applications Recover
//! from fsync Failures?", ATC 2020). Writers end with `io_error`; [`forget_cached`] makes the next reader
//! see what the disk has, and the checksums of logs and checkpoints say whether that is whole.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use tempfile::NamedTempFile;

/// A step that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    CreateFolder,
    Create,
    Write,
    Sync,
    Rename,
    SyncFolder,
}

/// Whether a change must outlive a loss of power from the moment on that it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    Yes,
    /// Whole or absent, but perhaps absent after a loss of power.
    No,
}

/// Replaces the file at `path` as a whole: readers see the old bytes or the new. Its folder is made if
/// it isn't there.
pub fn replace(path: &Path, bytes: &[u8], durable: Durable) -> io::Result<()> {
    replace_with(path, durable, |file| file.write_all(bytes))
}

/// [`replace`] with what `write` writes.
pub fn replace_with(
    path: &Path,
    durable: Durable,
    write: impl FnOnce(&mut NamedTempFile) -> io::Result<()>,
) -> io::Result<()> {
    let folder = folder_of(path);
    create_folder(folder)?;
    gate(Step::Create, path)?;
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .tempfile_in(folder)?;
    gate(Step::Write, path)?;
    write(&mut file)?;
    if durable == Durable::Yes {
        sync(file.as_file(), path)?;
    }
    gate(Step::Rename, path)?;
    file.persist(path).map_err(|error| error.error)?;
    match durable {
        Durable::Yes => sync_folder(folder),
        Durable::No => Ok(()),
    }
}

/// Makes a folder and those above it, so that it is still there after a loss of power.
pub fn create_folder(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let parent = folder_of(path);
    create_folder(parent)?;
    gate(Step::CreateFolder, path)?;
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        result => result?,
    }
    sync_folder(parent)
}

/// Waits until the bytes and the size of the file at `path` are on disk.
pub fn sync(file: &File, path: &Path) -> io::Result<()> {
    gate(Step::Sync, path)?;
    file.sync_data()
}

/// Waits until the names in a folder are on disk.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    gate(Step::SyncFolder, path)?;
    File::open(if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    })?
    .sync_all()
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Drops the kernel's copies of the files in `folder` and below, as far as they are on disk: what is read
/// next comes from there. Only a wish; nothing depends on it but what a reader finds out.
pub fn forget_cached(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            forget_cached(&path);
        } else if let Ok(file) = File::open(&path) {
            use std::os::fd::AsRawFd;
            #[cfg(target_os = "linux")]
            // SAFETY: a system call without memory on a descriptor that is open.
            unsafe {
                libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED);
            }
            #[cfg(not(target_os = "linux"))]
            let _ = file.as_raw_fd();
        }
    }
}

/// Whether the error means that there is no space left (for this user).
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    ) || error.raw_os_error() == Some(libc::EDQUOT)
}

/// Where a test makes a step fail. In the program itself nothing ever does.
pub(crate) fn gate(step: Step, path: &Path) -> io::Result<()> {
    #[cfg(test)]
    fault::pass(step, path)?;
    let _ = (step, path);
    Ok(())
}

/// Injected failures of the steps below one folder, whichever thread takes them.
#[cfg(test)]
pub(crate) mod fault {
    use super::Step;
    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, PoisonError};

    struct Plan {
        folder: PathBuf,
        /// Steps to go; the last of them fails.
        left: u64,
        errno: i32,
        failed: Option<Step>,
    }

    static PLANS: Mutex<Vec<Plan>> = Mutex::new(Vec::new());

    /// Lets the `n`-th step below `folder` from now on (1: the next) fail with the error number `errno`.
    pub(crate) fn fail_at(folder: &Path, n: u64, errno: i32) {
        let mut plans = PLANS.lock().unwrap_or_else(PoisonError::into_inner);
        plans.push(Plan {
            folder: folder.to_owned(),
            left: n,
            errno,
            failed: None,
        });
    }

    /// Ends the injection below `folder`; the step that failed, if one did.
    pub(crate) fn take(folder: &Path) -> Option<Step> {
        let mut plans = PLANS.lock().unwrap_or_else(PoisonError::into_inner);
        let place = plans.iter().position(|plan| plan.folder == folder)?;
        plans.swap_remove(place).failed
    }

    pub(super) fn pass(step: Step, path: &Path) -> io::Result<()> {
        let mut plans = PLANS.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = plans.iter_mut().find(|plan| path.starts_with(&plan.folder));
        let Some(plan) = plan.filter(|plan| plan.left > 0) else {
            return Ok(());
        };
        plan.left -= 1;
        if plan.left > 0 {
            return Ok(());
        }
        plan.failed = Some(step);
        Err(io::Error::from_raw_os_error(plan.errno))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/launch.json");
        replace(&path, b"one", Durable::Yes).unwrap();
        replace(&path, b"two", Durable::No).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        let files = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(files, 1, "nothing else is left");
    }

    /// Whichever step fails, the old file or the new one is there, whole, and nothing else.
    #[test]
    fn every_step_may_fail() {
        let mut steps = Vec::new();
        for n in 1.. {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("sub/file");
            fault::fail_at(folder.path(), n, libc::EIO);
            let first = replace(&path, b"old", Durable::Yes);
            let failed = fault::take(folder.path());
            assert_eq!(first.is_err(), failed.is_some());
            let left = std::fs::read(&path).ok();
            assert!(left.is_none() || left.as_deref() == Some(b"old"), "{n}");
            steps.extend(failed);

            replace(&path, b"old", Durable::Yes).unwrap();
            fault::fail_at(folder.path(), n, libc::ENOSPC);
            let second = replace(&path, b"new", Durable::Yes);
            let again = fault::take(folder.path());
            if let Err(error) = second {
                assert!(is_full(&error), "{error}");
            }
            let left = std::fs::read(&path).unwrap();
            assert!(left == b"old" || left == b"new", "{n}");
            assert_eq!(
                std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
                1
            );
            if failed.is_none() && again.is_none() {
                break;
            }
        }
        use Step::{Create, CreateFolder, Rename, Sync, SyncFolder, Write};
        assert_eq!(
            steps,
            [
                CreateFolder,
                SyncFolder,
                Create,
                Write,
                Sync,
                Rename,
                SyncFolder
            ]
        );
    }

    #[test]
    fn forgetting_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/file");
        replace(&path, b"bytes", Durable::Yes).unwrap();
        forget_cached(folder.path());
        assert_eq!(std::fs::read(&path).unwrap(), b"bytes");
    }
}
