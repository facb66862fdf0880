//! What a scheduler that died has left to be read.
//!
//! Workers die with their scheduler, but what they wrote before is in their run directories: it is
//! taken in before anything is scheduled. A stage that finished while nobody watched counts as done.

use crate::rundir::layout::RunDir;
use crate::rundir::log::{LogError, Tail};
use crate::store::{Store, StoreError};
use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Events that the store didn't have.
    pub events: usize,
    /// Attempts that nobody had seen the end of.
    pub attempts: u64,
    /// Logs that can't be read to their end. Their stages run again, and their workers refuse the log.
    pub damaged: Vec<LogError>,
}

/// Reads on in the event logs of `unfinished` stages of the store at `dir`, then closes the attempts
/// that still read running. The caller holds the store's lock.
pub async fn reconcile<'f>(
    store: &Store,
    dir: &Path,
    unfinished: impl IntoIterator<Item = &'f str>,
) -> Result<Found, StoreError> {
    let mut found = Found::default();
    for fingerprint in unfinished {
        let path = RunDir::in_store(dir, fingerprint).events();
        if !wait_for_writer(&path).await {
            continue;
        }
        // From the start: the store skips what it has, and knows better than a position in a file that
        // a loss of power may have cut.
        let mut tail = Tail::new(path);
        loop {
            match tail.poll() {
                Ok(events) if events.is_empty() => break,
                Ok(events) => found.events += store.record_events(fingerprint, &events).await?,
                Err(error) => {
                    found.damaged.push(error);
                    break;
                }
            }
        }
    }
    found.attempts = store.abandon_running().await?;
    Ok(found)
}

/// How long a worker whose scheduler is gone may take to be gone too.
const LAST_BREATH: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Waits until nobody writes the event log at `path`: a worker that is just being killed along with its
/// scheduler may have something to say up to the end. Returns whether there is a log at all.
async fn wait_for_writer(path: &Path) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    let mut waited = Duration::ZERO;
    while waited < LAST_BREATH && matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        tokio::time::sleep(LOOK_AGAIN).await;
        waited += LOOK_AGAIN;
    }
    true
}
