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
        listen(kind, inputs, Input::Interrupt(kind.as_raw_value()))?;
    }
    listen(SignalKind::from_raw(libc::SIGTSTP), inputs, Input::Suspend)
}

fn listen(kind: SignalKind, inputs: &UnboundedSender<Input>, input: Input) -> std::io::Result<()> {
    let mut signals = signal(kind)?;
    let inputs = inputs.clone();
    tokio::spawn(async move {
        while signals.recv().await.is_some() && inputs.send(input.clone()).is_ok() {}
    });
    Ok(())
}

/// Stands still as Ctrl-Z asks, until somebody sends SIGCONT.
pub fn stand_still() {
    // SAFETY: a system call without memory.
    unsafe { libc::raise(libc::SIGSTOP) };
}
