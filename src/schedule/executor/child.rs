//! What every child of the scheduler is born with, whatever program it is: its own process group, its
//! log, environment, cores, no descriptor of ours, and death with its scheduler.

use super::{Order, StartError};
use crate::schedule::device::Slot;
use crate::worker::stop;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Prepares `command` for `order`: stdout and stderr go to the order's log, stdin is empty, and the
/// environment is that of the order's slot ([`set_environment`]). Start it with
/// [`process::start`](super::process::start): the death signal is tied to the thread that starts it.
pub fn surround(command: &mut Command, order: &Order) -> Result<(), StartError> {
    let log_error = |source| StartError::Log {
        path: order.log.display().to_string(),
        source,
    };
    // Append mode: whoever truncates the log (its cap) moves the worker's writes along.
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&order.log)
        .map_err(log_error)?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(log_error)?)
        .stderr(log)
        .process_group(0);
    set_environment(command, &order.slot);
    let mask = affinity_mask(&order.slot.cores);
    let scheduler = std::process::id();
    let standstill = stop::standstill_signal();
    // SAFETY: between fork and exec only system calls are made; nothing is allocated or locked.
    unsafe {
        command.pre_exec(move || {
            die_with_parent(scheduler)?;
            // Until it listens: the signal would end it.
            libc::signal(standstill, libc::SIG_IGN);
            close_descriptors_on_exec();
            bind_to_cores(&mask);
            Ok(())
        });
    }
    Ok(())
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

/// Asks the kernel to kill this process when the thread that started it ends.
fn die_with_parent(parent: u32) -> io::Result<()> {
    // SAFETY: system calls without memory.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
            return Err(io::Error::last_os_error());
        }
        // It may have died before that: then nobody will ever send the signal.
        if libc::getppid() as u32 != parent {
            libc::_exit(libc::EXIT_FAILURE);
        }
    }
    Ok(())
}

/// No descriptor of the scheduler (the store, its lock, other logs) reaches a worker.
fn close_descriptors_on_exec() {
    // SAFETY: a system call without memory. A kernel that doesn't know it (before 5.11) changes
    // nothing: all that Rust opens is closed on exec anyhow.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
}

/// The mask of `cores` for the kernel; empty for none.
fn affinity_mask(cores: &[usize]) -> Vec<u64> {
    let mut mask = vec![0u64; cores.iter().max().map_or(0, |largest| largest / 64 + 1)];
    for core in cores {
        mask[core / 64] |= 1 << (core % 64);
    }
    mask
}

/// Binds this process to a mask of cores. Only speed depends on it: failing is no error.
fn bind_to_cores(mask: &[u64]) {
    if !mask.is_empty() {
        // SAFETY: the mask is readable and its length in bytes is given.
        unsafe {
            libc::sched_setaffinity(
                0,
                size_of_val(mask),
                mask.as_ptr().cast::<libc::cpu_set_t>(),
            )
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        assert!(affinity_mask(&[]).is_empty());
        assert_eq!(affinity_mask(&[0, 65]), [1, 2]);
    }
}
