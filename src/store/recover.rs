//! Rebuilding a store whose database is damaged or lost: `ablate recover`.
//!
//! The new database is built whole in `<store>/recovering/`, from the [records](super::records) and the run
//! directories. Then the damaged one is renamed (`ablate.db.damaged-<time>`, with its log), and the new one takes
//! its place. Killed before that, nothing has changed; killed in between, the database is missing, which every
//! command refuses, and recovering again does the rest.
//!
//! Rows of damaged records are missing, and others get new numbers. So what was rebuilt is a record of its own, a
//! snapshot: a second recovery comes to the same, and a record that can be read again later changes nothing.

use crate::rundir::layout::RunDir;
use crate::rundir::log::{Tail, unix_time};
use crate::rundir::stage::StageSpec;
use crate::store::connection::with_suffix;
use crate::store::journal::{self, GPU_COLUMNS, GPUS, STAGE_STATUS};
use crate::store::open::{Durability, Store};
use crate::store::records::Unread;
use crate::store::{StoreError, StoreLock, records};
use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, Executor, Row, SqliteConnection};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

/// What was rebuilt.
#[derive(Debug, Default)]
pub struct Recovered {
    pub experiments: u64,
    /// Current runs.
    pub runs: u64,
    pub stages: u64,
    /// Stages that are done.
    pub done: u64,
    pub attempts: u64,
    /// Where the former database is; `None` if there was none.
    pub kept: Option<PathBuf>,
    /// What could not be read, with paths.
    pub problems: Vec<String>,
    /// Records that could not be read: they are kept as `<number>.jsonl.gz.damaged`.
    damaged: Vec<PathBuf>,
    /// The record of everything that was rebuilt, which replaces all others.
    snapshot: i64,
    /// Stages of which no record tells whose they are: `ablate run FILE` finds them again.
    pub nameless: u64,
}

/// A folder that only a recovery uses.
const FOLDER: &str = "recovering";

/// Whether the database of the store at `dir` is whole: opens, and passes SQLite's full check. The error says
/// what is wrong.
pub async fn check(dir: &Path) -> Result<(), StoreError> {
    let store = Store::open_read_only(dir).await?;
    let found: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check(1)")
        .fetch_all(&store.readers)
        .await
        .map_err(store.sql())?;
    match found.first() {
        Some(problem) if problem != "ok" => Err(StoreError::Damaged {
            path: store.path.clone(),
            what: problem.replace('\n', " "),
        }),
        _ => Ok(()),
    }
}

/// Rebuilds the database of the store at `dir`. The caller holds its lock alone, which `_lock` shows.
pub async fn recover(dir: &Path, _lock: &StoreLock) -> Result<Recovered, StoreError> {
    let folder = dir.join(FOLDER);
    let io = StoreError::io;
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(io("remove", &folder))?;
    }
    let mut recovered = Recovered::default();
    let mut store = Store::open(&folder).await?;
    store.dir = dir.to_owned();
    store.rebuild(&mut recovered).await?;
    // Not among the others yet: the database in place is still the former one.
    store.dir = folder.clone();
    recovered.snapshot = store.record_all().await?;
    store.close().await?;
    let new = folder.join("ablate.db");
    std::fs::File::open(&new)
        .and_then(|file| file.sync_all())
        .map_err(io("sync", &new))?;
    records::adopt(&folder, dir, recovered.snapshot)?;
    recovered.kept = set_aside(dir)?;
    let path = dir.join("ablate.db");
    std::fs::rename(&new, &path).map_err(io("replace", &path))?;
    std::fs::File::open(dir)
        .and_then(|folder| folder.sync_all())
        .map_err(io("sync", dir))?;
    // An empty folder that stays does no harm, nor do records that the snapshot has replaced.
    let _ = std::fs::remove_dir_all(&folder);
    for path in &recovered.damaged {
        let _ = std::fs::rename(path, with_suffix(path, ".damaged"));
    }
    records::remove_before(dir, recovered.snapshot);
    Ok(recovered)
}

