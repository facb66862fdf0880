//! What goes into an execution and what comes out: jobs, settings, summary, errors.

use crate::rundir::stage::StageSpec;
use crate::schedule::attempt::{LOG_CAP, RunDirError};
use crate::schedule::core::{Closing, Core, End, Message, Prior, Stage};
use crate::schedule::space::RESERVE;
use crate::spec::execution::ExecutionRules;
use crate::store::StoreError;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// A stage to be scheduled.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub fingerprint: String,
    /// Index of the job whose weights it starts from.
    pub parent: Option<usize>,
    /// Expected floating-point operations.
    pub flops: f64,
    /// Higher ones go first; 0 is usual.
    pub priority: i32,
    /// Devices that it uses at once.
    pub devices: usize,
    /// Bytes of the host's memory that it needs on a CPU, as estimated.
    pub memory: u64,
    /// Threads that it may use, instead of those of its slot.
    pub threads: Option<usize>,
    /// What the user sees.
    pub label: String,
    pub prior: Prior,
    /// Attempts that earlier executions made.
    pub attempts: u32,
}

impl Job {
    /// What the core sees of it.
    pub(super) fn stage(&self) -> Stage {
        Stage {
            parent: self.parent,
            flops: self.flops,
            priority: self.priority,
            prior: self.prior.clone(),
        }
    }
}

/// What only the run directory needs of a job; asked for when it starts.
pub struct JobFiles {
    pub spec: StageSpec,
    /// Root of the image folder; `None`: the embedded data set.
    pub data_root: Option<PathBuf>,
    /// The file of weights that it starts from.
    pub init_file: Option<PathBuf>,
    /// Roots of the evaluation sets by name; `None`: the embedded data set.
    pub evaluation_roots: BTreeMap<String, Option<PathBuf>>,
    /// How it is carried out.
    pub rules: ExecutionRules,
    /// The folder that a program is started in; `None`: the scheduler's own.
    pub folder: Option<PathBuf>,
}

/// What can be tuned; the defaults are for people, tests are in a hurry.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Shortest time between two looks at the event logs: what is written in between is read together.
    pub tick: Duration,
    /// Time between two looks at what nothing was heard of, in case a notice was lost.
    pub look: Duration,
    /// Largest size of an attempt's log in bytes.
    pub log_cap: u64,
    /// Seconds between a worker's `step` events.
    pub log_seconds: f64,
    /// Bytes that stay free on the store's disk: with less no stage is started.
    pub reserve: u64,
    /// The core's pauses are divided by this.
    pub hurry: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            tick: Duration::from_millis(200),
            look: Duration::from_secs(30),
            log_cap: LOG_CAP,
            log_seconds: 1.0,
            reserve: RESERVE,
            hurry: 1,
        }
    }
}

/// How an execution ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// How each job ended.
    pub ends: Vec<End>,
    /// Logs of the jobs that failed in this execution.
    pub logs: BTreeMap<usize, PathBuf>,
    /// The first signal that asked for the end.
    pub interrupted: Option<i32>,
    /// Attempts that were begun.
    pub attempts: usize,
    /// Stages that another scheduler finished while this one was at work.
    pub elsewhere: usize,
    /// Why it ended before all was done, unless by a signal.
    pub closed: Option<Closing>,
    pub wall: Duration,
}

impl Summary {
    /// The summary of jobs of which none is to be run.
    pub fn without_work(jobs: &[Job]) -> Summary {
        let stages = jobs.iter().map(Job::stage).collect();
        let mut core = Core::new(stages, Vec::new());
        core.handle(Message::Begin);
        Summary {
            ends: (0..jobs.len())
                .map(|stage| core.end(stage).cloned().unwrap_or(End::Left))
                .collect(),
            logs: BTreeMap::new(),
            interrupted: None,
            attempts: 0,
            elsewhere: 0,
            closed: None,
            wall: Duration::ZERO,
        }
    }

    /// Number of jobs whose end `is` such.
    pub fn count(&self, is: impl Fn(&End) -> bool) -> usize {
        self.ends.iter().filter(|end| is(end)).count()
    }
}

/// Why an execution had to be given up. Workers are killed then; whatever they have written is found
/// by the next one.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    RunDir(#[from] RunDirError),
}
