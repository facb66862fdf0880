//! A simulated scheduler: the real core and the real ledger, and around them what the loop does, with a model of
//! workers, devices and the store.

use super::store::{self, Change};
use super::world::{Dead, Event, Fault, Input, SimTimer, Time, World, failure};
use crate::rng::{KeyedRng, Purpose};
use crate::rundir::event::FailureClass;
use crate::schedule::actor::ledger::{Claimed, Ledger};
use crate::schedule::core::*;
use crate::schedule::policy::{policy, policy_of};
use crate::store::Claim;
use crate::store::rows::Status;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// Pause between looks at what nothing was heard of, as in the real scheduler's settings.
const LOOK: Time = 30_000;

/// Pause between looks at GPUs in use, and for space.
pub(super) const LOOK_AGAIN: Time = 2_000;

#[derive(Debug, Clone)]
pub struct Worker {
    pub attempt: u32,
    pub slots: Vec<usize>,
    pub outcome: Outcome,
}

/// What waits for the store.
#[derive(Debug)]
struct Batch {
    actions: Vec<Action>,
    changes: Vec<Change>,
    /// Stages whose devices were leased.
    leased: BTreeSet<usize>,
}

/// Failures of a stage since it last got further here.
#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    /// How many of the last one's class are retried.
    most: u32,
}

pub struct Scheduler {
    pub alive: bool,
    pub workers: BTreeMap<usize, Worker>,
    pub known: BTreeSet<usize>,
    pub(super) core: Core,
    pub(super) messages: VecDeque<Message>,
    due: Vec<Action>,
    pub(super) ledger: Ledger<()>,
    /// It waits for the store to have room, and what came in meanwhile.
    waiting: Option<Batch>,
    early: VecDeque<Input>,
    looking: bool,
    /// Slots that others use, GPUs that it doesn't use any more.
    pub(super) held: BTreeSet<usize>,
    pub(super) asking: bool,
    pub(super) lost: BTreeSet<usize>,
    on_hold: bool,
    failures: HashMap<usize, Failures>,
    furthest: HashMap<usize, u64>,
    /// Attempts that were relieved, by stage.
    relieved: HashMap<usize, u32>,
    /// Some stage was done since it began.
    pub(super) proven: bool,
}

impl World {
    pub fn start(&mut self) {
        let dead = |world: &World, owner: usize| !world.schedulers[owner].alive;
        // Workers of the dead are waited for, and so is a store without room.
        let busy = self
            .rows
            .iter()
            .any(|row| row.workers.iter().any(|&(owner, _)| dead(self, owner)));
        if busy || self.now < self.full_until {
            self.send(5, Event::Start);
            return;
        }
        for stage in 0..self.rows.len() {
            if let Some((owner, _)) = self.rows[stage].lease
                && dead(self, owner)
            {
                self.rows[stage].abandon();
            }
        }
        let stages = (self.stages.iter().zip(&self.rows))
            .map(|(stage, row)| Stage {
                prior: match (row.status, &row.failure) {
                    (Status::Done, _) => Prior::Done,
                    (Status::Failed, Some((class, message))) if !policy(*class).transient => {
                        Prior::Failed(Failure {
                            class: *class,
                            message: message.clone(),
                        })
                    }
                    _ => Prior::Pending,
                },
                ..stage.clone()
            })
            .collect();
        let slot = SlotTraits {
            can_be_lost: self.is_gpu(),
            shares_memory: !self.is_gpu(),
            is_share: self.scene.per_gpu > 1,
        };
        let count = match self.is_gpu() {
            true => self.scene.gpus * self.scene.per_gpu,
            false => self.scene.slots,
        };
        let devices: Vec<usize> = (0..count)
            .map(|slot| match self.is_gpu() {
                true => self.device(slot).0,
                false => slot,
            })
            .collect();
        let by = self.schedulers.len();
        self.schedulers.push(Scheduler {
            core: Core::with_limits(stages, vec![slot; count], self.scene.limits)
                .on_devices(&devices, self.widths.clone())
                .in_memory(self.scene.memory, self.needs.clone()),
            alive: true,
            messages: VecDeque::from([Message::Begin]),
            due: Vec::new(),
            workers: BTreeMap::new(),
            // One that another scheduler is at counts when it has ended.
            ledger: Ledger::new(
                (self.rows.iter())
                    .map(|row| row.attempts - u32::from(row.status == Status::Running))
                    .collect(),
            ),
            waiting: None,
            early: VecDeque::new(),
            known: BTreeSet::new(),
            looking: false,
            held: BTreeSet::new(),
            asking: false,
            lost: BTreeSet::new(),
            on_hold: false,
            failures: HashMap::new(),
            furthest: HashMap::new(),
            relieved: HashMap::new(),
            proven: false,
        });
        if self.scene.stops && self.rng.chance(0.3) {
            let first = self.rng.below(3_000);
            self.tell(first, by, Input::Stop);
            if self.rng.chance(0.5) {
                let second = first + self.rng.below(200);
                self.tell(second, by, Input::Stop);
                let third = second + self.rng.below(20);
                self.tell(third, by, Input::Stop);
            }
        }
        self.look_for_space(by);
        let _ = self.settle(by);
    }

