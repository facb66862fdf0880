//! What workers say in their event logs.

use super::{Actor, Input};
use crate::rundir::event::EventKind;
use crate::rundir::layout::RunDir;
use crate::rundir::log::LogError;
use crate::schedule::attempt;
use crate::schedule::core::Message;
use crate::schedule::execution::ScheduleError;
use crate::store::Change;

/// Most reads of a log per tick: a worker that writes faster than we read must not keep us.
const READS_PER_TICK: usize = 8;

/// Events that are stored at once; more are stored before others are read.
const BACKLOG: usize = 20_000;

impl Actor<'_> {
    pub(super) fn ensure_tick(&mut self) {
        if !std::mem::replace(&mut self.ticking, true) {
            self.after(self.run.settings.tick, Input::Tick);
        }
    }

    pub(super) async fn look(&mut self) -> Result<(), ScheduleError> {
        self.looking = None;
        let stages: Vec<usize> = self.attempts.keys().copied().collect();
        self.read_logs(stages).await?;
        self.run.progress.tick();
        if !self.core.elsewhere().is_empty() {
            self.refresh().await?;
        }
        Ok(())
    }

    pub(super) async fn tick(&mut self) -> Result<(), ScheduleError> {
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
    pub(super) async fn listen(
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
            for event in &events {
                let is_own = event.attempt == number;
                if is_own {
                    self.run.progress.heard(slot, stage, event);
                    self.guard.heard(stage);
                }
                if let EventKind::Checkpointed { step, .. } = event.kind {
                    // What it writes because it was asked to leave is no progress of its own.
                    let counts = is_own && !self.guard.is_condemned(stage);
                    self.messages.push_back(Message::Checkpointed {
                        stage,
                        step,
                        counts,
                    });
                }
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
}
