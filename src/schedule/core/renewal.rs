//! Stages that are done once more, for what they have left is damaged or gone.

use super::{Action, Canary, Core, End, Failure, Phase, State};
use std::time::Duration;

impl Core {
    /// The stage's worker, whose end is told next, could not use what the stage's parent has left.
    pub(super) fn parent_lost(&mut self, stage: usize) {
        self.orphans.insert(stage);
    }

    /// Whether a failure of the stage is its parent's: then the parent is to be done again, once in an execution,
    /// and the stage waits for it. That is no retry.
    pub(super) fn is_orphan(
        &mut self,
        stage: usize,
        failure: &Failure,
        actions: &mut Vec<Action>,
    ) -> bool {
        if !self.orphans.remove(&stage) {
            return false;
        }
        let Some(parent) = self.parents[stage] else {
            return false;
        };
        if self.phase != Phase::Open {
            self.conclude(stage, End::Left, actions);
            return true;
        }
        match self.states[parent] {
            // What it has left the second time is no better.
            State::Ended(End::Done) if self.renewed.contains(&parent) => return false,
            State::Ended(End::Done) => self.renew(parent, actions),
            // It was done again, and failed, while this one was still at work.
            State::Ended(_) => self.stranded.push(stage),
            // It is being done again.
            _ => {}
        }
        self.states[stage] = State::Waiting;
        if self.canary == Canary::Chosen(stage) {
            self.canary = Canary::Wanted;
        }
        actions.push(Action::Retrying {
            stage,
            failure: failure.clone(),
            retry: self.retries[stage],
            after: Duration::ZERO,
        });
        true
    }

    /// Blocks stages whose parents failed when they were done again, and that were at work, in a pause or elsewhere
    /// meanwhile.
    pub(super) fn block_stranded(&mut self, actions: &mut Vec<Action>) {
        for stage in std::mem::take(&mut self.stranded) {
            let Some(parent) = self.parents[stage] else {
                continue;
            };
            let by = match self.states[parent] {
                State::Ended(End::Failed(_)) => parent,
                State::Ended(End::Blocked { by }) => by,
                _ => continue,
            };
            if self.states[stage] == State::Waiting {
                self.conclude(stage, End::Blocked { by }, actions);
                self.block_children(stage, by, actions);
            }
        }
    }

    fn renew(&mut self, parent: usize, actions: &mut Vec<Action>) {
        self.renewed.insert(parent);
        self.states[parent] = State::Waiting;
        for child in self.children[parent].clone() {
            if self.states[child] != State::Ready {
                continue;
            }
            self.states[child] = State::Waiting;
            match self.parked.iter().position(|&stage| stage == child) {
                Some(place) => {
                    self.parked.swap_remove(place);
                }
                None => {
                    self.queue.take(child);
                    self.ready -= 1;
                }
            }
            if self.canary == Canary::Chosen(child) {
                self.canary = Canary::Wanted;
            }
        }
        actions.push(Action::Renewed { stage: parent });
        self.make_ready(parent);
    }
}
