//! Events of workers become rows.

use crate::rundir::event::{Event, EventKind};
use crate::store::attempts::unknown_stage;
use crate::store::open::{Durability, Store};
use crate::store::{StoreError, bulk};
use sqlx::{Row, SqliteConnection};
use std::collections::{BTreeMap, HashMap};

/// What a batch of events adds to a stage.
#[derive(Default)]
struct Batch {
    /// Rows beyond this step belong to work that an attempt has lost: it resumed from before them.
    rewind: Option<u64>,
    steps: Vec<StepRow>,
    epochs: Vec<EpochRow>,
    evaluations: Vec<EvaluationRow>,
    warnings: Vec<WarningRow>,
    attempts: BTreeMap<u32, AttemptNews>,
}

struct StepRow {
    step: u64,
    epoch: u32,
    time: f64,
    values: [Option<f64>; 4],
}

struct EpochRow {
    epoch: u32,
    step: u64,
    time: f64,
    values: [Option<f64>; 3],
}

struct EvaluationRow {
    series: (String, u32, String),
    epoch: u32,
    step: u64,
    time: f64,
    value: Option<f64>,
    nonfinite: Option<&'static str>,
    last: bool,
    /// Filled in once the series is known to the database.
    series_id: i64,
}

impl EvaluationRow {
    fn bind<'q>(&self, query: bulk::Bound<'q>, stage: i64) -> bulk::Bound<'q> {
        query
            .bind(stage)
            .bind(self.series_id)
            .bind(self.epoch)
            .bind(self.step as i64)
            .bind(self.time)
            .bind(self.value)
            .bind(self.nonfinite)
    }
}

struct WarningRow {
    attempt: u32,
    seq: u64,
    time: f64,
    message: String,
}

/// What events say of their attempt.
#[derive(Default)]
struct AttemptNews {
    started: Option<Started>,
    checkpoint_step: Option<i64>,
    resources: Option<(i64, f64, f64, i64)>,
    failed: Option<(&'static str, String)>,
    deviation: Option<String>,
    finished: bool,
    time: f64,
}

struct Started {
    host: String,
    pid: u32,
    device: String,
    program: String,
    resumed_step: i64,
    total_steps: i64,
    time: f64,
}

/// SQLite has no NaN (it stores NULL) and few programs expect an infinity from a database.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

fn nonfinite(value: f64) -> Option<&'static str> {
    match value {
        value if value.is_finite() => None,
        value if value.is_nan() => Some("nan"),
        value if value > 0.0 => Some("inf"),
        _ => Some("-inf"),
    }
}

