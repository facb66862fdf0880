//! The life of stages: attempts begin and end, stages and runs change state.

use crate::rundir::event::FailureClass;
use crate::rundir::log::unix_time;
use crate::store::StoreError;
use crate::store::open::{Durability, Store};
use crate::store::plans::json;
use crate::store::rows::Status;
use sqlx::{Row, SqliteConnection};
use std::collections::{HashMap, HashSet};

/// How an attempt starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptStart {
    /// `cpu` or `cuda:N`.
    pub device: String,
    pub host: String,
    /// Process id of the worker, if it is known already.
    pub pid: Option<u32>,
    /// Path of the file with its stdout and stderr.
    pub log: String,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptEnd {
    /// `Done` or `Failed`; `Pending` if it was interrupted and the stage waits to be resumed (the attempt
    /// itself reads failed).
    pub status: Status,
    pub failure: Option<FailureClass>,
    pub message: Option<String>,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    /// Energy that it used, where the machine counts it.
    pub energy_joules: Option<f64>,
}

/// What the store knows of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageState {
    pub status: Status,
    /// Attempts so far.
    pub attempts: u32,
    /// Class and message of the last attempt that failed, until one succeeds.
    pub failure: Option<FailureClass>,
    pub message: Option<String>,
    /// Log of the last attempt.
    pub log: Option<String>,
}

impl Status {
    /// The name in the store.
    pub fn name(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Running => "running",
            Status::Done => "done",
            Status::Failed => "failed",
        }
    }

    /// The status of that name; the database admits no other.
    pub(super) fn from_name(name: &str) -> Status {
        match name {
            "running" => Status::Running,
            "done" => Status::Done,
            "failed" => Status::Failed,
            _ => Status::Pending,
        }
    }
}

pub(super) fn class_from_name(name: &str) -> Option<FailureClass> {
    FailureClass::ALL
        .into_iter()
        .find(|class| class.name() == name)
}

/// What is said of an attempt that nobody saw the end of.
pub(super) const ABANDONED: &str = "ablate stopped while this attempt ran";

/// What becomes of a stage whose attempt nobody has seen the end of: it is done if its events say so, and has failed if
/// they say why, unless circumstances were to blame (it was asked to stop, a memory or a disk was full), which no
/// scheduler has judged: then it waits to be resumed, as a stage whose worker was killed does.
pub fn abandoned(
    finished: bool,
    told: Option<FailureClass>,
    transient: impl Fn(FailureClass) -> bool,
) -> Status {
    match (finished, told) {
        (true, _) => Status::Done,
        (false, Some(class)) if !transient(class) => Status::Failed,
        (false, _) => Status::Pending,
    }
}

impl Store {
    /// Fingerprints of all finished stages.
    pub async fn finished(&self) -> Result<HashSet<String>, StoreError> {
        let names: Vec<String> =
            sqlx::query_scalar("SELECT fingerprint FROM stages WHERE status = 'done'")
                .fetch_all(&self.readers)
                .await
                .map_err(self.sql())?;
        Ok(names.into_iter().collect())
    }

