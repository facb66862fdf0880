//! The end of an execution before its time: what the user is told, and what is said of attempts.

use super::Actor;
use crate::rundir::event::FailureClass;
use crate::schedule::core::{Closing, Failure};
use crate::schedule::executor::Signal;
use crate::schedule::outcome::signal_name;
use crate::schedule::signals;

impl Actor<'_> {
    pub(super) fn interrupt(&mut self, signal: i32) {
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

    /// What is said of an attempt that a stop has ended.
    pub(super) fn interruption(&self) -> Failure {
        let cause = match (self.interrupted, self.closed) {
            (Some(signal), _) => format!("interrupted by {}", signal_name(signal)),
            (None, Some(Closing::Budget)) => "interrupted by the end of --budget".into(),
            (None, _) => "interrupted".into(),
        };
        Failure {
            class: FailureClass::Killed,
            message: format!("{cause}; goes on from its last checkpoint"),
        }
    }

    pub(super) fn signal_all(&mut self, signal: Signal) {
        self.attempts
            .values_mut()
            .for_each(|attempt| attempt.signal(signal));
    }
}
