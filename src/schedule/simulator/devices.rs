//! The devices of a simulated scheduler: leased, found busy, lost.

use super::scheduler::LOOK_AGAIN;
use super::world::{Input, World};
use crate::rundir::event::FailureClass;
use crate::schedule::core::Message;
use std::collections::BTreeSet;

impl World {
    pub(super) fn is_gpu(&self) -> bool {
        self.scene.gpus > 0
    }

    /// The GPU of a slot, and which share of it.
    pub(super) fn device(&self, slot: usize) -> (usize, usize) {
        (slot % self.scene.gpus, slot / self.scene.gpus)
    }

    pub(super) fn slots_on(&self, device: usize) -> Vec<usize> {
        let (gpus, shares) = (self.scene.gpus, self.scene.per_gpu);
        (0..shares).map(|share| share * gpus + device).collect()
    }

    /// Leases the devices of a stage that is to be started; false if it can't be now.
    pub(super) fn lease(&mut self, by: usize, stage: usize) -> bool {
        let slots = self.schedulers[by].core.slots_of(stage);
        if slots.is_empty() {
            return false;
        }
        if !self.is_gpu() {
            if self.now < self.memory_until {
                self.ensure_look_again(by);
                let busy = Message::MemoryBusy {
                    stage,
                    used: 1,
                    capacity: 1,
                };
                self.schedulers[by].messages.push_back(busy);
                return false;
            }
            return true;
        }
        let mut busy = None;
        for &slot in &slots {
            let (device, share) = self.device(slot);
            let state = &self.devices[device];
            if state.lost {
                self.lose(by, device);
                busy = Some(slot);
            } else if state.foreign || state.shares[share].is_some() {
                self.schedulers[by].held.insert(slot);
                self.ensure_look_again(by);
                busy = Some(slot);
            } else {
                self.schedulers[by].held.remove(&slot);
                continue;
            }
            break;
        }
        if let Some(slot) = busy {
            let busy = Message::SlotBusy { stage, slot };
            self.schedulers[by].messages.push_back(busy);
            return false;
        }
        for &slot in &slots {
            let (device, share) = self.device(slot);
            self.devices[device].shares[share] = Some((by, stage));
        }
        true
    }

    fn ensure_look_again(&mut self, by: usize) {
        if !std::mem::replace(&mut self.schedulers[by].asking, true) {
            self.tell(LOOK_AGAIN, by, Input::LookAgain);
        }
    }

    /// The scheduler doesn't use the GPU any more: what runs there can't be rescued.
    pub(super) fn lose(&mut self, by: usize, device: usize) {
        if !self.schedulers[by].lost.insert(device) {
            return;
        }
        for slot in self.slots_on(device) {
            let lost = Message::DeviceLost { slot };
            self.schedulers[by].messages.push_back(lost);
        }
        let workers = self.schedulers[by].workers.iter();
        let on_it: Vec<usize> = workers
            .filter(|(_, worker)| {
                let mut slots = worker.slots.iter();
                slots.any(|&slot| self.device(slot).0 == device)
            })
            .map(|(&stage, _)| stage)
            .collect();
        for stage in on_it {
            self.kill_worker(by, stage, FailureClass::DeviceLost);
        }
    }

    /// Whether the stage may run there now.
    pub(super) fn check_place(&self, by: usize, stage: usize, slots: &[usize]) {
        let scheduler = &self.schedulers[by];
        assert_eq!(
            slots.len(),
            self.widths[stage],
            "as many devices as it uses"
        );
        for worker in scheduler.workers.values() {
            let shared = worker.slots.iter().any(|slot| slots.contains(slot));
            assert!(!shared, "two workers on a slot");
        }
        if self.scene.limits.canary && !scheduler.proven {
            assert!(scheduler.workers.is_empty(), "beside the canary");
        }
        if !self.is_gpu() {
            let needs = |stage: &usize| self.needs[*stage];
            let used: u64 = scheduler.workers.keys().map(needs).sum();
            let alone = scheduler.workers.is_empty();
            assert!(alone || used + self.needs[stage] <= self.scene.memory);
            return;
        }
        let devices: BTreeSet<usize> = slots.iter().map(|&slot| self.device(slot).0).collect();
        assert_eq!(devices.len(), slots.len(), "two shares of one GPU");
        for &slot in slots {
            let (device, share) = self.device(slot);
            let holder = self.devices[device].shares[share];
            assert_eq!(holder, Some((by, stage)), "a GPU without a lease");
        }
    }
}
