//! Owners: the schedulers that share a store, and whether they are still there.
//!
//! Every scheduler owns a file `<dir>/owners/<id>.lock` that says who it is, and holds a kernel lock
//! (`flock`) on it for its life. Whoever can take that lock knows that the owner is dead, and whoever waits
//! for it learns so at once. The file comes into the folder complete and locked; it goes when the owner
//! ends in order.

use crate::rundir::host;
use crate::rundir::log::unix_time;
use crate::store::{StoreError, StoreHolder};
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A scheduler, as its leases name it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Owner {
    pub id: String,
    pub host: String,
    /// Identifier of the running kernel; empty where the system has none.
    pub boot_id: String,
    pub pid: u32,
    /// When the process began, in clock ticks since the boot; 0 if unknown.
    pub start_time: u64,
    /// Unix time.
    pub since: f64,
}

/// Whether an owner is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    Alive,
    Dead,
    /// It was on another host, where we can't look.
    Unknown,
}

/// Folder of the owners' files in the store at `dir`.
pub fn folder(dir: &Path) -> PathBuf {
    dir.join("owners")
}

impl Owner {
    /// Path of its file in the store at `dir`.
    pub fn path(&self, dir: &Path) -> PathBuf {
        folder(dir).join(format!("{}.lock", self.id))
    }

    /// Whether it is still there. An owner without its file is dead: that is also how a person declares
    /// one dead that was on a host which is gone.
    pub fn life(&self, dir: &Path) -> Life {
        let file = match File::open(self.path(dir)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Life::Dead,
            Err(_) => return Life::Unknown,
        };
        let boot_id = host::boot_id();
        let here = if self.boot_id.is_empty() || boot_id.is_empty() {
            self.host == host::name()
        } else {
            self.boot_id == boot_id
        };
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Life::Alive,
            // The same name but another kernel: the host was booted since.
            Ok(()) if here || self.host == host::name() => Life::Dead,
            _ => Life::Unknown,
        }
    }

    /// All owners that may be at work on the store at `dir`, the oldest first.
    pub fn at_work(dir: &Path) -> Vec<Owner> {
        let mut owners: Vec<Owner> = files(dir)
            .filter_map(|path| read(&path))
            .filter(|owner| owner.life(dir) != Life::Dead)
            .collect();
        owners.sort_by(|a, b| a.since.total_cmp(&b.since).then(a.id.cmp(&b.id)));
        owners
    }

    /// Removes the files of owners that are dead: without its file an owner is dead, too.
    pub fn bury_dead(dir: &Path) {
        for path in files(dir) {
            if read(&path).is_some_and(|owner| owner.life(dir) == Life::Dead) {
                // Somebody else may have done it.
                let _ = std::fs::remove_file(path);
            }
        }
    }

    /// What is shown of it.
    pub fn holder(&self) -> StoreHolder {
        StoreHolder {
            pid: self.pid,
            host: self.host.clone(),
            since: self.since,
        }
    }

    /// Waits until it is gone, without a limit and without polling. For an owner of this host. Where it can't be
    /// waited for (no descriptor is left, no such locks here) this returns at once: [`life`](Owner::life) tells.
    pub fn wait_for_end(&self, dir: &Path) {
        if let Ok(file) = File::open(self.path(dir)) {
            let _ = file.lock_shared();
        }
    }
}

/// This process as an owner: holds the lock on its file. Dropping it is the owner's end.
#[derive(Debug)]
pub struct OwnerLock {
    owner: Owner,
    file: File,
    path: PathBuf,
}

impl OwnerLock {
    /// Makes this process an owner of the store at `dir`.
    pub fn create(dir: &Path) -> Result<OwnerLock, StoreError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let pid = std::process::id();
        let mut owner = Owner {
            id: String::new(),
            host: host::name(),
            boot_id: host::boot_id(),
            pid,
            start_time: host::process_start(pid).unwrap_or(0),
            since: unix_time(),
        };
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let seed = format!("{owner:?} {count}");
        owner.id = blake3::hash(seed.as_bytes()).to_hex()[..16].to_owned();
        let folder = folder(dir);
        let path = owner.path(dir);
        let io = StoreError::io;
        std::fs::create_dir_all(&folder).map_err(io("create", &folder))?;
        let mut file = tempfile::Builder::new()
            .prefix(".new-")
            .tempfile_in(&folder)
            .map_err(io("write in", &folder))?;
        let text = serde_json::to_vec(&owner).expect("plain data");
        file.write_all(&text).map_err(io("write", &path))?;
        match file.as_file().try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(source)) => return Err(io("lock", &path)(source)),
            Err(TryLockError::WouldBlock) => {
                return Err(io("lock", &path)(std::io::ErrorKind::WouldBlock.into()));
            }
        }
        let file = file
            .persist(&path)
            .map_err(|error| io("write", &path)(error.error))?;
        Ok(OwnerLock { owner, file, path })
    }

    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Tells those that watch the owners' folder that something has changed.
    pub fn announce(&self) {
        // The same byte again: only that it was written counts. Whoever misses it looks later by itself.
        let mut file = &self.file;
        let _ = file.rewind().and_then(|()| file.write_all(b"{"));
    }
}

impl Drop for OwnerLock {
    fn drop(&mut self) {
        // While the lock is held: nobody sees the file without it. A file that stays reads as dead.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The owners' files in the store at `dir`.
fn files(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    std::fs::read_dir(folder(dir))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "lock"))
}

/// The owner that the file at `path` names.
fn read(path: &Path) -> Option<Owner> {
    let mut text = Vec::new();
    File::open(path)
        .ok()?
        .take(4096)
        .read_to_end(&mut text)
        .ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_lives_as_long_as_its_lock() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        assert_eq!(Owner::at_work(dir), []);
        let first = OwnerLock::create(dir).unwrap();
        let second = OwnerLock::create(dir).unwrap();
        assert_ne!(first.owner().id, second.owner().id);
        assert_eq!(first.owner().life(dir), Life::Alive);
        assert_eq!(
            Owner::at_work(dir),
            [first.owner().clone(), second.owner().clone()]
        );
        first.announce();
        assert_eq!(read(&first.path).as_ref(), Some(first.owner()));
        let gone = second.owner().clone();
        drop(second);
        assert_eq!(gone.life(dir), Life::Dead);
        assert_eq!(Owner::at_work(dir), [first.owner().clone()]);

        // What a process that was killed leaves: the file without the lock.
        let text = serde_json::to_string(&gone).unwrap();
        std::fs::write(gone.path(dir), &text).unwrap();
        assert_eq!(gone.life(dir), Life::Dead);
        gone.wait_for_end(dir);
        Owner::bury_dead(dir);
        assert_eq!(
            files(dir).collect::<Vec<_>>(),
            std::slice::from_ref(&first.path)
        );

        // On another host nobody can tell, unless the file is gone.
        let far = Owner {
            host: "far away".into(),
            boot_id: "another".into(),
            ..gone.clone()
        };
        std::fs::write(far.path(dir), &text).unwrap();
        assert_eq!(far.life(dir), Life::Unknown);
        // The same host after a boot.
        let before = Owner {
            boot_id: "another".into(),
            ..gone
        };
        assert_eq!(before.life(dir), Life::Dead);
    }
}
