//! The end of an execution before its time: what the user is told, and what is said of attempts.

use super::Actor;
use crate::rundir::event::FailureClass;
use crate::schedule::core::{Closing, Failure, Message, Timer};
use crate::schedule::executor::Signal;
use crate::schedule::outcome::signal_name;
use crate::schedule::signals;

impl Actor<'_> {
    /// A signal asks for the end.
    pub(super) fn interrupt(&mut self, signal: i32) {
        // Those that the core has yet to take count, too.
        let ahead = self.messages.iter();
        let ahead = ahead
            .filter(|message| matches!(message, Message::Stop | Message::Timer(Timer::Budget)))
            .count();
        let asked = match (self.core.is_stopping(), self.core.is_killing()) {
            (_, true) => 2,
            (stopping, false) => usize::from(stopping) + ahead,
        };
        let (stopping, killing) = (asked > 0, asked > 1);
        let stops = signals::stops(signal, stopping, killing);
        if stops > 0 {
            self.tell_of_stop(signal);
        }
        self.messages
            .extend(std::iter::repeat_n(Message::Stop, stops));
    }

    /// Stands still with the workers until it is to go on.
    pub(super) fn suspend(&mut self) {
        self.clock.stop();
        self.signal_all(Signal::Suspend);
        signals::stand_still();
        self.signal_all(Signal::Resume);
        self.clock.go_on();
    }

    fn tell_of_stop(&mut self, signal: i32) {
        let name = signal_name(signal);
        match (
            self.interrupted.replace(self.interrupted.unwrap_or(signal)),
            self.attempts.len(),
        ) {
            (None, workers @ 1..) => {
                let text = match signal {
                    signals::KILL => format!("{name}: ending {workers} workers"),
                    signals::DRAIN => format!(
                        "{name}: waiting for {workers} workers to write checkpoints; `ablate stop --now` ends \
                         them now"
                    ),
                    _ => format!(
                        "{name}: waiting for {workers} workers to write checkpoints; once more ends them now"
                    ),
                };
                self.run.progress.note(&text);
            }
            (Some(_), 1..) => self
                .run
                .progress
                .note(&format!("{name}: ending the workers")),
            (_, 0) => {}
        }
    }

    fn signal_all(&mut self, signal: Signal) {
        self.attempts
            .values_mut()
            .for_each(|attempt| attempt.signal(signal));
    }
}

/// What is said of an attempt that a stop has ended: by that signal, or by what the execution is limited by.
pub(super) fn interruption(signal: Option<i32>, closed: Option<Closing>) -> Failure {
    let cause = match (signal, closed) {
        (Some(signal), _) => format!("interrupted by {}", signal_name(signal)),
        (None, Some(Closing::Budget)) => "interrupted by the end of --budget".into(),
        (None, _) => "interrupted".into(),
    };
    Failure {
        class: FailureClass::Killed,
        message: format!("{cause}; goes on from its last checkpoint"),
    }
}
