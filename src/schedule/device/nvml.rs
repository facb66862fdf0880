//! GPUs through NVML, the management library that comes with the NVIDIA driver.
//!
//! It is loaded while the program runs (`libnvidia-ml.so.1`), so nothing is needed to build or start the
//! program where there is none. Source: NVML API Reference Guide, NVIDIA.

use super::gpus::{
    Driver, Gpu, GpuError, GpuFault, GpuProcess, GpuState, Gpus, OnFault, xid_fault,
};
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::event::EventSet;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::{Device, cuda_driver_version_major, cuda_driver_version_minor};
use std::sync::OnceLock;
use std::time::Duration;

/// The loaded library. There is one in a process, and it stays until the process ends.
pub struct Nvml {
    library: &'static nvml_wrapper::Nvml,
}

impl Nvml {
    /// Loads the library and asks the driver to answer; why not, otherwise.
    pub fn open() -> Result<Nvml, String> {
        static LIBRARY: OnceLock<Result<nvml_wrapper::Nvml, String>> = OnceLock::new();
        match LIBRARY.get_or_init(|| nvml_wrapper::Nvml::init().map_err(|error| absence(&error))) {
            Ok(library) => Ok(Nvml { library }),
            Err(why) => Err(why.clone()),
        }
    }

    fn device(&self, uuid: &str) -> Result<Device<'static>, GpuError> {
        self.library
            .device_by_uuid(uuid)
            .map_err(|error| match error {
                NvmlError::NotFound | NvmlError::InvalidArg => GpuError::Unknown(uuid.to_owned()),
                error => wrong(uuid, &error),
            })
    }

    /// The instances of a divided GPU.
    fn instances(&self, gpu: &Gpu, device: &Device<'static>) -> Vec<Gpu> {
        let most = device.mig_device_count().unwrap_or(0);
        (0..most)
            .filter_map(|place| device.mig_device_by_index(place).ok())
            .filter_map(|instance| {
                Some(Gpu {
                    uuid: instance.uuid().ok()?,
                    name: instance.name().unwrap_or_else(|_| gpu.name.clone()),
                    memory: instance.memory_info().map_or(0, |memory| memory.total),
                    parent: Some(gpu.uuid.clone()),
                    divided: false,
                    ..gpu.clone()
                })
            })
            .collect()
    }
}

/// Why there is no NVML.
fn absence(error: &NvmlError) -> String {
    match error {
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => {
            "no NVIDIA driver (libnvidia-ml.so.1 is not installed)".to_owned()
        }
        NvmlError::DriverNotLoaded => "the NVIDIA driver is not loaded".to_owned(),
        error => format!("the NVIDIA driver doesn't answer: {error}"),
    }
}

fn wrong(uuid: &str, error: &NvmlError) -> GpuError {
    match error {
        NvmlError::GpuLost | NvmlError::ResetRequired | NvmlError::IrqIssue => {
            GpuError::Lost(error.to_string())
        }
        error => GpuError::Driver(format!("the driver doesn't tell of {uuid}: {error}")),
    }
}

impl Gpus for Nvml {
    fn driver(&self) -> Driver {
        Driver {
            version: self
                .library
                .sys_driver_version()
                .unwrap_or_else(|_| "unknown".to_owned()),
            cuda: self.library.sys_cuda_driver_version().ok().map(|version| {
                format!(
                    "{}.{}",
                    cuda_driver_version_major(version),
                    cuda_driver_version_minor(version)
                )
            }),
        }
    }

    fn list(&self) -> Result<Vec<Gpu>, GpuError> {
        let count = self
            .library
            .device_count()
            .map_err(|error| GpuError::Driver(format!("the driver counts no GPUs: {error}")))?;
        let mut gpus = Vec::new();
        for index in 0..count {
            // One that can't even say its name is lost, or not for us (a container shows a part).
            let Ok(device) = self.library.device_by_index(index) else {
                continue;
            };
            let Ok(uuid) = device.uuid() else {
                continue;
            };
            let mut gpu = Gpu {
                uuid,
                name: device.name().unwrap_or_else(|_| "unknown".to_owned()),
                index,
                pci: device.pci_info().ok().map(|pci| pci.bus_id),
                memory: device.memory_info().map_or(0, |memory| memory.total),
                parent: None,
                divided: false,
            };
            let instances = self.instances(&gpu, &device);
            gpu.divided = !instances.is_empty();
            gpus.push(gpu);
            gpus.extend(instances);
        }
        Ok(gpus)
    }

    fn state(&self, uuid: &str) -> Result<GpuState, GpuError> {
        let device = self.device(uuid)?;
        let memory = device.memory_info().map_err(|error| wrong(uuid, &error))?;
        let process = |graphics| {
            move |process: ProcessInfo| GpuProcess {
                pid: process.pid,
                memory: match process.used_gpu_memory {
                    UsedGpuMemory::Used(bytes) => Some(bytes),
                    UsedGpuMemory::Unavailable => None,
                },
                graphics,
            }
        };
        // Old drivers don't list processes; their memory still shows.
        let computing = device.running_compute_processes().unwrap_or_default();
        let drawing = device.running_graphics_processes().unwrap_or_default();
        let mut processes: Vec<GpuProcess> = computing.into_iter().map(process(false)).collect();
        for other in drawing.into_iter().map(process(true)) {
            if !processes.iter().any(|process| process.pid == other.pid) {
                processes.push(other);
            }
        }
        Ok(GpuState {
            used: memory.used,
            free: memory.free,
            processes,
        })
    }

