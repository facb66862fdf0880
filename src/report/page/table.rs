//! A table of the table model as HTML.

use super::clean;
use crate::report::table::{Cell, Kind, Table, Tone};

/// `text` as character data.
fn escape(text: &str) -> String {
    clean(text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// The table with its caption and footnotes.
pub fn html(table: &Table) -> String {
    let mut out = String::from("<div class=\"scroll\"><table class=\"sortable\">\n<thead><tr>");
    for column in &table.columns {
        let class = if column.kind == Kind::Label {
            ""
        } else {
            " class=\"number\""
        };
        out.push_str(&format!("<th{class}>{}</th>", escape(&column.head)));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        out.push_str(if row.is_baseline {
            "<tr class=\"baseline\">"
        } else {
            "<tr>"
        });
        for (cell, column) in row.cells.iter().zip(&table.columns) {
            let words = cell.words();
            let mut classes = Vec::new();
            if column.kind != Kind::Label {
                classes.push("number");
            }
            match words.tone {
                Tone::Good => classes.push("good"),
                Tone::Bad => classes.push("bad"),
                Tone::Faint => classes.push("faint"),
                Tone::Plain => {}
            }
            let class = if classes.is_empty() {
                String::new()
            } else {
                format!(" class=\"{}\"", classes.join(" "))
            };
            let sort = match cell {
                Cell::Value(value) => format!(" data-sort=\"{}\"", value.mean),
                Cell::Delta(delta) => format!(" data-sort=\"{}\"", delta.mean),
                Cell::Baseline => " data-sort=\"0\"".to_owned(),
                Cell::Count { n, .. } => format!(" data-sort=\"{n}\""),
                Cell::State(_) => " data-sort=\"\"".to_owned(),
                _ => String::new(),
            };
            let text = escape(&words.text);
            let text = if words.bold {
                format!("<strong>{text}</strong>")
            } else {
                text
            };
            out.push_str(&format!("<td{class}{sort}>{text}</td>"));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table></div>\n");
    out.push_str(&format!(
        "<p class=\"notes\">{}</p>\n",
        escape(&table.caption)
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
