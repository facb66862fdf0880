//! Leases: which scheduler has which stage.
//!
//! A stage is claimed in one transaction that takes the write lock first: of two schedulers that want it,
//! one gets it. The lease goes with the transaction that says how the stage ended, or with the scheduler,
//! once others have seen that it is dead.

use crate::rundir::event::{Event, FailureClass};
use crate::rundir::layout::RunDir;
use crate::rundir::log::unix_time;
use crate::store::attempts::class_from_name;
use crate::store::open::{Durability, Store};
use crate::store::plans::json;
use crate::store::rows::Status;
use crate::store::{AttemptEnd, AttemptGpu, AttemptStart, Owner, StoreError};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use std::path::Path;

/// A change that a scheduler makes. Those that belong together are made in one transaction.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Take the stage and begin an attempt at it. The answer is a [`Claim`].
    Claim {
        fingerprint: String,
        /// `cpu` or `cuda:N`.
        device: String,
        /// The GPUs that it gets.
        gpus: Vec<AttemptGpu>,
        /// Attempts that the scheduler knows of: if there were more, another one was at the stage, and how
        /// it ended there counts.
        seen: u32,
    },
    /// What workers say. Comes before the end of their attempt.
    Events {
        fingerprint: String,
        events: Vec<Event>,
    },
    /// The attempt's worker was started.
    Worker {
        fingerprint: String,
        attempt: u32,
        pid: u32,
        /// See [`process_start`](crate::rundir::host::process_start).
        start: Option<u64>,
    },
    /// The attempt has ended. The lease stays if the stage will be tried again here.
    End {
        fingerprint: String,
        attempt: u32,
        end: AttemptEnd,
        keep: bool,
    },
    /// The stage is given back without another attempt.
    Release { fingerprint: String },
}

/// The answer to a claim.
#[derive(Debug, Clone, PartialEq)]
pub enum Claim {
    /// The stage is ours, and this is the number of the attempt.
    Won { attempt: u32 },
    /// Another scheduler has it.
    Held(Owner),
    /// It was done by another scheduler.
    Done,
    /// It failed for good under another scheduler.
    Failed {
        class: FailureClass,
        message: String,
    },
}

/// A stage that a scheduler has.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    pub fingerprint: String,
    pub owner: Owner,
    /// The last attempt under it.
    pub attempt: u32,
    /// Unix time.
    pub taken: f64,
    /// The worker of that attempt: its process, and when that began.
    pub worker: Option<(u32, Option<u64>)>,
}

/// Columns of a lease from index 0 on, for [`lease`].
const COLUMNS: &str = "l.owner, l.host, l.boot_id, l.pid, l.start_time, l.since, l.attempt, l.taken, \
    l.worker_pid, l.worker_start, s.fingerprint";

fn owner(row: &SqliteRow) -> Owner {
    Owner {
        id: row.get(0),
        host: row.get(1),
        boot_id: row.get(2),
        pid: row.get(3),
        start_time: row.get::<i64, _>(4) as u64,
        since: row.get(5),
    }
}

fn lease(row: &SqliteRow) -> Lease {
    Lease {
        fingerprint: row.get(10),
        owner: owner(row),
        attempt: row.get(6),
        taken: row.get(7),
        worker: row
            .get::<Option<u32>, _>(8)
            .map(|pid| (pid, row.get::<Option<i64>, _>(9).map(|start| start as u64))),
    }
}

impl Store {
    /// Makes `changes` of the scheduler `me`, in their order and in one transaction. Returns the answers
    /// to its claims. Claims and ends are on disk before it returns; whatever follows from them (a worker
    /// that starts, a lease that others see) comes after.
    pub async fn transition(
        &self,
        me: &Owner,
        changes: &[Change],
    ) -> Result<Vec<Claim>, StoreError> {
        let mut claims = Vec::new();
        if changes.is_empty() {
            return Ok(claims);
        }
        let can_be_lost =
            |change: &Change| matches!(change, Change::Events { .. } | Change::Worker { .. });
        let durability = match changes.iter().all(can_be_lost) {
            true => Durability::Normal,
            false => Durability::Full,
        };
        let mut writer = self.writer(durability).await?;
        let mut transaction = self.begin(&mut writer).await?;
        for change in changes {
            let connection = &mut transaction;
            match change {
                Change::Claim {
                    fingerprint,
                    device,
                    gpus,
                    seen,
                } => {
                    let claim = self
                        .claim(connection, me, (fingerprint, device, *seen))
                        .await?;
                    if let Claim::Won { attempt } = claim {
                        self.note_gpus(connection, (fingerprint, attempt), gpus)
                            .await?;
                    }
                    claims.push(claim);
                }
                Change::Events {
                    fingerprint,
                    events,
                } => {
                    self.insert_events(connection, fingerprint, events).await?;
                }
                Change::Worker {
                    fingerprint,
                    attempt,
                    pid,
                    start,
                } => {
                    self.note_worker(connection, (fingerprint, *attempt), (*pid, *start))
                        .await?;
                }
                Change::End {
                    fingerprint,
                    attempt,
                    end,
                    keep,
                } => {
                    let stage = self.stage_id(connection, fingerprint).await?;
                    self.close_attempt(connection, (stage, *attempt, unix_time()), end)
                        .await?;
                    if !keep {
                        self.release(connection, me, fingerprint).await?;
                    }
                }
                Change::Release { fingerprint } => {
                    self.release(connection, me, fingerprint).await?;
                }
            }
        }
        self.commit(transaction).await?;
        Ok(claims)
    }

