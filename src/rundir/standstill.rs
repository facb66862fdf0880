//! Time that this process has stood still (Ctrl-Z on its scheduler): it counts as no time at work.
//!
//! A stopped process can't see that it was stopped. Its scheduler can, and tells it afterwards.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

static MILLISECONDS: AtomicU64 = AtomicU64::new(0);

/// Adds what the scheduler tells. Async-signal-safe.
pub fn add(milliseconds: u64) {
    MILLISECONDS.fetch_add(milliseconds, Ordering::Relaxed);
}

/// How long this process has stood still so far.
pub fn total() -> Duration {
    Duration::from_millis(MILLISECONDS.load(Ordering::Relaxed))
}

/// Measures time at work.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch {
    began: Instant,
    still: Duration,
}

impl Stopwatch {
    pub fn start() -> Stopwatch {
        Stopwatch {
            began: Instant::now(),
            still: total(),
        }
    }

    /// Time since the start that this process was at work.
    pub fn elapsed(&self) -> Duration {
        let still = total().saturating_sub(self.still);
        self.began.elapsed().saturating_sub(still)
    }
}
