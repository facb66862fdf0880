//! Slots: the places for workers that a machine has.

use super::cpu::Cpu;
use super::gpus::{Driver, Found, Gpu, gib};
use super::visible::visible;
use serde::Serialize;
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slot {
    /// What the user sees: `cpu:3`, `cuda:1`, `cuda:1/0` (share 0 of it).
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
    /// The shares of GPUs that it stands for, where the driver tells of them; one, but for stages that use
    /// several GPUs.
    pub gpus: Vec<GpuShare>,
}

/// A GPU, or a part of its memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GpuShare {
    pub uuid: String,
    /// The model.
    pub model: String,
    /// Version of the driver.
    pub driver: String,
    /// Bytes of memory of the whole.
    pub total: u64,
    /// Which share of how many.
    pub share: usize,
    pub shares: usize,
    /// Bytes that the worker may take, if the user has said so.
    pub memory: Option<u64>,
}

impl Slot {
    /// Whether it is a GPU.
    pub fn is_gpu(&self) -> bool {
        self.visible_gpu.is_some()
    }

    /// Whether others may use a part of its GPU.
    pub fn is_share(&self) -> bool {
        let mut gpus = self.gpus.iter();
        gpus.any(|share| share.shares > 1 || share.memory.is_some())
    }

    /// Whether it is on the same GPU as `other`.
    pub fn shares_device(&self, other: &Slot) -> bool {
        self.is_gpu() && self.visible_gpu == other.visible_gpu
    }

    /// The same for a worker that uses so many threads. It isn't bound to cores that are too few for them.
    pub fn with_threads(self, threads: usize) -> Slot {
        let cores = match self.cores.len() < threads {
            true => Vec::new(),
            false => self.cores,
        };
        Slot {
            threads,
            cores,
            ..self
        }
    }

    /// One slot for a worker that uses all of `slots` at once. Panics on none.
    pub fn joined(slots: &[&Slot]) -> Slot {
        let first = slots[0];
        let join = |separator: &str, text: fn(&Slot) -> Option<&str>| {
            let texts: Vec<&str> = slots.iter().filter_map(|slot| text(slot)).collect();
            texts.join(separator)
        };
        Slot {
            name: join("+", |slot| Some(&slot.name)),
            device: first.device.clone(),
            threads: slots.iter().map(|slot| slot.threads).sum(),
            loader_threads: slots.iter().map(|slot| slot.loader_threads).sum(),
            cores: slots.iter().flat_map(|slot| slot.cores.clone()).collect(),
            visible_gpu: first
                .is_gpu()
                .then(|| join(",", |slot| slot.visible_gpu.as_deref())),
            gpus: slots.iter().flat_map(|slot| slot.gpus.clone()).collect(),
        }
    }
}

/// What the machine has, as far as this process may use it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    pub cpu: Cpu,
    /// GPUs that the user lets us use.
    pub gpus: Vec<Gpu>,
    /// All that there are.
    pub all_gpus: Vec<Gpu>,
    /// Of the GPUs.
    pub driver: Driver,
    /// What workers compute on instead of the GPU that they are given (recordings only).
    pub stand_in: Option<String>,
    /// What is odd about it, for the user.
    pub warnings: Vec<String>,
}

impl Machine {
    /// Looks at the CPU, and through `found` at the GPUs that `CUDA_VISIBLE_DEVICES` leaves. `counted` asks
    /// the CUDA driver how many GPUs it sees, for machines whose driver can't be asked more.
    pub fn discover(found: &Found, counted: impl FnOnce() -> usize) -> Machine {
        let variable = std::env::var("CUDA_VISIBLE_DEVICES").ok();
        let order = std::env::var("CUDA_DEVICE_ORDER").ok();
        let mut machine = Machine {
            cpu: Cpu::discover(),
            ..Machine::default()
        };
        match found.source() {
            Some(source) => {
                machine.driver = source.driver();
                machine.stand_in = source.stand_in();
                match source.list() {
                    Ok(all) => {
                        (machine.gpus, machine.warnings) =
                            visible(&all, variable.as_deref(), order.as_deref());
                        machine.all_gpus = all;
                    }
                    Err(error) => machine.warnings.push(error.to_string()),
                }
            }
            None => {
                machine.gpus = numbered(counted(), variable.as_deref());
                machine.all_gpus.clone_from(&machine.gpus);
            }
        }
        machine
    }
}

