//! Renderings of the table model, one file each.

mod csv;
mod html;
mod json;
mod latex;
mod markdown;
mod terminal;

pub use csv::{Csv, on_screen as csv_on_screen};
pub use html::Html;
pub use json::JsonForm;
pub use latex::{Latex, LatexPreview};
pub use markdown::Markdown;
pub(in crate::report) use markdown::escape as escape_markdown;
pub use terminal::{Terminal, may_colour};

use super::Table;

/// Turns a table into text.
pub trait Render {
    /// The table, its title, caption and footnotes as far as the form has a place for them.
    fn render(&self, table: &Table) -> String;
}
