//! Published numbers: `v_reference` and `v_reference_curves`.

use crate::spec::published::{self, CURVE_COLUMNS, CURVES, RESULT_COLUMNS, RESULTS};
use crate::store::StoreError;
use crate::store::bulk;
use sqlx::{Connection, SqliteConnection};
use std::path::Path;

/// Brings the tables up to date with the files that this program carries.
pub(super) async fn load(connection: &mut SqliteConnection, path: &Path) -> Result<(), StoreError> {
    let sql = |error| StoreError::from_sqlx(path, error);
    let mut hash = blake3::Hasher::new();
    hash.update(RESULTS.as_bytes()).update(CURVES.as_bytes());
    let hash = hash.finalize().to_hex().to_string();
    let stored: Option<String> =
        sqlx::query_scalar("SELECT value FROM meta WHERE key = 'reference'")
            .fetch_optional(&mut *connection)
            .await
            .map_err(sql)?;
    if stored.as_ref() == Some(&hash) {
        return Ok(());
    }
    let mut transaction = connection
        .begin_with("BEGIN IMMEDIATE")
        .await
        .map_err(sql)?;
    for table in [
        "DELETE FROM reference_values",
        "DELETE FROM reference_curves",
    ] {
        sqlx::query(table)
            .execute(&mut *transaction)
            .await
            .map_err(sql)?;
    }
    let head = "INSERT INTO reference_values
        (id, table_or_figure, model, dataset, train_set, epochs, train_res, test_res, ablation_axis, variant, metric,
         value, std, source, confidence)";
    bulk::insert(
        &mut transaction,
        path,
        (head, RESULT_COLUMNS, ""),
        &rows(),
        |mut query, row| {
            for (column, field) in row.iter().enumerate() {
                let field = applying(field);
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
    let head = "INSERT INTO reference_curves
        (run, model, stage, epochs_total, res, epoch, top1, source, confidence)";
    bulk::insert(
        &mut transaction,
        path,
        (head, CURVE_COLUMNS, ""),
        &published::records(CURVES, CURVE_COLUMNS),
        |mut query, row| {
            for (column, field) in row.iter().enumerate() {
                let field = applying(field);
                query = match column {
                    3 | 4 => query.bind(field.and_then(|field| field.parse::<i64>().ok())),
                    5 | 6 => query.bind(field.and_then(|field| field.parse::<f64>().ok())),
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

/// A `-` or an empty field does not apply.
fn applying(field: &str) -> Option<&str> {
    Some(field).filter(|field| !field.is_empty() && *field != "-")
}

/// The published results as the file has them.
pub(super) fn rows() -> Vec<Vec<String>> {
    published::records(RESULTS, RESULT_COLUMNS)
}
