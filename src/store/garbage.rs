//! What no kept result needs, and its removal.
//!
//! Kept are the runs of each experiment's current plan and every run that has a tag, with all stages that they
//! stand on. The rest goes, in an order that leaves a whole store wherever a kill strikes: rows first, in one
//! transaction with a [snapshot](super::records); then each run directory is renamed into `<store>/trash/`; then
//! the trash is emptied. What a kill leaves behind (folders without rows, trash) is garbage to the next call.

mod files;

use crate::store::open::{Durability, Store};
use crate::store::plans::json;
use crate::store::{StoreError, StoreLock, records};
use files::{folders, name};
use serde::Serialize;
use sqlx::{AssertSqlSafe, Executor, Row, SqliteConnection};
use std::path::{Path, PathBuf};

/// Which final weights of stages that are done stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeepWeights {
    /// All.
    #[default]
    All,
    /// Those of the last stage of each run; a stage whose weights are gone is trained again should a new
    /// stage start from it.
    Results,
    /// None.
    None,
}

/// What stays in the folder of a stage's own program once the stage is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeepWork {
    /// All.
    #[default]
    All,
    /// What it has promised (`outputs`), and `metrics.json`.
    Outputs,
}

/// What is garbage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    pub weights: KeepWeights,
    pub work: KeepWork,
    /// Also copies of the database from before a migration or a recovery.
    pub copies: bool,
}

/// Why something is garbage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A stage that no current plan and no tagged run needs.
    Unneeded,
    /// A run directory of no stage that the store knows.
    Unknown,
    /// A checkpoint of a stage that is done.
    Checkpoint,
    /// Final or best weights that the policy doesn't keep.
    Weights,
    /// What a program has left that it hadn't promised.
    Work,
    /// What a program has reported: the events of its stage hold it.
    Reports,
    /// A damaged event log that was set aside.
    DamagedLog,
    /// The log of a failed attempt at a stage that is done.
    FailedAttempt,
    /// The log of a detached run that has ended, unless it is the newest.
    RunLog,
    /// What a write or a removal that was cut off has left.
    Leftover,
    /// A former copy of the database.
    Copy,
}

impl Reason {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Reason::Unneeded => "no current plan and no tag needs it",
            Reason::Unknown => "the store knows no such stage",
            Reason::Checkpoint => "checkpoint of a stage that is done",
            Reason::Weights => "weights that nothing starts from",
            Reason::Work => "not among the outputs of its program; the stage is done",
            Reason::Reports => "reports of a program; the stage is done",
            Reason::DamagedLog => "damaged event log, set aside; the stage is done",
            Reason::FailedAttempt => "log of a failed attempt; the stage is done",
            Reason::RunLog => "log of a detached run that has ended; a newer one stays",
            Reason::Leftover => "left by something that was cut off",
            Reason::Copy => "former copy of the database",
        }
    }
}

/// Something to remove: a stage with its folder, or a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Item {
    /// Relative to the store.
    pub path: PathBuf,
    /// What its removal gives back: a file that has other names gives back nothing unless all of them go.
    pub bytes: u64,
    pub reason: Reason,
}

/// What is to be removed.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Garbage {
    pub items: Vec<Item>,
    /// Runs of former plans, or those that were named.
    pub runs: Vec<String>,
    /// Runs with a tag among those that were named.
    pub tagged: Vec<String>,
    /// Stages that stay because other runs need them.
    pub shared: usize,
    #[serde(skip)]
    run_ids: Vec<i64>,
    #[serde(skip)]
    stage_ids: Vec<i64>,
    /// Experiments that go as a whole.
    #[serde(skip)]
    experiments: Vec<i64>,
}

impl Garbage {
    /// Bytes of all items.
    pub fn bytes(&self) -> u64 {
        self.items.iter().map(|item| item.bytes).sum()
    }

    /// Whether there is nothing to remove.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.run_ids.is_empty() && self.experiments.is_empty()
    }
}

