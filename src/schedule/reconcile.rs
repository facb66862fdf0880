//! What a scheduler that died has left: its leases are taken over.
//!
//! Workers die with their scheduler, but what they wrote before is in their run directories: once they are
//! gone it is taken in, and then the leases end. A stage that finished while nobody watched counts as done.

use crate::rundir::event::{EventKind, FailureClass};
use crate::rundir::host;
use crate::rundir::layout::RunDir;
use crate::rundir::log::{LogError, Tail};
use crate::schedule::policy::policy;
use crate::schedule::process_tree;
use crate::store::{Lease, Life, Owner, Store, StoreError};
use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Events that the store didn't have.
    pub events: usize,
    /// Attempts that nobody had seen the end of.
    pub attempts: u64,
    /// Logs that can't be read to their end. Their stages run again, and their workers set the log aside.
    pub damaged: Vec<LogError>,
}

/// Takes over from all schedulers of the store at `dir` that are dead, and reads on in the event logs of
/// those `unfinished` stages that no living one has.
pub async fn reconcile<'f>(
    store: &Store,
    dir: &Path,
    unfinished: impl IntoIterator<Item = &'f str>,
) -> Result<Found, StoreError> {
    let (dead, alive): (Vec<Lease>, Vec<Lease>) = store
        .leases()
        .await?
        .into_iter()
        .partition(|lease| lease.owner.life(dir) == Life::Dead);
    let alive: HashSet<&str> = alive
        .iter()
        .map(|lease| lease.fingerprint.as_str())
        .collect();
    let mut stages: Vec<&str> = unfinished
        .into_iter()
        .filter(|stage| !alive.contains(stage))
        .collect();
    let known: HashSet<&str> = stages.iter().copied().collect();
    stages.extend(
        dead.iter()
            .map(|lease| lease.fingerprint.as_str())
            .filter(|stage| !known.contains(stage)),
    );
    wait(dir, &dead).await;
    let mut found = take_in(store, dir, stages).await?;
    let owners: HashSet<String> = dead.iter().map(|lease| lease.owner.id.clone()).collect();
    let owners: Vec<String> = owners.into_iter().collect();
    found.attempts = store.abandon_running(&owners, is_transient).await?;
    Owner::bury_dead(dir);
    Ok(found)
}

/// Takes over from the scheduler with the id `owner`, which is dead; its workers are gone
/// ([`wait_for_workers`]).
pub async fn take_over(store: &Store, dir: &Path, owner: &str) -> Result<Found, StoreError> {
    let leases: Vec<Lease> = store
        .leases()
        .await?
        .into_iter()
        .filter(|lease| lease.owner.id == owner)
        .collect();
    let stages = leases.iter().map(|lease| lease.fingerprint.as_str());
    let mut found = take_in(store, dir, stages).await?;
    found.attempts = store
        .abandon_running(&[owner.to_owned()], is_transient)
        .await?;
    Owner::bury_dead(dir);
    Ok(found)
}

/// Whether a stage that failed so is tried again without being asked to.
pub fn is_transient(class: FailureClass) -> bool {
    policy(class).transient
}

/// Reads on in the event logs of stages that nobody writes.
async fn take_in<'f>(
    store: &Store,
    dir: &Path,
    stages: impl IntoIterator<Item = &'f str>,
) -> Result<Found, StoreError> {
    let mut found = Found::default();
    for fingerprint in stages {
        let run_dir = RunDir::in_store(dir, fingerprint);
        let path = run_dir.events();
        let mut is_finished = false;
        if !wait_for_writer(&path).await {
            continue;
        }
        // From the start: the store skips what it has, and knows better than a position in a file that
        // a loss of power may have cut.
        let mut tail = Tail::new(path);
        loop {
            match tail.poll() {
                Ok(events) if events.is_empty() => break,
                Ok(events) => {
                    is_finished = matches!(
                        events.last().map(|event| &event.kind),
                        Some(EventKind::Finished { .. })
                    );
                    found.events += store.record_events(fingerprint, &events).await?;
                }
                Err(error) => {
                    found.damaged.push(error);
                    break;
                }
            }
        }
        if is_finished {
            run_dir.drop_checkpoints_of_finished();
        }
    }
    Ok(found)
}

/// How long a worker whose scheduler is gone may take to be gone too.
const LAST_BREATH: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

async fn wait(dir: &Path, leases: &[Lease]) {
    if leases.is_empty() {
        return;
    }
    let (dir, leases) = (dir.to_owned(), leases.to_vec());
    // A thread that could not be had: the logs are waited for one by one all the same.
    let _ = tokio::task::spawn_blocking(move || wait_for_workers(&dir, &leases)).await;
}

/// Waits until the workers under `leases` of a dead scheduler are gone, processes that they started
/// included, ending what is left of them. Blocks, for some seconds at most.
pub fn wait_for_workers(dir: &Path, leases: &[Lease]) {
    let begun = Instant::now();
    for lease in leases {
        let same_kernel = lease.owner.boot_id == host::boot_id();
        if let (Some((pid, Some(start))), true) = (lease.worker, same_kernel) {
            while host::process_start(pid) == Some(start) && begun.elapsed() < LAST_BREATH {
                // SAFETY: a system call without memory. The process is the worker that the lease names,
                // for it began when that did, and it leads its group.
                unsafe { libc::kill(-(pid as libc::pid_t), libc::SIGKILL) };
                std::thread::sleep(LOOK_AGAIN);
            }
        }
        let run_dir = RunDir::in_store(dir, &lease.fingerprint);
        if same_kernel && run_dir.work().is_dir() {
            // Both may have been killed at once, the scheduler and the guard of its program.
            let events = run_dir.reports(lease.attempt);
            process_tree::kill_attempt(&std::path::absolute(&events).unwrap_or(events));
        }
        let Ok(log) = File::open(run_dir.events()) else {
            continue;
        };
        while is_locked(&log) && begun.elapsed() < LAST_BREATH {
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

/// Waits until nobody writes the event log at `path`: a worker that is just being killed along with its
/// scheduler may have something to say up to the end. Returns whether there is a log at all.
async fn wait_for_writer(path: &Path) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    let mut waited = Duration::ZERO;
    while waited < LAST_BREATH && is_locked(&file) {
        tokio::time::sleep(LOOK_AGAIN).await;
        waited += LOOK_AGAIN;
    }
    true
}

fn is_locked(log: &File) -> bool {
    matches!(log.try_lock(), Err(TryLockError::WouldBlock))
}
