//! `ablate stop`: ends the runs that are at work on a store, wherever they were started.

use super::attach::{is_here, owners};
use super::exit::Exit;
use super::planning::say;
use crate::rundir::host;
use crate::schedule::signals;
use crate::store::Owner;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

/// Ask the runs at work on the store to end, and wait until they are gone
///
/// Their workers write checkpoints and leave, as at a first Ctrl-C; with --now they are killed at once, as
/// at a second. Nothing is lost either way: `ablate run` goes on where they stopped.
///
/// Exit codes: 0 they are gone, or there were none; 5 one of them is on another host.
#[derive(Debug, clap::Args)]
pub struct StopArgs {
    /// Folder of the store
    #[arg(
        long,
        value_name = "DIR",
        env = "ABLATE_STORE",
        default_value = "ablate-store"
    )]
    pub store: PathBuf,
    /// Kill the workers instead of waiting for their checkpoints
    #[arg(long)]
    pub now: bool,
    /// Only the run whose scheduler has this process id
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
}

/// How long a scheduler that was told to end at once may take before it is killed itself. That loses
/// nothing: its workers die with it, and the next run goes on from their checkpoints.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Runs the command.
pub fn run(args: &StopArgs) -> Exit {
    let owners = match owners(&args.store, args.pid) {
        Ok(owners) => owners,
        Err(exit) => return exit,
    };
    if owners.is_empty() {
        say(format_args!(
            "no `ablate run` is at work on {}",
            args.store.display()
        ));
        return Exit::Done;
    }
    let mut exit = Exit::Done;
    let mut asked = Vec::new();
    for owner in owners {
        if !is_here(&owner, &args.store) {
            say(format_args!(
                "error: pid {} is on host {}: stop it there",
                owner.pid, owner.host
            ));
            exit = Exit::Unreachable;
            continue;
        }
        match Process::of(&owner) {
            Some(process) => {
                let signal = match args.now {
                    true => signals::KILL,
                    false => signals::DRAIN,
                };
                process.signal(signal);
                // One that stands still (Ctrl-Z) would not hear it.
                process.signal(libc::SIGCONT);
                let pid = owner.pid;
                say(match args.now {
                    true => format!("pid {pid}: ends its workers"),
                    false => format!(
                        "pid {pid}: waits for its workers to write checkpoints (--now ends them)"
                    ),
                });
                asked.push((owner, process));
            }
            // Gone in this moment, or in a container whose processes can't be seen from here.
            None if is_here(&owner, &args.store) => {
                say(format_args!(
                    "error: pid {} can't be seen from here: stop it in its container",
                    owner.pid
                ));
                exit = Exit::Unreachable;
            }
            None => {}
        }
    }
    for (owner, process) in asked {
        if args.now && !process.wait(Some(AT_ONCE)) {
            process.signal(libc::SIGKILL);
            say(format_args!(
                "pid {} did not answer and was killed",
                owner.pid
            ));
        }
        process.wait(None);
        owner.wait_for_end(&args.store);
        say(format_args!("pid {} is gone", owner.pid));
    }
    exit
}

/// A process that can't be mistaken for another: a descriptor stands for it, not its number.
struct Process(OwnedFd);

impl Process {
    /// The owner's process, if it is there: the same number and the same start.
    fn of(owner: &Owner) -> Option<Process> {
        let pid = libc::pid_t::try_from(owner.pid).ok()?;
        // SAFETY: a system call without memory; the descriptor that it returns is ours.
        let process = unsafe {
            let descriptor = libc::syscall(libc::SYS_pidfd_open, pid, 0);
            if descriptor < 0 {
                return None;
            }
            Process(OwnedFd::from_raw_fd(descriptor as i32))
        };
        // Asked after it was opened: the descriptor stands for the process that this tells of, or for one
        // that is gone.
        (host::process_start(owner.pid) == Some(owner.start_time)).then_some(process)
    }

    /// Sends a signal; nothing happens if the process is gone.
    fn signal(&self, signal: i32) {
        // SAFETY: a system call; no information goes along.
        unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
    }

    /// Waits until it is gone, not longer than `most`; says whether it is.
    fn wait(&self, most: Option<Duration>) -> bool {
        let mut poll = libc::pollfd {
            fd: self.0.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let timeout = most.map_or(-1, |most| most.as_millis() as libc::c_int);
        loop {
            // SAFETY: one readable and writable record, and its number is given.
            let found = unsafe { libc::poll(&mut poll, 1, timeout) };
            if found >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return found > 0;
            }
        }
    }
}
