//! The other schedulers of the simulated store.

use super::scheduler::LOOK_AGAIN;
use super::store;
use super::world::{Dead, Fault, Input, World};
use crate::schedule::core::{Message, Standing};

impl World {
    pub(super) fn announce(&mut self, by: usize) {
        for peer in 0..self.schedulers.len() {
            if peer != by && self.schedulers[peer].alive && !std::mem::take(&mut self.lose_notice) {
                let after = self.rng.below(40);
                self.tell(after, peer, Input::Peers);
            }
        }
    }

    pub(super) fn watch(&mut self, by: usize, owner: usize) {
        if self.schedulers[by].known.insert(owner) && !self.schedulers[owner].alive {
            self.tell(0, by, Input::OwnerGone(owner));
        }
    }

    pub(super) fn refresh(&mut self, by: usize) {
        for stage in self.schedulers[by].core.elsewhere().clone() {
            if let Some((owner, _)) = self.rows[stage].lease {
                self.watch(by, owner);
                continue;
            }
            let state = self.rows[stage].state();
            let scheduler = &mut self.schedulers[by];
            let standing = scheduler.ledger.standing(stage, &state);
            scheduler.proven |= standing == Standing::Done;
            scheduler
                .messages
                .push_back(Message::Told { stage, standing });
        }
    }

    pub(super) fn owner_gone(&mut self, by: usize, owner: usize) {
        let holds = |row: &store::Row| row.lease.is_some_and(|(holder, _)| holder == owner);
        if self.rows.iter().any(holds) {
            // Its workers are gone some milliseconds after it.
            self.tell(25, by, Input::WorkersGone(owner));
        } else {
            self.refresh(by);
        }
    }

    pub(super) fn take_over(&mut self, by: usize, owner: usize) -> Result<(), Dead> {
        let left = |row: &store::Row| row.workers.iter().any(|&(whose, _)| whose == owner);
        if self.rows.iter().any(left) {
            self.tell(5, by, Input::WorkersGone(owner));
            return Ok(());
        }
        if self.now < self.full_until {
            self.tell(LOOK_AGAIN, by, Input::WorkersGone(owner));
            return Ok(());
        }
        if self.step(by)? == Some(Fault::CommitFails) {
            return Err(self.give_up(by));
        }
        for row in &mut self.rows {
            if row.lease.is_some_and(|(holder, _)| holder == owner) {
                row.abandon();
            }
        }
        self.announce(by);
        self.refresh(by);
        Ok(())
    }
}
