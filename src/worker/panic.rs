//! What a panic of the trainer means. Tensor libraries report a device that is full or gone by panicking:
//! their words are all there is.

use crate::rundir::event::{FailureClass, HOST_MEMORY_FULL, device_memory_full};

/// Words of a GPU that is out of memory: CUDA's and HIP's error codes, cubecl's errors.
const FULL: &[&str] = &[
    "OUT_OF_MEMORY",
    "OutOfMemory",
    "out of memory",
    "BufferTooBig",
];

/// Words of a GPU that is gone or can't be trusted any more (`cuda.h`, CUresult).
const GONE: &[&str] = &[
    "CUDA_ERROR_DEVICE_UNAVAILABLE",
    "CUDA_ERROR_ECC_UNCORRECTABLE",
    "CUDA_ERROR_HARDWARE_STACK_ERROR",
    "CUDA_ERROR_CONTEXT_IS_DESTROYED",
    "CUDA_ERROR_NVLINK_UNCORRECTABLE",
    "CUDA_ERROR_SYSTEM_NOT_READY",
    "CUDA_ERROR_NO_DEVICE",
    "CUDA_ERROR_UNKNOWN",
    "device lost",
    "DeviceLost",
    "GPU is lost",
];

/// Class and message of a panic with this text on this device.
pub fn judge_panic(text: &str, device: &str) -> (FailureClass, String) {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let on_gpu = device != "cpu";
    if says(FULL) {
        let memory = if on_gpu {
            device_memory_full(device)
        } else {
            HOST_MEMORY_FULL.to_owned()
        };
        return (FailureClass::OutOfMemory, format!("{memory}: {text}"));
    }
    if on_gpu && says(GONE) {
        let message = format!("{device} stopped working: {text}");
        return (FailureClass::DeviceLost, message);
    }
    (FailureClass::Bug, format!("the trainer panicked: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_gpu_and_machine_are_told_apart() {
        let (class, message) = judge_panic(
            "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")",
            "cuda:0",
        );
        assert_eq!(class, FailureClass::OutOfMemory);
        assert!(
            message.starts_with("the memory of cuda:0 is full: "),
            "{message}"
        );
        let (class, message) = judge_panic("an allocation of 9 bytes failed: out of memory", "cpu");
        assert_eq!(class, FailureClass::OutOfMemory);
        assert!(
            message.starts_with("the machine's memory is full: "),
            "{message}"
        );
    }

    #[test]
    fn a_lost_device_is_no_bug() {
        let text =
            "DriverError(CUDA_ERROR_ECC_UNCORRECTABLE, \"uncorrectable ECC error encountered\")";
        assert_eq!(judge_panic(text, "cuda:0").0, FailureClass::DeviceLost);
        assert_eq!(
            judge_panic("index out of bounds", "cuda:0").0,
            FailureClass::Bug
        );
        assert_eq!(judge_panic(text, "cpu").0, FailureClass::Bug);
    }
}
