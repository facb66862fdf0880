//! What commands and reports read.

use crate::store::StoreError;
use crate::store::open::Store;
use crate::store::rows::{AttemptRow, ExperimentRow, ResultRow, RunRow, Status};
use indexmap::IndexMap;
use serde::de::DeserializeOwned;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row};
use std::collections::HashMap;

impl Store {
    /// All experiments, by name.
    pub async fn experiments(&self) -> Result<Vec<ExperimentRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT name, title, claim, profile, axes, stage_names, baseline, report, updated FROM experiments
             ORDER BY name",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())?;
        rows.iter()
            .map(|row| {
                let name: String = row.get(0);
                Ok(ExperimentRow {
                    title: row.get(1),
                    claim: row.get(2),
                    profile: row.get(3),
                    axes: self.json(row.get(4), "axes", &name)?,
                    stage_names: self.json(row.get(5), "stage names", &name)?,
                    baseline: self.json(
                        row.get::<Option<&str>, _>(6).unwrap_or("null"),
                        "baseline",
                        &name,
                    )?,
                    report: self.json(row.get(7), "report", &name)?,
                    updated: row.get(8),
                    name,
                })
            })
            .collect()
    }

    /// The current runs of `experiment`, or of all, in the order of the plans.
    pub async fn runs(&self, experiment: Option<&str>) -> Result<Vec<RunRow>, StoreError> {
        self.select_runs("?1 IS NULL OR e.name = ?1", experiment)
            .await
    }

    /// The current runs whose ids begin with `prefix`.
    pub async fn runs_beginning(&self, prefix: &str) -> Result<Vec<RunRow>, StoreError> {
        // No character sorts behind the last one of Unicode.
        self.select_runs(
            "r.name >= ?1 AND r.name < ?1 || char(1114111)",
            Some(prefix),
        )
        .await
    }

    /// The current runs that need a stage.
    pub async fn runs_of_stage(&self, fingerprint: &str) -> Result<Vec<RunRow>, StoreError> {
        let filter = "r.id IN (SELECT own.run FROM run_stages own JOIN stages f ON f.id = own.stage
            WHERE f.fingerprint = ?1)";
        self.select_runs(filter, Some(fingerprint)).await
    }

    async fn select_runs(
        &self,
        filter: &'static str,
        value: Option<&str>,
    ) -> Result<Vec<RunRow>, StoreError> {
        let sql = format!(
            "SELECT r.name, e.name, r.variant, r.variant_index, r.labels, r.seed, r.status, r.failure,
                 json_group_array(s.fingerprint ORDER BY rs.position), SUM(s.wall_seconds)
             FROM experiments e JOIN runs r ON r.experiment = e.id AND r.current = 1
             JOIN run_stages rs ON rs.run = r.id JOIN stages s ON s.id = rs.stage
             WHERE {filter}
             GROUP BY r.id ORDER BY e.name, r.variant_index, r.id"
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(value)
            .fetch_all(&self.readers)
            .await
            .map_err(self.sql())?;
        rows.iter().map(|row| self.run_row(row)).collect()
    }

    /// Ids of all current runs.
    pub async fn run_ids(&self) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar("SELECT name FROM runs WHERE current = 1 ORDER BY name")
            .fetch_all(&self.readers)
            .await
            .map_err(self.sql())
    }

    /// Fingerprints of stages that begin with `prefix`, those of former plans included.
    pub async fn stages_beginning(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar(
            "SELECT fingerprint FROM stages WHERE fingerprint >= ?1 AND fingerprint < ?1 || 'g' ORDER BY fingerprint",
        )
        .bind(prefix)
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())
    }

    /// The last evaluation of a stage as (evaluation set, resolution, metric, value).
    pub async fn stage_results(
        &self,
        fingerprint: &str,
    ) -> Result<Vec<(String, u32, String, f64)>, StoreError> {
        let rows = sqlx::query(
            "SELECT n.eval_set, n.resolution, n.metric, v.value, v.nonfinite
             FROM stages s JOIN results v ON v.stage = s.id JOIN series n ON n.id = v.series
             WHERE s.fingerprint = ? ORDER BY n.eval_set, n.resolution, n.metric",
        )
        .bind(fingerprint)
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())?;
        Ok(rows
            .iter()
            .map(|row| {
                (
                    row.get(0),
                    row.get(1),
                    row.get(2),
                    number(row.get(3), row.get(4)),
                )
            })
            .collect())
    }

    /// The warnings of a stage's attempts, oldest first, as (attempt, text).
    pub async fn warnings_of(&self, fingerprint: &str) -> Result<Vec<(u32, String)>, StoreError> {
        sqlx::query_as(
            "SELECT w.attempt, w.message FROM stages s JOIN warnings w ON w.stage = s.id
             WHERE s.fingerprint = ? ORDER BY w.attempt, w.seq",
        )
        .bind(fingerprint)
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())
    }

    fn run_row(&self, row: &SqliteRow) -> Result<RunRow, StoreError> {
        let id: String = row.get(0);
        let labels: IndexMap<String, String> = self.json(row.get(4), "labels", &id)?;
        Ok(RunRow {
            experiment: row.get(1),
            variant: row.get(2),
            variant_index: row.get(3),
            labels: labels.into_values().collect(),
            seed: row.get::<i64, _>(5) as u64,
            status: Status::from_name(row.get(6)),
            failure: row.get(7),
            stages: self.json(row.get(8), "stages", &id)?,
            wall_seconds: row.get(9),
            id,
        })
    }

    /// `eval.resolution` of those stages of `experiment` whose final weights were evaluated on `val` at
    /// several resolutions, as (id, fingerprint, resolution). Few stages are, and a configuration is
    /// kilobytes of JSON.
    pub(super) async fn headline_resolutions(
        &self,
        experiment: &str,
    ) -> Result<Vec<(i64, String, u32)>, StoreError> {
        sqlx::query_as(
            "SELECT s.id, s.fingerprint, json_extract(c.config, '$.recipe.eval.resolution')
             FROM stages s JOIN stage_configs c ON c.stage = s.id
             WHERE json_type(c.config, '$.recipe.eval.resolution') = 'integer' AND s.id IN (
                 SELECT v.stage
                 FROM experiments e CROSS JOIN runs r ON r.experiment = e.id AND r.current = 1
                 CROSS JOIN run_stages rs ON rs.run = r.id
                 CROSS JOIN results v ON v.stage = rs.stage CROSS JOIN series n ON n.id = v.series
                 WHERE e.name = ? AND n.eval_set = 'val'
                 GROUP BY v.stage HAVING COUNT(DISTINCT n.resolution) > 1)",
        )
        .bind(experiment)
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())
    }

    /// The results of the current runs of `experiment`: every metric of the evaluations of each stage's
    /// final weights. A value that isn't finite is NaN or an infinity here.
    pub async fn results(&self, experiment: &str) -> Result<Vec<ResultRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT r.name, r.variant_index, r.seed, rs.name, s.fingerprint, n.eval_set, n.resolution, n.metric,
                 v.value, v.nonfinite
             FROM experiments e CROSS JOIN runs r ON r.experiment = e.id AND r.current = 1
             CROSS JOIN run_stages rs ON rs.run = r.id CROSS JOIN stages s ON s.id = rs.stage
             CROSS JOIN results v ON v.stage = rs.stage CROSS JOIN series n ON n.id = v.series
             WHERE e.name = ?
             ORDER BY r.variant_index, r.id, rs.position, n.eval_set, n.resolution, n.metric",
        )
        .bind(experiment)
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())?;
        let several: HashMap<String, u32> = self
            .headline_resolutions(experiment)
            .await?
            .into_iter()
            .map(|(_, fingerprint, resolution)| (fingerprint, resolution))
            .collect();
        Ok(rows
            .iter()
            .map(|row| {
                let (fingerprint, set, resolution): (String, String, u32) =
                    (row.get(4), row.get(5), row.get(6));
                let own = several.get(&fingerprint);
                ResultRow {
                    run: row.get(0),
                    variant_index: row.get(1),
                    seed: row.get::<i64, _>(2) as u64,
                    stage: row.get(3),
                    headline: set == "val" && own.is_none_or(|&own| own == resolution),
                    fingerprint,
                    set,
                    resolution,
                    metric: row.get(7),
                    value: number(row.get(8), row.get(9)),
                }
            })
            .collect())
    }

    /// The attempts at a stage, oldest first. [`AttemptRow::stage`] is the fingerprint.
    pub async fn attempts(&self, fingerprint: &str) -> Result<Vec<AttemptRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT s.fingerprint, a.attempt, a.device, a.host, a.pid, a.started, a.ended, a.status, a.failure,
                 a.message, a.exit_code, a.peak_rss_bytes, a.log
             FROM stages s JOIN attempts a ON a.stage = s.id WHERE s.fingerprint = ? ORDER BY a.attempt",
        )
        .bind(fingerprint)
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())?;
        Ok(rows
            .iter()
            .map(|row| AttemptRow {
                stage: row.get(0),
                attempt: row.get(1),
                device: row.get(2),
                host: row.get(3),
                pid: row.get(4),
                started: row.get(5),
                ended: row.get(6),
                status: Status::from_name(row.get(7)),
                failure: row.get(8),
                message: row.get(9),
                exit_code: row.get(10),
                peak_rss_bytes: row.get::<Option<i64>, _>(11).map(|bytes| bytes as u64),
                log: row.get(12),
            })
            .collect())
    }

    /// Stages of the current runs of `experiment` of which an attempt deviated from its configuration, as (run,
    /// stage, what); the last such attempt of each.
    pub async fn deviations(
        &self,
        experiment: &str,
    ) -> Result<Vec<(String, String, String)>, StoreError> {
        let known: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM pragma_table_info('attempts') WHERE name = 'deviation')",
        )
        .fetch_one(&self.readers)
        .await
        .map_err(self.sql())?;
        if !known {
            // A store of an older version, opened to read.
            return Ok(Vec::new());
        }
        // SQLite takes the other columns from the row that has the maximum.
        let rows = sqlx::query(
            "SELECT r.name, rs.name, a.deviation, MAX(a.attempt)
             FROM experiments e JOIN runs r ON r.experiment = e.id AND r.current = 1
             JOIN run_stages rs ON rs.run = r.id JOIN attempts a ON a.stage = rs.stage
             WHERE e.name = ? AND a.deviation IS NOT NULL
             GROUP BY r.id, rs.position ORDER BY r.variant_index, r.id, rs.position",
        )
        .bind(experiment)
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())?;
        Ok(rows
            .iter()
            .map(|row| (row.get(0), row.get(1), row.get(2)))
            .collect())
    }

    /// The complete configuration of a stage as JSON (what `stage.json` holds).
    pub async fn stage_config(&self, fingerprint: &str) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar(
            "SELECT c.config FROM stages s JOIN stage_configs c ON c.stage = s.id WHERE s.fingerprint = ?",
        )
        .bind(fingerprint)
        .fetch_optional(&self.readers)
        .await
        .map_err(self.sql())
    }

    /// Median of floating-point operations per CPU second over the attempts that finished: what this
    /// machine has shown it can do. `None` before the first.
    pub async fn throughput(&self) -> Result<Option<f64>, StoreError> {
        let mut rates: Vec<f64> = sqlx::query_scalar(
            "SELECT s.flops * (1.0 - CASE WHEN a.total_steps > 0
                 THEN CAST(COALESCE(a.resumed_step, 0) AS REAL) / a.total_steps ELSE 0.0 END) / a.cpu_seconds
             FROM attempts a JOIN stages s ON s.id = a.stage
             WHERE a.status = 'done' AND a.cpu_seconds > 0 AND s.flops > 0
               AND COALESCE(a.resumed_step, 0) < COALESCE(NULLIF(a.total_steps, 0), 1)",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())?;
        if rates.is_empty() {
            return Ok(None);
        }
        rates.sort_by(f64::total_cmp);
        let middle = rates.len() / 2;
        Ok(Some(match rates.len() % 2 {
            0 => (rates[middle - 1] + rates[middle]) / 2.0,
            _ => rates[middle],
        }))
    }

    pub(super) fn json<T: DeserializeOwned>(
        &self,
        text: &str,
        what: &'static str,
        id: &str,
    ) -> Result<T, StoreError> {
        serde_json::from_str(text).map_err(|source| StoreError::Json {
            path: self.path.clone(),
            what,
            id: id.to_owned(),
            source,
        })
    }
}

/// A number as it was before it was stored.
pub(super) fn number(value: Option<f64>, nonfinite: Option<&str>) -> f64 {
    match (value, nonfinite) {
        (Some(value), _) => value,
        (None, Some("inf")) => f64::INFINITY,
        (None, Some("-inf")) => f64::NEG_INFINITY,
        (None, _) => f64::NAN,
    }
}
