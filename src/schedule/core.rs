//! The scheduler's state machine: queue, slots, leases, retries, limits, draining.
//!
//! Pure: no clock, no files, no processes. [`Core::handle`] takes one [`Message`] and returns the
//! [`Action`]s that it asks for, in order; the same messages always give the same actions. Times are
//! durations that whoever carries the actions out must wait for. That makes every course of events,
//! faults included, a sequence of messages that a test can write down and the simulator can go through.
//!
//! Promises, held by property tests: every stage ends exactly once, as done, failed, blocked or
//! left; a failure blocks the stage's descendants and nothing else; a slot holds at most one worker;
//! a stage starts only when its parent is done; stages that share memory never need more than there is.
//!
//! A stage that another scheduler of the same store has is *elsewhere*: it holds no slot here, its children
//! wait, and what becomes of it is told by [`Message::Told`].

mod devices;
mod model;
mod queue;
mod renewal;
mod retries;
mod why;

pub use model::*;

use devices::SlotState;
use queue::Queue;
use retries::Place;
use std::collections::BTreeSet;

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
    /// Another scheduler has it.
    Elsewhere,
    Ended(End),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    New,
    Open,
    /// No new stages; workers go on.
    Closing,
    /// No new stages; workers were asked to leave.
    Draining,
    /// Workers were killed.
    Killing,
    Finished,
}

/// The stage that must be done before any other starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Canary {
    /// None, or it is done.
    Off,
    Wanted,
    Chosen(usize),
}

/// The state machine.
#[derive(Debug, Clone)]
pub struct Core {
    states: Vec<State>,
    prior: Vec<Prior>,
    parents: Vec<Option<usize>>,
    children: Vec<Vec<usize>>,
    /// Retries spent since the stage last got further than ever before.
    retries: Vec<u32>,
    /// The furthest step of a checkpoint of each stage.
    furthest: Vec<u64>,
    /// Stages whose next attempt needs less than the last one.
    relieved: BTreeSet<usize>,
    slots: Vec<SlotState>,
    /// How many devices each stage uses at once; 1 for those beyond its end.
    widths: Vec<usize>,
    /// Bytes of the host's memory that each stage needs; none for those beyond its end.
    needs: Vec<u64>,
    /// Bytes that stages on slots that share memory have together.
    capacity: u64,
    /// Bytes of the host's memory that everybody has, and that there are, while there was no room for a stage.
    taken: Option<(u64, u64)>,
    /// Stages that are ready, but ask for more devices than are left.
    parked: Vec<usize>,
    /// May hold stages that were done elsewhere since: only those whose state is ready count.
    queue: Queue,
    ready: usize,
    running: usize,
    pausing: usize,
    elsewhere: BTreeSet<usize>,
    /// Stages that failed since it began.
    failures: u32,
    /// Most workers at once.
    limit: usize,
    limits: Limits,
    canary: Canary,
    /// Stages whose workers could not use what their parents have left.
    orphans: BTreeSet<usize>,
    /// Stages that were done once more for that.
    renewed: BTreeSet<usize>,
    /// Stages that could go on, but for their parents.
    stranded: Vec<usize>,
    /// No stage is started for now.
    on_hold: bool,
    phase: Phase,
    /// Why no new stage is started, unless by a stop.
    closed: Option<Closing>,
}

impl Core {
    /// A scheduler of `stages` on `slots` without limits. Parents must form a forest (no cycles); `plan`
    /// sees to it, and a stage in a cycle would be left at the end.
    pub fn new(stages: Vec<Stage>, slots: Vec<SlotTraits>) -> Core {
        Core::with_limits(stages, slots, Limits::default())
    }

    /// The same, with limits.
    pub fn with_limits(stages: Vec<Stage>, slots: Vec<SlotTraits>, limits: Limits) -> Core {
        let mut children = vec![Vec::new(); stages.len()];
        for (index, stage) in stages.iter().enumerate() {
            if let Some(parent) = stage.parent {
                children[parent].push(index);
            }
        }
        Core {
            states: vec![State::Waiting; stages.len()],
            retries: vec![0; stages.len()],
            furthest: vec![0; stages.len()],
            relieved: BTreeSet::new(),
            children,
            queue: Queue::new(&stages),
            limit: slots.len(),
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
            widths: Vec::new(),
            needs: Vec::new(),
            capacity: u64::MAX,
            taken: None,
            parked: Vec::new(),
            orphans: BTreeSet::new(),
            renewed: BTreeSet::new(),
            stranded: Vec::new(),
            on_hold: false,
            ready: 0,
            running: 0,
            pausing: 0,
            elsewhere: BTreeSet::new(),
            failures: 0,
            limits,
            canary: if limits.canary {
                Canary::Wanted
            } else {
                Canary::Off
            },
            phase: Phase::New,
            closed: None,
            parents: stages.iter().map(|stage| stage.parent).collect(),
            prior: stages.into_iter().map(|stage| stage.prior).collect(),
        }
    }

