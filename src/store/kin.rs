//! Stages and those that they come from, or are like: what `ablate why` explains with.

use crate::store::StoreError;
use crate::store::open::Store;
use crate::store::plans::json;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::collections::HashSet;

/// Configurations that are compared at most.
const LIMIT: usize = 256;

/// The scheduler that has a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaseholder {
    pub host: String,
    pub pid: u32,
}

/// A plan that was saved, which every `ablate run` does before anything else.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedPlan {
    /// Unix time.
    pub saved: f64,
    /// The command that saved it.
    pub command_line: String,
}

impl std::fmt::Display for Leaseholder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pid {} on host {}", self.pid, self.host)
    }
}

impl Store {
    /// The scheduler that has taken a stage, over the pauses between attempts too, alive or not. `None` also in a
    /// store whose version has no leases.
    pub async fn leaseholder(&self, fingerprint: &str) -> Result<Option<Leaseholder>, StoreError> {
        let known: bool =
            sqlx::query_scalar("SELECT COUNT(*) > 0 FROM sqlite_schema WHERE name = 'v_leases'")
                .fetch_one(&self.readers)
                .await
                .map_err(self.sql())?;
        if !known {
            return Ok(None);
        }
        let row = sqlx::query("SELECT host, pid FROM v_leases WHERE fingerprint = ?")
            .bind(fingerprint)
            .fetch_optional(&self.readers)
            .await
            .map_err(self.sql())?;
        Ok(row.map(|row| Leaseholder {
            host: row.get(0),
            pid: row.get(1),
        }))
    }

    /// All plans that were saved, the oldest first.
    pub async fn plans_saved(&self) -> Result<Vec<SavedPlan>, StoreError> {
        let rows = sqlx::query("SELECT saved, command_line FROM plans ORDER BY saved, id")
            .fetch_all(&self.readers)
            .await
            .map_err(self.sql())?;
        let plan = |row: &SqliteRow| SavedPlan {
            saved: row.get(0),
            command_line: row.get(1),
        };
        Ok(rows.iter().map(plan).collect())
    }

    /// The stage that a stage starts from, the one that this starts from, and so on: fingerprints, nearest first.
    pub async fn ancestors(&self, fingerprint: &str) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar(
            "WITH RECURSIVE up(id, depth) AS (
                 SELECT parent, 1 FROM stages WHERE fingerprint = ? AND parent IS NOT NULL
                 UNION ALL SELECT s.parent, depth + 1 FROM up JOIN stages s ON s.id = up.id
                     WHERE s.parent IS NOT NULL AND depth < 1000)
             SELECT s.fingerprint FROM up JOIN stages s ON s.id = up.id ORDER BY depth",
        )
        .bind(fingerprint)
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())
    }

    /// Configurations (JSON) of finished stages that a stage of `run` may be a changed version of: those that runs
    /// of this id had in former plans first, then the newest of `experiment` with this seed, then the newest of
    /// all. `but` is left out.
    pub async fn kin(
        &self,
        (experiment, run): (&str, &str),
        seed: u64,
        but: &str,
    ) -> Result<Vec<String>, StoreError> {
        let same_run: Vec<i64> = sqlx::query_scalar(
            "SELECT DISTINCT rs.stage FROM runs r JOIN run_stages rs ON rs.run = r.id
             JOIN stages s ON s.id = rs.stage AND s.status = 'done'
             WHERE r.name = ? AND s.fingerprint <> ? ORDER BY rs.stage DESC LIMIT 256",
        )
        .bind(run)
        .bind(but)
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())?;
        let same_experiment: Vec<i64> = sqlx::query_scalar(
            "SELECT DISTINCT rs.stage FROM experiments e JOIN runs r ON r.experiment = e.id
             JOIN run_stages rs ON rs.run = r.id JOIN stages s ON s.id = rs.stage AND s.status = 'done'
             WHERE e.name = ? AND s.fingerprint <> ? ORDER BY s.seed <> ?, rs.stage DESC LIMIT 256",
        )
        .bind(experiment)
        .bind(but)
        .bind(seed as i64)
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())?;
        let others: Vec<i64> = sqlx::query_scalar(
            "SELECT id FROM stages WHERE status = 'done' AND fingerprint <> ? ORDER BY id DESC LIMIT 256",
        )
        .bind(but)
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())?;
        let mut seen = HashSet::new();
        let ids: Vec<i64> = same_run
            .into_iter()
            .chain(same_experiment)
            .chain(others)
            .filter(|id| seen.insert(*id))
            .take(LIMIT)
            .collect();
        sqlx::query_scalar(
            "SELECT c.config FROM json_each(?) j JOIN stage_configs c ON c.stage = j.value ORDER BY j.key",
        )
        .bind(json(&ids))
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())
    }
}
