//! What every child of the scheduler is born with, whatever program it is: its own process group, its
//! log, environment, cores, no descriptor of ours, and death with its scheduler.

use super::{Order, StartError};
use crate::schedule::device::Slot;
use crate::worker::program::start::Start;
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::process::Command;

/// `command`, ready to be started for `order` by [`process::start`](super::process::start) as a process that calls itself
/// `name`: stdout and stderr go to the order's log, stdin is empty, and the environment is that of the order's slot
/// ([`set_environment`]).
pub fn surround(command: &mut Command, name: &OsStr, order: &Order) -> Result<Start, StartError> {
    // Append mode: whoever truncates the log (its cap) moves the worker's writes along.
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&order.log)
        .map_err(|source| StartError::Log {
            path: order.log.display().to_string(),
            source,
        })?;
    set_environment(command, &order.slot);
    Start::named(command, name, log, &order.slot.cores).map_err(|source| StartError::Spawn {
        program: command.get_program().display().to_string(),
        source,
    })
}

/// Threads, memory and GPUs of `slot`, as environment variables.
///
/// A GPU is pinned by the name that the driver gave it for good (its UUID), never by a number that
/// depends on who counts. On the CPU nothing is hidden: a program that looks for GPUs there was meant
/// to be run on the CPU and is told so by `ABLATE_DEVICE`.
pub fn set_environment(command: &mut Command, slot: &Slot) {
    let threads = slot.threads.to_string();
    for name in [
        "RAYON_NUM_THREADS",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
    ] {
        command.env(name, &threads);
    }
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
    if let Some(gpus) = &slot.visible_gpu {
        command
            .env("CUDA_VISIBLE_DEVICES", gpus)
            .env("CUDA_DEVICE_ORDER", "PCI_BUS_ID");
    }
    command.env("ABLATE_DEVICE", &slot.device);
}
