//! A deterministic simulator: several schedulers on one store, a virtual clock, and a fault at every step.
//!
//! The state machine is the real one. Around it is a model of all else: workers that checkpoint, finish,
//! fail or die; a store with leases; timers; notices that arrive late or never. A run is a function of its
//! seed and its faults, so what fails fails again. Promises that are checked while it runs:
//!
//! - a stage is finished once, and never runs in two places at once;
//! - a slot holds one worker; a worker starts only under a lease that is in the store, on a parent that is
//!   done there;
//! - retries obey the policy;
//! - every scheduler comes to its end, every stage to an end or to the next execution, and no lease of
//!   a dead scheduler stays.

use super::core::*;
use super::policy::policy;
use crate::rng::{KeyedRng, Purpose};
use crate::rundir::event::FailureClass;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};

/// Milliseconds of the virtual clock.
type Time = u64;

/// Pause between looks at what nothing was heard of, as in the real scheduler's settings.
const LOOK: Time = 30_000;

/// Most events of one run; more means that it doesn't come to an end.
const PATIENCE: usize = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The scheduler at work dies, and its workers a little later.
    SchedulerDies,
    /// A worker of the scheduler at work is killed.
    WorkerDies,
    /// The store can't commit: the scheduler gives up.
    CommitFails,
    /// The next notice to another scheduler doesn't arrive.
    NoticeLost,
    /// An hour passes at once (a suspended machine): all timers are due.
    ClockJumps,
}

const FAULTS: [Fault; 5] = [
    Fault::SchedulerDies,
    Fault::WorkerDies,
    Fault::CommitFails,
    Fault::NoticeLost,
    Fault::ClockJumps,
];