    pub fn handle(&mut self, by: usize, input: Input) -> Result<(), Dead> {
        self.step(by)?;
        if self.schedulers[by].waiting.is_some() {
            return self.wait(by, input);
        }
        self.look_for_space(by);
        self.take(by, input)?;
        self.settle(by)
    }

    fn take(&mut self, by: usize, input: Input) -> Result<(), Dead> {
        let scheduler = &mut self.schedulers[by];
        match input {
            Input::Timer(timer) => scheduler.messages.push_back(Message::Timer(match timer {
                SimTimer::Retry(stage) => Timer::Retry { stage },
                SimTimer::Grace => Timer::Grace,
                SimTimer::Budget => Timer::Budget,
            })),
            Input::Checkpoint {
                stage,
                attempt,
                step,
            } => {
                if (scheduler.workers.get(&stage)).is_some_and(|worker| worker.attempt == attempt) {
                    self.checkpointed(by, stage, step, true);
                }
            }
            Input::Exit { stage, attempt } => self.exited(by, stage, attempt),
            Input::Peers => self.refresh(by),
            Input::OwnerGone(owner) => self.owner_gone(by, owner),
            Input::WorkersGone(owner) => self.take_over(by, owner)?,
            Input::Look => {
                scheduler.looking = false;
                self.refresh(by);
            }
            Input::Stop => scheduler.messages.push_back(Message::Stop),
            Input::Fault(device) => self.lose(by, device),
            Input::Check => {
                for device in scheduler.lost.clone() {
                    if !self.devices[device].lost {
                        self.schedulers[by].lost.remove(&device);
                        for slot in self.slots_on(device) {
                            let back = Message::DeviceBack { slot };
                            self.schedulers[by].messages.push_back(back);
                        }
                    }
                }
            }
            Input::LookAgain => {
                scheduler.asking = false;
                scheduler.messages.push_back(Message::MemoryFree);
                let free = |&slot: &usize| Message::SlotFree { slot };
                scheduler.messages.extend(scheduler.held.iter().map(free));
            }
            // Looked at before each.
            Input::Space | Input::Room => {}
        }
        Ok(())
    }

