//! One file per command.

pub mod exit;
pub mod planning;
pub mod report;
pub mod run;
