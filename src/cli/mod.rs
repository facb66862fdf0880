//! One file per command.

pub mod exit;
pub mod planning;
pub mod run;
