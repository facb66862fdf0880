//! The energy that attempts use, where the machine counts it.
//!
//! Two sources are known: the processor's packages with their memory, which Linux shows under
//! `/sys/class/powercap` (Intel's RAPL, and AMD's in the same form; usually only root may read it), and GPUs
//! through their driver (NVML's total energy). A worker on the CPU uses the packages, a worker on a GPU its
//! GPUs.
//!
//! What a source counts between two looks is shared equally by the attempts that use it then. Whatever else
//! runs on the machine, and what it takes when idle, is in it: a source counts all that passes through it.
//! An attempt's energy is unknown as soon as one of its sources didn't answer.

use super::device::Slot;
use super::device::gpus::Gpus;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Names the folder that takes the place of `/sys/class/powercap`. For tests.
pub const POWERCAP: &str = "ABLATE_POWERCAP";

/// Pause between two looks while nothing begins or ends. Counters of packages start again at 0 after some
/// minutes at full power, and a look must see each round.
const LOOK: Duration = Duration::from_secs(10);

/// What counts energy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Packages,
    /// By UUID.
    Gpu(String),
}

/// Shares the energy of the machine's sources among attempts.
pub struct Meter {
    packages: Packages,
    gpus: Option<Arc<dyn Gpus>>,
    /// Where the count of each source in use stood at the last look, in joules; `None`: it didn't answer.
    counts: BTreeMap<Source, Option<f64>>,
    attempts: BTreeMap<usize, Use>,
    looked: Instant,
}

/// One attempt.
#[derive(Debug)]
struct Use {
    sources: Vec<Source>,
    /// Joules so far.
    joules: Option<f64>,
}

impl Meter {
    /// Of this machine, whose GPUs `gpus` tells of.
    pub fn new(gpus: Option<Arc<dyn Gpus>>) -> Meter {
        let folder = std::env::var_os(POWERCAP)
            .map_or_else(|| PathBuf::from("/sys/class/powercap"), PathBuf::from);
        Meter::of(Packages::find(&folder), gpus)
    }

    fn of(packages: Packages, gpus: Option<Arc<dyn Gpus>>) -> Meter {
        Meter {
            packages,
            gpus,
            counts: BTreeMap::new(),
            attempts: BTreeMap::new(),
            looked: Instant::now(),
        }
    }

    /// The attempt at `stage` begins in `slot`.
    pub fn begin(&mut self, stage: usize, slot: &Slot) {
        self.settle();
        let sources: Vec<Source> = match slot.is_gpu() {
            true => (slot.gpus.iter())
                .map(|share| Source::Gpu(share.uuid.clone()))
                .collect(),
            false => vec![Source::Packages],
        };
        for source in &sources {
            if !self.counts.contains_key(source) {
                let count = self.count(source);
                self.counts.insert(source.clone(), count);
            }
        }
        // GPUs that no driver tells of have no source.
        let joules = (!sources.is_empty()).then_some(0.0);
        self.attempts.insert(stage, Use { sources, joules });
    }

    /// The attempt at `stage` has ended; the joules that it used, if they are known.
    pub fn end(&mut self, stage: usize) -> Option<f64> {
        self.settle();
        let found = self.attempts.remove(&stage)?;
        let used: BTreeSet<&Source> = self.attempts.values().flat_map(|u| &u.sources).collect();
        self.counts.retain(|source, _| used.contains(source));
        found.joules
    }

    /// To be called now and then while attempts run.
    pub fn look(&mut self) {
        if self.looked.elapsed() >= LOOK {
            self.settle();
        }
    }

    /// Gives what was counted since the last look to the attempts that use each source.
    fn settle(&mut self) {
        self.looked = Instant::now();
        for source in self.counts.keys().cloned().collect::<Vec<_>>() {
            let now = self.count(&source);
            let before = self.counts.insert(source.clone(), now).flatten();
            let used = match (before, now) {
                // A counter that has fallen was set anew.
                (Some(before), Some(now)) if now >= before => Some(now - before),
                _ => None,
            };
            let users = (self.attempts.values_mut()).filter(|u| u.sources.contains(&source));
            let mut users: Vec<&mut Use> = users.collect();
            let share = users.len() as f64;
            for user in &mut users {
                user.joules = user.joules.zip(used).map(|(sum, used)| sum + used / share);
            }
        }
    }

    /// Joules that a source has counted so far.
    fn count(&mut self, source: &Source) -> Option<f64> {
        match source {
            Source::Packages => self.packages.count(),
            Source::Gpu(uuid) => self.gpus.as_ref()?.energy(uuid),
        }
    }
}

/// The zones of a powercap folder that together are the processor and its memory.
#[derive(Debug, Default)]
struct Packages {
    zones: Vec<Zone>,
}

#[derive(Debug)]
struct Zone {
    file: PathBuf,
    /// Microjoules after which the counter starts again at 0.
    range: u64,
    /// At the last look.
    last: Option<u64>,
    /// Microjoules of the rounds that were completed since the first look.
    rounds: u64,
}

impl Packages {
    /// Zones are `intel-rapl:0`, named `package-0`, and within it `intel-rapl:0:1`, named `core`, `uncore`
    /// (parts of the package) or `dram` (not a part of it). A zone `psys` is the whole machine where the
    /// firmware says so, with the packages in it: left out, for few machines have it.
    fn find(folder: &Path) -> Packages {
        let mut zones = Vec::new();
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_ours = entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.starts_with("intel-rapl:"));
            let name = std::fs::read_to_string(path.join("name")).unwrap_or_default();
            let name = name.trim();
            if is_ours && (name.starts_with("package") || name == "dram") {
                zones.push(Zone {
                    range: number(&path.join("max_energy_range_uj")).unwrap_or(0),
                    file: path.join("energy_uj"),
                    last: None,
                    rounds: 0,
                });
            }
        }
        Packages { zones }
    }

    /// Joules since some moment before the first call; `None` where nothing is counted or may be read.
    fn count(&mut self) -> Option<f64> {
        let zones = self.zones.iter_mut().map(Zone::count);
        let sum = zones.sum::<Option<u64>>()?;
        (!self.zones.is_empty()).then_some(sum as f64 / 1e6)
    }
}

