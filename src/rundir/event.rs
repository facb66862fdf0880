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
        #[serde(with = "float")]
        loss: f64,
        #[serde(with = "float")]
        lr: f64,
        #[serde(with = "float")]
        grad_norm: f64,
        #[serde(with = "float")]
        images_per_second: f64,
    },
    /// An epoch has ended; `epoch` counts from 0.
    Epoch {
        epoch: u32,
        step: u64,
        #[serde(with = "float")]
        train_loss: f64,
        #[serde(with = "float")]
        lr: f64,
        #[serde(with = "float")]
        seconds: f64,
    },
    /// An evaluation. Metric names: `top1`, `top5` (per cent), `loss`; `top1` alone where images have
    /// several labels.
    Evaluated {
        epoch: u32,
        step: u64,
        /// Evaluation set: `val`, or one that the recipe names.
        set: String,
        resolution: u32,
        #[serde(with = "float_map")]
        metrics: BTreeMap<String, f64>,
        /// Whether these are the final weights. There is one such event per test resolution and set that
        /// the recipe lists, and then the headline's, which is the stage's result.
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
    /// The attempt does something otherwise than its stage is configured, as the experiment allows.
    Deviated {
        /// The configuration's path (`train.accumulation`).
        what: String,
        planned: String,
        actual: String,
    },
    Finished {
        step: u64,
    },
    Failed {
        class: FailureClass,
        message: String,
    },
}

/// Begins the message of an `out_of_memory` of the machine.
pub const HOST_MEMORY_FULL: &str = "the machine's memory is full";

/// Begins the message of an `out_of_memory` of a GPU (`cuda:0`).
pub fn device_memory_full(device: &str) -> String {
    format!("{DEVICE_MEMORY}{device} is full")
}

const DEVICE_MEMORY: &str = "the memory of ";

/// Whose memory was full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// The machine's.
    Host,
    /// A GPU's.
    Device,
}

/// Why an attempt failed. Each class has one policy (`schedule::policy`), `out_of_memory` one for each [`Memory`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The stage can't be run as it is configured.
    Config,
    Data,
    /// Of a GPU or of the machine; the message begins with which ([`FailureClass::memory`]).
    OutOfMemory,
    /// The loss is not finite.
    Diverged,
    DeviceLost,
    /// Ended by a signal from outside.
    Killed,
    /// Took longer than allowed.
    Timeout,
    /// Neither a sign of life nor CPU time for too long.
    Hung,
    /// Exit code 0 without the promised result.
    Incomplete,
    DiskFull,
    /// Reading or writing failed, or bytes could not be brought to the disk.
    IoError,
    /// A fault of the program itself.
    Bug,
}

impl FailureClass {
    pub const ALL: [FailureClass; 12] = [
        FailureClass::Config,
        FailureClass::Data,
        FailureClass::OutOfMemory,
        FailureClass::Diverged,
        FailureClass::DeviceLost,
        FailureClass::Killed,
        FailureClass::Timeout,
        FailureClass::Hung,
        FailureClass::Incomplete,
        FailureClass::DiskFull,
        FailureClass::IoError,
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
            FailureClass::Hung => "hung",
            FailureClass::Incomplete => "incomplete",
            FailureClass::DiskFull => "disk_full",
            FailureClass::IoError => "io_error",
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
            FailureClass::Hung => 78,
            FailureClass::Incomplete => 79,
            FailureClass::DiskFull => 80,
            FailureClass::IoError => 81,
            FailureClass::Bug => 77,
        }
    }

    /// Of an `out_of_memory` with this message: whose memory was full, if the message begins with it.
    pub fn memory(self, message: &str) -> Option<Memory> {
        if self != FailureClass::OutOfMemory {
            None
        } else if message.starts_with(HOST_MEMORY_FULL) {
            Some(Memory::Host)
        } else {
            message.starts_with(DEVICE_MEMORY).then_some(Memory::Device)
        }
    }

    /// The class of a worker's exit code.
    pub fn from_exit_code(code: i32) -> Option<FailureClass> {
        FailureClass::ALL
            .into_iter()
            .find(|class| class.exit_code() == code)
    }
}

/// Numbers that JSON can't hold: `"nan"`, `"inf"` and `"-inf"` stand for them.
mod float {
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        if value.is_finite() {
            serializer.serialize_f64(*value)
        } else if value.is_nan() {
            serializer.serialize_str("nan")
        } else if *value > 0.0 {
            serializer.serialize_str("inf")
        } else {
            serializer.serialize_str("-inf")
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        deserializer.deserialize_any(Float)
    }

    struct Float;

    impl Visitor<'_> for Float {
        type Value = f64;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a number, \"nan\", \"inf\" or \"-inf\"")
        }

        fn visit_f64<E: Error>(self, value: f64) -> Result<f64, E> {
            Ok(value)
        }

        fn visit_i64<E: Error>(self, value: i64) -> Result<f64, E> {
            Ok(value as f64)
        }

        fn visit_u64<E: Error>(self, value: u64) -> Result<f64, E> {
            Ok(value as f64)
        }

        fn visit_str<E: Error>(self, value: &str) -> Result<f64, E> {
            match value {
                "nan" => Ok(f64::NAN),
                "inf" => Ok(f64::INFINITY),
                "-inf" => Ok(f64::NEG_INFINITY),
                _ => Err(E::invalid_value(serde::de::Unexpected::Str(value), &self)),
            }
        }
    }
}

/// [`float`] for the values of a map.
mod float_map {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::collections::BTreeMap;

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Float(#[serde(with = "super::float")] f64);

    pub fn serialize<S: Serializer>(
        map: &BTreeMap<String, f64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(map.iter().map(|(name, &value)| (name, Float(value))))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, f64>, D::Error> {
        let map = BTreeMap::<String, Float>::deserialize(deserializer)?;
        Ok(map
            .into_iter()
            .map(|(name, value)| (name, value.0))
            .collect())
    }
}
