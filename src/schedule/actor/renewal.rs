//! Stages whose parents have left something damaged, or nothing.

use crate::rundir::event::FailureClass;
use crate::rundir::layout::RunDir;
use crate::schedule::actor::Actor;
use crate::schedule::core::{Failure, Message};
use crate::schedule::execution::ScheduleError;
use crate::schedule::policy::policy;
use crate::store::StoreError;
use crate::train::TrainError;
use crate::train::checkpoint;
use std::io::ErrorKind;

impl Actor<'_> {
    /// Looks, after a failure of the stage, whether what it starts from is whole, and tells the core if it isn't.
    pub(in crate::schedule) async fn look_at_parent(
        &mut self,
        stage: usize,
        failure: &Failure,
    ) -> Result<(), ScheduleError> {
        let has_cause = policy(failure.class).transient && failure.class != FailureClass::IoError;
        let Some(parent) = self.run.jobs[stage].parent.filter(|_| !has_cause) else {
            return Ok(());
        };
        let fingerprint = self.run.jobs[parent].fingerprint.clone();
        let dir = RunDir::in_store(self.run.dir, &fingerprint);
        // Weights are read as a whole. Where no thread is to be had, the failure counts as the stage's own.
        let looked = tokio::task::spawn_blocking(move || damage(&dir)).await;
        let Some(what) = looked.unwrap_or_default() else {
            return Ok(());
        };
        let states = match self.run.store.stage_states(&[fingerprint]).await {
            // Another program holds it locked: the failure counts as the stage's own.
            Err(StoreError::Busy { .. }) => return Ok(()),
            states => states?,
        };
        // However often others have done it: it has to be done again.
        let attempts = states
            .into_values()
            .next()
            .map_or(0, |state| state.attempts);
        self.ledger.saw(parent, attempts);
        self.lost_outputs.insert(parent, what);
        self.messages.push_back(Message::ParentLost { stage });
        Ok(())
    }

    /// A stage that was done is done again.
    pub(super) fn renewed(&mut self, stage: usize) {
        let what = self.lost_outputs.remove(&stage).unwrap_or_default();
        self.run.progress.renewed(stage, &what);
    }
}

/// What is wrong with what a finished stage has left.
fn damage(dir: &RunDir) -> Option<String> {
    if let Some(missing) = dir.missing_output() {
        return Some(format!("{} is gone", missing.display()));
    }
    // What programs leave bears no checksum.
    if dir.work().is_dir() {
        return None;
    }
    match checkpoint::read_weights(&dir.weights()) {
        Err(error @ TrainError::Damaged { .. }) => Some(error.to_string()),
        Err(TrainError::Io { path, source }) if source.kind() == ErrorKind::NotFound => {
            Some(format!("{path} is gone"))
        }
        // One that can't be read for the moment may be whole.
        _ => None,
    }
}