    /// While the store has no room: what needs none goes on.
    fn wait(&mut self, by: usize, input: Input) -> Result<(), Dead> {
        match input {
            Input::Room if self.now < self.full_until => self.tell(LOOK_AGAIN, by, Input::Room),
            Input::Room => {
                if let Some(batch) = self.schedulers[by].waiting.take() {
                    self.commit(by, batch)?;
                }
                while let Some(input) = self.schedulers[by].early.pop_front() {
                    self.take(by, input)?;
                }
                self.look_for_space(by);
                return self.settle(by);
            }
            Input::Stop
            | Input::Fault(_)
            | Input::Check
            | Input::Timer(SimTimer::Grace | SimTimer::Budget) => self.take(by, input)?,
            later => self.schedulers[by].early.push_back(later),
        }
        self.hasten(by)
    }

    fn hasten(&mut self, by: usize) -> Result<(), Dead> {
        while let Some(message) = self.schedulers[by].messages.pop_front() {
            let actions = self.schedulers[by].core.handle(message);
            let later = self.without_store(by, actions);
            self.schedulers[by].due.extend(later);
        }
        let scheduler = &self.schedulers[by];
        let is_gone = |stage: &usize| {
            let mut early = scheduler.early.iter();
            early.any(|input| matches!(input, Input::Exit { stage: gone, .. } if gone == stage))
        };
        let core = &scheduler.core;
        if core.is_killing() || core.is_stopping() && scheduler.workers.keys().all(is_gone) {
            return Err(self.give_up(by));
        }
        Ok(())
    }

    fn without_store(&mut self, by: usize, actions: Vec<Action>) -> Vec<Action> {
        let mut later = Vec::new();
        for action in actions {
            let at_once = match &action {
                Action::Terminate { stage } | Action::Kill { stage } => {
                    self.schedulers[by].workers.contains_key(stage)
                }
                Action::SetTimer { .. } | Action::Close(_) => true,
                _ => false,
            };
            if at_once {
                self.carry_out(by, action, &mut VecDeque::new());
            } else {
                later.push(action);
            }
        }
        later
    }

    fn look_for_space(&mut self, by: usize) {
        let short = self.now < self.short_until;
        let scheduler = &mut self.schedulers[by];
        if std::mem::replace(&mut scheduler.on_hold, short) != short {
            scheduler.messages.push_front(Message::Hold(short));
        }
        if short {
            self.tell(LOOK_AGAIN, by, Input::Space);
        }
    }

    /// The stage has a checkpoint at `step`; progress of its attempt unless that was asked to leave.
    fn checkpointed(&mut self, by: usize, stage: usize, step: u64, counts: bool) {
        // The log is read from its start: what earlier attempts wrote is known by then.
        let before = self.rows[stage].step;
        self.rows[stage].step = before.max(step);
        let scheduler = &mut self.schedulers[by];
        for (step, counts) in [(before, false), (step, counts)] {
            let furthest = scheduler.furthest.entry(stage).or_default();
            if step > *furthest {
                *furthest = step;
                if counts {
                    scheduler.failures.remove(&stage);
                }
            }
            scheduler.messages.push_back(Message::Checkpointed {
                stage,
                step,
                counts,
            });
        }
    }