impl Batch {
    fn add(&mut self, event: &Event) {
        let time = event.time;
        let news = self.attempts.entry(event.attempt).or_default();
        news.time = time;
        match &event.kind {
            EventKind::Started {
                host,
                pid,
                device,
                program,
                resumed_step,
                total_steps,
            } => {
                news.started = Some(Started {
                    host: host.clone(),
                    pid: *pid,
                    device: device.clone(),
                    program: program.clone(),
                    resumed_step: *resumed_step as i64,
                    total_steps: *total_steps as i64,
                    time,
                });
                // It makes again what was lost of a stage that is done: the results are those that there are until
                // it ends.
                if self.attempts.values().any(|news| news.finished) {
                    return;
                }
                let kept = *resumed_step;
                self.rewind = Some(self.rewind.map_or(kept, |step| step.min(kept)));
                self.steps.retain(|row| row.step <= kept);
                self.epochs.retain(|row| row.step <= kept);
                self.evaluations.retain(|row| row.step <= kept);
            }
            EventKind::Step {
                step,
                epoch,
                loss,
                lr,
                grad_norm,
                images_per_second,
            } => self.steps.push(StepRow {
                step: *step,
                epoch: *epoch,
                time,
                values: [*loss, *lr, *grad_norm, *images_per_second].map(finite),
            }),
            EventKind::Epoch {
                epoch,
                step,
                train_loss,
                lr,
                seconds,
            } => self.epochs.push(EpochRow {
                epoch: *epoch,
                step: *step,
                time,
                values: [*train_loss, *lr, *seconds].map(finite),
            }),
            EventKind::Evaluated {
                epoch,
                step,
                set,
                resolution,
                metrics,
                last,
            } => self
                .evaluations
                .extend(metrics.iter().map(|(metric, &value)| EvaluationRow {
                    series: (set.clone(), *resolution, metric.clone()),
                    epoch: *epoch,
                    step: *step,
                    time,
                    value: finite(value),
                    nonfinite: nonfinite(value),
                    last: *last,
                    series_id: 0,
                })),
            EventKind::Checkpointed { step, .. } => news.checkpoint_step = Some(*step as i64),
            EventKind::Resources {
                peak_rss_bytes,
                cpu_seconds,
                wall_seconds,
                images,
            } => {
                news.resources = Some((
                    *peak_rss_bytes as i64,
                    *cpu_seconds,
                    *wall_seconds,
                    *images as i64,
                ))
            }
            EventKind::Warning { message } => self.warnings.push(WarningRow {
                attempt: event.attempt,
                seq: event.seq,
                time,
                message: message.clone(),
            }),
            EventKind::Deviated {
                what,
                planned,
                actual,
            } => {
                let deviation = format!("{what}: {planned} -> {actual}");
                news.deviation = Some(match news.deviation.take() {
                    Some(others) => format!("{others}; {deviation}"),
                    None => deviation,
                });
            }
            EventKind::Finished { .. } => news.finished = true,
            EventKind::Failed { class, message } => {
                news.failed = Some((class.name(), message.clone()))
            }
        }
    }
}

impl Store {
    /// Stores events of a stage, in the order of its log, in one transaction. Events that are stored
    /// already are skipped, so it is safe to read a log again from anywhere. Returns how many were new.
    ///
    /// Rows of work that an attempt has lost (it resumed from a checkpoint before them) are removed: the
    /// curves are those of the weights that the stage ends with.
    pub async fn record_events(
        &self,
        fingerprint: &str,
        events: &[Event],
    ) -> Result<usize, StoreError> {
        if events.is_empty() {
            return Ok(0);
        }
        let mut writer = self.writer(Durability::Normal).await?;
        let mut transaction = self.begin(&mut writer).await?;
        let count = self
            .insert_events(&mut transaction, fingerprint, events)
            .await?;
        if count > 0 {
            self.commit(transaction).await?;
        }
        Ok(count)
    }

    /// Stores those of `events` that are new; returns how many.
    pub(super) async fn insert_events(
        &self,
        connection: &mut SqliteConnection,
        fingerprint: &str,
        events: &[Event],
    ) -> Result<usize, StoreError> {
        let row =
            sqlx::query("SELECT id, last_attempt, last_seq FROM stages WHERE fingerprint = ?")
                .bind(fingerprint)
                .fetch_optional(&mut *connection)
                .await
                .map_err(self.sql())?
                .ok_or_else(|| unknown_stage(fingerprint))?;
        let stage: i64 = row.get(0);
        // By attempt first: a power loss may cut a log shorter than what was stored of it; the next
        // attempt then uses sequence numbers again.
        let mut last = (row.get::<u32, _>(1), row.get::<i64, _>(2) as u64);
        let mut batch = Batch::default();
        let mut count = 0;
        for event in events {
            let position = (event.attempt, event.seq);
            if position > last {
                batch.add(event);
                last = position;
                count += 1;
            }
        }
        if count == 0 {
            return Ok(0);
        }
        self.write_batch(connection, stage, batch).await?;
        sqlx::query("UPDATE stages SET last_attempt = ?, last_seq = ? WHERE id = ?")
            .bind(last.0)
            .bind(last.1 as i64)
            .bind(stage)
            .execute(connection)
            .await
            .map_err(self.sql())?;
        Ok(count)
    }

