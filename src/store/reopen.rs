//! A database that is usable again: after the disk was full, and after a kill while it was being made.
//!
//! SQLite ends a transaction by itself where it finds no room for it; the connection's own count of open
//! transactions stays behind then, and nothing can begin on it any more.

use crate::store::StoreError;
use crate::store::connection::{options, with_suffix, write_options};
use crate::store::open::{Durability, Store, Writer};
use sqlx::{ConnectOptions, Connection};
use std::path::Path;

/// Undoes what a process that was killed while it made the database at `path` has left half done. That is the
/// only time at which there is a journal to roll back (afterwards there is a write-ahead log), except on network
/// file systems, and a connection that can't write is not allowed to. While the maker is still at work, nothing
/// happens.
pub(super) async fn roll_back(path: &Path) -> Result<(), StoreError> {
    let journal = std::fs::metadata(with_suffix(path, "-journal")).map_or(0, |file| file.len());
    if !path.exists() || journal == 0 {
        return Ok(());
    }
    let sql = |error| StoreError::from_sqlx(path, error);
    let mut connection = options(path).connect().await.map_err(sql)?;
    // Reading is enough: SQLite rolls back first.
    sqlx::query("SELECT COUNT(*) FROM sqlite_schema")
        .fetch_one(&mut connection)
        .await
        .map_err(sql)?;
    connection.close().await.map_err(sql)
}

impl Store {
    /// Replaces the writer's connection if a transaction that is over still counts as open.
    pub(super) async fn revive(&self, writer: &mut Writer) -> Result<(), StoreError> {
        // A rollback may only be on its way: the answer comes after it.
        let _ = writer.connection.ping().await;
        if !writer.connection.is_in_transaction() {
            return Ok(());
        }
        let mut connection = write_options(&self.path)
            .connect()
            .await
            .map_err(self.sql())?;
        self.patience
            .attach(&mut connection)
            .await
            .map_err(self.sql())?;
        let old = std::mem::replace(&mut writer.connection, connection);
        writer.durability = Durability::Full;
        // Whatever it says: it is of no use any more.
        let _ = old.close().await;
        Ok(())
    }
}