/// The scheduler that was at work is no more.
struct Dead;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Start,
    Timer(usize, SimTimer),
    Checkpoint {
        by: usize,
        stage: usize,
        attempt: u32,
    },
    Exit {
        by: usize,
        stage: usize,
        attempt: u32,
    },
    Peers(usize),
    OwnerGone(usize, usize),
    WorkersGone(usize, usize),
    Look(usize),
    Stop(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum SimTimer {
    Retry(usize),
    Grace,
    Budget,
}

#[derive(Debug, Clone, PartialEq)]
enum Stored {
    Pending,
    Running,
    Done,
    Failed(FailureClass),
}

/// A stage as store and run directory have it.
#[derive(Debug, Clone)]
struct Row {
    state: Stored,
    attempts: u32,
    /// Owner and attempt.
    lease: Option<(usize, u32)>,
    /// Attempts whose logs say that they finished.
    finished: Vec<u32>,
    /// Workers that are alive: scheduler and attempt.
    workers: Vec<(usize, u32)>,
}

#[derive(Debug, Clone)]
struct Worker {
    attempt: u32,
    slot: usize,
    outcome: Outcome,
}

struct Scheduler {
    core: Core,
    alive: bool,
    messages: VecDeque<Message>,
    workers: BTreeMap<usize, Worker>,
    /// Attempts that have ended and wait for the core's ruling.
    judged: BTreeMap<usize, u32>,
    held: BTreeSet<usize>,
    seen: Vec<u32>,
    known: BTreeSet<usize>,
    looking: bool,
    /// Failures of a stage since its last checkpoint here, and the last one's class.
    failures: HashMap<usize, (u32, FailureClass)>,
}

/// What is simulated.
#[derive(Debug, Clone)]
struct Scene {
    seed: u64,
    stages: usize,
    schedulers: usize,
    slots: usize,
    /// Probability that an attempt fails by itself.
    failing: f64,
    limits: Limits,
    /// The user stops schedulers now and then.
    stops: bool,
}

struct World {
    scene: Scene,
    stages: Vec<Stage>,
    rows: Vec<Row>,
    schedulers: Vec<Scheduler>,
    now: Time,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    sent: u64,
    steps: usize,
    /// The fault of a certain step.
    fault: Option<(usize, Fault)>,
    /// Probability of some fault at each step.
    chaos: f64,
    rng: KeyedRng,
    lose_notice: bool,
    /// Faults that have come about.
    struck: usize,
}

impl World {
    fn new(scene: Scene, fault: Option<(usize, Fault)>, chaos: f64) -> World {
        let mut rng = KeyedRng::new(scene.seed, Purpose::Test, 0, 1);
        let mut order: Vec<usize> = (0..scene.stages).collect();
        rng.shuffle(&mut order);
        let mut stages: Vec<Stage> = (0..scene.stages)
            .map(|_| Stage {
                parent: None,
                flops: rng.unit(),
                priority: rng.below(3) as i32,
                prior: Prior::Pending,
            })
            .collect();
        for position in 1..order.len() {
            if rng.chance(0.5) {
                stages[order[position]].parent = Some(order[rng.below(position as u64) as usize]);
            }
        }
        let row = Row {
            state: Stored::Pending,
            attempts: 0,
            lease: None,
            finished: Vec::new(),
            workers: Vec::new(),
        };
        let mut world = World {
            rows: vec![row; scene.stages],
            stages,
            schedulers: Vec::new(),
            now: 0,
            events: BinaryHeap::new(),
            sent: 0,
            steps: 0,
            fault,
            chaos,
            lose_notice: false,
            struck: 0,
            rng,
            scene,
        };
        for _ in 0..world.scene.schedulers {
            let after = world.rng.below(200);
            world.send(after, Event::Start);
        }
        world
    }

    /// Runs until nothing happens any more; then new schedulers, without faults, until nothing is left.
    fn run(mut self) -> World {
        self.drain();
        self.fault = None;
        self.chaos = 0.0;
        self.scene.stops = false;
        self.scene.limits = Limits::default();
        for _ in 0..4 {
            self.send(1, Event::Start);
            self.drain();
        }
        for (index, row) in self.rows.iter().enumerate() {
            assert_eq!(row.lease, None, "stage {index} is leased after the end");
            assert!(row.workers.is_empty(), "a worker of stage {index} is left");
            assert!(row.finished.len() <= 1, "stage {index} was trained twice");
            let blocked = self.has_failed_ancestor(index);
            match row.state {
                Stored::Done => assert_eq!(row.finished.len(), 1),
                Stored::Pending => assert!(blocked, "stage {index} was forgotten"),
                Stored::Failed(class) => assert!(
                    !policy(class).transient || row.attempts > 0,
                    "stage {index}: {class:?}"
                ),
                Stored::Running => panic!("stage {index} still reads running"),
            }
        }
        assert!(self.schedulers.iter().all(|scheduler| !scheduler.alive));
        self
    }

    fn has_failed_ancestor(&self, mut stage: usize) -> bool {
        while let Some(parent) = self.stages[stage].parent {
            if matches!(self.rows[parent].state, Stored::Failed(_)) {
                return true;
            }
            stage = parent;
        }
        false
    }

    fn send(&mut self, after: Time, event: Event) {
        self.sent += 1;
        self.events
            .push(Reverse((self.now + after, self.sent, event)));
    }

    fn drain(&mut self) {
        let mut count = 0;
        while let Some(Reverse((time, _, event))) = self.events.pop() {
            count += 1;
            assert!(count < PATIENCE, "it doesn't come to an end");
            self.now = self.now.max(time);
            let by = match &event {
                Event::Start => {
                    self.start();
                    continue;
                }
                Event::Timer(by, _)
                | Event::Checkpoint { by, .. }
                | Event::Exit { by, .. }
                | Event::Peers(by)
                | Event::OwnerGone(by, _)
                | Event::WorkersGone(by, _)
                | Event::Look(by)
                | Event::Stop(by) => *by,
            };
            // What a worker does, it does even if nobody listens.
            self.work(&event);
            if self.schedulers[by].alive {
                // Whoever dies under way leaves it at that.
                let _ = self.handle(by, event);
            }
        }
        let waiting: Vec<usize> = (0..self.schedulers.len())
            .filter(|&by| self.schedulers[by].alive)
            .collect();
        assert!(waiting.is_empty(), "schedulers {waiting:?} wait for ever");
    }

    /// A fault may strike here, in the scheduler `by`.
    fn step(&mut self, by: usize) -> Result<Option<Fault>, Dead> {
        self.steps += 1;
        let fault = match self.fault {
            Some((step, fault)) if step == self.steps => Some(fault),
            _ if self.rng.chance(self.chaos) => Some(FAULTS[self.rng.below(5) as usize]),
            _ => None,
        };
        let Some(fault) = fault else {
            return Ok(None);
        };
        self.struck += 1;
        match fault {
            Fault::SchedulerDies => {
                self.die(by);
                // Somebody starts it again, sooner or later.
                let after = self.rng.below(3_000);
                self.send(after, Event::Start);
                return Err(Dead);
            }
            Fault::WorkerDies => {
                let victims: Vec<usize> = self.schedulers[by].workers.keys().copied().collect();
                if !victims.is_empty() {
                    let stage = victims[self.rng.below(victims.len() as u64) as usize];
                    self.kill_worker(by, stage);
                }
            }
            Fault::CommitFails => {}
            Fault::NoticeLost => self.lose_notice = true,
            Fault::ClockJumps => self.now += 3_600_000,
        }
        Ok(Some(fault))
    }

    /// The end of a scheduler, in order or not: its workers die with it, its peers hear of it.
    fn die(&mut self, by: usize) {
        self.schedulers[by].alive = false;
        for stage in self.schedulers[by]
            .workers
            .keys()
            .copied()
            .collect::<Vec<_>>()
        {
            self.kill_worker(by, stage);
        }
        for peer in 0..self.schedulers.len() {
            if self.schedulers[peer].known.contains(&by) {
                // A kernel lock, no notice: it isn't lost.
                let after = self.rng.below(5);
                self.send(after, Event::OwnerGone(peer, by));
            }
        }
    }

    fn kill_worker(&mut self, by: usize, stage: usize) {
        if let Some(worker) = self.schedulers[by].workers.get_mut(&stage) {
            let attempt = worker.attempt;
            if !self.rows[stage].workers.contains(&(by, attempt)) {
                // It is gone already; what it has said stays said.
                return;
            }
            worker.outcome = killed();
            let after = self.rng.below(20);
            self.send(after, Event::Exit { by, stage, attempt });
        }
    }

    /// What happens in the world outside when a worker checkpoints or ends.
    fn work(&mut self, event: &Event) {
        let Event::Exit { by, stage, attempt } = *event else {
            return;
        };
        let row = &mut self.rows[stage];
        let Some(place) = row.workers.iter().position(|&w| w == (by, attempt)) else {
            return;
        };
        row.workers.remove(place);
        let worker = &self.schedulers[by].workers[&stage];
        if worker.outcome == Outcome::Done {
            row.finished.push(attempt);
            assert_eq!(row.finished.len(), 1, "stage {stage} was trained twice");
        }
    }

    // -----------------------------------------------------------------------------------------
    // A scheduler, as the actor is.

    fn start(&mut self) {
        let dead = |world: &World, owner: usize| !world.schedulers[owner].alive;
        // Workers of the dead are waited for.
        let busy = self
            .rows
            .iter()
            .any(|row| row.workers.iter().any(|&(owner, _)| dead(self, owner)));
        if busy {
            self.send(5, Event::Start);
            return;
        }
        for stage in 0..self.rows.len() {
            if let Some((owner, _)) = self.rows[stage].lease
                && dead(self, owner)
            {
                self.abandon(stage);
            }
        }
        let stages = (self.stages.iter().zip(&self.rows))
            .map(|(stage, row)| Stage {
                prior: match row.state {
                    Stored::Done => Prior::Done,
                    Stored::Failed(class) if !policy(class).transient => {
                        Prior::Failed(failure(class))
                    }
                    _ => Prior::Pending,
                },
                ..stage.clone()
            })
            .collect();
        let slot = SlotTraits {
            can_be_lost: false,
            shares_memory: true,
        };
        let by = self.schedulers.len();
        self.schedulers.push(Scheduler {
            core: Core::with_limits(stages, vec![slot; self.scene.slots], self.scene.limits),
            alive: true,
            messages: VecDeque::from([Message::Begin]),
            workers: BTreeMap::new(),
            judged: BTreeMap::new(),
            held: BTreeSet::new(),
            // One that another scheduler is at counts when it has ended.
            seen: (self.rows.iter())
                .map(|row| row.attempts - u32::from(row.state == Stored::Running))
                .collect(),
            known: BTreeSet::new(),
            looking: false,
            failures: HashMap::new(),
        });
        if self.scene.stops && self.rng.chance(0.3) {
            let first = self.rng.below(3_000);
            self.send(first, Event::Stop(by));
            if self.rng.chance(0.5) {
                let second = first + self.rng.below(200);
                self.send(second, Event::Stop(by));
                let third = second + self.rng.below(20);
                self.send(third, Event::Stop(by));
            }
        }
        let _ = self.settle(by);
    }

    fn handle(&mut self, by: usize, event: Event) -> Result<(), Dead> {
        self.step(by)?;
        match event {
            Event::Start => {}
            Event::Timer(_, timer) => {
                let timer = match timer {
                    SimTimer::Retry(stage) => Timer::Retry { stage },
                    SimTimer::Grace => Timer::Grace,
                    SimTimer::Budget => Timer::Budget,
                };
                self.schedulers[by]
                    .messages
                    .push_back(Message::Timer(timer));
            }
            Event::Checkpoint { stage, attempt, .. } => {
                let scheduler = &mut self.schedulers[by];
                if (scheduler.workers.get(&stage)).is_some_and(|worker| worker.attempt == attempt) {
                    scheduler.failures.remove(&stage);
                    scheduler
                        .messages
                        .push_back(Message::Checkpointed { stage });
                }
            }
            Event::Exit { stage, attempt, .. } => self.exited(by, stage, attempt),
            Event::Peers(_) => self.refresh(by),
            Event::OwnerGone(_, owner) => self.owner_gone(by, owner),
            Event::WorkersGone(_, owner) => self.take_over(by, owner)?,
            Event::Look(_) => {
                self.schedulers[by].looking = false;
                self.refresh(by);
            }
            Event::Stop(_) => self.schedulers[by].messages.push_back(Message::Stop),
        }
        self.settle(by)
    }

    fn exited(&mut self, by: usize, stage: usize, attempt: u32) {
        let scheduler = &mut self.schedulers[by];
        let current = scheduler.workers.get(&stage);
        if current.is_none_or(|worker| worker.attempt != attempt) {
            return;
        }
        let Some(worker) = scheduler.workers.remove(&stage) else {
            return;
        };
        if let Outcome::Failed(failure) = &worker.outcome {
            let count = scheduler.failures.get(&stage).map_or(0, |known| known.0);
            scheduler.failures.insert(stage, (count + 1, failure.class));
        }
        scheduler.judged.insert(stage, attempt);
        let outcome = worker.outcome;
        scheduler
            .messages
            .push_back(Message::WorkerExited { stage, outcome });
    }

    fn settle(&mut self, by: usize) -> Result<(), Dead> {
        loop {
            let mut actions = Vec::new();
            while let Some(message) = self.schedulers[by].messages.pop_front() {
                actions.extend(self.schedulers[by].core.handle(message));
            }
            if actions.is_empty() {
                break;
            }
            if self.step(by)? == Some(Fault::CommitFails) {
                self.die(by);
                let after = self.rng.below(3_000);
                self.send(after, Event::Start);
                return Err(Dead);
            }
            let mut claims = VecDeque::new();
            let mut released = false;
            for action in &actions {
                match action {
                    Action::Spawn { stage, .. } => claims.push_back(self.claim(by, *stage)),
                    Action::Retrying { stage, .. } => {
                        self.end(by, *stage, Stored::Pending, true);
                    }
                    Action::Ended { stage, end } => {
                        let state = match end {
                            End::Done => Stored::Done,
                            End::Failed(failure) => Stored::Failed(failure.class),
                            End::Left => Stored::Pending,
                            End::Blocked { .. } => continue,
                        };
                        released |= self.end(by, *stage, state, false);
                    }
                    _ => {}
                }
            }
            self.step(by)?;
            if released {
                self.announce(by);
            }
            for action in actions {
                self.step(by)?;
                self.carry_out(by, action, &mut claims);
            }
        }
        let scheduler = &mut self.schedulers[by];
        let waits = !scheduler.workers.is_empty() || !scheduler.core.elsewhere().is_empty();
        if scheduler.alive && waits && !std::mem::replace(&mut scheduler.looking, true) {
            self.send(LOOK, Event::Look(by));
        }
        Ok(())
    }

    fn claim(&mut self, by: usize, stage: usize) -> Result<u32, Standing> {
        let seen = self.schedulers[by].seen[stage];
        let row = &mut self.rows[stage];
        if let Some((owner, _)) = row.lease
            && owner != by
        {
            self.watch(by, owner);
            return Err(Standing::Elsewhere);
        }
        if row.attempts > seen {
            match row.state {
                Stored::Done => return Err(Standing::Done),
                Stored::Failed(class) => return Err(Standing::Failed(failure(class))),
                _ => {}
            }
        }
        row.attempts += 1;
        row.state = Stored::Running;
        row.lease = Some((by, row.attempts));
        Ok(row.attempts)
    }

    /// How the stage's attempt ended goes into the store; says whether a lease was given back.
    fn end(&mut self, by: usize, stage: usize, state: Stored, keep: bool) -> bool {
        let scheduler = &mut self.schedulers[by];
        let held = scheduler.held.contains(&stage);
        if !keep {
            scheduler.held.remove(&stage);
        }
        let row = &mut self.rows[stage];
        let ended = scheduler.judged.remove(&stage);
        if let Some(attempt) = ended {
            assert_eq!(row.lease, Some((by, attempt)), "an end without a lease");
            row.state = state;
        } else if !held || scheduler.workers.contains_key(&stage) {
            return false;
        }
        if !keep && row.lease.is_some_and(|(owner, _)| owner == by) {
            row.lease = None;
            return true;
        }
        false
    }

    fn carry_out(
        &mut self,
        by: usize,
        action: Action,
        claims: &mut VecDeque<Result<u32, Standing>>,
    ) {
        match action {
            Action::Spawn { stage, slot } => match claims.pop_front() {
                Some(Ok(attempt)) => self.spawn(by, (stage, slot, attempt)),
                Some(Err(standing)) => self.schedulers[by]
                    .messages
                    .push_back(Message::Refused { stage, standing }),
                None => panic!("a claim without an answer"),
            },
            Action::Terminate { stage } | Action::Kill { stage } => self.kill_worker(by, stage),
            Action::SetTimer { timer, after } => {
                let timer = match timer {
                    Timer::Retry { stage } => SimTimer::Retry(stage),
                    Timer::Grace => SimTimer::Grace,
                    Timer::Budget => SimTimer::Budget,
                };
                self.send(after.as_millis() as Time, Event::Timer(by, timer));
            }
            Action::Finish => {
                self.die(by);
            }
            _ => {}
        }
    }

    fn spawn(&mut self, by: usize, (stage, slot, attempt): (usize, usize, u32)) {
        if let Some(parent) = self.stages[stage].parent {
            assert_eq!(self.rows[parent].state, Stored::Done, "before its parent");
        }
        let row = &mut self.rows[stage];
        assert_eq!(row.lease, Some((by, attempt)), "a worker without a lease");
        assert!(row.finished.is_empty(), "stage {stage} is done already");
        row.workers.push((by, attempt));
        assert_eq!(row.workers.len(), 1, "stage {stage} runs twice");
        let scheduler = &mut self.schedulers[by];
        assert!(
            scheduler.workers.values().all(|worker| worker.slot != slot),
            "two workers on a slot"
        );
        if let Some(&(count, class)) = scheduler.failures.get(&stage) {
            assert!(
                count <= policy(class).retries,
                "{count} retries of {class:?}"
            );
        }
        scheduler.seen[stage] = attempt;
        scheduler.held.insert(stage);
        let mut rng = KeyedRng::new(
            self.scene.seed,
            Purpose::Test,
            stage as u32 + 2,
            u64::from(attempt),
        );
        let outcome = if rng.chance(self.scene.failing) {
            let class = FailureClass::ALL[rng.below(FailureClass::ALL.len() as u64) as usize];
            Outcome::Failed(failure(class))
        } else {
            Outcome::Done
        };
        let worker = Worker {
            attempt,
            slot,
            outcome,
        };
        scheduler.workers.insert(stage, worker);
        let length = 10 + rng.below(500);
        if rng.chance(0.3) {
            self.send(length / 2, Event::Checkpoint { by, stage, attempt });
        }
        self.send(length, Event::Exit { by, stage, attempt });
    }

    // -----------------------------------------------------------------------------------------
    // Peers.

    fn announce(&mut self, by: usize) {
        for peer in 0..self.schedulers.len() {
            if peer != by && self.schedulers[peer].alive && !std::mem::take(&mut self.lose_notice) {
                let after = self.rng.below(40);
                self.send(after, Event::Peers(peer));
            }
        }
    }

    fn watch(&mut self, by: usize, owner: usize) {
        if self.schedulers[by].known.insert(owner) && !self.schedulers[owner].alive {
            self.send(0, Event::OwnerGone(by, owner));
        }
    }

    fn refresh(&mut self, by: usize) {
        for stage in self.schedulers[by].core.elsewhere().clone() {
            let row = &self.rows[stage];
            if let Some((owner, _)) = row.lease {
                self.watch(by, owner);
                continue;
            }
            let is_new = row.attempts > self.schedulers[by].seen[stage];
            let standing = match row.state {
                Stored::Done => Standing::Done,
                Stored::Failed(class) if is_new => Standing::Failed(failure(class)),
                _ => Standing::Free,
            };
            let attempts = row.attempts;
            let scheduler = &mut self.schedulers[by];
            scheduler.seen[stage] = attempts;
            scheduler
                .messages
                .push_back(Message::Told { stage, standing });
        }
    }

    fn owner_gone(&mut self, by: usize, owner: usize) {
        let holds = |row: &Row| row.lease.is_some_and(|(holder, _)| holder == owner);
        if self.rows.iter().any(holds) {
            // Its workers are gone some milliseconds after it.
            self.send(25, Event::WorkersGone(by, owner));
        } else {
            self.refresh(by);
        }
    }

    fn take_over(&mut self, by: usize, owner: usize) -> Result<(), Dead> {
        let left = |row: &Row| row.workers.iter().any(|&(whose, _)| whose == owner);
        if self.rows.iter().any(left) {
            self.send(5, Event::WorkersGone(by, owner));
            return Ok(());
        }
        if self.step(by)? == Some(Fault::CommitFails) {
            self.die(by);
            self.send(100, Event::Start);
            return Err(Dead);
        }
        for stage in 0..self.rows.len() {
            if self.rows[stage]
                .lease
                .is_some_and(|(holder, _)| holder == owner)
            {
                self.abandon(stage);
            }
        }
        self.announce(by);
        self.refresh(by);
        Ok(())
    }

    /// The lease of a dead scheduler ends, with what the log says.
    fn abandon(&mut self, stage: usize) {
        let row = &mut self.rows[stage];
        let attempt = row.lease.take().map(|(_, attempt)| attempt);
        if row.state == Stored::Running {
            let done = attempt.is_some_and(|attempt| row.finished.contains(&attempt));
            row.state = if done { Stored::Done } else { Stored::Pending };
        }
    }
}

fn failure(class: FailureClass) -> Failure {
    Failure {
        class,
        message: String::new(),
    }
}

fn killed() -> Outcome {
    Outcome::Failed(failure(FailureClass::Killed))
}

fn scene(seed: u64) -> Scene {
    Scene {
        seed,
        stages: 7,
        schedulers: 2,
        slots: 2,
        failing: 0.0,
        limits: Limits::default(),
        stops: false,
    }
}

#[test]
fn undisturbed_schedulers_share_the_work() {
    for seed in 0..200 {
        let world = World::new(scene(seed), None, 0.0).run();
        assert!(world.rows.iter().all(|row| row.state == Stored::Done));
        assert!(world.rows.iter().all(|row| row.attempts == 1));
        let mut parts: Vec<usize> = Vec::new();
        for scheduler in &world.schedulers[..2] {
            parts.push(scheduler.held.len());
        }
        assert_eq!(parts, [0, 0]);
    }
}

/// SQLite's idea: the fault at the first step, at the second, and so on until it comes too late.
#[test]
fn every_fault_at_every_step() {
    for seed in 0..4 {
        for fault in FAULTS {
            let mut step = 1;
            loop {
                let world = World::new(scene(seed), Some((step, fault)), 0.0).run();
                assert!(
                    world.rows.iter().all(|row| row.state == Stored::Done),
                    "{fault:?} at step {step}"
                );
                if world.struck == 0 {
                    break;
                }
                step += 1;
            }
            assert!(step > 50, "only {step} steps");
        }
    }
}

#[test]
fn every_fault_at_every_step_of_failing_stages() {
    for seed in 0..3 {
        for fault in FAULTS {
            for step in 1.. {
                let scene = Scene {
                    failing: 0.4,
                    ..scene(seed)
                };
                if World::new(scene, Some((step, fault)), 0.0).run().struck == 0 {
                    break;
                }
            }
        }
    }
}

#[test]
fn random_courses_with_many_faults() {
    for seed in 0..3_000 {
        let mut rng = KeyedRng::new(seed, Purpose::Test, 0, 99);
        let limits = Limits {
            max_fail: rng.chance(0.2).then_some(2),
            budget: rng
                .chance(0.2)
                .then_some(std::time::Duration::from_millis(rng.below(2_000))),
            canary: rng.chance(0.3),
        };
        let scene = Scene {
            seed,
            stages: 1 + rng.below(14) as usize,
            schedulers: 1 + rng.below(3) as usize,
            slots: 1 + rng.below(3) as usize,
            failing: if rng.chance(0.5) { 0.3 } else { 0.0 },
            limits,
            stops: rng.chance(0.4),
        };
        let chaos = if rng.chance(0.8) { 0.02 } else { 0.0 };
        World::new(scene, None, chaos).run();
    }
}
