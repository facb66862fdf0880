//! A stage that runs a program of the user's own.
//!
//! [`Program::supervise`] is the whole life of such a stage: it starts the program under a [`guard`], makes [`reports`] into the
//! events of the run directory, and says how it ended. It runs in a thread of the scheduler, because a process of this
//! program for each would cost more than a short stage itself; `ablate worker` does the same for executors that can
//! only start commands.

pub mod bare;
pub mod environment;
pub mod guard;
mod raw;
pub mod reports;
pub mod start;
mod supervisor;
mod watch;

pub use supervisor::{Control, Program, ProgramError};