/// Renames the database with its log; the database first, for without its log it could pass for a whole one. The
/// log must be gone before there is another database that it could be taken for the log of.
fn set_aside(dir: &Path) -> Result<Option<PathBuf>, StoreError> {
    let path = dir.join("ablate.db");
    let mut mark = format!(".damaged-{}", unix_time() as u64);
    let mut more = 0;
    while with_suffix(&path, &mark).exists() {
        more += 1;
        mark = format!(".damaged-{}-{more}", unix_time() as u64);
    }
    let kept = with_suffix(&path, &mark);
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let from = with_suffix(&path, suffix);
        match std::fs::rename(&from, with_suffix(&kept, suffix)) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(StoreError::Io {
                    action: "rename",
                    path: from,
                    source,
                });
            }
        }
    }
    Ok(kept.exists().then_some(kept))
}

/// What only damaged records tell the place of.
struct Dangling {
    /// Names of experiments that have lost runs; their next `ablate run` stores the plan anew.
    experiments: Vec<String>,
    /// Tags and notes of runs that are lost.
    marks: Vec<String>,
}

/// Removes rows that refer to rows of damaged records, before the numbers of those are given to others.
async fn drop_dangling(transaction: &mut SqliteConnection) -> Result<Dangling, sqlx::Error> {
    const PLAN: &str = "(SELECT MAX(p.id) FROM plans p WHERE p.experiment = e.id)";
    const NO_STAGES: &str = "NOT EXISTS (SELECT 1 FROM run_stages rs WHERE rs.run = runs.id)";
    let dangling = format!(
        "experiment NOT IN (SELECT id FROM experiments) OR plan NOT IN (SELECT id FROM plans)
         OR result NOT IN (SELECT id FROM stages) OR {NO_STAGES}
         OR id IN (SELECT run FROM run_stages WHERE stage NOT IN (SELECT id FROM stages))"
    );
    // What is known of a plan is its file and its command line: any of the experiment's stands for a lost one.
    let plans = [
        "DELETE FROM plans WHERE experiment NOT IN (SELECT id FROM experiments)".to_owned(),
        format!(
            "UPDATE experiments AS e SET plan = {PLAN}, digest = ''
             WHERE plan NOT IN (SELECT id FROM plans) AND {PLAN} IS NOT NULL"
        ),
        "DELETE FROM experiments WHERE plan NOT IN (SELECT id FROM plans)".to_owned(),
        "UPDATE runs SET plan = (SELECT plan FROM experiments e WHERE e.id = runs.experiment)
         WHERE plan NOT IN (SELECT id FROM plans) AND experiment IN (SELECT id FROM experiments)"
            .to_owned(),
    ];
    for sql in plans {
        sqlx::query(AssertSqlSafe(sql))
            .execute(&mut *transaction)
            .await?;
    }
    let experiments: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
        "SELECT DISTINCT COALESCE(e.name, runs.name) FROM runs LEFT JOIN experiments e ON e.id = runs.experiment
         WHERE runs.id IN (SELECT id FROM runs WHERE {dangling}) ORDER BY 1"
    )))
    .fetch_all(&mut *transaction)
    .await?;
    let rows = [
        format!(
            "UPDATE experiments SET digest = ''
             WHERE id IN (SELECT experiment FROM runs WHERE {dangling})"
        ),
        format!("DELETE FROM runs WHERE {dangling}"),
        "DELETE FROM run_stages
         WHERE run NOT IN (SELECT id FROM runs) OR stage NOT IN (SELECT id FROM stages)"
            .to_owned(),
        "DELETE FROM stage_configs WHERE stage NOT IN (SELECT id FROM stages)".to_owned(),
        "UPDATE stages SET parent = NULL WHERE parent NOT IN (SELECT id FROM stages)".to_owned(),
    ];
    for sql in rows {
        sqlx::query(AssertSqlSafe(sql))
            .execute(&mut *transaction)
            .await?;
    }
    let marks = sqlx::query_scalar(
        "SELECT 'tag ' || name FROM tags WHERE run NOT IN (SELECT id FROM runs)
         UNION ALL SELECT 'note \u{201c}' || text || '\u{201d}' FROM notes WHERE run NOT IN (SELECT id FROM runs)",
    )
    .fetch_all(&mut *transaction)
    .await?;
    for table in ["tags", "notes"] {
        let sql = format!("DELETE FROM {table} WHERE run NOT IN (SELECT id FROM runs)");
        sqlx::query(AssertSqlSafe(sql))
            .execute(&mut *transaction)
            .await?;
    }
    Ok(Dangling { experiments, marks })
}

