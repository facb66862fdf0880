//! The event log, `events.jsonl`: its one writer and its readers.
//!
//! A line is the JSON of an [`Event`], a tab, the CRC-32 of the JSON in eight hexadecimal digits, and a
//! newline. Lines are numbered by `seq` from 1 without a gap, over all attempts.
//!
//! What a crash can leave behind is a torn last line. It is never an error: readers stop before it and
//! the next writer cuts it off. Anything else that doesn't verify is damage, reported with file and line.
//! The next writer puts the damaged file aside and goes on behind what verifies ([`damage`]).

mod damage;

use crate::rundir::durable::{self, Step};
use crate::rundir::event::{EVENT_VERSION, Event, EventKind, FailureClass};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longest text that a `warning` or `failed` event keeps, in bytes. Keeps lines, and so the memory of
/// readers, small whatever a library puts into its error messages.
const MAX_MESSAGE: usize = 16 * 1024;

/// Longest line that a reader takes for one, in bytes.
const MAX_LINE: usize = 1 << 20;

/// How long a writer waits for the lock: a scheduler may just be looking whether anybody holds it.
const GLANCE: Duration = Duration::from_millis(200);

/// Most bytes read at a time.
const CHUNK: usize = 256 * 1024;

/// Why an event log can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("can't {action} {}: {source}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    /// Not a torn last line: something other than a crash of the writer changed the file.
    #[error("{}, line {line}: {what}", path.display())]
    Damaged {
        path: PathBuf,
        line: u64,
        what: String,
    },
    /// It is whole, but not for this program to read or write.
    #[error(
        "{}, line {line}: event format {version} is newer than this program's ({EVENT_VERSION}): update ablate",
        path.display()
    )]
    Newer {
        path: PathBuf,
        line: u64,
        version: u32,
    },
    /// Another process writes this log.
    #[error("{} is being written by another process", path.display())]
    InUse { path: PathBuf },
    /// What was written before may be lost: nothing is written behind it.
    #[error("{}: an earlier sync failed; nothing more is written by this process", path.display())]
    Lost { path: PathBuf },
}

impl LogError {
    /// How an attempt that can't write its log fails.
    pub fn class(&self) -> FailureClass {
        match self {
            LogError::Io { source, .. } if durable::is_full(source) => FailureClass::DiskFull,
            LogError::Io { .. } | LogError::Lost { .. } | LogError::Damaged { .. } => {
                FailureClass::IoError
            }
            // Somebody reads it under a lock, or a worker that was given up still dies: later it is free.
            LogError::InUse { .. } => FailureClass::Killed,
            LogError::Newer { .. } => FailureClass::Bug,
        }
    }
}

/// Seconds since 1970, by the wall clock: a label, not for durations.
pub fn unix_time() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

/// The line of `event`, newline included.
pub fn encode(event: &Event) -> Vec<u8> {
    let mut line = serde_json::to_vec(event).expect("an event is plain data with string keys");
    let crc = crc32fast::hash(&line);
    line.extend_from_slice(format!("\t{crc:08x}\n").as_bytes());
    line
}