    /// States of those of `fingerprints` that are stored.
    pub async fn stage_states(
        &self,
        fingerprints: &[String],
    ) -> Result<HashMap<String, StageState>, StoreError> {
        let rows = sqlx::query(
            "SELECT s.fingerprint, s.status, s.attempts, s.failure, s.message, s.log
             FROM json_each(?) j JOIN stages s ON s.fingerprint = j.value",
        )
        .bind(json(fingerprints))
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())?;
        Ok(rows
            .iter()
            .map(|row| {
                let state = StageState {
                    status: Status::from_name(row.get(1)),
                    attempts: row.get(2),
                    failure: row.get::<Option<&str>, _>(3).and_then(class_from_name),
                    message: row.get(4),
                    log: row.get(5),
                };
                (row.get(0), state)
            })
            .collect())
    }

    /// Notes that an attempt begins; returns its number, which counts from 1. On disk before it returns.
    /// Takes no lease: schedulers use [`Store::transition`].
    pub async fn begin_attempt(
        &self,
        fingerprint: &str,
        start: &AttemptStart,
    ) -> Result<u32, StoreError> {
        let mut writer = self.writer(Durability::Full).await?;
        let mut transaction = self.begin(&mut writer).await?;
        let (_, attempt) = self
            .insert_attempt(&mut transaction, fingerprint, start)
            .await?;
        self.commit(transaction).await?;
        Ok(attempt)
    }

    /// Opens the next attempt of a stage; returns the stage's row and the attempt's number.
    pub(super) async fn insert_attempt(
        &self,
        connection: &mut SqliteConnection,
        fingerprint: &str,
        start: &AttemptStart,
    ) -> Result<(i64, u32), StoreError> {
        let row = sqlx::query(
            "UPDATE stages SET attempts = attempts + 1, status = 'running', log = ? WHERE fingerprint = ?
             RETURNING id, attempts",
        )
        .bind(&start.log)
        .bind(fingerprint)
        .fetch_optional(&mut *connection)
        .await
        .map_err(self.sql())?
        .ok_or_else(|| unknown_stage(fingerprint))?;
        let (stage, attempt): (i64, u32) = (row.get(0), row.get(1));
        sqlx::query(
            "INSERT INTO attempts (stage, attempt, device, host, pid, log, started, status)
             VALUES (?, ?, ?, ?, ?, ?, ?, 'running')",
        )
        .bind(stage)
        .bind(attempt)
        .bind(&start.device)
        .bind(&start.host)
        .bind(start.pid)
        .bind(&start.log)
        .bind(unix_time())
        .execute(&mut *connection)
        .await
        .map_err(self.sql())?;
        self.refresh_stage(connection, stage).await?;
        self.journal_attempt(connection, (stage, attempt)).await?;
        Ok((stage, attempt))
    }

    /// Notes how an attempt ended. Store its events first. On disk before it returns.
    pub async fn end_attempt(
        &self,
        fingerprint: &str,
        attempt: u32,
        end: &AttemptEnd,
    ) -> Result<(), StoreError> {
        let mut writer = self.writer(Durability::Full).await?;
        let mut transaction = self.begin(&mut writer).await?;
        let stage = self.stage_id(&mut transaction, fingerprint).await?;
        self.close_attempt(&mut transaction, (stage, attempt, unix_time()), end)
            .await?;
        self.commit(transaction).await
    }

    /// The row of a stage.
    pub(super) async fn stage_id(
        &self,
        connection: &mut SqliteConnection,
        fingerprint: &str,
    ) -> Result<i64, StoreError> {
        sqlx::query_scalar("SELECT id FROM stages WHERE fingerprint = ?")
            .bind(fingerprint)
            .fetch_optional(connection)
            .await
            .map_err(self.sql())?
            .ok_or_else(|| unknown_stage(fingerprint))
    }

    /// Closes every attempt that reads running although nobody runs it: those without a lease, and those
    /// under leases of `dead` owners, which end with it. The caller has stored what the event logs say, and
    /// knows which failures are `transient`. An attempt ends as its events say, else it was killed; what
    /// becomes of its stage says [`abandoned`]. Returns the number.
    pub async fn abandon_running(
        &self,
        dead: &[String],
        transient: fn(FailureClass) -> bool,
    ) -> Result<u64, StoreError> {
        let mut writer = self.writer(Durability::Full).await?;
        let mut transaction = self.begin(&mut writer).await?;
        sqlx::query("DELETE FROM leases WHERE owner IN (SELECT value FROM json_each(?))")
            .bind(json(dead))
            .execute(&mut *transaction)
            .await
            .map_err(self.sql())?;
        let rows = sqlx::query(
            "SELECT stage, attempt, finished, failure, message, COALESCE(last_event, started) FROM attempts a
             WHERE status = 'running'
                 AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.stage = a.stage AND l.attempt = a.attempt)
             ORDER BY stage, attempt",
        )
        .fetch_all(&mut *transaction)
        .await
        .map_err(self.sql())?;
        for row in &rows {
            let failure = row.get::<Option<&str>, _>(3).and_then(class_from_name);
            let end = AttemptEnd {
                status: abandoned(row.get(2), failure, transient),
                failure: failure
                    .or(Some(FailureClass::Killed))
                    .filter(|_| !row.get::<bool, _>(2)),
                message: match (row.get::<bool, _>(2), row.get::<Option<String>, _>(4)) {
                    (true, message) => message,
                    (false, message) => message.or(Some(ABANDONED.to_owned())),
                },
                exit_code: None,
                signal: None,
                energy_joules: None,
            };
            self.close_attempt(&mut transaction, (row.get(0), row.get(1), row.get(5)), &end)
                .await?;
        }
        self.commit(transaction).await?;
        Ok(rows.len() as u64)
    }

    pub(super) async fn close_attempt(
        &self,
        connection: &mut SqliteConnection,
        (stage, attempt, now): (i64, u32, f64),
        end: &AttemptEnd,
    ) -> Result<(), StoreError> {
        let done = end.status == Status::Done;
        let failure = end.failure.map(FailureClass::name);
        let found = sqlx::query(
            "UPDATE attempts SET status = ?, ended = ?, failure = ?, message = COALESCE(?, message), exit_code = ?,
                 signal = ?, energy_joules = ?
             WHERE stage = ? AND attempt = ?",
        )
        .bind(if done { "done" } else { "failed" })
        .bind(now)
        .bind(failure)
        .bind(&end.message)
        .bind(end.exit_code)
        .bind(end.signal)
        .bind(end.energy_joules)
        .bind(stage)
        .bind(attempt)
        .execute(&mut *connection)
        .await
        .map_err(self.sql())?
        .rows_affected();
        if found == 0 {
            return Err(StoreError::Unknown {
                what: "attempt",
                name: attempt.to_string(),
            });
        }
        // The clock of the worker runs evenly; the difference of two labels is second best.
        sqlx::query(
            "UPDATE stages SET
                 status = ?,
                 failure = ?,
                 message = CASE WHEN ? THEN NULL ELSE
                     (SELECT message FROM attempts a WHERE a.stage = stages.id AND a.attempt = ?) END,
                 wall_seconds = (SELECT SUM(COALESCE(wall_seconds, MAX(ended - started, 0))) FROM attempts a
                     WHERE a.stage = stages.id AND ended IS NOT NULL)
             WHERE id = ?",
        )
        .bind(match end.status {
            Status::Running => Status::Failed.name(),
            status => status.name(),
        })
        .bind(failure)
        .bind(done)
        .bind(attempt)
        .bind(stage)
        .execute(&mut *connection)
        .await
        .map_err(self.sql())?;
        self.journal_attempt(connection, (stage, attempt)).await?;
        self.refresh_stage(connection, stage).await
    }

    /// Brings the runs that need `stage` up to date.
    pub(super) async fn refresh_stage(
        &self,
        connection: &mut SqliteConnection,
        stage: i64,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE runs SET status = new.status, failure = new.failure FROM (
                 SELECT all_stages.run AS run,
                     CASE WHEN SUM(s.status = 'failed') THEN 'failed' WHEN SUM(s.status = 'running') THEN 'running'
                          WHEN MIN(s.status = 'done') THEN 'done' ELSE 'pending' END AS status,
                     MAX(CASE WHEN s.status = 'failed' THEN s.failure END) AS failure
                 FROM run_stages own CROSS JOIN run_stages all_stages ON all_stages.run = own.run
                 CROSS JOIN stages s ON s.id = all_stages.stage
                 WHERE own.stage = ? GROUP BY all_stages.run) AS new
             WHERE runs.id = new.run AND (runs.status <> new.status OR runs.failure IS NOT new.failure)",
        )
        .bind(stage)
        .execute(connection)
        .await
        .map_err(self.sql())?;
        Ok(())
    }

    /// Brings all current runs of `experiment` up to date.
    pub(super) async fn refresh_experiment(
        &self,
        connection: &mut SqliteConnection,
        experiment: i64,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE runs SET status = new.status, failure = new.failure FROM (
                 SELECT r.id AS run,
                     CASE WHEN SUM(s.status = 'failed') THEN 'failed' WHEN SUM(s.status = 'running') THEN 'running'
                          WHEN MIN(s.status = 'done') THEN 'done' ELSE 'pending' END AS status,
                     MAX(CASE WHEN s.status = 'failed' THEN s.failure END) AS failure
                 FROM runs r CROSS JOIN run_stages rs ON rs.run = r.id CROSS JOIN stages s ON s.id = rs.stage
                 WHERE r.experiment = ? AND r.current = 1 GROUP BY r.id) AS new
             WHERE runs.id = new.run AND (runs.status <> new.status OR runs.failure IS NOT new.failure)",
        )
        .bind(experiment)
        .execute(connection)
        .await
        .map_err(self.sql())?;
        Ok(())
    }
}

/// The error for a stage that no stored plan has.
pub(super) fn unknown_stage(fingerprint: &str) -> StoreError {
    StoreError::Unknown {
        what: "stage",
        name: fingerprint.to_owned(),
    }
}
