//! A fragment of HTML, to be put into a page.

use super::Render;
use crate::report::table::{Cell, Column, Table, Tone};
use crate::report::text::clean;

/// The table with its caption and footnotes; no scripts and no styles. Classes: `sortable`, `number`, `good`,
/// `bad`, `faint`, `group`, `baseline`, `notes`. Cells with a number have it in `data-sort`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Html;

impl Render for Html {
    fn render(&self, table: &Table) -> String {
        let table = &*table.shown();
        // The page's script sorts within groups.
        let mut out = String::from("<div class=\"scroll\"><table class=\"sortable\">\n<thead>");
        if table.columns.iter().any(|column| column.group.is_some()) {
            out.push_str("<tr>");
            for (group, count) in table.column_groups() {
                let scope = if count > 1 { "colgroup" } else { "col" };
                out.push_str(&format!(
                    "<th colspan=\"{count}\" scope=\"{scope}\">{}</th>",
                    escape(group.unwrap_or_default())
                ));
            }
            out.push_str("</tr>\n");
        }
        out.push_str("<tr>");
        for column in &table.columns {
            let note = match column.note {
                Some(note) => format!("<sup>{note}</sup>"),
                None => String::new(),
            };
            out.push_str(&format!(
                "<th{}>{}{note}</th>",
                attribute(&class(column)),
                escape(&column.head)
            ));
        }
        out.push_str("</tr></thead>\n<tbody>\n");
        for (index, row) in table.rows.iter().enumerate() {
            if let Some(group) = table.group_head(index) {
                out.push_str(&format!(
                    "<tr class=\"group\"><th colspan=\"{}\" scope=\"rowgroup\">{}</th></tr>\n",
                    table.columns.len(),
                    escape(group)
                ));
            }
            out.push_str(if row.is_baseline {
                "<tr class=\"baseline\">"
            } else {
                "<tr>"
            });
            for (cell, column) in row.cells.iter().zip(&table.columns) {
                out.push_str(&data(cell, column));
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody>\n</table></div>\n");
        out.push_str(&format!(
            "<p class=\"notes\">{}</p>\n",
            escape(&table.caption_with("Bold"))
        ));
        if !table.footnotes.is_empty() {
            out.push_str("<ul class=\"notes\">\n");
            for note in &table.footnotes {
                out.push_str(&format!("<li>{}</li>\n", escape(note)));
            }
            out.push_str("</ul>\n");
        }
        out
    }
}

fn class(column: &Column) -> Vec<&'static str> {
    match column.kind.is_text() {
        true => Vec::new(),
        false => vec!["number"],
    }
}

fn attribute(classes: &[&str]) -> String {
    match classes {
        [] => String::new(),
        classes => format!(" class=\"{}\"", classes.join(" ")),
    }
}

fn data(cell: &Cell, column: &Column) -> String {
    let words = cell.words();
    let mut classes = class(column);
    match words.tone {
        Tone::Good => classes.push("good"),
        Tone::Bad => classes.push("bad"),
        Tone::Faint => classes.push("faint"),
        Tone::Plain => {}
    }
    let sort = match cell {
        Cell::Value(value) => Some(value.mean.to_string()),
        Cell::Delta(delta) => Some(delta.mean.to_string()),
        Cell::Baseline => Some("0".to_owned()),
        Cell::Count { n, .. } | Cell::Failures(n) => Some(n.to_string()),
        Cell::Probability(p) => Some(p.to_string()),
        Cell::Estimate(estimate) => Some(estimate.value.to_string()),
        // Cells without a number come last.
        Cell::State(_) => Some(String::new()),
        Cell::Label(_) | Cell::Word(..) | Cell::Within(_) => None,
    };
    let sort = match sort {
        Some(sort) => format!(" data-sort=\"{sort}\""),
        None => String::new(),
    };
    let text = escape(&words.text);
    // A label may be written from right to left: what it does ends with it.
    let text = match cell {
        Cell::Label(_) => format!("<bdi>{text}</bdi>"),
        _ if words.bold => format!("<strong>{text}</strong>"),
        _ => text,
    };
    format!("<td{}{sort}>{text}</td>", attribute(&classes))
}

/// `text` for the content of an element or a quoted attribute; control and invisible characters are
/// written out as `\u{…}`.
fn escape(text: &str) -> String {
    clean(text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}
