//! Published numbers with their sources: what an experiment file may name as a reference.
//!
//! Two files are part of the program: single results, and training curves. The store shows both to SQL
//! (`v_reference`, `v_reference_curves`).

use std::sync::LazyLock;

/// Single results, one a line. A `-` or an empty field: does not apply.
pub const RESULTS: &str = include_str!("published/results.csv");

/// Points of training curves, one a line.
pub const CURVES: &str = include_str!("published/curves.csv");

/// Columns of [`RESULTS`].
pub const RESULT_COLUMNS: usize = 15;

/// Columns of [`CURVES`].
pub const CURVE_COLUMNS: usize = 9;

/// One published result. Texts are as printed; an empty one does not apply.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// Stable number of the row (`R0001`).
    pub id: String,
    pub table_or_figure: String,
    pub model: String,
    /// Set that it was measured on (`IN-1k val`).
    pub dataset: String,
    /// Set that was trained on (`IN-21k->IN-1k`).
    pub train_set: String,
    /// Epochs as printed (`400+20`).
    pub epochs: String,
    pub train_res: String,
    pub test_res: String,
    pub variant: String,
    /// `top1`, `top5` (per cent), …
    pub metric: String,
    pub value: Option<f64>,
    /// Decimals of the value as printed: `83.0` has one.
    pub decimals: usize,
    pub std: Option<f64>,
    pub source: String,
    pub confidence: String,
}

impl Published {
    /// The evaluation set that it was measured on, by its name here; `None`: the validation split of the data.
    pub fn evaluation_set(&self) -> Option<&'static str> {
        // V2 comes in variants; where one is named it is the usual one.
        match self.dataset.split(' ').next()? {
            "IN-V2" => Some("imagenet-v2"),
            "IN-ReaL" => Some("imagenet-real"),
            _ => None,
        }
    }
}

/// All published results, in the order of the file.
pub fn results() -> &'static [Published] {
    static ROWS: LazyLock<Vec<Published>> = LazyLock::new(|| {
        records(RESULTS, RESULT_COLUMNS)
            .into_iter()
            .map(|mut fields| {
                let mut take = |index: usize| {
                    let field = std::mem::take(&mut fields[index]);
                    if field == "-" { String::new() } else { field }
                };
                let value = take(11);
                Published {
                    id: take(0),
                    table_or_figure: take(1),
                    model: take(2),
                    dataset: take(3),
                    train_set: take(4),
                    epochs: take(5),
                    train_res: take(6),
                    test_res: take(7),
                    variant: take(9),
                    metric: take(10),
                    decimals: value
                        .split_once('.')
                        .map_or(0, |(_, decimals)| decimals.len()),
                    value: value.parse().ok(),
                    std: take(12).parse().ok(),
                    source: take(13),
                    confidence: take(14),
                }
            })
            .collect()
    });
    &ROWS
}

/// The published result of this number.
pub fn result(id: &str) -> Option<&'static Published> {
    results().iter().find(|row| row.id == id)
}

/// Names of the published training curves, in the order of the file.
pub fn curve_names() -> &'static [String] {
    static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
        let mut names: Vec<String> = Vec::new();
        for fields in records(CURVES, CURVE_COLUMNS) {
            if names.last() != Some(&fields[0]) {
                names.push(fields[0].clone());
            }
        }
        names
    });
    &NAMES
}

/// Model and source of a published training curve.
pub fn curve_words(name: &str) -> Option<(String, String)> {
    let records = records(CURVES, CURVE_COLUMNS);
    let mut first = records.into_iter().find(|fields| fields[0] == name)?;
    let words = format!("{}, {}, {} px", first[1], first[2], first[4]);
    Some((words, std::mem::take(&mut first[7])))
}

/// The points (epoch as its log counts them, top-1 in per cent) of a published training curve.
pub fn curve(name: &str) -> Vec<(f64, f64)> {
    records(CURVES, CURVE_COLUMNS)
        .iter()
        .filter(|fields| fields[0] == name)
        .filter_map(|fields| Some((fields[5].parse().ok()?, fields[6].parse().ok()?)))
        .collect()
}

/// The records of an embedded file without its header; those of another length are left out (none is:
/// tested).
pub fn records(text: &str, columns: usize) -> Vec<Vec<String>> {
    let mut records = parse(text);
    records.remove(0);
    records.retain(|record| record.len() == columns);
    records
}

/// Records of comma-separated values as RFC 4180 writes them.
fn parse(text: &str) -> Vec<Vec<String>> {
    let mut records = Vec::new();
    let mut record = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, quoted) {
            ('"', true) if characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            ('"', _) => quoted = !quoted,
            (',', false) => record.push(std::mem::take(&mut field)),
            ('\r', false) => {}
            ('\n', false) => {
                record.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut record));
            }
            (character, _) => field.push(character),
        }
    }
    if !field.is_empty() || !record.is_empty() {
        record.push(field);
        records.push(record);
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_fields_keep_commas_quotes_and_newlines() {
        let records = parse("a,b\r\n\"x, \"\"y\"\"\nz\",\n,1");
        assert_eq!(records, [["a", "b"], ["x, \"y\"\nz", ""], ["", "1"]]);
    }

    #[test]
    fn every_number_has_an_identity_a_source_and_a_confidence() {
        assert_eq!(results().len(), parse(RESULTS).len() - 1);
        assert!(results().len() > 300);
        for row in results() {
            assert!(
                !row.source.is_empty() && !row.confidence.is_empty(),
                "{row:?}"
            );
            assert!(
                row.value.is_some() || row.metric == "qualitative",
                "{row:?}"
            );
        }
        let mut ids: Vec<&str> = results().iter().map(|row| row.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), results().len());
        let bce = result("R0161").unwrap();
        assert_eq!((bce.model.as_str(), bce.value), ("ViT-B", Some(82.2)));
    }

    #[test]
    fn curves_are_complete() {
        assert_eq!(
            records(CURVES, CURVE_COLUMNS).len(),
            parse(CURVES).len() - 1
        );
        assert_eq!(curve_names().len(), 18);
        let points = curve("run01");
        assert_eq!(points.len(), 161);
        assert_eq!(points[0], (0.0, 0.1));
        assert!(curve("run99").is_empty());
    }
}
