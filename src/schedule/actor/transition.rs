//! What the core asks for, made durable and then carried out: one transaction of the store at a time.

use super::devices::hardware;
use super::ledger::{Claimed, Entry};
use super::stopping::interruption;
use super::{Actor, Input};
use crate::rundir::event::FailureClass;
use crate::schedule::core::{Action, Closing, End, Failure, Message, Standing};
use crate::schedule::device::Slot;
use crate::schedule::execution::ScheduleError;
use crate::schedule::executor::Signal;
use crate::schedule::outcome::Exit;
use crate::store::{AttemptEnd, Change, Claim};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What is kept of an attempt that has ended.
pub(in crate::schedule) struct Gone {
    pub(super) exit: Exit,
    pub(super) log: PathBuf,
    pub(super) energy_joules: Option<f64>,
    /// What it failed of, whatever the core makes of that.
    pub(super) failure: Option<Failure>,
}

impl Actor<'_> {
    /// Lets the core take its messages, and carries out what it asks for, until it asks for no more.
    pub(super) async fn settle(&mut self) -> Result<(), ScheduleError> {
        loop {
            let mut actions = std::mem::take(&mut self.due);
            while let Some(message) = self.messages.pop_front() {
                actions.extend(self.core.handle(message));
            }
            if actions.is_empty() {
                break;
            }
            let actions = self.without_store(actions);
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
                self.carry_out(action, &mut claims, &mut logs);
            }
        }
        // What remains are events.
        self.commit().await?;
        Ok(())
    }

    /// Makes the changes that are due, in one transaction.
    pub(super) async fn commit(&mut self) -> Result<Vec<Claim>, ScheduleError> {
        if self.changes.is_empty() {
            return Ok(Vec::new());
        }
        let (store, me) = (self.run.store, self.run.me.owner());
        // What comes while it waits is for the next one.
        let changes = std::mem::take(&mut self.changes);
        self.backlog = 0;
        let answers = loop {
            match self.patiently(store.transition(me, &changes)).await? {
                Ok(answers) => break answers,
                Err(error) => self.wait_for_space(error).await?,
            }
        };
        self.store_has_space();
        Ok(answers)
    }

    /// The change that an action makes to the store. Puts the log of an attempt that ends with it into
    /// `logs`.
    fn change_of(&mut self, action: &Action, logs: &mut HashMap<usize, PathBuf>) -> Option<Change> {
        if let Action::Spawn { stage, .. } = action {
            let slot = self.lease(*stage)?;
            let device = match slot.is_gpu() {
                true => slot.name.clone(),
                false => slot.device.clone(),
            };
            let gpus = hardware(&slot);
            self.leased.insert(*stage, slot);
            return Some(Change::Claim {
                fingerprint: self.run.jobs[*stage].fingerprint.clone(),
                device,
                gpus,
                seen: self.ledger.seen(*stage),
            });
        }
        let (signal, closed) = (self.interrupted, self.closed);
        let is_asked = signal.is_some() || closed == Some(Closing::Budget);
        let has_worker = |stage| self.attempts.contains_key(&stage);
        let interrupted = || interruption(signal, closed);
        let entry = self.ledger.entry(action, has_worker, interrupted)?;
        let name = |stage: usize| self.run.jobs[stage].fingerprint.clone();
        Some(match entry {
            Entry::End {
                stage,
                attempt,
                status,
                failure,
                gone,
                keep,
            } => {
                let is_left = matches!(action, Action::Ended { end: End::Left, .. });
                let failure = match gone.failure {
                    // It wasn't asked to leave, or left of something else.
                    Some(own) if is_left && (!is_asked || own.class != FailureClass::Killed) => {
                        Some(own)
                    }
                    _ => failure,
                };
                logs.insert(stage, gone.log);
                Change::End {
                    fingerprint: name(stage),
                    attempt,
                    end: AttemptEnd {
                        status,
                        failure: failure.as_ref().map(|failure| failure.class),
                        message: failure.map(|failure| failure.message),
                        exit_code: gone.exit.code,
                        signal: gone.exit.signal,
                        energy_joules: gone.energy_joules,
                    },
                    keep,
                }
            }
            Entry::Release { stage } => Change::Release {
                fingerprint: name(stage),
            },
        })
    }

    fn carry_out(
        &mut self,
        action: Action,
        claims: &mut impl Iterator<Item = Claim>,
        logs: &mut HashMap<usize, PathBuf>,
    ) {
        match action {
            Action::Spawn { stage, slot } => {
                // Nothing was claimed where its devices are busy.
                if let Some(leased) = self.leased.remove(&stage)
                    && let Some(claim) = claims.next()
                {
                    self.claimed(stage, (slot, leased), claim);
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
            } => {
                self.run.progress.retrying(stage, &failure, after);
                self.begin_pause(stage, failure, after);
            }
            Action::Renewed { stage } => self.renewed(stage),
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
    }

    /// Lets the core take its messages while the store is waited for. What needs no store is carried out at once;
    /// the rest is due when the store has room.
    pub(super) fn hasten(&mut self) {
        while let Some(message) = self.messages.pop_front() {
            let actions = self.core.handle(message);
            let later = self.without_store(actions);
            self.due.extend(later);
        }
    }

    /// Carries out what needs no store; returns the rest. Workers that are asked to leave, or ended, must not wait for a
    /// store that has no room.
    fn without_store(&mut self, actions: Vec<Action>) -> Vec<Action> {
        let mut later = Vec::new();
        for action in actions {
            let at_once = match &action {
                // A stage whose claim is waited for is told once it has a worker.
                Action::Terminate { stage } | Action::Kill { stage } => {
                    self.attempts.contains_key(stage)
                }
                Action::SetTimer { .. } | Action::Close(_) => true,
                _ => false,
            };
            if at_once {
                self.carry_out(action, &mut std::iter::empty(), &mut HashMap::new());
            } else {
                later.push(action);
            }
        }
        later
    }

    /// The answer of the store to the claim on a stage.
    fn claimed(&mut self, stage: usize, (slot, leased): (usize, Slot), claim: Claim) {
        let standing = match Claimed::from(claim) {
            Claimed::Won(attempt) => {
                self.spawn(stage, (slot, leased), attempt);
                if self.keeper.is_lost(stage) {
                    // While the claim was being made: there was nothing to end yet.
                    self.signal(stage, Signal::Kill);
                }
                return;
            }
            Claimed::Held(owner) => {
                self.peers.watch(&owner);
                Standing::Elsewhere
            }
            Claimed::Over(standing) => {
                self.elsewhere += usize::from(standing == Standing::Done);
                standing
            }
        };
        self.keeper.release(stage);
        self.messages
            .push_back(Message::Refused { stage, standing });
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
}

/// Whether others can have the stage after this change.
fn is_release(change: &Change) -> bool {
    matches!(
        change,
        Change::End { keep: false, .. } | Change::Release { .. }
    )
}
