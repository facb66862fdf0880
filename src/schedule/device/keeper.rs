//! The devices of one execution: which worker has which, who is in the way, and which GPUs were lost.
//!
//! A lost GPU stays out of use for the whole execution, whatever it seems to be later: only an explicit
//! health check ([`Keeper::check`], asked for by `ablate devices --check`) gives it back.

use super::Slot;
use super::gpus::{Gpus, OnFault};
use super::lease::{Lease, Refusal, lease};
use super::memory::{Pool, Short};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Keeps the GPUs behind the slots of an execution, and the memory of those on the CPU.
pub struct Keeper {
    gpus: Option<Arc<dyn Gpus>>,
    slots: Vec<Slot>,
    /// The host's memory, where it is shared with others.
    memory: Vec<Pool>,
    /// Workers, by stage.
    workers: BTreeMap<usize, Worker>,
    /// Why slots can't be used at the moment.
    held: BTreeMap<usize, String>,
    /// What happened to GPUs that were lost, by UUID.
    lost: BTreeMap<String, String>,
}

struct Worker {
    slots: Vec<usize>,
    pid: Option<u32>,
    _lease: Lease,
}

/// Whether slots may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Yes,
    /// Not now. What the user is told, unless it is what they were told last.
    Busy {
        slot: usize,
        news: Option<String>,
    },
    /// Not now, on no slot of the CPU: others have the memory.
    NoMemory(Short),
    /// Never again, unless a health check says otherwise.
    Lost {
        uuid: String,
        what: String,
    },
}

/// What a health check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Slots that may be used again.
    pub slots: Vec<usize>,
    /// What the user is told.
    pub news: Vec<String>,
}

impl Keeper {
    /// Of `slots`, whose GPUs `gpus` tells of.
    pub fn new(gpus: Option<Arc<dyn Gpus>>, slots: Vec<Slot>) -> Keeper {
        Keeper {
            gpus,
            slots,
            memory: Vec::new(),
            workers: BTreeMap::new(),
            held: BTreeMap::new(),
            lost: BTreeMap::new(),
        }
    }

    /// The same, where workers on the CPU take their memory from each of `pools`.
    pub fn in_memory(mut self, pools: Vec<Pool>) -> Keeper {
        self.memory = pools;
        self
    }

    /// From now on `tell` hears of faults of these GPUs.
    pub fn watch(&self, tell: OnFault) {
        let uuids: BTreeSet<String> = self
            .slots
            .iter()
            .flat_map(|slot| slot.gpus.iter().map(|share| share.uuid.clone()))
            .collect();
        if let (Some(gpus), false) = (&self.gpus, uuids.is_empty()) {
            gpus.watch(&uuids.into_iter().collect::<Vec<_>>(), tell);
        }
    }

    /// Which device each slot is on; slots of one GPU have the same number.
    pub fn devices(&self) -> Vec<usize> {
        let device = |slot: &Slot| {
            self.slots
                .iter()
                .position(|other| other.shares_device(slot))
        };
        self.slots
            .iter()
            .enumerate()
            .map(|(index, slot)| device(slot).unwrap_or(index))
            .collect()
    }

    /// The slot of a worker that uses all of `slots`.
    pub fn joined(&self, slots: &[usize]) -> Slot {
        let slots: Vec<&Slot> = slots.iter().map(|&slot| &self.slots[slot]).collect();
        Slot::joined(&slots)
    }

    /// Leases `slots` for the worker of `stage`, which needs `memory` bytes of the host's where it isn't on a GPU, until
    /// [`Keeper::release`].
    pub fn lease(&mut self, stage: usize, slots: &[usize], memory: u64) -> Answer {
        // One may have been lost since the stage was given its slots.
        let mut shares = slots.iter().flat_map(|&slot| &self.slots[slot].gpus);
        if let Some((uuid, what)) = shares.find_map(|share| self.lost.get_key_value(&share.uuid)) {
            return Answer::Lost {
                uuid: uuid.clone(),
                what: what.clone(),
            };
        }
        let mut leases = Vec::new();
        if let Some(&slot) = slots.first()
            && !self.slots[slot].is_gpu()
        {
            let claims: Result<Vec<_>, Short> = self
                .memory
                .iter_mut()
                .map(|pool| pool.claim(memory))
                .collect();
            match claims {
                Ok(claims) => {
                    leases.extend(claims.into_iter().flatten().map(Lease::from));
                    self.held.remove(&slot);
                }
                // Somebody else is just taking theirs: it says nothing of the memory.
                Err(short) if short.taken.is_none() => return self.busy(slot, &short.to_string()),
                Err(short) => return Answer::NoMemory(short),
            }
        }
        for &slot in slots {
            let place = &self.slots[slot];
            let Some(gpus) = self.gpus.as_ref().filter(|_| !place.gpus.is_empty()) else {
                continue;
            };
            let groups = self.groups(place);
            match lease(&**gpus, place, &groups) {
                Ok(lease) => {
                    leases.push(lease);
                    self.held.remove(&slot);
                }
                Err(Refusal::Busy(why)) => return self.busy(slot, &why),
                Err(Refusal::Lost { uuid, what }) => return Answer::Lost { uuid, what },
            }
        }
        let lease = leases.into_iter().fold(Lease::default(), Lease::and);
        self.workers.insert(
            stage,
            Worker {
                slots: slots.to_vec(),
                pid: None,
                _lease: lease,
            },
        );
        Answer::Yes
    }

