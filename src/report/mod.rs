//! Statistics, tables and plots: from stored rows to what a paper prints.
//!
//! | part | owns |
//! | --- | --- |
//! | [`data`], [`load`] | one experiment's rows, and reading them from the store |
//! | [`background`] | cost, attempts, configurations and provenance behind the results |
//! | [`frame`] | rows as frames, grouped and exported by polars |
//! | [`metric`] | what a metric's name means: words, unit, direction, decimals |
//! | [`statistics`] | means, spreads, intervals, differences |
//! | [`table`] | the table model, its builders, and a rendering per form |
//! | [`plot`] | SVG by plotters, PNG from the SVG |
//! | [`page`] | the report as web pages |
//! | [`compare`] | two runs, variants or experiments side by side |
//! | [`export`] | runs, results, curves and tables for other programs |
//! | [`mod@write`], [`files`] | the files of a report |
//!
//! Nothing here knows how a result came to be, and nothing depends on the time, the locale, the
//! machine's fonts or the number of threads: the same rows give the same bytes.

pub mod background;
pub mod compare;
pub mod data;
pub mod export;
pub mod files;
pub mod frame;
pub mod load;
pub mod metric;
pub mod page;
pub mod plot;
pub mod statistics;
pub mod table;
pub mod text;
pub mod write;

pub use data::ExperimentData;
pub use table::{Table, summary_table};
