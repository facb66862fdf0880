//! A folder to work in, and the program started in it as a user would.

use crate::small_data;
use serde_json::Value;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longest time that anything here may take: a program that hangs fails its test.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The program. Cargo names it to the test when it runs it, and when it compiles it.
pub fn program() -> PathBuf {
    std::env::var_os("CARGO_BIN_EXE_ablate")
        .map_or_else(|| env!("CARGO_BIN_EXE_ablate").into(), PathBuf::from)
}

/// A folder of its own, without any setting of the machine's user.
pub struct Lab {
    folder: tempfile::TempDir,
    /// The user's cache: hashes of data sets are remembered there once their files have settled, so
    /// whether it is written depends on the time.
    cache: tempfile::TempDir,
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Answer {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Answer {
    fn new(output: Output) -> Answer {
        let text = |bytes| String::from_utf8(bytes).expect("the program writes UTF-8");
        Answer {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// The same, if the exit code is `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Answer {
        assert_eq!(self.code, Some(code), "{self:#?}");
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        assert!(!self.stderr.contains("RUST_BACKTRACE"), "{}", self.stderr);
        self
    }

    /// The same, if stderr has all `parts`.
    #[track_caller]
    pub fn says(self, parts: &[&str]) -> Answer {
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "no {part:?} in:\n{}",
                self.stderr
            );
        }
        self
    }

    /// The same, if stdout has all `parts`.
    #[track_caller]
    pub fn shows(self, parts: &[&str]) -> Answer {
        for part in parts {
            assert!(
                self.stdout.contains(part),
                "no {part:?} in:\n{}",
                self.stdout
            );
        }
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in:\n{}", self.stdout))
    }
}

impl Lab {
    /// An empty folder.
    pub fn new() -> Lab {
        Lab {
            folder: tempfile::tempdir().unwrap(),
            cache: tempfile::tempdir().unwrap(),
        }
    }

