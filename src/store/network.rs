//! Network file systems: what a store shouldn't lie on, and how it is kept there all the same.
//!
//! A write-ahead log needs memory that all processes at the database share, which no network file system gives to two
//! hosts: with it, the database of a store that two hosts use is sooner or later destroyed. So a store there is kept with
//! a rollback journal. That is slower, and readers and writers wait for each other.

use crate::store::connection::c_path;
use std::path::Path;

/// A warning if `dir` lies on a network file system: their locks are often not to be trusted.
pub(super) fn warning(dir: &Path) -> Option<String> {
    name_of(dir).map(|name| {
        format!(
            "the store {} is on a network file system ({name}): it is slower there, and readers and writers wait for \
             each other; use it from one host only, or put it on a local disk with --store",
            dir.display()
        )
    })
}

/// What the file system of `path` is called, if it is one that hosts can share.
pub(super) fn name_of(path: &Path) -> Option<&'static str> {
    #[cfg(test)]
    if let Some(name) = pretence::name_of(path) {
        return Some(name);
    }
    kernels_name_of(path)
}

#[cfg(target_os = "linux")]
fn kernels_name_of(path: &Path) -> Option<&'static str> {
    let path = c_path(path)?;
    let mut info = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the path is a valid C string, and statfs fills the structure if it returns 0.
    let info = unsafe {
        if libc::statfs(path.as_ptr(), info.as_mut_ptr()) != 0 {
            return None;
        }
        info.assume_init()
    };
    network_name(info.f_type as u32)
}

#[cfg(not(target_os = "linux"))]
fn kernels_name_of(_path: &Path) -> Option<&'static str> {
    None
}

/// The name of a network file system by its magic number (`statfs(2)`, `linux/magic.h`). What runs in user space may be
/// one (sshfs, s3fs, GlusterFS, and virtiofs, which has the same number): nobody can tell. Cluster file systems on shared
/// disks count, too.
#[cfg(target_os = "linux")]
pub(super) fn network_name(magic: u32) -> Option<&'static str> {
    match magic {
        0x6969 => Some("nfs"),
        0x517b => Some("smb"),
        0xff53_4d42 => Some("cifs"),
        0xfe53_4d42 => Some("smb2"),
        0x564c => Some("ncp"),
        0x5346_414f | 0x6b41_4653 => Some("afs"),
        0x7375_7245 => Some("coda"),
        0x0bd0_0bd0 => Some("lustre"),
        0x4750_4653 => Some("gpfs"),
        0x00c3_6400 => Some("ceph"),
        0x1983_0326 => Some("beegfs"),
        0x2003_0528 => Some("orangefs"),
        0x7461_636f => Some("ocfs2"),
        0x0116_1970 => Some("gfs2"),
        0x0102_1997 => Some("9p"),
        0x786f_4256 => Some("vboxsf"),
        0x6573_5546 => Some("fuse"),
        _ => None,
    }
}

/// Folders that tests take for ones on a network file system.
#[cfg(test)]
pub(super) mod pretence {
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, PoisonError};

    static FOLDERS: Mutex<Vec<(PathBuf, &'static str)>> = Mutex::new(Vec::new());

    /// Takes all below `folder` for files of the file system `name`.
    pub(in crate::store) fn set(folder: &Path, name: &'static str) {
        let mut folders = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        folders.push((folder.to_owned(), name));
    }

    pub(super) fn name_of(path: &Path) -> Option<&'static str> {
        let folders = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = folders
            .iter()
            .filter(|(folder, _)| path.starts_with(folder));
        known.next().map(|(_, name)| *name)
    }
}
