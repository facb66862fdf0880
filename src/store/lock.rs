//! The lock of a store: one scheduler at a time.

use crate::rundir::host;
use crate::rundir::log::unix_time;
use crate::store::StoreError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// Who holds a store's lock: written into the lock file only to be shown.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct StoreHolder {
    pub pid: u32,
    pub host: String,
    /// Unix time.
    pub since: f64,
}

impl std::fmt::Display for StoreHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "pid {} on host {} since {}",
            self.pid,
            self.host,
            utc(self.since)
        )
    }
}

/// The right to write a store. A kernel lock (`flock`) on `<dir>/lock`: it ends with the process that
/// holds it, however that ends, so there is no stale lock. Given back on drop.
#[derive(Debug)]
pub struct StoreLock {
    _file: File,
}

impl StoreLock {
    /// Takes the lock of the store at `dir`, creating the folder; an error that names the holder if
    /// another process has it.
    pub fn acquire(dir: &Path) -> Result<StoreLock, StoreError> {
        let path = dir.join("lock");
        let io = |action| {
            let path = path.clone();
            move |source| StoreError::Io {
                action,
                path,
                source,
            }
        };
        std::fs::create_dir_all(dir).map_err(|source| StoreError::Io {
            action: "create the store's folder",
            path: dir.to_owned(),
            source,
        })?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io("open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::InUse {
                    dir: dir.to_owned(),
                    holder: read_holder(&mut file)
                        .map_or("another process".to_owned(), |holder| holder.to_string()),
                });
            }
            Err(TryLockError::Error(source)) => return Err(io("lock")(source)),
        }
        let holder = StoreHolder {
            pid: std::process::id(),
            host: host::name(),
            since: unix_time(),
        };
        let text = serde_json::to_string(&holder).expect("plain data");
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(text.as_bytes()))
            .map_err(io("write"))?;
        Ok(StoreLock { _file: file })
    }

    /// Who holds the lock of the store at `dir`, if anybody does. Only looks: a lock that is free stays
    /// free.
    pub fn holder(dir: &Path) -> Option<StoreHolder> {
        let mut file = File::open(dir.join("lock")).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(read_holder(&mut file).unwrap_or(StoreHolder {
                pid: 0,
                host: "unknown".to_owned(),
                since: 0.0,
            })),
            _ => None,
        }
    }
}

fn read_holder(file: &mut File) -> Option<StoreHolder> {
    let mut text = String::new();
    file.take(4096).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// `2026-11-24 14:26:03 UTC`.
pub(crate) fn utc(time: f64) -> String {
    let seconds = time as i64;
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days to a civil date (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}
