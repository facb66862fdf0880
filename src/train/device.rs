//! Devices that this program was built for and that this machine has.

use super::TrainError;
use burn::tensor::Device;

/// The device of a launch: `cpu` or `cuda:N`.
pub fn open(name: &str) -> Result<Device, TrainError> {
    if name == "cpu" {
        return Ok(Device::flex());
    }
    let index = name
        .strip_prefix("cuda:")
        .and_then(|index| index.parse::<usize>().ok());
    match index {
        Some(index) if index < cuda_device_count() => Ok(cuda(index)),
        Some(_) => Err(TrainError::Config(format!(
            "device `{name}` is not there: {} CUDA devices were found{}",
            cuda_device_count(),
            if cfg!(feature = "cuda") {
                ""
            } else {
                " (this program was built without `cuda`)"
            },
        ))),
        None => Err(TrainError::Config(format!(
            "unknown device `{name}`; valid: cpu, cuda:N"
        ))),
    }
}

/// Number of CUDA devices; 0 without the feature `cuda` or without a driver. Asking starts nothing.
pub fn cuda_device_count() -> usize {
    #[cfg(feature = "cuda")]
    {
        Device::enumerate(burn::tensor::DeviceType::Cuda)
            .into_vec()
            .len()
    }
    #[cfg(not(feature = "cuda"))]
    {
        0
    }
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Device {
    Device::cuda(index)
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize) -> Device {
    unreachable!("there are no CUDA devices without the feature")
}
