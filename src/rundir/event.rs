//! Events: what a worker says about its stage.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the event format.
pub const EVENT_VERSION: u32 = 1;

/// One line of `events.jsonl`. On disk a line is the JSON of the event, a tab, and the CRC-32 of
/// the JSON's bytes in eight hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub v: u32,
    /// Counts up by one from 1 over the whole file, over attempts too.
    pub seq: u64,
    /// Unix time in seconds; a label, never used for durations.
    pub time: f64,
    pub attempt: u32,
    #[serde(flatten)]
    pub kind: EventKind,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventKind {
    Started {
        host: String,
        pid: u32,
        device: String,
        program: String,
        /// Optimizer steps already done (from the checkpoint that was resumed).
        resumed_step: u64,
        /// Optimizer steps of the whole stage.
        total_steps: u64,
    },
    /// Progress inside an epoch.
    Step {
        step: u64,
        epoch: u32,
        loss: f64,
        lr: f64,
        grad_norm: f64,
        images_per_second: f64,
    },
    /// An epoch has ended; `epoch` counts from 0.
    Epoch {
        epoch: u32,
        step: u64,
        train_loss: f64,
        lr: f64,
        seconds: f64,
    },
    /// An evaluation. Metric names: `top1`, `top5` (per cent), `loss`.
    Evaluated {
        epoch: u32,
        step: u64,
        /// Evaluation set (`val`).
        set: String,
        resolution: u32,
        metrics: BTreeMap<String, f64>,
        /// The stage's last evaluation: its result.
        last: bool,
    },
    Checkpointed {
        step: u64,
        file: String,
    },
    Resources {
        peak_rss_bytes: u64,
        cpu_seconds: f64,
        wall_seconds: f64,
        images: u64,
    },
    Warning {
        message: String,
    },
    Finished {
        step: u64,
    },
    Failed {
        class: FailureClass,
        message: String,
    },
}

/// Why an attempt failed. Each class has one policy (`schedule::policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    Config,
    Data,
    OutOfMemory,
    /// The loss is not finite.
    Diverged,
    DeviceLost,
    Killed,
    Timeout,
    Bug,
}

impl FailureClass {
    pub const ALL: [FailureClass; 8] = [
        FailureClass::Config,
        FailureClass::Data,
        FailureClass::OutOfMemory,
        FailureClass::Diverged,
        FailureClass::DeviceLost,
        FailureClass::Killed,
        FailureClass::Timeout,
        FailureClass::Bug,
    ];

    /// The name in logs, the store and messages.
    pub fn name(self) -> &'static str {
        match self {
            FailureClass::Config => "config",
            FailureClass::Data => "data",
            FailureClass::OutOfMemory => "out_of_memory",
            FailureClass::Diverged => "diverged",
            FailureClass::DeviceLost => "device_lost",
            FailureClass::Killed => "killed",
            FailureClass::Timeout => "timeout",
            FailureClass::Bug => "bug",
        }
    }

    /// The worker's exit code for this class.
    pub fn exit_code(self) -> i32 {
        match self {
            FailureClass::Config => 70,
            FailureClass::Data => 71,
            FailureClass::OutOfMemory => 72,
            FailureClass::Diverged => 73,
            FailureClass::DeviceLost => 74,
            FailureClass::Killed => 75,
            FailureClass::Timeout => 76,
            FailureClass::Bug => 77,
        }
    }

    /// The class of a worker's exit code.
    pub fn from_exit_code(code: i32) -> Option<FailureClass> {
        FailureClass::ALL.into_iter().find(|class| class.exit_code() == code)
    }
}
