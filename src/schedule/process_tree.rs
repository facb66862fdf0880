//! What a worker and the processes that it has started are doing, as Linux tells (`/proc`), and signals to those that
//! have left its group.

use crate::worker::program::guard;
use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// What one line of `/proc/PID/stat` says (proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    state: char,
    parent: i32,
    group: i32,
    /// User and system time, that of children that were waited for included, in clock ticks.
    ticks: u64,
    /// When it began, in clock ticks since the boot.
    start: u64,
}

fn parse(stat: &str) -> Option<Stat> {
    // The name may hold anything, parentheses and spaces too: fields start behind the last one.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<i64>().ok();
    let ticks: i64 = (11..=14).map(number).sum::<Option<i64>>()?;
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: number(1)? as i32,
        group: number(2)? as i32,
        ticks: ticks.max(0) as u64,
        start: number(19)? as u64,
    })
}

fn stat(path: &Path) -> Option<Stat> {
    parse(&std::fs::read_to_string(path.join("stat")).ok()?)
}

/// The worker `leader`, its process group and all their descendants, with what they say. Of a program, also what has
/// lost its parents: its guard has it then.
fn tree(leader: i32) -> Vec<(i32, Stat)> {
    let mut all: HashMap<i32, Stat> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        if let (Some(pid), Some(stat)) = (pid, stat(&entry.path())) {
            all.insert(pid, stat);
        }
    }
    let guard = all
        .get(&leader)
        .map(|stat| stat.parent)
        .filter(|&parent| is_guard(parent));
    let mut found: HashSet<i32> = all
        .iter()
        .filter(|(pid, stat)| **pid == leader || stat.group == leader || Some(stat.parent) == guard)
        .map(|(pid, _)| *pid)
        .collect();
    loop {
        let before = found.len();
        let children = all
            .iter()
            .filter(|(_, stat)| found.contains(&stat.parent))
            .map(|(pid, _)| *pid);
        let children: Vec<i32> = children.collect();
        found.extend(children);
        if found.len() == before {
            break;
        }
    }
    let mut tree: Vec<(i32, Stat)> = found
        .into_iter()
        .filter_map(|pid| Some((pid, *all.get(&pid)?)))
        .collect();
    tree.sort_unstable_by_key(|(pid, _)| *pid);
    tree
}

/// Whether a process is the guard of a program.
fn is_guard(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm"))
        .is_ok_and(|name| name.trim_end() == guard::NAME)
}

/// Whether `pid` is one of the processes of the workers `leaders`, in whatever group and session it is.
pub fn belongs(pid: u32, leaders: &[u32]) -> bool {
    let Ok(mut pid) = i32::try_from(pid) else {
        return false;
    };
    let is_leader = |pid: i32| u32::try_from(pid).is_ok_and(|pid| leaders.contains(&pid));
    let parent = |pid: i32| Some(stat(&Path::new("/proc").join(pid.to_string()))?.parent);
    // What has lost its parents belongs to a guard, and that to the program that it guards.
    let mut guards = leaders
        .iter()
        .filter_map(|&leader| parent(i32::try_from(leader).ok()?))
        .filter(|&parent| is_guard(parent));
    // Numbers are used again: a chain that changes while it is followed must not be a circle.
    for _ in 0..1000 {
        if pid <= 1 {
            return false;
        }
        let path = Path::new("/proc").join(pid.to_string());
        let Some(stat) = stat(&path) else {
            return false;
        };
        if is_leader(pid) || is_leader(stat.group) || guards.any(|guard| guard == stat.parent) {
            return true;
        }
        pid = stat.parent;
    }
    false
}

/// Rounds in which processes that are started meanwhile are looked for.
const ROUNDS: usize = 20;

/// Sends `signal` to those processes of the worker `leader` that its process group doesn't hold: whatever has made a
/// group or a session of its own. Those that stand still can start no others, so SIGSTOP reaches all in the end.
pub fn signal_strays(leader: u32, signal: i32) {
    let Ok(leader) = i32::try_from(leader) else {
        return;
    };
    let mut told: HashSet<(i32, u64)> = HashSet::new();
    for _ in 0..ROUNDS {
        let strays = tree(leader).into_iter().filter(|(pid, stat)| {
            *pid != leader && stat.group != leader && !matches!(stat.state, 'Z' | 'X')
        });
        let new: Vec<(i32, Stat)> = strays
            .filter(|(pid, stat)| told.insert((*pid, stat.start)))
            .collect();
        if new.is_empty() {
            return;
        }
        for (pid, stat) in new {
            send(pid, &stat, signal);
        }
        if signal != libc::SIGSTOP {
            return;
        }
    }
}