/// GPUs of which only the number is known; CUDA has applied `variable` to it already.
fn numbered(count: usize, variable: Option<&str>) -> Vec<Gpu> {
    let listed: Vec<&str> = variable.map_or(Vec::new(), |list| {
        list.split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .collect()
    });
    (0..count)
        .map(|index| Gpu {
            uuid: listed
                .get(index)
                .map_or_else(|| index.to_string(), |name| (*name).to_owned()),
            name: String::new(),
            index: index as u32,
            pci: None,
            memory: 0,
            parent: None,
            divided: false,
        })
        .collect()
}

/// What the user asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlotRequest {
    pub device: DeviceChoice,
    /// Number of workers at once.
    pub slots: Option<NonZeroUsize>,
    /// Compute threads of each worker.
    pub threads_per_slot: Option<NonZeroUsize>,
    /// Workers at once on each GPU.
    pub slots_per_gpu: Option<NonZeroUsize>,
    /// Bytes of a GPU's memory that one worker takes; as many share a GPU as fit.
    pub gpu_memory: Option<u64>,
    /// Workers that this program can't run on a GPU (it was built without `cuda`).
    pub cpu_only: bool,
}

/// Why there are no slots.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    #[error(
        "no GPU can be used (--device cuda): {why}; use --device cpu{}",
        if cfg!(feature = "cuda") { "" } else { ", or build with `--features cuda`" }
    )]
    NoGpu { why: String },
    #[error(
        "the built-in trainer can't use a GPU (--device cuda): this program was built without the feature \
         `cuda`; use --device cpu, or build with `--features cuda`"
    )]
    NotBuilt,
    #[error("{asked} slots are more than {max} (--slots)")]
    TooMany { asked: usize, max: usize },
    #[error("no GPU has {} (--gpu-memory): the largest has {}", gib(*asked), gib(*largest))]
    TooLittleMemory { asked: u64, largest: u64 },
    #[error(
        "--slots-per-gpu and --gpu-memory both say how many workers share a GPU; give one of them"
    )]
    TwoShares,
    #[error(
        "stage `{stage}` asks for {asked} GPUs, and there are {there} to be used (`ablate devices` lists them)"
    )]
    TooFew {
        stage: String,
        asked: usize,
        there: usize,
    },
}

/// Most workers at once: file descriptors and processes are finite.
const MAX_SLOTS: usize = 4096;

/// The slots of `machine` for `request`.
///
/// On the CPU the default is one slot a core, one thread each: many one-thread workers train far more
/// images a second than one worker with many threads. On GPUs it is one slot a GPU, the cores shared
/// among them.
pub fn slots(machine: &Machine, request: &SlotRequest) -> Result<Vec<Slot>, DeviceError> {
    let too_many = |asked: usize, max: usize| DeviceError::TooMany { asked, max };
    if let Some(asked) = request.slots.map(NonZeroUsize::get)
        && asked > MAX_SLOTS
    {
        return Err(too_many(asked, MAX_SLOTS));
    }
    if request.slots_per_gpu.is_some() && request.gpu_memory.is_some() {
        return Err(DeviceError::TwoShares);
    }
    let unusable = request.cpu_only && machine.stand_in.is_none();
    match request.device {
        DeviceChoice::Cpu => return Ok(cpu_slots(machine, request)),
        DeviceChoice::Auto if unusable || machine.gpus.is_empty() => {
            return Ok(cpu_slots(machine, request));
        }
        DeviceChoice::Cuda if machine.gpus.is_empty() => {
            return Err(DeviceError::NoGpu {
                why: match machine.warnings.first() {
                    Some(warning) => warning.clone(),
                    None => "the driver shows none".to_owned(),
                },
            });
        }
        DeviceChoice::Cuda if unusable => return Err(DeviceError::NotBuilt),
        DeviceChoice::Auto | DeviceChoice::Cuda => {}
    }
    let slots = gpu_slots(machine, request)?;
    match request.slots.map(NonZeroUsize::get) {
        Some(asked) if asked > slots.len() => Err(too_many(asked, slots.len())),
        _ => Ok(slots),
    }
}