    /// Sequence number of the last event of a stage that is stored; 0: none.
    pub async fn last_seq(&self, fingerprint: &str) -> Result<u64, StoreError> {
        let seq: Option<i64> =
            sqlx::query_scalar("SELECT last_seq FROM stages WHERE fingerprint = ?")
                .bind(fingerprint)
                .fetch_optional(&self.readers)
                .await
                .map_err(self.sql())?;
        Ok(seq.unwrap_or(0) as u64)
    }

    async fn write_batch(
        &self,
        connection: &mut SqliteConnection,
        stage: i64,
        mut batch: Batch,
    ) -> Result<(), StoreError> {
        let is_finished =
            sqlx::query("SELECT 1 FROM attempts WHERE stage = ? AND finished = 1 LIMIT 1");
        if let Some(step) = batch.rewind
            && is_finished
                .bind(stage)
                .fetch_optional(&mut *connection)
                .await
                .map_err(self.sql())?
                .is_none()
        {
            for sql in [
                "DELETE FROM steps WHERE stage = ? AND step > ?",
                "DELETE FROM epochs WHERE stage = ? AND step > ?",
                "DELETE FROM evaluations WHERE stage = ? AND step > ?",
                "DELETE FROM results WHERE stage = ? AND step > ?",
            ] {
                sqlx::query(sql)
                    .bind(stage)
                    .bind(step as i64)
                    .execute(&mut *connection)
                    .await
                    .map_err(self.sql())?;
            }
        }
        let head = "INSERT OR REPLACE INTO steps
            (stage, step, epoch, time, loss, lr, grad_norm, images_per_second)";
        bulk::insert(
            connection,
            &self.path,
            (head, 8, ""),
            &batch.steps,
            |query, row| {
                let [loss, lr, grad_norm, images_per_second] = row.values;
                query
                    .bind(stage)
                    .bind(row.step as i64)
                    .bind(row.epoch)
                    .bind(row.time)
                    .bind(loss)
                    .bind(lr)
                    .bind(grad_norm)
                    .bind(images_per_second)
            },
        )
        .await?;
        let head =
            "INSERT OR REPLACE INTO epochs (stage, epoch, step, time, train_loss, lr, seconds)";
        bulk::insert(
            connection,
            &self.path,
            (head, 7, ""),
            &batch.epochs,
            |query, row| {
                let [train_loss, lr, seconds] = row.values;
                query
                    .bind(stage)
                    .bind(row.epoch)
                    .bind(row.step as i64)
                    .bind(row.time)
                    .bind(train_loss)
                    .bind(lr)
                    .bind(seconds)
            },
        )
        .await?;
        self.number_series(connection, &mut batch.evaluations)
            .await?;
        let head = "INSERT OR REPLACE INTO evaluations (stage, series, epoch, step, time, value, nonfinite)";
        bulk::insert(
            connection,
            &self.path,
            (head, 7, ""),
            &batch.evaluations,
            |query, row| row.bind(query, stage),
        )
        .await?;
        batch.evaluations.retain(|row| row.last);
        let head =
            "INSERT OR REPLACE INTO results (stage, series, epoch, step, time, value, nonfinite)";
        bulk::insert(
            connection,
            &self.path,
            (head, 7, ""),
            &batch.evaluations,
            |query, row| row.bind(query, stage),
        )
        .await?;
        let head = "INSERT OR REPLACE INTO warnings (stage, attempt, seq, time, message)";
        bulk::insert(
            connection,
            &self.path,
            (head, 5, ""),
            &batch.warnings,
            |query, row| {
                query
                    .bind(stage)
                    .bind(row.attempt)
                    .bind(row.seq as i64)
                    .bind(row.time)
                    .bind(&row.message)
            },
        )
        .await?;
        for (attempt, news) in &batch.attempts {
            self.update_attempt(connection, stage, *attempt, news)
                .await?;
        }
        Ok(())
    }

