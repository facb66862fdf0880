//! What became of an attempt: from the worker's exit status, its last event, and its log.
//!
//! In this order: a worker that said `finished` has its results on disk, whatever happened to it
//! afterwards; one that said `failed` is believed; else the exit status speaks, and the log's last
//! lines are the cause.

use crate::rundir::event::{Event, EventKind, FailureClass, HOST_MEMORY_FULL};
use crate::schedule::core::{Failure, Outcome};
use crate::schedule::symptom::symptom;

/// How a worker's process ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exit {
    /// Exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel's out-of-memory killer was at work in our control group while it ran.
    pub oom_kill: bool,
    /// Next to nothing was left on the file system of its run directory when it ended.
    pub disk_full: bool,
    /// Largest resident set in bytes.
    pub peak_rss_bytes: u64,
}

/// The last thing that a worker said about its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LastWord {
    #[default]
    Nothing,
    Finished,
    Failed(Failure),
}

impl LastWord {
    /// Takes note of `event`. A new start makes earlier words void.
    pub fn hear(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Started { .. } => *self = LastWord::Nothing,
            EventKind::Finished { .. } => *self = LastWord::Finished,
            EventKind::Failed { class, message } => {
                *self = LastWord::Failed(Failure {
                    class: *class,
                    message: message.clone(),
                });
            }
            _ => {}
        }
    }
}

/// Judges an attempt. `last_lines` is the end of its log, if there is any.
pub fn judge(exit: &Exit, word: &LastWord, last_lines: Option<&str>) -> Outcome {
    match word {
        LastWord::Finished => return Outcome::Done,
        LastWord::Failed(failure) => return Outcome::Failed(failure.clone()),
        LastWord::Nothing => {}
    }
    let fail = |class, what: String| {
        let message = match last_lines {
            Some(lines) => format!("{what}: {lines}"),
            None => what,
        };
        Outcome::Failed(Failure { class, message })
    };
    // A worker that is a shell, or was started by one, reports a signal as 128 + its number.
    let signal = exit.signal.or(match exit.code {
        Some(code @ (137 | 143)) => Some(code - 128),
        _ => None,
    });
    if let Some(signal) = signal {
        let what = format!("ended by signal {signal} ({})", signal_name(signal));
        return match signal {
            libc::SIGKILL if exit.oom_kill => Outcome::Failed(Failure {
                class: FailureClass::OutOfMemory,
                message: format!("{HOST_MEMORY_FULL}: ended by the kernel"),
            }),
            // Rust and C++ abort where an allocation fails.
            libc::SIGABRT if last_lines.and_then(symptom).is_some() => {
                let (class, cause) = last_lines
                    .and_then(symptom)
                    .unwrap_or((FailureClass::Bug, String::new()));
                fail(class, format!("{cause}: {what}"))
            }
            libc::SIGSEGV
            | libc::SIGABRT
            | libc::SIGBUS
            | libc::SIGILL
            | libc::SIGFPE
            | libc::SIGTRAP
            | libc::SIGSYS => fail(FailureClass::Bug, what),
            // Whoever sent it is no part of the worker: what it last wrote isn't the cause.
            _ => Outcome::Failed(Failure {
                class: FailureClass::Killed,
                message: what,
            }),
        };
    }
    match exit.code {
        Some(0) => fail(FailureClass::Incomplete, "ended without a result".into()),
        Some(code) => match FailureClass::from_exit_code(code) {
            Some(class) => match last_lines {
                Some(lines) => Outcome::Failed(Failure {
                    class,
                    message: lines.into(),
                }),
                None => fail(class, format!("ended with exit code {code}")),
            },
            None => {
                let what = format!("ended with exit code {code}");
                match last_lines.and_then(symptom) {
                    Some((class, cause)) => fail(class, format!("{cause}: {what}")),
                    // It was not the one that was ended, but one that it needs.
                    None if exit.oom_kill => fail(
                        FailureClass::OutOfMemory,
                        format!("{HOST_MEMORY_FULL}: the kernel ended a process of it; it {what}"),
                    ),
                    // Its log lies there, too: what it said of it may not have found room.
                    None if exit.disk_full => fail(
                        FailureClass::DiskFull,
                        format!("the disk is full: hardly anything was left when it {what}"),
                    ),
                    None => fail(FailureClass::Bug, what),
                }
            }
        },
        None => fail(FailureClass::Bug, "ended in an unknown way".into()),
    }
}

