//! What happens to an execution, as those who watch it are told: one JSON object a line.

use crate::rundir::event::{Event, FailureClass};
use crate::schedule::core::End;
use serde::{Deserialize, Serialize};

/// One piece of news.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "news", rename_all = "snake_case")]
pub enum News {
    /// Where it stands; always the first.
    Began(Began),
    /// A worker was started.
    Started { slot: usize, stage: usize },
    /// The worker said something.
    Heard {
        slot: usize,
        stage: usize,
        event: Event,
    },
    /// The slot is free again.
    Left { slot: usize },
    /// A stage has ended.
    Ended {
        stage: usize,
        end: Ended,
        /// Where more can be read.
        log: Option<String>,
    },
    /// Something to be shown as it is.
    Said { text: String },
    /// Why stages are as they are, for whoever has asked.
    Why { stages: Vec<Because> },
    /// Time has passed.
    Tick,
    /// It is over; the exit code of its process.
    Over { code: u8 },
}

/// An execution up to now.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Began {
    /// What the stages are called.
    pub labels: Vec<String>,
    /// Expected work of each.
    pub flops: Vec<f64>,
    /// Which of them were to be done when it began.
    pub open: Vec<bool>,
    /// How many were done then.
    pub done: usize,
    /// What the slots are called.
    pub slots: Vec<String>,
    /// Time at work since then.
    pub seconds: f64,
    /// Stages that have ended since then.
    pub ended: Vec<(usize, Ended)>,
}

/// How a stage ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum Ended {
    Done,
    Failed {
        class: FailureClass,
        message: String,
    },
    Blocked,
    Left,
    /// It was done, and is to be done again.
    Again,
}

impl From<&End> for Ended {
    fn from(end: &End) -> Ended {
        match end {
            End::Done => Ended::Done,
            End::Failed(failure) => Ended::Failed {
                class: failure.class,
                message: failure.message.clone(),
            },
            End::Blocked { .. } => Ended::Blocked,
            End::Left => Ended::Left,
        }
    }
}

/// Why a stage is as it is, as its scheduler sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Because {
    pub fingerprint: String,
    /// The reason's name: `parent`, `slots`, `memory`, …
    pub reason: String,
    /// Sentences, the most important first.
    pub because: Vec<String>,
}

/// What a watcher may ask for, one JSON object a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Look at the GPUs that were taken out of use, and use those again that are well.
    CheckDevices,
    /// Tell why these stages don't run ([`News::Why`]; those that it doesn't know are left out).
    Why { fingerprints: Vec<String> },
}
