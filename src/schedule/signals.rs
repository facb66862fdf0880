//! Signals to the scheduler's own process, as messages.

use crate::schedule::actor::Input;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

/// Asks for a drain, however often it comes: `ablate stop`, and what batch systems send before they take a
/// machine away (`sbatch --signal=USR1@60`).
pub const DRAIN: i32 = libc::SIGUSR1;

/// Asks to end the workers at once: `ablate stop --now`.
pub const KILL: i32 = libc::SIGUSR2;

/// Sends an input for every SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 and SIGTSTP from now on. Call it within
/// a runtime, before the first worker starts and before others can know of this process.
pub fn forward(inputs: &UnboundedSender<Input>) -> std::io::Result<()> {
    let interrupts = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
        SignalKind::from_raw(DRAIN),
        SignalKind::from_raw(KILL),
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

/// The first signal that asks for the end, where nothing is under way yet; Ctrl-Z stands still.
pub async fn interruption(inputs: &mut UnboundedReceiver<Input>) -> i32 {
    loop {
        match inputs.recv().await {
            Some(Input::Interrupt(signal)) => return signal,
            Some(Input::Suspend) => stand_still(),
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}

/// A signal that has asked for the end since, if there is one.
pub fn pending(inputs: &mut UnboundedReceiver<Input>) -> Option<i32> {
    let mut asked = None;
    while let Ok(input) = inputs.try_recv() {
        match input {
            Input::Interrupt(signal) => asked = asked.or(Some(signal)),
            Input::Suspend => stand_still(),
            // Whoever asks anything now asks again.
            _ => {}
        }
    }
    asked
}

fn listen(kind: SignalKind, inputs: &UnboundedSender<Input>, input: Input) -> std::io::Result<()> {
    let mut signals = signal(kind)?;
    let inputs = inputs.clone();
    tokio::spawn(async move {
        while signals.recv().await.is_some() {
            let is_over = inputs.send(input.clone()).is_err();
            // These ask for what has happened then.
            let asks_for_the_end = [DRAIN, KILL].contains(&kind.as_raw_value());
            if is_over && !asks_for_the_end {
                // The signal means again what it means to any program.
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

/// How often the core is to be told to stop for a signal: once for those of a person, who goes one step
/// further with each; as often as it takes for those that name a state.
pub fn stops(signal: i32, is_stopping: bool, is_killing: bool) -> usize {
    match signal {
        DRAIN => usize::from(!is_stopping),
        KILL if is_killing => 0,
        KILL => 1 + usize::from(!is_stopping),
        _ => 1,
    }
}

/// Stands still as Ctrl-Z asks, until somebody sends SIGCONT.
pub fn stand_still() {
    // SAFETY: a system call without memory.
    unsafe { libc::raise(libc::SIGSTOP) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_go_on_and_commands_name_a_state() {
        let stages = [(false, false), (true, false), (true, true)];
        let of = |signal| stages.map(|(stopping, killing)| stops(signal, stopping, killing));
        assert_eq!(of(libc::SIGINT), [1, 1, 1]);
        assert_eq!(of(DRAIN), [1, 0, 0]);
        assert_eq!(of(KILL), [2, 1, 0]);
    }
}
