//! Time at work: what passes while this process stands still (Ctrl-Z) doesn't count.
//!
//! Pauses before retries, limits of time and estimates are all measured on it. It builds on the system's
//! monotonic clock, so that neither a change of the wall time nor a suspended machine moves it.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A clock that can stand still. Copies are the same clock.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    began: Instant,
    /// Time stood still so far.
    still: Duration,
    /// Since when it stands still now.
    since: Option<Instant>,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock(Arc::new(Mutex::new(State {
            began: Instant::now(),
            still: Duration::ZERO,
            since: None,
        })))
    }
}

impl Clock {
    /// The clock of this process: it is the process as a whole that is stopped.
    pub fn of_process() -> Clock {
        static PROCESS: LazyLock<Clock> = LazyLock::new(Clock::default);
        PROCESS.clone()
    }

    /// Time at work since the clock was made.
    pub fn now(&self) -> Duration {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = state.since.unwrap_or_else(Instant::now);
        (now - state.began).saturating_sub(state.still)
    }

    /// Stands still from now on. Do it before whatever stops the process: timers that run out while it is
    /// stopped look at this clock before anybody could set it right.
    pub fn stop(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.since.get_or_insert_with(Instant::now);
    }

    /// Goes on.
    pub fn go_on(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since) = state.since.take() {
            state.still += since.elapsed();
        }
    }

    /// Waits until `pause` has passed on this clock.
    pub async fn sleep(&self, pause: Duration) {
        let end = self.now().saturating_add(pause);
        while let Some(rest) = end.checked_sub(self.now()).filter(|rest| !rest.is_zero()) {
            tokio::time::sleep(rest).await;
        }
    }
}

/// Measures time at work from its making on.
#[derive(Debug, Clone)]
pub struct Stopwatch {
    clock: Clock,
    began: Duration,
}

impl Stopwatch {
    /// Starts, on the clock of this process.
    pub fn start() -> Stopwatch {
        let clock = Clock::of_process();
        Stopwatch {
            began: clock.now(),
            clock,
        }
    }

    /// Time at work since the start.
    pub fn elapsed(&self) -> Duration {
        self.clock.now().saturating_sub(self.began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(30);

    #[test]
    fn it_stands_still() {
        let clock = Clock::default();
        clock.stop();
        let stopped = clock.now();
        std::thread::sleep(SHORT);
        clock.stop();
        assert_eq!(clock.now(), stopped);
        clock.go_on();
        clock.go_on();
        std::thread::sleep(SHORT);
        assert!(clock.now() >= stopped + SHORT);
        let all = clock.0.lock().unwrap().began.elapsed();
        assert!(clock.now() <= all - SHORT, "the stop was left out");
    }

    #[tokio::test]
    async fn a_sleep_takes_as_long_as_it_stood_still_longer() {
        let clock = Clock::default();
        let begun = Instant::now();
        let sleep = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(SHORT).await }
        });
        tokio::task::yield_now().await;
        clock.stop();
        tokio::time::sleep(4 * SHORT).await;
        assert!(!sleep.is_finished());
        clock.go_on();
        sleep.await.unwrap();
        assert!(begun.elapsed() >= 5 * SHORT, "{:?}", begun.elapsed());
    }
}
