//! A fragment of HTML: one `<figure>` with the table, to be put into a page.

use super::Render;
use crate::report::table::{Cell, Column, Table, Tone};
use crate::report::text::is_unsafe;

/// One `<figure class="table">` with `<table>`, caption and footnotes; no scripts and no styles. Classes:
/// `label`, `number`, `best`, `good`, `bad`, `faint`, `group`, `baseline`, `notes`. Cells with a number have
/// it in `data-value`, for sorting.
#[derive(Debug, Clone, Copy, Default)]
pub struct Html;

impl Render for Html {
    fn render(&self, table: &Table) -> String {
        let table = &*table.shown();
        let mut out = String::from("<figure class=\"table\">\n<table>\n<thead>\n");
        if table.columns.iter().any(|column| column.group.is_some()) {
            out.push_str("<tr class=\"groups\">");
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
                "<th scope=\"col\" class=\"{}\">{}{note}</th>",
                class(column),
                escape(&column.head)
            ));
        }
        out.push_str("</tr>\n</thead>\n<tbody>\n");
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
        out.push_str("</tbody>\n</table>\n");
        out.push_str(&format!(
            "<figcaption>{}</figcaption>\n",
            escape(&table.caption)
        ));
        if !table.footnotes.is_empty() {
            out.push_str("<ul class=\"notes\">\n");
            for note in &table.footnotes {
                out.push_str(&format!("<li>{}</li>\n", escape(note)));
            }
            out.push_str("</ul>\n");
        }
        out.push_str("</figure>\n");
        out
    }
}

fn class(column: &Column) -> &'static str {
    if column.kind.is_text() {
        "label"
    } else {
        "number"
    }
}

fn data(cell: &Cell, column: &Column) -> String {
    let words = cell.words();
    let mut classes = vec![class(column)];
    if words.bold {
        classes.push("best");
    }
    match words.tone {
        Tone::Good => classes.push("good"),
        Tone::Bad => classes.push("bad"),
        Tone::Faint => classes.push("faint"),
        Tone::Plain => {}
    }
    let value = match cell {
        Cell::Value(value) => Some(value.mean),
        Cell::Delta(delta) => Some(delta.mean),
        Cell::Baseline => Some(0.0),
        Cell::Count { n, .. } | Cell::Failures(n) => Some(*n as f64),
        Cell::Probability(p) => Some(*p),
        Cell::Estimate(estimate) => Some(estimate.value),
        Cell::Label(label) => label.trim().parse().ok(),
        Cell::State(_) | Cell::Word(..) => None,
    };
    let sort = match value.filter(|value| value.is_finite()) {
        Some(value) => format!(" data-value=\"{value}\""),
        None => String::new(),
    };
    // Labels may be written from right to left: each is a world of its own.
    let text = match cell {
        Cell::Label(label) => format!("<bdi>{}</bdi>", escape(label)),
        _ => escape(&words.text),
    };
    let text = if words.bold {
        format!("<strong>{text}</strong>")
    } else {
        text
    };
    format!("<td class=\"{}\"{sort}>{text}</td>", classes.join(" "))
}

/// `text` for the content of an element or a quoted attribute; control and invisible characters are
/// written out as `\u{…}`.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if is_unsafe(c) => out.push_str(&format!("\\u{{{:x}}}", c as u32)),
            c => out.push(c),
        }
    }
    out
}
