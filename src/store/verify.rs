//! Whether the database is whole, asked while it is in use: after the disk has failed under a worker.

use crate::store::{Store, StoreError};

impl Store {
    /// Lets SQLite check the structure of the database (`quick_check`), through a connection of its own. An
    /// error is final: nothing more should be written.
    pub async fn verify(&self) -> Result<(), StoreError> {
        let problem: String = sqlx::query_scalar("PRAGMA quick_check(1)")
            .fetch_one(&self.readers)
            .await
            .map_err(self.sql())?;
        if problem == "ok" {
            return Ok(());
        }
        Err(StoreError::Damaged {
            path: self.path.clone(),
            what: problem.replace('\n', " "),
        })
    }
}
