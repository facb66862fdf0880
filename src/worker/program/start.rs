//! A program that is about to be started: everything that has to be allocated and looked up, done beforehand.

use super::raw;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A command, ready to be executed without another allocation.
#[derive(Debug)]
pub struct Start {
    program: CString,
    _arguments: Vec<CString>,
    argv: Vec<*const libc::c_char>,
    _variables: Vec<CString>,
    envp: Vec<*const libc::c_char>,
    folder: Option<CString>,
    log: File,
    input: File,
    /// A bit for each core that it may use; empty: all.
    cores: Vec<u64>,
}

// SAFETY: its pointers lead to its own texts, which move with nobody and are never written.
unsafe impl Send for Start {}

impl Start {
    /// The program, arguments, environment and folder of `command` (its streams and other settings can't be asked
    /// for); stdout and stderr go to `log`, stdin is empty, and it is bound to `cores` where there are any.
    ///
    /// # Errors
    /// There is no such program, or a text has a zero byte.
    pub fn new(command: &Command, log: File, cores: &[usize]) -> io::Result<Start> {
        Start::named(command, command.get_program(), log, cores)
    }

    /// [`Start::new`] of a process that calls itself `name` (`argv[0]`, which a command can't be asked for).
    ///
    /// # Errors
    /// As there.
    pub fn named(command: &Command, name: &OsStr, log: File, cores: &[usize]) -> io::Result<Start> {
        let environment = environment(command);
        let program = locate(command, &environment)?;
        let text = |text: &OsStr| CString::new(text.as_bytes()).map_err(has_nul);
        let arguments: Vec<CString> = [name]
            .into_iter()
            .chain(command.get_args())
            .map(text)
            .collect::<io::Result<_>>()?;
        let variables: Vec<CString> = environment
            .into_iter()
            .map(|(mut name, value)| {
                name.push("=");
                name.push(value);
                CString::new(name.into_vec()).map_err(has_nul)
            })
            .collect::<io::Result<_>>()?;
        let pointers = |texts: &[CString]| {
            let end = [std::ptr::null()];
            texts.iter().map(|text| text.as_ptr()).chain(end).collect()
        };
        let mut mask = vec![0u64; cores.iter().max().map_or(0, |largest| largest / 64 + 1)];
        for core in cores {
            mask[core / 64] |= 1 << (core % 64);
        }
        let folder = command.get_current_dir();
        Ok(Start {
            program: text(program.as_os_str())?,
            argv: pointers(&arguments),
            _arguments: arguments,
            envp: pointers(&variables),
            _variables: variables,
            folder: folder.map(|folder| text(folder.as_os_str())).transpose()?,
            log,
            input: File::open("/dev/null")?,
            cores: mask,
        })
    }

    pub(super) fn raw(&self) -> Raw {
        Raw {
            program: self.program.as_ptr(),
            argv: self.argv.as_ptr(),
            envp: self.envp.as_ptr(),
            folder: self
                .folder
                .as_ref()
                .map_or(std::ptr::null(), |folder| folder.as_ptr()),
            log: self.log.as_raw_fd(),
            input: self.input.as_raw_fd(),
            cores: self.cores.as_ptr(),
            core_bytes: size_of_val(self.cores.as_slice()),
        }
    }
}

/// [`Start`] as the new process reads it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw {
    program: *const libc::c_char,
    argv: *const *const libc::c_char,
    envp: *const *const libc::c_char,
    folder: *const libc::c_char,
    log: RawFd,
    input: RawFd,
    cores: *const u64,
    core_bytes: usize,
}

