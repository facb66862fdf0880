//! A process without a guard: it leads a group of its own, is bound to the thread that started it by its death signal,
//! and shares our memory until it has executed its file.
//!
//! `fork` would copy the page tables of the scheduler for every worker, and each page that either writes before the
//! worker's exec: more than all else that a short stage costs.

use super::guard::{Stack, unblocked};
use super::raw;
use super::start::{self, Start};
use std::io;

/// Starts the process; returns its number. It gets SIGKILL when the calling thread ends. The signal `ignored` has no
/// effect on it until it says what it wants of it.
///
/// # Errors
/// No process can be started, or its file can't be executed.
pub fn spawn(start: &Start, ignored: libc::c_int) -> io::Result<u32> {
    let stack = Stack::new()?;
    let mut birth = Birth {
        start: start.raw(),
        parent: std::process::id() as libc::pid_t,
        ignored,
        error: 0,
    };
    let mut before: libc::sigset_t = unblocked();
    // SAFETY: CLONE_VFORK: this thread stands still until the process has left our memory, so that stack and `birth`
    // outlive its use of them. All signals are blocked meanwhile: none of our handlers runs in it.
    let (pid, error) = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let pid = libc::clone(
            process,
            stack.top().cast(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            (&raw mut birth).cast(),
        );
        let error = io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        (pid, error)
    };
    if pid < 0 {
        return Err(error);
    }
    // SAFETY: `birth` is ours. The process has written it through a pointer before this thread went on.
    match unsafe { (&raw const birth.error).read_volatile() } {
        0 => Ok(pid as u32),
        number => {
            let mut status = 0;
            // SAFETY: a system call on our own child, which has ended.
            unsafe { libc::waitpid(pid, &mut status, 0) };
            Err(io::Error::from_raw_os_error(number))
        }
    }
}

/// What the process is born with.
struct Birth {
    start: start::Raw,
    parent: libc::pid_t,
    ignored: libc::c_int,
    /// Why the file could not be executed; 0: it was.
    error: i32,
}

/// What the process does before it is its program.
extern "C" fn process(birth: *mut libc::c_void) -> libc::c_int {
    // SAFETY: our parent's thread stands still until we are gone.
    let birth = unsafe { &mut *birth.cast::<Birth>() };
    raw::lead_group(0);
    raw::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as usize);
    // It may have died before that: then nobody will ever send the signal.
    if raw::parent() != birth.parent {
        raw::exit(libc::EXIT_FAILURE);
    }
    raw::ignore(birth.ignored);
    // SAFETY: all signals are blocked, and what it points to lives in our parent.
    birth.error = unsafe { birth.start.execute() };
    raw::exit(127)
}
