//! Texts by which programs of any kind say that a machine, and not they, is at fault.

use crate::rundir::event::{FailureClass, HOST_MEMORY_FULL, device_memory_full};

/// Of the C library, and of what wraps its error numbers.
const DISK: [&str; 4] = [
    "No space left on device",
    "Disk quota exceeded",
    "ENOSPC",
    "EDQUOT",
];

/// Of PyTorch, JAX and the drivers.
const GPU_MEMORY: [&str; 6] = [
    "CUDA out of memory",
    "HIP out of memory",
    "CUDA_ERROR_OUT_OF_MEMORY",
    "cudaErrorMemoryAllocation",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "RESOURCE_EXHAUSTED: Out of memory",
];

/// Of Python, NumPy, PyTorch's loaders, C++, the C library, and Rust.
const HOST_MEMORY: [&str; 6] = [
    "MemoryError",
    "std::bad_alloc",
    "Cannot allocate memory",
    "DefaultCPUAllocator: can't allocate memory",
    "is killed by signal: Killed",
    "memory allocation of",
];

/// What the last lines of a program that failed on its own say of the machine: the class, and how its message begins.
pub fn symptom(last_lines: &str) -> Option<(FailureClass, String)> {
    let says = |texts: &[&str]| texts.iter().any(|text| last_lines.contains(text));
    if says(&DISK) {
        return Some((FailureClass::DiskFull, "the disk is full".to_owned()));
    }
    if says(&GPU_MEMORY) {
        return Some((FailureClass::OutOfMemory, device_memory_full("a GPU")));
    }
    says(&HOST_MEMORY).then(|| (FailureClass::OutOfMemory, HOST_MEMORY_FULL.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as Python, PyTorch, C++ and shells print them.
    #[test]
    fn what_programs_say() {
        let class = |text| symptom(text).map(|(class, message)| (class.name(), message));
        let disk = Some(("disk_full", "the disk is full".to_owned()));
        assert_eq!(
            class("OSError: [Errno 28] No space left on device: 'model.pt'"),
            disk
        );
        assert_eq!(class("OSError: [Errno 122] Disk quota exceeded"), disk);
        let gpu = Some(("out_of_memory", "the memory of a GPU is full".to_owned()));
        assert_eq!(
            class("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."),
            gpu
        );
        let host = Some(("out_of_memory", "the machine's memory is full".to_owned()));
        for text in [
            "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 1.46 TiB",
            "RuntimeError: DataLoader worker (pid 7) is killed by signal: Killed.",
            "terminate called after throwing an instance of 'std::bad_alloc'",
            "fork: Cannot allocate memory",
        ] {
            assert_eq!(class(text), host, "{text}");
        }
        assert_eq!(class("KeyError: 'memory'"), None);
    }
}