impl Raw {
    /// Becomes the program. Comes back with an error number only.
    ///
    /// # Safety
    /// To be called in a new process, with all signals blocked, while the [`Start`] lives.
    pub unsafe fn execute(&self) -> i32 {
        const DUP: libc::c_long = libc::SYS_dup3;
        // SAFETY: all pointers are those of the `Start`.
        unsafe {
            // A descriptor that is its own copy would stay closed on exec; ours are never that low.
            for (from, to) in [(self.input, 0), (self.log, 1), (self.log, 2)] {
                let answer = raw::call(DUP, [from as usize, to, 0, 0, 0]);
                if answer < 0 {
                    return -(answer as i32);
                }
            }
            if !self.folder.is_null() {
                let answer = raw::call(libc::SYS_chdir, [self.folder as usize, 0, 0, 0, 0]);
                if answer < 0 {
                    return -(answer as i32);
                }
            }
            if self.core_bytes > 0 {
                // Only speed depends on it: failing is no error.
                let mask = [0, self.core_bytes, self.cores as usize, 0, 0];
                raw::call(libc::SYS_sched_setaffinity, mask);
            }
            // No descriptor of ours reaches the program; all that Rust opens is closed on exec anyhow.
            let all = [
                3,
                u32::MAX as usize,
                libc::CLOSE_RANGE_CLOEXEC as usize,
                0,
                0,
            ];
            raw::call(libc::SYS_close_range, all);
            // Our handlers are gone with exec, but must not run before that, in our memory. What is ignored stays so,
            // except for SIGPIPE, which Rust ignores.
            let default = [0usize; 4];
            for signal in 1..=64usize {
                let mut before = [0usize; 4];
                let ask = [signal, 0, &raw mut before as usize, 8, 0];
                raw::call(libc::SYS_rt_sigaction, ask);
                if before[0] != libc::SIG_IGN || signal == libc::SIGPIPE as usize {
                    let action = [signal, &raw const default as usize, 0, 8, 0];
                    raw::call(libc::SYS_rt_sigaction, action);
                }
            }
            raw::block(0);
            let answer = raw::call(
                libc::SYS_execve,
                [
                    self.program as usize,
                    self.argv as usize,
                    self.envp as usize,
                    0,
                    0,
                ],
            );
            -(answer as i32)
        }
    }
}

/// An argument or a variable with a zero byte can't be given to a program.
fn has_nul(_: std::ffi::NulError) -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

/// Our environment with the command's changes, sorted.
fn environment(command: &Command) -> Vec<(OsString, OsString)> {
    let mut all: std::collections::BTreeMap<OsString, OsString> = std::env::vars_os().collect();
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => all.insert(name.to_owned(), value.to_owned()),
            None => all.remove(name),
        };
    }
    all.into_iter().collect()
}

/// The file of the command's program: a path as it is (it is executed in the command's folder), a name by `PATH`.
fn locate(command: &Command, environment: &[(OsString, OsString)]) -> io::Result<PathBuf> {
    let program = command.get_program();
    let missing = || io::Error::from_raw_os_error(libc::ENOENT);
    if program.is_empty() {
        return Err(missing());
    }
    if program.as_bytes().contains(&b'/') {
        return Ok(program.into());
    }
    let path = environment
        .iter()
        .find(|(name, _)| name == "PATH")
        .map_or_else(|| OsString::from("/usr/bin:/bin"), |(_, path)| path.clone());
    let folder = command.get_current_dir().unwrap_or(Path::new(""));
    let mut error = missing();
    for entry in std::env::split_paths(&path) {
        let file = folder.join(entry).join(program);
        if !file.is_file() {
            continue;
        }
        let name = CString::new(file.as_os_str().as_bytes()).map_err(io::Error::other)?;
        // SAFETY: the name ends with a zero.
        if unsafe { libc::access(name.as_ptr(), libc::X_OK) } == 0 {
            return Ok(file);
        }
        error = io::Error::last_os_error();
    }
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_path() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("plain"), "").unwrap();
        let mut command = Command::new("sh");
        let found = |command: &Command| locate(command, &environment(command));
        assert!(found(&command).unwrap().is_absolute());
        command.env("PATH", folder.path());
        assert_eq!(found(&command).unwrap_err().kind(), io::ErrorKind::NotFound);
        let mut command = Command::new("plain");
        command.env("PATH", folder.path());
        assert_eq!(
            found(&command).unwrap_err().kind(),
            io::ErrorKind::PermissionDenied
        );
        assert_eq!(found(&Command::new("./x")).unwrap(), Path::new("./x"));
        assert!(found(&Command::new("")).is_err());
    }

    #[test]
    fn the_environment_is_ours_with_changes() {
        let mut command = Command::new("x");
        command.env("ABLATE_A", "1").env_remove("PATH");
        let all = environment(&command);
        let get = |name: &str| all.iter().find(|(known, _)| known == name);
        assert!(get("PATH").is_none());
        assert_eq!(get("ABLATE_A").unwrap().1, "1");
    }
}
