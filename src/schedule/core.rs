//! The scheduler's state machine: queue, slots, retries, draining.
//!
//! Pure: no clock, no files, no processes. [`Core::handle`] takes one [`Message`] and returns the
//! [`Action`]s that it asks for, in order; the same messages always give the same actions. Times are
//! durations that whoever carries the actions out must wait for. That makes every course of events,
//! faults included, a sequence of messages that a test can write down.
//!
//! Promises, held by property tests: every stage ends exactly once, as done, failed, blocked or
//! left; a failure blocks the stage's descendants and nothing else; a slot holds at most one worker;
//! a stage starts only when its parent is done.

use crate::rundir::event::FailureClass;
use crate::schedule::policy::policy;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

/// Time that workers have between SIGTERM and SIGKILL: enough to write a checkpoint.
pub const GRACE: Duration = Duration::from_secs(10);

/// What is known of a stage before anything runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Index of the stage whose result this one starts from; smaller or larger than its own.
    pub parent: Option<usize>,
    /// Expected work; decides the order (longest path first). Non-finite counts as none.
    pub flops: f64,
    pub prior: Prior,
}

/// What earlier executions made of a stage.
#[derive(Debug, Clone, PartialEq)]
pub enum Prior {
    /// To be run.
    Pending,
    Done,
    /// Failed, and not to be tried again.
    Failed(Failure),
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub class: FailureClass,
    pub message: String,
}

/// What the core knows of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotTraits {
    /// The slot's device can be lost while others go on (a GPU).
    pub can_be_lost: bool,
    /// Its workers live in the memory that all such slots share (the host's).
    pub shares_memory: bool,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Failed(Failure),
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The first message.
    Begin,
    /// The stage's worker has written a checkpoint: work that a retry won't repeat.
    Checkpointed { stage: usize },
    /// The stage's worker is gone (or never came to be).
    WorkerExited { stage: usize, outcome: Outcome },
    /// The answer to [`Action::Spawn`] where the slot can't be used at the moment: somebody else is there.
    SlotBusy { stage: usize, slot: usize },
    /// The slot may be tried again.
    SlotFree { slot: usize },
    /// The slot's device is lost.
    DeviceLost { slot: usize },
    /// The slot's device, which was lost, is well.
    DeviceBack { slot: usize },
    /// There is no room for more work (a full disk), or there is again: no stage is started meanwhile.
    Hold(bool),
    /// The stage's next attempt needs less than the last one: it is no repetition of it.
    Relieved { stage: usize },
    /// A timer that was asked for has run out.
    Timer(Timer),
    /// The user wants it to end: the first drains, the second kills, the third doesn't wait.
    Stop,
}

/// Timers that the core asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// A stage's pause before its retry is over.
    Retry { stage: usize },
    /// Draining has taken long enough.
    Grace,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Start a worker for the stage.
    Spawn {
        stage: usize,
        slot: usize,
    },
    /// Ask the stage's worker to write a checkpoint and leave.
    Terminate {
        stage: usize,
    },
    /// End the stage's worker now.
    Kill {
        stage: usize,
    },
    SetTimer {
        timer: Timer,
        after: Duration,
    },
    /// The stage will be tried again after a pause; `retry` counts from 1.
    Retrying {
        stage: usize,
        failure: Failure,
        retry: u32,
        after: Duration,
    },
    /// The slot is not used again.
    CloseSlot {
        slot: usize,
    },
    /// From now on at most `workers` share the host's memory.
    LowerConcurrency {
        workers: usize,
    },
    /// The stage has ended (never sent for stages that were done or failed before).
    Ended {
        stage: usize,
        end: End,
    },
    /// Nothing is left to do. The last action of all.
    Finish,
}

/// How a stage ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Done,
    Failed(Failure),
    /// An ancestor failed.
    Blocked {
        by: usize,
    },
    /// Not done, through no fault of its own: the next execution goes on with it.
    Left,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    /// For its parent.
    Waiting,
    Ready,
    Running {
        slot: usize,
    },
    /// For its retry timer.
    Pausing,
    Ended(End),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    New,
    Open,
    /// No new stages; workers were asked to leave.
    Draining,
    /// Workers were killed.
    Killing,
    Finished,
}

/// A ready stage: longest remaining path first, then in the order of the plan.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ready {
    path: f64,
    stage: usize,
}

impl Eq for Ready {}

impl Ord for Ready {
    fn cmp(&self, other: &Self) -> Ordering {
        self.path
            .total_cmp(&other.path)
            .then(Reverse(self.stage).cmp(&Reverse(other.stage)))
    }
}

impl PartialOrd for Ready {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug, Clone, Copy)]
struct SlotState {
    traits: SlotTraits,
    /// Slots of one device have the same number.
    device: usize,
    stage: Option<usize>,
    /// Somebody else is there.
    held: bool,
    closed: bool,
}

