//! What the loop does about attempts that take too long or stand still, about a disk without room, and about
//! failures after which the next attempt must be another.

use crate::rundir::durable;
use crate::rundir::event::FailureClass;
use crate::rundir::layout::RunDir;
use crate::rundir::stage::StageSpec;
use crate::schedule::actor::{Actor, Input};
use crate::schedule::attempt;
use crate::schedule::clock::Clock;
use crate::schedule::core::{Failure, Message, Outcome};
use crate::schedule::execution::ScheduleError;
use crate::schedule::executor::Signal;
use crate::schedule::process_tree;
use crate::schedule::relief;
use crate::schedule::space::{self, Space};
use crate::schedule::watchdog::{AttemptLimits, Measure, Watchdog};
use crate::spec::execution::{ExecutionRules, OutOfMemory};
use crate::store::StoreError;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// What is remembered for that.
pub(super) struct Guard {
    clock: Clock,
    watchdog: Watchdog,
    /// When the next look at the attempts is due.
    watching: Option<Duration>,
    space: Space,
    /// How often each stage has met a full disk.
    met_full: BTreeMap<usize, u32>,
    /// A look at the space is on its way.
    looking: bool,
    /// Parts of a step that each stage was told to take.
    parts: BTreeMap<usize, usize>,
}

impl Guard {
    /// For the store at `dir`, with a reserve in bytes; graces are divided by `hurry`.
    pub(super) fn new(dir: &Path, reserve: u64, hurry: u32) -> Guard {
        Guard {
            clock: Clock::of_process(),
            watchdog: Watchdog::new(hurry),
            watching: None,
            space: Space::new(dir, reserve),
            met_full: BTreeMap::new(),
            looking: false,
            parts: BTreeMap::new(),
        }
    }

    /// An attempt begins. Returns the parts of a step that it has to take, where they aren't the recipe's.
    pub(super) fn begin(
        &mut self,
        stage: usize,
        rules: &ExecutionRules,
        spec: &StageSpec,
        dir: &RunDir,
    ) -> Option<usize> {
        let limits = AttemptLimits {
            timeout: rules.timeout,
            hung_after: rules.hung_after,
            grace: rules.grace,
        };
        self.watchdog.begin(stage, limits, self.clock.now());
        if rules.out_of_memory == OutOfMemory::Same {
            return None;
        }
        if let Some(told) = self.parts.get(&stage) {
            return Some(*told);
        }
        // What an earlier execution has found out; a batch that it doesn't divide was another recipe's.
        let told = relief::parts_of_last_launch(dir)
            .filter(|&parts| parts > 0 && spec.recipe.train.batch_size.is_multiple_of(parts))?;
        self.parts.insert(stage, told);
        Some(told)
    }

    /// Its worker was started.
    pub(super) fn named(&mut self, stage: usize, pid: Option<u32>) {
        self.watchdog.named(stage, pid);
    }

    /// It has said something.
    pub(super) fn heard(&mut self, stage: usize) {
        self.watchdog.heard(stage, self.clock.now());
    }

    /// Whether it was asked to leave, for it takes too long or stands still.
    pub(super) fn is_condemned(&self, stage: usize) -> bool {
        self.watchdog.is_condemned(stage)
    }

    /// Its worker is gone, though what it said has yet to be taken in: no limit counts any more.
    pub(super) fn gone(&mut self, stage: usize) {
        self.watchdog.gone(stage);
    }

    /// It is gone. If it was ended from here, that is why it failed.
    pub(super) fn end(&mut self, stage: usize) -> Option<Failure> {
        self.watchdog.end(stage)
    }
}

