//! When it will be done: from the work that is left and the rate at which it was done so far.
//!
//! Work is measured in the plan's floating-point operations, not in stages: these differ in size by
//! orders of magnitude.

use std::time::Duration;

/// Work of one execution of a plan.
#[derive(Debug, Clone)]
pub struct Eta {
    work: Vec<Work>,
    /// Work still to be done when the execution began; blocked stages are taken off.
    remaining: f64,
    /// Work done by this execution.
    done: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Work {
    flops: f64,
    /// Part of it that is done, from 0 to 1.
    part: f64,
    open: bool,
}

impl Eta {
    /// Of stages with these costs, of which those in `open` are to be done.
    pub fn new(flops: impl IntoIterator<Item = f64>, open: impl Fn(usize) -> bool) -> Eta {
        let work: Vec<Work> = flops
            .into_iter()
            .enumerate()
            .map(|(stage, flops)| Work {
                flops: if flops.is_finite() {
                    flops.max(0.0)
                } else {
                    0.0
                },
                part: 0.0,
                open: open(stage),
            })
            .collect();
        let remaining = work
            .iter()
            .filter(|work| work.open)
            .map(|work| work.flops)
            .sum();
        Eta {
            work,
            remaining,
            done: 0.0,
        }
    }

    /// The stage goes on from a checkpoint: that part was done by somebody else.
    pub fn resumed(&mut self, stage: usize, step: u64, steps: u64) {
        let part = part(step, steps);
        let work = &mut self.work[stage];
        if work.open {
            self.remaining -= (part - work.part) * work.flops;
            work.part = part;
        }
    }

    /// The stage has come to `step` of `steps`.
    pub fn reached(&mut self, stage: usize, step: u64, steps: u64) {
        self.advance(stage, part(step, steps));
    }

    /// The stage is done.
    pub fn finished(&mut self, stage: usize) {
        self.advance(stage, 1.0);
        self.work[stage].open = false;
    }

    /// The stage won't be done in this execution.
    pub fn dropped(&mut self, stage: usize) {
        let work = &mut self.work[stage];
        if work.open {
            self.remaining -= (1.0 - work.part) * work.flops;
            work.open = false;
        }
    }

    /// The stage, which was done, is to be done again.
    pub fn reopened(&mut self, stage: usize) {
        let work = &mut self.work[stage];
        if !work.open {
            (work.open, work.part) = (true, 0.0);
            self.remaining += work.flops;
        }
    }

    /// Time until all is done, `elapsed` after the start. `None` as long as nothing is known.
    pub fn estimate(&self, elapsed: Duration) -> Option<Duration> {
        if self.done <= 0.0 || elapsed.is_zero() {
            return None;
        }
        let seconds = self.remaining.max(0.0) / self.done * elapsed.as_secs_f64();
        Duration::try_from_secs_f64(seconds).ok()
    }

    fn advance(&mut self, stage: usize, part: f64) {
        let work = &mut self.work[stage];
        if work.open {
            let flops = (part - work.part) * work.flops;
            work.part = part;
            self.remaining -= flops;
            self.done += flops;
        }
    }
}

fn part(step: u64, steps: u64) -> f64 {
    if steps == 0 {
        0.0
    } else {
        (step as f64 / steps as f64).min(1.0)
    }
}

/// A duration for people: `12s`, `3m 05s`, `2h 07m`, `3d 04h`.
pub fn show(duration: Duration) -> String {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() >= 500_000_000);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    if days > 0 {
        format!("{days}d {:02}h", hours % 24)
    } else if hours > 0 {
        format!("{hours}h {:02}m", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes}m {:02}s", seconds % 60)
    } else {
        format!("{seconds}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    #[test]
    fn work_counts_not_stages() {
        let mut eta = Eta::new([1.0, 9.0], |_| true);
        assert_eq!(eta.estimate(TEN), None);
        eta.finished(0);
        assert_eq!(eta.estimate(TEN), Some(Duration::from_secs(90)));
        eta.reached(1, 1, 3);
        assert_eq!(eta.estimate(TEN), Some(Duration::from_secs(15)));
        eta.finished(1);
        assert_eq!(eta.estimate(TEN), Some(Duration::ZERO));
    }

    #[test]
    fn what_others_did_says_nothing_of_our_rate() {
        let mut eta = Eta::new([10.0, 10.0, 1e30], |stage| stage != 2);
        eta.resumed(0, 9, 10);
        eta.finished(0);
        assert_eq!(eta.estimate(TEN).unwrap().as_secs_f64().round(), 100.0);
        eta.dropped(1);
        assert!(eta.estimate(TEN).unwrap().as_secs_f64() < 1e-6);
    }

    #[test]
    fn a_retry_takes_progress_back() {
        let mut eta = Eta::new([10.0], |_| true);
        eta.reached(0, 5, 10);
        eta.resumed(0, 4, 10);
        assert_eq!(eta.estimate(TEN).unwrap().as_secs_f64().round(), 12.0);
        assert_eq!(Eta::new([f64::NAN, 0.0], |_| true).estimate(TEN), None);
    }

    #[test]
    fn durations_for_people() {
        let texts: Vec<_> = [0, 59, 185, 7620, 273_600]
            .map(Duration::from_secs)
            .into_iter()
            .map(show)
            .collect();
        assert_eq!(texts, ["0s", "59s", "3m 05s", "2h 07m", "3d 04h"]);
    }
}
