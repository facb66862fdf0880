//! Attempts: begun, named, ended, judged.

use super::transition::Gone;
use super::{Actor, Input};
use crate::rundir::event::{FailureClass, HOST_MEMORY_FULL, device_memory_full};
use crate::rundir::host;
use crate::rundir::layout::RunDir;
use crate::rundir::stage::Launch;
use crate::schedule::attempt::{self, Attempt};
use crate::schedule::core::{Failure, Message, Outcome};
use crate::schedule::device::Slot;
use crate::schedule::execution::ScheduleError;
use crate::schedule::executor::{Order, Signal, Worker};
use crate::schedule::outcome::{Exit, LastWord, judge};
use crate::store::Change;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Workers that were started and not yet heard of, by stage and attempt.
pub(super) type Starts = Arc<Mutex<HashMap<(usize, u32), Result<Box<dyn Worker>, Failure>>>>;

impl Actor<'_> {
    /// Begins the attempt that was claimed: writes the run directory and starts the worker, on a thread
    /// of its own, for both may wait for the disk.
    pub(super) fn spawn(&mut self, stage: usize, (slot_index, slot): (usize, Slot), number: u32) {
        let job = &self.run.jobs[stage];
        let files = (self.run.files)(stage);
        let dir = RunDir::in_store(self.run.dir, &job.fingerprint);
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
        self.ledger.won(stage, number);
        self.pauses.remove(&stage);
        self.started += 1;
        self.meter.begin(stage, &order.slot);
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
    }

    pub(super) async fn worker_started(
        &mut self,
        stage: usize,
        number: u32,
    ) -> Result<(), ScheduleError> {
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
    pub(super) fn name_workers(&mut self) {
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

    pub(super) async fn exited(&mut self, stage: usize, exit: Exit) -> Result<(), ScheduleError> {
        let read = self.listen(stage, usize::MAX).await?;
        let Some(attempt) = self.attempts.remove(&stage) else {
            return Ok(());
        };
        if attempt.watched {
            let dir = RunDir::in_store(self.run.dir, &self.run.jobs[stage].fingerprint);
            self.notices.unwatch(dir.root());
        }
        // What it wrote since the last look.
        let _ = attempt::cap_log(&attempt.log, self.run.settings.log_cap);
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
        if outcome == Outcome::Done && exit.code != Some(0) {
            let dir = RunDir::in_store(self.run.dir, &self.run.jobs[stage].fingerprint);
            dir.drop_checkpoints_of_finished();
        }
        let outcome = self.whose_memory(attempt.slot, outcome);
        let outcome = match (outcome, self.guard.end(stage)) {
            // We ended it ourselves, whatever it said to that.
            (Outcome::Failed(_), Some(cause)) => Outcome::Failed(cause),
            (outcome, _) => outcome,
        };
        self.judge(stage, &attempt, exit, outcome).await
    }

    /// Sees to it that the message of an `out_of_memory` begins with whose memory was full: on a GPU the GPU's,
    /// unless the worker or the kernel said that it was the machine's.
    fn whose_memory(&self, slot: usize, outcome: Outcome) -> Outcome {
        let Outcome::Failed(Failure { class, message }) = outcome else {
            return outcome;
        };
        let is_unknown = class == FailureClass::OutOfMemory && class.memory(&message).is_none();
        let message = if is_unknown {
            let slot = &self.run.slots[slot];
            let whose = match slot.is_gpu() {
                true => device_memory_full(&slot.name),
                false => HOST_MEMORY_FULL.to_owned(),
            };
            format!("{whose}: {message}")
        } else {
            message
        };
        Outcome::Failed(Failure { class, message })
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
        let gone = Gone {
            exit,
            log: attempt.log.clone(),
            energy_joules: self.meter.end(stage),
            failure: match &outcome {
                Outcome::Failed(failure) => Some(failure.clone()),
                Outcome::Done => None,
            },
        };
        self.ledger.judged(stage, attempt.number, gone);
        self.messages
            .push_back(Message::WorkerExited { stage, outcome });
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
