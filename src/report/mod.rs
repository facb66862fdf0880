//! Statistics, tables and plots.

pub mod data;
pub mod frame;
pub mod load;
pub mod metric;
pub mod plot;
pub mod statistics;
pub mod table;
pub mod text;
pub mod write;

pub use data::ExperimentData;
pub use table::{Table, summary_table};
