//! Network file systems: what a store shouldn't lie on.

use crate::store::open::c_path;
use std::path::Path;

/// A warning if `dir` lies on a network file system: WAL shares memory between the processes of one
/// host, and locks of network file systems are often not to be trusted.
pub(super) fn warning(dir: &Path) -> Option<String> {
    name_of(dir).map(|name| {
        format!(
            "the store {} is on a network file system ({name}): use it from one host only, or put it on a local disk with --store",
            dir.display()
        )
    })
}

#[cfg(target_os = "linux")]
fn name_of(dir: &Path) -> Option<&'static str> {
    let path = c_path(dir)?;
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
fn name_of(_dir: &Path) -> Option<&'static str> {
    None
}

/// The name of a network file system by its magic number (`statfs(2)`).
#[cfg(target_os = "linux")]
pub(super) fn network_name(magic: u32) -> Option<&'static str> {
    match magic {
        0x6969 => Some("nfs"),
        0x517b => Some("smb"),
        0xff53_4d42 => Some("cifs"),
        0xfe53_4d42 => Some("smb2"),
        0x5346_414f => Some("afs"),
        0x0bd0_0bd0 => Some("lustre"),
        0x4750_4653 => Some("gpfs"),
        0x00c3_6400 => Some("ceph"),
        0x1983_0326 => Some("beegfs"),
        _ => None,
    }
}