/// What is wrong with a line.
enum Fault {
    /// The checksum is missing or wrong: a torn write, if the line is the last.
    Unverified(&'static str),
    /// What was written is no event that this program knows.
    Invalid(String),
    /// It was written in a later version of the format.
    Newer(u32),
}

/// The event of `line` (without its newline).
fn decode(line: &[u8]) -> Result<Event, Fault> {
    let Some(tab) = line.iter().position(|&byte| byte == b'\t') else {
        return Err(Fault::Unverified("no checksum"));
    };
    let (json, crc) = (&line[..tab], &line[tab + 1..]);
    if crc != format!("{:08x}", crc32fast::hash(json)).as_bytes() {
        return Err(Fault::Unverified("wrong checksum"));
    }
    // The version first: a newer format may have kinds that don't parse.
    #[derive(serde::Deserialize)]
    struct Version {
        v: u32,
    }
    match serde_json::from_slice::<Version>(json) {
        Ok(Version { v }) if v > EVENT_VERSION => {
            return Err(Fault::Newer(v));
        }
        _ => {}
    }
    serde_json::from_slice(json).map_err(|error| Fault::Invalid(format!("not an event: {error}")))
}

/// Whether `rest`, the bytes of an unverified last line, can be what a crash left. A whole line that
/// something follows can't: there the newline was changed.
fn is_torn(rest: &[u8]) -> bool {
    let Some(tab) = rest.iter().position(|&byte| byte == b'\t') else {
        return true;
    };
    let whole = tab + 9;
    rest.len() <= whole || matches!(decode(&rest[..whole]), Err(Fault::Unverified(_)))
}

/// Splits a growing file into verified events; what the writer and the readers share.
#[derive(Debug, Clone)]
struct Scanner {
    path: PathBuf,
    /// Bytes of verified lines.
    offset: u64,
    /// Number of verified lines.
    line: u64,
    /// Sequence number of the last verified line.
    seq: u64,
}

impl Scanner {
    fn damaged(&self, what: impl Into<String>) -> LogError {
        LogError::Damaged {
            path: self.path.clone(),
            line: self.line + 1,
            what: what.into(),
        }
    }

    fn io(&self, action: &'static str, source: std::io::Error) -> LogError {
        LogError::Io {
            action,
            path: self.path.clone(),
            source,
        }
    }

    /// Opens the file to write it, and locks it.
    fn lock(&self) -> Result<File, LogError> {
        let begun = Instant::now();
        loop {
            let file = OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .open(&self.path)
                .map_err(|error| self.io("open", error))?;
            match file.try_lock() {
                // Another writer may have put it aside in between.
                Ok(()) if damage::is_at(&file, &self.path) => return Ok(file),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if begun.elapsed() < GLANCE => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(LogError::InUse {
                        path: self.path.clone(),
                    });
                }
                Err(TryLockError::Error(error)) => return Err(self.io("lock", error)),
            }
        }
    }

    /// Verifies what follows `offset` and hands each event to `each`, until the end of the file or until
    /// `limit` bytes have been read. Returns whether the end was reached.
    fn scan(
        &mut self,
        file: &mut File,
        limit: u64,
        mut each: impl FnMut(Event),
    ) -> Result<bool, LogError> {
        let length = file
            .metadata()
            .map_err(|error| self.io("read", error))?
            .len();
        if length < self.offset {
            return Err(self.damaged(format!(
                "the file has shrunk to {length} bytes, {} were read before",
                self.offset
            )));
        }
        file.seek(SeekFrom::Start(self.offset))
            .map_err(|error| self.io("read", error))?;
        let start = self.offset;
        // Most logs are read while they are short: a whole chunk of zeroes would cost more than the events.
        let chunk = usize::try_from(length - start)
            .unwrap_or(CHUNK)
            .saturating_add(1)
            .clamp(4096, CHUNK);
        let mut buffer = Vec::new();
        // A line that doesn't verify: damage, unless it proves to be the last.
        let mut bad: Option<LogError> = None;
        loop {
            let filled = buffer.len();
            buffer.resize(filled + chunk, 0);
            let count = loop {
                match file.read(&mut buffer[filled..]) {
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    result => break result.map_err(|error| self.io("read", error))?,
                }
            };
            buffer.truncate(filled + count);
            if count == 0 {
                if bad.is_none() && !is_torn(&buffer) {
                    return Err(self.damaged("bytes after the checksum"));
                }
                return Ok(true);
            }
            if let Some(error) = bad {
                return Err(error);
            }
            let mut used = 0;
            while let Some(length) = buffer[used..].iter().position(|&byte| byte == b'\n') {
                if let Some(error) = bad {
                    return Err(error);
                }
                let line = &buffer[used..used + length];
                match decode(line) {
                    Ok(event) if event.seq == self.seq + 1 => {
                        self.seq = event.seq;
                        self.line += 1;
                        self.offset += length as u64 + 1;
                        each(event);
                    }
                    Ok(event) => {
                        let what = format!("event {} follows event {}", event.seq, self.seq);
                        return Err(self.damaged(what));
                    }
                    Err(Fault::Unverified(what)) if is_torn(line) => bad = Some(self.damaged(what)),
                    Err(Fault::Unverified(what)) => return Err(self.damaged(what)),
                    Err(Fault::Invalid(what)) => return Err(self.damaged(what)),
                    Err(Fault::Newer(version)) => {
                        return Err(LogError::Newer {
                            path: self.path.clone(),
                            line: self.line + 1,
                            version,
                        });
                    }
                }
                used += length + 1;
            }
            buffer.drain(..used);
            if buffer.len() > MAX_LINE {
                return Err(self.damaged("the line is too long for an event"));
            }
            if let Some(error) = bad.take_if(|_| !buffer.is_empty()) {
                return Err(error);
            }
            if bad.is_none() && self.offset - start >= limit {
                return Ok(false);
            }
        }
    }
}

