//! The CPU as far as this process may use it.

use super::control_group;
use serde::Serialize;
use std::num::NonZeroUsize;
use std::path::Path;

/// Cores and memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Cpu {
    /// The model; empty if unknown.
    pub name: String,
    /// Cores that may be used at once: those of `cores`, or fewer where the control group has a share of
    /// the CPU's time only.
    pub parallelism: usize,
    /// Cores that this process may run on (its affinity mask), those first that a worker should have
    /// first: one thread of every physical core, neighbours side by side, then the others.
    pub cores: Vec<usize>,
    /// Bytes of memory, or of the control group's share of it; 0 if unknown.
    pub memory: u64,
}

impl Cpu {
    /// Looks.
    pub fn discover() -> Cpu {
        let mut cores = allowed_cores();
        let topology = Path::new("/sys/devices/system/cpu");
        // Stable: without a topology the order stays.
        cores.sort_by_cached_key(|&core| preference(topology, core));
        Cpu {
            name: model(),
            parallelism: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            cores,
            memory: memory(),
        }
    }

    /// Whether the control group gives less of the CPU's time than the cores have. Workers are not bound
    /// to cores then: neighbours with the same share of the same machine would choose the same ones.
    pub fn has_quota(&self) -> bool {
        self.parallelism < self.cores.len()
    }
}

/// Place of a core in the order of preference: which thread of its physical core it is, then its package
/// and number.
fn preference(topology: &Path, core: usize) -> (usize, usize, usize) {
    let read = |name: &str| {
        std::fs::read_to_string(topology.join(format!("cpu{core}/topology/{name}"))).ok()
    };
    let siblings = read("thread_siblings_list").map_or(Vec::new(), |list| parse_list(&list));
    let rank = siblings
        .iter()
        .position(|&other| other == core)
        .unwrap_or(0);
    let package = read("physical_package_id")
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    (rank, package, core)
}

/// A list such as `0-3,8`, as the kernel writes it.
fn parse_list(list: &str) -> Vec<usize> {
    list.trim()
        .split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse().ok()?..=last.parse().ok()?)
        })
        .flatten()
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

fn model() -> String {
    std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        })
        .unwrap_or_default()
}

/// Bytes of the machine's memory; 0 if unknown.
pub(super) fn machine_memory() -> u64 {
    std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .map_or(0, |kib| kib * 1024)
}

fn memory() -> u64 {
    let total = machine_memory();
    match control_group::memory_limit(Path::new("/")) {
        Some(limit) if total == 0 || limit < total => limit,
        _ => total,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_cores() {
        let here = Cpu::discover();
        assert!(here.parallelism >= 1 && !here.cores.is_empty() && here.memory > 1 << 20);
        let mut ascending = here.cores.clone();
        ascending.sort_unstable();
        assert_eq!(ascending, allowed_cores());
    }

    #[test]
    fn physical_cores_come_first() {
        assert_eq!(parse_list("0-2,8\n"), [0, 1, 2, 8]);
        let folder = tempfile::tempdir().unwrap();
        // Two packages of two cores of two threads, numbered as Linux does.
        for core in 0..8 {
            let dir = folder.path().join(format!("cpu{core}/topology"));
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(
                dir.join("thread_siblings_list"),
                format!("{},{}\n", core % 4, core % 4 + 4),
            )
            .unwrap();
            std::fs::write(dir.join("physical_package_id"), format!("{}\n", core % 2)).unwrap();
        }
        let mut cores: Vec<usize> = (0..8).collect();
        cores.sort_by_cached_key(|&core| preference(folder.path(), core));
        assert_eq!(cores, [0, 2, 1, 3, 4, 6, 5, 7]);
    }
}
