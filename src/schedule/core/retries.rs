//! What becomes of a stage whose attempt has failed: another attempt, or the end.

use super::{Action, Core, End, Failure, Phase, State, Timer};
use crate::schedule::policy::policy_of;

/// Where and how an attempt ran that has failed.
pub(super) struct Place {
    pub(super) slot: usize,
    /// A device that it ran on is known to be lost.
    pub(super) is_lost: bool,
    /// Others may have used a part of its device.
    pub(super) is_share: bool,
    /// Workers that ran, itself included.
    pub(super) workers: usize,
    /// The next attempt needs less.
    pub(super) relieved: bool,
}

impl Core {
    pub(super) fn checkpointed(&mut self, stage: usize, step: u64, counts: bool) {
        if step > self.furthest[stage] {
            self.furthest[stage] = step;
            if counts {
                self.retries[stage] = 0;
            }
        }
    }

    pub(super) fn failed(
        &mut self,
        stage: usize,
        place: &Place,
        failure: Failure,
        actions: &mut Vec<Action>,
    ) {
        if self.is_orphan(stage, &failure, actions) {
            return;
        }
        let policy = policy_of(failure.class, &failure.message);
        if self.phase != Phase::Open {
            // We ended it ourselves, or would have: it goes on next time. A fault of its own stays one.
            if policy.transient {
                self.conclude(stage, End::Left, actions);
            } else {
                self.give_up(stage, failure, actions);
            }
            return;
        }
        // With less to do it is another attempt, not the same once more.
        let mut free = place.relieved;
        if policy.closes_device && self.slots[place.slot].traits.can_be_lost {
            // Of several devices nobody knows which one it was.
            if !place.is_lost && self.width(stage) == 1 {
                self.close_device(place.slot, actions);
            }
            // The device was to blame: moving to another one is not the stage's retry.
            free |= (self.slots[place.slot].closed || place.is_lost)
                && self.slots.iter().any(|slot| !slot.closed);
        }
        // Alone it had all there is.
        if policy.lowers_concurrency && place.workers > 1 && self.limit > 1 {
            self.limit = self.limit.min(place.workers) - 1;
            actions.push(Action::LowerConcurrency {
                workers: self.limit,
            });
        }
        let more = if place.is_share {
            policy.more_on_shares
        } else {
            0
        };
        if free || self.retries[stage] < policy.retries + more {
            let after = policy.pause(self.retries[stage]);
            if !free {
                self.retries[stage] += 1;
            }
            self.states[stage] = State::Pausing;
            self.pausing += 1;
            let retry = self.retries[stage];
            actions.push(Action::Retrying {
                stage,
                failure,
                retry,
                after,
            });
            actions.push(Action::SetTimer {
                timer: Timer::Retry { stage },
                after,
            });
        } else {
            self.give_up(stage, failure, actions);
        }
    }

    pub(super) fn retry(&mut self, stage: usize) {
        if self.states[stage] == State::Pausing {
            self.pausing -= 1;
            self.make_ready(stage);
        }
    }
}
