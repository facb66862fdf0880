//! Exit codes of the program: an interface that scripts rely on.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All that was asked for is done.
    Done,
    /// At least one stage failed; the others are done.
    Failed,
    /// The command line, an experiment file or a data set is not usable. Nothing was changed.
    Usage,
    /// The store or its disk can't be used, or another process holds it.
    Store,
    /// The time that it was given is over; running the same command again goes on.
    Budget,
    /// No scheduler that could be attached to or stopped: none is at work, or it is on another host.
    Unreachable,
    /// A signal ended it (128 + its number: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP, 138 and 140 for
    /// `ablate stop` without and with --now). Running the same command again goes on where it stopped.
    Signal(u8),
    /// A worker's: 0, or its failure class.
    Worker(i32),
    /// Another process's: that of a run which was waited for.
    Passed(u8),
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Store => 3,
            Exit::Budget => 4,
            Exit::Unreachable => 5,
            Exit::Passed(code) => code,
            Exit::Signal(signal) => 128u8.saturating_add(signal),
            Exit::Worker(code) => u8::try_from(code).unwrap_or(u8::MAX),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_fixed() {
        let codes = [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::Store,
            Exit::Budget,
            Exit::Unreachable,
            Exit::Signal(2),
            Exit::Signal(15),
            Exit::Passed(7),
        ];
        assert_eq!(codes.map(Exit::code), [0, 1, 2, 3, 4, 5, 130, 143, 7]);
    }
}
