//! Many rows in few statements.

use crate::store::StoreError;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection};
use std::path::Path;

/// Rows of one statement. Few sizes, so that all statements stay prepared.
const SIZES: [usize; 4] = [256, 32, 8, 1];

/// A statement whose parameters are being bound.
pub(super) type Bound<'q> = Query<'q, Sqlite, SqliteArguments>;

/// Runs `<head> (?, …), (?, …), … <tail>` for all `rows`, `width` parameters a row, bound by `bind`.
/// `head` and `tail` are this program's own text.
pub(super) async fn insert<'q, T>(
    connection: &mut SqliteConnection,
    path: &Path,
    (head, width, tail): (&'static str, usize, &'static str),
    rows: &'q [T],
    bind: impl Fn(Bound<'q>, &'q T) -> Bound<'q>,
) -> Result<(), StoreError> {
    let one = format!("({})", vec!["?"; width].join(","));
    let mut rest = rows;
    for size in SIZES {
        if rest.len() < size {
            continue;
        }
        let sql: std::sync::Arc<str> = format!(
            "{head} VALUES {} {tail}",
            vec![one.as_str(); size].join(",")
        )
        .into();
        while rest.len() >= size {
            let (chunk, after) = rest.split_at(size);
            rest = after;
            let mut query = sqlx::query(AssertSqlSafe(sql.clone()));
            for row in chunk {
                query = bind(query, row);
            }
            query
                .execute(&mut *connection)
                .await
                .map_err(|error| StoreError::from_sqlx(path, error))?;
        }
    }
    Ok(())
}
