//! Slots and devices of the state machine: who holds what, and what is closed.

use super::model::{Action, Reason, SlotTraits};
use super::{Core, State};
use std::collections::BTreeSet;

#[derive(Debug, Clone, Copy)]
pub(super) struct SlotState {
    pub(super) traits: SlotTraits,
    /// Slots of one device have the same number.
    pub(super) device: usize,
    pub(super) stage: Option<usize>,
    /// Somebody else is there.
    pub(super) held: bool,
    pub(super) closed: bool,
}

impl SlotState {
    fn is_free(&self) -> bool {
        self.stage.is_none() && !self.held && !self.closed
    }
}

impl Core {
    /// The same with slots that share devices, and stages that use several devices at once. `devices` is
    /// the device of each slot, `widths` how many each stage uses; 1 where it is shorter.
    pub fn on_devices(mut self, devices: &[usize], widths: Vec<usize>) -> Core {
        for (slot, &device) in self.slots.iter_mut().zip(devices) {
            slot.device = device;
        }
        self.widths = widths;
        self
    }

    /// The same with `capacity` bytes of memory for all stages on slots that share it, of which each stage
    /// needs as much as `needs` says; nothing where it is shorter. A stage waits until there is room for
    /// it, and one that needs more than there is runs alone.
    pub fn in_memory(mut self, capacity: u64, needs: Vec<u64>) -> Core {
        self.capacity = capacity;
        self.needs = needs;
        self
    }

    /// Slots of the stage, the one that it was started on first.
    pub fn slots_of(&self, stage: usize) -> Vec<usize> {
        let State::Running { slot: first } = self.states[stage] else {
            return Vec::new();
        };
        let others = (0..self.slots.len())
            .filter(|&slot| slot != first && self.slots[slot].stage == Some(stage));
        std::iter::once(first).chain(others).collect()
    }

    /// The stage holds no slot any more.
    pub(super) fn free(&mut self, stage: usize) {
        for slot in &mut self.slots {
            if slot.stage == Some(stage) {
                slot.stage = None;
            }
        }
        self.running -= 1;
        // What it had is free, too.
        self.taken = None;
    }

    pub(super) fn slot_busy(&mut self, stage: usize, slot: usize) {
        if matches!(self.states[stage], State::Running { .. }) {
            self.free(stage);
            self.slots[slot].held = true;
            self.make_ready(stage);
        }
    }

    pub(super) fn memory_busy(&mut self, stage: usize, taken: (u64, u64)) {
        if matches!(self.states[stage], State::Running { .. }) {
            self.free(stage);
            self.taken = Some(taken);
            self.make_ready(stage);
        }
    }

    /// The device of `slot` is not used again.
    pub(super) fn close_device(&mut self, slot: usize, actions: &mut Vec<Action>) {
        let device = self.slots[slot].device;
        for (slot, state) in self.slots.iter_mut().enumerate() {
            if state.device == device && !state.closed {
                state.closed = true;
                actions.push(Action::CloseSlot { slot });
            }
        }
    }

    pub(super) fn device_back(&mut self, slot: usize) {
        self.slots[slot].held = false;
        self.slots[slot].closed = false;
        for stage in std::mem::take(&mut self.parked) {
            // It may have ended elsewhere since.
            if self.states[stage] == State::Ready {
                self.make_ready(stage);
            }
        }
    }

    pub(super) fn width(&self, stage: usize) -> usize {
        self.widths.get(stage).copied().unwrap_or(1).max(1)
    }

    fn need(&self, stage: usize) -> u64 {
        self.needs.get(stage).copied().unwrap_or(0)
    }

    /// Bytes of the memory that slots share that those need who run there; `None` while nobody does.
    fn memory_in_use(&self) -> Option<u64> {
        let running = self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let running = slot.stage.filter(|_| slot.traits.shares_memory)?;
            // A stage on several slots counts once.
            (self.states[running] == State::Running { slot: index }).then_some(running)
        });
        running
            .map(|other| self.need(other))
            .reduce(u64::saturating_add)
    }

    /// Whether that memory has room for the stage besides them.
    fn has_memory(&self, stage: usize) -> bool {
        self.taken.is_none()
            && self
                .memory_in_use()
                .is_none_or(|used| used.saturating_add(self.need(stage)) <= self.capacity)
    }

    /// Free slots for the stage, the first ones: as many different devices as it uses, with memory for it.
    pub(super) fn free_slots(&self, stage: usize) -> Option<Vec<usize>> {
        if self.running >= self.limit {
            return None;
        }
        let width = self.width(stage);
        let has_memory = self.has_memory(stage);
        let mut found: Vec<usize> = Vec::with_capacity(width);
        for (index, slot) in self.slots.iter().enumerate() {
            let is_new = |&other: &usize| self.slots[other].device != slot.device;
            let has_room = !slot.traits.shares_memory || has_memory;
            if slot.is_free() && has_room && found.iter().all(is_new) {
                found.push(index);
                if found.len() == width {
                    return Some(found);
                }
            }
        }
        None
    }

    /// What keeps the stage, whose turn it is, from being started.
    pub(super) fn obstacle(&self, stage: usize) -> Reason {
        let wants = self.width(stage);
        let devices = |is: &dyn Fn(&SlotState) -> bool| {
            let found: BTreeSet<usize> = (self.slots.iter())
                .filter(|slot| is(slot))
                .map(|slot| slot.device)
                .collect();
            found.len()
        };
        let free = devices(&SlotState::is_free);
        if self.free_slots(stage).is_some() {
            Reason::Turn
        } else if free >= wants && self.running >= self.limit {
            Reason::Lowered {
                workers: self.limit,
            }
        } else if free >= wants {
            let own = (self.memory_in_use().unwrap_or(0), self.capacity);
            let (used, capacity) = self.taken.unwrap_or(own);
            Reason::Memory {
                needs: self.need(stage),
                used,
                capacity,
            }
        } else if devices(&|slot| slot.stage.is_none() && !slot.closed) >= wants {
            let is_held = |slot: &SlotState| slot.held && slot.stage.is_none() && !slot.closed;
            let slots = 0..self.slots.len();
            Reason::Held {
                slots: slots.filter(|&slot| is_held(&self.slots[slot])).collect(),
            }
        } else {
            Reason::Slots { wants, free }
        }
    }

    /// Most devices that a stage can still get.
    pub(super) fn devices_left(&self) -> usize {
        let open = self.slots.iter().filter(|slot| !slot.closed);
        let devices: BTreeSet<usize> = open.map(|slot| slot.device).collect();
        devices.len()
    }

    pub(super) fn running_stages(&self) -> Vec<usize> {
        let stages: BTreeSet<usize> = self.slots.iter().filter_map(|slot| slot.stage).collect();
        stages.into_iter().collect()
    }
}
