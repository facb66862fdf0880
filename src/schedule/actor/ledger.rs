//! What a scheduler remembers of stages that it shares with others, and what follows for the store.
//!
//! Pure, and generic over what is kept of an attempt that has ended, so that the simulator goes through the
//! same steps as the loop with a model of a store.

use crate::rundir::event::FailureClass;
use crate::schedule::core::{Action, End, Failure, Standing};
use crate::store::rows::Status;
use crate::store::{Claim, Owner, StageState};
use std::collections::{BTreeMap, BTreeSet};

/// The memory of one scheduler. `Gone` is what is kept of an attempt that has ended until the core rules on it.
pub(in crate::schedule) struct Ledger<Gone> {
    /// Attempts of each stage that we know of.
    seen: Vec<u32>,
    /// Stages whose leases are ours.
    held: BTreeSet<usize>,
    /// Attempts on whose end the core has yet to rule.
    judged: BTreeMap<usize, (u32, Gone)>,
}

/// What is to be written into the store.
#[derive(Debug)]
pub(in crate::schedule) enum Entry<Gone> {
    /// The attempt has ended, and what that makes of its stage. The lease stays if `keep`.
    End {
        stage: usize,
        attempt: u32,
        status: Status,
        failure: Option<Failure>,
        gone: Gone,
        keep: bool,
    },
    /// The stage is given back without another attempt.
    Release { stage: usize },
}

/// The answer to a claim, from the core's point of view.
pub(in crate::schedule) enum Claimed {
    /// The number of the attempt.
    Won(u32),
    /// Somebody else has the stage.
    Held(Owner),
    /// Somebody else has brought it to its end.
    Over(Standing),
}

impl From<Claim> for Claimed {
    fn from(claim: Claim) -> Claimed {
        match claim {
            Claim::Won { attempt } => Claimed::Won(attempt),
            Claim::Held(owner) => Claimed::Held(owner),
            Claim::Done => Claimed::Over(Standing::Done),
            Claim::Failed { class, message } => {
                Claimed::Over(Standing::Failed(Failure { class, message }))
            }
        }
    }
}

impl<Gone> Ledger<Gone> {
    /// Of stages at which others have made that many attempts.
    pub(in crate::schedule) fn new(seen: Vec<u32>) -> Ledger<Gone> {
        Ledger {
            seen,
            held: BTreeSet::new(),
            judged: BTreeMap::new(),
        }
    }

    /// Attempts of the stage that we know of; if there were more, another scheduler was at it.
    pub(in crate::schedule) fn seen(&self, stage: usize) -> u32 {
        self.seen[stage]
    }

    /// All attempts so far are known.
    pub(in crate::schedule) fn saw(&mut self, stage: usize, attempts: u32) {
        self.seen[stage] = attempts;
    }

    /// The stage is ours, for this attempt.
    pub(in crate::schedule) fn won(&mut self, stage: usize, attempt: u32) {
        self.seen[stage] = attempt;
        self.held.insert(stage);
    }

    /// The stage's attempt has ended; the core has yet to rule on it.
    pub(in crate::schedule) fn judged(&mut self, stage: usize, attempt: u32, gone: Gone) {
        self.judged.insert(stage, (attempt, gone));
    }

    /// What the action makes of its stage in the store, if anything. `interrupted` says what an attempt failed of
    /// that a stop has ended; `has_worker`, whether a worker of the stage is left.
    pub(in crate::schedule) fn entry(
        &mut self,
        action: &Action,
        has_worker: impl Fn(usize) -> bool,
        interrupted: impl FnOnce() -> Failure,
    ) -> Option<Entry<Gone>> {
        let (stage, status, failure, keep) = match action {
            Action::Retrying { stage, failure, .. } => {
                (*stage, Status::Pending, Some(failure.clone()), true)
            }
            Action::Ended { stage, end } => match end {
                End::Done => (*stage, Status::Done, None, false),
                End::Failed(failure) => (*stage, Status::Failed, Some(failure.clone()), false),
                End::Left => (*stage, Status::Pending, Some(interrupted()), false),
                // Not ours, unless it was between two attempts.
                End::Blocked { .. } => (*stage, Status::Pending, None, false),
            },
            _ => return None,
        };
        let held = self.held.contains(&stage);
        if !keep {
            self.held.remove(&stage);
        }
        match self.judged.remove(&stage) {
            Some((attempt, gone)) => Some(Entry::End {
                stage,
                attempt,
                status,
                failure,
                gone,
                keep,
            }),
            // Where we don't wait for a worker's end, others must: our lease stays until we are gone.
            None => (held && !keep && !has_worker(stage)).then_some(Entry::Release { stage }),
        }
    }

    /// What became of a stage that another scheduler had and that nobody has now.
    pub(in crate::schedule) fn standing(&mut self, stage: usize, state: &StageState) -> Standing {
        let is_new = state.attempts > self.seen[stage];
        self.seen[stage] = state.attempts;
        match state.status {
            Status::Done => Standing::Done,
            Status::Failed if is_new => Standing::Failed(Failure {
                class: state.failure.unwrap_or(FailureClass::Bug),
                message: state.message.clone().unwrap_or_default(),
            }),
            _ => Standing::Free,
        }
    }
}
