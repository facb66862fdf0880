//! A table of the table model as HTML.

use crate::report::table::Table;
use crate::report::table::render::{Html, Render};

/// The table with its caption and footnotes.
pub fn html(table: &Table) -> String {
    Html.render(table)
}
