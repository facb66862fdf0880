//! The loop around the core: the one owner of the scheduler's state.
//!
//! Child exits, timers, signals and the ticks at which event logs are read arrive through one channel,
//! in one order; each becomes messages to [`Core`], whose answers are carried out here before the next
//! input is taken. Only this loop writes to the store.

use crate::rundir::event::{Event, EventKind, FailureClass};
use crate::rundir::host;
use crate::rundir::layout::RunDir;
use crate::rundir::log::LogError;
use crate::rundir::stage::Launch;
use crate::schedule::attempt::{self, Attempt};
use crate::schedule::clock::{Clock, Stopwatch};
use crate::schedule::core::{Action, Core, End, Failure, Message, Outcome, SlotTraits, Timer};
use crate::schedule::device;
use crate::schedule::device::cpu::Cpu;
use crate::schedule::device::gpus::{GpuFault, Gpus};
use crate::schedule::device::keeper::{Answer, Keeper};
use crate::schedule::device::{GpuShare, Slot};
use crate::schedule::execution::{Job, JobFiles, ScheduleError, Settings, Summary};
use crate::schedule::executor::{Executor, Order, Signal};
use crate::schedule::guard::Guard;
use crate::schedule::outcome::{Exit, LastWord, judge, signal_name};
use crate::schedule::progress::Progress;
use crate::schedule::progress::news::Request;
use crate::schedule::signals;
use crate::store::rows::Status;
use crate::store::{AttemptEnd, AttemptGpu, AttemptStart, Store};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What happens from the loop's point of view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The stage's worker is gone.
    Exited {
        stage: usize,
        exit: Exit,
    },
    Timer(Timer),
    /// Time to read the event logs.
    Tick,
    /// Time to look at attempts that may take too long.
    Watch,
    /// Time to look for room on the disk.
    Space,
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
    /// The store's folder.
    pub dir: &'a Path,
    pub jobs: Vec<Job>,
    pub slots: Vec<Slot>,
    /// Who is asked about the slots' GPUs; `None` where nobody can be.
    pub gpus: Option<Arc<dyn Gpus>>,
    pub executor: &'a dyn Executor,
    /// Configuration of a job.
    pub files: &'a (dyn Fn(usize) -> JobFiles + Sync),
    pub progress: Progress,
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
        let keeper = Keeper::new(self.gpus.clone(), self.slots.clone());
        let faults = sender.clone();
        // Nobody listens any more once all is done.
        keeper.watch(Box::new(move |fault| {
            drop(faults.send(Input::Fault(fault)))
        }));
        let widths = self.jobs.iter().map(|job| job.devices).collect();
        let needs = self.jobs.iter().map(|job| job.memory).collect();
        let core = Core::new(stages, slots)
            .on_devices(&keeper.devices(), widths)
            .in_memory(device::memory_for_stages(Cpu::discover().memory), needs);
        let mut actor = Actor {
            core,
            keeper,
            looking: false,
            attempts: BTreeMap::new(),
            messages: VecDeque::from([Message::Begin]),
            sender,
            ticking: false,
            finished: false,
            judged: BTreeMap::new(),
            logs: BTreeMap::new(),
            interrupted: None,
            started: 0,
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

pub(super) struct Actor<'a> {
    pub(super) run: Execution<'a>,
    core: Core,
    /// Attempts with a worker, by stage.
    pub(super) attempts: BTreeMap<usize, Attempt>,
    /// Messages that the core has yet to take.
    pub(super) messages: VecDeque<Message>,
    sender: UnboundedSender<Input>,
    pub(super) inputs: UnboundedReceiver<Input>,
    /// Inputs that came while the store had to wait.
    pub(super) early: VecDeque<Input>,
    pub(super) guard: Guard,
    keeper: Keeper,
    /// A look at GPUs that others use is on its way.
    looking: bool,
    /// A tick is on its way.
    ticking: bool,
    finished: bool,
    /// Attempts whose end the core has yet to rule on.
    judged: BTreeMap<usize, Judged>,
    logs: BTreeMap<usize, PathBuf>,
    interrupted: Option<i32>,
    started: usize,
    /// Timers run on it.
    clock: Clock,
    began: Stopwatch,
}

/// An attempt that has ended.
struct Judged {
    number: u32,
    exit: Exit,
    log: PathBuf,
}

/// Most reads of a log per tick: a worker that writes faster than we read must not keep us.
const READS_PER_TICK: usize = 8;

/// Time between two looks at a GPU that somebody else uses. Nothing tells when they are gone.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

