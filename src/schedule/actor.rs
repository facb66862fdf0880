//! The loop around the core: the one owner of the scheduler's state.
//!
//! Child exits, timers, signals and notices of files arrive through one channel, in one order; each becomes
//! messages to [`Core`], whose answers are carried out here. What has arrived together is dealt with
//! together: the changes that it makes to the store are one transaction, and only when that is on disk do
//! workers start and signals go out. Only this loop writes to the store.
//!
//! Nothing is polled: while nothing happens, nothing runs.

use crate::rundir::event::{Event, EventKind, FailureClass};
use crate::rundir::host;
use crate::rundir::layout::RunDir;
use crate::rundir::log::LogError;
use crate::rundir::stage::Launch;
use crate::schedule::attempt::{self, Attempt};
use crate::schedule::clock::{Clock, Stopwatch};
use crate::schedule::core::{
    Action, Closing, Core, End, Failure, Limits, Message, Outcome, SlotTraits, Standing, Timer,
};
use crate::schedule::device;
use crate::schedule::device::cpu::Cpu;
use crate::schedule::device::gpus::{GpuFault, Gpus};
use crate::schedule::device::keeper::{Answer, Keeper};
use crate::schedule::device::{GpuShare, Slot};
use crate::schedule::energy::Meter;
use crate::schedule::execution::{Job, JobFiles, ScheduleError, Settings, Summary};
use crate::schedule::executor::{Executor, Order, Signal, Worker};
use crate::schedule::guard::Guard;
use crate::schedule::notices::Notices;
use crate::schedule::outcome::{Exit, LastWord, judge, signal_name};
use crate::schedule::peers::Peers;
use crate::schedule::progress::Progress;
use crate::schedule::progress::news::Request;
use crate::schedule::signals;
use crate::store::rows::Status;
use crate::store::{AttemptEnd, AttemptGpu, Change, Claim, OwnerLock, Store};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What happens from the loop's point of view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The worker of the stage's attempt was started, or could not be.
    Started {
        stage: usize,
        attempt: u32,
    },
    /// The stage's worker is gone.
    Exited {
        stage: usize,
        exit: Exit,
    },
    Timer(Timer),
    /// Some event log has grown.
    Wrote,
    /// Time to read the event logs that have grown.
    Tick,
    /// Time to look at everything, in case a notice was lost.
    Look,
    /// Another scheduler of the store has news.
    Peers,
    /// Time to look what the news is.
    Refresh,
    /// Time to look at attempts that may take too long.
    Watch,
    /// Time to look for room on the disk.
    Space,
    /// The scheduler with this id has ended.
    OwnerGone(String),
    /// It had leases, and its workers are gone, too.
    WorkersGone(String),
    /// A signal asks for the end.
    Interrupt(i32),
    /// Ctrl-Z.
    Suspend,
    /// Somebody who watches wants something.
    Asked(Request),
    /// Something went wrong with a GPU.
    Fault(GpuFault),
    /// Time to look whether GPUs that were in use are free.
    LookAgain,
}

/// Where inputs come in. Signals are connected by [`signals::forward`].
pub fn channel() -> (UnboundedSender<Input>, UnboundedReceiver<Input>) {
    unbounded_channel()
}

/// One execution of jobs on slots.
pub struct Execution<'a> {
    pub store: &'a Store,
    /// This scheduler as an owner of leases.
    pub me: &'a OwnerLock,
    /// The store's folder.
    pub dir: &'a Path,
    pub jobs: Vec<Job>,
    pub slots: Vec<Slot>,
    /// Who is asked about the slots' GPUs; `None` where nobody can be.
    pub gpus: Option<Arc<dyn Gpus>>,
    pub executor: Arc<dyn Executor>,
    /// Configuration of a job.
    pub files: &'a (dyn Fn(usize) -> JobFiles + Sync),
    pub progress: Progress,
    pub limits: Limits,
    pub settings: Settings,
}