/// Whose removal is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Named<'n> {
    /// A current run, by its id.
    Run(&'n str),
    /// An experiment with all its runs, those of former plans included.
    Experiment(&'n str),
}

/// The stages that the runs with `kept` stand on.
fn needed(kept: &str) -> String {
    format!(
        "WITH RECURSIVE needed(id) AS (
             SELECT rs.stage FROM run_stages rs JOIN runs r ON r.id = rs.run WHERE {kept}
             UNION SELECT s.parent FROM needed JOIN stages s ON s.id = needed.id WHERE s.parent IS NOT NULL)"
    )
}

const TAGGED: &str = "EXISTS (SELECT 1 FROM tags t WHERE t.run = r.id)";

impl Store {
    /// The conditions for a run to be tagged, and to be kept.
    async fn kept(&self) -> Result<(&'static str, String), StoreError> {
        // An older version's store has no tags.
        let tagged = match self.knows_marks().await? {
            true => TAGGED,
            false => "0",
        };
        Ok((tagged, format!("(r.current = 1 OR {tagged})")))
    }

    /// What no kept result needs.
    pub async fn garbage(&self, policy: Policy) -> Result<Garbage, StoreError> {
        let (_, kept) = self.kept().await?;
        let runs = sqlx::query(AssertSqlSafe(format!(
            "SELECT r.id, r.name FROM runs r WHERE NOT {kept} ORDER BY r.name, r.id"
        )))
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())?;
        let stages = sqlx::query(AssertSqlSafe(format!(
            "{} SELECT s.id, s.fingerprint, s.id IN (SELECT id FROM needed), s.status = 'done',
                 s.id IN (SELECT r.result FROM runs r WHERE {kept}),
                 EXISTS (SELECT 1 FROM stages c WHERE c.parent = s.id AND c.status <> 'done'
                     AND c.id IN (SELECT id FROM needed)),
                 (SELECT json_group_array(a.attempt) FROM attempts a WHERE a.stage = s.id AND a.status = 'failed'
                     AND a.attempt < s.attempts)
             FROM stages s ORDER BY s.fingerprint",
            needed(&kept)
        )))
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())?;
        let mut garbage = Garbage {
            run_ids: runs.iter().map(|row| row.get(0)).collect(),
            runs: runs.iter().map(|row| row.get(1)).collect(),
            ..Garbage::default()
        };
        let mut folders = folders(&self.dir);
        for row in &stages {
            let fingerprint: String = row.get(1);
            let folder = folders.remove(&fingerprint);
            if !row.get::<bool, _>(2) {
                garbage.stage_ids.push(row.get(0));
                garbage.items.push(Item {
                    path: Path::new("stages").join(&fingerprint),
                    bytes: 0,
                    reason: Reason::Unneeded,
                });
            } else if let Some(folder) = folder
                && row.get::<bool, _>(3)
            {
                let needed: bool = row.get(5);
                let kept = files::Kept {
                    weights: match policy.weights {
                        KeepWeights::All => true,
                        KeepWeights::Results => row.get(4),
                        KeepWeights::None => false,
                    } || needed,
                    work: policy.work == KeepWork::All || needed,
                };
                let failed: Vec<u32> = self.json(row.get(6), "attempts", &fingerprint)?;
                self.files_of(&folder, kept, &failed, &mut garbage.items);
            }
        }
        for name in folders.into_keys() {
            // A name that is no fingerprint isn't ours to judge.
            if name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                garbage.items.push(Item {
                    path: Path::new("stages").join(name),
                    bytes: 0,
                    reason: Reason::Unknown,
                });
            }
        }
        self.leftovers(policy.copies, &mut garbage.items);
        files::measure(&self.dir, &mut garbage.items);
        garbage
            .items
            .sort_by(|a, b| (a.reason, &a.path).cmp(&(b.reason, &b.path)));
        Ok(garbage)
    }

    /// What goes with a run or an experiment: its rows, and the stages that no other kept run needs.
    pub async fn removal(&self, named: &Named<'_>) -> Result<Garbage, StoreError> {
        let (which, value) = match named {
            Named::Run(run) => ("r.name = ?1 AND r.current = 1", *run),
            Named::Experiment(name) => (
                "r.experiment = (SELECT id FROM experiments WHERE name = ?1)",
                *name,
            ),
        };
        let (tagged, kept) = self.kept().await?;
        let stay = format!("{kept} AND NOT ({which})");
        let chosen = sqlx::query(AssertSqlSafe(format!(
            "SELECT r.id, r.name, {tagged} FROM runs r WHERE {which}
             ORDER BY r.name, r.id"
        )))
        .bind(value)
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())?;
        let stages = sqlx::query(AssertSqlSafe(format!(
            "{}, mine(id) AS (
                 SELECT rs.stage FROM run_stages rs JOIN runs r ON r.id = rs.run WHERE {which}
                 UNION SELECT s.parent FROM mine JOIN stages s ON s.id = mine.id WHERE s.parent IS NOT NULL)
             SELECT s.id, s.fingerprint, s.id IN (SELECT id FROM needed)
             FROM stages s WHERE s.id IN (SELECT id FROM mine) ORDER BY s.fingerprint",
            needed(&stay)
        )))
        .bind(value)
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())?;
        let mut garbage = Garbage {
            run_ids: chosen.iter().map(|row| row.get(0)).collect(),
            runs: chosen.iter().map(|row| row.get(1)).collect(),
            tagged: chosen
                .iter()
                .filter(|row| row.get(2))
                .map(|row| row.get(1))
                .collect(),
            ..Garbage::default()
        };
        if let Named::Experiment(name) = named {
            garbage.experiments = sqlx::query_scalar("SELECT id FROM experiments WHERE name = ?")
                .bind(*name)
                .fetch_all(&self.readers)
                .await
                .map_err(self.sql())?;
        }
        for row in &stages {
            if row.get::<bool, _>(2) {
                garbage.shared += 1;
                continue;
            }
            let path = Path::new("stages").join(row.get::<&str, _>(1));
            garbage.stage_ids.push(row.get(0));
            garbage.items.push(Item {
                bytes: 0,
                path,
                reason: Reason::Unneeded,
            });
        }
        files::measure(&self.dir, &mut garbage.items);
        // Runs of former plans can't stay without their stages, nor can stages that start from them.
        let more: Vec<i64> = sqlx::query_scalar(
            "SELECT DISTINCT run FROM run_stages WHERE stage IN (SELECT value FROM json_each(?))
             AND run NOT IN (SELECT value FROM json_each(?))",
        )
        .bind(json(&garbage.stage_ids))
        .bind(json(&garbage.run_ids))
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())?;
        garbage.run_ids.extend(more);
        Ok(garbage)
    }

    /// Removes `garbage`. The caller has the store alone, which `_lock` shows.
    pub async fn discard(&self, garbage: &Garbage, _lock: &StoreLock) -> Result<(), StoreError> {
        if !garbage.run_ids.is_empty()
            || !garbage.stage_ids.is_empty()
            || !garbage.experiments.is_empty()
        {
            let mut writer = self.writer(Durability::Full).await?;
            let mut transaction = self.begin(&mut writer).await?;
            self.delete_rows(&mut transaction, garbage).await?;
            let snapshot = self.record_everything(&mut transaction).await?;
            self.commit(transaction).await?;
            records::remove_before(&self.dir, snapshot);
            drop(writer);
            self.shrink().await?;
        }
        let trash = self.dir.join("trash");
        for item in &garbage.items {
            let path = self.dir.join(&item.path);
            let folder = matches!(item.reason, Reason::Unneeded | Reason::Unknown);
            let done = match folder {
                true => throw_away(&path, &trash),
                false if path.is_dir() => std::fs::remove_dir_all(&path),
                false => std::fs::remove_file(&path),
            };
            match done {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StoreError::Io {
                        action: "remove",
                        path,
                        source: error,
                    });
                }
                _ => {}
            }
        }
        match std::fs::remove_dir_all(&trash) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(StoreError::Io {
                action: "empty",
                path: trash,
                source,
            }),
            _ => Ok(()),
        }
    }

    async fn delete_rows(
        &self,
        connection: &mut SqliteConnection,
        garbage: &Garbage,
    ) -> Result<(), StoreError> {
        let runs = json(&garbage.run_ids);
        let stages = json(&garbage.stage_ids);
        // A plan that has lost runs is stored anew by the next `ablate run` of it.
        let mut statements: Vec<(String, &str)> = vec![(
            "UPDATE experiments SET digest = '' WHERE id IN (SELECT experiment FROM runs WHERE current = 1
                 AND id IN (SELECT value FROM json_each(?)))"
                .to_owned(),
            &runs,
        )];
        for (table, column) in self.references(connection, "runs").await? {
            let sql =
                format!("DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))");
            statements.push((sql, &runs));
        }
        statements.push((
            "DELETE FROM runs WHERE id IN (SELECT value FROM json_each(?))".to_owned(),
            &runs,
        ));
        for (table, column) in self.references(connection, "stages").await? {
            let sql = match table.as_str() {
                "runs" | "run_stages" => continue,
                "stages" => format!(
                    "UPDATE stages SET {column} = NULL WHERE {column} IN (SELECT value FROM json_each(?))"
                ),
                _ => format!(
                    "DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))"
                ),
            };
            statements.push((sql, &stages));
        }
        statements.push((
            "DELETE FROM stages WHERE id IN (SELECT value FROM json_each(?))".to_owned(),
            &stages,
        ));
        let experiments = json(&garbage.experiments);
        statements.push((
            "DELETE FROM experiments WHERE id IN (SELECT value FROM json_each(?))".to_owned(),
            &experiments,
        ));
        statements.push((
            "DELETE FROM plans WHERE ?1 = ?1 AND id NOT IN (SELECT plan FROM experiments)
                 AND id NOT IN (SELECT plan FROM runs)"
                .to_owned(),
            &experiments,
        ));
        for (sql, ids) in statements {
            sqlx::query(AssertSqlSafe(sql))
                .persistent(false)
                .bind(ids)
                .execute(&mut *connection)
                .await
                .map_err(self.sql())?;
        }
        Ok(())
    }

    /// Columns that refer to rows of `table`, as (table, column).
    async fn references(
        &self,
        connection: &mut SqliteConnection,
        table: &str,
    ) -> Result<Vec<(String, String)>, StoreError> {
        sqlx::query_as(
            "SELECT m.name, f.\"from\" FROM sqlite_schema m JOIN pragma_foreign_key_list(m.name) f
             WHERE m.type = 'table' AND f.\"table\" = ? ORDER BY m.name, f.\"from\"",
        )
        .bind(table)
        .fetch_all(connection)
        .await
        .map_err(self.sql())
    }

    /// Gives the space of removed rows back, where it is worth it.
    async fn shrink(&self) -> Result<(), StoreError> {
        let mut writer = self.writer(Durability::Full).await?;
        let row = sqlx::query(
            "SELECT (SELECT freelist_count FROM pragma_freelist_count), (SELECT page_count FROM pragma_page_count)",
        )
        .fetch_one(&mut writer.connection)
        .await
        .map_err(self.sql())?;
        let (free, pages): (i64, i64) = (row.get(0), row.get(1));
        if free > 256 && free > pages / 4 {
            (&mut writer.connection)
                .execute("VACUUM")
                .await
                .map_err(self.sql())?;
        }
        Ok(())
    }
}

/// Renames a folder into the trash: from then on it is gone, however long its removal takes.
fn throw_away(path: &Path, trash: &Path) -> std::io::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(trash)?;
    let mut target = trash.join(name(path));
    let mut more = 0;
    while target.exists() {
        more += 1;
        target = trash.join(format!("{}-{more}", name(path)));
    }
    std::fs::rename(path, target)
}