/// Kills what is left of a program whose scheduler and guard are both gone: everything that has been told to report to
/// `events`, the file of that attempt. Blocks until none is left, for a moment at most.
pub fn kill_attempt(events: &Path) {
    let mark = [b"ABLATE_EVENTS=", events.as_os_str().as_bytes()].concat();
    let own = std::process::id();
    for _ in 0..ROUNDS {
        let mut is_left = false;
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            let Some(pid) = pid.filter(|&pid: &i32| u32::try_from(pid) != Ok(own)) else {
                continue;
            };
            let Some(stat) = stat(&entry.path()).filter(|stat| !matches!(stat.state, 'Z' | 'X'))
            else {
                continue;
            };
            // Those of other users can't be read, nor signalled.
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            if environment
                .split(|&byte| byte == 0)
                .any(|variable| variable == mark)
            {
                is_left = true;
                send(pid, &stat, libc::SIGKILL);
            }
        }
        if !is_left {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Signals the process that `seen` was read of, and no other that has its number since.
fn send(pid: i32, seen: &Stat, signal: i32) {
    // SAFETY: a system call without memory; what it returns is a descriptor of our own.
    let handle = unsafe {
        let handle = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        (handle >= 0).then(|| OwnedFd::from_raw_fd(handle as libc::c_int))
    };
    let now = stat(&Path::new("/proc").join(pid.to_string()));
    if now.is_none_or(|now| now.start != seen.start) {
        return;
    }
    // SAFETY: system calls; no information is passed on.
    unsafe {
        match handle {
            Some(handle) => {
                let none = std::ptr::null::<libc::siginfo_t>();
                let handle = handle.as_raw_fd();
                libc::syscall(libc::SYS_pidfd_send_signal, handle, signal, none, 0);
            }
            // Linux before 5.3.
            None => {
                libc::kill(pid, signal);
            }
        }
    }
}

/// What a worker and its processes have done since they began.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Activity {
    /// CPU time in seconds.
    pub cpu_seconds: f64,
    /// Bytes read and written, pipes and caches included; 0 where the system doesn't tell.
    pub io_bytes: u64,
}

/// What the worker `leader` and its processes have done; `None` where the system doesn't tell, or they are gone.
pub fn activity(leader: u32) -> Option<Activity> {
    let tree = tree(i32::try_from(leader).ok()?);
    // SAFETY: a system call without memory.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let ticks: u64 = tree.iter().map(|(_, stat)| stat.ticks).sum();
    (!tree.is_empty() && per_second > 0).then(|| Activity {
        cpu_seconds: ticks as f64 / per_second as f64,
        io_bytes: tree.iter().map(|(pid, _)| io_bytes(*pid)).sum(),
    })
}

/// Bytes that a process and those that it has waited for have read and written (proc_pid_io(5)).
fn io_bytes(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let bytes = line
                .strip_prefix("rchar: ")
                .or_else(|| line.strip_prefix("wchar: "))?;
            bytes.parse::<u64>().ok()
        })
        .sum()
}

/// Most threads that are described.
const MOST_THREADS: usize = 200;