/// The writer of an event log. There is one: the worker that runs the stage.
#[derive(Debug)]
pub struct EventLog {
    file: File,
    scanner: Scanner,
    attempt: u32,
    /// A write failed and left part of a line that couldn't be cut off yet.
    dirty: bool,
    /// A sync failed.
    lost: bool,
}

impl EventLog {
    /// Opens the log at `path`, or creates it, to append events of `attempt`. A torn last line is cut
    /// off. A damaged log is set aside; its verified lines are kept, and the first event behind them is a
    /// warning that names the file. The log stays locked until it is dropped or the process dies.
    pub fn open(path: &Path, attempt: u32) -> Result<EventLog, LogError> {
        let mut scanner = Scanner {
            path: path.to_owned(),
            offset: 0,
            line: 0,
            seq: 0,
        };
        let created = !path.exists();
        let mut file = scanner.lock()?;
        let damage = match scanner.scan(&mut file, u64::MAX, |_| {}) {
            Ok(_) => None,
            Err(error @ LogError::Damaged { .. }) => {
                let aside;
                (file, aside) = damage::set_aside(path, &mut file, scanner.offset)
                    .map_err(|error| scanner.io("set the damaged file aside:", error))?;
                Some(damage::text(&error, &aside, scanner.line))
            }
            Err(error) => return Err(error),
        };
        let length = file
            .metadata()
            .map_err(|error| scanner.io("read", error))?
            .len();
        if length > scanner.offset {
            file.set_len(scanner.offset)
                .and_then(|()| durable::sync(&file, path))
                .map_err(|error| scanner.io("cut the torn last line of", error))?;
        }
        if created && let Some(folder) = path.parent() {
            // Without this a power loss may take the file's name, and so the log, with it.
            durable::sync_folder(folder)
                .map_err(|error| scanner.io("sync the folder of", error))?;
        }
        let mut log = EventLog {
            file,
            scanner,
            attempt,
            dirty: false,
            lost: false,
        };
        if let Some(message) = damage {
            log.append(EventKind::Warning { message })?;
        }
        Ok(log)
    }

    /// Sequence number of the last event; 0: none.
    pub fn last_seq(&self) -> u64 {
        self.scanner.seq
    }

    /// Appends an event in one write and returns it. If the write fails, what it left is cut off again.
    pub fn append(&mut self, mut kind: EventKind) -> Result<Event, LogError> {
        if let EventKind::Warning { message } | EventKind::Failed { message, .. } = &mut kind {
            shorten(message);
        }
        if self.lost {
            return Err(self.is_lost());
        }
        if self.dirty {
            self.cut()?;
        }
        let event = Event {
            v: EVENT_VERSION,
            seq: self.scanner.seq + 1,
            time: unix_time(),
            attempt: self.attempt,
            kind,
        };
        let line = encode(&event);
        if let Err(error) =
            durable::gate(Step::Write, &self.scanner.path).and_then(|()| self.file.write_all(&line))
        {
            self.dirty = true;
            // The write's error is the one to report; a failing cut is tried again before the next.
            let _ = self.cut();
            return Err(self.scanner.io("write", error));
        }
        self.scanner.seq = event.seq;
        self.scanner.line += 1;
        self.scanner.offset += line.len() as u64;
        Ok(event)
    }