impl Store {
    /// Fills this empty store from what lies in its folder.
    async fn rebuild(&self, recovered: &mut Recovered) -> Result<(), StoreError> {
        self.put_records_back(recovered).await?;
        let known: HashSet<String> = sqlx::query_scalar("SELECT fingerprint FROM stages")
            .fetch_all(&self.readers)
            .await
            .map_err(self.sql())?
            .into_iter()
            .collect();
        let mut parents = Vec::new();
        for (fingerprint, dir) in run_directories(&self.dir) {
            if !known.contains(&fingerprint) {
                match read_spec(&dir, &fingerprint) {
                    Ok(spec) => {
                        self.insert_stage(&spec).await?;
                        parents.extend(spec.parent.map(|parent| (fingerprint.clone(), parent)));
                        recovered.nameless += 1;
                    }
                    Err(problem) => {
                        recovered.problems.push(problem);
                        continue;
                    }
                }
            }
            self.read_run_directory(&fingerprint, &dir, recovered)
                .await?;
        }
        let mut writer = self.writer(Durability::Full).await?;
        let mut transaction = self.begin(&mut writer).await?;
        for (child, parent) in parents {
            sqlx::query("UPDATE stages SET parent = (SELECT id FROM stages WHERE fingerprint = ?) WHERE fingerprint = ?")
                .bind(parent)
                .bind(child)
                .execute(&mut *transaction)
                .await
                .map_err(self.sql())?;
        }
        sqlx::query(
            "UPDATE runs SET status = new.status, failure = new.failure FROM (
                 SELECT rs.run AS run,
                     CASE WHEN SUM(s.status = 'failed') THEN 'failed' WHEN SUM(s.status = 'running') THEN 'running'
                          WHEN MIN(s.status = 'done') THEN 'done' ELSE 'pending' END AS status,
                     MAX(CASE WHEN s.status = 'failed' THEN s.failure END) AS failure
                 FROM run_stages rs JOIN stages s ON s.id = rs.stage GROUP BY rs.run) AS new
             WHERE runs.id = new.run",
        )
        .execute(&mut *transaction)
        .await
        .map_err(self.sql())?;
        let row = sqlx::query(
            "SELECT (SELECT COUNT(*) FROM experiments), (SELECT COUNT(*) FROM runs WHERE current = 1),
                 (SELECT COUNT(*) FROM stages), (SELECT COUNT(*) FROM stages WHERE status = 'done'),
                 (SELECT COUNT(*) FROM attempts), (SELECT COUNT(*) FROM pragma_foreign_key_check)",
        )
        .fetch_one(&mut *transaction)
        .await
        .map_err(self.sql())?;
        let count = |column| row.get::<i64, _>(column) as u64;
        recovered.experiments = count(0);
        recovered.runs = count(1);
        recovered.stages = count(2);
        recovered.done = count(3);
        recovered.attempts = count(4);
        if count(5) > 0 {
            recovered.problems.push(format!(
                "{} rows of the records refer to rows that are in none: run the experiments again",
                count(5)
            ));
        }
        self.commit(transaction).await
    }

    /// Records all that was rebuilt, with the number after the last one's.
    async fn record_all(&self) -> Result<i64, StoreError> {
        let mut writer = self.writer(Durability::Full).await?;
        let mut transaction = self.begin(&mut writer).await?;
        let number = self.record_everything(&mut transaction).await?;
        self.commit(transaction).await?;
        Ok(number)
    }

    /// Applies the records in their order, from the last snapshot on. One that is damaged is left out.
    async fn put_records_back(&self, recovered: &mut Recovered) -> Result<(), StoreError> {
        let mut readers = Vec::new();
        let mut last = 0;
        for (number, path) in records::list(&self.dir)? {
            last = number;
            match records::Reader::open(&path) {
                Ok(reader) => {
                    if reader.kind == records::Kind::Snapshot {
                        readers.clear();
                    }
                    readers.push((path, reader));
                }
                Err(Unread::Damaged(problem)) => {
                    recovered.problems.push(problem);
                    recovered.damaged.push(path);
                }
                Err(Unread::Unknown(error)) => return Err(error),
            }
        }
        let mut writer = self.writer(Durability::Full).await?;
        // Rows come before those that they refer to; what is missing at the end is reported.
        (&mut writer.connection)
            .execute("PRAGMA foreign_keys = OFF")
            .await
            .map_err(self.sql())?;
        let mut transaction = self.begin(&mut writer).await?;
        for (path, reader) in readers {
            let kind = reader.kind.clone();
            match reader.rows() {
                Ok(tables) => apply(&mut transaction, &kind, &tables)
                    .await
                    .map_err(self.sql())?,
                Err(Unread::Damaged(problem)) => {
                    recovered.problems.push(problem);
                    recovered.damaged.push(path);
                }
                Err(Unread::Unknown(error)) => return Err(error),
            }
        }
        let lost = drop_dangling(&mut transaction).await.map_err(self.sql())?;
        if !lost.experiments.is_empty() {
            recovered.problems.push(format!(
                "what records hold of {} is in part in damaged ones and left out; the stages are there: `ablate run` again \
                 finds them",
                lost.experiments.join(", ")
            ));
        }
        for mark in lost.marks {
            recovered.problems.push(format!(
                "{mark}: the run is in a damaged record, so it is left out"
            ));
        }
        sqlx::query("INSERT OR REPLACE INTO meta (key, value) VALUES ('records', ?)")
            .bind(last.to_string())
            .execute(&mut *transaction)
            .await
            .map_err(self.sql())?;
        self.commit(transaction).await
    }

    /// A stage that no record has, from its `stage.json`.
    async fn insert_stage(&self, spec: &StageSpec) -> Result<(), StoreError> {
        let mut writer = self.writer(Durability::Full).await?;
        let mut transaction = self.begin(&mut writer).await?;
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO stages (fingerprint, task, seed, data_name, data_hash, flops, parameters, steps, disk_bytes,
                 created)
             VALUES (?, ?, ?, ?, ?, 0, 0, 0, 0, ?) RETURNING id",
        )
        .bind(&spec.fingerprint)
        .bind(spec.task.name())
        .bind(spec.seed as i64)
        .bind(match spec.command {
            None => spec.recipe.data.name.as_str(),
            Some(_) => "",
        })
        .bind(&spec.data_hash)
        .bind(unix_time())
        .fetch_one(&mut *transaction)
        .await
        .map_err(self.sql())?;
        sqlx::query("INSERT INTO stage_configs (stage, config) VALUES (?, ?)")
            .bind(id)
            .bind(super::plans::json(spec))
            .execute(&mut *transaction)
            .await
            .map_err(self.sql())?;
        self.commit(transaction).await
    }

    /// Takes in what the run directory of a stage says: attempts and events.
    async fn read_run_directory(
        &self,
        fingerprint: &str,
        dir: &RunDir,
        recovered: &mut Recovered,
    ) -> Result<(), StoreError> {
        let (attempts, bad) = journal::read(dir);
        if bad > 0 {
            recovered.problems.push(format!(
                "{}: {bad} lines don't verify and were skipped",
                dir.attempts().display()
            ));
        }
        let stage: i64 = sqlx::query_scalar("SELECT id FROM stages WHERE fingerprint = ?")
            .bind(fingerprint)
            .fetch_one(&self.readers)
            .await
            .map_err(self.sql())?;
        self.put_attempts(stage, &attempts, false).await?;
        let mut tail = Tail::new(dir.events());
        loop {
            match tail.poll() {
                Ok(events) if events.is_empty() => break,
                Ok(events) => {
                    self.record_events(fingerprint, &events).await?;
                }
                Err(error) => {
                    recovered.problems.push(error.to_string());
                    break;
                }
            }
        }
        self.put_attempts(stage, &attempts, true).await?;
        self.conclude(stage, &attempts).await
    }

    /// Puts the rows of attempts back: all, before events are read, or those that have ended, whose rows are
    /// final.
    async fn put_attempts(
        &self,
        stage: i64,
        attempts: &BTreeMap<u32, Map<String, Value>>,
        ended: bool,
    ) -> Result<(), StoreError> {
        let mut writer = self.writer(Durability::Normal).await?;
        let mut transaction = self.begin(&mut writer).await?;
        for fields in attempts.values() {
            if ended && fields.get("ended").is_none_or(Value::is_null) {
                continue;
            }
            let attempt = fields.get("attempt").and_then(Value::as_i64);
            let known: Option<(i64, i64)> =
                sqlx::query_as("SELECT id, finished FROM attempts WHERE stage = ? AND attempt = ?")
                    .bind(stage)
                    .bind(attempt)
                    .fetch_optional(&mut *transaction)
                    .await
                    .map_err(self.sql())?;
            let (id, finished) = known.unzip();
            let (mut columns, mut row): (Vec<String>, Vec<Value>) = fields
                .iter()
                .filter(|(name, _)| *name != STAGE_STATUS && *name != GPUS)
                .map(|(name, value)| (name.clone(), value.clone()))
                .unzip();
            columns.extend(["stage".to_owned(), "id".to_owned()]);
            row.extend([stage.into(), id.into()]);
            records::put_back(&mut transaction, "attempts", &columns, &[row])
                .await
                .map_err(self.sql())?;
            sqlx::query("UPDATE attempts SET finished = ? WHERE stage = ? AND attempt = ?")
                .bind(finished.unwrap_or(0))
                .bind(stage)
                .bind(attempt)
                .execute(&mut *transaction)
                .await
                .map_err(self.sql())?;
            let gpus: Vec<Vec<Value>> = fields
                .get(GPUS)
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(|gpu| {
                    let mut row = vec![Value::from(stage), attempt.into()];
                    row.extend(gpu.as_array()?.iter().cloned());
                    (row.len() == GPU_COLUMNS.len() + 2).then_some(row)
                })
                .collect();
            let columns: Vec<String> = ["stage", "attempt"]
                .into_iter()
                .chain(GPU_COLUMNS)
                .map(str::to_owned)
                .collect();
            records::put_back(&mut transaction, "attempt_gpus", &columns, &gpus)
                .await
                .map_err(self.sql())?;
        }
        self.commit(transaction).await
    }

    /// Brings the stage's row in line with its attempts.
    async fn conclude(
        &self,
        stage: i64,
        attempts: &BTreeMap<u32, Map<String, Value>>,
    ) -> Result<(), StoreError> {
        let mut writer = self.writer(Durability::Full).await?;
        let mut transaction = self.begin(&mut writer).await?;
        // Nobody runs it: an attempt without an end was cut off, and what its events say is its end.
        sqlx::query(
            "UPDATE attempts SET
                 status = CASE WHEN finished THEN 'done' ELSE 'failed' END,
                 failure = CASE WHEN finished THEN NULL ELSE COALESCE(failure, 'killed') END,
                 message = CASE WHEN finished THEN message ELSE COALESCE(message, ?) END,
                 ended = COALESCE(last_event, started)
             WHERE stage = ? AND status = 'running'",
        )
        .bind(super::attempts::ABANDONED)
        .bind(stage)
        .execute(&mut *transaction)
        .await
        .map_err(self.sql())?;
        let last = sqlx::query(
            "SELECT attempt, status, failure, message, log, finished,
                 (SELECT SUM(COALESCE(wall_seconds, MAX(ended - started, 0))) FROM attempts a
                     WHERE a.stage = ?1 AND ended IS NOT NULL),
                 message = ?2
             FROM attempts WHERE stage = ?1 ORDER BY attempt DESC LIMIT 1",
        )
        .bind(stage)
        .bind(super::attempts::ABANDONED)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(self.sql())?;
        if let Some(last) = last {
            let number: u32 = last.get(0);
            let noted = attempts
                .get(&number)
                .filter(|fields| fields.get("ended").is_some_and(|ended| !ended.is_null()))
                .and_then(|fields| fields.get(STAGE_STATUS)?.as_str());
            let finished = last.get::<Option<bool>, _>(5).unwrap_or(false);
            // Results are in the events: without their end a stage isn't done, whatever was noted.
            let status = match noted {
                _ if finished => "done",
                Some("done") => "pending",
                Some(status) => status,
                None if last.get::<Option<bool>, _>(7).unwrap_or(false) => "pending",
                None if last.get::<&str, _>(1) == "failed" => "failed",
                None => "pending",
            };
            sqlx::query(
                "UPDATE stages SET status = ?, attempts = ?, failure = ?, message = ?, log = ?, wall_seconds = ?
                 WHERE id = ?",
            )
            .bind(status)
            .bind(number)
            .bind(last.get::<Option<&str>, _>(2).filter(|_| !finished))
            .bind(last.get::<Option<&str>, _>(3).filter(|_| !finished))
            .bind(last.get::<Option<&str>, _>(4))
            .bind(last.get::<Option<f64>, _>(6))
            .bind(stage)
            .execute(&mut *transaction)
            .await
            .map_err(self.sql())?;
        }
        self.commit(transaction).await
    }
}

