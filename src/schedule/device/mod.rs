//! What workers may run on: GPUs, or shares of the CPU.

use std::num::NonZeroUsize;

/// Which kind of device the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum DeviceChoice {
    /// GPUs when there are any, else the CPU.
    #[default]
    Auto,
    Cpu,
    Cuda,
}

/// A place for one worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// What the user sees: `cpu:3`, `cuda:1`.
    pub name: String,
    /// What the worker is told (`launch.json`): `cpu` or, for the one GPU that it sees, `cuda:0`.
    pub device: String,
    /// Compute threads.
    pub threads: usize,
    /// Threads that prepare batches; 0: the compute thread does it.
    pub loader_threads: usize,
    /// Cores that the worker is bound to; empty: the operating system decides.
    pub cores: Vec<usize>,
    /// Value of `CUDA_VISIBLE_DEVICES`.
    pub visible_gpu: Option<String>,
}

impl Slot {
    /// Whether it is a GPU.
    pub fn is_gpu(&self) -> bool {
        self.visible_gpu.is_some()
    }
}

/// What the machine has, as far as this process may use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Cores that may be used at once (the control group's share of the CPU counts).
    pub parallelism: usize,
    /// Cores that this process is bound to, ascending.
    pub cores: Vec<usize>,
    /// What each GPU is called in `CUDA_VISIBLE_DEVICES`.
    pub gpus: Vec<String>,
}

impl Machine {
    /// Looks. `gpu_count` is what the CUDA driver counts (0 without a driver); it respects the
    /// `CUDA_VISIBLE_DEVICES` that the user has set.
    pub fn discover(gpu_count: usize) -> Machine {
        let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
        Machine {
            parallelism: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            cores: allowed_cores(),
            gpus: gpu_names(gpu_count, visible.as_deref()),
        }
    }
}

/// What the user asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlotRequest {
    pub device: DeviceChoice,
    /// Number of workers at once.
    pub slots: Option<NonZeroUsize>,
    /// Compute threads of each worker.
    pub threads_per_slot: Option<NonZeroUsize>,
}

/// Why there are no slots.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    #[error(
        "no GPU can be used (--device cuda): the driver shows none, or this program was built without \
         the feature `cuda`; use --device cpu, or build with `--features cuda`"
    )]
    NoGpu,
    #[error("{asked} slots are more than {max} (--slots)")]
    TooMany { asked: usize, max: usize },
}

/// Most workers at once: file descriptors and processes are finite.
const MAX_SLOTS: usize = 4096;

/// The slots of `machine` for `request`.
///
/// On the CPU the default is one slot a core, one thread each: many one-thread workers train far more
/// images a second than one worker with many threads. On GPUs it is one slot a GPU, the cores shared
/// among them.
pub fn slots(machine: &Machine, request: &SlotRequest) -> Result<Vec<Slot>, DeviceError> {
    if let Some(asked) = request
        .slots
        .map(NonZeroUsize::get)
        .filter(|&asked| asked > MAX_SLOTS)
    {
        return Err(DeviceError::TooMany {
            asked,
            max: MAX_SLOTS,
        });
    }
    let on_gpus = match request.device {
        DeviceChoice::Auto => !machine.gpus.is_empty(),
        DeviceChoice::Cpu => false,
        DeviceChoice::Cuda if machine.gpus.is_empty() => return Err(DeviceError::NoGpu),
        DeviceChoice::Cuda => true,
    };
    Ok(if on_gpus {
        gpu_slots(machine, request)
    } else {
        cpu_slots(machine, request)
    })
}

fn cpu_slots(machine: &Machine, request: &SlotRequest) -> Vec<Slot> {
    let threads = request.threads_per_slot.map_or(1, NonZeroUsize::get);
    let count = match request.slots {
        Some(slots) => slots.get(),
        None => (machine.parallelism / threads).max(1),
    };
    // Bound to cores only when the workers fill the machine: two programs that each use a part of it
    // would otherwise bind themselves to the same cores.
    let bind = count.checked_mul(threads) == Some(machine.cores.len());
    (0..count)
        .map(|index| Slot {
            name: format!("cpu:{index}"),
            device: "cpu".into(),
            threads,
            loader_threads: 0,
            cores: if bind {
                machine.cores[index * threads..][..threads].to_vec()
            } else {
                Vec::new()
            },
            visible_gpu: None,
        })
        .collect()
}

fn gpu_slots(machine: &Machine, request: &SlotRequest) -> Vec<Slot> {
    let count = request.slots.map_or(machine.gpus.len(), NonZeroUsize::get);
    let share = (machine.parallelism / count.max(1)).max(1);
    let threads = request.threads_per_slot.map_or(share, NonZeroUsize::get);
    (0..count)
        .map(|index| {
            let gpu = index % machine.gpus.len();
            Slot {
                name: format!("cuda:{gpu}"),
                device: "cuda:0".into(),
                threads,
                // The compute thread feeds the GPU; the others prepare its batches.
                loader_threads: threads.saturating_sub(1).max(1),
                cores: Vec::new(),
                visible_gpu: Some(machine.gpus[gpu].clone()),
            }
        })
        .collect()
}