    /// Gives every evaluation the number of its series, making new ones.
    async fn number_series(
        &self,
        connection: &mut SqliteConnection,
        rows: &mut [EvaluationRow],
    ) -> Result<(), StoreError> {
        let mut numbers: HashMap<(String, u32, String), i64> = HashMap::new();
        for row in rows {
            row.series_id = match numbers.get(&row.series) {
                Some(&id) => id,
                None => {
                    let (set, resolution, metric) = &row.series;
                    // The update changes nothing; it makes RETURNING return the row that is there.
                    let id: i64 = sqlx::query_scalar(
                        "INSERT INTO series (eval_set, resolution, metric) VALUES (?, ?, ?)
                         ON CONFLICT DO UPDATE SET metric = metric RETURNING id",
                    )
                    .bind(set)
                    .bind(resolution)
                    .bind(metric)
                    .fetch_one(&mut *connection)
                    .await
                    .map_err(self.sql())?;
                    numbers.insert(row.series.clone(), id);
                    id
                }
            };
        }
        Ok(())
    }

    async fn update_attempt(
        &self,
        connection: &mut SqliteConnection,
        stage: i64,
        attempt: u32,
        news: &AttemptNews,
    ) -> Result<(), StoreError> {
        if let Some(started) = &news.started {
            // The row is there, unless the log comes from a machine that this store didn't start it on. Its
            // device stays: the worker knows only how it sees the GPU, as `cuda:0`, whichever it is.
            sqlx::query(
                "INSERT INTO attempts
                     (stage, attempt, device, host, pid, log, started, status, program, resumed_step, total_steps)
                 VALUES (?, ?, ?, ?, ?, '', ?, 'running', ?, ?, ?)
                 ON CONFLICT (stage, attempt) DO UPDATE SET
                     host = excluded.host, pid = excluded.pid, program = excluded.program,
                     resumed_step = excluded.resumed_step, total_steps = excluded.total_steps",
            )
            .bind(stage)
            .bind(attempt)
            .bind(&started.device)
            .bind(&started.host)
            .bind(started.pid)
            .bind(started.time)
            .bind(&started.program)
            .bind(started.resumed_step)
            .bind(started.total_steps)
            .execute(&mut *connection)
            .await
            .map_err(self.sql())?;
            sqlx::query("UPDATE stages SET attempts = MAX(attempts, ?) WHERE id = ?")
                .bind(attempt)
                .bind(stage)
                .execute(&mut *connection)
                .await
                .map_err(self.sql())?;
        }
        let (rss, cpu, wall, images) = match news.resources {
            Some((rss, cpu, wall, images)) => (Some(rss), finite(cpu), finite(wall), Some(images)),
            None => (None, None, None, None),
        };
        let (class, message) = match &news.failed {
            Some((class, message)) => (Some(*class), Some(message.as_str())),
            None => (None, None),
        };
        sqlx::query(
            "UPDATE attempts SET
                 checkpoint_step = COALESCE(?, checkpoint_step),
                 peak_rss_bytes = COALESCE(?, peak_rss_bytes),
                 cpu_seconds = COALESCE(?, cpu_seconds),
                 wall_seconds = COALESCE(?, wall_seconds),
                 images = COALESCE(?, images),
                 failure = COALESCE(?, failure),
                 message = COALESCE(?, message),
                 deviation = COALESCE(?, deviation),
                 finished = MAX(finished, ?),
                 last_event = ?
             WHERE stage = ? AND attempt = ?",
        )
        .bind(news.checkpoint_step)
        .bind(rss)
        .bind(cpu)
        .bind(wall)
        .bind(images)
        .bind(class)
        .bind(message)
        .bind(&news.deviation)
        .bind(news.finished)
        .bind(news.time)
        .bind(stage)
        .bind(attempt)
        .execute(connection)
        .await
        .map_err(self.sql())?;
        Ok(())
    }
}