    /// Takes one message; returns what is to be done, in order.
    pub fn handle(&mut self, message: Message) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.phase == Phase::Finished {
            return actions;
        }
        match message {
            Message::Begin => self.begin(&mut actions),
            Message::Checkpointed {
                stage,
                step,
                counts,
            } => self.checkpointed(stage, step, counts),
            Message::Relieved { stage } => {
                self.relieved.insert(stage);
            }
            Message::Hold(hold) => self.on_hold = hold,
            Message::ParentLost { stage } => self.parent_lost(stage),
            Message::WorkerExited { stage, outcome } => self.exited(stage, outcome, &mut actions),
            Message::SlotBusy { stage, slot } => self.slot_busy(stage, slot),
            Message::SlotFree { slot } => self.slots[slot].held = false,
            Message::MemoryBusy {
                stage,
                used,
                capacity,
            } => self.memory_busy(stage, (used, capacity)),
            Message::MemoryFree => self.taken = None,
            Message::DeviceLost { slot } => self.close_device(slot, &mut actions),
            Message::DeviceBack { slot } => self.device_back(slot),
            Message::Refused { stage, standing } => self.refused(stage, standing, &mut actions),
            Message::Told { stage, standing } => self.told(stage, standing, &mut actions),
            Message::Timer(Timer::Retry { stage }) => self.retry(stage),
            Message::Timer(Timer::Grace) => self.kill(&mut actions),
            Message::Timer(Timer::Budget) => self.over_budget(&mut actions),
            Message::Stop => self.stop(&mut actions),
        }
        self.block_stranded(&mut actions);
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

    /// Whether a stop was asked for, by the user or by the end of the budget.
    pub fn is_stopping(&self) -> bool {
        matches!(self.phase, Phase::Draining | Phase::Killing)
    }

    /// Whether workers were killed for it.
    pub fn is_killing(&self) -> bool {
        self.phase == Phase::Killing
    }

    /// Stages that another scheduler has.
    pub fn elsewhere(&self) -> &BTreeSet<usize> {
        &self.elsewhere
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
        if let Some(after) = self.limits.budget {
            actions.push(Action::SetTimer {
                timer: Timer::Budget,
                after,
            });
        }
    }

    fn exited(&mut self, stage: usize, outcome: Outcome, actions: &mut Vec<Action>) {
        let State::Running { slot } = self.states[stage] else {
            return;
        };
        let slots = self.slots_of(stage);
        let place = Place {
            slot,
            is_lost: slots.iter().any(|&slot| self.slots[slot].closed),
            is_share: slots.iter().any(|&slot| self.slots[slot].traits.is_share),
            workers: self.running,
            relieved: self.relieved.remove(&stage),
        };
        self.free(stage);
        match outcome {
            Outcome::Done => self.done(stage, actions),
            Outcome::Failed(failure) => self.failed(stage, &place, failure, actions),
        }
    }

    fn refused(&mut self, stage: usize, standing: Standing, actions: &mut Vec<Action>) {
        if !matches!(self.states[stage], State::Running { .. }) {
            return;
        }
        self.free(stage);
        match standing {
            Standing::Elsewhere => {
                self.states[stage] = State::Elsewhere;
                self.elsewhere.insert(stage);
            }
            Standing::Done => self.done(stage, actions),
            Standing::Failed(failure) => self.give_up(stage, failure, actions),
            Standing::Free => self.make_ready(stage),
        }
    }

    fn told(&mut self, stage: usize, standing: Standing, actions: &mut Vec<Action>) {
        if self.phase == Phase::New {
            return;
        }
        match self.states[stage] {
            State::Elsewhere if standing != Standing::Elsewhere => {
                self.elsewhere.remove(&stage);
            }
            State::Ready if matches!(standing, Standing::Done | Standing::Failed(_)) => {
                // One that is parked isn't counted.
                self.ready -= usize::from(!self.parked.contains(&stage));
            }
            State::Waiting if standing == Standing::Done => {}
            // What runs or pauses here is ours, whatever others say.
            _ => return,
        }
        match standing {
            Standing::Done => self.done(stage, actions),
            Standing::Failed(failure) => self.give_up(stage, failure, actions),
            Standing::Free => self.make_ready(stage),
            Standing::Elsewhere => {}
        }
    }

    fn done(&mut self, stage: usize, actions: &mut Vec<Action>) {
        if self.canary == Canary::Chosen(stage) {
            self.canary = Canary::Off;
        }
        self.conclude(stage, End::Done, actions);
        for child in self.children[stage].clone() {
            if self.states[child] == State::Waiting {
                self.make_ready(child);
            }
        }
    }

