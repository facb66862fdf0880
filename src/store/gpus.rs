//! Which GPUs attempts had.

use crate::store::StoreError;
use crate::store::open::Store;
use sqlx::SqliteConnection;

/// A GPU that an attempt had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptGpu {
    /// Its name for good (`GPU-…`, of an instance `MIG-…`).
    pub uuid: String,
    /// The model.
    pub name: String,
    /// Version of the driver.
    pub driver: String,
    /// Bytes of its memory that the attempt could have.
    pub memory: u64,
}

impl Store {
    /// Notes the GPUs of an attempt that begins.
    pub(super) async fn note_gpus(
        &self,
        connection: &mut SqliteConnection,
        (fingerprint, attempt): (&str, u32),
        gpus: &[AttemptGpu],
    ) -> Result<(), StoreError> {
        for (place, gpu) in gpus.iter().enumerate() {
            sqlx::query(
                "INSERT OR REPLACE INTO attempt_gpus (stage, attempt, place, uuid, name, driver, memory)
                 SELECT id, ?, ?, ?, ?, ?, ? FROM stages WHERE fingerprint = ?",
            )
            .bind(attempt)
            .bind(place as i64)
            .bind(&gpu.uuid)
            .bind(&gpu.name)
            .bind(&gpu.driver)
            .bind(i64::try_from(gpu.memory).unwrap_or(i64::MAX))
            .bind(fingerprint)
            .execute(&mut *connection)
            .await
            .map_err(self.sql())?;
        }
        Ok(())
    }
}
