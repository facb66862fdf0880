//! GPUs as the driver shows them: what any source of that knowledge answers.
//!
//! There are two: the driver's management library ([`nvml`](super::nvml)) and a recording of its answers
//! ([`recording`](super::recording)) that tests play.

use super::{nvml::Nvml, recording::Recording};
use serde::Serialize;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

/// Names the file of a [`Recording`] that takes the place of the driver. For tests.
pub const RECORDING: &str = "ABLATE_NVML_RECORDING";

/// A GPU, or an instance of one that was divided (MIG).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gpu {
    /// Its name for good: `GPU-…`, of an instance `MIG-…`.
    pub uuid: String,
    /// The model.
    pub name: String,
    /// Position among the machine's GPUs in the order of their PCI addresses, as `nvidia-smi` counts; an
    /// instance has that of its GPU.
    pub index: u32,
    /// PCI address.
    pub pci: Option<String>,
    /// Memory in bytes.
    pub memory: u64,
    /// The GPU that an instance is a part of.
    pub parent: Option<String>,
    /// Divided into instances: not usable as a whole.
    pub divided: bool,
}

/// What a GPU is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GpuState {
    /// Bytes.
    pub used: u64,
    /// Bytes that a new process could take.
    pub free: u64,
    /// Processes that compute on it, and those that draw.
    pub processes: Vec<GpuProcess>,
}

/// A process on a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GpuProcess {
    /// In the driver's eyes; inside a container it may be a number that means nothing there.
    pub pid: u32,
    /// Bytes, where the driver tells.
    pub memory: Option<u64>,
    /// Draws (a desktop) rather than computes.
    pub graphics: bool,
}

/// Versions of the driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Driver {
    pub version: String,
    /// The CUDA version that it supports.
    pub cuda: Option<String>,
}

/// Why a GPU doesn't answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// The hardware, or the driver's hold on it, is gone.
    #[error("{0}")]
    Lost(String),
    #[error("no GPU {0} in this machine")]
    Unknown(String),
    #[error("{0}")]
    Driver(String),
}

/// Something that went wrong with a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuFault {
    pub uuid: String,
    /// What the user is told.
    pub what: String,
}

/// Takes faults, from any thread.
pub type OnFault = Box<dyn Fn(GpuFault) + Send>;

/// A source of knowledge about the machine's GPUs.
pub trait Gpus: Send + Sync {
    fn driver(&self) -> Driver;

    /// All GPUs and their instances, by index.
    fn list(&self) -> Result<Vec<Gpu>, GpuError>;

    /// What the GPU of that UUID is doing.
    fn state(&self, uuid: &str) -> Result<GpuState, GpuError>;

    /// Whether the GPU can be trusted: it answers, and waits neither for a reset nor for memory to be
    /// retired. An error says what is wrong.
    fn check(&self, uuid: &str) -> Result<(), GpuError>;

    /// Joules that the GPU has used since its driver was loaded, where it counts them. An instance of a
    /// divided GPU has no counter of its own.
    fn energy(&self, uuid: &str) -> Option<f64> {
        let _ = uuid;
        None
    }

    /// Share of the last moments in which the GPU computed anything, 0 to 1, where it says so (an instance of a divided
    /// GPU doesn't).
    fn busy(&self, uuid: &str) -> Option<f64> {
        let _ = uuid;
        None
    }

    /// From now on tells of faults of these GPUs, until the process ends. Blocks nobody; a source that
    /// can't tell tells nothing.
    fn watch(&self, uuids: &[String], tell: OnFault);

    /// The device that workers really compute on where there are no GPUs behind this.
    fn stand_in(&self) -> Option<String> {
        None
    }
}

/// What was found.
pub enum Found {
    Gpus(Arc<dyn Gpus>),
    /// No GPUs, and why: no error, most machines have none.
    Nothing(String),
}

impl Found {
    /// The source, if there is one.
    pub fn source(&self) -> Option<&Arc<dyn Gpus>> {
        match self {
            Found::Gpus(gpus) => Some(gpus),
            Found::Nothing(_) => None,
        }
    }
}

/// Looks for the driver. Starts nothing on any GPU. An error is only a recording that can't be read.
pub fn find() -> Result<Found, GpuError> {
    find_with(std::env::var_os(RECORDING))
}

fn find_with(recording: Option<OsString>) -> Result<Found, GpuError> {
    if let Some(path) = recording {
        return Ok(Found::Gpus(Arc::new(Recording::open(Path::new(&path))?)));
    }
    Ok(match Nvml::open() {
        Ok(nvml) => Found::Gpus(Arc::new(nvml)),
        Err(why) => Found::Nothing(why),
    })
}

/// XIDs (error numbers of the NVIDIA driver) that speak of the program, or of what is mended already, and
/// not of the hardware: 13 and 31 faults of a kernel, 43 and 45 ended contexts, 63 a row of memory that will
/// be remapped, 68 a video processor, 92 single bits that were corrected, 109 a context switch that took
/// too long. After any other the GPU isn't to be trusted.
const HARMLESS_XIDS: [u64; 8] = [13, 31, 43, 45, 63, 68, 92, 109];

/// What an XID means, if it means that the GPU is lost.
pub fn xid_fault(xid: u64) -> Option<String> {
    if HARMLESS_XIDS.contains(&xid) {
        return None;
    }
    let what = match xid {
        48 => "an uncorrectable memory error",
        62 | 119 | 120 => "its controller has stopped answering",
        64 => "a row of memory could not be remapped",
        74 => "an error of NVLink",
        79 => "it has fallen off the bus",
        94 | 95 => "a memory error",
        _ => "an error of the hardware or the driver",
    };
    Some(format!("XID {xid}: {what}"))
}

/// `12.3 GiB`.
pub fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_programs_are_not_those_of_gpus() {
        for xid in HARMLESS_XIDS {
            assert_eq!(xid_fault(xid), None);
        }
        assert_eq!(xid_fault(79).unwrap(), "XID 79: it has fallen off the bus");
        assert!(xid_fault(12_345).unwrap().starts_with("XID 12345: "));
    }

    #[test]
    fn a_recording_must_be_readable_and_no_driver_is_no_error() {
        assert!(matches!(
            find_with(Some("/nonexistent/recording.json".into())),
            Err(GpuError::Driver(text)) if text.contains("/nonexistent/recording.json")
        ));
        assert!(find_with(None).is_ok());
    }
}
