//! What a worker and the processes that it has started are doing, as Linux tells (`/proc`).

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::path::Path;

/// What one line of `/proc/PID/stat` says (proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    state: char,
    parent: i32,
    group: i32,
    /// User and system time, that of children that were waited for included, in clock ticks.
    ticks: u64,
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
    })
}

fn stat(path: &Path) -> Option<Stat> {
    parse(&std::fs::read_to_string(path.join("stat")).ok()?)
}

/// The worker `leader`, its process group and all their descendants, with what they say.
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
    let mut found: HashSet<i32> = all
        .iter()
        .filter(|(pid, stat)| **pid == leader || stat.group == leader)
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

/// CPU time that the worker `leader` and its processes have used, in seconds; `None` where the system doesn't
/// tell, or they are gone.
pub fn cpu_seconds(leader: u32) -> Option<f64> {
    let tree = tree(i32::try_from(leader).ok()?);
    // SAFETY: a system call without memory.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let ticks: u64 = tree.iter().map(|(_, stat)| stat.ticks).sum();
    (!tree.is_empty() && per_second > 0).then(|| ticks as f64 / per_second as f64)
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
            let now = cpu_seconds(leader);
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
        assert_eq!(cpu_seconds(leader), None);
    }
}
