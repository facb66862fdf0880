//! Room on the store's file system: below a reserve no stage is started, until there is room again.
//!
//! The reserve is what store, logs and checkpoints of the stages that run can still grow by. It is looked at
//! before stages are started and, while it is short, every few seconds: no system tells when space returns.
//!
//! What a file system says it has is not all that can be short: a quota, inodes, or less than a large
//! checkpoint takes. So once a stage has met a full disk, nothing is started before a file of the size that it may
//! need could be made where it writes.

use crate::rundir::durable;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The default reserve in bytes.
pub const RESERVE: u64 = 256 << 20;

/// Pause between looks while space is short.
pub const LOOK: Duration = Duration::from_secs(2);

/// The room on the file system of one folder.
#[derive(Debug)]
pub struct Space {
    folder: PathBuf,
    reserve: u64,
    short: bool,
    /// Where a stage has met a full disk, and bytes that it may need there.
    wanted: Option<(PathBuf, u64)>,
}

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Less than the reserve is left.
    Short { free: u64 },
    /// There is room again.
    Back { free: u64 },
    /// A stage has met a full disk, and there still is no room for it.
    Full { free: u64 },
}

impl Space {
    /// Of the file system that `folder` lies on; `reserve` in bytes, 0: never short.
    pub fn new(folder: &Path, reserve: u64) -> Space {
        Space {
            folder: folder.to_owned(),
            reserve,
            short: false,
            wanted: None,
        }
    }

    /// A stage that writes below `folder` has met a full disk, after it has `before` as often.
    pub fn met_full(&mut self, folder: &Path, before: u32) {
        let mut bytes = largest_file(folder).max(self.reserve).max(1);
        // Where there was room for that, it wasn't enough: the first checkpoint may be yet to come. More than the
        // disk can ever have is not waited for.
        let most = total_bytes(folder).unwrap_or(0);
        for _ in 0..before {
            if bytes <= most / 8 {
                bytes *= 4;
            }
        }
        // Others wait behind whoever needs most.
        if self.wanted.as_ref().is_none_or(|(_, most)| *most <= bytes) {
            self.wanted = Some((folder.to_owned(), bytes));
        }
    }

    /// Whether it was short at the last look.
    pub fn is_short(&self) -> bool {
        self.short
    }

    /// Looks. A file system that can't say is never short.
    pub fn look(&mut self) -> Option<Change> {
        let free = free_bytes(&self.folder).unwrap_or(u64::MAX);
        if let Some((folder, bytes)) = &self.wanted {
            if has_room(folder, *bytes) {
                self.wanted = None;
            } else {
                return (!std::mem::replace(&mut self.short, true))
                    .then_some(Change::Full { free });
            }
        }
        self.judge(free)
    }

    fn judge(&mut self, free: u64) -> Option<Change> {
        // A quarter more before it goes on: at the very edge it would stop and go with every file.
        let enough = self.reserve.saturating_add(self.reserve / 4);
        if !self.short && free < self.reserve {
            self.short = true;
            Some(Change::Short { free })
        } else if self.short && free >= enough {
            self.short = false;
            Some(Change::Back { free })
        } else {
            None
        }
    }

    /// What the user is told.
    pub fn describe(&self, change: Change) -> String {
        let folder = self.folder.display();
        match change {
            Change::Short { free } => format!(
                "{folder}: {} left, less than the reserve of {} (--min-free): no stage is started until there is \
                 more",
                show(free),
                show(self.reserve)
            ),
            Change::Back { free } => format!("{folder}: {} left: going on", show(free)),
            Change::Full { free } => {
                let (folder, bytes) = self
                    .wanted
                    .as_ref()
                    .map_or((self.folder.as_path(), 0), |(folder, bytes)| {
                        (folder, *bytes)
                    });
                format!(
                    "{}: no room for a file of {}, though {} are left there (a quota, or no inodes?): no stage is \
                     started until there is",
                    folder.display(),
                    show(bytes),
                    show(free)
                )
            }
        }
    }

    /// Why no stage is started, while it is short.
    pub fn why_short(&self) -> String {
        let free = free_bytes(&self.folder).unwrap_or(0);
        self.describe(match self.wanted {
            Some(_) => Change::Full { free },
            None => Change::Short { free },
        })
    }
}

/// Size of the largest file in `folder` and below: what is replaced as a whole needs that once more.
fn largest_file(folder: &Path) -> u64 {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => largest_file(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .max()
        .unwrap_or(0)
}

/// Whether a file of so many bytes can be made in `folder`. It is gone again when this returns. Only a full disk says
/// no: whoever writes there meets any other fault.
fn has_room(folder: &Path, bytes: u64) -> bool {
    let probe = || -> io::Result<()> {
        if free_bytes(folder)? < bytes {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        // Without a name: whatever kills us takes it along.
        let file = tempfile::tempfile_in(folder)?;
        let length = libc::off_t::try_from(bytes.max(1)).unwrap_or(libc::off_t::MAX);
        use std::os::fd::AsRawFd;
        // SAFETY: a system call without memory on a descriptor that is open.
        if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) } == 0 {
            return Ok(());
        }
        match io::Error::last_os_error() {
            // A file system that can't reserve: what it says it has must do, for writing it all would take too long.
            error if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
            error => Err(error),
        }
    };
    // Larger than any file may be there is too large, too.
    let is_full =
        |error: &io::Error| durable::is_full(error) || error.raw_os_error() == Some(libc::EFBIG);
    probe().err().is_none_or(|error| !is_full(&error))
}