impl Actor<'_> {
    async fn work(&mut self) -> Result<(), ScheduleError> {
        loop {
            self.look_for_space();
            while let Some(message) = self.messages.pop_front() {
                for action in self.core.handle(message) {
                    self.carry_out(action).await?;
                }
            }
            if self.finished {
                return Ok(());
            }
            // The channel can't close: we hold a sender.
            let input = match self.early.pop_front() {
                Some(input) => Some(input),
                None => self.inputs.recv().await,
            };
            let Some(input) = input else {
                return Ok(());
            };
            self.take(input).await?;
        }
    }

    async fn take(&mut self, input: Input) -> Result<(), ScheduleError> {
        match input {
            Input::Exited { stage, exit } => self.exited(stage, exit).await?,
            Input::Timer(timer) => self.messages.push_back(Message::Timer(timer)),
            Input::Tick => self.tick().await?,
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
                self.looking = false;
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
                if !self.looking {
                    self.looking = true;
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

    fn signal_all(&self, signal: Signal) {
        self.attempts
            .values()
            .for_each(|attempt| attempt.signal(signal));
    }

    async fn carry_out(&mut self, action: Action) -> Result<(), ScheduleError> {
        match action {
            Action::Spawn { stage, slot } => self.spawn(stage, slot).await?,
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
            } => {
                self.record(stage, Status::Pending, Some(&failure)).await?;
                self.run.progress.retrying(stage, &failure, after);
            }
            Action::CloseSlot { slot } => self.close_slot(slot),
            Action::LowerConcurrency { workers } => {
                self.run.progress.note(&format!(
                    "memory is short: at most {workers} workers from now on"
                ));
            }
            Action::Ended { stage, end } => self.ended(stage, &end).await?,
            Action::Finish => self.finished = true,
        }
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

    async fn ended(&mut self, stage: usize, end: &End) -> Result<(), ScheduleError> {
        let log = match end {
            End::Done => self.record(stage, Status::Done, None).await?,
            End::Failed(failure) => self.record(stage, Status::Failed, Some(failure)).await?,
            End::Left => {
                self.record(stage, Status::Pending, Some(&self.interruption()))
                    .await?
            }
            End::Blocked { .. } => None,
        };
        self.run
            .progress
            .ended(stage, end, log.as_deref().and_then(Path::to_str));
        if let (End::Failed(_), Some(log)) = (end, log) {
            self.logs.insert(stage, log);
        }
        Ok(())
    }

    /// Writes down how the stage's last attempt ended and what that makes of the stage; returns its
    /// log. Nothing happens where no attempt has ended since the last call.
    async fn record(
        &mut self,
        stage: usize,
        status: Status,
        failure: Option<&Failure>,
    ) -> Result<Option<PathBuf>, ScheduleError> {
        let Some(Judged { number, exit, log }) = self.judged.remove(&stage) else {
            return Ok(None);
        };
        let end = AttemptEnd {
            status,
            failure: failure.map(|failure| failure.class),
            message: failure.map(|failure| failure.message.clone()),
            exit_code: exit.code,
            signal: exit.signal,
        };
        let store = self.run.store;
        let fingerprint = self.run.jobs[stage].fingerprint.clone();
        while let Err(error) = store.end_attempt(&fingerprint, number, &end).await {
            self.wait_for_space(error).await?;
        }
        self.store_has_space();
        Ok(Some(log))
    }

    /// What is said of an attempt that a stop has ended.
    fn interruption(&self) -> Failure {
        let cause = self.interrupted.map_or("interrupted".into(), |signal| {
            format!("interrupted by {}", signal_name(signal))
        });
        Failure {
            class: FailureClass::Killed,
            message: format!("{cause}; goes on from its last checkpoint"),
        }
    }

    pub(super) fn signal(&self, stage: usize, signal: Signal) {
        if let Some(attempt) = self.attempts.get(&stage) {
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

    async fn spawn(&mut self, stage: usize, slot_index: usize) -> Result<(), ScheduleError> {
        let Some(slot) = self.lease(stage) else {
            return Ok(());
        };
        let job = &self.run.jobs[stage];
        let (store, fingerprint) = (self.run.store, job.fingerprint.clone());
        let fingerprint = fingerprint.as_str();
        let files = (self.run.files)(stage);
        let dir = RunDir::in_store(self.run.dir, fingerprint);
        // The store is ours alone: nobody takes the number in between.
        let known = store.stage_states(&[fingerprint.to_owned()]).await?;
        let next = known.get(fingerprint).map_or(0, |state| state.attempts) + 1;
        let start = AttemptStart {
            device: if slot.is_gpu() {
                slot.name.clone()
            } else {
                slot.device.clone()
            },
            host: host::name(),
            pid: None,
            log: self.in_store(&dir.attempt_log(next)),
        };
        let number = loop {
            match store.begin_attempt(fingerprint, &start).await {
                Ok(number) => break number,
                Err(error) => self.wait_for_space(error).await?,
            }
        };
        self.store_has_space();
        let job = &self.run.jobs[stage];
        let fingerprint = job.fingerprint.as_str();
        if !slot.gpus.is_empty() {
            store
                .set_attempt_gpus(fingerprint, number, &hardware(&slot))
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
        let prepared = attempt::write_stage(&dir, &files.spec)
            .and_then(|()| attempt::write_launch(&dir, &launch, fingerprint));
        let order = Order {
            run_dir: dir.root().into(),
            log: dir.attempt_log(number),
            slot: slot.clone(),
            task: files.spec.task,
        };
        let sender = self.sender.clone();
        let on_exit = Box::new(move |exit| {
            // Nobody listens any more when the execution was given up.
            let _ = sender.send(Input::Exited { stage, exit });
        });
        let started = match prepared {
            Ok(()) => self
                .run
                .executor
                .start(&order, on_exit)
                .map_err(|error| (error.class(), error.to_string())),
            Err(error) => Err((error.class(), error.to_string())),
        };
        match started {
            Ok(worker) => {
                self.guard.named(stage, worker.pid());
                self.keeper.started(stage, worker.pid());
                if let Some(pid) = worker.pid() {
                    store.set_attempt_pid(fingerprint, number, pid).await?;
                }
                self.started += 1;
                self.attempts
                    .insert(stage, Attempt::new(&dir, number, slot_index, worker));
                self.run.progress.started(slot_index, stage);
                self.ensure_tick();
                self.ensure_watch();
            }
            Err((class, message)) => {
                self.keeper.release(stage);
                self.guard.end(stage);
                let failure = Failure { class, message };
                self.judged.insert(
                    stage,
                    Judged {
                        number,
                        exit: Exit::default(),
                        log: order.log,
                    },
                );
                let outcome = Outcome::Failed(failure);
                self.consider(stage, &outcome).await?;
                self.messages
                    .push_back(Message::WorkerExited { stage, outcome });
            }
        }
        Ok(())
    }

    /// A path as the store keeps it: relative to its folder, so that it can be moved.
    fn in_store(&self, path: &Path) -> String {
        path.strip_prefix(self.run.dir)
            .unwrap_or(path)
            .display()
            .to_string()
    }

    fn ensure_tick(&mut self) {
        if !self.ticking {
            self.ticking = true;
            self.after(self.run.settings.tick, Input::Tick);
        }
    }

    async fn tick(&mut self) -> Result<(), ScheduleError> {
        self.ticking = false;
        let stages: Vec<usize> = self.attempts.keys().copied().collect();
        for &stage in &stages {
            // What can't be read now is an error only if it still can't be when the worker is gone.
            let _ = self.listen(stage, READS_PER_TICK).await?;
            let log = &self.attempts[&stage].log;
            let _ = attempt::cap_log(log, self.run.settings.log_cap);
        }
        self.run.progress.tick();
        if !stages.is_empty() {
            self.ensure_tick();
        }
        Ok(())
    }

    /// Takes in what the stage's worker has said. The inner error means that its log can't be read.
    async fn listen(
        &mut self,
        stage: usize,
        reads: usize,
    ) -> Result<Result<(), LogError>, ScheduleError> {
        for _ in 0..reads {
            let Some(attempt) = self.attempts.get_mut(&stage) else {
                break;
            };
            let events = match attempt.listen() {
                Ok(events) if events.is_empty() => break,
                Ok(events) => events,
                Err(error) => return Ok(Err(error)),
            };
            let (slot, number) = (attempt.slot, attempt.number);
            let store = self.run.store;
            let fingerprint = self.run.jobs[stage].fingerprint.clone();
            while let Err(error) = store.record_events(&fingerprint, &events).await {
                self.wait_for_space(error).await?;
            }
            self.store_has_space();
            for event in events.iter().filter(|event| event.attempt == number) {
                self.hear(stage, slot, event);
            }
        }
        Ok(Ok(()))
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
        self.consider(stage, &outcome).await?;
        self.judged.insert(
            stage,
            Judged {
                number: attempt.number,
                exit,
                log: attempt.log.clone(),
            },
        );
        self.messages
            .push_back(Message::WorkerExited { stage, outcome });
        Ok(())
    }

    fn summary(self) -> Summary {
        Summary {
            ends: (0..self.run.jobs.len())
                .map(|stage| self.core.end(stage).cloned().unwrap_or(End::Left))
                .collect(),
            logs: self.logs,
            interrupted: self.interrupted,
            attempts: self.started,
            wall: self.began.elapsed(),
        }
    }
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
