//! JSON, for machines: every number in full precision, with its type.

use super::Render;
use crate::report::statistics::Interval;
use crate::report::table::{Cell, Delta, Estimate, Table, Value, Verdict, Within};
use crate::report::text::is_unsafe;
use serde_json::{Value as Json, json};

/// One object: `name`, `title`, `caption`, `footnotes`, `columns` (`head`, `group`, `kind`, and as `note`
/// the letter of its footnote) and `rows`
/// (`group`, `baseline`, `cells`). A cell is an object with `text` (what people read) and, by the kind
/// of its column, `mean`, `sd`, `n`, `low`, `high`, `p`, `state`. Text is as it is in the experiment file; control
/// and invisible characters are escaped (`\u202e`), which reads back as itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct JsonForm;

impl Render for JsonForm {
    fn render(&self, table: &Table) -> String {
        let plain = serde_json::to_string_pretty(&object(table)).unwrap_or_default();
        let mut text = String::with_capacity(plain.len() + 1);
        for c in plain.chars() {
            // A string in JSON may hold any character; what acts on a terminal or an editor is escaped. Line breaks
            // are ours: those of strings are escaped already.
            if c != '\n' && is_unsafe(c) {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    text.push_str(&format!("\\u{unit:04x}"));
                }
            } else {
                text.push(c);
            }
        }
        text.push('\n');
        text
    }
}

/// The table as a value.
fn object(table: &Table) -> Json {
    let columns: Vec<Json> = table
        .columns
        .iter()
        .map(|column| {
            json!({
                "head": column.head, "group": column.group, "kind": column.kind.name(), "note": column.note,
            })
        })
        .collect();
    let rows: Vec<Json> = table
        .rows
        .iter()
        .map(|row| {
            let cells: Vec<Json> = row.cells.iter().map(cell).collect();
            json!({"group": row.group, "baseline": row.is_baseline, "cells": cells})
        })
        .collect();
    json!({
        "name": table.name,
        "title": table.title,
        "caption": table.caption_with("Best"),
        "footnotes": table.footnotes,
        "columns": columns,
        "rows": rows,
    })
}

fn bounds(interval: Option<Interval>) -> (Option<f64>, Option<f64>) {
    (
        interval.map(|interval| interval.low),
        interval.map(|interval| interval.high),
    )
}

fn cell(cell: &Cell) -> Json {
    let text = cell.words().text;
    match cell {
        Cell::Label(_) | Cell::Word(..) => json!({"text": text}),
        Cell::Value(Value {
            mean,
            sd,
            n,
            planned,
            images,
            best,
            ..
        }) => {
            let (low, high) = bounds(*images);
            json!({
                "text": text, "mean": mean, "sd": sd, "n": n, "planned": planned, "best": best,
                "image_low": low, "image_high": high,
            })
        }
        Cell::Delta(Delta {
            mean,
            interval,
            verdict,
            ..
        }) => {
            let (low, high) = bounds(interval.map(|(interval, _)| interval));
            let method = interval.map(|(_, method)| method.name());
            let verdict = match verdict {
                Verdict::Better => "better",
                Verdict::Worse => "worse",
                Verdict::Unclear => "unclear",
            };
            json!({"text": text, "mean": mean, "low": low, "high": high, "method": method, "verdict": verdict})
        }
        Cell::Baseline => json!({"text": text, "state": "baseline"}),
        Cell::Count { n, of } => json!({"text": text, "n": n, "of": of}),
        Cell::Failures(n) => json!({"text": text, "n": n}),
        Cell::State(_) => json!({"text": text, "state": text}),
        Cell::Probability(p) => json!({"text": text, "p": p}),
        Cell::Estimate(Estimate {
            value, interval, ..
        }) => {
            let (low, high) = bounds(*interval);
            json!({"text": text, "mean": value, "low": low, "high": high})
        }
        Cell::Within(Within {
            inside, interval, ..
        }) => json!({"text": text, "inside": inside, "low": interval.low, "high": interval.high}),
    }
}