    fn exited(&mut self, by: usize, stage: usize, attempt: u32) {
        let current = self.schedulers[by].workers.get(&stage);
        if current.is_none_or(|worker| worker.attempt != attempt) {
            return;
        }
        let Some(mut worker) = self.schedulers[by].workers.remove(&stage) else {
            return;
        };
        let is_gpu = self.is_gpu();
        let is_lost = is_gpu && {
            let lost = &self.schedulers[by].lost;
            let mut slots = worker.slots.iter();
            slots.any(|&slot| lost.contains(&self.device(slot).0))
        };
        if let Outcome::Failed(failed) = &mut worker.outcome {
            if is_lost {
                *failed = failure(FailureClass::DeviceLost, false);
            }
            if matches!(failed.class, FailureClass::Hung | FailureClass::Timeout) {
                // It was asked to leave, and wrote a checkpoint.
                let step = self.rows[stage].step + 1;
                self.checkpointed(by, stage, step, false);
            }
        }
        if let Outcome::Failed(failed) = &worker.outcome {
            let relieved = self.schedulers[by].relieved.entry(stage).or_default();
            let moves = is_gpu && failed.class == FailureClass::DeviceLost;
            if failed.class == FailureClass::OutOfMemory && *relieved < 2 && stage.is_multiple_of(2)
            {
                *relieved += 1;
                let relieved = Message::Relieved { stage };
                self.schedulers[by].messages.push_back(relieved);
            } else if !moves {
                let policy = policy_of(failed.class, &failed.message);
                let more = match self.scene.per_gpu > 1 {
                    true => policy.more_on_shares,
                    false => 0,
                };
                let failures = &mut self.schedulers[by].failures;
                let count = failures.get(&stage).map_or(0, |known| known.count);
                let failures = Failures {
                    count: count + 1,
                    most: policy.retries + more,
                };
                self.schedulers[by].failures.insert(stage, failures);
            }
        }
        let scheduler = &mut self.schedulers[by];
        scheduler.ledger.judged(stage, attempt, ());
        let outcome = worker.outcome;
        scheduler
            .messages
            .push_back(Message::WorkerExited { stage, outcome });
    }

    fn settle(&mut self, by: usize) -> Result<(), Dead> {
        loop {
            let scheduler = &mut self.schedulers[by];
            let mut actions = std::mem::take(&mut scheduler.due);
            while let Some(message) = scheduler.messages.pop_front() {
                actions.extend(scheduler.core.handle(message));
            }
            if actions.is_empty() {
                break;
            }
            let actions = self.without_store(by, actions);
            if self.step(by)? == Some(Fault::CommitFails) {
                return Err(self.give_up(by));
            }
            let mut batch = Batch {
                changes: Vec::new(),
                leased: BTreeSet::new(),
                actions,
            };
            for action in &batch.actions {
                if let Action::Spawn { stage, .. } = *action {
                    if self.lease(by, stage) {
                        let seen = self.schedulers[by].ledger.seen(stage);
                        batch.leased.insert(stage);
                        batch.changes.push(Change::Claim { stage, seen });
                    }
                    continue;
                }
                let Scheduler {
                    ledger, workers, ..
                } = &mut self.schedulers[by];
                let has_worker = |stage| workers.contains_key(&stage);
                let left = || failure(FailureClass::Killed, false);
                let entry = ledger.entry(action, has_worker, left);
                batch.changes.extend(entry.map(Change::Entry));
            }
            if self.now < self.full_until && !batch.changes.is_empty() {
                self.schedulers[by].waiting = Some(batch);
                self.tell(LOOK_AGAIN, by, Input::Room);
                return self.hasten(by);
            }
            self.commit(by, batch)?;
        }
        self.check_reasons(by);
        let scheduler = &mut self.schedulers[by];
        let waits = !scheduler.workers.is_empty() || !scheduler.core.elsewhere().is_empty();
        if scheduler.alive && waits && !std::mem::replace(&mut scheduler.looking, true) {
            self.tell(LOOK, by, Input::Look);
        }
        Ok(())
    }

    /// Whoever is alive and waits has a reason for each stage.
    fn check_reasons(&self, by: usize) {
        let scheduler = &self.schedulers[by];
        for stage in (0..self.stages.len()).filter(|_| scheduler.alive) {
            let why = scheduler.core.why(stage);
            assert_ne!(why, Reason::Turn, "stage {stage} could be started");
            let runs = scheduler.workers.contains_key(&stage);
            assert_eq!(why == Reason::Runs, runs, "stage {stage}");
        }
    }