impl SlotState {
    fn is_free(&self) -> bool {
        self.stage.is_none() && !self.held && !self.closed
    }
}

/// The state machine.
#[derive(Debug, Clone)]
pub struct Core {
    states: Vec<State>,
    prior: Vec<Prior>,
    children: Vec<Vec<usize>>,
    /// Remaining work from the stage to the end of its longest descent.
    path: Vec<f64>,
    /// Retries spent since the stage's last checkpoint, and whether it has just checkpointed.
    retries: Vec<u32>,
    slots: Vec<SlotState>,
    /// How many devices each stage uses at once; 1 for those beyond its end.
    widths: Vec<usize>,
    /// Stages that are ready, but ask for more devices than are left.
    parked: Vec<usize>,
    ready: BinaryHeap<Ready>,
    running: usize,
    pausing: usize,
    /// Most workers on slots that share memory.
    limit: usize,
    /// No stage is started for now.
    on_hold: bool,
    phase: Phase,
}

impl Core {
    /// A scheduler of `stages` on `slots`. Parents must form a forest (no cycles); `plan` sees to it,
    /// and a stage in a cycle would be left at the end.
    pub fn new(stages: Vec<Stage>, slots: Vec<SlotTraits>) -> Core {
        let mut children = vec![Vec::new(); stages.len()];
        for (index, stage) in stages.iter().enumerate() {
            if let Some(parent) = stage.parent {
                children[parent].push(index);
            }
        }
        let path = longest_paths(&stages);
        Core {
            states: vec![State::Waiting; stages.len()],
            retries: vec![0; stages.len()],
            children,
            path,
            limit: slots.iter().filter(|slot| slot.shares_memory).count(),
            slots: slots
                .into_iter()
                .enumerate()
                .map(|(device, traits)| SlotState {
                    traits,
                    device,
                    stage: None,
                    held: false,
                    closed: false,
                })
                .collect(),
            ready: BinaryHeap::new(),
            widths: Vec::new(),
            parked: Vec::new(),
            running: 0,
            pausing: 0,
            on_hold: false,
            phase: Phase::New,
            prior: stages.into_iter().map(|stage| stage.prior).collect(),
        }
    }

    /// The same with slots that share devices, and stages that use several devices at once. `devices` is
    /// the device of each slot, `widths` how many each stage uses; 1 where it is shorter.
    pub fn on_devices(mut self, devices: &[usize], widths: Vec<usize>) -> Core {
        for (slot, &device) in self.slots.iter_mut().zip(devices) {
            slot.device = device;
        }
        self.widths = widths;
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

    /// Takes one message; returns what is to be done, in order.
    pub fn handle(&mut self, message: Message) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.phase == Phase::Finished {
            return actions;
        }
        match message {
            Message::Begin => self.begin(&mut actions),
            Message::Checkpointed { stage } | Message::Relieved { stage } => {
                self.retries[stage] = 0;
            }
            Message::Hold(hold) => self.on_hold = hold,
            Message::WorkerExited { stage, outcome } => self.exited(stage, outcome, &mut actions),
            Message::SlotBusy { stage, slot } => self.slot_busy(stage, slot),
            Message::SlotFree { slot } => self.slots[slot].held = false,
            Message::DeviceLost { slot } => self.close_device(slot, &mut actions),
            Message::DeviceBack { slot } => {
                self.slots[slot].held = false;
                self.slots[slot].closed = false;
                for stage in std::mem::take(&mut self.parked) {
                    self.make_ready(stage);
                }
            }
            Message::Timer(Timer::Retry { stage }) => self.retry(stage),
            Message::Timer(Timer::Grace) => self.kill(&mut actions),
            Message::Stop => self.stop(&mut actions),
        }
        self.dispatch(&mut actions);
        self.finish_if_over(&mut actions);
        actions
    }

