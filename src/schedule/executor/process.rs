//! A child process: started, signalled, waited for and reaped with all that it has started.
//!
//! The kernel ties a child's death signal (`PR_SET_PDEATHSIG`) to the *thread* that started it, so each
//! child has a thread of its own that starts it, waits for it, and ends with it. What it leaves behind in
//! its group gets SIGKILL before its exit is reported.

use super::{OnExit, Signal, StartError, Worker};
use crate::schedule::outcome::Exit;
use crate::worker::program::bare;
use crate::worker::program::start::Start;
use crate::worker::stop;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Instant;

/// Starts the process, which leads a process group of its own; `program` is what errors call it. `on_exit`
/// is called exactly once if this succeeds, and never otherwise.
pub fn start(order: Start, program: &str, on_exit: OnExit) -> Result<Box<dyn Worker>, StartError> {
    let process = Arc::new(Mutex::new(None));
    let shared = Arc::clone(&process);
    let (started, answer) = mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("worker".into())
        .stack_size(256 * 1024)
        .spawn(move || {
            let kills_before = oom_kills();
            match bare::spawn(&order, stop::standstill_signal()) {
                Ok(number) => {
                    let pid = number as libc::pid_t;
                    *shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(pid);
                    // The receiver waits for exactly this answer.
                    let _ = started.send(Ok(number));
                    // Its log descriptors are of no use any more.
                    drop(order);
                    let mut exit = reap(pid, &shared);
                    exit.oom_kill = oom_kills() > kills_before;
                    on_exit(exit);
                }
                Err(source) => {
                    let _ = started.send(Err(source));
                }
            }
        })
        .map_err(StartError::Thread)?;
    let failed = |source| StartError::Spawn {
        program: program.to_owned(),
        source,
    };
    match answer.recv() {
        Ok(Ok(pid)) => Ok(Box::new(LocalWorker {
            pid,
            process,
            stopped: Mutex::default(),
        })),
        Ok(Err(source)) => Err(failed(source)),
        Err(_) => Err(failed(io::Error::other("the thread that starts it ended"))),
    }
}

/// A process that was started here.
struct LocalWorker {
    pid: u32,
    /// The process group; `None` once it is reaped, so that a number that the system has given to
    /// another process is never signalled.
    process: Arc<Mutex<Option<libc::pid_t>>>,
    /// Since when it stands still.
    stopped: Mutex<Option<Instant>>,
}

impl Worker for LocalWorker {
    fn pid(&self) -> Option<u32> {
        Some(self.pid)
    }

    fn signal(&self, signal: Signal) {
        let number = match signal {
            Signal::Terminate => libc::SIGTERM,
            Signal::Kill => libc::SIGKILL,
            Signal::Suspend => libc::SIGSTOP,
            Signal::Resume => libc::SIGCONT,
        };
        if let Some(group) = *self.process.lock().unwrap_or_else(PoisonError::into_inner) {
            // SAFETY: a system call without memory. The leader isn't reaped yet: the group is ours.
            unsafe { libc::killpg(group, number) };
            let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
            match signal {
                Signal::Suspend => {
                    stopped.get_or_insert_with(Instant::now);
                }
                Signal::Resume => {
                    if let Some(since) = stopped.take() {
                        stop::tell_standstill(group, since.elapsed());
                    }
                }
                Signal::Terminate | Signal::Kill => {}
            }
        }
    }
}

/// Waits until the process ends, kills what is left of its group, and reaps it.
fn reap(pid: libc::pid_t, process: &Mutex<Option<libc::pid_t>>) -> Exit {
    loop {
        // SAFETY: siginfo_t is plain data, and zero is a valid value of it.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` is writable. WNOWAIT leaves the process as a zombie: its number stays taken.
        let status = unsafe {
            libc::waitid(
                libc::P_PID,
                pid as libc::id_t,
                &mut info,
                libc::WEXITED | libc::WNOWAIT,
            )
        };
        if status == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            break;
        }
    }
    let mut group = process.lock().unwrap_or_else(PoisonError::into_inner);
    let mut status = 0;
    // SAFETY: rusage is plain data, and zero is a valid value of it.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: system calls on our own child, which isn't reaped before this, and writable memory.
    let reaped = unsafe {
        libc::killpg(pid, libc::SIGKILL);
        libc::wait4(pid, &mut status, 0, &mut usage)
    };
    *group = None;
    if reaped != pid {
        return Exit::default();
    }
    Exit {
        code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
        signal: libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)),
        oom_kill: false,
        disk_full: false,
        // Linux counts it in KiB.
        peak_rss_bytes: (usage.ru_maxrss as u64).saturating_mul(1024),
    }
}

/// How often the kernel's out-of-memory killer has struck in our control group; 0 if unknown.
pub(super) fn oom_kills() -> u64 {
    let Ok(groups) = std::fs::read_to_string("/proc/self/cgroup") else {
        return 0;
    };
    oom_kills_in(Path::new("/sys/fs/cgroup"), &groups)
}

/// The largest count of the control groups that `groups` (as `/proc/self/cgroup`) names, below the mount point `root`.
fn oom_kills_in(root: &Path, groups: &str) -> u64 {
    let counts = groups.lines().map(|line| oom_kills_of(root, line));
    counts.max().unwrap_or(0)
}

/// The count of one line of `/proc/self/cgroup` (`0::/path`, or `4:memory:/path` of version 1).
fn oom_kills_of(root: &Path, line: &str) -> u64 {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
        return 0;
    };
    let (root, file) = match controllers {
        "" => (root.to_owned(), "memory.events"),
        list if list.split(',').any(|name| name == "memory") => {
            (root.join("memory"), "memory.oom_control")
        }
        _ => return 0,
    };
    // In a container the group's own path may not be visible: its root is the group then.
    [path.trim_start_matches('/'), ""]
        .iter()
        .find_map(|path| std::fs::read_to_string(root.join(path).join(file)).ok())
        .and_then(|text| {
            text.lines()
                .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_other_controllers_count_nothing() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(oom_kills_in(root.path(), "7:blkio:/x\nnonsense"), 0);
    }

    /// Files as the kernel writes them, of both versions, and of a container that sees its group as the root.
    #[test]
    fn the_kernels_counts_are_read() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let events = "low 0\nhigh 0\nmax 41\noom 3\noom_kill 2\noom_group_kill 0\n";
        write("job/memory.events", events);
        assert_eq!(oom_kills_in(root.path(), "0::/job\n"), 2);
        assert_eq!(oom_kills_in(root.path(), "0::/hidden\n"), 0);
        write("memory.events", "oom 1\noom_kill 1\n");
        assert_eq!(oom_kills_in(root.path(), "0::/hidden\n"), 1);
        let control = "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n";
        write("memory/old/memory.oom_control", control);
        let groups = "5:cpu:/x\n4:memory:/old\n0::/job\n";
        assert_eq!(oom_kills_in(root.path(), groups), 7);
    }
}
