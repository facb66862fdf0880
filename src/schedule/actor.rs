//! The loop around the core: the one owner of the scheduler's state.
//!
//! Child exits, timers, signals and notices of files arrive through one channel, in one order; each becomes
//! messages to [`Core`], whose answers are carried out here. What has arrived together is dealt with
//! together: the changes that it makes to the store are one transaction, and only when that is on disk do
//! workers start and signals go out. Only this loop writes to the store.
//!
//! Nothing is polled: while nothing happens, nothing runs.

mod answers;
mod devices;
pub(super) mod ledger;
mod listening;
mod renewal;
mod stopping;
mod transition;
mod waiting;
mod workers;

use crate::schedule::attempt::Attempt;
use crate::schedule::clock::{Clock, Stopwatch};
use crate::schedule::core::{
    Action, Closing, Core, End, Limits, Message, SlotTraits, Standing, Timer,
};
use crate::schedule::device::cpu::Cpu;
use crate::schedule::device::gpus::{GpuFault, Gpus};
use crate::schedule::device::keeper::Keeper;
use crate::schedule::device::memory::Pool;
use crate::schedule::device::{self, Slot};
use crate::schedule::energy::Meter;
use crate::schedule::execution::{Job, JobFiles, ScheduleError, Settings, Summary};
use crate::schedule::executor::{Executor, Signal};
use crate::schedule::guard::Guard;
use crate::schedule::notices::Notices;
use crate::schedule::outcome::Exit;
use crate::schedule::peers::Peers;
use crate::schedule::progress::Progress;
use crate::schedule::progress::news::Request;
use crate::store::{Change, OwnerLock, Store};
use answers::Pause;
use ledger::Ledger;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use transition::Gone;
use workers::Starts;

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
                is_share: slot.is_share(),
            })
            .collect();
        let own = self.me.owner().path(self.dir);
        let memory = device::memory_for_stages(Cpu::discover().memory);
        let keeper = Keeper::new(self.gpus.clone(), self.slots.clone()).in_memory(Pool::all());
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
            .in_memory(memory, needs);
        let mut actor = Actor {
            core,
            keeper,
            meter,
            leased: HashMap::new(),
            looks_again: false,
            short_of_memory: BTreeSet::new(),
            attempts: BTreeMap::new(),
            ledger: Ledger::new(self.jobs.iter().map(|job| job.attempts).collect()),
            messages: VecDeque::from([Message::Begin]),
            due: Vec::new(),
            changes: Vec::new(),
            backlog: 0,
            unnamed: Vec::new(),
            starts: Arc::default(),
            notices: Notices::new(self.dir, &own, sender.clone()),
            peers: Peers::new(self.dir, self.me.owner().clone(), sender.clone()),
            sender,
            ticking: false,
            looking: None,
            lost_outputs: BTreeMap::new(),
            refreshing: false,
            finished: false,
            pauses: BTreeMap::new(),
            store_is_full: None,
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

pub(super) struct Actor<'a> {
    pub(super) run: Execution<'a>,
    pub(super) core: Core,
    /// Attempts under way, by stage.
    pub(super) attempts: BTreeMap<usize, Attempt>,
    /// What is known of stages that are shared with others.
    pub(super) ledger: Ledger<Gone>,
    /// Messages that the core has yet to take.
    pub(super) messages: VecDeque<Message>,
    /// What the core asked for while the store was waited for.
    due: Vec<Action>,
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
    pub(super) keeper: Keeper,
    /// Energy of the attempts under way.
    meter: Meter,
    /// What stages that are about to start have leased.
    leased: HashMap<usize, Slot>,
    /// A look at GPUs or memory that others use is on its way.
    looks_again: bool,
    /// Stages that were told to wait for memory.
    short_of_memory: BTreeSet<usize>,
    /// A tick is on its way, a refresh, a look.
    ticking: bool,
    refreshing: bool,
    looking: Option<Instant>,
    /// What is wrong with what finished stages have left, of those whose children have met it.
    lost_outputs: BTreeMap<usize, String>,
    finished: bool,
    /// Pauses before retries, by stage.
    pauses: BTreeMap<usize, Pause>,
    /// The store has no room, in the words that the user was told.
    store_is_full: Option<String>,
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

/// Most inputs that are dealt with together.
const TOGETHER: usize = 256;

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
            Input::Interrupt(signal) => self.interrupt(signal),
            Input::Suspend => self.suspend(),
            Input::Asked(request) => self.answer(request),
            Input::Fault(GpuFault { uuid, what }) => self.lose(&uuid, &what),
            Input::LookAgain => {
                self.looks_again = false;
                self.messages.push_back(Message::MemoryFree);
                let held = self.keeper.held();
                self.messages
                    .extend(held.into_iter().map(|slot| Message::SlotFree { slot }));
            }
        }
        Ok(())
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
