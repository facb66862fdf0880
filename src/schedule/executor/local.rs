//! Workers as processes of this machine.
//!
//! Every worker has its own process group (a Ctrl-C on the terminal doesn't reach it: the scheduler
//! decides) and dies with the scheduler, even if that is killed with SIGKILL. [`child`] prepares it,
//! [`process`] starts and reaps it.

use super::{Executor, OnExit, Order, StartError, Worker, child, process, program};
use crate::rundir::stage::Task;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

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
}

impl Executor for LocalExecutor {
    fn start(&self, order: &Order, on_exit: OnExit) -> Result<Box<dyn Worker>, StartError> {
        if order.task == Task::Command {
            return program::start(order, on_exit);
        }
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).arg(&order.run_dir);
        let start = child::surround(&mut command, &self.name, order)?;
        process::start(start, &self.program.display().to_string(), on_exit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::device::Slot;
    use crate::schedule::outcome::Exit;
    use std::sync::mpsc;

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
            ..Slot::default()
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
        let cpu = crate::schedule::device::cpu::Cpu::discover();
        let core = *cpu.cores.last().unwrap();
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
}
