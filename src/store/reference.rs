//! Published numbers: `v_reference`.

use crate::store::StoreError;
use crate::store::bulk;
use sqlx::{Connection, SqliteConnection};
use std::path::Path;

/// Published numbers with their sources, one a line. A `-` or an empty field: does not apply.
const CSV: &str = include_str!("reference/results.csv");

/// Columns of the file and of the table.
const COLUMNS: usize = 15;

/// Brings the table up to date with the file that this program carries.
pub(super) async fn load(connection: &mut SqliteConnection, path: &Path) -> Result<(), StoreError> {
    let sql = |error| StoreError::from_sqlx(path, error);
    let hash = blake3::hash(CSV.as_bytes()).to_hex().to_string();
    let stored: Option<String> =
        sqlx::query_scalar("SELECT value FROM meta WHERE key = 'reference'")
            .fetch_optional(&mut *connection)
            .await
            .map_err(sql)?;
    if stored.as_ref() == Some(&hash) {
        return Ok(());
    }
    let rows = rows();
    let mut transaction = connection
        .begin_with("BEGIN IMMEDIATE")
        .await
        .map_err(sql)?;
    sqlx::query("DELETE FROM reference_values")
        .execute(&mut *transaction)
        .await
        .map_err(sql)?;
    let head = "INSERT INTO reference_values
        (id, table_or_figure, model, dataset, train_set, epochs, train_res, test_res, ablation_axis, variant, metric,
         value, std, source, confidence)";
    bulk::insert(
        &mut transaction,
        path,
        (head, COLUMNS, ""),
        &rows,
        |mut query, row| {
            for (column, field) in row.iter().enumerate() {
                let field = Some(field.as_str()).filter(|field| !field.is_empty() && *field != "-");
                query = match column {
                    7 => query.bind(field.and_then(|field| field.parse::<i64>().ok())),
                    11 | 12 => query.bind(field.and_then(|field| field.parse::<f64>().ok())),
                    _ => query.bind(field),
                };
            }
            query
        },
    )
    .await?;
    sqlx::query("INSERT OR REPLACE INTO meta (key, value) VALUES ('reference', ?)")
        .bind(hash)
        .execute(&mut *transaction)
        .await
        .map_err(sql)?;
    transaction.commit().await.map_err(sql)
}

/// The rows of the embedded file, without its header.
pub(super) fn rows() -> Vec<Vec<String>> {
    let mut records = parse(CSV);
    records.remove(0);
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
    fn the_file_is_complete() {
        let rows = rows();
        assert!(rows.len() > 300);
        for row in &rows {
            assert_eq!(row.len(), COLUMNS, "{row:?}");
            assert!(
                !row[13].is_empty() && !row[14].is_empty(),
                "no source: {row:?}"
            );
        }
        let mut ids: Vec<&String> = rows.iter().map(|row| &row[0]).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), rows.len());
    }
}