/// The usual name of a signal.
pub fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(code: i32) -> Exit {
        Exit {
            code: Some(code),
            ..Exit::default()
        }
    }

    fn signal(signal: i32) -> Exit {
        Exit {
            signal: Some(signal),
            ..Exit::default()
        }
    }

    fn class(outcome: Outcome) -> FailureClass {
        match outcome {
            Outcome::Failed(failure) => failure.class,
            Outcome::Done => panic!("done"),
        }
    }

    #[test]
    fn success_needs_the_word() {
        assert_eq!(judge(&code(0), &LastWord::Finished, None), Outcome::Done);
        let Outcome::Failed(failure) = judge(&code(0), &LastWord::Nothing, None) else {
            panic!()
        };
        assert_eq!(failure.class, FailureClass::Incomplete);
        assert_eq!(failure.message, "ended without a result");
    }

    #[test]
    fn a_finished_stage_stays_finished() {
        assert_eq!(
            judge(&signal(libc::SIGKILL), &LastWord::Finished, None),
            Outcome::Done
        );
        assert_eq!(judge(&code(101), &LastWord::Finished, None), Outcome::Done);
    }

    #[test]
    fn the_workers_own_words_win() {
        let failure = Failure {
            class: FailureClass::Diverged,
            message: "loss is NaN in step 3".into(),
        };
        assert_eq!(
            judge(&code(77), &LastWord::Failed(failure.clone()), Some("noise")),
            Outcome::Failed(failure)
        );
    }

    #[test]
    fn exit_codes_are_classes() {
        for expected in FailureClass::ALL {
            assert_eq!(
                class(judge(&code(expected.exit_code()), &LastWord::Nothing, None)),
                expected
            );
        }
        assert_eq!(
            class(judge(&code(101), &LastWord::Nothing, Some("panicked"))),
            FailureClass::Bug
        );
    }

    #[test]
    fn signals() {
        assert_eq!(
            class(judge(&signal(libc::SIGKILL), &LastWord::Nothing, None)),
            FailureClass::Killed
        );
        assert_eq!(
            class(judge(&signal(libc::SIGTERM), &LastWord::Nothing, None)),
            FailureClass::Killed
        );
        assert_eq!(
            class(judge(&code(137), &LastWord::Nothing, None)),
            FailureClass::Killed
        );
        assert_eq!(
            class(judge(&signal(libc::SIGSEGV), &LastWord::Nothing, None)),
            FailureClass::Bug
        );
        let oom = Exit {
            oom_kill: true,
            ..signal(libc::SIGKILL)
        };
        assert_eq!(
            class(judge(&oom, &LastWord::Nothing, None)),
            FailureClass::OutOfMemory
        );
        let abort = judge(
            &signal(libc::SIGABRT),
            &LastWord::Nothing,
            Some("memory allocation of 9 bytes failed"),
        );
        assert_eq!(class(abort), FailureClass::OutOfMemory);
    }

    #[test]
    fn a_full_disk_keeps_even_the_log_from_being_written() {
        let full = Exit {
            disk_full: true,
            ..code(1)
        };
        for (last_lines, expected) in [
            (None, FailureClass::DiskFull),
            (Some("epoch 3"), FailureClass::DiskFull),
            (Some("MemoryError"), FailureClass::OutOfMemory),
        ] {
            let outcome = judge(&full, &LastWord::Nothing, last_lines);
            assert_eq!(class(outcome), expected, "{last_lines:?}");
        }
        assert_eq!(
            class(judge(&code(1), &LastWord::Nothing, None)),
            FailureClass::Bug
        );
    }
}
