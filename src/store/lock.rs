//! The lock of a store: schedulers share it, whoever must be alone has it exclusively.

use crate::rundir::host;
use crate::rundir::log::unix_time;
use crate::store::{Owner, StoreError};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Who holds a store's lock: only to be shown.
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
///
/// [`StoreLock::exclusive`] is for what must be alone: creation, migration, removal. Schedulers hold it
/// [`StoreLock::shared`] while they work; among them, [leases](crate::store::Owner) say who does what.
#[derive(Debug)]
pub struct StoreLock {
    file: File,
    path: PathBuf,
}

/// How long [`StoreLock::exclusive`] tries: somebody may just be looking whether the lock is held.
const GLANCE: Duration = Duration::from_millis(200);

/// How long [`StoreLock::shared`] waits for whoever is alone to be through, such as another scheduler
/// that has just begun and opens the store.
const OPENING: Duration = Duration::from_secs(10);

const LOOK_AGAIN: Duration = Duration::from_millis(5);

impl StoreLock {
    /// Takes the lock of the store at `dir` for this process alone, creating the folder; an error that
    /// names the holders if any other process has it, shared or not.
    pub fn exclusive(dir: &Path) -> Result<StoreLock, StoreError> {
        let mut lock = StoreLock::wait(dir, GLANCE, File::try_lock)?;
        let holder = StoreHolder {
            pid: std::process::id(),
            host: host::name(),
            since: unix_time(),
        };
        let text = serde_json::to_string(&holder).expect("plain data");
        lock.file
            .set_len(0)
            .and_then(|()| lock.file.rewind())
            .and_then(|()| lock.file.write_all(text.as_bytes()))
            .map_err(|source| lock.error("write", source))?;
        Ok(lock)
    }

    /// Takes the lock of the store at `dir` beside others, creating the folder. Waits some seconds for
    /// whoever is alone there; an error that names the holder if that takes longer.
    pub fn shared(dir: &Path) -> Result<StoreLock, StoreError> {
        StoreLock::wait(dir, OPENING, File::try_lock_shared)
    }

    /// Lets others in: turns an exclusive lock into a shared one. For a moment in between the lock is
    /// free, and somebody else may be alone then.
    pub fn share(self) -> Result<StoreLock, StoreError> {
        self.file
            .lock_shared()
            .map_err(|source| self.error("lock", source))?;
        Ok(self)
    }

    /// Who holds the lock of the store at `dir`: the one that is alone, or the schedulers that share it.
    /// Only looks.
    pub fn holders(dir: &Path) -> Vec<StoreHolder> {
        if let Ok(mut file) = File::open(dir.join("lock"))
            && matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
        {
            let holder = read_holder(&mut file).unwrap_or(StoreHolder {
                pid: 0,
                host: "unknown".to_owned(),
                since: 0.0,
            });
            return vec![holder];
        }
        Owner::at_work(dir).iter().map(Owner::holder).collect()
    }

    fn wait(
        dir: &Path,
        patience: Duration,
        try_lock: impl Fn(&File) -> Result<(), TryLockError>,
    ) -> Result<StoreLock, StoreError> {
        std::fs::create_dir_all(dir).map_err(StoreError::io("create the store's folder", dir))?;
        let path = dir.join("lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(StoreError::io("open", &path))?;
        let lock = StoreLock { file, path };
        let begun = Instant::now();
        loop {
            match try_lock(&lock.file) {
                Ok(()) => return Ok(lock),
                Err(TryLockError::WouldBlock) if begun.elapsed() < patience => {
                    std::thread::sleep(LOOK_AGAIN);
                }
                Err(TryLockError::WouldBlock) => {
                    let holders = StoreLock::holders(dir);
                    let names: Vec<String> = holders.iter().map(ToString::to_string).collect();
                    return Err(StoreError::InUse {
                        dir: dir.to_owned(),
                        holder: match names.is_empty() {
                            true => "another process".to_owned(),
                            false => names.join(" and by "),
                        },
                    });
                }
                Err(TryLockError::Error(source)) => return Err(lock.error("lock", source)),
            }
        }
    }

    fn error(&self, action: &'static str, source: std::io::Error) -> StoreError {
        StoreError::io(action, &self.path)(source)
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
