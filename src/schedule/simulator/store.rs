//! The simulated store: stages with their leases, and the run directories beside it.

use crate::rundir::event::FailureClass;
use crate::schedule::actor::ledger::Entry;
use crate::schedule::reconcile::is_transient;
use crate::store::rows::Status;
use crate::store::{Claim, Owner, StageState, abandoned};
use std::collections::HashMap;

/// A stage as store and run directory have it.
#[derive(Debug, Clone)]
pub struct Row {
    pub status: Status,
    pub failure: Option<(FailureClass, String)>,
    pub attempts: u32,
    /// Scheduler and attempt.
    pub lease: Option<(usize, u32)>,
    /// Attempts whose logs say that they finished.
    pub finished: Vec<u32>,
    /// Why attempts failed, as far as their logs say.
    pub told: HashMap<u32, FailureClass>,
    /// Workers that are alive: scheduler and attempt.
    pub workers: Vec<(usize, u32)>,
    /// The furthest checkpoint.
    pub step: u64,
}

impl Default for Row {
    fn default() -> Row {
        Row {
            status: Status::Pending,
            failure: None,
            attempts: 0,
            lease: None,
            finished: Vec::new(),
            told: HashMap::new(),
            workers: Vec::new(),
            step: 0,
        }
    }
}

/// A change of the store.
#[derive(Debug)]
pub enum Change {
    /// Of the stage, by whoever knows of that many attempts.
    Claim {
        stage: usize,
        seen: u32,
    },
    Entry(Entry<()>),
}

/// The scheduler `by` as the owner of a lease.
fn owner(by: usize) -> Owner {
    Owner {
        id: by.to_string(),
        host: String::new(),
        boot_id: String::new(),
        pid: by as u32,
        start_time: 0,
        since: 0.0,
    }
}

/// Which scheduler an owner is.
pub fn scheduler(owner: &Owner) -> usize {
    owner.pid as usize
}

impl Row {
    /// The answer to a claim.
    pub fn claim(&mut self, by: usize, seen: u32) -> Claim {
        if let Some((holder, _)) = self.lease
            && holder != by
        {
            return Claim::Held(owner(holder));
        }
        if self.attempts > seen {
            match (self.status, &self.failure) {
                (Status::Done, _) => return Claim::Done,
                (Status::Failed, Some((class, message))) => {
                    return Claim::Failed {
                        class: *class,
                        message: message.clone(),
                    };
                }
                _ => {}
            }
        }
        self.attempts += 1;
        self.status = Status::Running;
        self.lease = Some((by, self.attempts));
        Claim::Won {
            attempt: self.attempts,
        }
    }

    /// Makes an entry of the scheduler `by`; says whether a lease was given back.
    pub fn enter(&mut self, by: usize, entry: Entry<()>) -> bool {
        let keep = match entry {
            Entry::End {
                attempt,
                status,
                failure,
                keep,
                ..
            } => {
                assert_eq!(self.lease, Some((by, attempt)), "an end without a lease");
                self.status = status;
                self.failure = failure.map(|failure| (failure.class, failure.message));
                keep
            }
            Entry::Release { .. } => false,
        };
        if !keep && self.lease.is_some_and(|(holder, _)| holder == by) {
            self.lease = None;
            return true;
        }
        false
    }

    /// The lease of a dead scheduler ends, with what the log says.
    pub fn abandon(&mut self) {
        let attempt = self.lease.take().map(|(_, attempt)| attempt);
        if self.status == Status::Running {
            let finished = attempt.is_some_and(|attempt| self.finished.contains(&attempt));
            let told = attempt.and_then(|attempt| self.told.get(&attempt).copied());
            self.status = abandoned(finished, told, is_transient);
            self.failure = told.map(|class| (class, String::new()));
        }
    }

    /// What is read of it.
    pub fn state(&self) -> StageState {
        let failure = self.failure.clone().unzip();
        StageState {
            status: self.status,
            attempts: self.attempts,
            failure: failure.0,
            message: failure.1,
            log: None,
        }
    }
}
