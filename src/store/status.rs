//! How far the experiments are.

use crate::store::StoreError;
use crate::store::open::Store;
use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// An experiment's current runs, counted by status.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExperimentStatus {
    pub name: String,
    pub title: String,
    pub profile: String,
    /// Unix time of the last `ablate run`.
    pub updated: f64,
    pub runs: u64,
    pub done: u64,
    pub running: u64,
    pub failed: u64,
    pub pending: u64,
}

/// A stage that an attempt is at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunningStage {
    pub fingerprint: String,
    /// Name of the stage.
    pub stage: Option<String>,
    /// The first current run that needs it.
    pub run: Option<String>,
    /// Number of current runs that need it.
    pub runs: u64,
    pub attempt: u32,
    pub device: String,
    pub host: String,
    pub pid: Option<u32>,
    /// Unix time.
    pub started: f64,
    /// Unix time of the last event.
    pub last_event: Option<f64>,
    /// Optimizer steps made by the last step that was logged.
    pub step: Option<u64>,
    pub total_steps: Option<u64>,
    /// Training loss of that step; `None` also if it is not finite.
    pub loss: Option<f64>,
}

impl Store {
    /// Counts per experiment (of one, or of all). One query on an index, whatever the number of runs.
    pub async fn status(
        &self,
        experiment: Option<&str>,
    ) -> Result<Vec<ExperimentStatus>, StoreError> {
        let rows = sqlx::query(
            "SELECT e.name, e.title, e.profile, e.updated, r.status, COUNT(r.experiment)
             FROM experiments e LEFT JOIN runs r INDEXED BY runs_status ON r.experiment = e.id AND r.current = 1
             WHERE ?1 IS NULL OR e.name = ?1
             GROUP BY e.name, r.status ORDER BY e.name",
        )
        .bind(experiment)
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())?;
        Ok(counted(&rows))
    }

    /// [`Store::status`] of the current runs with a tag; experiments without any are left out.
    pub async fn status_tagged(
        &self,
        experiment: Option<&str>,
        tag: &str,
    ) -> Result<Vec<ExperimentStatus>, StoreError> {
        let rows = sqlx::query(
            "SELECT e.name, e.title, e.profile, e.updated, r.status, COUNT(*)
             FROM tags t JOIN runs r ON r.id = t.run AND r.current = 1 JOIN experiments e ON e.id = r.experiment
             WHERE t.name = ?2 AND (?1 IS NULL OR e.name = ?1)
             GROUP BY e.name, r.status ORDER BY e.name",
        )
        .bind(experiment)
        .bind(tag)
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())?;
        Ok(counted(&rows))
    }

    /// The stages that attempts are at, those of `experiment` or all, the oldest attempt first.
    pub async fn running(&self, experiment: Option<&str>) -> Result<Vec<RunningStage>, StoreError> {
        let rows = sqlx::query(
            "SELECT s.fingerprint, v.stage, v.run, v.runs, a.attempt, a.device, a.host, a.pid, a.started, a.last_event,
                 l.step, COALESCE(a.total_steps, s.steps), l.loss
             FROM attempts a JOIN stages s ON s.id = a.stage
             JOIN v_attempts v ON v.fingerprint = s.fingerprint AND v.attempt = a.attempt
             LEFT JOIN steps l ON l.stage = s.id AND l.step = (SELECT MAX(step) FROM steps WHERE stage = s.id)
             WHERE a.status = 'running' AND (?1 IS NULL OR EXISTS (
                 SELECT 1 FROM run_stages rs JOIN runs r ON r.id = rs.run JOIN experiments e ON e.id = r.experiment
                 WHERE rs.stage = s.id AND r.current = 1 AND e.name = ?1))
             ORDER BY a.started, a.id",
        )
        .bind(experiment)
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())?;
        Ok(rows
            .iter()
            .map(|row| RunningStage {
                fingerprint: row.get(0),
                stage: row.get(1),
                run: row.get(2),
                runs: row.get::<i64, _>(3) as u64,
                attempt: row.get(4),
                device: row.get(5),
                host: row.get(6),
                pid: row.get(7),
                started: row.get(8),
                last_event: row.get(9),
                step: row.get::<Option<i64>, _>(10).map(|step| step as u64),
                total_steps: row.get::<Option<i64>, _>(11).map(|steps| steps as u64),
                loss: row.get(12),
            })
            .collect())
    }
}

/// Rows of (name, title, profile, updated, status, count), by name.
fn counted(rows: &[SqliteRow]) -> Vec<ExperimentStatus> {
    let mut all: Vec<ExperimentStatus> = Vec::new();
    for row in rows {
        let name: &str = row.get(0);
        if all.last().is_none_or(|status| status.name != name) {
            all.push(ExperimentStatus {
                name: name.to_owned(),
                title: row.get(1),
                profile: row.get(2),
                updated: row.get(3),
                runs: 0,
                done: 0,
                running: 0,
                failed: 0,
                pending: 0,
            });
        }
        let (Some(status), count) = (all.last_mut(), row.get::<i64, _>(5) as u64) else {
            continue;
        };
        status.runs += count;
        match row.get::<Option<&str>, _>(4) {
            Some("done") => status.done = count,
            Some("running") => status.running = count,
            Some("failed") => status.failed = count,
            _ => status.pending = count,
        }
    }
    all
}
