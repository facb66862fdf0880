//! One stage in one process.
//!
//! A worker is told everything by the files of its run directory and answers through its event log
//! and exit code; it knows no other stage and no store. Exit codes are those of
//! [`FailureClass::exit_code`](crate::rundir::event::FailureClass::exit_code), 0 for a finished stage.

pub mod panic;
pub mod process;
pub mod program;
pub mod stop;

pub use process::run;

#[cfg(test)]
mod fault_tests;