impl Actor<'_> {
    /// Sees to it that the attempts are looked at when the next one may be due.
    pub(super) fn ensure_watch(&mut self) {
        let Some(next) = self.guard.watchdog.next() else {
            return;
        };
        if self.guard.watching.is_none_or(|at| next < at) {
            self.guard.watching = Some(next);
            let pause = next.saturating_sub(self.guard.clock.now());
            self.after(pause, Input::Watch);
        }
    }

    /// Looks at the attempts, and ends those that take too long or stand still.
    pub(super) fn watch(&mut self) {
        self.guard.watching = None;
        let now = self.guard.clock.now();
        let keeper = &self.keeper;
        let computes = |stage| keeper.computes(stage);
        for (stage, measure) in self.guard.watchdog.look(now, computes) {
            match measure {
                Measure::DescribeAndTerminate => {
                    self.describe(stage);
                    self.signal(stage, Signal::Terminate);
                }
                Measure::Terminate => self.signal(stage, Signal::Terminate),
                Measure::Kill => self.signal(stage, Signal::Kill),
            }
        }
        self.ensure_watch();
    }

    /// Writes into the log of an attempt where its threads stand.
    fn describe(&mut self, stage: usize) {
        let (Some(pid), Some(attempt)) =
            (self.guard.watchdog.pid(stage), self.attempts.get(&stage))
        else {
            return;
        };
        let text = format!(
            "\n[ablate: this attempt stands still; its processes and threads:]\n{}",
            process_tree::describe(pid)
        );
        // A log that can't be written is no reason to leave it alone.
        let _ = attempt::append(&attempt.log, text.as_bytes());
    }

    /// Looks for room on the store's disk, and lets the core know when that has changed.
    pub(super) fn look_for_space(&mut self) {
        if let Some(change) = self.guard.space.look() {
            let text = self.guard.space.describe(change);
            self.run.progress.note(&text);
            let short = self.guard.space.is_short();
            self.messages.push_front(Message::Hold(short));
        }
        if self.guard.space.is_short() && !self.guard.looking {
            self.guard.looking = true;
            self.after(space::LOOK, Input::Space);
        }
    }

    /// Why no stage is started for now.
    pub(super) fn hold(&self) -> String {
        self.guard.space.why_short()
    }

    /// Time to look again: [`look_for_space`](Self::look_for_space) follows.
    pub(super) fn space_is_due(&mut self) {
        self.guard.looking = false;
    }

    /// Draws the consequences of a failure before the core rules on it.
    pub(super) async fn consider(
        &mut self,
        stage: usize,
        outcome: &Outcome,
    ) -> Result<(), ScheduleError> {
        let Outcome::Failed(failure) = outcome else {
            return Ok(());
        };
        self.look_at_parent(stage, failure).await?;
        match failure.class {
            FailureClass::OutOfMemory => self.relieve(stage),
            FailureClass::DiskFull => {
                let dir = RunDir::in_store(self.run.dir, &self.run.jobs[stage].fingerprint);
                let times = self.guard.met_full.entry(stage).or_default();
                self.guard.space.met_full(dir.root(), *times);
                *times += 1;
                self.look_for_space();
            }
            FailureClass::IoError => {
                // What is on disk counts, not the kernel's idea of it; the next worker verifies it all.
                let dir = RunDir::in_store(self.run.dir, &self.run.jobs[stage].fingerprint);
                durable::forget_cached(dir.root());
                match self.run.store.verify().await {
                    // Nobody can tell while another program holds it locked.
                    Err(StoreError::Busy { .. }) => {}
                    verdict => verdict?,
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Lets the next attempt do with less memory, if that is allowed and possible.
    fn relieve(&mut self, stage: usize) {
        let files = (self.run.files)(stage);
        if files.rules.out_of_memory == OutOfMemory::Same {
            return;
        }
        let told = self.guard.parts.get(&stage).copied();
        let Some(more) = relief::after_out_of_memory(&files.spec, told) else {
            return;
        };
        self.guard.parts.insert(stage, more);
        let text = format!(
            "{}: out of memory; from now on a step's batch of {} is taken in {more} parts",
            self.run.jobs[stage].label, files.spec.recipe.train.batch_size
        );
        self.run.progress.note(&text);
        self.messages.push_back(Message::Relieved { stage });
    }
}
