//! Programs of the user's own: each is looked after by a thread of this process.

use super::{OnExit, Order, Signal, StartError, Worker, child, process};
use crate::rundir::layout::RunDir;
use crate::schedule::outcome::Exit;
use crate::schedule::process_tree;
use crate::schedule::space;
use crate::worker::program::guard::{End, Request};
use crate::worker::program::{Control, Program};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::{Arc, mpsc};

/// Starts the program of a run directory, and the thread that looks after it.
pub fn start(order: &Order, on_exit: OnExit) -> Result<Box<dyn Worker>, StartError> {
    let failed = |source| StartError::Spawn {
        program: order.run_dir.display().to_string(),
        source,
    };
    let program = Program::load(RunDir::new(&order.run_dir))
        .map_err(|error| failed(io::Error::other(error)))?;
    let mut command = program.command();
    child::set_environment(&mut command, &order.slot);
    // Append mode: whoever truncates the log (its cap) moves the program's writes along.
    let output = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&order.log)
        .map_err(|source| StartError::Log {
            path: order.log.display().to_string(),
            source,
        })?;
    let cores = order.slot.cores.clone();
    let control = Arc::new(Control::default());
    let shared = Arc::clone(&control);
    let (log, run_dir) = (order.log.clone(), order.run_dir.clone());
    let (started, answer) = mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("program".into())
        .stack_size(512 * 1024)
        .spawn(move || {
            let kills_before = process::oom_kills();
            // The receiver waits for exactly this answer, or for the end of this thread's sender.
            let tell = move |pid| {
                let _ = started.send(pid);
            };
            let end = match program.supervise(&command, (output, &cores), &shared, tell) {
                Ok(end) => end,
                Err(error) => {
                    // Where the cause of an attempt is looked for.
                    let log = OpenOptions::new().create(true).append(true).open(log);
                    let _ = log.and_then(|mut log| writeln!(log, "error: {error}"));
                    End {
                        code: Some(error.class().exit_code()),
                        ..End::default()
                    }
                }
            };
            on_exit(Exit {
                code: end.code,
                signal: end.signal,
                oom_kill: process::oom_kills() > kills_before,
                disk_full: space::is_full(&run_dir),
                peak_rss_bytes: end.peak_rss_bytes,
            });
        })
        .map_err(StartError::Thread)?;
    let pid = answer.recv().ok();
    Ok(Box::new(ProgramWorker { pid, control }))
}

struct ProgramWorker {
    /// `None`: it was not started, as its event log says.
    pid: Option<u32>,
    control: Arc<Control>,
}

impl Worker for ProgramWorker {
    fn pid(&self) -> Option<u32> {
        self.pid
    }

    fn signal(&self, signal: Signal) {
        let (request, number) = match signal {
            Signal::Terminate => (Request::Terminate, Some(libc::SIGTERM)),
            // The guard finds all of them.
            Signal::Kill => (Request::Kill, None),
            Signal::Suspend => (Request::Suspend, Some(libc::SIGSTOP)),
            Signal::Resume => (Request::Resume, Some(libc::SIGCONT)),
        };
        self.control.request(request);
        // The guard's word reaches the program's group only.
        if let (Some(pid), Some(number)) = (self.pid, number) {
            process_tree::signal_strays(pid, number);
        }
    }
}