    /// The stage has failed for good.
    fn give_up(&mut self, stage: usize, failure: Failure, actions: &mut Vec<Action>) {
        self.conclude(stage, End::Failed(failure), actions);
        self.block_descendants(stage, actions);
        self.failures += 1;
        if self.canary == Canary::Chosen(stage) {
            self.close(Closing::Canary { stage }, actions);
        } else if self
            .limits
            .max_fail
            .is_some_and(|most| self.failures >= most)
        {
            self.close(Closing::MaxFail(self.failures), actions);
        }
    }

    fn close(&mut self, cause: Closing, actions: &mut Vec<Action>) {
        if self.phase == Phase::Open {
            self.phase = Phase::Closing;
            self.closed = Some(cause);
            actions.push(Action::Close(cause));
        }
    }

    fn over_budget(&mut self, actions: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Open | Phase::Closing) {
            self.closed = Some(Closing::Budget);
            actions.push(Action::Close(Closing::Budget));
            self.stop(actions);
        }
    }

    fn stop(&mut self, actions: &mut Vec<Action>) {
        match self.phase {
            Phase::New | Phase::Open | Phase::Closing => {
                self.phase = Phase::Draining;
                for stage in self.running_stages() {
                    actions.push(Action::Terminate { stage });
                }
                if self.running > 0 {
                    actions.push(Action::SetTimer {
                        timer: Timer::Grace,
                        after: self.limits.grace.unwrap_or(GRACE),
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
        while self.ready > 0 {
            if self.canary != Canary::Off && self.running > 0 {
                return;
            }
            let Some(stage) = self.next_stage() else {
                return;
            };
            if self.width(stage) > self.devices_left() {
                self.queue.take(stage);
                self.ready -= 1;
                self.parked.push(stage);
                if self.canary == Canary::Chosen(stage) {
                    self.canary = Canary::Wanted;
                }
                continue;
            }
            // The first in line waits for as many devices and as much memory as it needs, and the others
            // behind it.
            let Some(slots) = self.free_slots(stage) else {
                return;
            };
            self.queue.take(stage);
            self.ready -= 1;
            for &slot in &slots {
                self.slots[slot].stage = Some(stage);
            }
            let slot = slots[0];
            self.states[stage] = State::Running { slot };
            self.running += 1;
            actions.push(Action::Spawn { stage, slot });
        }
    }

    /// The stage whose turn it is; it stays in the queue. While there is a canary, that one.
    fn next_stage(&mut self) -> Option<usize> {
        if self.canary == Canary::Wanted {
            self.forget_stale();
            self.canary = self.queue.cheapest().map_or(Canary::Wanted, Canary::Chosen);
        }
        if let Canary::Chosen(stage) = self.canary {
            return (self.states[stage] == State::Ready).then_some(stage);
        }
        loop {
            let stage = self.queue.peek()?;
            if self.states[stage] == State::Ready {
                return Some(stage);
            }
            self.queue.take(stage);
        }
    }

    /// Takes out of the queue what has ended elsewhere.
    fn forget_stale(&mut self) {
        let states = &self.states;
        self.queue.retain(|stage| states[stage] == State::Ready);
    }

    fn finish_if_over(&mut self, actions: &mut Vec<Action>) {
        if self.running > 0 || self.phase == Phase::New || self.phase == Phase::Finished {
            return;
        }
        let can_go_on = self.phase == Phase::Open
            && self.slots.iter().any(|slot| !slot.closed)
            && (self.pausing > 0 || self.ready > 0 || !self.elsewhere.is_empty());
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

    /// The stage may be started, unless its parent is being done again.
    fn make_ready(&mut self, stage: usize) {
        let is_done = |parent: usize| self.states[parent] == State::Ended(End::Done);
        if !self.parents[stage].is_none_or(is_done) {
            self.states[stage] = State::Waiting;
            self.stranded.push(stage);
            return;
        }
        self.states[stage] = State::Ready;
        self.ready += 1;
        self.queue.push(stage);
    }

    fn conclude(&mut self, stage: usize, end: End, actions: &mut Vec<Action>) {
        self.states[stage] = State::Ended(end.clone());
        actions.push(Action::Ended { stage, end });
    }

    fn block_descendants(&mut self, by: usize, actions: &mut Vec<Action>) {
        self.block_children(by, by, actions);
    }

    fn block_children(&mut self, stage: usize, by: usize, actions: &mut Vec<Action>) {
        let mut open = self.children[stage].clone();
        while let Some(stage) = open.pop() {
            if self.states[stage] == State::Waiting && self.prior[stage] == Prior::Pending {
                self.conclude(stage, End::Blocked { by }, actions);
                open.extend_from_slice(&self.children[stage]);
            }
        }
    }
}
