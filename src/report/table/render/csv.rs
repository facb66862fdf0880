//! Comma-separated values, for machines: full precision, one field per number.

use super::Render;
use crate::report::table::{Cell, Kind, Table};
use crate::report::text::clean;

/// CSV as RFC 4180 describes it, with line feeds. A value column becomes its mean, `sd`, `n` and the bounds
/// of the image-level interval, a delta column its mean and bounds; a cell without a number says its state
/// in the first field. Labels are left as they are (a leading `=` too) and quoted where they must be: programs read it,
/// and what is changed can't be matched any more. [`on_screen`] is for people.
#[derive(Debug, Clone, Copy, Default)]
pub struct Csv;

impl Render for Csv {
    fn render(&self, table: &Table) -> String {
        let mut text = String::new();
        let with_images: Vec<bool> = (0..table.columns.len())
            .map(|index| {
                table.rows.iter().any(|row| match row.cells.get(index) {
                    Some(Cell::Value(value)) => value.images.is_some(),
                    _ => false,
                })
            })
            .collect();
        let grouped = table.rows.iter().any(|row| row.group.is_some());
        let mut heads = Vec::new();
        if grouped {
            heads.push("group".to_owned());
        }
        for (column, with_images) in table.columns.iter().zip(&with_images) {
            let head = column.full_head();
            heads.push(head.clone());
            let parts: &[&str] = match column.kind {
                Kind::Value if *with_images => &["sd", "n", "image low", "image high"],
                Kind::Value => &["sd", "n"],
                Kind::Delta | Kind::Estimate => &["low", "high"],
                Kind::Label
                | Kind::Count
                | Kind::Probability
                | Kind::Word
                | Kind::Source
                | Kind::Mixed => &[],
            };
            heads.extend(parts.iter().map(|part| format!("{head} {part}")));
        }
        line(&heads, &mut text);
        for row in &table.rows {
            let mut fields = Vec::new();
            if grouped {
                fields.push(row.group.clone().unwrap_or_default());
            }
            for ((cell, column), with_images) in
                row.cells.iter().zip(&table.columns).zip(&with_images)
            {
                match (cell, column.kind) {
                    (Cell::Value(value), _) => {
                        fields.extend([
                            number(Some(value.mean)),
                            number(value.sd),
                            value.n.map(|n| n.to_string()).unwrap_or_default(),
                        ]);
                        if *with_images {
                            fields.push(number(value.images.map(|interval| interval.low)));
                            fields.push(number(value.images.map(|interval| interval.high)));
                        }
                    }
                    (Cell::Delta(delta), _) => fields.extend([
                        number(Some(delta.mean)),
                        number(delta.interval.map(|(interval, _)| interval.low)),
                        number(delta.interval.map(|(interval, _)| interval.high)),
                    ]),
                    (Cell::Estimate(estimate), _) => fields.extend([
                        number(Some(estimate.value)),
                        number(estimate.interval.map(|interval| interval.low)),
                        number(estimate.interval.map(|interval| interval.high)),
                    ]),
                    (Cell::Within(within), _) => fields.extend([
                        if within.inside { "yes" } else { "no" }.to_owned(),
                        number(Some(within.interval.low)),
                        number(Some(within.interval.high)),
                    ]),
                    (Cell::Probability(p), _) => fields.push(number(Some(*p))),
                    (Cell::Count { n, .. }, _) => fields.push(n.to_string()),
                    (cell, Kind::Value) => {
                        fields.extend(state(cell, if *with_images { 5 } else { 3 }))
                    }
                    (cell, Kind::Delta | Kind::Estimate) => fields.extend(state(cell, 3)),
                    (cell, _) => fields.push(cell.words().text),
                }
            }
            line(&fields, &mut text);
        }
        text
    }
}

/// CSV for a terminal: without what could move its cursor, change its colours or turn the direction of writing.
pub fn on_screen(text: &str) -> String {
    text.lines().map(|line| clean(line) + "\n").collect()
}

fn state(cell: &Cell, fields: usize) -> Vec<String> {
    let mut all = vec![String::new(); fields];
    all[0] = cell.words().text;
    all
}

fn number(value: Option<f64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn line(fields: &[String], text: &mut String) {
    let quoted: Vec<String> = fields.iter().map(|field| quote(field)).collect();
    text.push_str(&quoted.join(","));
    text.push('\n');
}

fn quote(field: &str) -> String {
    if field.contains(['"', ',', '\n', '\r']) || field.starts_with(' ') || field.ends_with(' ') {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::on_screen;

    #[test]
    fn a_terminal_gets_nothing_that_acts() {
        let csv = "label,top-1\n\"a\u{1b}[31mred\u{202e}\u{9b}0m\",1.5\n=1+1,2\n";
        assert_eq!(
            on_screen(csv),
            "label,top-1\n\"a\\u{1b}[31mred\\u{202e}\\u{9b}0m\",1.5\n=1+1,2\n"
        );
    }
}