impl Execution<'_> {
    /// Runs until every job has ended or the user wants no more.
    pub async fn run(
        self,
        sender: UnboundedSender<Input>,
        inputs: UnboundedReceiver<Input>,
    ) -> Result<Summary, ScheduleError> {
        let stages = self.jobs.iter().map(Job::stage).collect();
        let slots = self
            .slots
            .iter()
            .map(|slot| SlotTraits {
                can_be_lost: slot.is_gpu(),
                shares_memory: !slot.is_gpu(),
            })
            .collect();
        let own = self.me.owner().path(self.dir);
        let keeper = Keeper::new(self.gpus.clone(), self.slots.clone());
        let meter = Meter::new(self.gpus.clone());
        let faults = sender.clone();
        // Nobody listens any more once all is done.
        keeper.watch(Box::new(move |fault| {
            drop(faults.send(Input::Fault(fault)))
        }));
        let widths = self.jobs.iter().map(|job| job.devices).collect();
        let needs = self.jobs.iter().map(|job| job.memory).collect();
        let core = Core::with_limits(stages, slots, self.limits)
            .on_devices(&keeper.devices(), widths)
            .in_memory(device::memory_for_stages(Cpu::discover().memory), needs);
        let mut actor = Actor {
            core,
            keeper,
            meter,
            leased: HashMap::new(),
            asking_gpus: false,
            attempts: BTreeMap::new(),
            seen: self.jobs.iter().map(|job| job.attempts).collect(),
            held: HashSet::new(),
            messages: VecDeque::from([Message::Begin]),
            changes: Vec::new(),
            backlog: 0,
            unnamed: Vec::new(),
            starts: Arc::default(),
            notices: Notices::new(self.dir, &own, sender.clone()),
            peers: Peers::new(self.dir, self.me.owner().clone(), sender.clone()),
            sender,
            ticking: false,
            looking: None,
            refreshing: false,
            finished: false,
            judged: BTreeMap::new(),
            logs: BTreeMap::new(),
            interrupted: None,
            closed: None,
            started: 0,
            elsewhere: 0,
            clock: Clock::of_process(),
            began: Stopwatch::start(),
            guard: Guard::new(self.dir, self.settings.reserve, self.settings.hurry),
            inputs,
            early: VecDeque::new(),
            run: self,
        };
        let result = actor.work().await;
        actor.run.progress.finish();
        result?;
        Ok(actor.summary())
    }
}

/// Workers that were started and not yet heard of, by stage and attempt.
type Starts = Arc<Mutex<HashMap<(usize, u32), Result<Box<dyn Worker>, Failure>>>>;

pub(super) struct Actor<'a> {
    pub(super) run: Execution<'a>,
    pub(super) core: Core,
    /// Attempts under way, by stage.
    pub(super) attempts: BTreeMap<usize, Attempt>,
    /// Attempts of each stage that we know of.
    pub(super) seen: Vec<u32>,
    /// Stages whose leases are ours.
    held: HashSet<usize>,
    /// Messages that the core has yet to take.
    pub(super) messages: VecDeque<Message>,
    /// Changes that the store has yet to make, and how many events are among them.
    changes: Vec<Change>,
    backlog: usize,
    /// Attempts whose workers' processes the store doesn't know yet.
    unnamed: Vec<(usize, u32, u32)>,
    starts: Starts,
    pub(super) notices: Notices,
    pub(super) peers: Peers,
    sender: UnboundedSender<Input>,
    pub(super) inputs: UnboundedReceiver<Input>,
    /// Inputs that came while the store had to wait.
    pub(super) early: VecDeque<Input>,
    pub(super) guard: Guard,
    keeper: Keeper,
    /// Energy of the attempts under way.
    meter: Meter,
    /// What stages that are about to start have leased.
    leased: HashMap<usize, Slot>,
    /// A look at GPUs that others use is on its way.
    asking_gpus: bool,
    /// A tick is on its way, a refresh, a look.
    ticking: bool,
    refreshing: bool,
    looking: Option<Instant>,
    finished: bool,
    /// Attempts whose end the core has yet to rule on.
    judged: BTreeMap<usize, Judged>,
    logs: BTreeMap<usize, PathBuf>,
    interrupted: Option<i32>,
    closed: Option<Closing>,
    started: usize,
    /// Stages that others finished.
    elsewhere: usize,
    /// Timers run on it.
    clock: Clock,
    began: Stopwatch,
}

/// An attempt that has ended.
struct Judged {
    number: u32,
    exit: Exit,
    log: PathBuf,
    energy_joules: Option<f64>,
}

/// Most reads of a log per tick: a worker that writes faster than we read must not keep us.
const READS_PER_TICK: usize = 8;

/// Most inputs that are dealt with together.
const TOGETHER: usize = 256;