impl Zone {
    fn count(&mut self) -> Option<u64> {
        let now = number(&self.file)?;
        if self.last.is_some_and(|last| now < last) {
            self.rounds += self.range;
        }
        self.last = Some(now);
        Some(self.rounds + now)
    }
}

fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::device::GpuShare;
    use crate::schedule::device::recording::Recording;

    fn slot(gpu: Option<&str>) -> Slot {
        Slot {
            name: "0".to_owned(),
            device: "cpu".to_owned(),
            threads: 1,
            loader_threads: 0,
            cores: Vec::new(),
            visible_gpu: gpu.map(str::to_owned),
            gpus: gpu
                .map(|uuid| GpuShare {
                    uuid: uuid.to_owned(),
                    model: "a model".to_owned(),
                    driver: "1".to_owned(),
                    total: 1 << 30,
                    share: 0,
                    shares: 1,
                    memory: None,
                })
                .into_iter()
                .collect(),
        }
    }

    /// A powercap folder as Linux shows it: two zones that count, and parts of one of them.
    fn powercap() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (zone, name) in [
            ("intel-rapl:0", "package-0"),
            ("intel-rapl:0:0", "core"),
            ("intel-rapl:0:1", "dram"),
            ("intel-rapl:1", "psys"),
            ("intel-rapl-mmio:0", "package-0"),
            ("dtpm", "package-7"),
        ] {
            let dir = folder.path().join(zone);
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(dir.join("name"), format!("{name}\n")).unwrap();
            std::fs::write(dir.join("max_energy_range_uj"), "10000000\n").unwrap();
            std::fs::write(dir.join("energy_uj"), "1000000\n").unwrap();
        }
        folder
    }

    fn set(folder: &tempfile::TempDir, zone: &str, joules: f64) {
        let microjoules = format!("{}\n", (joules * 1e6) as u64);
        std::fs::write(folder.path().join(zone).join("energy_uj"), microjoules).unwrap();
    }

    #[test]
    fn attempts_share_what_the_packages_count() {
        let folder = powercap();
        let mut meter = Meter::of(Packages::find(folder.path()), None);
        meter.begin(0, &slot(None));
        set(&folder, "intel-rapl:0", 3.0);
        set(&folder, "intel-rapl:0:0", 9.0);
        set(&folder, "intel-rapl:1", 9.0);
        // 2 J by itself, then 4 J with another one, half of them from the memory, then 1 J that is not its own.
        meter.begin(7, &slot(None));
        set(&folder, "intel-rapl:0", 5.0);
        set(&folder, "intel-rapl:0:1", 3.0);
        assert_eq!(meter.end(0), Some(4.0));
        set(&folder, "intel-rapl:0", 6.0);
        assert_eq!(meter.end(7), Some(3.0));
        assert_eq!(meter.end(7), None);
    }

    #[test]
    fn a_counter_goes_round() {
        let folder = powercap();
        let mut meter = Meter::of(Packages::find(folder.path()), None);
        meter.begin(0, &slot(None));
        for joules in [9.0, 2.0, 9.5, 0.5] {
            set(&folder, "intel-rapl:0", joules);
            meter.settle();
        }
        // 8 to 9, 3 to 2, 7.5 to 9.5, 1 to 0.5.
        assert_eq!(meter.end(0), Some(19.5));
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        let folder = powercap();
        let mut meter = Meter::of(Packages::find(folder.path()), None);
        meter.begin(0, &slot(None));
        std::fs::remove_file(folder.path().join("intel-rapl:0/energy_uj")).unwrap();
        meter.settle();
        set(&folder, "intel-rapl:0", 3.0);
        assert_eq!(meter.end(0), None);
        // A machine without counters, and a GPU of which no driver tells.
        let nothing = tempfile::tempdir().unwrap();
        let mut meter = Meter::of(Packages::find(nothing.path()), None);
        meter.begin(0, &slot(None));
        meter.begin(1, &slot(Some("GPU-1")));
        assert_eq!((meter.end(0), meter.end(1)), (None, None));
    }

    #[test]
    fn gpus_count_for_those_who_use_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recording.json");
        let write = |joules: f64, lost: bool| {
            let text = format!(
                r#"{{"driver": "1", "gpus": [{{"uuid": "GPU-1", "name": "a model", "memory": 1024}},
                    {{"uuid": "GPU-2", "name": "a model", "memory": 1024}}],
                    "timeline": [{{"at": 0, "gpu": "GPU-1", "joules": {joules}, "lost": {lost}}}]}}"#
            );
            std::fs::write(&path, text).unwrap();
        };
        write(100.0, false);
        let gpus: Arc<dyn Gpus> = Arc::new(Recording::open(&path).unwrap());
        let mut meter = Meter::of(Packages::default(), Some(gpus));
        meter.begin(0, &slot(Some("GPU-1")));
        meter.begin(1, &slot(Some("GPU-1")));
        meter.begin(2, &slot(Some("GPU-2")));
        write(160.0, false);
        // The other GPU tells nothing.
        assert_eq!((meter.end(1), meter.end(2)), (Some(30.0), None));
        write(170.0, false);
        assert_eq!(meter.end(0), Some(40.0));
        meter.begin(0, &slot(Some("GPU-1")));
        write(180.0, true);
        assert_eq!(meter.end(0), None);
    }
}