/// What the driver's `count` GPUs are called, given the user's `CUDA_VISIBLE_DEVICES`.
fn gpu_names(count: usize, visible: Option<&str>) -> Vec<String> {
    let listed: Vec<&str> = match visible {
        Some(list) => list
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .collect(),
        None => Vec::new(),
    };
    (0..count)
        .map(|index| {
            listed
                .get(index)
                .map_or_else(|| index.to_string(), |name| (*name).to_owned())
        })
        .collect()
}

/// Cores that this process may run on, ascending; empty where that can't be asked.
fn allowed_cores() -> Vec<usize> {
    // Up to 65,536 cores; the kernel refuses a mask smaller than its own.
    for words in [16, 128, 1024] {
        let mut mask = vec![0u64; words];
        // SAFETY: the mask is writable and its length in bytes is given.
        let status = unsafe {
            libc::sched_getaffinity(0, words * 8, mask.as_mut_ptr().cast::<libc::cpu_set_t>())
        };
        if status == 0 {
            return (0..words * 64)
                .filter(|&core| mask[core / 64] >> (core % 64) & 1 == 1)
                .collect();
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(cores: usize, gpus: &[&str]) -> Machine {
        Machine {
            parallelism: cores,
            cores: (0..cores).collect(),
            gpus: gpus.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    fn request(device: DeviceChoice, slots: usize, threads: usize) -> SlotRequest {
        SlotRequest {
            device,
            slots: NonZeroUsize::new(slots),
            threads_per_slot: NonZeroUsize::new(threads),
        }
    }

    #[test]
    fn one_core_one_slot() {
        let slots = slots(&machine(4, &[]), &SlotRequest::default()).unwrap();
        assert_eq!(slots.len(), 4);
        assert!(
            slots
                .iter()
                .all(|slot| slot.threads == 1 && slot.loader_threads == 0 && !slot.is_gpu())
        );
        assert_eq!(slots[3].cores, [3]);
        assert_eq!(slots[3].name, "cpu:3");
    }

    #[test]
    fn cores_are_bound_only_when_all_are_used() {
        let four = machine(4, &[]);
        let bound = |count, threads| {
            slots(&four, &request(DeviceChoice::Cpu, count, threads))
                .unwrap()
                .into_iter()
                .map(|slot| slot.cores)
                .collect::<Vec<_>>()
        };
        assert_eq!(bound(2, 2), [vec![0, 1], vec![2, 3]]);
        assert_eq!(bound(1, 1), [Vec::<usize>::new()]);
        assert!(bound(9, 1).iter().all(Vec::is_empty));
        assert!(bound(3, usize::MAX).iter().all(Vec::is_empty));
    }

    #[test]
    fn the_share_of_the_control_group_counts() {
        let mut share = machine(64, &[]);
        share.parallelism = 2;
        let slots = slots(&share, &SlotRequest::default()).unwrap();
        assert_eq!(slots.len(), 2);
        assert!(slots.iter().all(|slot| slot.cores.is_empty()));
    }

    #[test]
    fn gpus_come_first() {
        let two = machine(16, &["0", "1"]);
        let slots_of = |request| slots(&two, &request).unwrap();
        let auto = slots_of(SlotRequest::default());
        assert_eq!(auto.len(), 2);
        assert_eq!(auto[1].visible_gpu.as_deref(), Some("1"));
        assert_eq!(
            (auto[1].device.as_str(), auto[1].name.as_str()),
            ("cuda:0", "cuda:1")
        );
        assert_eq!((auto[1].threads, auto[1].loader_threads), (8, 7));
        assert_eq!(slots_of(request(DeviceChoice::Cpu, 0, 0)).len(), 16);
        let shared = slots_of(request(DeviceChoice::Cuda, 4, 1));
        assert_eq!(shared[2].visible_gpu.as_deref(), Some("0"));
    }

    #[test]
    fn a_missing_gpu_is_said() {
        let none = machine(2, &[]);
        assert_eq!(
            slots(&none, &request(DeviceChoice::Cuda, 0, 0)),
            Err(DeviceError::NoGpu)
        );
        assert!(matches!(
            slots(&none, &request(DeviceChoice::Cpu, 1_000_000, 0)),
            Err(DeviceError::TooMany { .. })
        ));
    }

    #[test]
    fn the_users_choice_of_gpus_is_kept() {
        assert_eq!(gpu_names(2, Some("3, GPU-5a,7")), ["3", "GPU-5a"]);
        assert_eq!(gpu_names(2, None), ["0", "1"]);
        assert!(gpu_names(0, Some("3")).is_empty());
    }

    #[test]
    fn this_machine_has_cores() {
        let here = Machine::discover(0);
        assert!(here.parallelism >= 1);
        assert!(!here.cores.is_empty());
    }
}
