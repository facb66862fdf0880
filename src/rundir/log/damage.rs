//! A damaged event log: kept under another name, while its verified lines become the log.

use super::LogError;
use crate::rundir::durable::{self, Step};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Most damaged logs of a stage that are kept.
const MOST: u32 = 1000;

/// Puts the damaged log at `path`, open and locked as `file`, aside, and its first `verified` bytes in its place.
/// Returns the new file, locked, and where the damaged one is. At every moment there is a log at `path`: the
/// damaged one or what verifies of it.
pub(super) fn set_aside(
    path: &Path,
    file: &mut File,
    verified: u64,
) -> io::Result<(File, PathBuf)> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let aside = keep(path)?;
    durable::gate(Step::Create, path)?;
    let mut good = tempfile::Builder::new()
        .prefix(".new-")
        .append(true)
        .tempfile_in(folder)?;
    file.rewind()?;
    durable::gate(Step::Write, path)?;
    io::copy(&mut file.take(verified), good.as_file_mut())?;
    durable::sync(good.as_file(), path)?;
    // Before it has the name: nobody else can have locked it.
    good.as_file().try_lock().map_err(io::Error::from)?;
    durable::gate(Step::Rename, path)?;
    let good = good.persist(path).map_err(|error| error.error)?;
    durable::sync_folder(folder)?;
    Ok((good, aside))
}

/// Gives the file at `path` a second name.
fn keep(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".damaged-");
    for number in 1..=MOST {
        let mut name = name.clone();
        name.push(number.to_string());
        let aside = path.with_file_name(name);
        match std::fs::hard_link(path, &aside) {
            Ok(()) => return Ok(aside),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // Not every file system has links.
            Err(_) => {
                let mut copy = File::options().write(true).create_new(true).open(&aside)?;
                io::copy(&mut File::open(path)?, &mut copy)?;
                durable::sync(&copy, &aside)?;
                return Ok(aside);
            }
        }
    }
    Err(io::Error::other(format!(
        "{MOST} of them are there already"
    )))
}

/// What the log says of it, in its own place.
pub(super) fn text(error: &LogError, aside: &Path, kept: u64) -> String {
    let name = aside.file_name().unwrap_or_default().to_string_lossy();
    format!(
        "the event log is damaged ({error}): it is kept as {name}, {kept} events before the damage stand"
    )
}

/// Whether `file` is the one at `path`.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(own), Ok(there)) => identity(own) == identity(there),
        _ => false,
    }
}
