//! The words of the state machine: stages, slots, messages, actions.

use crate::rundir::event::FailureClass;
use std::time::Duration;

/// Time that workers have between SIGTERM and SIGKILL, unless it is said: enough to write a checkpoint.
pub const GRACE: Duration = Duration::from_secs(10);

/// What is known of a stage before anything runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Index of the stage whose result this one starts from; smaller or larger than its own.
    pub parent: Option<usize>,
    /// Expected work; decides the order (longest path first). Non-finite counts as none.
    pub flops: f64,
    /// Higher ones go first, and so do their ancestors; 0 is usual.
    pub priority: i32,
    pub prior: Prior,
}

/// How an execution is limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// No new stage starts once this many have failed; those that run go on to their ends.
    pub max_fail: Option<u32>,
    /// Time of the whole execution: when it is over, it drains as after a stop.
    pub budget: Option<Duration>,
    /// One stage, the cheapest, must be done before any other starts.
    pub canary: bool,
    /// Time that workers have to leave when all of it ends; `None`: [`GRACE`].
    pub grace: Option<Duration>,
}

/// What another scheduler that shares the store has made of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has the stage.
    Elsewhere,
    Done,
    Failed(Failure),
    /// Nobody has it any more, and it isn't done.
    Free,
}

/// Why no new stage is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// That many stages have failed.
    MaxFail(u32),
    /// The time of the execution is over.
    Budget,
    /// The stage that had to be done before the others failed.
    Canary { stage: usize },
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlotTraits {
    /// The slot's device can be lost while others go on (a GPU).
    pub can_be_lost: bool,
    /// Its workers compute in the memory that all such slots share (the host's).
    pub shares_memory: bool,
    /// Others may use a part of its device.
    pub is_share: bool,
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
    /// The stage has a checkpoint at `step`. It `counts` if the attempt under way wrote it of its own accord:
    /// then work that a retry won't repeat, if no earlier attempt got that far. One that was asked to leave, or that
    /// another attempt wrote, is only remembered.
    Checkpointed {
        stage: usize,
        step: u64,
        counts: bool,
    },
    /// What the stage's parent has left is damaged or gone, and the stage's worker has failed. Comes right before
    /// [`Message::WorkerExited`].
    ParentLost { stage: usize },
    /// The stage's worker is gone (or never came to be).
    WorkerExited { stage: usize, outcome: Outcome },
    /// The answer to [`Action::Spawn`] where the slot can't be used at the moment: somebody else is there.
    SlotBusy { stage: usize, slot: usize },
    /// The slot may be tried again.
    SlotFree { slot: usize },
    /// The answer to [`Action::Spawn`] where others have so many bytes of the host's memory that there is no room for
    /// the stage, whatever slot it gets.
    MemoryBusy {
        stage: usize,
        used: u64,
        capacity: u64,
    },
    /// There may be room in the host's memory again.
    MemoryFree,
    /// The slot's device is lost.
    DeviceLost { slot: usize },
    /// The slot's device, which was lost, is well.
    DeviceBack { slot: usize },
    /// There is no room for more work (a full disk), or there is again: no stage is started meanwhile.
    Hold(bool),
    /// The stage's next attempt needs less than the last one: it is no repetition of it.
    Relieved { stage: usize },
    /// The answer to [`Action::Spawn`] where no worker was started, for the stage isn't ours to run.
    Refused { stage: usize, standing: Standing },
    /// What became of a stage that isn't running here.
    Told { stage: usize, standing: Standing },
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
    /// The time of the execution is over.
    Budget,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Take the stage and start a worker for it; [`Message::Refused`] if it isn't to be had.
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
    /// The stage, which was done, is to be done again: what it has left is damaged or gone.
    Renewed {
        stage: usize,
    },
    /// The slot is not used again.
    CloseSlot {
        slot: usize,
    },
    /// From now on at most `workers` at once: the host's memory was full.
    LowerConcurrency {
        workers: usize,
    },
    /// No new stage is started from now on.
    Close(Closing),
    /// The stage has ended (never sent for stages that were done or failed before, except for those that were
    /// [renewed](Action::Renewed)).
    Ended {
        stage: usize,
        end: End,
    },
    /// Nothing is left to do. The last action of all.
    Finish,
}

/// Why a stage isn't running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It runs.
    Runs,
    /// It has ended, see [`Core::end`](super::Core::end).
    Ended,
    /// Another scheduler of the store has it.
    Elsewhere,
    /// The stage that it starts from isn't done.
    Parent { stage: usize },
    /// It failed, and is tried again after a pause; `retry` counts from 1, and is 0 where it moves to another device.
    Pause { retry: u32 },
    /// No new stage is started: what the execution is limited by was reached.
    Closed(Closing),
    /// No new stage is started: a stop was asked for.
    Stopping,
    /// No stage is started for now ([`Message::Hold`]).
    OnHold,
    /// Every slot was closed.
    NoDevice,
    /// It asks for more devices than are left.
    TooFewDevices { wants: usize, left: usize },
    /// The canary comes first.
    Canary { stage: usize },
    /// Somebody else is on the devices that it could have, by slot.
    Held { slots: Vec<usize> },
    /// Other stages are on the devices that it could have; `free` devices are not enough for it.
    Slots { wants: usize, free: usize },
    /// No more workers at once than this, since the host's memory was full.
    Lowered { workers: usize },
    /// The stages that run, those of others among them, leave too little of the memory of the host, in bytes.
    Memory {
        needs: u64,
        used: u64,
        capacity: u64,
    },
    /// `stage` is before it in line, and can't be started.
    Behind { stage: usize, because: Box<Reason> },
    /// Nothing: it is about to be started.
    Turn,
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
