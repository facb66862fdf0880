//! What lies behind an experiment's results: the plan they come from, cost and fate of its stages,
//! configurations.

use crate::store::StoreError;
use crate::store::open::Store;
use crate::store::rows::Status;
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Row};
use std::collections::BTreeMap;

/// Where the current runs of an experiment come from: its last plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanRow {
    /// Unix time at which it was stored.
    pub saved: f64,
    pub profile: String,
    /// Path of the experiment file.
    pub path: String,
    /// Its text.
    pub source: String,
    /// Program and version.
    pub program: String,
    pub git_revision: Option<String>,
    pub host: String,
    pub command_line: String,
}

/// A stage of the current runs: what it costs and what has become of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageRow {
    pub fingerprint: String,
    pub seed: u64,
    pub data_name: String,
    pub data_hash: String,
    /// Floating-point operations of training and evaluation, as planned.
    pub flops: f64,
    pub parameters: u64,
    pub steps: u64,
    pub status: Status,
    /// Attempts so far.
    pub attempts: u32,
    /// Wall seconds of the attempts that have ended.
    pub wall_seconds: Option<f64>,
    /// Sums over its attempts; `None` before the first says so.
    pub cpu_seconds: Option<f64>,
    pub images: Option<u64>,
    /// Wall seconds of the attempts that counted `images`, by the workers' own clocks.
    pub images_seconds: Option<f64>,
    /// The most of any attempt.
    pub peak_rss_bytes: Option<u64>,
    /// Sum over its attempts; `None` where one of those that have ended doesn't know it.
    #[serde(default)]
    pub energy_joules: Option<f64>,
}

impl Store {
    /// The last plan of `experiment`.
    pub async fn plan_of(&self, experiment: &str) -> Result<Option<PlanRow>, StoreError> {
        let row = sqlx::query(
            "SELECT p.saved, p.profile, p.path, p.source, p.program, p.git_revision, p.host, p.command_line
             FROM experiments e JOIN plans p ON p.id = e.plan WHERE e.name = ?",
        )
        .bind(experiment)
        .fetch_optional(&self.readers)
        .await
        .map_err(self.sql())?;
        Ok(row.map(|row| PlanRow {
            saved: row.get(0),
            profile: row.get(1),
            path: row.get(2),
            source: row.get(3),
            program: row.get(4),
            git_revision: row.get(5),
            host: row.get(6),
            command_line: row.get(7),
        }))
    }

