//! The simulated world: its clock, what is on its way, its devices and disk, and the faults that strike.

use super::scheduler::Scheduler;
use super::store::Row;
use crate::rng::{KeyedRng, Purpose};
use crate::rundir::event::{FailureClass, device_memory_full};
use crate::schedule::core::{Failure, Limits, Outcome, Prior, Stage};
use crate::schedule::policy::policy;
use crate::store::rows::Status;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Milliseconds of the virtual clock.
pub type Time = u64;

/// Most events of one run; more means that it doesn't come to an end.
const PATIENCE: usize = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
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
    /// A GPU falls off the bus; sometimes a health check finds it well later.
    DeviceLost,
    /// Somebody else uses a GPU for a while.
    DeviceBusy,
    /// The disk is below its reserve for a while: no stage is started.
    DiskShort,
    /// The store can't grow for a while: everybody who has to write waits.
    StoreFull,
    /// The user stops the scheduler at work.
    Stop,
}

pub const FAULTS: [Fault; 10] = [
    Fault::SchedulerDies,
    Fault::WorkerDies,
    Fault::CommitFails,
    Fault::NoticeLost,
    Fault::ClockJumps,
    Fault::DeviceLost,
    Fault::DeviceBusy,
    Fault::DiskShort,
    Fault::StoreFull,
    Fault::Stop,
];

