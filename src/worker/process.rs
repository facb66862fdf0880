//! The worker's life: read the orders, run the stage, say how it ended.

use super::panic::judge_panic;
use super::program::guard::End;
use super::program::{Control, Program, ProgramError};
use super::stop;
use crate::rundir::event::{EventKind, FailureClass};
use crate::rundir::host;
use crate::rundir::layout::RunDir;
use crate::rundir::log::EventLog;
use crate::rundir::stage::{Launch, StageSpec, Task};
use crate::train::{self, Observer, TrainError};
use serde::de::DeserializeOwned;
use std::os::fd::AsFd;
use std::path::Path;

/// Version of `stage.json` that this program reads.
const STAGE_VERSION: u32 = 1;

/// Runs the stage of the run directory at `path`; returns the exit code.
pub fn run(path: &Path) -> i32 {
    host::set_process_name("ablate-worker");
    stop::install();
    let dir = RunDir::new(path);
    let orders = read::<StageSpec>(&dir.stage())
        .and_then(|spec| check_version(spec, &dir))
        .and_then(|spec| Ok((spec, read::<Launch>(&dir.launch())?)));
    let (spec, launch) = match orders {
        Ok(orders) => orders,
        Err(message) => {
            say(format_args!("error: {message}"));
            return FailureClass::Config.exit_code();
        }
    };
    if spec.task == Task::Command {
        return run_program(dir, spec, launch);
    }
    let mut log = match EventLog::open(&dir.events(), launch.attempt) {
        Ok(log) => Log(log),
        Err(error) => {
            say(format_args!("error: {error}"));
            return error.class().exit_code();
        }
    };
    // Outside a pool of its own rayon would start one thread per core.
    if let Err(error) = rayon::ThreadPoolBuilder::new()
        .num_threads(launch.threads)
        .build_global()
    {
        say(format_args!("warning: {error}"));
    }
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        train::run(&spec, &launch, &dir, &mut log)
    }));
    let (class, message) = match outcome {
        Ok(Ok(())) => return 0,
        Ok(Err(error)) => (error.class(), error.to_string()),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_else(|| "unknown panic".to_owned());
            judge_panic(&text, &launch.device)
        }
    };
    say(format_args!("error: {message}"));
    let told = log
        .event(EventKind::Failed { class, message })
        .and_then(|()| log.sync());
    if let Err(error) = told {
        say(format_args!("error: {error}"));
    }
    class.exit_code()
}

/// Looks after a program in this process.
fn run_program(dir: RunDir, spec: StageSpec, launch: Launch) -> i32 {
    let ended = Program::of(dir, spec, launch).and_then(|program| {
        // What the program prints goes where ours goes.
        let log = std::io::stderr()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|source| ProgramError::Prepare {
                path: "the log".to_owned(),
                source,
            })?;
        let command = program.command();
        program.supervise(&command, (log.into(), &[]), &Control::of_worker(), |_| {})
    });
    match ended {
        Ok(End {
            code: Some(code), ..
        }) => code,
        Ok(End {
            signal: Some(signal),
            ..
        }) => 128 + signal,
        Ok(End { .. }) => FailureClass::Bug.exit_code(),
        Err(error) => {
            say(format_args!("error: {error}"));
            error.class().exit_code()
        }
    }
}

/// A line on stderr, the attempt's log; lost where the disk is full. `eprintln` would panic then.
fn say(text: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn check_version(spec: StageSpec, dir: &RunDir) -> Result<StageSpec, String> {
    if spec.version == STAGE_VERSION {
        return Ok(spec);
    }
    Err(format!(
        "{} has version {}, this program reads {STAGE_VERSION}",
        dir.stage().display(),
        spec.version,
    ))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

struct Log(EventLog);

impl Observer for Log {
    fn event(&mut self, event: EventKind) -> Result<(), TrainError> {
        self.0.append(event)?;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), TrainError> {
        Ok(self.0.sync()?)
    }

    fn stop_requested(&self) -> bool {
        stop::requested()
    }
}
