//! Records: what only the database would know, written a second time beside it.
//!
//! Run directories hold all that workers did. What was *planned* (experiments, runs, names, labels, seeds,
//! configurations) and how runs were *marked* (tags, notes) lies in `<store>/records/<number>.jsonl.gz`, so
//! that `ablate recover` can rebuild a database that was damaged. A record is written durably within the
//! transaction that it describes, before the commit: a change that is in the database is in a record. The
//! number counts up in that transaction, so one that was rolled back is written over by the next.
//!
//! A record is JSON lines: a [`Header`], then per table its name and columns, and an array per row. Rows are
//! those of the database with its ids. Records are applied in the order of their numbers; a *snapshot* says
//! everything, and the records before it are removed.

use crate::store::StoreError;
use crate::store::open::{Store, newest_migration};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::sqlite::{SqliteRow, SqliteValueRef};
use sqlx::{AssertSqlSafe, Column, Decode, Row, SqliteConnection, TypeInfo, ValueRef};
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Version of the records' form.
const VERSION: u32 = 1;

/// The folder's name in the store.
const FOLDER: &str = "records";

/// Tables whose rows are recorded, parents first.
pub(super) const RECORDED: [&str; 10] = [
    "experiments",
    "plans",
    "stages",
    "stage_configs",
    "runs",
    "run_stages",
    "tags",
    "notes",
    "attempts",
    "attempt_gpus",
];

/// Columns that follow from run directories.
pub(super) const DERIVED: [(&str, &[&str]); 3] = [
    (
        "stages",
        &[
            "status",
            "attempts",
            "failure",
            "message",
            "log",
            "wall_seconds",
            "last_attempt",
            "last_seq",
        ],
    ),
    ("runs", &["status", "failure"]),
    // Only its events say that an attempt has finished.
    ("attempts", &["finished"]),
];

/// What a record changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Kind {
    /// Everything. Records with smaller numbers are void.
    Snapshot,
    /// The plan of an experiment: its runs are the current ones, and no others.
    Plan { experiment: i64 },
    /// All tags and notes of these runs.
    Marks { runs: Vec<i64> },
}

/// First line of a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Header {
    version: u32,
    number: i64,
    /// Of the database that the rows are from; absent in records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schema: Option<i64>,
    #[serde(flatten)]
    kind: Kind,
}

/// Line before the rows of a table.
#[derive(Debug, Serialize, Deserialize)]
struct TableHead {
    table: String,
    columns: Vec<String>,
}

/// A table's rows in a record: a condition on them, and the ids that it takes as a JSON array.
type Part = (&'static str, &'static str, String);

fn folder(dir: &Path) -> PathBuf {
    dir.join(FOLDER)
}

/// The records of the store at `dir`, by number.
pub(super) fn list(dir: &Path) -> Result<Vec<(i64, PathBuf)>, StoreError> {
    let folder = folder(dir);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::io("read", &folder)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(StoreError::io("read", &folder))?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_suffix(".jsonl.gz"))
            .and_then(|number| number.parse().ok());
        if let Some(number) = number {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}

impl Store {
    /// Writes the record of a plan: its rows, and those of the stages `new` in it.
    pub(super) async fn record_plan(
        &self,
        connection: &mut SqliteConnection,
        (experiment, plan): (i64, i64),
        new: &[i64],
    ) -> Result<(), StoreError> {
        let new = super::plans::json(new);
        let runs = "run IN (SELECT id FROM runs WHERE experiment IN (SELECT value FROM json_each(?)) AND current = 1)";
        let parts: Vec<Part> = vec![
            (
                "experiments",
                "id IN (SELECT value FROM json_each(?))",
                format!("[{experiment}]"),
            ),
            (
                "plans",
                "id IN (SELECT value FROM json_each(?))",
                format!("[{plan}]"),
            ),
            (
                "stages",
                "id IN (SELECT value FROM json_each(?))",
                new.clone(),
            ),
            (
                "stage_configs",
                "stage IN (SELECT value FROM json_each(?))",
                new,
            ),
            (
                "runs",
                "experiment IN (SELECT value FROM json_each(?)) AND current = 1",
                format!("[{experiment}]"),
            ),
            ("run_stages", runs, format!("[{experiment}]")),
        ];
        self.record(connection, Kind::Plan { experiment }, parts)
            .await?;
        Ok(())
    }

    /// Writes the record of all tags and notes of `runs`.
    pub(super) async fn record_marks(
        &self,
        connection: &mut SqliteConnection,
        runs: &[i64],
    ) -> Result<(), StoreError> {
        let ids = super::plans::json(runs);
        let parts: Vec<Part> = vec![
            (
                "tags",
                "run IN (SELECT value FROM json_each(?))",
                ids.clone(),
            ),
            ("notes", "run IN (SELECT value FROM json_each(?))", ids),
        ];
        let runs = runs.to_vec();
        self.record(connection, Kind::Marks { runs }, parts).await?;
        Ok(())
    }