/// The scheduler that was at work is no more.
pub struct Dead;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    Start,
    /// Somebody else leaves the GPU.
    Leave(usize),
    /// The GPU is well.
    Mend(usize),
    /// Something for the scheduler.
    To(usize, Input),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Input {
    Timer(SimTimer),
    Checkpoint {
        stage: usize,
        attempt: u32,
        step: u64,
    },
    Exit {
        stage: usize,
        attempt: u32,
    },
    Peers,
    OwnerGone(usize),
    WorkersGone(usize),
    Look,
    Stop,
    /// The driver tells of a fault of the GPU.
    Fault(usize),
    /// A health check of the GPUs.
    Check,
    /// Time to look at GPUs that others use.
    LookAgain,
    /// Time to look for space on the disk.
    Space,
    /// Time to try again to write into the store.
    Room,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SimTimer {
    Retry(usize),
    Grace,
    Budget,
}

/// A GPU.
#[derive(Debug, Clone, Default)]
pub struct Device {
    pub lost: bool,
    /// Somebody else computes on it.
    pub foreign: bool,
    /// Who has which share: scheduler and stage.
    pub shares: Vec<Option<(usize, usize)>>,
}

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Scene {
    pub seed: u64,
    pub stages: usize,
    pub schedulers: usize,
    /// Slots on the CPU, where there are no GPUs.
    pub slots: usize,
    pub gpus: usize,
    pub per_gpu: usize,
    /// Some stages use two devices.
    pub wide: bool,
    /// Bytes of memory for stages on the CPU; each needs up to 10.
    pub memory: u64,
    /// Probability that an attempt fails by itself.
    pub failing: f64,
    pub limits: Limits,
    /// The user stops schedulers now and then.
    pub stops: bool,
}

pub struct World {
    pub scene: Scene,
    pub stages: Vec<Stage>,
    pub widths: Vec<usize>,
    pub needs: Vec<u64>,
    pub rows: Vec<Row>,
    pub schedulers: Vec<Scheduler>,
    pub devices: Vec<Device>,
    pub now: Time,
    pub rng: KeyedRng,
    /// Until when the disk is short, and the store full.
    pub short_until: Time,
    /// Others of the machine have its memory until then.
    pub memory_until: Time,
    pub full_until: Time,
    pub lose_notice: bool,
    /// Faults that have come about.
    pub struck: usize,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    sent: u64,
    steps: usize,
    /// The fault of a certain step.
    fault: Option<(usize, Fault)>,
    /// Probability of some fault at each step.
    chaos: f64,
}

impl World {
    pub fn new(scene: Scene, fault: Option<(usize, Fault)>, chaos: f64) -> World {
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
        let device = Device {
            shares: vec![None; scene.per_gpu],
            ..Device::default()
        };
        let mut world = World {
            rows: vec![Row::default(); scene.stages],
            widths: (0..scene.stages)
                .map(|_| 1 + usize::from(scene.wide && rng.chance(0.4)))
                .collect(),
            needs: (0..scene.stages).map(|_| rng.below(11)).collect(),
            stages,
            schedulers: Vec::new(),
            devices: vec![device; scene.gpus],
            now: 0,
            events: BinaryHeap::new(),
            sent: 0,
            steps: 0,
            fault,
            chaos,
            short_until: 0,
            memory_until: 0,
            full_until: 0,
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
    pub fn run(mut self) -> World {
        self.drain();
        self.fault = None;
        self.chaos = 0.0;
        self.scene.stops = false;
        self.scene.limits = Limits::default();
        for device in &mut self.devices {
            (device.lost, device.foreign) = (false, false);
        }
        for _ in 0..6 {
            self.send(1, Event::Start);
            self.drain();
        }
        self.check_end();
        self
    }

    fn check_end(&self) {
        // A stage for which there will never be enough devices is left for ever, and so are its descendants.
        let most = match self.scene.gpus {
            0 => self.scene.slots,
            gpus => gpus,
        };
        for (index, row) in self.rows.iter().enumerate() {
            assert_eq!(row.lease, None, "stage {index} is leased after the end");
            assert!(row.workers.is_empty(), "a worker of stage {index} is left");
            assert!(row.finished.len() <= 1, "stage {index} was trained twice");
            let blocked = self.has_ancestor(index, |stage| {
                self.rows[stage].status == Status::Failed || self.widths[stage] > most
            });
            match row.status {
                Status::Done => assert_eq!(row.finished.len(), 1),
                Status::Pending => assert!(
                    blocked || self.widths[index] > most,
                    "stage {index} was forgotten"
                ),
                Status::Failed => {
                    let class = row.failure.as_ref().unwrap().0;
                    let is_fair = !policy(class).transient || row.attempts > 0;
                    assert!(is_fair, "stage {index}: {class:?}");
                }
                Status::Running => panic!("stage {index} still reads running"),
            }
        }
        assert!(self.schedulers.iter().all(|scheduler| !scheduler.alive));
        let shares = self.devices.iter().flat_map(|device| &device.shares);
        assert!(shares.into_iter().all(Option::is_none), "a GPU is leased");
    }

    fn has_ancestor(&self, mut stage: usize, is: impl Fn(usize) -> bool) -> bool {
        while let Some(parent) = self.stages[stage].parent {
            if is(parent) {
                return true;
            }
            stage = parent;
        }
        false
    }

    pub fn send(&mut self, after: Time, event: Event) {
        self.sent += 1;
        self.events
            .push(Reverse((self.now + after, self.sent, event)));
    }

    pub fn tell(&mut self, after: Time, by: usize, input: Input) {
        self.send(after, Event::To(by, input));
    }

    fn drain(&mut self) {
        let mut count = 0;
        while let Some(Reverse((time, _, event))) = self.events.pop() {
            count += 1;
            assert!(count < PATIENCE, "it doesn't come to an end");
            self.now = self.now.max(time);
            match event {
                Event::Start => self.start(),
                Event::Leave(device) => self.devices[device].foreign = false,
                Event::Mend(device) => self.devices[device].lost = false,
                Event::To(by, input) => {
                    // What a worker does, it does even if nobody listens.
                    self.work(by, &input);
                    if self.schedulers[by].alive {
                        // Whoever dies under way leaves it at that.
                        let _ = self.handle(by, input);
                    }
                }
            }
        }
        let waiting: Vec<usize> = (0..self.schedulers.len())
            .filter(|&by| self.schedulers[by].alive)
            .collect();
        assert!(waiting.is_empty(), "schedulers {waiting:?} wait for ever");
    }

    /// A fault may strike here, in the scheduler `by`.
    pub fn step(&mut self, by: usize) -> Result<Option<Fault>, Dead> {
        self.steps += 1;
        let fault = match self.fault {
            Some((step, fault)) if step == self.steps => Some(fault),
            _ if self.rng.chance(self.chaos) => {
                Some(FAULTS[self.rng.below(FAULTS.len() as u64) as usize])
            }
            _ => None,
        };
        let Some(fault) = fault else {
            return Ok(None);
        };
        self.struck += 1;
        match fault {
            Fault::SchedulerDies => return Err(self.give_up(by)),
            Fault::WorkerDies => {
                let victims: Vec<usize> = self.schedulers[by].workers.keys().copied().collect();
                if !victims.is_empty() {
                    let stage = victims[self.rng.below(victims.len() as u64) as usize];
                    self.kill_worker(by, stage, FailureClass::Killed);
                }
            }
            Fault::CommitFails => {}
            Fault::NoticeLost => self.lose_notice = true,
            Fault::ClockJumps => self.now += 3_600_000,
            Fault::DeviceLost => self.break_device(),
            Fault::DeviceBusy if !self.devices.is_empty() => {
                let device = self.rng.below(self.devices.len() as u64) as usize;
                self.devices[device].foreign = true;
                let after = self.rng.below(6_000);
                self.send(after, Event::Leave(device));
            }
            // Without GPUs others take the memory.
            Fault::DeviceBusy => self.memory_until = self.now + self.rng.below(6_000),
            Fault::DiskShort => self.short_until = self.now + self.rng.below(8_000),
            Fault::StoreFull => self.full_until = self.now + self.rng.below(8_000),
            Fault::Stop => {
                let after = self.rng.below(20);
                self.tell(after, by, Input::Stop);
                // The user wants it to be done all the same.
                self.send(after + 3_000, Event::Start);
            }
        }
        Ok(Some(fault))
    }

    fn break_device(&mut self) {
        if self.devices.is_empty() {
            return;
        }
        let device = self.rng.below(self.devices.len() as u64) as usize;
        self.devices[device].lost = true;
        let shares = self.devices[device].shares.clone();
        for (by, stage) in shares.into_iter().flatten() {
            self.kill_worker(by, stage, FailureClass::DeviceLost);
        }
        for by in 0..self.schedulers.len() {
            // Some hear of it, others see it when they want to use it.
            if self.schedulers[by].alive && self.rng.chance(0.7) {
                let after = self.rng.below(50);
                self.tell(after, by, Input::Fault(device));
            }
        }
        if self.rng.chance(0.6) {
            let after = self.rng.below(4_000);
            self.send(after, Event::Mend(device));
            for by in 0..self.schedulers.len() {
                self.tell(after + 1, by, Input::Check);
            }
        }
    }

    /// The scheduler dies; somebody starts it again, sooner or later.
    pub fn give_up(&mut self, by: usize) -> Dead {
        self.die(by);
        let after = self.rng.below(3_000);
        self.send(after, Event::Start);
        Dead
    }

    /// The end of a scheduler, in order or not: its workers die with it, its peers hear of it.
    pub fn die(&mut self, by: usize) {
        self.schedulers[by].alive = false;
        let stages: Vec<usize> = self.schedulers[by].workers.keys().copied().collect();
        for stage in stages {
            self.kill_worker(by, stage, FailureClass::Killed);
        }
        // What it has leased for workers that never came to be.
        for stage in 0..self.rows.len() {
            let mut workers = self.rows[stage].workers.iter();
            if !workers.any(|&(owner, _)| owner == by) {
                self.leave_devices(by, stage);
            }
        }
        for peer in 0..self.schedulers.len() {
            if self.schedulers[peer].known.contains(&by) {
                // A kernel lock, no notice: it isn't lost.
                let after = self.rng.below(5);
                self.tell(after, peer, Input::OwnerGone(by));
            }
        }
    }

    pub fn kill_worker(&mut self, by: usize, stage: usize, class: FailureClass) {
        if let Some(worker) = self.schedulers[by].workers.get_mut(&stage) {
            let attempt = worker.attempt;
            if !self.rows[stage].workers.contains(&(by, attempt)) {
                // It is gone already; what it has said stays said.
                return;
            }
            worker.outcome = Outcome::Failed(failure(class, false));
            let after = self.rng.below(20);
            self.tell(after, by, Input::Exit { stage, attempt });
        }
    }

    /// What happens in the world outside when a worker checkpoints or ends.
    fn work(&mut self, by: usize, input: &Input) {
        let &Input::Exit { stage, attempt } = input else {
            return;
        };
        let row = &mut self.rows[stage];
        let Some(place) = row.workers.iter().position(|&w| w == (by, attempt)) else {
            return;
        };
        row.workers.remove(place);
        match &self.schedulers[by].workers[&stage].outcome {
            Outcome::Done => {
                row.finished.push(attempt);
                assert_eq!(row.finished.len(), 1, "stage {stage} was trained twice");
            }
            // What ends a worker in the middle of something leaves it no time to say so.
            Outcome::Failed(failure) if self.rng.chance(0.5) => {
                row.told.insert(attempt, failure.class);
            }
            Outcome::Failed(_) => {}
        }
        self.leave_devices(by, stage);
    }

    /// The stage has no devices any more.
    pub fn leave_devices(&mut self, by: usize, stage: usize) {
        for share in self.devices.iter_mut().flat_map(|d| &mut d.shares) {
            if *share == Some((by, stage)) {
                *share = None;
            }
        }
    }
}

/// A failure of that class; of `out_of_memory`, whether a GPU's memory was full.
pub fn failure(class: FailureClass, on_gpu: bool) -> Failure {
    let message = match class == FailureClass::OutOfMemory && on_gpu {
        true => device_memory_full("cuda:0"),
        false => String::new(),
    };
    Failure { class, message }
}