/// Events that are stored at once; more are stored before others are read.
const BACKLOG: usize = 20_000;

/// Time between two looks at a GPU that somebody else uses. Nothing tells when they are gone.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Pause before news of other schedulers are looked at: more may follow.
const REFRESH: Duration = Duration::from_millis(20);

impl Actor<'_> {
    async fn work(&mut self) -> Result<(), ScheduleError> {
        loop {
            self.look_for_space();
            self.settle().await?;
            if self.finished {
                return Ok(());
            }
            self.ensure_look();
            let input = match self.early.pop_front() {
                Some(input) => Some(input),
                None => self.inputs.recv().await,
            };
            // The channel can't close: we hold a sender.
            let Some(input) = input else {
                return Ok(());
            };
            self.take(input).await?;
            for _ in 1..TOGETHER {
                let early = self.early.pop_front();
                let Some(input) = early.or_else(|| self.inputs.try_recv().ok()) else {
                    break;
                };
                self.take(input).await?;
            }
        }
    }

    async fn take(&mut self, input: Input) -> Result<(), ScheduleError> {
        match input {
            Input::Started { stage, attempt } => self.worker_started(stage, attempt).await?,
            Input::Exited { stage, exit } => self.exited(stage, exit).await?,
            Input::Timer(timer) => self.messages.push_back(Message::Timer(timer)),
            Input::Wrote => self.ensure_tick(),
            Input::Tick => self.tick().await?,
            Input::Look => self.look().await?,
            Input::Peers => {
                self.notices.heard_peers();
                if !self.core.elsewhere().is_empty() {
                    self.ensure_refresh();
                }
            }
            Input::Refresh => {
                self.refreshing = false;
                self.refresh().await?;
            }
            Input::OwnerGone(id) => self.owner_gone(id).await?,
            Input::WorkersGone(id) => self.take_over(&id).await?,
            Input::Watch => self.watch(),
            Input::Space => self.space_is_due(),
            Input::Interrupt(signal) => {
                let (stopping, killing) = (self.core.is_stopping(), self.core.is_killing());
                let stops = signals::stops(signal, stopping, killing);
                if stops > 0 {
                    self.interrupt(signal);
                }
                self.messages
                    .extend(std::iter::repeat_n(Message::Stop, stops));
            }
            Input::Suspend => {
                self.clock.stop();
                self.signal_all(Signal::Suspend);
                signals::stand_still();
                self.signal_all(Signal::Resume);
                self.clock.go_on();
            }
            Input::Asked(Request::CheckDevices) => self.check_devices(),
            Input::Fault(GpuFault { uuid, what }) => self.lose(&uuid, &what),
            Input::LookAgain => {
                self.asking_gpus = false;
                let held = self.keeper.held();
                self.messages
                    .extend(held.into_iter().map(|slot| Message::SlotFree { slot }));
            }
        }
        Ok(())
    }

    /// A GPU is lost: its slots are closed, and what runs on it can't be rescued.
    fn lose(&mut self, uuid: &str, what: &str) {
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

    fn check_devices(&mut self) {
        let checked = self.keeper.check();
        for text in checked.news {
            self.run.progress.note(&text);
        }
        let back = checked.slots.into_iter();
        self.messages
            .extend(back.map(|slot| Message::DeviceBack { slot }));
    }

    /// Leases the devices of a stage that is to be started; `None` if it can't be now.
    fn lease(&mut self, stage: usize) -> Option<Slot> {
        let slots = self.core.slots_of(stage);
        let busy = match self.keeper.lease(stage, &slots) {
            Answer::Yes => {
                let slot = self.keeper.joined(&slots);
                let threads = self.run.jobs[stage].threads;
                return Some(threads.map_or(slot.clone(), |threads| slot.with_threads(threads)));
            }
            Answer::Busy { slot, news } => {
                if let Some(news) = news {
                    self.run.progress.note(&news);
                }
                if !std::mem::replace(&mut self.asking_gpus, true) {
                    self.after(
                        LOOK_AGAIN / self.run.settings.hurry.max(1),
                        Input::LookAgain,
                    );
                }
                slot
            }
            Answer::Lost { uuid, what } => {
                self.lose(&uuid, &what);
                *slots.first()?
            }
        };
        self.messages
            .push_back(Message::SlotBusy { stage, slot: busy });
        None
    }

    /// Lets the core take its messages, and carries out what it asks for, until it asks for no more.
    async fn settle(&mut self) -> Result<(), ScheduleError> {
        loop {
            let mut actions = Vec::new();
            while let Some(message) = self.messages.pop_front() {
                actions.extend(self.core.handle(message));
            }
            if actions.is_empty() {
                break;
            }
            self.name_workers();
            let mut logs = HashMap::new();
            for action in &actions {
                let change = self.change_of(action, &mut logs);
                self.changes.extend(change);
            }
            let releases = self.changes.iter().any(is_release);
            let mut claims = self.commit().await?.into_iter();
            if releases {
                self.run.me.announce();
            }
            for action in actions {
                self.carry_out(action, &mut claims, &mut logs).await?;
            }
        }
        // What remains are events.
        self.commit().await?;
        Ok(())
    }

    /// Makes the changes that are due, in one transaction.
    async fn commit(&mut self) -> Result<Vec<Claim>, ScheduleError> {
        if self.changes.is_empty() {
            return Ok(Vec::new());
        }
        let (store, me) = (self.run.store, self.run.me.owner());
        let answers = loop {
            match store.transition(me, &self.changes).await {
                Ok(answers) => break answers,
                Err(error) => self.wait_for_space(error).await?,
            }
        };
        self.store_has_space();
        self.changes.clear();
        self.backlog = 0;
        Ok(answers)
    }

    /// The change that an action makes to the store. Puts the log of an attempt that ends with it into
    /// `logs`.
    fn change_of(&mut self, action: &Action, logs: &mut HashMap<usize, PathBuf>) -> Option<Change> {
        match action {
            Action::Spawn { stage, .. } => {
                let slot = self.lease(*stage)?;
                let device = match slot.is_gpu() {
                    true => slot.name.clone(),
                    false => slot.device.clone(),
                };
                self.leased.insert(*stage, slot);
                Some(Change::Claim {
                    fingerprint: self.run.jobs[*stage].fingerprint.clone(),
                    device,
                    seen: self.seen[*stage],
                })
            }
            Action::Retrying { stage, failure, .. } => {
                self.attempt_end(*stage, (Status::Pending, Some(failure)), true, logs)
            }
            Action::Ended { stage, end } => {
                let left;
                let outcome = match end {
                    End::Done => (Status::Done, None),
                    End::Failed(failure) => (Status::Failed, Some(failure)),
                    End::Left => {
                        left = self.interruption();
                        (Status::Pending, Some(&left))
                    }
                    End::Blocked { .. } => return None,
                };
                self.attempt_end(*stage, outcome, false, logs)
            }
            _ => None,
        }
    }

    /// How the stage's last attempt ended and what that makes of the stage; or, where no attempt has ended
    /// since the last call, only that a stage of ours is given back.
    fn attempt_end(
        &mut self,
        stage: usize,
        (status, failure): (Status, Option<&Failure>),
        keep: bool,
        logs: &mut HashMap<usize, PathBuf>,
    ) -> Option<Change> {
        let fingerprint = self.run.jobs[stage].fingerprint.clone();
        let held = self.held.contains(&stage);
        if !keep {
            self.held.remove(&stage);
        }
        let Some(judged) = self.judged.remove(&stage) else {
            // Where we don't wait for a worker's end, others must: our lease stays until we are gone.
            let gone = !self.attempts.contains_key(&stage);
            return (held && gone && !keep).then_some(Change::Release { fingerprint });
        };
        let exit = judged.exit;
        logs.insert(stage, judged.log);
        Some(Change::End {
            fingerprint,
            attempt: judged.number,
            end: AttemptEnd {
                status,
                failure: failure.map(|failure| failure.class),
                message: failure.map(|failure| failure.message.clone()),
                exit_code: exit.code,
                signal: exit.signal,
                energy_joules: judged.energy_joules,
            },
            keep,
        })
    }

    async fn carry_out(
        &mut self,
        action: Action,
        claims: &mut impl Iterator<Item = Claim>,
        logs: &mut HashMap<usize, PathBuf>,
    ) -> Result<(), ScheduleError> {
        match action {
            Action::Spawn { stage, slot } => {
                // Nothing was claimed where its devices are busy.
                if let Some(leased) = self.leased.remove(&stage)
                    && let Some(claim) = claims.next()
                {
                    self.claimed(stage, (slot, leased), claim).await?;
                }
            }
            Action::Terminate { stage } => self.signal(stage, Signal::Terminate),
            Action::Kill { stage } => self.signal(stage, Signal::Kill),
            Action::SetTimer { timer, after } => {
                self.after(after / self.run.settings.hurry.max(1), Input::Timer(timer));
            }
            Action::Retrying {
                stage,
                failure,
                after,
                ..
            } => self.run.progress.retrying(stage, &failure, after),
            Action::CloseSlot { slot } => self.close_slot(slot),
            Action::LowerConcurrency { workers } => {
                self.run.progress.note(&format!(
                    "memory is short: at most {workers} workers from now on"
                ));
            }
            Action::Close(cause) => {
                self.closed.get_or_insert(cause);
                let text = self.closing(cause);
                self.run.progress.note(&text);
            }
            Action::Ended { stage, end } => {
                let log = logs.remove(&stage);
                self.run
                    .progress
                    .ended(stage, &end, log.as_deref().and_then(Path::to_str));
                if let (End::Failed(_), Some(log)) = (end, log) {
                    self.logs.insert(stage, log);
                }
            }
            Action::Finish => self.finished = true,
        }
        Ok(())
    }

    /// The answer of the store to the claim on a stage.
    async fn claimed(
        &mut self,
        stage: usize,
        (slot, leased): (usize, Slot),
        claim: Claim,
    ) -> Result<(), ScheduleError> {
        let standing = match claim {
            Claim::Won { attempt } => return self.spawn(stage, (slot, leased), attempt).await,
            Claim::Held(owner) => {
                self.peers.watch(&owner);
                Standing::Elsewhere
            }
            Claim::Done => {
                self.elsewhere += 1;
                Standing::Done
            }
            Claim::Failed { class, message } => Standing::Failed(Failure { class, message }),
        };
        self.keeper.release(stage);
        self.messages
            .push_back(Message::Refused { stage, standing });
        Ok(())
    }

    /// The core doesn't use the slot any more: a worker said that its device is lost, or we did.
    fn close_slot(&mut self, slot: usize) {
        let uuids = self.keeper.uuids(slot);
        for uuid in &uuids {
            self.lose(uuid, "a worker has lost it");
        }
        if uuids.is_empty() {
            let text = format!("{} is not used any more", self.run.slots[slot].name);
            self.run.progress.note(&text);
        }
    }

    /// What the user is told when no new stages are started any more.
    fn closing(&self, cause: Closing) -> String {
        let running = self.attempts.len();
        match cause {
            Closing::MaxFail(failures) => format!(
                "{failures} stages have failed (--max-fail): no new ones are started, {running} go on"
            ),
            Closing::Budget => format!(
                "the time is over (--budget): waiting for {running} workers to write checkpoints"
            ),
            Closing::Canary { stage } => format!(
                "the canary failed: nothing else is started ({})",
                self.run.jobs[stage].label
            ),
        }
    }

    fn interrupt(&mut self, signal: i32) {
        let name = signal_name(signal);
        match (
            self.interrupted.replace(self.interrupted.unwrap_or(signal)),
            self.attempts.len(),
        ) {
            (None, workers @ 1..) => {
                let text = match signal {
                    signals::KILL => format!("{name}: ending {workers} workers"),
                    signals::DRAIN => format!(
                        "{name}: waiting for {workers} workers to write checkpoints; `ablate stop --now` ends \
                         them now"
                    ),
                    _ => format!(
                        "{name}: waiting for {workers} workers to write checkpoints; once more ends them now"
                    ),
                };
                self.run.progress.note(&text);
            }
            (Some(_), 1..) => self
                .run
                .progress
                .note(&format!("{name}: ending the workers")),
            (_, 0) => {}
        }
    }

    /// What is said of an attempt that a stop has ended.
    fn interruption(&self) -> Failure {
        let cause = match (self.interrupted, self.closed) {
            (Some(signal), _) => format!("interrupted by {}", signal_name(signal)),
            (None, Some(Closing::Budget)) => "interrupted by the end of --budget".into(),
            (None, _) => "interrupted".into(),
        };
        Failure {
            class: FailureClass::Killed,
            message: format!("{cause}; goes on from its last checkpoint"),
        }
    }

    fn signal_all(&mut self, signal: Signal) {
        self.attempts
            .values_mut()
            .for_each(|attempt| attempt.signal(signal));
    }

    pub(super) fn signal(&mut self, stage: usize, signal: Signal) {
        if let Some(attempt) = self.attempts.get_mut(&stage) {
            attempt.signal(signal);
        }
    }

    pub(super) fn after(&self, pause: Duration, input: Input) {
        let (sender, clock) = (self.sender.clone(), self.clock.clone());
        tokio::spawn(async move {
            clock.sleep(pause).await;
            // Nobody listens any more once all is done.
            let _ = sender.send(input);
        });
    }

    /// Begins the attempt that was claimed: writes the run directory and starts the worker, on a thread
    /// of its own, for both may wait for the disk.
    async fn spawn(
        &mut self,
        stage: usize,
        (slot_index, slot): (usize, Slot),
        number: u32,
    ) -> Result<(), ScheduleError> {
        let job = &self.run.jobs[stage];
        let files = (self.run.files)(stage);
        let dir = RunDir::in_store(self.run.dir, &job.fingerprint);
        if !slot.gpus.is_empty() {
            let (store, gpus) = (self.run.store, hardware(&slot));
            store
                .set_attempt_gpus(&job.fingerprint, number, &gpus)
                .await?;
        }
        let accumulation = self.guard.begin(stage, &files.rules, &files.spec, &dir);
        let launch = Launch {
            attempt: number,
            device: slot.device.clone(),
            threads: slot.threads,
            loader_threads: slot.loader_threads,
            data_root: files.data_root,
            init_file: files.init_file,
            evaluation_roots: files.evaluation_roots,
            folder: files.folder,
            parent_dir: job.parent.map(|parent| {
                RunDir::in_store(self.run.dir, &self.run.jobs[parent].fingerprint)
                    .root()
                    .into()
            }),
            log_seconds: self.run.settings.log_seconds,
            checkpoint_seconds: files.rules.checkpoints.every.as_secs_f64(),
            checkpoint_epochs: files.rules.checkpoints.every_epochs,
            keep_checkpoints: files.rules.checkpoints.keep,
            keep_best: files.rules.checkpoints.best,
            accumulation,
        };
        let order = Order {
            run_dir: dir.root().into(),
            log: dir.attempt_log(number),
            slot,
            task: files.spec.task,
        };
        self.seen[stage] = number;
        self.held.insert(stage);
        self.meter.begin(stage, &order.slot);
        self.started += 1;
        self.attempts
            .insert(stage, Attempt::new(&dir, number, slot_index));
        self.run.progress.started(slot_index, stage);

        let sender = self.sender.clone();
        let on_exit = Box::new({
            let sender = sender.clone();
            move |exit| {
                // Nobody listens any more when the execution was given up.
                let _ = sender.send(Input::Exited { stage, exit });
            }
        });
        let (executor, starts) = (Arc::clone(&self.run.executor), Arc::clone(&self.starts));
        let spec = files.spec;
        tokio::task::spawn_blocking(move || {
            let failure = |class, message| Failure { class, message };
            let prepared = attempt::write_stage(&dir, &spec)
                .and_then(|()| attempt::write_launch(&dir, &launch, &spec.fingerprint));
            let result = match prepared {
                Ok(()) => executor
                    .start(&order, on_exit)
                    .map_err(|error| failure(error.class(), error.to_string())),
                Err(error) => Err(failure(error.class(), error.to_string())),
            };
            let key = (stage, number);
            lock(&starts).insert(key, result);
            let attempt = number;
            if sender.send(Input::Started { stage, attempt }).is_err()
                && let Some(Ok(worker)) = lock(&starts).remove(&key)
            {
                // The execution was given up meanwhile.
                worker.signal(Signal::Kill);
            }
        });
        Ok(())
    }

    async fn worker_started(&mut self, stage: usize, number: u32) -> Result<(), ScheduleError> {
        let Some(result) = lock(&self.starts).remove(&(stage, number)) else {
            return Ok(());
        };
        let Some(attempt) = self
            .attempts
            .get_mut(&stage)
            .filter(|attempt| attempt.number == number)
        else {
            // It is gone already.
            return Ok(());
        };
        match result {
            Ok(worker) => {
                let pid = worker.pid();
                attempt.started(worker);
                self.unnamed.extend(pid.map(|pid| (stage, number, pid)));
                self.guard.named(stage, pid);
                self.keeper.started(stage, pid);
                self.ensure_tick();
                self.ensure_watch();
            }
            Err(failure) => {
                self.keeper.release(stage);
                self.guard.end(stage);
                if let Some(attempt) = self.attempts.remove(&stage) {
                    self.run.progress.left(attempt.slot);
                    let outcome = Outcome::Failed(failure);
                    self.judge(stage, &attempt, Exit::default(), outcome)
                        .await?;
                }
            }
        }
        Ok(())
    }

    /// Notes the processes of workers, so that whoever takes over after our death finds them.
    fn name_workers(&mut self) {
        for (stage, attempt, pid) in std::mem::take(&mut self.unnamed) {
            let runs = self.attempts.contains_key(&stage);
            self.changes.push(Change::Worker {
                fingerprint: self.run.jobs[stage].fingerprint.clone(),
                attempt,
                pid,
                start: runs.then(|| host::process_start(pid)).flatten(),
            });
        }
    }

    fn ensure_tick(&mut self) {
        if !std::mem::replace(&mut self.ticking, true) {
            self.after(self.run.settings.tick, Input::Tick);
        }
    }

    pub(super) fn ensure_refresh(&mut self) {
        if !std::mem::replace(&mut self.refreshing, true) {
            self.after(REFRESH, Input::Refresh);
        }
    }

    /// As long as something goes on somewhere, somebody looks now and then.
    fn ensure_look(&mut self) {
        let elsewhere = !self.core.elsewhere().is_empty();
        if self.attempts.is_empty() && !elsewhere {
            return;
        }
        let heard = self.notices.hears_peers() && self.peers.all_heard();
        let pause = match elsewhere && !heard {
            true => self.run.settings.look.min(UNHEARD),
            false => self.run.settings.look,
        };
        let due = Instant::now() + pause;
        if self.looking.is_none_or(|at| due + REFRESH < at) {
            self.looking = Some(due);
            self.after(pause, Input::Look);
        }
    }

    async fn look(&mut self) -> Result<(), ScheduleError> {
        self.looking = None;
        let stages: Vec<usize> = self.attempts.keys().copied().collect();
        self.read_logs(stages).await?;
        self.run.progress.tick();
        if !self.core.elsewhere().is_empty() {
            self.refresh().await?;
        }
        Ok(())
    }

    async fn tick(&mut self) -> Result<(), ScheduleError> {
        self.ticking = false;
        // Watched from the first tick of an attempt on: most of what ends before needs no watch.
        let mut stages = self.notices.changed();
        let mut unheard = false;
        for (&stage, attempt) in &mut self.attempts {
            if !attempt.watched && attempt.is_started() {
                let dir = RunDir::in_store(self.run.dir, &self.run.jobs[stage].fingerprint);
                attempt.watched = self.notices.watch(stage, dir.root());
                unheard |= !attempt.watched;
                stages.insert(stage);
            }
        }
        self.name_workers();
        self.read_logs(stages).await?;
        if unheard {
            // The system has no notices (left): then it must be polled.
            self.ensure_tick();
        }
        self.meter.look();
        self.run.progress.tick();
        Ok(())
    }

    async fn read_logs(
        &mut self,
        stages: impl IntoIterator<Item = usize>,
    ) -> Result<(), ScheduleError> {
        for stage in stages {
            // What can't be read now is an error only if it still can't be when the worker is gone.
            let read = self.listen(stage, READS_PER_TICK).await?;
            let Some(attempt) = self.attempts.get(&stage) else {
                continue;
            };
            let _ = attempt::cap_log(&attempt.log, self.run.settings.log_cap);
            if matches!(read, Ok(true)) {
                self.ensure_tick();
            }
        }
        Ok(())
    }

    /// Takes in what the stage's worker has said; says whether there may be more. The inner error means
    /// that its log can't be read.
    async fn listen(
        &mut self,
        stage: usize,
        reads: usize,
    ) -> Result<Result<bool, LogError>, ScheduleError> {
        for _ in 0..reads {
            let Some(attempt) = self.attempts.get_mut(&stage) else {
                return Ok(Ok(false));
            };
            let events = match attempt.listen() {
                Ok(events) if events.is_empty() => return Ok(Ok(false)),
                Ok(events) => events,
                Err(error) => return Ok(Err(error)),
            };
            let (slot, number) = (attempt.slot, attempt.number);
            for event in events.iter().filter(|event| event.attempt == number) {
                self.hear(stage, slot, event);
            }
            self.backlog += events.len();
            self.changes.push(Change::Events {
                fingerprint: self.run.jobs[stage].fingerprint.clone(),
                events,
            });
            if self.backlog > BACKLOG {
                self.commit().await?;
            }
        }
        Ok(Ok(true))
    }

    fn hear(&mut self, stage: usize, slot: usize, event: &Event) {
        self.run.progress.heard(slot, stage, event);
        self.guard.heard(stage);
        if matches!(event.kind, EventKind::Checkpointed { .. }) {
            self.messages.push_back(Message::Checkpointed { stage });
        }
    }

    async fn exited(&mut self, stage: usize, exit: Exit) -> Result<(), ScheduleError> {
        let read = self.listen(stage, usize::MAX).await?;
        let Some(attempt) = self.attempts.remove(&stage) else {
            return Ok(());
        };
        if attempt.watched {
            let dir = RunDir::in_store(self.run.dir, &self.run.jobs[stage].fingerprint);
            self.notices.unwatch(dir.root());
        }
        self.run.progress.left(attempt.slot);
        let lost = self.keeper.release(stage);
        let outcome = match (read, &attempt.word) {
            // Whatever it said: there was nothing to compute on.
            (_, LastWord::Nothing | LastWord::Failed(_)) if lost.is_some() => {
                Outcome::Failed(Failure {
                    class: FailureClass::DeviceLost,
                    message: lost.unwrap_or_default(),
                })
            }
            // What it said before the damage counts; without a word of its end nothing can be said.
            (Err(error), LastWord::Nothing) => Outcome::Failed(Failure {
                class: error.class(),
                message: error.to_string(),
            }),
            (_, LastWord::Finished) => Outcome::Done,
            _ => judge(
                &exit,
                &attempt.word,
                attempt::last_lines(&attempt.log).as_deref(),
            ),
        };
        let outcome = match (outcome, self.guard.end(stage)) {
            // We ended it ourselves, whatever it said to that.
            (Outcome::Failed(_), Some(cause)) => Outcome::Failed(cause),
            (outcome, _) => outcome,
        };
        self.judge(stage, &attempt, exit, outcome).await
    }

    /// Lets the core rule on an attempt that has ended.
    async fn judge(
        &mut self,
        stage: usize,
        attempt: &Attempt,
        exit: Exit,
        outcome: Outcome,
    ) -> Result<(), ScheduleError> {
        self.consider(stage, &outcome).await?;
        self.judged.insert(
            stage,
            Judged {
                number: attempt.number,
                exit,
                log: attempt.log.clone(),
                energy_joules: self.meter.end(stage),
            },
        );
        self.messages
            .push_back(Message::WorkerExited { stage, outcome });
        Ok(())
    }

    /// What another scheduler made of a stage.
    pub(super) fn tell(&mut self, stage: usize, standing: Standing) {
        self.elsewhere += usize::from(standing == Standing::Done);
        self.messages.push_back(Message::Told { stage, standing });
    }

    pub(super) fn note(&mut self, text: &str) {
        self.run.progress.note(text);
    }

    fn summary(self) -> Summary {
        Summary {
            ends: (0..self.run.jobs.len())
                .map(|stage| self.core.end(stage).cloned().unwrap_or(End::Left))
                .collect(),
            logs: self.logs,
            interrupted: self.interrupted,
            attempts: self.started,
            elsewhere: self.elsewhere,
            closed: self.closed,
            wall: self.began.elapsed(),
        }
    }
}

/// Pause between looks at what others do where nothing tells of it: another host has the stage, or the
/// system has no notices.
const UNHEARD: Duration = Duration::from_secs(5);

/// Whether others can have the stage after this change.
fn is_release(change: &Change) -> bool {
    matches!(
        change,
        Change::End { keep: false, .. } | Change::Release { .. }
    )
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The GPUs of a slot as the store keeps them.
fn hardware(slot: &Slot) -> Vec<AttemptGpu> {
    let gpu = |share: &GpuShare| AttemptGpu {
        uuid: share.uuid.clone(),
        name: share.model.clone(),
        driver: share.driver.clone(),
        memory: share.memory.unwrap_or(share.total),
    };
    slot.gpus.iter().map(gpu).collect()
}
