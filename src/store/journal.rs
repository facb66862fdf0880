//! The attempts at a stage, once more in its run directory: `attempts.jsonl`.
//!
//! The scheduler alone knows how a worker's process ended, so this is written here, a line when an attempt
//! begins and one when it ends; the last line of an attempt counts. A line is the JSON of the attempt's row, a
//! tab, and the CRC-32 of the JSON in eight hexadecimal digits, as in the event log. It is a copy: lines are not
//! synced, one that can't be written is left out, and one that doesn't verify is skipped.

use crate::rundir::layout::RunDir;
use crate::store::StoreError;
use crate::store::open::Store;
use crate::store::records;
use serde_json::{Map, Value};
use sqlx::{Column, Row, SqliteConnection};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// The stage's own status, beside the columns of `attempts`.
pub(super) const STAGE_STATUS: &str = "stage_status";

/// The attempt's GPUs, in their order: rows of [`GPU_COLUMNS`].
pub(super) const GPUS: &str = "gpus";

pub(super) const GPU_COLUMNS: [&str; 5] = ["place", "uuid", "name", "driver", "memory"];

impl Store {
    /// Appends the row of an attempt as it is within the transaction on `connection`.
    pub(super) async fn journal_attempt(
        &self,
        connection: &mut SqliteConnection,
        (stage, attempt): (i64, u32),
    ) -> Result<(), StoreError> {
        let row = sqlx::query(
            "SELECT s.fingerprint, s.status AS stage_status, a.* FROM attempts a JOIN stages s ON s.id = a.stage
             WHERE a.stage = ? AND a.attempt = ?",
        )
        .bind(stage)
        .bind(attempt)
        .fetch_one(&mut *connection)
        .await
        .map_err(self.sql())?;
        let fingerprint: String = row.get(0);
        let mut fields: Map<String, Value> = row
            .columns()
            .iter()
            .map(|column| column.name().to_owned())
            .zip(records::values(&row).map_err(self.sql())?)
            .filter(|(name, _)| !["id", "stage", "fingerprint"].contains(&name.as_str()))
            .collect();
        let gpus = sqlx::query(
            "SELECT place, uuid, name, driver, memory FROM attempt_gpus WHERE stage = ? AND attempt = ? ORDER BY place",
        )
        .bind(stage)
        .bind(attempt)
        .fetch_all(connection)
        .await
        .map_err(self.sql())?;
        if !gpus.is_empty() {
            let rows: Result<Vec<Vec<Value>>, sqlx::Error> =
                gpus.iter().map(records::values).collect();
            fields.insert(GPUS.to_owned(), rows.map_err(self.sql())?.into());
        }
        // A copy that can't be written is no reason to stop: events say most of it.
        let _ = append(&self.dir, &fingerprint, &fields);
        Ok(())
    }
}

/// Appends a line in one write. There is no file where there is no run directory.
fn append(dir: &Path, fingerprint: &str, fields: &Map<String, Value>) -> std::io::Result<()> {
    let json = serde_json::to_string(fields)?;
    let crc = crc32fast::hash(json.as_bytes());
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(RunDir::in_store(dir, fingerprint).attempts())?
        .write_all(format!("{json}\t{crc:08x}\n").as_bytes())
}

/// The last line of each attempt in the run directory of a stage, and how many lines don't verify.
pub(super) fn read(dir: &RunDir) -> (BTreeMap<u32, Map<String, Value>>, usize) {
    let text = std::fs::read(dir.attempts()).unwrap_or_default();
    let mut attempts = BTreeMap::new();
    let mut bad = 0;
    for line in text
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        match parse(line) {
            Some((attempt, fields)) => {
                attempts.insert(attempt, fields);
            }
            None => bad += 1,
        }
    }
    (attempts, bad)
}

fn parse(line: &[u8]) -> Option<(u32, Map<String, Value>)> {
    let tab = line.iter().rposition(|&byte| byte == b'\t')?;
    let (json, crc) = (&line[..tab], &line[tab + 1..]);
    if crc != format!("{:08x}", crc32fast::hash(json)).as_bytes() {
        return None;
    }
    let fields: Map<String, Value> = serde_json::from_slice(json).ok()?;
    let attempt = fields.get("attempt")?.as_u64()?;
    Some((u32::try_from(attempt).ok()?, fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_line_of_an_attempt_counts() {
        let folder = tempfile::tempdir().unwrap();
        let dir = RunDir::in_store(folder.path(), "ab");
        assert!(append(folder.path(), "ab", &Map::new()).is_err());
        std::fs::create_dir_all(dir.root()).unwrap();
        for (attempt, status) in [(1, "running"), (1, "failed"), (2, "running")] {
            let line = serde_json::json!({"attempt": attempt, "status": status, "message": "a\tb"});
            append(folder.path(), "ab", line.as_object().unwrap()).unwrap();
        }
        let mut bytes = std::fs::read(dir.attempts()).unwrap();
        let flipped = bytes.len() - 30;
        let (whole, bad) = read(&dir);
        assert_eq!((whole.len(), bad), (2, 0));
        assert_eq!(whole[&1]["status"], "failed");
        bytes[flipped] ^= 1;
        bytes.extend_from_slice(b"{\"attempt\":3");
        std::fs::write(dir.attempts(), bytes).unwrap();
        let (whole, bad) = read(&dir);
        assert_eq!((whole.keys().collect::<Vec<_>>(), bad), (vec![&1], 2));
    }
}
