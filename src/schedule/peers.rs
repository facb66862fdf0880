//! The other schedulers of the store: what became of the stages that they have, and what is left when one
//! of them dies.

use crate::schedule::actor::{Actor, Input};
use crate::schedule::execution::ScheduleError;
use crate::schedule::reconcile;
use crate::store::{Lease, Life, Owner, StoreError};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// Time until a store that another program holds locked is read again.
const LOCKED: Duration = Duration::from_secs(1);

/// Schedulers that have what we want.
pub struct Peers {
    dir: PathBuf,
    me: Owner,
    inputs: UnboundedSender<Input>,
    /// By id: whether we are told when it ends.
    known: HashMap<String, bool>,
}

impl Peers {
    /// The peers of `me` at the store in `dir`; `inputs` is told when one ends.
    pub fn new(dir: &Path, me: Owner, inputs: UnboundedSender<Input>) -> Peers {
        Peers {
            dir: dir.to_owned(),
            me,
            inputs,
            known: HashMap::new(),
        }
    }

    /// Whether the scheduler is dead. One that only couldn't be waited for is looked at again.
    fn is_dead(&mut self, owner: &Owner) -> bool {
        let is_dead = owner.life(&self.dir) == Life::Dead;
        if !is_dead {
            self.known.insert(owner.id.clone(), false);
        }
        is_dead
    }

    /// Sees to it that the end of `owner` is told, on the moment, if it is on this host.
    pub fn watch(&mut self, owner: &Owner) {
        if owner.id == self.me.id || self.known.get(&owner.id) == Some(&true) {
            return;
        }
        let heard = match owner.life(&self.dir) {
            Life::Unknown => false,
            Life::Dead => {
                // The receiver is the loop that calls this.
                let _ = self.inputs.send(Input::OwnerGone(owner.id.clone()));
                true
            }
            Life::Alive => {
                let (owner_of, dir) = (owner.clone(), self.dir.clone());
                let inputs = self.inputs.clone();
                std::thread::Builder::new()
                    .name("peer".into())
                    .stack_size(128 * 1024)
                    .spawn(move || {
                        owner_of.wait_for_end(&dir);
                        // Nobody listens any more once the execution is over.
                        let _ = inputs.send(Input::OwnerGone(owner_of.id));
                    })
                    .is_ok()
            }
        };
        self.known.insert(owner.id.clone(), heard);
    }

    /// Whether the end of each is told.
    pub fn all_heard(&self) -> bool {
        self.known.values().all(|&heard| heard)
    }
}

impl Actor<'_> {
    /// Looks what has become of the stages that others have; later, if another program holds the store locked.
    pub(super) async fn refresh(&mut self) -> Result<(), ScheduleError> {
        match self.look_at_others().await {
            Err(ScheduleError::Store(StoreError::Busy { .. })) => {
                self.after(LOCKED, Input::Peers);
                Ok(())
            }
            looked => looked,
        }
    }

    async fn look_at_others(&mut self) -> Result<(), ScheduleError> {
        let stages: Vec<usize> = self.core.elsewhere().iter().copied().collect();
        if stages.is_empty() {
            return Ok(());
        }
        let name = |stage: usize| self.run.jobs[stage].fingerprint.clone();
        let names: Vec<String> = stages.iter().map(|&stage| name(stage)).collect();
        // Leases first: a stage that loses its lease in between is seen with its new state.
        let store = self.run.store;
        let leases: HashMap<String, Owner> = self
            .patiently(store.leases_of(&names))
            .await??
            .into_iter()
            .map(|lease| (lease.fingerprint, lease.owner))
            .collect();
        let states = self.patiently(store.stage_states(&names)).await??;
        for (stage, name) in stages.into_iter().zip(names) {
            if let Some(owner) = leases.get(&name) {
                self.peers.watch(owner);
                continue;
            }
            let Some(state) = states.get(&name) else {
                continue;
            };
            let standing = self.ledger.standing(stage, state);
            self.tell(stage, standing);
        }
        Ok(())
    }

    /// Another scheduler has ended. If it ended in order, it has no leases any more.
    pub(super) async fn owner_gone(&mut self, id: String) -> Result<(), ScheduleError> {
        let leases: Vec<Lease> = match self.leases_of_owner(&id).await {
            Err(ScheduleError::Store(StoreError::Busy { .. })) => {
                self.after(LOCKED, Input::OwnerGone(id));
                return Ok(());
            }
            leases => leases?,
        };
        if leases.is_empty() {
            return self.refresh().await;
        }
        let owner = &leases[0].owner;
        if !self.peers.is_dead(owner) {
            return Ok(());
        }
        let text = format!(
            "the `ablate run` of pid {} on {} is gone: taking over {} stages from it",
            owner.pid,
            owner.host,
            leases.len()
        );
        self.note(&text);
        let (dir, inputs) = (self.run.dir.to_owned(), self.peers.inputs.clone());
        tokio::task::spawn_blocking(move || {
            reconcile::wait_for_workers(&dir, &leases);
            let _ = inputs.send(Input::WorkersGone(id));
        });
        Ok(())
    }

    /// Its workers are gone, too: whatever it had is free.
    pub(super) async fn take_over(&mut self, id: &str) -> Result<(), ScheduleError> {
        let (store, dir) = (self.run.store, self.run.dir);
        let found = loop {
            match self.patiently(reconcile::take_over(store, dir, id)).await? {
                Ok(found) => break found,
                Err(error) => self.wait_for_space(error).await?,
            }
        };
        self.store_has_space();
        for error in &found.damaged {
            self.note(&format!("warning: {error}"));
        }
        self.run.me.announce();
        self.refresh().await
    }

    async fn leases_of_owner(&mut self, id: &str) -> Result<Vec<Lease>, ScheduleError> {
        let store = self.run.store;
        let mut leases = self.patiently(store.leases()).await??;
        leases.retain(|lease| lease.owner.id == id);
        Ok(leases)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::OwnerLock;

    #[test]
    fn only_its_lock_says_that_a_scheduler_is_dead() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let me = OwnerLock::create(dir).unwrap();
        let other = OwnerLock::create(dir).unwrap();
        let (sender, mut inputs) = tokio::sync::mpsc::unbounded_channel();
        let mut peers = Peers::new(dir, me.owner().clone(), sender);
        let owner = other.owner().clone();
        peers.watch(&owner);
        assert!(peers.all_heard());
        // Its end was told, but its lock is held: it lives, and is looked at again.
        assert!(!peers.is_dead(&owner));
        assert!(!peers.all_heard());
        peers.watch(&owner);
        assert!(peers.all_heard());
        drop(other);
        let gone = Input::OwnerGone(owner.id.clone());
        // Two threads waited.
        assert_eq!(inputs.blocking_recv(), Some(gone.clone()));
        assert_eq!(inputs.blocking_recv(), Some(gone));
        assert!(peers.is_dead(&owner));
        // Where the file can't be opened (here, a link in a circle), nobody can tell.
        let path = owner.path(dir);
        std::os::unix::fs::symlink(&path, &path).unwrap();
        owner.wait_for_end(dir);
        assert_eq!(owner.life(dir), Life::Unknown);
        assert!(!peers.is_dead(&owner));
    }
}