    /// The stages that the current runs of `experiment` need, each once.
    pub async fn stage_rows(&self, experiment: &str) -> Result<Vec<StageRow>, StoreError> {
        // A store of an older version that is only read has no such column.
        let known: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM pragma_table_info('attempts') WHERE name = 'energy_joules'",
        )
        .fetch_one(&self.readers)
        .await
        .map_err(self.sql())?;
        let energy = match known {
            0 => "NULL",
            _ => "CASE WHEN COUNT(a.ended) = COUNT(a.energy_joules) THEN SUM(a.energy_joules) END",
        };
        let rows = sqlx::query(AssertSqlSafe(format!(
            "SELECT s.fingerprint, s.seed, s.data_name, s.data_hash, s.flops, s.parameters, s.steps, s.status,
                 s.attempts, s.wall_seconds, SUM(a.cpu_seconds), SUM(a.images),
                 SUM(CASE WHEN a.images > 0 THEN a.wall_seconds END), MAX(a.peak_rss_bytes),
                 {energy}
             FROM stages s LEFT JOIN attempts a ON a.stage = s.id
             WHERE s.id IN (SELECT rs.stage FROM experiments e
                 JOIN runs r ON r.experiment = e.id AND r.current = 1
                 JOIN run_stages rs ON rs.run = r.id WHERE e.name = ?)
             GROUP BY s.id"
        )))
        .bind(experiment)
            .fetch_all(&self.readers)
            .await
            .map_err(self.sql())?;
        Ok(rows
            .iter()
            .map(|row| StageRow {
                fingerprint: row.get(0),
                seed: row.get::<i64, _>(1) as u64,
                data_name: row.get(2),
                data_hash: row.get(3),
                flops: row.get(4),
                parameters: row.get::<i64, _>(5) as u64,
                steps: row.get::<i64, _>(6) as u64,
                status: Status::from_name(row.get(7)),
                attempts: row.get(8),
                wall_seconds: row.get(9),
                cpu_seconds: row.get(10),
                images: row.get::<Option<i64>, _>(11).map(|images| images as u64),
                images_seconds: row.get(12),
                peak_rss_bytes: row.get::<Option<i64>, _>(13).map(|bytes| bytes as u64),
                energy_joules: row.get(14),
            })
            .collect())
    }

    /// Configurations (what `stage.json` holds) of the stages of the first current run of each of the
    /// first `most` variants of `experiment`, by fingerprint.
    pub async fn variant_configs(
        &self,
        experiment: &str,
        most: u32,
    ) -> Result<BTreeMap<String, String>, StoreError> {
        let mut rows = sqlx::query(
            "SELECT s.fingerprint, c.config FROM stages s JOIN stage_configs c ON c.stage = s.id
             WHERE s.id IN (
                 SELECT rs.stage FROM run_stages rs WHERE rs.run IN (
                     SELECT MIN(r.id) FROM experiments e JOIN runs r ON r.experiment = e.id AND r.current = 1
                     WHERE e.name = ? GROUP BY r.variant_index ORDER BY r.variant_index LIMIT ?))",
        )
        .bind(experiment)
        .bind(most)
        .fetch(&self.readers);
        let mut configs = BTreeMap::new();
        while let Some(row) = rows.try_next().await.map_err(self.sql())? {
            configs.insert(row.get(0), row.get(1));
        }
        Ok(configs)
    }

    /// Attempts at the stages of `experiment` that did not end well, and all of stages with more than
    /// one: (name of the stage, first current run, attempt), oldest first, at most `most`.
    pub async fn troubled_attempts(
        &self,
        experiment: &str,
        most: u32,
    ) -> Result<Vec<TroubledAttempt>, StoreError> {
        let rows = sqlx::query(
            "SELECT s.fingerprint, rs.name, r.name, COUNT(*), a.attempt, a.status, a.failure, a.message, a.device,
                 a.host, a.started, a.ended, a.resumed_step, a.exit_code, a.signal, MIN(r.id)
             FROM experiments e JOIN runs r ON r.experiment = e.id AND r.current = 1
             JOIN run_stages rs ON rs.run = r.id JOIN stages s ON s.id = rs.stage
             JOIN attempts a ON a.stage = s.id
             WHERE e.name = ?1 AND (a.status = 'failed' OR s.attempts > 1)
             GROUP BY a.id ORDER BY a.started, a.id LIMIT ?2",
        )
        .bind(experiment)
        .bind(most)
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())?;
        Ok(rows
            .iter()
            .map(|row| TroubledAttempt {
                fingerprint: row.get(0),
                stage: row.get(1),
                run: row.get(2),
                runs: row.get::<i64, _>(3) as u64,
                attempt: row.get(4),
                status: Status::from_name(row.get(5)),
                failure: row.get(6),
                message: row.get(7),
                device: row.get(8),
                host: row.get(9),
                started: row.get(10),
                ended: row.get(11),
                resumed_step: row.get::<Option<i64>, _>(12).map(|step| step as u64),
                exit_code: row.get(13),
                signal: row.get(14),
            })
            .collect())
    }

    /// GPUs of the attempts at the stages of `experiment`, as (model, driver).
    pub async fn gpus_of(&self, experiment: &str) -> Result<Vec<(String, String)>, StoreError> {
        // A store of an older version that is only read has no such table.
        let known: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM sqlite_schema WHERE name = 'attempt_gpus'")
                .fetch_one(&self.readers)
                .await
                .map_err(self.sql())?;
        if known == 0 {
            return Ok(Vec::new());
        }
        sqlx::query_as(
            "SELECT DISTINCT g.name, g.driver FROM attempt_gpus g
             WHERE g.stage IN (SELECT rs.stage FROM experiments e
                 JOIN runs r ON r.experiment = e.id AND r.current = 1
                 JOIN run_stages rs ON rs.run = r.id WHERE e.name = ?)
             ORDER BY g.name, g.driver",
        )
        .bind(experiment)
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())
    }

    /// Hosts, devices and programs of the attempts at the stages of `experiment`, with the number of
    /// attempts of each combination.
    pub async fn machines(&self, experiment: &str) -> Result<Vec<MachineRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT a.host, a.device, a.program, COUNT(*) FROM attempts a
             WHERE a.stage IN (SELECT rs.stage FROM experiments e
                 JOIN runs r ON r.experiment = e.id AND r.current = 1
                 JOIN run_stages rs ON rs.run = r.id WHERE e.name = ?)
             GROUP BY a.host, a.device, a.program ORDER BY a.host, a.device, a.program",
        )
        .bind(experiment)
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())?;
        Ok(rows
            .iter()
            .map(|row| MachineRow {
                host: row.get(0),
                device: row.get(1),
                program: row.get(2),
                attempts: row.get::<i64, _>(3) as u64,
            })
            .collect())
    }
}

/// An attempt that failed, or one of several at its stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TroubledAttempt {
    pub fingerprint: String,
    /// Name of the stage.
    pub stage: String,
    /// The first current run that needs it.
    pub run: String,
    /// Number of current runs of the experiment that need it.
    pub runs: u64,
    pub attempt: u32,
    pub status: Status,
    pub failure: Option<String>,
    pub message: Option<String>,
    pub device: String,
    pub host: String,
    pub started: f64,
    pub ended: Option<f64>,
    pub resumed_step: Option<u64>,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
}

/// Where attempts ran, and by what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineRow {
    pub host: String,
    pub device: String,
    pub program: Option<String>,
    pub attempts: u64,
}