/// Bytes that this user can still write to the file system of `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let found = statistics(path)?;
    #[allow(
        clippy::unnecessary_cast,
        reason = "the fields' width depends on the system"
    )]
    Ok((found.f_bavail as u64).saturating_mul(found.f_frsize as u64))
}

/// Less than this, and a disk is full for whoever writes more than a line.
const NEXT_TO_NOTHING: u64 = 1 << 20;

/// Whether next to nothing is left on the file system of `path`.
pub fn is_full(path: &Path) -> bool {
    free_bytes(path).is_ok_and(|free| free < NEXT_TO_NOTHING)
}

/// Bytes that the file system of `path` has for files of all users.
fn total_bytes(path: &Path) -> io::Result<u64> {
    let found = statistics(path)?;
    #[allow(
        clippy::unnecessary_cast,
        reason = "the fields' width depends on the system"
    )]
    Ok((found.f_blocks as u64).saturating_mul(found.f_frsize as u64))
}

fn statistics(path: &Path) -> io::Result<libc::statvfs> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: statvfs is plain data for which zeroes are valid; the path ends with a zero.
    let (status, found) = unsafe {
        let mut found: libc::statvfs = std::mem::zeroed();
        let status = libc::statvfs(path.as_ptr(), &mut found);
        (status, found)
    };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(found)
}

const UNITS: [(&str, u64); 4] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];

/// A number of bytes for people.
pub fn show(bytes: u64) -> String {
    match UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

/// Reads a number of bytes: `256M`, `1.5GiB`, `0`. Units are powers of 1024.
pub fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let letters = unit.trim().to_ascii_lowercase();
    let factor = match letters.trim_end_matches("ib").trim_end_matches('b') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1u64 << 40,
        _ => 0,
    };
    match number.parse::<f64>() {
        Ok(number) if factor > 0 && number >= 0.0 && number * (factor as f64) < 1e18 => {
            Ok((number * factor as f64) as u64)
        }
        _ => Err("write a number of bytes, for example `256M` or `2G`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stops_below_the_reserve_and_goes_on_above_it() {
        let mut space = Space::new(Path::new("/"), 1000);
        assert_eq!(space.judge(1000), None);
        assert_eq!(space.judge(999), Some(Change::Short { free: 999 }));
        assert_eq!(space.judge(500), None, "said once");
        assert_eq!(space.judge(1100), None, "a little more is not enough");
        assert!(space.is_short());
        assert_eq!(space.judge(1250), Some(Change::Back { free: 1250 }));
        assert!(!space.is_short());
        let mut never = Space::new(Path::new("/"), 0);
        assert_eq!(never.judge(0), None);
    }

    /// Sparse files aside, no disk has an exabyte.
    #[test]
    fn a_full_disk_is_waited_for_until_a_file_fits() {
        let folder = tempfile::tempdir().unwrap();
        assert!(has_room(folder.path(), 4096));
        assert!(!has_room(folder.path(), 1 << 60));
        assert!(has_room(Path::new("/nonexistent"), 1), "no lack of room");
        std::fs::create_dir(folder.path().join("checkpoints")).unwrap();
        std::fs::write(folder.path().join("checkpoints/step-1"), [0; 5000]).unwrap();
        assert_eq!(largest_file(folder.path()), 5000);

        let mut space = Space::new(folder.path(), 1);
        space.met_full(folder.path(), 0);
        assert_eq!(space.look(), None, "there is room");
        space.wanted = Some((folder.path().into(), 1 << 60));
        let change = space.look().unwrap();
        assert!(matches!(change, Change::Full { .. }) && space.is_short());
        assert!(
            space
                .describe(change)
                .contains("no room for a file of 1048576.0 TiB")
        );
        assert_eq!(space.look(), None, "said once");
        space.wanted = Some((folder.path().into(), 1));
        assert!(matches!(space.look(), Some(Change::Back { .. })));
        // Its largest file has 5,000 bytes; room for that wasn't enough, nor for four times that.
        for (before, expected) in [(0, 5_000), (1, 20_000), (2, 80_000)] {
            space.met_full(folder.path(), before);
            assert_eq!(space.wanted.clone().unwrap().1, expected);
        }
        space.met_full(folder.path(), 0);
        assert_eq!(space.wanted.clone().unwrap().1, 80_000, "another's");
        space.met_full(folder.path(), 100);
        let most = total_bytes(folder.path()).unwrap();
        assert!(space.wanted.take().unwrap().1 <= most / 2);
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "nothing is left of the probes"
        );
    }

    #[test]
    fn real_file_systems_say_what_they_have() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_bytes(folder.path()).unwrap() > 0);
        assert!(free_bytes(Path::new("/nonexistent/folder")).is_err());
        assert_eq!(
            Space::new(Path::new("/nonexistent"), u64::MAX / 2).look(),
            None
        );
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("12", 12),
            ("256M", 256 << 20),
            ("1.5GiB", 3 << 29),
            ("2 kb", 2048),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "-1M", "1X", "1e3", "many", "99999999T"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(show(256 << 20), "256.0 MiB");
        assert_eq!(show(17), "17 B");
    }
}