fn cpu_slots(machine: &Machine, request: &SlotRequest) -> Vec<Slot> {
    let cpu = &machine.cpu;
    let threads = request.threads_per_slot.map_or(1, NonZeroUsize::get);
    let count = match request.slots {
        Some(slots) => slots.get(),
        None => (cpu.parallelism / threads).max(1),
    };
    // Every worker has its cores for itself, or none is bound.
    let fits = count
        .checked_mul(threads)
        .is_some_and(|all| all <= cpu.cores.len());
    let bind = fits && !cpu.has_quota();
    (0..count)
        .map(|index| Slot {
            name: format!("cpu:{index}"),
            device: "cpu".into(),
            threads,
            cores: if bind {
                let mut cores = cpu.cores[index * threads..][..threads].to_vec();
                cores.sort_unstable();
                cores
            } else {
                Vec::new()
            },
            ..Slot::default()
        })
        .collect()
}

/// How many workers share a GPU.
fn shares(gpu: &Gpu, gpus: usize, request: &SlotRequest) -> usize {
    match (request.slots_per_gpu, request.gpu_memory, request.slots) {
        (Some(shares), _, _) => shares.get(),
        (None, Some(memory), _) if gpu.memory > 0 => {
            usize::try_from(gpu.memory / memory.max(1)).unwrap_or(MAX_SLOTS)
        }
        // As many as are needed for the slots that the user wants.
        (None, None, Some(slots)) => slots.get().div_ceil(gpus),
        _ => 1,
    }
    .min(MAX_SLOTS)
}