    /// A folder with the image folder `pictures`: `per_class` of nine classes of 48 px in `train`,
    /// four in `val`.
    pub fn with_pictures(per_class: usize) -> Lab {
        let lab = Lab::new();
        small_data::write(&lab.path("pictures"), [per_class, 4], "png");
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        let path = self.path(name);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The program in this folder, in an environment that has nothing of the user's.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("XDG_CACHE_HOME", self.cache.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs `ablate` with the words of `line` and then `more`.
    #[track_caller]
    pub fn ablate(&self, line: &str, more: &[&str]) -> Answer {
        self.finish(self.command(line.split_whitespace().chain(more.iter().copied())))
    }

    /// Runs a command to its end; a hang is a failure.
    #[track_caller]
    pub fn finish(&self, mut command: Command) -> Answer {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Answer::new(wait(Group::spawn(&mut command), &command))
    }

    /// Starts `ablate` and returns while it runs.
    pub fn start(&self, line: &str) -> Group {
        let mut command = self.command(line.split_whitespace());
        Group::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    /// The answer to `sql` of the store `store`, as JSON objects.
    #[track_caller]
    pub fn ask(&self, store: &str, sql: &str) -> Vec<Value> {
        let answer = self.ablate(&format!("query --format json --store {store}"), &[sql]);
        let Value::Array(rows) = answer.expect(0).json() else {
            panic!("no array");
        };
        rows
    }

    /// Paths relative to this folder of all that is below `name`, sorted; empty if there is no such
    /// folder.
    pub fn list(&self, name: &str) -> Vec<String> {
        fn walk(folder: &Path, base: &Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                let relative = path.strip_prefix(base).unwrap().to_str().unwrap();
                found.push(relative.to_owned());
                if path.is_dir() {
                    walk(&path, base, found);
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.path(name), self.folder.path(), &mut found);
        found.sort();
        found
    }

    /// Run directories of `store`.
    pub fn stages(&self, store: &str) -> Vec<String> {
        let mut stages: Vec<String> = std::fs::read_dir(self.path(store).join("stages"))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        stages.sort();
        stages
    }

    /// The events of a stage, oldest first.
    pub fn events(&self, store: &str, stage: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(
            self.path(store)
                .join("stages")
                .join(stage)
                .join("events.jsonl"),
        )
        .unwrap_or_default();
        text.split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str(line.split('\t').next().unwrap()).unwrap())
            .collect()
    }

    /// All results of training in `store`: final weights and predictions of every stage.
    pub fn results(&self, store: &str) -> Vec<(String, Vec<u8>, Vec<u8>)> {
        self.stages(store)
            .into_iter()
            .map(|stage| {
                let dir = format!("{store}/stages/{stage}");
                let weights = self.read(&format!("{dir}/checkpoints/final.safetensors"));
                let predictions = self.read(&format!("{dir}/predictions.bin"));
                (stage, weights, predictions)
            })
            .collect()
    }

    /// Asserts that two stores hold the same results, byte for byte.
    #[track_caller]
    pub fn same_results(&self, one: &str, other: &str) {
        let (one, other) = (self.results(one), self.results(other));
        assert!(!one.is_empty());
        assert_eq!(one.len(), other.len());
        for (a, b) in one.iter().zip(&other) {
            assert_eq!(a.0, b.0, "fingerprints");
            assert!(!a.1.is_empty() && !a.2.is_empty());
            assert!(a.1 == b.1, "weights of {}", a.0);
            assert!(a.2 == b.2, "predictions of {}", a.0);
        }
    }
}

/// A running program, its own process group; killed with all of it when the test ends early.
pub struct Group {
    child: Option<Child>,
}

impl Group {
    fn spawn(command: &mut Command) -> Group {
        let child = command.process_group(0).spawn().unwrap();
        Group { child: Some(child) }
    }

    pub fn pid(&self) -> i32 {
        self.child.as_ref().expect("it runs").id() as i32
    }

    /// Sends a signal to the program itself, not to its workers.
    pub fn signal(&self, signal: i32) {
        // SAFETY: a system call without memory.
        assert_eq!(unsafe { libc::kill(self.pid(), signal) }, 0);
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(self) -> Answer {
        Answer::new(wait(self, &"the program"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // SAFETY: a system call without memory; the group is ours, its leader is not reaped yet.
            unsafe { libc::kill(-(child.id() as i32), libc::SIGKILL) };
            let _ = child.wait();
        }
    }
}

#[track_caller]
fn wait(mut group: Group, what: &dyn std::fmt::Debug) -> Output {
    let child = group.child.take().expect("it runs");
    let pid = child.id() as i32;
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = sender.send(child.wait_with_output());
    });
    match receiver.recv_timeout(PATIENCE) {
        Ok(output) => output.unwrap(),
        Err(_) => {
            // SAFETY: a system call without memory.
            unsafe { libc::kill(-pid, libc::SIGKILL) };
            panic!("still running after {} s: {what:?}", PATIENCE.as_secs());
        }
    }
}

/// Waits until `condition` gives something.
#[track_caller]
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process exists and is more than a zombie.
pub fn is_alive(pid: i64) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    !matches!(state, Some('Z' | 'X') | None)
}

/// Two losses by two seeds of the smallest model on the folder `pictures`: some tenths of a second a
/// stage.
pub const SMALL: &str = "\
name: small
title: Two losses of a small model
claim: Nothing is claimed.
recipe: quick
seeds: 2
set:
  model.arch: vit_nano_patch8
  train: {epochs: 2, batch_size: 16}
  data: {name: pictures, root: pictures}
axes:
  loss:
    ce: {loss.name: ce}
    bce: {loss.name: bce}
baseline: {loss: ce}
";

/// [`SMALL`] with some more epochs and one seed: long enough to be caught in the middle.
pub fn longer() -> String {
    SMALL
        .replace("name: small", "name: longer")
        .replace("epochs: 2", "epochs: 24")
        .replace("seeds: 2", "seeds: 1")
}