    fn busy(&mut self, slot: usize, why: &str) -> Answer {
        let text = format!("{} waits: {why}", self.slots[slot].name);
        let is_news = self.held.get(&slot) != Some(&text);
        let news = is_news.then(|| text.clone());
        self.held.insert(slot, text);
        Answer::Busy { slot, news }
    }

    /// The worker of `stage` runs as that process, the leader of its group.
    pub fn started(&mut self, stage: usize, pid: Option<u32>) {
        if let Some(worker) = self.workers.get_mut(&stage) {
            worker.pid = pid;
        }
    }

    /// Whether a GPU that the worker of `stage` has to itself computes. What happens on one that is shared says nothing
    /// of a single worker.
    pub fn computes(&self, stage: usize) -> bool {
        let (Some(gpus), Some(worker)) = (&self.gpus, self.workers.get(&stage)) else {
            return false;
        };
        let own = worker.slots.iter().map(|&slot| &self.slots[slot]);
        own.filter(|slot| !slot.is_share())
            .flat_map(|slot| &slot.gpus)
            .any(|share| gpus.busy(&share.uuid).is_some_and(|busy| busy > 0.0))
    }

    /// Whether a GPU of the stage was lost since it was leased.
    pub fn is_lost(&self, stage: usize) -> bool {
        let worker = self.workers.get(&stage);
        worker.is_some_and(|worker| {
            worker
                .slots
                .iter()
                .any(|&slot| self.lost_at(slot).is_some())
        })
    }

    /// The worker of `stage` is gone. Returns what happened to its GPU, if that was lost meanwhile.
    pub fn release(&mut self, stage: usize) -> Option<String> {
        let worker = self.workers.remove(&stage)?;
        worker.slots.iter().find_map(|&slot| self.lost_at(slot))
    }