/// Where every thread of the worker `leader` and its processes stands: for the log of one that hangs.
pub fn describe(leader: u32) -> String {
    let mut text = String::new();
    let read = |path: &Path, name: &str| {
        std::fs::read_to_string(path.join(name))
            .unwrap_or_default()
            .trim()
            .replace('\n', " < ")
    };
    let mut threads = 0;
    for (pid, _) in tree(i32::try_from(leader).unwrap_or_default()) {
        let folder = Path::new("/proc").join(pid.to_string());
        let line = read(&folder, "cmdline").replace('\0', " ");
        let _ = writeln!(text, "process {pid}: {}", line.trim());
        let mut tasks: Vec<_> = std::fs::read_dir(folder.join("task"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        tasks.sort_unstable();
        for task in tasks {
            threads += 1;
            if threads > MOST_THREADS {
                continue;
            }
            let state = stat(&task).map_or('?', |stat| stat.state);
            let name = read(&task, "comm");
            let id = task
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let _ = write!(text, "  thread {id} {name}: state {state}");
            // Readable only for some users and some kernels.
            for (what, file) in [
                ("waits in", "wchan"),
                ("system call", "syscall"),
                ("stack", "stack"),
            ] {
                let value = read(&task, file);
                if !matches!(value.as_str(), "" | "0" | "running") {
                    let _ = write!(text, ", {what} {value}");
                }
            }
            text.push('\n');
        }
    }
    if threads > MOST_THREADS {
        let _ = writeln!(text, "  and {} more threads", threads - MOST_THREADS);
    }
    text
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn names_may_hold_anything() {
        let line = "77 (a) b (c)) S 5 6 7 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 999 0 0";
        let expected = Stat {
            state: 'S',
            parent: 5,
            group: 6,
            ticks: 100,
            start: 999,
        };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse(""), None);
        assert_eq!(parse("1 (x) S 2"), None);
    }

    #[test]
    fn descendants_count_even_in_groups_of_their_own() {
        use std::os::unix::process::CommandExt;
        // The grandchild works in a session of its own; the child sleeps.
        let mut child = Command::new("sh")
            .args(["-c", "setsid sh -c 'while :; do :; done' & wait"])
            .process_group(0)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let leader = child.id();
        let mut first = None;
        let text = loop {
            let now = activity(leader).map(|activity| activity.cpu_seconds);
            match (first, now) {
                (None, Some(_)) => first = now,
                (Some(first), Some(now)) if now > first + 0.05 => break describe(leader),
                _ => {}
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        };
        assert!(
            text.contains("while :; do :; done") && text.contains("thread "),
            "{text}"
        );
        for (pid, _) in tree(leader as i32) {
            // SAFETY: a system call without memory on our own descendants.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        child.wait().unwrap();
        assert_eq!(activity(leader), None);
    }

    #[test]
    fn what_a_descendant_reads_counts() {
        use std::os::unix::process::CommandExt;
        let mut child = Command::new("sh")
            .args([
                "-c",
                "head -c 5000000 /dev/zero > /dev/null; sleep 600; true",
            ])
            .process_group(0)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let leader = child.id();
        until("it has read and written", || {
            activity(leader).is_some_and(|activity| activity.io_bytes >= 10_000_000)
        });
        // SAFETY: a system call without memory on our own group.
        unsafe { libc::kill(-(leader as i32), libc::SIGKILL) };
        child.wait().unwrap();
    }

    fn state(pid: i32) -> char {
        let stat = stat(&Path::new("/proc").join(pid.to_string()));
        stat.map_or('X', |stat| stat.state)
    }

    #[track_caller]
    fn until(what: &str, is: impl Fn() -> bool) {
        let begun = std::time::Instant::now();
        while !is() {
            assert!(begun.elapsed().as_secs() < 60, "waited in vain: {what}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    #[test]
    fn processes_in_sessions_of_their_own_are_reached() {
        use crate::worker::program::guard::{Guard, Request};
        use crate::worker::program::start::Start;
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let script = format!(
            "setsid sh -c 'echo $$ > {}; while :; do sleep 0.01; done' & \
             (setsid sh -c 'echo $$ > {}; while :; do sleep 0.01; done' &) ; wait",
            file("child").display(),
            file("orphan").display()
        );
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script]);
        let log = std::fs::File::options().write(true).open("/dev/null");
        let guard = Guard::spawn(&Start::new(&command, log.unwrap(), &[]).unwrap()).unwrap();
        let number = |name: &str| {
            let read = || std::fs::read_to_string(file(name)).unwrap_or_default();
            until(name, || read().ends_with('\n'));
            read().trim().parse::<i32>().unwrap()
        };
        let strays = [number("child"), number("orphan")];
        let program = guard.program();
        for stray in strays {
            assert!(belongs(stray as u32, &[program]));
            assert!(!belongs(stray as u32, &[]));
        }
        assert!(!belongs(std::process::id(), &[program]));
        signal_strays(program, libc::SIGSTOP);
        until("they stand still", || {
            strays.iter().all(|&pid| state(pid) == 'T')
        });
        signal_strays(program, libc::SIGCONT);
        until("they go on", || strays.iter().all(|&pid| state(pid) != 'T'));
        signal_strays(program, libc::SIGTERM);
        until("they leave", || {
            strays.iter().all(|&pid| matches!(state(pid), 'X' | 'Z'))
        });
        guard.request(Request::Kill);
        while !guard.wait(None, None) {}
        guard.reap();
    }
}