fn gpu_slots(machine: &Machine, request: &SlotRequest) -> Result<Vec<Slot>, DeviceError> {
    let gpus = &machine.gpus;
    let shares: Vec<usize> = gpus
        .iter()
        .map(|gpu| shares(gpu, gpus.len(), request))
        .collect();
    // First the first share of every GPU, then the second: the workers spread.
    let mut places: Vec<(usize, usize)> = shares
        .iter()
        .enumerate()
        .flat_map(|(gpu, &shares)| (0..shares).map(move |share| (share, gpu)))
        .collect();
    places.sort_unstable();
    if places.is_empty() {
        return Err(DeviceError::TooLittleMemory {
            asked: request.gpu_memory.unwrap_or(0),
            largest: gpus.iter().map(|gpu| gpu.memory).max().unwrap_or(0),
        });
    }
    places.truncate(
        request
            .slots
            .map_or(MAX_SLOTS, NonZeroUsize::get)
            .min(MAX_SLOTS),
    );
    let part = (machine.cpu.parallelism / places.len()).max(1);
    let threads = request.threads_per_slot.map_or(part, NonZeroUsize::get);
    Ok(places
        .into_iter()
        .map(|(share, index)| {
            let (gpu, shares) = (&gpus[index], shares[index]);
            Slot {
                name: match shares {
                    1 => format!("cuda:{index}"),
                    _ => format!("cuda:{index}/{share}"),
                },
                device: machine.stand_in.clone().unwrap_or("cuda:0".into()),
                threads,
                // The compute thread feeds the GPU; the others prepare its batches.
                loader_threads: threads.saturating_sub(1).max(1),
                cores: Vec::new(),
                visible_gpu: Some(gpu.uuid.clone()),
                gpus: vec![GpuShare {
                    uuid: gpu.uuid.clone(),
                    model: gpu.name.clone(),
                    driver: machine.driver.version.clone(),
                    total: gpu.memory,
                    share,
                    shares,
                    memory: request.gpu_memory,
                }],
            }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(uuid: &str, gib: u64) -> Gpu {
        Gpu {
            uuid: uuid.into(),
            name: "H100".into(),
            index: 0,
            pci: None,
            memory: gib << 30,
            parent: None,
            divided: false,
        }
    }

    fn machine(cores: usize, gpus: &[(&str, u64)]) -> Machine {
        Machine {
            cpu: Cpu {
                parallelism: cores,
                cores: (0..cores).collect(),
                ..Cpu::default()
            },
            gpus: gpus.iter().map(|&(uuid, gib)| gpu(uuid, gib)).collect(),
            ..Machine::default()
        }
    }

    fn request(device: DeviceChoice, slots: usize, threads: usize) -> SlotRequest {
        SlotRequest {
            device,
            slots: NonZeroUsize::new(slots),
            threads_per_slot: NonZeroUsize::new(threads),
            ..SlotRequest::default()
        }
    }

    fn names(slots: &[Slot]) -> Vec<&str> {
        slots.iter().map(|slot| &*slot.name).collect()
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
    fn cores_are_bound_when_everybody_has_some() {
        let four = machine(4, &[]);
        let bound = |count, threads| {
            slots(&four, &request(DeviceChoice::Cpu, count, threads))
                .unwrap()
                .into_iter()
                .map(|slot| slot.cores)
                .collect::<Vec<_>>()
        };
        assert_eq!(bound(2, 2), [vec![0, 1], vec![2, 3]]);
        assert_eq!(bound(1, 1), [vec![0]]);
        assert!(bound(9, 1).iter().all(Vec::is_empty));
        assert!(bound(3, usize::MAX).iter().all(Vec::is_empty));
        // The mask of this process, in the order of preference.
        let mut some = machine(4, &[]);
        some.cpu.cores = vec![4, 12, 5, 13];
        let both = slots(&some, &request(DeviceChoice::Cpu, 2, 2)).unwrap();
        assert_eq!(both[1].cores, [5, 13]);
    }

    #[test]
    fn the_share_of_the_control_group_counts() {
        let mut share = machine(64, &[]);
        share.cpu.parallelism = 2;
        let slots = slots(&share, &SlotRequest::default()).unwrap();
        assert_eq!(slots.len(), 2);
        assert!(slots.iter().all(|slot| slot.cores.is_empty()));
    }

    #[test]
    fn gpus_come_first() {
        let two = machine(16, &[("GPU-a", 80), ("GPU-b", 80)]);
        let slots_of = |request| slots(&two, &request).unwrap();
        let auto = slots_of(SlotRequest::default());
        assert_eq!(names(&auto), ["cuda:0", "cuda:1"]);
        assert_eq!(auto[1].visible_gpu.as_deref(), Some("GPU-b"));
        assert_eq!(auto[1].device, "cuda:0");
        assert_eq!((auto[1].threads, auto[1].loader_threads), (8, 7));
        assert_eq!(slots_of(request(DeviceChoice::Cpu, 0, 0)).len(), 16);
        assert_eq!(slots_of(request(DeviceChoice::Auto, 1, 0)).len(), 1);
        let shared = slots_of(request(DeviceChoice::Cuda, 4, 1));
        assert_eq!(
            names(&shared),
            ["cuda:0/0", "cuda:1/0", "cuda:0/1", "cuda:1/1"]
        );
        assert!(shared[0].shares_device(&shared[2]) && !shared[0].shares_device(&shared[1]));
    }

    #[test]
    fn gpus_are_shared_by_number_or_by_memory() {
        let unequal = machine(16, &[("GPU-a", 24), ("GPU-b", 8), ("GPU-c", 80)]);
        let by_number = SlotRequest {
            slots_per_gpu: NonZeroUsize::new(2),
            ..SlotRequest::default()
        };
        assert_eq!(slots(&unequal, &by_number).unwrap().len(), 6);
        let by_memory = |gib: u64, count| SlotRequest {
            gpu_memory: Some(gib << 30),
            ..request(DeviceChoice::Auto, count, 0)
        };
        let ten = slots(&unequal, &by_memory(10, 0)).unwrap();
        assert_eq!(ten.len(), 2 + 8, "none on the GPU that is too small");
        assert_eq!(names(&ten)[..3], ["cuda:0/0", "cuda:2/0", "cuda:0/1"]);
        assert_eq!(ten[0].gpus[0].memory, Some(10 << 30));
        assert_eq!(ten[0].threads, 1);
        assert_eq!(slots(&unequal, &by_memory(10, 3)).unwrap().len(), 3);
        assert_eq!(
            slots(&unequal, &by_memory(10, 11)),
            Err(DeviceError::TooMany { asked: 11, max: 10 })
        );
        let error = slots(&unequal, &by_memory(100, 0)).unwrap_err().to_string();
        assert!(
            error.contains("100.0 GiB") && error.contains("80.0 GiB"),
            "{error}"
        );
        let both = SlotRequest {
            gpu_memory: Some(1 << 30),
            ..by_number
        };
        assert_eq!(slots(&unequal, &both), Err(DeviceError::TwoShares));
    }

    #[test]
    fn a_missing_gpu_is_said() {
        let none = machine(2, &[]);
        assert!(matches!(
            slots(&none, &request(DeviceChoice::Cuda, 0, 0)),
            Err(DeviceError::NoGpu { .. })
        ));
        assert!(matches!(
            slots(&none, &request(DeviceChoice::Cpu, 1_000_000, 0)),
            Err(DeviceError::TooMany { .. })
        ));
        let here = machine(2, &[("GPU-a", 80)]);
        let trainer = |device| SlotRequest {
            cpu_only: true,
            ..request(device, 0, 0)
        };
        assert_eq!(
            slots(&here, &trainer(DeviceChoice::Cuda)),
            Err(DeviceError::NotBuilt)
        );
        assert_eq!(
            names(&slots(&here, &trainer(DeviceChoice::Auto)).unwrap()),
            ["cpu:0", "cpu:1"]
        );
    }

    #[test]
    fn several_slots_make_one() {
        let two = machine(8, &[("GPU-a", 80), ("GPU-b", 80)]);
        let both = slots(&two, &SlotRequest::default()).unwrap();
        let one = Slot::joined(&both.iter().collect::<Vec<_>>());
        assert_eq!(one.name, "cuda:0+cuda:1");
        assert_eq!(one.visible_gpu.as_deref(), Some("GPU-a,GPU-b"));
        assert_eq!((one.threads, one.gpus.len()), (8, 2));
        assert_eq!(Slot::joined(&[&both[0]]), both[0]);
        let bound = Slot {
            cores: vec![3],
            ..Slot::default()
        };
        assert_eq!(bound.clone().with_threads(1).cores, [3]);
        let wide = bound.with_threads(4);
        assert_eq!((wide.threads, wide.cores.len()), (4, 0));
    }

    #[test]
    fn gpus_that_are_only_counted_keep_the_users_names() {
        let uuids = |count, list| -> Vec<String> {
            let gpus = numbered(count, list);
            gpus.into_iter().map(|gpu| gpu.uuid).collect()
        };
        assert_eq!(uuids(2, Some("3, GPU-5a,7")), ["3", "GPU-5a"]);
        assert_eq!(uuids(2, None), ["0", "1"]);
        assert!(uuids(0, Some("3")).is_empty());
    }
}
