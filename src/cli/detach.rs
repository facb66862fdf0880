//! `ablate run --detach`: a scheduler without a terminal, and the way there.
//!
//! The command starts itself again in a session of its own, so that no terminal can take it along, and
//! waits for one line: that it has planned and has the store. Until then the new process speaks to the same
//! terminal, and what it would have failed with is what the command fails with. From then on it writes to a
//! log in the store.

use super::exit::Exit;
use super::planning::say;
use crate::rundir::host;
use crate::rundir::log::unix_time;
use crate::store::utc;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Name of the option that carries the pipe to the detached process.
const OPTION: &str = "--detached-through";

/// Folder of the logs in a store.
const LOGS: &str = "logs";

/// Starts the command line of this process again, detached; returns once it is at work.
pub fn start(store: &Path) -> Exit {
    match spawn(store) {
        Ok(exit) => exit,
        Err(error) => {
            say(format_args!(
                "error: can't start it in the background: {error}"
            ));
            Exit::Store
        }
    }
}

fn spawn(store: &Path) -> io::Result<Exit> {
    let (reader, writer) = io::pipe()?;
    let descriptor = writer.as_raw_fd();
    let own = Path::new("/proc/self/exe");
    let program = match own.exists() {
        true => own.to_owned(),
        false => std::env::current_exe()?,
    };
    let mut command = Command::new(program);
    command
        .arg0("ablate")
        .args(arguments(std::env::args_os().skip(1), descriptor))
        .stdin(Stdio::null());
    // SAFETY: between fork and exec only system calls are made.
    unsafe {
        command.pre_exec(move || {
            if libc::setsid() < 0 {
                return Err(io::Error::last_os_error());
            }
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            // It is to reach the new program.
            match libc::fcntl(descriptor, libc::F_SETFD, 0) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        });
    }
    let mut child = command.spawn()?;
    drop(writer);
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line)?;
    if line.is_empty() {
        // It has ended: for want of work, or it has said why.
        let status = child.wait()?;
        let code = match (status.code(), status.signal()) {
            (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
            (None, signal) => 128 + signal.map_or(0, |signal| signal as u8),
        };
        return Ok(Exit::Passed(code));
    }
    let option = match store == Path::new("ablate-store") {
        true => String::new(),
        false => format!(" --store {}", store.display()),
    };
    say(format_args!(
        "runs in the background: pid {}, log {}\n`ablate attach{option}` shows its progress, \
         `ablate stop{option}` ends it",
        child.id(),
        line.trim_end()
    ));
    Ok(Exit::Done)
}

/// `arguments` of `ablate run …`, with the pipe right behind the command's name.
fn arguments(arguments: impl Iterator<Item = OsString>, descriptor: i32) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.collect();
    let place = 1.min(arguments.len());
    arguments.insert(place, format!("{OPTION}={descriptor}").into());
    arguments
}

/// The detached process, before it is at work.
pub struct Detached {
    pipe: File,
}

impl Detached {
    /// Takes over the pipe of that number.
    pub fn new(descriptor: i32) -> io::Result<Detached> {
        host::set_process_name("ablate");
        // SAFETY: stat is plain data, for which zeroes are valid, and it is writable. The number comes from
        // our parent, but anybody may write it: only a pipe is taken, and this process has no other.
        let pipe = unsafe {
            let mut stat: libc::stat = std::mem::zeroed();
            let found = libc::fstat(descriptor, &mut stat) == 0;
            if descriptor <= 2 || !found || stat.st_mode & libc::S_IFMT != libc::S_IFIFO {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
            File::from_raw_fd(descriptor)
        };
        Ok(Detached { pipe })
    }

    /// From here on it works alone: stdout and stderr go to a log in the store at `dir`, and whoever waits
    /// is told. An error if nobody does any more.
    pub fn at_work(mut self, dir: &Path) -> io::Result<()> {
        let folder = dir.join(LOGS);
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(name(&utc(unix_time()), std::process::id()));
        let log = OpenOptions::new().create(true).append(true).open(&path)?;
        for stream in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
            // SAFETY: both descriptors are open.
            if unsafe { libc::dup2(log.as_raw_fd(), stream) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        writeln!(self.pipe, "{}", path.display())
    }
}

/// `run-20261124-142603-4711.log` of `2026-11-24 14:26:03 UTC`.
fn name(utc: &str, pid: u32) -> PathBuf {
    let digits: String = utc.chars().filter(char::is_ascii_digit).collect();
    let (day, time) = digits.split_at(8.min(digits.len()));
    format!("run-{day}-{time}-{pid}.log").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pipe_comes_before_all_that_may_look_like_files() {
        let line = ["run", "a.yaml", "--detach", "--", "--b.yaml"].map(OsString::from);
        assert_eq!(
            arguments(line.into_iter(), 5),
            [
                "run",
                "--detached-through=5",
                "a.yaml",
                "--detach",
                "--",
                "--b.yaml"
            ]
        );
    }

    #[test]
    fn logs_are_named_by_time_and_process() {
        assert_eq!(
            name("2026-11-24 14:26:03 UTC", 7),
            PathBuf::from("run-20261124-142603-7.log")
        );
    }

    #[test]
    fn nobody_elses_descriptor_is_taken() {
        assert!(Detached::new(1).is_err());
        assert!(Detached::new(1_000_000).is_err());
    }
}
