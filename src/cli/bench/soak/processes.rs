//! The scheduler of a soak and whatever it has started: found by a mark in their environment, so that a
//! process that lost its parent is found, too.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Environment variable that marks the processes of one scheduler.
const MARK: &str = "ABLATE_SOAK";

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(1);

/// A running `ablate run`; dropping it kills it.
pub struct Scheduler {
    child: Child,
    mark: String,
    stderr: PathBuf,
}

impl Scheduler {
    /// Starts `command`; what it says goes to the file `stderr`.
    pub fn start(mut command: Command, stderr: &Path) -> io::Result<Scheduler> {
        use std::sync::atomic::{AtomicU64, Ordering};
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{count}", std::process::id());
        let said = std::fs::File::create(stderr)?;
        let child = command
            .env(MARK, &mark)
            .stdout(Stdio::null())
            .stderr(said)
            .process_group(0)
            .spawn()?;
        Ok(Scheduler {
            child,
            mark,
            stderr: stderr.to_owned(),
        })
    }

    /// Waits for its end, at most so long: its exit code, `None` in it for a signal.
    pub fn wait(&mut self, patience: Duration) -> Option<Option<i32>> {
        let until = Instant::now() + patience;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status.code());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            std::thread::sleep(left.min(Duration::from_millis(5)));
        }
    }

    /// What it has said on stderr.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// The processes that it has started and that live.
    pub fn workers(&self) -> Vec<i32> {
        let own = self.child.id() as i32;
        let mark = format!("{MARK}={}", self.mark);
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<i32>().ok())
            else {
                continue;
            };
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            let marked = environment
                .split(|&byte| byte == 0)
                .any(|variable| variable == mark.as_bytes());
            if pid != own && marked && !is_gone(pid) {
                found.push(pid);
            }
        }
        found
    }

    /// Kills it with SIGKILL and reaps it; its workers have to find out by themselves.
    pub fn kill(&mut self) {
        // An error means that it is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// A process that it started and that is still there after `patience`.
    pub fn orphan(&self, patience: Duration) -> Option<i32> {
        let until = Instant::now() + patience;
        loop {
            let left = self.workers().first().copied();
            if left.is_none() || Instant::now() > until {
                return left;
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Kills a process.
pub fn kill(pid: i32) {
    // SAFETY: a system call without memory.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Whether a process is the guard of a program.
pub fn is_guard(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm"))
        .is_ok_and(|name| name.trim_end() == crate::worker::program::guard::NAME)
}

/// Whether a process is no more, or a zombie.
pub fn is_gone(pid: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return true;
    };
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    matches!(state, Some('Z' | 'X') | None)
}
