//! Workers as processes of this machine.
//!
//! Every worker has its own process group (a Ctrl-C on the terminal doesn't reach it: the scheduler
//! decides) and dies with the scheduler (`PR_SET_PDEATHSIG`), even if that is killed with SIGKILL.
//! The kernel ties that signal to the *thread* that started the child, so each worker has a thread
//! of its own that starts it, waits for it, and ends with it. What the worker leaves behind in its
//! group gets SIGKILL before its exit is reported.

use super::{Executor, OnExit, Order, Signal, StartError, Worker};
use crate::schedule::outcome::Exit;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

/// Starts `program arguments… <run dir>` for every stage.
#[derive(Debug, Clone)]
pub struct LocalExecutor {
    program: PathBuf,
    /// What the process calls itself.
    name: OsString,
    arguments: Vec<OsString>,
}

impl LocalExecutor {
    /// Workers of this very program: `ablate worker <run dir>`.
    ///
    /// Started through `/proc/self/exe`, so that they are the same program as the scheduler even if
    /// its file was replaced by a new build in the meantime.
    pub fn this_program() -> io::Result<LocalExecutor> {
        let own = Path::new("/proc/self/exe");
        let program = if own.exists() {
            own.to_owned()
        } else {
            std::env::current_exe()?
        };
        Ok(LocalExecutor {
            program,
            name: "ablate".into(),
            arguments: vec!["worker".into()],
        })
    }

    /// Workers of another program.
    pub fn program(program: impl Into<PathBuf>, arguments: Vec<OsString>) -> LocalExecutor {
        let program = program.into();
        LocalExecutor {
            name: program.clone().into_os_string(),
            program,
            arguments,
        }
    }

    fn command(&self, order: &Order) -> Result<Command, StartError> {
        let log_error = |source| StartError::Log {
            path: order.log.display().to_string(),
            source,
        };
        // Append mode: whoever truncates the log (its cap) moves the worker's writes along.
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&order.log)
            .map_err(log_error)?;
        let slot = &order.slot;
        let mut command = Command::new(&self.program);
        command
            .arg0(&self.name)
            .args(&self.arguments)
            .arg(&order.run_dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(log_error)?)
            .stderr(log)
            .process_group(0)
            .env("RAYON_NUM_THREADS", slot.threads.to_string())
            .env("OMP_NUM_THREADS", slot.threads.to_string());
        // Memory that was touched once stays: large tensors come and go with every step.
        for (name, value) in [
            ("MIMALLOC_PURGE_DELAY", "-1"),
            ("MALLOC_TRIM_THRESHOLD_", "17179869184"),
            ("MALLOC_MMAP_THRESHOLD_", "4294967296"),
        ] {
            if std::env::var_os(name).is_none() {
                command.env(name, value);
            }
        }
        if let Some(gpu) = &slot.visible_gpu {
            command.env("CUDA_VISIBLE_DEVICES", gpu);
        }
        let mask = affinity_mask(&slot.cores);
        let scheduler = std::process::id();
        // SAFETY: between fork and exec only system calls are made; nothing is allocated or locked.
        unsafe {
            command.pre_exec(move || {
                die_with_parent(scheduler)?;
                close_descriptors_on_exec();
                bind_to_cores(&mask);
                Ok(())
            });
        }
        Ok(command)
    }
}

