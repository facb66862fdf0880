//! One file per command.

pub mod logs;
pub mod lookup;
pub mod query;
pub mod report;
pub mod show;
pub mod status;