    /// How the stage ended; `None` while it hasn't.
    pub fn end(&self, stage: usize) -> Option<&End> {
        match &self.states[stage] {
            State::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// Whether a stop was asked for.
    pub fn is_stopping(&self) -> bool {
        matches!(self.phase, Phase::Draining | Phase::Killing)
    }

    /// Whether workers were killed for it.
    pub fn is_killing(&self) -> bool {
        self.phase == Phase::Killing
    }

    fn begin(&mut self, actions: &mut Vec<Action>) {
        if self.phase != Phase::New {
            return;
        }
        self.phase = Phase::Open;
        // Failed first, so that whatever hangs below a failed stage never becomes ready.
        for stage in 0..self.states.len() {
            match std::mem::replace(&mut self.prior[stage], Prior::Pending) {
                Prior::Pending => {}
                Prior::Done => self.states[stage] = State::Ended(End::Done),
                Prior::Failed(failure) => {
                    self.states[stage] = State::Ended(End::Failed(failure));
                    self.block_descendants(stage, actions);
                }
            }
        }
        let mut has_parent = vec![false; self.states.len()];
        for (parent, children) in self.children.iter().enumerate() {
            for &child in children {
                has_parent[child] = self.states[parent] != State::Ended(End::Done);
            }
        }
        for (stage, waits) in has_parent.into_iter().enumerate() {
            if !waits && self.states[stage] == State::Waiting {
                self.make_ready(stage);
            }
        }
    }

    fn exited(&mut self, stage: usize, outcome: Outcome, actions: &mut Vec<Action>) {
        let State::Running { slot } = self.states[stage] else {
            return;
        };
        let is_lost = self
            .slots_of(stage)
            .iter()
            .any(|&slot| self.slots[slot].closed);
        self.free(stage);
        match outcome {
            Outcome::Done => {
                self.conclude(stage, End::Done, actions);
                for child in self.children[stage].clone() {
                    if self.states[child] == State::Waiting {
                        self.make_ready(child);
                    }
                }
            }
            Outcome::Failed(failure) => self.failed(stage, (slot, is_lost), failure, actions),
        }
    }

    /// The stage holds no slot any more.
    fn free(&mut self, stage: usize) {
        for slot in &mut self.slots {
            if slot.stage == Some(stage) {
                slot.stage = None;
            }
        }
        self.running -= 1;
    }

    fn slot_busy(&mut self, stage: usize, slot: usize) {
        if matches!(self.states[stage], State::Running { .. }) {
            self.free(stage);
            self.slots[slot].held = true;
            self.make_ready(stage);
        }
    }

    /// The device of `slot` is not used again.
    fn close_device(&mut self, slot: usize, actions: &mut Vec<Action>) {
        let device = self.slots[slot].device;
        for (slot, state) in self.slots.iter_mut().enumerate() {
            if state.device == device && !state.closed {
                state.closed = true;
                actions.push(Action::CloseSlot { slot });
            }
        }
    }

    /// `is_lost`: a device that it ran on is known to be lost.
    fn failed(
        &mut self,
        stage: usize,
        (slot, is_lost): (usize, bool),
        failure: Failure,
        actions: &mut Vec<Action>,
    ) {
        let policy = policy(failure.class);
        if self.is_stopping() {
            // We ended it ourselves, or would have: it goes on next time. A fault of its own stays one.
            let end = if policy.transient {
                End::Left
            } else {
                End::Failed(failure)
            };
            let blocks = end != End::Left;
            self.conclude(stage, end, actions);
            if blocks {
                self.block_descendants(stage, actions);
            }
            return;
        }
        let mut free = false;
        if policy.closes_device && self.slots[slot].traits.can_be_lost {
            // Of several devices nobody knows which one it was.
            if !is_lost && self.width(stage) == 1 {
                self.close_device(slot, actions);
            }
            // The device was to blame: moving to another one is not the stage's retry.
            free = self.slots[slot].closed || is_lost;
            free &= self.slots.iter().any(|slot| !slot.closed);
        }
        if policy.lowers_concurrency && self.slots[slot].traits.shares_memory && self.limit > 1 {
            self.limit -= 1;
            actions.push(Action::LowerConcurrency {
                workers: self.limit,
            });
        }
        if free || self.retries[stage] < policy.retries {
            let after = policy.pause(self.retries[stage]);
            if !free {
                self.retries[stage] += 1;
            }
            self.states[stage] = State::Pausing;
            self.pausing += 1;
            let retry = self.retries[stage];
            actions.push(Action::Retrying {
                stage,
                failure,
                retry,
                after,
            });
            actions.push(Action::SetTimer {
                timer: Timer::Retry { stage },
                after,
            });
        } else {
            self.conclude(stage, End::Failed(failure), actions);
            self.block_descendants(stage, actions);
        }
    }

    fn retry(&mut self, stage: usize) {
        if self.states[stage] == State::Pausing {
            self.pausing -= 1;
            self.make_ready(stage);
        }
    }

    fn stop(&mut self, actions: &mut Vec<Action>) {
        match self.phase {
            Phase::New | Phase::Open => {
                self.phase = Phase::Draining;
                for stage in self.running_stages() {
                    actions.push(Action::Terminate { stage });
                }
                if self.running > 0 {
                    actions.push(Action::SetTimer {
                        timer: Timer::Grace,
                        after: GRACE,
                    });
                }
            }
            Phase::Draining => self.kill(actions),
            Phase::Killing => self.finish(actions),
            Phase::Finished => {}
        }
    }

    fn kill(&mut self, actions: &mut Vec<Action>) {
        if self.phase == Phase::Draining {
            self.phase = Phase::Killing;
            for stage in self.running_stages() {
                actions.push(Action::Kill { stage });
            }
        }
    }

    fn dispatch(&mut self, actions: &mut Vec<Action>) {
        if self.phase != Phase::Open || self.on_hold {
            return;
        }
        while let Some(&Ready { stage, .. }) = self.ready.peek() {
            let width = self.width(stage);
            if width > self.devices_left() {
                self.ready.pop();
                self.parked.push(stage);
                continue;
            }
            // The first in line waits for as many devices as it needs, and the others behind it.
            let Some(slots) = self.free_slots(width) else {
                return;
            };
            self.ready.pop();
            for &slot in &slots {
                self.slots[slot].stage = Some(stage);
            }
            let slot = slots[0];
            self.states[stage] = State::Running { slot };
            self.running += 1;
            actions.push(Action::Spawn { stage, slot });
        }
    }

    fn width(&self, stage: usize) -> usize {
        self.widths.get(stage).copied().unwrap_or(1).max(1)
    }

    /// Free slots on `width` different devices, the first ones.
    fn free_slots(&self, width: usize) -> Option<Vec<usize>> {
        let sharing = self
            .slots
            .iter()
            .filter(|slot| slot.stage.is_some() && slot.traits.shares_memory)
            .count();
        let mut found: Vec<usize> = Vec::with_capacity(width);
        for (index, slot) in self.slots.iter().enumerate() {
            let is_new = |&other: &usize| self.slots[other].device != slot.device;
            let has_room = !slot.traits.shares_memory || sharing + found.len() < self.limit;
            if slot.is_free() && has_room && found.iter().all(is_new) {
                found.push(index);
                if found.len() == width {
                    return Some(found);
                }
            }
        }
        None
    }

    /// Most devices that a stage can still get.
    fn devices_left(&self) -> usize {
        let open = self.slots.iter().filter(|slot| !slot.closed);
        let devices: std::collections::BTreeSet<usize> = open.map(|slot| slot.device).collect();
        devices.len()
    }

    fn finish_if_over(&mut self, actions: &mut Vec<Action>) {
        if self.running > 0 || self.phase == Phase::New || self.phase == Phase::Finished {
            return;
        }
        let can_go_on = self.phase == Phase::Open
            && self.slots.iter().any(|slot| !slot.closed)
            && (self.pausing > 0 || !self.ready.is_empty());
        if !can_go_on {
            self.finish(actions);
        }
    }

    fn finish(&mut self, actions: &mut Vec<Action>) {
        for stage in 0..self.states.len() {
            if !matches!(self.states[stage], State::Ended(_)) {
                self.conclude(stage, End::Left, actions);
            }
        }
        self.phase = Phase::Finished;
        actions.push(Action::Finish);
    }

    fn make_ready(&mut self, stage: usize) {
        self.states[stage] = State::Ready;
        self.ready.push(Ready {
            path: self.path[stage],
            stage,
        });
    }

    fn conclude(&mut self, stage: usize, end: End, actions: &mut Vec<Action>) {
        self.states[stage] = State::Ended(end.clone());
        actions.push(Action::Ended { stage, end });
    }

    fn block_descendants(&mut self, by: usize, actions: &mut Vec<Action>) {
        let mut open = self.children[by].clone();
        while let Some(stage) = open.pop() {
            if self.states[stage] == State::Waiting && self.prior[stage] == Prior::Pending {
                self.conclude(stage, End::Blocked { by }, actions);
                open.extend_from_slice(&self.children[stage]);
            }
        }
    }

    fn running_stages(&self) -> Vec<usize> {
        let stages: std::collections::BTreeSet<usize> =
            self.slots.iter().filter_map(|slot| slot.stage).collect();
        stages.into_iter().collect()
    }
}

/// Work from each stage to the end of its longest descent, itself included. Stages that are done
/// weigh nothing.
fn longest_paths(stages: &[Stage]) -> Vec<f64> {
    let own = |stage: &Stage| {
        if stage.flops.is_finite() && stage.prior == Prior::Pending {
            stage.flops.max(0.0)
        } else {
            0.0
        }
    };
    let mut below = vec![0.0f64; stages.len()];
    let mut open_children = vec![0usize; stages.len()];
    for parent in stages.iter().filter_map(|stage| stage.parent) {
        open_children[parent] += 1;
    }
    // From the leaves up, each stage once all its children are known.
    let mut leaves: Vec<usize> = (0..stages.len())
        .filter(|&stage| open_children[stage] == 0)
        .collect();
    while let Some(stage) = leaves.pop() {
        below[stage] += own(&stages[stage]);
        if let Some(parent) = stages[stage].parent {
            below[parent] = below[parent].max(below[stage]);
            open_children[parent] -= 1;
            if open_children[parent] == 0 {
                leaves.push(parent);
            }
        }
    }
    below
}
