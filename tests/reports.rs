//! Reports, exports and comparisons through the program, on a small real store.

#[path = "support/chromium.rs"]
mod chromium;
#[path = "support/small_data.rs"]
mod small_data;

#[path = "report_cases/compare.rs"]
mod compare;
#[path = "report_cases/export.rs"]
mod export;
#[path = "report_cases/file.rs"]
mod file;
#[path = "report_cases/latex.rs"]
mod latex;
#[path = "report_cases/page.rs"]
mod page;
#[path = "report_cases/readme.rs"]
mod readme;
#[path = "report_cases/store.rs"]
mod store;
#[path = "report_cases/watch.rs"]
mod watch;
