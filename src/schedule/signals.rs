//! Signals to the scheduler's own process, as messages.

use crate::schedule::actor::Input;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedSender;

/// Sends an input for every SIGINT, SIGTERM, SIGHUP and SIGTSTP from now on. Call it within a runtime,
/// before the first worker starts.
pub fn forward(inputs: &UnboundedSender<Input>) -> std::io::Result<()> {
    let interrupts = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ];
    for kind in interrupts {
        if kind == SignalKind::hangup() && is_ignored(kind) {
            // Started by `nohup`: a lost terminal is no reason to end.
            continue;
        }
        listen(kind, inputs, Input::Interrupt(kind.as_raw_value()))?;
    }
    listen(SignalKind::from_raw(libc::SIGTSTP), inputs, Input::Suspend)
}

fn listen(kind: SignalKind, inputs: &UnboundedSender<Input>, input: Input) -> std::io::Result<()> {
    let mut signals = signal(kind)?;
    let inputs = inputs.clone();
    tokio::spawn(async move {
        while signals.recv().await.is_some() {
            if inputs.send(input.clone()).is_err() {
                // The execution is over: the signal means again what it means to any program.
                restore(kind);
            }
        }
    });
    Ok(())
}

/// Whether whoever started this process wants it to ignore the signal.
fn is_ignored(kind: SignalKind) -> bool {
    // SAFETY: sigaction is plain data, and zero is a valid value of it.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: only asks; the memory is writable.
    let status = unsafe { libc::sigaction(kind.as_raw_value(), std::ptr::null(), &mut action) };
    status == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Gives the signal its default effect back, and sends it to this process.
fn restore(kind: SignalKind) {
    // SAFETY: system calls without memory; the default action needs no handler.
    unsafe {
        libc::signal(kind.as_raw_value(), libc::SIG_DFL);
        libc::raise(kind.as_raw_value());
    }
}

/// Stands still as Ctrl-Z asks, until somebody sends SIGCONT.
pub fn stand_still() {
    // SAFETY: a system call without memory.
    unsafe { libc::raise(libc::SIGSTOP) };
}