/// A record's rows take the place of those that they replace.
async fn apply(
    connection: &mut SqliteConnection,
    kind: &records::Kind,
    tables: &[records::TableRows],
) -> Result<(), sqlx::Error> {
    match kind {
        records::Kind::Snapshot => {
            for table in records::RECORDED {
                sqlx::query(AssertSqlSafe(format!("DELETE FROM {table}")))
                    .execute(&mut *connection)
                    .await?;
            }
        }
        records::Kind::Plan { experiment } => {
            sqlx::query("UPDATE runs SET current = 0 WHERE experiment = ?")
                .bind(experiment)
                .execute(&mut *connection)
                .await?;
        }
        records::Kind::Marks { runs } => {
            for sql in [
                "DELETE FROM tags WHERE run IN (SELECT value FROM json_each(?))",
                "DELETE FROM notes WHERE run IN (SELECT value FROM json_each(?))",
            ] {
                sqlx::query(sql)
                    .bind(super::plans::json(runs))
                    .execute(&mut *connection)
                    .await?;
            }
        }
    }
    for records::TableRows {
        table,
        columns,
        rows,
    } in tables
    {
        // A run's stages are replaced as a whole.
        if table == "run_stages"
            && let Some(run) = columns.iter().position(|name| name == "run")
        {
            for row in rows {
                sqlx::query("DELETE FROM run_stages WHERE run = ?")
                    .bind(row[run].as_i64())
                    .execute(&mut *connection)
                    .await?;
            }
        }
        records::put_back(connection, table, columns, rows).await?;
    }
    Ok(())
}

/// The run directories of the store at `dir`, by fingerprint.
fn run_directories(dir: &Path) -> BTreeMap<String, RunDir> {
    std::fs::read_dir(dir.join("stages"))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .map(|name| (name.clone(), RunDir::in_store(dir, &name)))
        .collect()
}

/// The configuration in a run directory.
fn read_spec(dir: &RunDir, fingerprint: &str) -> Result<StageSpec, String> {
    let path = dir.stage();
    let at = |what: String| format!("{}: {what}; its stage is left out", path.display());
    let text = std::fs::read(&path).map_err(|error| at(error.to_string()))?;
    let spec: StageSpec = serde_json::from_slice(&text).map_err(|error| at(error.to_string()))?;
    if spec.fingerprint != fingerprint {
        return Err(at(format!("it is of stage {}", spec.fingerprint)));
    }
    Ok(spec)
}