    /// Writes a record of everything. After the commit, [`remove_before`] removes those that it replaces;
    /// returns its number.
    pub(super) async fn record_everything(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<i64, StoreError> {
        let parts = RECORDED
            .into_iter()
            .map(|table| (table, "?1 = ?1", String::new()))
            .collect();
        self.record(connection, Kind::Snapshot, parts).await
    }

    async fn record(
        &self,
        connection: &mut SqliteConnection,
        kind: Kind,
        parts: Vec<Part>,
    ) -> Result<i64, StoreError> {
        let number: i64 = sqlx::query_scalar(
            "INSERT INTO meta (key, value) VALUES ('records', '1')
             ON CONFLICT (key) DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT)
             RETURNING CAST(value AS INTEGER)",
        )
        .fetch_one(&mut *connection)
        .await
        .map_err(self.sql())?;
        let folder = folder(&self.dir);
        let created = !folder.is_dir();
        std::fs::create_dir_all(&folder).map_err(StoreError::io("create", &folder))?;
        let path = folder.join(format!("{number:07}.jsonl.gz"));
        let file = tempfile::Builder::new()
            .prefix(".new-")
            .tempfile_in(&folder)
            .map_err(StoreError::io("write", &path))?;
        let mut out = GzEncoder::new(BufWriter::new(file), Compression::fast());
        let header = Header {
            version: VERSION,
            number,
            schema: Some(newest_migration()),
            kind,
        };
        let mut line = |value: &str| {
            out.write_all(value.as_bytes())
                .and_then(|()| out.write_all(b"\n"))
                .map_err(StoreError::io("write", &path))
        };
        line(&super::plans::json(&header))?;
        for (table, condition, ids) in parts {
            // All names are this program's own.
            let sql = format!("SELECT * FROM {table} WHERE {condition}");
            let mut rows = sqlx::query(AssertSqlSafe(sql))
                .persistent(false)
                .bind(ids)
                .fetch(&mut *connection);
            let mut first = true;
            while let Some(row) = rows.try_next().await.map_err(self.sql())? {
                if std::mem::take(&mut first) {
                    let columns = row.columns().iter().map(|c| c.name().to_owned()).collect();
                    line(&super::plans::json(&TableHead {
                        table: table.to_owned(),
                        columns,
                    }))?;
                }
                line(&super::plans::json(&values(&row).map_err(self.sql())?))?;
            }
        }
        let written = out.finish().map_err(StoreError::io("write", &path))?;
        let file = written
            .into_inner()
            .map_err(|error| StoreError::io("write", &path)(error.into_error()))?;
        file.as_file()
            .sync_all()
            .map_err(StoreError::io("sync", &path))?;
        file.persist(&path)
            .map_err(|error| StoreError::io("write", &path)(error.error))?;
        sync_folder(&folder)?;
        if created {
            sync_folder(&self.dir)?;
        }
        Ok(number)
    }
}

fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(StoreError::io("sync", folder))
}

/// Moves the record `number` of the store at `from` to the one at `to`, durably.
pub(super) fn adopt(from: &Path, to: &Path, number: i64) -> Result<(), StoreError> {
    let name = format!("{number:07}.jsonl.gz");
    let target = folder(to).join(&name);
    std::fs::create_dir_all(folder(to)).map_err(StoreError::io("create", &folder(to)))?;
    std::fs::rename(folder(from).join(&name), &target).map_err(StoreError::io("write", &target))?;
    sync_folder(&folder(to))?;
    sync_folder(to)
}

/// Removes the records that a snapshot of `number` has replaced. One that stays is void, so an error only
/// costs space.
pub(super) fn remove_before(dir: &Path, number: i64) {
    for (_, path) in list(dir)
        .unwrap_or_default()
        .iter()
        .filter(|(n, _)| *n < number)
    {
        let _ = std::fs::remove_file(path);
    }
}

/// A row as JSON.
pub(super) fn values(row: &SqliteRow) -> Result<Vec<Value>, sqlx::Error> {
    (0..row.len())
        .map(|index| row.try_get_raw(index).and_then(value))
        .collect()
}

fn value(value: SqliteValueRef<'_>) -> Result<Value, sqlx::Error> {
    if value.is_null() {
        return Ok(Value::Null);
    }
    let kind = value.type_info().name().to_owned();
    let value = match kind.as_str() {
        "INTEGER" => i64::decode(value).map(Value::from),
        // Finite, up to an absurd cost: the store keeps what isn't as NULL with a mark.
        "REAL" => f64::decode(value).map(|number| number.clamp(f64::MIN, f64::MAX).into()),
        _ => String::decode(value).map(Value::from),
    };
    value.map_err(sqlx::Error::Decode)
}

/// Rows of a table in a record.
pub(super) struct TableRows {
    pub(super) table: String,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<Value>>,
}

