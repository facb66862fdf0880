//! GitHub-flavoured Markdown.

use super::Render;
use crate::report::table::{Kind, Table};
use crate::report::text::is_unsafe;

/// A Markdown table with its caption and footnotes; the title is left to the page around it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Markdown;

impl Render for Markdown {
    fn render(&self, table: &Table) -> String {
        let table = &*table.shown();
        let mut text = String::new();
        let line = |cells: Vec<String>, text: &mut String| {
            text.push_str(&format!("| {} |\n", cells.join(" | ")));
        };
        let heads = table.columns.iter().map(|column| {
            let head = escape(&column.full_head());
            match column.note {
                Some(note) => format!("{head} <sup>{note}</sup>"),
                None => head,
            }
        });
        line(heads.collect(), &mut text);
        let rule = |kind: Kind| if kind.is_text() { ":--" } else { "--:" }.to_owned();
        line(
            table
                .columns
                .iter()
                .map(|column| rule(column.kind))
                .collect(),
            &mut text,
        );
        for (index, row) in table.rows.iter().enumerate() {
            if let Some(group) = table.group_head(index) {
                let mut cells = vec![String::new(); table.columns.len()];
                if let Some(first) = cells.first_mut() {
                    *first = format!("*{}*", escape(group));
                }
                line(cells, &mut text);
            }
            let cells = row.cells.iter().map(|cell| {
                let words = cell.words();
                let escaped = escape(&words.text);
                if words.bold {
                    format!("**{escaped}**")
                } else {
                    escaped
                }
            });
            line(cells.collect(), &mut text);
        }
        text.push('\n');
        text.push_str(&escape(&table.caption_with("Bold")));
        text.push('\n');
        if !table.footnotes.is_empty() {
            text.push('\n');
            for note in &table.footnotes {
                text.push_str(&format!("- {}\n", escape(note.trim())));
            }
        }
        text
    }
}

/// `text` as inline Markdown that renders as `text`: active characters are escaped by a backslash, HTML
/// by entities, line breaks become spaces, what GitHub would make a link or a picture of is taken apart, control and invisible characters `\u{…}`.
pub(in crate::report) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (position, c) in text.char_indices() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '$' => {
                // Brackets around numbers are ours and make no link without a `(` or `:` after.
                if matches!(c, '[' | ']') && is_interval(text, position) {
                    out.push(c);
                } else {
                    out.push('\\');
                    out.push(c);
                }
            }
            // GitHub makes links of addresses.
            ':' if text[position..].starts_with("://") => out.push_str("\\:"),
            '.' if ends_in_www(&text[..position]) => out.push_str("\\."),
            // And of `@name`, `#12` and `:name:` mentions, numbers of issues and pictures, in what is shown: only what
            // stands between tells it that they are apart.
            '@' | '#' | ':' if is_reference(c, &text[position + 1..]) => {
                out.push(c);
                out.push_str("<!-- -->");
            }
            // A label can't start a heading, a list or a quotation.
            '#' | '-' | '+' | '=' | '!' if position == 0 && is_block_start(text) => {
                out.push('\\');
                out.push(c);
            }
            // "1. " and "1) " would start a list.
            '.' | ')'
                if text[position + 1..].starts_with(' ')
                    && position > 0
                    && text[..position].bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                out.push('\\');
                out.push(c);
            }
            c if is_unsafe(c) => out.push_str(&format!("\\\\u{{{:x}}}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

fn ends_in_www(text: &str) -> bool {
    let start = text.len().saturating_sub(3);
    text.get(start..)
        .is_some_and(|end| end.eq_ignore_ascii_case("www"))
}

/// Whether `mark` and what comes `after` it would be a mention, the number of an issue, or the name of a picture.
fn is_reference(mark: char, after: &str) -> bool {
    let next = after.chars().next();
    match mark {
        '@' => next.is_some_and(|c| c.is_ascii_alphanumeric()),
        '#' => next.is_some_and(|c| c.is_ascii_digit()),
        _ => {
            let name = after.find(|c: char| !c.is_ascii_alphanumeric() && !"_+-".contains(c));
            name.is_some_and(|end| end > 0 && after[end..].starts_with(':'))
        }
    }
}

fn is_block_start(text: &str) -> bool {
    text.starts_with(['#', '-', '=', '!']) || text.starts_with("+ ")
}

/// Whether the bracket at `position` encloses an interval `[low, high]` that we printed.
fn is_interval(text: &str, position: usize) -> bool {
    let Some(open) = text[..=position].rfind('[') else {
        return false;
    };
    let Some(length) = text[open..].find(']') else {
        return false;
    };
    let close = open + length;
    let inside = &text[open + 1..close];
    !inside.is_empty()
        && inside
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, '.' | ',' | ' ' | '+' | '−'))
        && !text[close + 1..].starts_with(['(', '[', ':'])
}
