//! One execution of a stage, seen from outside: its run directory, event log, and output.

use crate::rundir::durable::{self, Durable};
use crate::rundir::event::{Event, FailureClass};
use crate::rundir::layout::RunDir;
use crate::rundir::log::{LogError, Tail};
use crate::rundir::stage::{Launch, StageSpec};
use crate::schedule::executor::{Signal, Worker};
use crate::schedule::outcome::LastWord;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Largest size of an attempt's log. Past it the middle is cut out, see [`cap_log`].
pub const LOG_CAP: u64 = 64 << 20;

/// Why a run directory can't be prepared.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    #[error("can't write {path}: {source}")]
    Write { path: String, source: io::Error },
    #[error("stage {fingerprint} can't be written as JSON: {source}")]
    Json {
        fingerprint: String,
        source: serde_json::Error,
    },
}

impl RunDirError {
    /// How the stage's attempt failed.
    pub fn class(&self) -> FailureClass {
        match self {
            RunDirError::Write { source, .. } if durable::is_full(source) => FailureClass::DiskFull,
            RunDirError::Write { .. } => FailureClass::IoError,
            RunDirError::Json { .. } => FailureClass::Bug,
        }
    }
}

/// An attempt that was begun. Dropping it kills its worker.
pub struct Attempt {
    pub number: u32,
    pub slot: usize,
    pub log: PathBuf,
    pub word: LastWord,
    /// Its run directory is watched.
    pub watched: bool,
    /// `None` until it was started.
    worker: Option<Box<dyn Worker>>,
    /// What was said to the worker before it was started.
    waiting: Option<Signal>,
    /// Read from the start of the log, for earlier attempts may have left events that the store lacks;
    /// it skips those that it has.
    events: Tail,
}

impl Attempt {
    /// The attempt `number` of the stage in `dir` on `slot`.
    pub fn new(dir: &RunDir, number: u32, slot: usize) -> Attempt {
        Attempt {
            number,
            slot,
            log: dir.attempt_log(number),
            word: LastWord::Nothing,
            watched: false,
            worker: None,
            waiting: None,
            events: Tail::new(dir.events()),
        }
    }

    /// Whether its worker was started.
    pub fn is_started(&self) -> bool {
        self.worker.is_some()
    }

    /// The worker was started.
    pub fn started(&mut self, worker: Box<dyn Worker>) {
        if let Some(signal) = self.waiting.take() {
            worker.signal(signal);
        }
        self.worker = Some(worker);
    }

    /// What the stage's log says since the last call, earlier attempts included; empty at its end.
    pub fn listen(&mut self) -> Result<Vec<Event>, LogError> {
        let events = self.events.poll()?;
        events
            .iter()
            .filter(|event| event.attempt == self.number)
            .for_each(|event| self.word.hear(event));
        Ok(events)
    }

    /// Signals the worker and all that it has started; one that is still being started gets the last
    /// such signal then.
    pub fn signal(&mut self, signal: Signal) {
        match &self.worker {
            Some(worker) => worker.signal(signal),
            // The scheduler stands still itself meanwhile.
            None if matches!(signal, Signal::Suspend | Signal::Resume) => {}
            None => self.waiting = Some(signal),
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(worker) = &self.worker {
            worker.signal(Signal::Kill);
        }
    }
}

/// Makes the run directory and writes `stage.json`, unless it is there already, byte for byte.
pub fn write_stage(dir: &RunDir, spec: &StageSpec) -> Result<(), RunDirError> {
    let json = serde_json::to_vec_pretty(spec).map_err(|source| RunDirError::Json {
        fingerprint: spec.fingerprint.clone(),
        source,
    })?;
    let path = dir.stage();
    if std::fs::read(&path).is_ok_and(|present| present == json) {
        return Ok(());
    }
    replace(&path, &json, Durable::Yes)
}

/// Writes `launch.json`. It is written anew for every attempt, so it need not outlive a loss of power.
pub fn write_launch(dir: &RunDir, launch: &Launch, fingerprint: &str) -> Result<(), RunDirError> {
    let json = serde_json::to_vec_pretty(launch).map_err(|source| RunDirError::Json {
        fingerprint: fingerprint.to_owned(),
        source,
    })?;
    replace(&dir.launch(), &json, Durable::No)
}

/// Replaces the file at `path` as a whole: readers see the old bytes or the new.
fn replace(path: &Path, bytes: &[u8], durable: Durable) -> Result<(), RunDirError> {
    durable::replace(path, bytes, durable).map_err(|source| RunDirError::Write {
        path: path.display().to_string(),
        source,
    })
}

/// Appends to a log that others append to, too.
pub fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?
        .write_all(bytes)
}

/// Bytes at the end of a log that a cut keeps.
const CUT_KEEPS: u64 = 64 << 10;

/// Cuts the middle out of a log that has grown past `cap`; says whether it did. The first half stays,
/// and so does the end, where the cause of a failure would be. The writer appends (`O_APPEND`), so it
/// goes on right behind; what it writes during the cut, some microseconds, is lost.
pub fn cap_log(path: &Path, cap: u64) -> io::Result<bool> {
    let size = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if size <= cap {
        return Ok(false);
    }
    let mut file = OpenOptions::new().read(true).append(true).open(path)?;
    let start = cap / 2;
    let keep = CUT_KEEPS.min(cap / 4);
    file.seek(SeekFrom::Start(size - keep))?;
    let cut = size - keep - start;
    let mut end =
        format!("\n[ablate: {cut} bytes cut out here: the log had more than {cap}]\n").into_bytes();
    // No more: a writer that is faster would never let it end.
    (&mut file).take(2 * keep).read_to_end(&mut end)?;
    file.set_len(start)?;
    file.write_all(&end)?;
    Ok(true)
}

/// Most bytes of a log that can be a cause, and most lines.
const CAUSE_BYTES: u64 = 8 << 10;
const CAUSE_LINES: usize = 3;

/// The last lines of a log that say something, on one line.
pub fn last_lines(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(CAUSE_BYTES)))
        .ok()?;
    let mut bytes = Vec::new();
    file.take(CAUSE_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text
        .split(['\n', '\r'])
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("note: run with `RUST_BACKTRACE"))
        .collect();
    let lines = lines.split_off(lines.len().saturating_sub(CAUSE_LINES));
    (!lines.is_empty()).then(|| lines.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_keeps_its_start_and_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("attempt-1.log");
        assert!(!cap_log(&path, 100).unwrap());
        let mut writer = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .unwrap();
        writer.write_all(b"first\n").unwrap();
        writer.write_all(&[b'x'; 1000]).unwrap();
        writer.write_all(b"the cause\n").unwrap();
        assert!(cap_log(&path, 100).unwrap());
        writer.write_all(b"last\n").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("first\nxxx") && text.ends_with("xthe cause\nlast\n"),
            "{text}"
        );
        assert!(text.contains("941 bytes cut out"), "{text}");
    }

    #[test]
    fn the_cause_is_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        assert_eq!(last_lines(&path), None);
        std::fs::write(&path, "").unwrap();
        assert_eq!(last_lines(&path), None);
        std::fs::write(
            &path,
            "epoch 1\r\nthread 'main' panicked at src/x.rs:1:2:\nindex out of bounds\n\
             note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n\n",
        )
        .unwrap();
        assert_eq!(
            last_lines(&path).unwrap(),
            "epoch 1 thread 'main' panicked at src/x.rs:1:2: index out of bounds"
        );
        std::fs::write(&path, vec![0xff; 100_000]).unwrap();
        assert!(last_lines(&path).unwrap().len() < 40_000);
    }
}
