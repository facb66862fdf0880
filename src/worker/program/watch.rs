//! The file of a program's reports, and word of its growth.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Largest file of reports. A program that writes more is not listened to any more, and the file is cut.
pub const CAP: u64 = 256 << 20;

/// Bytes read at a time.
const CHUNK: usize = 64 << 10;

/// A file that a program appends to.
#[derive(Debug)]
pub struct Watch {
    file: File,
    read: u64,
    /// Word of changes; `None` where the system gives none, and the file is looked at now and then.
    notices: Option<OwnedFd>,
    pub full: bool,
}

impl Watch {
    /// Creates the file, empty.
    ///
    /// # Errors
    /// It can't be created.
    pub fn create(path: &Path) -> io::Result<Watch> {
        // The program may be another user's on another day: it only appends.
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        Ok(Watch {
            notices: notices(path),
            file,
            read: 0,
            full: false,
        })
    }

    /// What can be waited for.
    pub fn notices(&self) -> Option<&OwnedFd> {
        self.notices.as_ref()
    }

    /// The next bytes; empty at the end of what is there. Past [`CAP`] there is no more.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn next(&mut self) -> io::Result<Vec<u8>> {
        if self.full {
            if self.file.metadata()?.len() > CAP + (CAP >> 2) {
                self.file.set_len(CAP)?;
            }
            return Ok(Vec::new());
        }
        let mut bytes = vec![0; CHUNK];
        let count = loop {
            match self.file.read(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        bytes.truncate(count);
        // Somebody has written it anew (`>` instead of `>>`): what is there now is news.
        if count == 0 && self.file.metadata()?.len() < self.read {
            self.file.seek(SeekFrom::Start(0))?;
            self.read = 0;
            return self.next();
        }
        self.read += count as u64;
        self.full = self.read > CAP;
        Ok(bytes)
    }

    /// Forgets the notices that have come: what they tell of is read now.
    pub fn drain(&self) {
        if let Some(notices) = &self.notices {
            use std::os::fd::AsRawFd;
            let mut buffer = [0u8; 4096];
            // SAFETY: the buffer is writable and its length is given; the descriptor doesn't block.
            while unsafe {
                libc::read(
                    notices.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                )
            } == buffer.len() as isize
            {}
        }
    }
}

fn notices(path: &Path) -> Option<OwnedFd> {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: what inotify_init1 returns is a descriptor of our own; the path ends with a zero.
    unsafe {
        let file = libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK);
        if file < 0 {
            return None;
        }
        let file = OwnedFd::from_raw_fd(file);
        use std::os::fd::AsRawFd;
        let watch = libc::inotify_add_watch(file.as_raw_fd(), path.as_ptr(), libc::IN_MODIFY);
        (watch >= 0).then_some(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `>` instead of `>>`: what is written then is heard, too.
    #[test]
    fn a_file_that_is_written_anew_is_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reports.jsonl");
        let mut watch = Watch::create(&path).unwrap();
        assert_eq!(watch.next().unwrap(), b"");
        std::fs::write(&path, "first\nsecond\n").unwrap();
        assert_eq!(watch.next().unwrap(), b"first\nsecond\n");
        assert_eq!(watch.next().unwrap(), b"");
        std::fs::write(&path, "third\n").unwrap();
        assert_eq!(watch.next().unwrap(), b"third\n");
        std::fs::write(&path, "").unwrap();
        assert_eq!(watch.next().unwrap(), b"");
        std::fs::write(&path, "fourth\n").unwrap();
        assert_eq!(watch.next().unwrap(), b"fourth\n");
    }
}