    async fn claim(
        &self,
        connection: &mut SqliteConnection,
        me: &Owner,
        (fingerprint, device, seen): (&str, &str, u32),
    ) -> Result<Claim, StoreError> {
        let row = sqlx::query(
            "SELECT l.owner, l.host, l.boot_id, l.pid, l.start_time, l.since, s.status, s.attempts, s.failure, s.message
             FROM stages s LEFT JOIN leases l ON l.stage = s.id WHERE s.fingerprint = ?",
        )
        .bind(fingerprint)
        .fetch_optional(&mut *connection)
        .await
        .map_err(self.sql())?
        .ok_or_else(|| super::attempts::unknown_stage(fingerprint))?;
        if row
            .get::<Option<&str>, _>(0)
            .is_some_and(|holder| holder != me.id)
        {
            return Ok(Claim::Held(owner(&row)));
        }
        let attempts: u32 = row.get(7);
        if attempts > seen {
            match Status::from_name(row.get(6)) {
                Status::Done => return Ok(Claim::Done),
                Status::Failed => {
                    return Ok(Claim::Failed {
                        class: row
                            .get::<Option<&str>, _>(8)
                            .and_then(class_from_name)
                            .unwrap_or(FailureClass::Bug),
                        message: row.get::<Option<String>, _>(9).unwrap_or_default(),
                    });
                }
                Status::Pending | Status::Running => {}
            }
        }
        let log = RunDir::in_store(Path::new(""), fingerprint).attempt_log(attempts + 1);
        let start = AttemptStart {
            device: device.to_owned(),
            host: me.host.clone(),
            pid: None,
            log: log.display().to_string(),
        };
        let (stage, attempt) = self.insert_attempt(connection, fingerprint, &start).await?;
        sqlx::query(
            "INSERT INTO leases (stage, attempt, taken, owner, host, boot_id, pid, start_time, since)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET attempt = excluded.attempt, worker_pid = NULL, worker_start = NULL",
        )
        .bind(stage)
        .bind(attempt)
        .bind(unix_time())
        .bind(&me.id)
        .bind(&me.host)
        .bind(&me.boot_id)
        .bind(me.pid)
        .bind(me.start_time as i64)
        .bind(me.since)
        .execute(connection)
        .await
        .map_err(self.sql())?;
        Ok(Claim::Won { attempt })
    }

    async fn note_worker(
        &self,
        connection: &mut SqliteConnection,
        (fingerprint, attempt): (&str, u32),
        (pid, start): (u32, Option<u64>),
    ) -> Result<(), StoreError> {
        let stage = self.stage_id(connection, fingerprint).await?;
        sqlx::query("UPDATE attempts SET pid = ? WHERE stage = ? AND attempt = ?")
            .bind(pid)
            .bind(stage)
            .bind(attempt)
            .execute(&mut *connection)
            .await
            .map_err(self.sql())?;
        sqlx::query(
            "UPDATE leases SET worker_pid = ?, worker_start = ? WHERE stage = ? AND attempt = ?",
        )
        .bind(pid)
        .bind(start.map(|start| start as i64))
        .bind(stage)
        .bind(attempt)
        .execute(connection)
        .await
        .map_err(self.sql())?;
        Ok(())
    }

    async fn release(
        &self,
        connection: &mut SqliteConnection,
        me: &Owner,
        fingerprint: &str,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "DELETE FROM leases WHERE owner = ? AND stage = (SELECT id FROM stages WHERE fingerprint = ?)",
        )
        .bind(&me.id)
        .bind(fingerprint)
        .execute(connection)
        .await
        .map_err(self.sql())?;
        Ok(())
    }

    /// All leases, the oldest first.
    pub async fn leases(&self) -> Result<Vec<Lease>, StoreError> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM leases l JOIN stages s ON s.id = l.stage ORDER BY l.taken, l.stage"
        )))
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())?;
        Ok(rows.iter().map(lease).collect())
    }

    /// The leases on those of `fingerprints` that are leased.
    pub async fn leases_of(&self, fingerprints: &[String]) -> Result<Vec<Lease>, StoreError> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM json_each(?) j JOIN stages s ON s.fingerprint = j.value
             JOIN leases l ON l.stage = s.id"
        )))
        .bind(json(fingerprints))
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())?;
        Ok(rows.iter().map(lease).collect())
    }
}