    /// Makes the changes in the store, and carries out what follows.
    fn commit(&mut self, by: usize, batch: Batch) -> Result<(), Dead> {
        let mut claims = VecDeque::new();
        let mut released = false;
        for change in batch.changes {
            match change {
                Change::Claim { stage, seen } => {
                    claims.push_back(self.rows[stage].claim(by, seen));
                }
                Change::Entry(entry) => {
                    let stage = match &entry {
                        crate::schedule::actor::ledger::Entry::End { stage, .. }
                        | crate::schedule::actor::ledger::Entry::Release { stage } => *stage,
                    };
                    released |= self.rows[stage].enter(by, entry);
                }
            }
        }
        self.step(by)?;
        if released {
            self.announce(by);
        }
        for action in batch.actions {
            self.step(by)?;
            match action {
                // Nothing was claimed where its devices are busy.
                Action::Spawn { stage, .. } if !batch.leased.contains(&stage) => {}
                action => self.carry_out(by, action, &mut claims),
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, by: usize, action: Action, claims: &mut VecDeque<Claim>) {
        match action {
            Action::Spawn { stage, .. } => {
                let claim = claims.pop_front().expect("a claim without an answer");
                let standing = match Claimed::from(claim) {
                    Claimed::Won(attempt) => return self.spawn(by, stage, attempt),
                    Claimed::Held(owner) => {
                        self.watch(by, store::scheduler(&owner));
                        Standing::Elsewhere
                    }
                    Claimed::Over(standing) => standing,
                };
                self.leave_devices(by, stage);
                self.schedulers[by]
                    .messages
                    .push_back(Message::Refused { stage, standing });
            }
            Action::Terminate { stage } | Action::Kill { stage } => {
                self.kill_worker(by, stage, FailureClass::Killed);
            }
            Action::SetTimer { timer, after } => {
                let timer = match timer {
                    Timer::Retry { stage } => SimTimer::Retry(stage),
                    Timer::Grace => SimTimer::Grace,
                    Timer::Budget => SimTimer::Budget,
                };
                self.tell(after.as_millis() as Time, by, Input::Timer(timer));
            }
            Action::CloseSlot { slot } => {
                let (device, _) = self.device(slot);
                self.lose(by, device);
            }
            Action::Ended { end: End::Done, .. } => self.schedulers[by].proven = true,
            Action::Finish => self.die(by),
            _ => {}
        }
    }

    fn spawn(&mut self, by: usize, stage: usize, attempt: u32) {
        if let Some(parent) = self.stages[stage].parent {
            assert_eq!(self.rows[parent].status, Status::Done, "before its parent");
        }
        let row = &mut self.rows[stage];
        assert_eq!(row.lease, Some((by, attempt)), "a worker without a lease");
        assert!(row.finished.is_empty(), "stage {stage} is done already");
        row.workers.push((by, attempt));
        assert_eq!(row.workers.len(), 1, "stage {stage} runs twice");
        let slots = self.schedulers[by].core.slots_of(stage);
        self.check_place(by, stage, &slots);
        if let Some(&Failures { count, most }) = self.schedulers[by].failures.get(&stage) {
            assert!(count <= most, "{count} retries, {most} are allowed");
        }
        self.schedulers[by].ledger.won(stage, attempt);
        let number = u64::from(attempt);
        let mut rng = KeyedRng::new(self.scene.seed, Purpose::Test, stage as u32 + 2, number);
        let outcome = if rng.chance(self.scene.failing) {
            let class = FailureClass::ALL[rng.below(FailureClass::ALL.len() as u64) as usize];
            Outcome::Failed(failure(class, self.is_gpu()))
        } else {
            Outcome::Done
        };
        let worker = Worker {
            attempt,
            slots,
            outcome,
        };
        self.schedulers[by].workers.insert(stage, worker);
        let length = 10 + rng.below(500);
        if rng.chance(0.3) {
            // Further than ever, or just as far as an attempt before it.
            let step = self.rows[stage].step + rng.below(2);
            let checkpoint = Input::Checkpoint {
                stage,
                attempt,
                step,
            };
            self.tell(length / 2, by, checkpoint);
        }
        self.tell(length, by, Input::Exit { stage, attempt });
    }
}
