//! What the core asks for, made durable and then carried out: one transaction of the store at a time.

use super::{Actor, Input};
use crate::schedule::core::{Action, Closing, End, Failure, Message, Standing};
use crate::schedule::device::Slot;
use crate::schedule::execution::ScheduleError;
use crate::schedule::executor::Signal;
use crate::schedule::outcome::Exit;
use crate::store::rows::Status;
use crate::store::{AttemptEnd, Change, Claim};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// An attempt that has ended, and on which the core has yet to rule.
pub(super) struct Judged {
    pub(super) number: u32,
    pub(super) exit: Exit,
    pub(super) log: PathBuf,
}

impl Actor<'_> {
    /// Lets the core take its messages, and carries out what it asks for, until it asks for no more.
    pub(super) async fn settle(&mut self) -> Result<(), ScheduleError> {
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
    pub(super) async fn commit(&mut self) -> Result<Vec<Claim>, ScheduleError> {
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
        let Some(Judged { number, exit, log }) = self.judged.remove(&stage) else {
            // Where we don't wait for a worker's end, others must: our lease stays until we are gone.
            let gone = !self.attempts.contains_key(&stage);
            return (held && gone && !keep).then_some(Change::Release { fingerprint });
        };
        logs.insert(stage, log);
        Some(Change::End {
            fingerprint,
            attempt: number,
            end: AttemptEnd {
                status,
                failure: failure.map(|failure| failure.class),
                message: failure.map(|failure| failure.message.clone()),
                exit_code: exit.code,
                signal: exit.signal,
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