impl Executor for LocalExecutor {
    fn start(&self, order: &Order, on_exit: OnExit) -> Result<Box<dyn Worker>, StartError> {
        let mut command = self.command(order)?;
        let program = self.program.display().to_string();
        let process = Arc::new(Mutex::new(None));
        let shared = Arc::clone(&process);
        let (started, answer) = mpsc::sync_channel(1);
        std::thread::Builder::new()
            .name("worker".into())
            .stack_size(256 * 1024)
            .spawn(move || {
                let kills_before = oom_kills();
                match command.spawn() {
                    Ok(child) => {
                        let pid = child.id() as libc::pid_t;
                        *shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(pid);
                        // The receiver waits for exactly this answer.
                        let _ = started.send(Ok(child.id()));
                        // Its log descriptors are of no use any more.
                        drop(command);
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
        let failed = |source| StartError::Spawn { program, source };
        match answer.recv() {
            Ok(Ok(pid)) => Ok(Box::new(LocalWorker { pid, process })),
            Ok(Err(source)) => Err(failed(source)),
            Err(_) => Err(failed(io::Error::other("the thread that starts it ended"))),
        }
    }
}

/// A process that was started here.
struct LocalWorker {
    pid: u32,
    /// The process group; `None` once it is reaped, so that a number that the system has given to
    /// another process is never signalled.
    process: Arc<Mutex<Option<libc::pid_t>>>,
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
        // Linux counts it in KiB.
        peak_rss_bytes: (usage.ru_maxrss as u64).saturating_mul(1024),
    }
}

/// Asks the kernel to kill this process when the thread that started it ends.
fn die_with_parent(parent: u32) -> io::Result<()> {
    // SAFETY: system calls without memory.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
            return Err(io::Error::last_os_error());
        }
        // It may have died before that: then nobody will ever send the signal.
        if libc::getppid() as u32 != parent {
            libc::_exit(libc::EXIT_FAILURE);
        }
    }
    Ok(())
}

/// No descriptor of the scheduler (the store, its lock, other logs) reaches a worker.
fn close_descriptors_on_exec() {
    // SAFETY: a system call without memory. A kernel that doesn't know it (before 5.11) changes
    // nothing: all that Rust opens is closed on exec anyhow.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
}

/// The mask of `cores` for the kernel; empty for none.
fn affinity_mask(cores: &[usize]) -> Vec<u64> {
    let mut mask = vec![0u64; cores.iter().max().map_or(0, |largest| largest / 64 + 1)];
    for core in cores {
        mask[core / 64] |= 1 << (core % 64);
    }
    mask
}

/// Binds this process to a mask of cores. Only speed depends on it: failing is no error.
fn bind_to_cores(mask: &[u64]) {
    if !mask.is_empty() {
        // SAFETY: the mask is readable and its length in bytes is given.
        unsafe {
            libc::sched_setaffinity(
                0,
                size_of_val(mask),
                mask.as_ptr().cast::<libc::cpu_set_t>(),
            )
        };
    }
}

/// How often the kernel's out-of-memory killer has struck in our control group; 0 if unknown.
fn oom_kills() -> u64 {
    let Ok(groups) = std::fs::read_to_string("/proc/self/cgroup") else {
        return 0;
    };
    groups.lines().map(oom_kills_of).max().unwrap_or(0)
}

/// The count of one line of `/proc/self/cgroup` (`0::/path`, or `4:memory:/path` of version 1).
fn oom_kills_of(line: &str) -> u64 {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
        return 0;
    };
    let (root, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.events"),
        list if list.split(',').any(|name| name == "memory") => {
            ("/sys/fs/cgroup/memory", "memory.oom_control")
        }
        _ => return 0,
    };
    // In a container the group's own path may not be visible: its root is the group then.
    [path.trim_start_matches('/'), ""]
        .iter()
        .find_map(|path| std::fs::read_to_string(Path::new(root).join(path).join(file)).ok())
        .and_then(|text| {
            text.lines()
                .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rundir::stage::Task;
    use crate::schedule::device::Slot;

    fn run(script: &str, slot: Slot) -> (Exit, String) {
        let folder = tempfile::tempdir().unwrap();
        let order = Order {
            run_dir: folder.path().into(),
            log: folder.path().join("log"),
            slot,
            task: Task::Train,
        };
        let executor =
            LocalExecutor::program("/bin/sh", vec!["-c".into(), script.into(), "worker".into()]);
        let (sender, exit) = mpsc::channel();
        executor
            .start(&order, Box::new(move |exit| sender.send(exit).unwrap()))
            .unwrap();
        let exit = exit.recv().unwrap();
        (exit, std::fs::read_to_string(&order.log).unwrap())
    }

    fn slot() -> Slot {
        Slot {
            name: "cpu:0".into(),
            device: "cpu".into(),
            threads: 3,
            loader_threads: 0,
            cores: Vec::new(),
            visible_gpu: None,
        }
    }

    #[test]
    fn a_worker_gets_its_surroundings() {
        let (exit, log) = run(
            "echo $RAYON_NUM_THREADS $MIMALLOC_PURGE_DELAY; basename \"$1\" >&2; cat; ls /proc/self/fd | wc -l",
            slot(),
        );
        assert_eq!(exit.code, Some(0));
        assert!(exit.peak_rss_bytes > 0);
        let lines: Vec<_> = log.lines().collect();
        assert!(lines[0].starts_with("3 "), "{log}");
        assert!(lines[1].starts_with(".tmp"), "{log}");
        // stdin, stdout, stderr, and the listed folder itself.
        assert_eq!(lines[2], "4", "{log}");
    }

    #[test]
    fn a_gpu_slot_shows_one_gpu() {
        let (_, log) = run(
            "echo $CUDA_VISIBLE_DEVICES",
            Slot {
                visible_gpu: Some("GPU-7".into()),
                ..slot()
            },
        );
        assert_eq!(log, "GPU-7\n");
    }

    #[test]
    fn a_worker_is_bound_to_its_cores() {
        let core = *crate::schedule::device::Machine::discover(0)
            .cores
            .last()
            .unwrap();
        let (_, log) = run(
            "grep Cpus_allowed_list /proc/self/status",
            Slot {
                cores: vec![core],
                ..slot()
            },
        );
        assert_eq!(
            log.split_whitespace().last(),
            Some(core.to_string().as_str())
        );
    }

    #[test]
    fn codes_and_signals_are_told_apart() {
        assert_eq!(run("exit 73", slot()).0.code, Some(73));
        let (exit, _) = run("kill -9 $$", slot());
        assert_eq!(
            (exit.code, exit.signal, exit.oom_kill),
            (None, Some(libc::SIGKILL), false)
        );
    }

    #[test]
    fn nothing_of_the_group_is_left() {
        let (exit, log) = run("sleep 1000 & echo $!", slot());
        assert_eq!(exit.code, Some(0));
        let pid = log.trim().parse::<u32>().unwrap();
        // Killed, if perhaps not gone or not reaped yet by whoever inherits orphans here.
        let is_alive = || {
            std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
                !stat
                    .rsplit(')')
                    .next()
                    .unwrap_or("")
                    .trim()
                    .starts_with(['Z', 'X'])
            })
        };
        while is_alive() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    #[test]
    fn a_missing_program_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let order = Order {
            run_dir: folder.path().into(),
            log: folder.path().join("log"),
            slot: slot(),
            task: Task::Train,
        };
        let executor = LocalExecutor::program("/nonexistent/program", Vec::new());
        let error = executor
            .start(&order, Box::new(|_| panic!("no exit")))
            .err()
            .unwrap();
        assert!(
            error.to_string().contains("/nonexistent/program"),
            "{error}"
        );
    }

    #[test]
    fn masks() {
        assert!(affinity_mask(&[]).is_empty());
        assert_eq!(affinity_mask(&[0, 65]), [1, 2]);
    }

    #[test]
    fn lines_of_other_controllers_count_nothing() {
        assert_eq!(oom_kills_of("7:blkio:/x"), 0);
        assert_eq!(oom_kills_of("nonsense"), 0);
    }
}