    /// Waits until what was appended is on disk: at checkpoints, evaluations and the end. An error is
    /// final: the kernel may have dropped the bytes, so the attempt must end, and nothing is appended
    /// any more.
    pub fn sync(&mut self) -> Result<(), LogError> {
        if self.lost {
            return Err(self.is_lost());
        }
        durable::sync(&self.file, &self.scanner.path).map_err(|error| {
            self.lost = true;
            self.scanner.io("sync", error)
        })
    }

    fn is_lost(&self) -> LogError {
        LogError::Lost {
            path: self.scanner.path.clone(),
        }
    }

    fn cut(&mut self) -> Result<(), LogError> {
        self.file
            .set_len(self.scanner.offset)
            .map_err(|error| self.scanner.io("cut", error))?;
        self.dirty = false;
        Ok(())
    }
}

/// Cuts `message` to [`MAX_MESSAGE`] bytes at a character's boundary.
fn shorten(message: &mut String) {
    if message.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE)
            .rev()
            .find(|&at| message.is_char_boundary(at))
            .unwrap_or(0);
        message.truncate(end);
        message.push_str(" [...]");
    }
}

/// A reader that follows a log as it grows.
#[derive(Debug, Clone)]
pub struct Tail {
    scanner: Scanner,
}

/// Where a [`Tail`] stands: enough to go on later without reading the file again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Bytes of complete, verified lines.
    pub offset: u64,
    /// Number of those lines.
    pub line: u64,
    /// Sequence number of the last of them.
    pub seq: u64,
}

impl Tail {
    /// A reader from the start of the log at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Tail {
        Tail::at(path, Position::default())
    }

    /// A reader from `position` on.
    pub fn at(path: impl Into<PathBuf>, position: Position) -> Tail {
        Tail {
            scanner: Scanner {
                path: path.into(),
                offset: position.offset,
                line: position.line,
                seq: position.seq,
            },
        }
    }

    /// The log's path.
    pub fn path(&self) -> &Path {
        &self.scanner.path
    }

    /// Where the reader stands.
    pub fn position(&self) -> Position {
        Position {
            offset: self.scanner.offset,
            line: self.scanner.line,
            seq: self.scanner.seq,
        }
    }

    /// The complete events since the last call; none while there is no file. Reads at most a few
    /// megabytes at a time: an empty answer means the end, so a long log is read by calling until then.
    /// After an error nothing that came before the damage is lost: it was returned earlier, or
    /// [`Tail::position`] stands right behind it and the next call reports the damage again.
    pub fn poll(&mut self) -> Result<Vec<Event>, LogError> {
        const LIMIT: u64 = 4 << 20;
        let mut file = match File::open(&self.scanner.path) {
            Ok(file) => file,
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound && self.scanner.offset == 0 =>
            {
                return Ok(Vec::new());
            }
            Err(error) => return Err(self.scanner.io("open", error)),
        };
        let mut events = Vec::new();
        match self
            .scanner
            .scan(&mut file, LIMIT, |event| events.push(event))
        {
            Ok(_) => Ok(events),
            Err(_) if !events.is_empty() => Ok(events),
            Err(error) => Err(error),
        }
    }
}

/// All events of the log at `path`, a torn last line left out.
pub fn read(path: &Path) -> Result<Vec<Event>, LogError> {
    let mut tail = Tail::new(path);
    let mut events = Vec::new();
    loop {
        let more = tail.poll()?;
        if more.is_empty() {
            return Ok(events);
        }
        events.extend(more);
    }
}

#[cfg(test)]
mod tests;