    fn check(&self, uuid: &str) -> Result<(), GpuError> {
        let device = self.device(uuid)?;
        device.memory_info().map_err(|error| wrong(uuid, &error))?;
        device.pci_info().map_err(|error| wrong(uuid, &error))?;
        // Where that isn't supported there is nothing to retire.
        if device.are_pages_pending_retired().unwrap_or(false) {
            return Err(GpuError::Lost(
                "pages of its memory wait to be retired: reset it".to_owned(),
            ));
        }
        Ok(())
    }

    fn energy(&self, uuid: &str) -> Option<f64> {
        // Millijoules; GPUs before Volta don't count.
        let count = self.device(uuid).ok()?.total_energy_consumption().ok()?;
        Some(count as f64 * 1e-3)
    }

    fn busy(&self, uuid: &str) -> Option<f64> {
        // Per cent of the last sixth of a second to second.
        let rates = self.device(uuid).ok()?.utilization_rates().ok()?;
        Some(f64::from(rates.gpu) * 1e-2)
    }

    fn watch(&self, uuids: &[String], tell: OnFault) {
        let library = self.library;
        let uuids = uuids.to_vec();
        // The driver is waited for, so a thread does it. Without one there is nothing to be heard, and a
        // lost GPU is noticed by what happens to its workers.
        let _ = std::thread::Builder::new()
            .name("gpu-faults".into())
            .stack_size(256 * 1024)
            .spawn(move || wait_for_faults(library, &uuids, &tell));
    }
}

/// Longest wait for an event: the driver interrupts it for nothing else.
const WAIT_MS: u32 = 3_600_000;

fn wait_for_faults(library: &'static nvml_wrapper::Nvml, uuids: &[String], tell: &OnFault) {
    let Some(set) = register(library, uuids) else {
        return;
    };
    let mut lost = Vec::new();
    loop {
        match set.wait(WAIT_MS) {
            Ok(event) => {
                let what = match event.event_data {
                    Some(XidError::Value(xid)) => xid_fault(xid),
                    Some(XidError::Unknown) => Some("an unknown error".to_owned()),
                    None => Some("an uncorrectable memory error".to_owned()),
                };
                if let (Some(what), Ok(uuid)) = (what, event.device.uuid()) {
                    for uuid in affected(library, uuids, &uuid) {
                        tell(GpuFault {
                            uuid,
                            what: what.clone(),
                        });
                    }
                }
            }
            Err(NvmlError::Timeout) => {}
            Err(NvmlError::GpuLost) => {
                for uuid in uuids {
                    let gone = library
                        .device_by_uuid(uuid.as_str())
                        .and_then(|device| device.memory_info())
                        .is_err();
                    if gone && !lost.contains(uuid) {
                        lost.push(uuid.clone());
                        tell(GpuFault {
                            uuid: uuid.clone(),
                            what: NvmlError::GpuLost.to_string(),
                        });
                    }
                }
                // It says so again at once from now on.
                std::thread::sleep(Duration::from_secs(10));
            }
            // It may answer again; until then a lost GPU is noticed by what happens to its workers.
            Err(_) => std::thread::sleep(Duration::from_secs(60)),
        }
    }
}

/// Asks for the events of these GPUs; those that have none (some consumer models) are left out. Instances are
/// watched through their GPU.
fn register(library: &'static nvml_wrapper::Nvml, uuids: &[String]) -> Option<EventSet<'static>> {
    let mut devices: Vec<Device<'static>> = uuids
        .iter()
        .filter_map(|uuid| library.device_by_uuid(uuid.as_str()).ok())
        .map(|device| device.mig_parent_device().unwrap_or(device))
        .collect();
    loop {
        // A set that a device can't be added to is gone: begin anew without that device.
        let mut set = Some(library.create_event_set().ok()?);
        let refused = devices.iter().position(|device| {
            let events = EventTypes::CRITICAL_XID_ERROR;
            set = set
                .take()
                .and_then(|set| device.register_events(events, set).ok());
            set.is_none()
        });
        match refused {
            Some(device) => drop(devices.remove(device)),
            None => return set,
        }
    }
}

/// Those of `uuids` that are the GPU `uuid` or a part of it.
fn affected(library: &nvml_wrapper::Nvml, uuids: &[String], uuid: &str) -> Vec<String> {
    uuids
        .iter()
        .filter(|own| {
            let parent = || {
                let device = library.device_by_uuid(own.as_str()).ok()?;
                device.mig_parent_device().ok()?.uuid().ok()
            };
            own.as_str() == uuid || parent().as_deref() == Some(uuid)
        })
        .cloned()
        .collect()
}
