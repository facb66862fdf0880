//! Executors start workers, signal them, and tell when they are gone.
//!
//! An executor knows nothing of queues, retries or stores; what it gets is a prepared run directory
//! and a slot. Exits are pushed, never polled for.

pub mod child;
pub mod limits;
pub mod local;
pub mod process;
mod program;

use crate::rundir::durable;
use crate::rundir::event::FailureClass;
use crate::rundir::stage::Task;
use crate::schedule::device::Slot;
use crate::schedule::outcome::Exit;
use std::path::PathBuf;

/// What is to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The run directory, with `stage.json` and `launch.json` in place.
    pub run_dir: PathBuf,
    /// File that takes the worker's stdout and stderr.
    pub log: PathBuf,
    pub slot: Slot,
    /// What the stage does: a program of the user's own needs no worker of ours.
    pub task: Task,
}

/// Called once, from any thread, when the worker is gone and what it left behind has been killed.
pub type OnExit = Box<dyn FnOnce(Exit) + Send>;

/// Something that runs workers.
pub trait Executor: Send + Sync {
    /// Starts a worker. `on_exit` is called exactly once if this succeeds, and never otherwise.
    fn start(&self, order: &Order, on_exit: OnExit) -> Result<Box<dyn Worker>, StartError>;
}

/// A worker that was started.
pub trait Worker: Send {
    /// Its process on this machine, if it has one.
    fn pid(&self) -> Option<u32>;

    /// Sends a signal to the worker and all that it has started. Nothing happens when it is gone.
    fn signal(&self, signal: Signal);
}

/// What can be said to a worker from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Write a checkpoint and leave.
    Terminate,
    /// End now.
    Kill,
    /// Stand still (Ctrl-Z).
    Suspend,
    /// Go on.
    Resume,
}

/// Why a worker could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("can't open the log {path}: {source}")]
    Log {
        path: String,
        source: std::io::Error,
    },
    #[error("can't start {program}: {source}")]
    Spawn {
        program: String,
        source: std::io::Error,
    },
    #[error("can't start the thread that waits for a worker: {0}")]
    Thread(std::io::Error),
}

impl StartError {
    /// How the stage's attempt failed. A machine that is short of processes or descriptors may have
    /// some again in a moment; a program that isn't there will not appear.
    pub fn class(&self) -> FailureClass {
        let (StartError::Log { source, .. }
        | StartError::Spawn { source, .. }
        | StartError::Thread(source)) = self;
        match source.kind() {
            _ if durable::is_full(source) => FailureClass::DiskFull,
            std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => {
                FailureClass::Bug
            }
            _ => FailureClass::Killed,
        }
    }
}
