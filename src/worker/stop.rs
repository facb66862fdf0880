//! Requests to stop: SIGTERM and SIGINT ask a worker to write a checkpoint and leave; and word of how long it was
//! stopped.

use crate::rundir::standstill;
use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_: libc::c_int) {
    REQUESTED.store(true, Ordering::Relaxed);
}

/// From now on SIGTERM and SIGINT set the flag instead of ending the process.
pub fn install() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe {
            libc::signal(signal, on_signal as *const () as libc::sighandler_t);
        }
    }
    listen_for_standstill();
}

/// The signal by which a scheduler tells a worker how long it has stood still: its value is a number of milliseconds.
/// Workers are born ignoring it.
pub fn standstill_signal() -> libc::c_int {
    libc::SIGRTMIN()
}

extern "C" fn on_standstill(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid structure; adding to an atomic is async-signal-safe.
    standstill::add(unsafe { (*info).si_value().sival_ptr } as u64);
}

/// From now on the time that the scheduler tells counts as time stood still.
pub fn listen_for_standstill() {
    // SAFETY: the structure is plain data for which zeroes are valid, and the handler is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_standstill as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        libc::sigaction(standstill_signal(), &action, std::ptr::null_mut());
    }
}

/// Tells the worker `pid` that it has stood still.
pub fn tell_standstill(pid: libc::pid_t, time: std::time::Duration) {
    let value = libc::sigval {
        sival_ptr: time.as_millis() as usize as *mut libc::c_void,
    };
    // SAFETY: a system call; the value is a number.
    unsafe { libc::sigqueue(pid, standstill_signal(), value) };
}

/// Whether a stop was asked for.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn time_stood_still_is_no_time_at_work() {
        listen_for_standstill();
        let watch = standstill::Stopwatch::start();
        let before = standstill::total();
        tell_standstill(std::process::id() as libc::pid_t, Duration::from_secs(3600));
        tell_standstill(std::process::id() as libc::pid_t, Duration::from_millis(7));
        while standstill::total() < before + Duration::from_millis(3_600_007) {
            std::thread::yield_now();
        }
        // Two hours can't have passed.
        assert!(watch.elapsed() < Duration::from_secs(3600));
    }
}
