//! The devices of stages, from the loop's point of view: leased, found busy, lost, given back.

use super::{Actor, Input};
use crate::schedule::core::Message;
use crate::schedule::device::keeper::Answer;
use crate::schedule::device::{GpuShare, Slot};
use crate::schedule::executor::Signal;
use crate::store::AttemptGpu;
use std::time::Duration;

/// Time between two looks at a GPU or at memory that somebody else uses. Nothing tells when they are gone.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

impl Actor<'_> {
    /// Leases the devices of a stage that is to be started; `None` if it can't be now.
    pub(super) fn lease(&mut self, stage: usize) -> Option<Slot> {
        let slots = self.core.slots_of(stage);
        if slots.is_empty() {
            // A stop that came with it has ended it before it began.
            return None;
        }
        let busy = match self
            .keeper
            .lease(stage, &slots, self.run.jobs[stage].memory)
        {
            Answer::Yes => {
                self.short_of_memory.remove(&stage);
                let slot = self.keeper.joined(&slots);
                let threads = self.run.jobs[stage].threads;
                return Some(threads.map_or(slot.clone(), |threads| slot.with_threads(threads)));
            }
            Answer::Busy { slot, news } => {
                if let Some(news) = news {
                    self.run.progress.note(&news);
                }
                self.ensure_look_again();
                slot
            }
            Answer::NoMemory(short) => {
                if self.short_of_memory.insert(stage) {
                    let label = &self.run.jobs[stage].label;
                    self.run.progress.note(&format!("{label} waits: {short}"));
                }
                self.ensure_look_again();
                self.messages.push_back(Message::MemoryBusy {
                    stage,
                    used: short.taken.unwrap_or(short.capacity),
                    capacity: short.capacity,
                });
                return None;
            }
            Answer::Lost { uuid, what } => {
                self.lose(&uuid, &what);
                // The one that is lost: nothing would free another one again.
                let is_it = |slot: &&usize| self.keeper.uuids(**slot).contains(&uuid);
                *slots.iter().find(is_it)?
            }
        };
        self.messages
            .push_back(Message::SlotBusy { stage, slot: busy });
        None
    }

    fn ensure_look_again(&mut self) {
        if !std::mem::replace(&mut self.looks_again, true) {
            let pause = LOOK_AGAIN / self.run.settings.hurry.max(1);
            self.after(pause, Input::LookAgain);
        }
    }

    /// A GPU is lost: its slots are closed, and what runs on it can't be rescued.
    pub(super) fn lose(&mut self, uuid: &str, what: &str) {
        let Some((slots, stages)) = self.keeper.lose(uuid, what) else {
            return;
        };
        let text = self.keeper.farewell(uuid, what);
        self.run.progress.note(&text);
        self.messages
            .extend(slots.into_iter().map(|slot| Message::DeviceLost { slot }));
        for stage in stages {
            self.signal(stage, Signal::Kill);
        }
    }

    pub(super) fn check_devices(&mut self) {
        let checked = self.keeper.check();
        for text in checked.news {
            self.run.progress.note(&text);
        }
        let back = checked.slots.into_iter();
        self.messages
            .extend(back.map(|slot| Message::DeviceBack { slot }));
    }

    /// The core doesn't use the slot any more: a worker said that its device is lost, or we did.
    pub(super) fn close_slot(&mut self, slot: usize) {
        let uuids = self.keeper.uuids(slot);
        for uuid in &uuids {
            self.lose(uuid, "a worker has lost it");
        }
        if uuids.is_empty() {
            let text = format!("{} is not used any more", self.run.slots[slot].name);
            self.run.progress.note(&text);
        }
    }
}

/// The GPUs of a slot as the store keeps them.
pub(super) fn hardware(slot: &Slot) -> Vec<AttemptGpu> {
    let gpu = |share: &GpuShare| AttemptGpu {
        uuid: share.uuid.clone(),
        name: share.model.clone(),
        driver: share.driver.clone(),
        memory: share.memory.unwrap_or(share.total),
    };
    slot.gpus.iter().map(gpu).collect()
}
