//! A store without room, or one that another program holds locked: what has to be written waits, and what needs no store
//! goes on.
//!
//! Workers go on and write into their run directories. They are still stopped and resumed with us (Ctrl-Z),
//! ended when their time is over, and asked to leave at the first Ctrl-C or the end of `--budget`. What they
//! have said is taken in later, by us or by the next `ablate run`.

use super::{Actor, Input};
use crate::schedule::attempt;
use crate::schedule::core::{Message, Timer};
use crate::schedule::execution::ScheduleError;
use crate::schedule::space;
use crate::store::StoreError;
use std::time::Duration;

/// A write that takes longer than this is waited for with open ears.
const SOON: Duration = Duration::from_millis(500);

impl Actor<'_> {
    /// Waits a moment if the store has no room; any other error is passed on, and so is this one once a stop was
    /// asked for and the workers are gone: what isn't stored then is taken in by the next execution.
    pub(in crate::schedule) async fn wait_for_space(
        &mut self,
        full: StoreError,
    ) -> Result<(), ScheduleError> {
        if !matches!(full, StoreError::Full { .. }) {
            return Err(full.into());
        }
        if self.store_is_full.is_none() {
            let text = format!("{full}: waiting until there is some");
            self.run.progress.note(&text);
            self.store_is_full = Some(full.to_string());
        }
        let until = tokio::time::Instant::now() + space::LOOK;
        loop {
            self.hasten();
            if self.is_over() {
                return Err(full.into());
            }
            match tokio::time::timeout_at(until, self.inputs.recv()).await {
                Ok(Some(input)) => self.take_without_store(input).await?,
                Ok(None) | Err(_) => break,
            }
        }
        self.cap_logs();
        Ok(())
    }

    /// Waits for a write, and listens if it takes long: another program holds the database locked. Once a stop was asked
    /// for and the workers are gone it isn't waited for any more.
    pub(in crate::schedule) async fn patiently<T>(
        &mut self,
        write: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<Result<T, StoreError>, ScheduleError> {
        tokio::pin!(write);
        if let Ok(result) = tokio::time::timeout(SOON, &mut write).await {
            return Ok(result);
        }
        let mut looks = tokio::time::interval(space::LOOK);
        loop {
            self.hasten();
            if self.is_over() {
                self.run.store.give_up();
            }
            tokio::select! {
                result = &mut write => {
                    self.run.store.wait_again();
                    return Ok(result);
                }
                Some(input) = self.inputs.recv() => self.take_without_store(input).await?,
                _ = looks.tick() => self.cap_logs(),
            }
        }
    }

    fn cap_logs(&self) {
        for attempt in self.attempts.values() {
            // One that can't be cut now is cut later.
            let _ = attempt::cap_log(&attempt.log, self.run.settings.log_cap);
        }
    }

    /// Whether nothing is left to wait for: the end was asked for, and the workers are gone or not waited for.
    fn is_over(&self) -> bool {
        self.core.is_killing() || self.core.is_stopping() && self.workers_are_gone()
    }

    /// The store could write.
    pub(in crate::schedule) fn store_has_space(&mut self) {
        if self.store_is_full.take().is_some() {
            self.run.progress.note("the store has room again: going on");
        }
    }

    /// Whether every worker is gone, though the store doesn't know it yet.
    fn workers_are_gone(&self) -> bool {
        let is_gone = |stage: &usize| {
            let mut early = self.early.iter();
            early.any(|input| matches!(input, Input::Exited { stage: gone, .. } if gone == stage))
        };
        self.attempts.keys().all(is_gone)
    }

    /// Takes what needs no store, and keeps the rest for later.
    async fn take_without_store(&mut self, input: Input) -> Result<(), ScheduleError> {
        match input {
            Input::Started { stage, attempt } => self.worker_started(stage, attempt).await?,
            Input::Suspend => self.suspend(),
            Input::Watch => self.watch(),
            Input::Asked(request) => self.answer(request),
            Input::Fault(fault) => self.lose(&fault.uuid, &fault.what),
            Input::Interrupt(signal) => self.interrupt(signal),
            Input::Timer(timer @ (Timer::Grace | Timer::Budget)) => {
                self.messages.push_back(Message::Timer(timer));
            }
            Input::Exited { stage, exit } => {
                // It takes no more time, however long this lasts.
                self.guard.gone(stage);
                self.early.push_back(Input::Exited { stage, exit });
            }
            // Said once is enough.
            Input::Wrote | Input::Peers if self.early.contains(&input) => {}
            later => self.early.push_back(later),
        }
        Ok(())
    }
}
