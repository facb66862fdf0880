//! Tags and notes of runs.
//!
//! Both stay with the run as it was planned when it was marked. A tag keeps its run, stages and weights
//! included, from [garbage collection](super::garbage), also when a later plan has no such run any more.

use crate::rundir::log::unix_time;
use crate::store::StoreError;
use crate::store::open::{Durability, Store};
use crate::store::plans::json;
use serde::Serialize;
use sqlx::{Row, SqliteConnection};

/// The marks of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Marks {
    /// In the order of the alphabet.
    pub tags: Vec<String>,
    /// Oldest first.
    pub notes: Vec<Note>,
}

/// A remark on a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Note {
    /// Unix time.
    pub time: f64,
    pub text: String,
}

/// A tag of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tag {
    pub tag: String,
    pub run: String,
    /// Whether the run is in its experiment's current plan.
    pub current: bool,
    /// Unix time.
    pub time: f64,
}

impl Store {
    /// Tags the current runs with these ids; returns how many hadn't the tag. On disk before it returns.
    pub async fn tag(&self, runs: &[String], tag: &str) -> Result<u64, StoreError> {
        let mut writer = self.writer(Durability::Full).await?;
        let mut transaction = self.begin(&mut writer).await?;
        let ids = self
            .run_row_ids(
                &mut transaction,
                "SELECT r.id FROM json_each(?) j JOIN runs r ON r.name = j.value AND r.current = 1",
                (runs, ""),
            )
            .await?;
        let added = sqlx::query(
            "INSERT OR IGNORE INTO tags (run, name, time) SELECT value, ?, ? FROM json_each(?)",
        )
        .bind(tag)
        .bind(unix_time())
        .bind(json(&ids))
        .execute(&mut *transaction)
        .await
        .map_err(self.sql())?
        .rows_affected();
        self.record_marks(&mut transaction, &ids).await?;
        self.commit(transaction).await?;
        Ok(added)
    }

    /// Takes a tag from the runs with these ids, those of former plans included; returns how many had it.
    pub async fn untag(&self, runs: &[String], tag: &str) -> Result<u64, StoreError> {
        let mut writer = self.writer(Durability::Full).await?;
        let mut transaction = self.begin(&mut writer).await?;
        let ids = self
            .run_row_ids(
                &mut transaction,
                "SELECT r.id FROM json_each(?1) j JOIN runs r ON r.name = j.value
                 JOIN tags t ON t.run = r.id AND t.name = ?2",
                (runs, tag),
            )
            .await?;
        sqlx::query("DELETE FROM tags WHERE name = ? AND run IN (SELECT value FROM json_each(?))")
            .bind(tag)
            .bind(json(&ids))
            .execute(&mut *transaction)
            .await
            .map_err(self.sql())?;
        self.record_marks(&mut transaction, &ids).await?;
        self.commit(transaction).await?;
        Ok(ids.len() as u64)
    }

    /// Adds a note to the current run with this id. On disk before it returns.
    pub async fn note(&self, run: &str, text: &str) -> Result<(), StoreError> {
        let mut writer = self.writer(Durability::Full).await?;
        let mut transaction = self.begin(&mut writer).await?;
        let id: i64 = sqlx::query_scalar("SELECT id FROM runs WHERE name = ? AND current = 1")
            .bind(run)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(self.sql())?
            .ok_or_else(|| StoreError::Unknown {
                what: "run",
                name: run.to_owned(),
            })?;
        sqlx::query("INSERT INTO notes (run, text, time) VALUES (?, ?, ?)")
            .bind(id)
            .bind(text)
            .bind(unix_time())
            .execute(&mut *transaction)
            .await
            .map_err(self.sql())?;
        self.record_marks(&mut transaction, &[id]).await?;
        self.commit(transaction).await
    }

    async fn run_row_ids(
        &self,
        connection: &mut SqliteConnection,
        sql: &'static str,
        (runs, tag): (&[String], &str),
    ) -> Result<Vec<i64>, StoreError> {
        let mut query = sqlx::query_scalar(sql).bind(json(runs));
        if !tag.is_empty() {
            query = query.bind(tag.to_owned());
        }
        query.fetch_all(connection).await.map_err(self.sql())
    }

    /// Tags and notes of the current run with this id. None in a store that doesn't know them yet.
    pub async fn marks(&self, run: &str) -> Result<Marks, StoreError> {
        if !self.knows_marks().await? {
            return Ok(Marks::default());
        }
        let tags =
            sqlx::query_scalar("SELECT tag FROM v_tags WHERE run = ? AND current = 1 ORDER BY tag")
                .bind(run)
                .fetch_all(&self.readers)
                .await
                .map_err(self.sql())?;
        let notes = sqlx::query(
            "SELECT time, note FROM v_notes WHERE run = ? AND current = 1 ORDER BY time",
        )
        .bind(run)
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())?;
        Ok(Marks {
            tags,
            notes: notes
                .iter()
                .map(|row| Note {
                    time: row.get(0),
                    text: row.get(1),
                })
                .collect(),
        })
    }

    /// All tags, by name and run.
    pub async fn tags(&self) -> Result<Vec<Tag>, StoreError> {
        if !self.knows_marks().await? {
            return Ok(Vec::new());
        }
        let rows =
            sqlx::query("SELECT tag, run, current, time FROM v_tags ORDER BY tag, run, time")
                .fetch_all(&self.readers)
                .await
                .map_err(self.sql())?;
        Ok(rows
            .iter()
            .map(|row| Tag {
                tag: row.get(0),
                run: row.get(1),
                current: row.get(2),
                time: row.get(3),
            })
            .collect())
    }

    /// Fingerprints of the stages of current runs with a tag.
    pub async fn stages_tagged(&self, tag: &str) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar(
            "SELECT DISTINCT s.fingerprint FROM tags t JOIN runs r ON r.id = t.run AND r.current = 1
             JOIN run_stages rs ON rs.run = r.id JOIN stages s ON s.id = rs.stage WHERE t.name = ?",
        )
        .bind(tag)
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())
    }

    /// A store that was written by an older version has no marks until the next `ablate run`.
    pub(super) async fn knows_marks(&self) -> Result<bool, StoreError> {
        sqlx::query_scalar("SELECT COUNT(*) > 0 FROM sqlite_schema WHERE name = 'v_tags'")
            .fetch_one(&self.readers)
            .await
            .map_err(self.sql())
    }
}