/// A record whose rows are being put back.
pub(super) struct Reader {
    lines: std::io::Lines<BufReader<GzDecoder<File>>>,
    path: PathBuf,
    pub(super) kind: Kind,
}

/// Why a record's rows aren't known.
pub(super) enum Unread {
    /// What it holds is lost; where, and what is wrong.
    Damaged(String),
    /// It can't be read for the moment, or by this program: nothing is known of what it holds.
    Unknown(StoreError),
}

impl Unread {
    /// Of an error at `place` in the record at `path`: of its content, or of the disk.
    fn of(path: &Path, place: &str, error: std::io::Error) -> Unread {
        use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        match error.kind() {
            InvalidData | InvalidInput | UnexpectedEof => {
                Unread::Damaged(format!("{}{place}: {error}", path.display()))
            }
            _ => Unread::Unknown(StoreError::io("read", path)(error)),
        }
    }
}

impl Reader {
    /// Opens the record at `path`.
    pub(super) fn open(path: &Path) -> Result<Reader, Unread> {
        let file = File::open(path).map_err(|error| Unread::of(path, "", error))?;
        let mut lines = BufReader::new(GzDecoder::new(file)).lines();
        let text = match lines.next() {
            Some(line) => line.map_err(|error| Unread::of(path, "", error))?,
            None => return Err(Unread::Damaged(format!("{} is empty", path.display()))),
        };
        let header: Header = serde_json::from_str(&text)
            .map_err(|error| Unread::Damaged(format!("{}, line 1: {error}", path.display())))?;
        let known = newest_migration();
        let schema = header.schema.unwrap_or(0);
        if header.version > VERSION || schema > known {
            return Err(Unread::Unknown(StoreError::Newer {
                path: path.to_owned(),
                found: schema.max(known + i64::from(header.version > VERSION)),
                known,
            }));
        }
        Ok(Reader {
            lines,
            path: path.to_owned(),
            kind: header.kind,
        })
    }

    /// All rows, checked to the end.
    pub(super) fn rows(self) -> Result<Vec<TableRows>, Unread> {
        let mut tables: Vec<TableRows> = Vec::new();
        for (number, line) in self.lines.enumerate() {
            let place = format!(", line {}", number + 2);
            let at = |error: &dyn std::fmt::Display| {
                Unread::Damaged(format!("{}{place}: {error}", self.path.display()))
            };
            let line = line.map_err(|error| Unread::of(&self.path, &place, error))?;
            if line.starts_with('{') {
                let head: TableHead = serde_json::from_str(&line).map_err(|error| at(&error))?;
                tables.push(TableRows {
                    table: head.table,
                    columns: head.columns,
                    rows: Vec::new(),
                });
                continue;
            }
            let row: Vec<Value> = serde_json::from_str(&line).map_err(|error| at(&error))?;
            match tables.last_mut() {
                Some(table) if table.columns.len() == row.len() => table.rows.push(row),
                _ => return Err(at(&"a row without its table")),
            }
        }
        Ok(tables)
    }
}

/// Puts rows of `table` back, replacing those with the same key. Columns that this version doesn't know,
/// and those that follow from run directories, are left out.
pub(super) async fn put_back(
    connection: &mut SqliteConnection,
    table: &str,
    columns: &[String],
    rows: &[Vec<Value>],
) -> Result<(), sqlx::Error> {
    let Some(table) = RECORDED.into_iter().find(|known| *known == table) else {
        return Ok(());
    };
    let known: Vec<String> = sqlx::query_scalar("SELECT name FROM pragma_table_info(?)")
        .bind(table)
        .fetch_all(&mut *connection)
        .await?;
    let known: HashSet<&str> = known.iter().map(String::as_str).collect();
    let derived = DERIVED
        .iter()
        .find(|(name, _)| *name == table)
        .map_or(&[][..], |(_, columns)| columns);
    let kept: Vec<usize> = (0..columns.len())
        .filter(|&at| known.contains(columns[at].as_str()))
        .filter(|&at| !derived.contains(&columns[at].as_str()))
        .collect();
    let names: Vec<String> = kept
        .iter()
        .map(|&at| format!("\"{}\"", columns[at]))
        .collect();
    let sql = format!(
        "INSERT OR REPLACE INTO {table} ({}) VALUES ({})",
        names.join(", "),
        vec!["?"; names.len()].join(", ")
    );
    for row in rows {
        let mut query = sqlx::query(AssertSqlSafe(sql.clone()));
        for &at in &kept {
            query = match &row[at] {
                Value::Null => query.bind(None::<i64>),
                Value::Bool(value) => query.bind(*value),
                Value::Number(number) => match number.as_i64() {
                    Some(integer) => query.bind(integer),
                    None => query.bind(number.as_f64()),
                },
                Value::String(text) => query.bind(text.clone()),
                other => query.bind(other.to_string()),
            };
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}