    /// Takes the GPU out of use. Returns its slots and the stages whose workers are on it; nothing if that
    /// was known.
    pub fn lose(&mut self, uuid: &str, what: &str) -> Option<(Vec<usize>, Vec<usize>)> {
        if self.lost.insert(uuid.to_owned(), what.to_owned()).is_some() {
            return None;
        }
        let slots = self.slots_on(uuid);
        let stages = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.slots.iter().any(|slot| slots.contains(slot)))
            .map(|(&stage, _)| stage)
            .collect();
        Some((slots, stages))
    }

    /// What the user is told of a GPU that was lost.
    pub fn farewell(&self, uuid: &str, what: &str) -> String {
        let names: Vec<&str> = self
            .slots_on(uuid)
            .into_iter()
            .map(|slot| &*self.slots[slot].name)
            .collect();
        format!(
            "{} ({uuid}) is not used any more: {what}; `ablate devices --check` gives it back once it is well",
            names.join(", ")
        )
    }

    /// The UUIDs of the GPUs behind a slot.
    pub fn uuids(&self, slot: usize) -> Vec<String> {
        let shares = self.slots[slot].gpus.iter();
        shares.map(|share| share.uuid.clone()).collect()
    }

    /// Why the slot couldn't be used when it was last looked at.
    pub fn obstacle(&self, slot: usize) -> Option<&str> {
        self.held.get(&slot).map(String::as_str)
    }

    /// UUIDs of the GPUs that were lost, and what happened to each.
    pub fn lost(&self) -> &BTreeMap<String, String> {
        &self.lost
    }

    /// Slots that couldn't be used when they were last looked at; they are to be looked at again.
    pub fn held(&self) -> Vec<usize> {
        self.held.keys().copied().collect()
    }

    /// Looks at the GPUs that were lost, and gives back those that are well.
    pub fn check(&mut self) -> Checked {
        let mut checked = Checked::default();
        let Some(gpus) = self.gpus.clone() else {
            return checked;
        };
        for uuid in self.lost.keys().cloned().collect::<Vec<_>>() {
            match gpus.check(&uuid) {
                Ok(()) => {
                    self.lost.remove(&uuid);
                    checked.slots.extend(self.slots_on(&uuid));
                    checked.news.push(format!("{uuid} is well and used again"));
                }
                Err(error) => checked
                    .news
                    .push(format!("{uuid} stays out of use: {error}")),
            }
        }
        checked
    }

    fn lost_at(&self, slot: usize) -> Option<String> {
        let shares = self.slots[slot].gpus.iter();
        shares
            .filter_map(|share| self.lost.get(&share.uuid))
            .next()
            .cloned()
    }

    fn slots_on(&self, uuid: &str) -> Vec<usize> {
        let on = |slot: &Slot| slot.gpus.iter().any(|share| share.uuid == uuid);
        (0..self.slots.len())
            .filter(|&slot| on(&self.slots[slot]))
            .collect()
    }

    /// Process groups of our workers on the GPU of `place`.
    fn groups(&self, place: &Slot) -> Vec<u32> {
        self.workers
            .values()
            .filter(|worker| {
                let mut slots = worker.slots.iter();
                slots.any(|&slot| self.slots[slot].shares_device(place))
            })
            .filter_map(|worker| worker.pid)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::device::recording::Recording;
    use crate::schedule::device::{GpuShare, Machine, SlotRequest, slots};

    const GIB: u64 = 1 << 30;

    /// A recording of two GPUs, whose time line a test writes.
    struct Scene {
        folder: tempfile::TempDir,
        uuids: [String; 2],
    }

    impl Scene {
        fn new(name: &str) -> Scene {
            let pid = std::process::id();
            let scene = Scene {
                folder: tempfile::tempdir().unwrap(),
                uuids: [0, 1].map(|gpu| format!("GPU-keeper-{name}-{gpu}-{pid}")),
            };
            scene.write("");
            scene
        }

        fn write(&self, timeline: &str) {
            let [a, b] = &self.uuids;
            let script = format!(
                r#"{{"gpus": [{{"uuid": "{a}", "name": "A", "memory": {0}}},
                             {{"uuid": "{b}", "name": "B", "memory": {0}}}], "timeline": [{timeline}]}}"#,
                80 * GIB
            );
            // As a whole: others may read at any time.
            let file = tempfile::NamedTempFile::new_in(self.folder.path()).unwrap();
            std::fs::write(file.path(), script).unwrap();
            file.persist(self.folder.path().join("gpus.json")).unwrap();
        }

        fn keeper(&self, per_gpu: usize) -> Keeper {
            let gpus: Arc<dyn Gpus> =
                Arc::new(Recording::open(&self.folder.path().join("gpus.json")).unwrap());
            let machine = Machine {
                gpus: gpus.list().unwrap(),
                ..Machine::default()
            };
            let request = SlotRequest {
                slots_per_gpu: std::num::NonZeroUsize::new(per_gpu),
                ..SlotRequest::default()
            };
            Keeper::new(Some(gpus), slots(&machine, &request).unwrap())
        }
    }

    #[test]
    fn what_is_in_the_way_is_told_once() {
        let scene = Scene::new("busy");
        let mut keeper = scene.keeper(1);
        let own = std::process::id();
        let busy = format!(
            r#"{{"at": 0, "gpu": "{}", "used": {GIB}, "processes": [{{"pid": {own}}}]}}"#,
            scene.uuids[0]
        );
        scene.write(&busy);
        let Answer::Busy {
            slot: 0,
            news: Some(news),
        } = keeper.lease(7, &[0], 0)
        else {
            panic!("it is in use");
        };
        assert!(news.starts_with("cuda:0 waits: it is in use by "), "{news}");
        let again = keeper.lease(7, &[0], 0);
        assert_eq!(
            again,
            Answer::Busy {
                slot: 0,
                news: None
            }
        );
        assert_eq!(keeper.held(), [0]);
        // Both GPUs at once: nothing is kept of the one that was free.
        assert!(matches!(
            keeper.lease(7, &[1, 0], 0),
            Answer::Busy { slot: 0, .. }
        ));
        assert_eq!(keeper.lease(8, &[1], 0), Answer::Yes);
        scene.write("");
        assert_eq!(keeper.lease(7, &[0], 0), Answer::Yes);
        assert!(keeper.held().is_empty());
        assert_eq!(keeper.release(7), None);
    }

    #[test]
    fn workers_of_ours_share_a_gpu() {
        let scene = Scene::new("share");
        let mut keeper = scene.keeper(2);
        assert_eq!(keeper.devices(), [0, 1, 0, 1]);
        assert_eq!(keeper.lease(1, &[0], 0), Answer::Yes);
        // SAFETY: a system call without memory.
        keeper.started(1, Some(unsafe { libc::getpgid(0) } as u32));
        let used = format!(
            r#"{{"at": 0, "gpu": "{}", "used": {}, "processes": [{{"pid": {}}}]}}"#,
            scene.uuids[0],
            30 * GIB,
            std::process::id()
        );
        scene.write(&used);
        assert_eq!(keeper.lease(2, &[2], 0), Answer::Yes);
        keeper.release(2);
        keeper.release(1);
        // Now the same process is a stranger.
        assert!(matches!(keeper.lease(2, &[2], 0), Answer::Busy { .. }));
    }

    #[test]
    fn a_lost_gpu_is_given_back_by_a_check_only() {
        let scene = Scene::new("lost");
        let [uuid, _] = &scene.uuids;
        let mut keeper = scene.keeper(2);
        assert_eq!(keeper.lease(5, &[2], 0), Answer::Yes);
        let lost = format!(r#"{{"at": 0, "gpu": "{uuid}", "lost": true}}"#);
        scene.write(&lost);
        assert!(matches!(keeper.lease(6, &[0], 0), Answer::Lost { .. }));
        assert_eq!(
            keeper.lose(uuid, "XID 79"),
            Some((vec![0, 2], vec![5])),
            "all its slots, and the worker on it"
        );
        assert_eq!(keeper.lose(uuid, "XID 79"), None);
        // Whoever was given its slot before that was known doesn't get it, whatever the GPU says.
        scene.write("");
        let Answer::Lost { what, .. } = keeper.lease(6, &[0], 0) else {
            panic!("it is lost");
        };
        assert_eq!(what, "XID 79");
        assert!(keeper.is_lost(5) && !keeper.is_lost(6));
        scene.write(&lost);
        assert!(
            keeper
                .farewell(uuid, "XID 79")
                .contains("cuda:0/0, cuda:0/1")
        );
        assert_eq!(keeper.release(5).as_deref(), Some("XID 79"));

        let checked = keeper.check();
        assert!(checked.slots.is_empty() && checked.news[0].contains("stays out of use"));
        scene.write("");
        let checked = keeper.check();
        assert_eq!(checked.slots, [0, 2]);
        assert_eq!(keeper.lease(6, &[0], 0), Answer::Yes);
        assert_eq!(keeper.check(), Checked::default());
    }

    #[test]
    fn a_gpu_of_its_own_tells_whether_a_worker_computes() {
        for (name, per_gpu, expected) in [("own", 1, true), ("common", 2, false)] {
            let scene = Scene::new(name);
            let mut keeper = scene.keeper(per_gpu);
            assert_eq!(keeper.lease(1, &[0], 0), Answer::Yes);
            assert_eq!(keeper.lease(2, &[1], 0), Answer::Yes);
            let busy = format!(
                r#"{{"at": 0, "gpu": "{}", "busy": 0.4}}, {{"at": 0, "gpu": "{}", "busy": 0}}"#,
                scene.uuids[0], scene.uuids[1]
            );
            scene.write(&busy);
            assert_eq!(keeper.computes(1), expected);
            assert!(!keeper.computes(2) && !keeper.computes(3));
        }
    }

    #[test]
    fn workers_on_the_cpu_take_their_memory_from_what_all_have() {
        let name = format!("test-keeper-{}", std::process::id());
        let slots = || vec![Slot::default(), Slot::default()];
        let keeper = || Keeper::new(None, slots()).in_memory(vec![Pool::new(&name, 4 * GIB)]);
        let (mut here, mut there) = (keeper(), keeper());
        assert_eq!(here.lease(0, &[0], 3 * GIB), Answer::Yes);
        let Answer::NoMemory(short) = there.lease(5, &[1], 2 * GIB) else {
            panic!("there is no room for it");
        };
        assert!(short.to_string().contains("need 3.0 GiB of 4.0 GiB"));
        assert!(there.held().is_empty());
        assert_eq!(there.lease(6, &[0], GIB), Answer::Yes);
        here.release(0);
        assert_eq!(there.lease(5, &[1], 2 * GIB), Answer::Yes);
        assert!(there.held().is_empty());
    }

    #[test]
    fn slots_that_nobody_tells_of_are_just_used() {
        let mut keeper = Keeper::new(None, vec![Slot::default(); 2]);
        assert_eq!(keeper.lease(0, &[1], 0), Answer::Yes);
        assert_eq!(keeper.devices(), [0, 1]);
        assert_eq!(keeper.release(0), None);
        let share = GpuShare {
            uuid: "0".into(),
            model: String::new(),
            driver: String::new(),
            total: 0,
            share: 0,
            shares: 1,
            memory: None,
        };
        let counted = Slot {
            visible_gpu: Some("0".into()),
            gpus: vec![share],
            ..Slot::default()
        };
        let mut keeper = Keeper::new(None, vec![counted]);
        assert_eq!(keeper.lease(0, &[0], 0), Answer::Yes);
    }
}
