//! Attempts that take too long or stand still.
//!
//! Pure but for `/proc`: times are durations on the caller's clock, which stands still while the scheduler
//! is suspended. An attempt that has to go is asked (SIGTERM: it writes a checkpoint if it still can) and
//! killed after the grace.
//!
//! Standing still means: no event *and* hardly any CPU time *and* hardly a byte read or written by the worker and all
//! that it has started *and* a GPU of its own that doesn't compute. A stage that computes without a word for an hour is well; so is one that reports but
//! waits, or that writes a large checkpoint to a slow disk.

use crate::rundir::event::FailureClass;
use crate::schedule::core::Failure;
use crate::schedule::eta;
use crate::schedule::process_tree::{self, Activity};
use std::collections::BTreeMap;
use std::time::Duration;

/// Limits of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptLimits {
    /// Longest wall time.
    pub timeout: Option<Duration>,
    /// Longest time without a sign of life.
    pub hung_after: Option<Duration>,
    /// Time that it has to leave once it was asked to.
    pub grace: Duration,
}

/// What has to be done about an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// It hangs: write down where it stands, then ask it to leave.
    DescribeAndTerminate,
    Terminate,
    Kill,
}

/// Least share of one core that counts as a sign of life: a thread that only wakes up to look is none.
const LEAST_CPU: f64 = 1e-3;

/// Least bytes a second that count as one: lines that say that it still waits are none.
const LEAST_IO: f64 = 4096.0;

/// Looks at an attempt's activity per `hung_after`.
const LOOKS: u32 = 8;

/// Watches the attempts of one execution, by stage.
#[derive(Debug, Default)]
pub struct Watchdog {
    attempts: BTreeMap<usize, Watched>,
    /// The grace is divided by this.
    hurry: u32,
}

#[derive(Debug)]
struct Watched {
    limits: AttemptLimits,
    pid: Option<u32>,
    began: Duration,
    /// Last sign of life.
    alive: Duration,
    /// Last look at the activity, and what it was.
    looked: Duration,
    activity: Activity,
    verdict: Option<Verdict>,
    gone: bool,
}

#[derive(Debug, Clone, Copy)]
struct Verdict {
    class: FailureClass,
    /// When it was asked to leave.
    asked: Duration,
    /// How long it had run, or stood still.
    after: Duration,
    killed: bool,
}

impl Watchdog {
    /// Watches nothing yet. Graces are divided by `hurry`.
    pub fn new(hurry: u32) -> Watchdog {
        Watchdog {
            attempts: BTreeMap::new(),
            hurry: hurry.max(1),
        }
    }

    /// Watches the attempt of a stage from `now` on.
    pub fn begin(&mut self, stage: usize, limits: AttemptLimits, now: Duration) {
        let watched = Watched {
            limits,
            pid: None,
            began: now,
            alive: now,
            looked: now,
            activity: Activity::default(),
            verdict: None,
            gone: false,
        };
        self.attempts.insert(stage, watched);
    }

    /// The stage's worker was started. One without a process of this machine shows signs of life by its events
    /// only.
    pub fn named(&mut self, stage: usize, pid: Option<u32>) {
        if let Some(watched) = self.attempts.get_mut(&stage) {
            watched.pid = pid;
        }
    }

    /// The process of the stage's worker, if it has one of this machine.
    pub fn pid(&self, stage: usize) -> Option<u32> {
        self.attempts.get(&stage)?.pid
    }

    /// The worker of the stage has said something.
    pub fn heard(&mut self, stage: usize, now: Duration) {
        if let Some(watched) = self.attempts.get_mut(&stage) {
            watched.alive = now;
        }
    }

    /// Whether the attempt was asked to leave from here.
    pub fn is_condemned(&self, stage: usize) -> bool {
        self.attempts
            .get(&stage)
            .is_some_and(|watched| watched.verdict.is_some())
    }

    /// The worker of the stage is gone: nothing has to be done about it any more. [`end`](Self::end) follows.
    pub fn gone(&mut self, stage: usize) {
        if let Some(watched) = self.attempts.get_mut(&stage) {
            watched.gone = true;
        }
    }

    /// The worker of the stage is gone. If it was ended from here, that is why it failed, whatever it said.
    pub fn end(&mut self, stage: usize) -> Option<Failure> {
        let Watched {
            limits, verdict, ..
        } = self.attempts.remove(&stage)?;
        let Verdict { class, after, .. } = verdict?;
        let message = match class {
            FailureClass::Timeout => format!(
                "ended after {}: longer than allowed (timeout {})",
                eta::show(after),
                eta::show(limits.timeout.unwrap_or_default())
            ),
            _ => format!(
                "ended because it stood still: no event, no CPU time, nothing read or written for {}; the log ends \
                 with where it stood",
                eta::show(after)
            ),
        };
        Some(Failure { class, message })
    }

    /// When to [`look`](Self::look) next; `None` while there is nothing to look for.
    pub fn next(&self) -> Option<Duration> {
        self.attempts
            .values()
            .filter_map(|watched| watched.next(self.hurry))
            .min()
    }

    /// Looks at everybody. Returns what has to be done, each once.
    ///
    /// `computes` says whether a GPU works for a stage; it is asked of those that do nothing else.
    pub fn look(
        &mut self,
        now: Duration,
        computes: impl Fn(usize) -> bool,
    ) -> Vec<(usize, Measure)> {
        self.look_with(now, process_tree::activity, computes)
    }

    fn look_with(
        &mut self,
        now: Duration,
        activity: impl Fn(u32) -> Option<Activity>,
        computes: impl Fn(usize) -> bool,
    ) -> Vec<(usize, Measure)> {
        let hurry = self.hurry;
        self.attempts
            .iter_mut()
            .filter_map(|(stage, watched)| {
                let computes = || computes(*stage);
                Some((*stage, watched.look(now, hurry, &activity, computes)?))
            })
            .collect()
    }
}

impl Watched {
    fn grace(&self, hurry: u32) -> Duration {
        self.limits.grace / hurry.max(1)
    }

    fn next(&self, hurry: u32) -> Option<Duration> {
        if self.gone {
            return None;
        }
        if let Some(verdict) = self.verdict {
            return (!verdict.killed).then_some(verdict.asked + self.grace(hurry));
        }
        let late = self.limits.timeout.map(|timeout| self.began + timeout);
        let look = self
            .limits
            .hung_after
            .map(|hung_after| self.looked + hung_after / LOOKS);
        late.into_iter().chain(look).min()
    }

    fn look(
        &mut self,
        now: Duration,
        hurry: u32,
        activity: impl Fn(u32) -> Option<Activity>,
        computes: impl Fn() -> bool,
    ) -> Option<Measure> {
        let grace = self.grace(hurry);
        if self.gone {
            return None;
        }
        if let Some(verdict) = &mut self.verdict {
            let over = !verdict.killed && now >= verdict.asked + grace;
            verdict.killed |= over;
            return over.then_some(Measure::Kill);
        }
        let ran = now.saturating_sub(self.began);
        if self.limits.timeout.is_some_and(|timeout| ran >= timeout) {
            self.condemn(FailureClass::Timeout, now, ran);
            return Some(Measure::Terminate);
        }
        let hung_after = self.limits.hung_after?;
        if now < self.looked + hung_after / LOOKS {
            return None;
        }
        if let Some(found) = self.pid.and_then(activity) {
            let since = now.saturating_sub(self.looked).as_secs_f64();
            let (cpu, io) = (
                found.cpu_seconds - self.activity.cpu_seconds,
                found.io_bytes as f64 - self.activity.io_bytes as f64,
            );
            // Less than before: a process of the tree is gone, so something happened.
            if cpu < 0.0 || cpu >= LEAST_CPU * since || io >= LEAST_IO * since {
                self.alive = now;
            }
            self.activity = found;
        }
        if self.alive < now && computes() {
            self.alive = now;
        }
        self.looked = now;
        let still = now.saturating_sub(self.alive);
        if still < hung_after {
            return None;
        }
        self.condemn(FailureClass::Hung, now, still);
        Some(Measure::DescribeAndTerminate)
    }

    fn condemn(&mut self, class: FailureClass, asked: Duration, after: Duration) {
        self.verdict = Some(Verdict {
            class,
            asked,
            after,
            killed: false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn watchdog(timeout: Option<u64>, hung_after: Option<u64>) -> Watchdog {
        let mut dog = Watchdog::new(1);
        let limits = AttemptLimits {
            timeout: timeout.map(s),
            hung_after: hung_after.map(s),
            grace: s(10),
        };
        dog.begin(3, limits, s(100));
        dog.named(3, Some(1));
        dog
    }

    /// Looks whenever the dog wants to until it does something or `end`.
    fn first(
        dog: &mut Watchdog,
        end: u64,
        cpu: impl Fn(Duration) -> f64,
    ) -> Option<(u64, Measure)> {
        while let Some(now) = dog.next().filter(|now| *now <= s(end)) {
            let measures = dog.look_with(
                now,
                |_| {
                    Some(Activity {
                        cpu_seconds: cpu(now),
                        io_bytes: 0,
                    })
                },
                |_| false,
            );
            assert!(measures.len() <= 1);
            if let Some((stage, measure)) = measures.first() {
                assert_eq!(*stage, 3);
                return Some((now.as_secs(), *measure));
            }
        }
        None
    }

    #[test]
    fn without_limits_nobody_looks() {
        let mut dog = watchdog(None, None);
        assert_eq!(dog.next(), None);
        assert_eq!(dog.look_with(s(1_000_000), |_| None, |_| false), []);
        assert_eq!(dog.end(3), None);
    }

    #[test]
    fn what_is_gone_takes_no_more_time() {
        let mut dog = watchdog(Some(60), Some(80));
        dog.gone(3);
        assert_eq!(dog.next(), None);
        assert_eq!(
            dog.look_with(s(1_000), |_| Some(Activity::default()), |_| false),
            []
        );
        assert!(!dog.is_condemned(3));
        assert_eq!(dog.end(3), None);
        let mut late = watchdog(Some(60), None);
        assert_eq!(
            late.look_with(s(170), |_| None, |_| false),
            [(3, Measure::Terminate)]
        );
        assert!(late.is_condemned(3));
        late.gone(3);
        assert_eq!(late.end(3).unwrap().class, FailureClass::Timeout);
    }

    #[test]
    fn time_runs_out_once_and_then_the_grace() {
        let mut dog = watchdog(Some(60), None);
        assert_eq!(dog.look_with(s(159), |_| None, |_| false), []);
        assert_eq!(
            first(&mut dog, 1000, |_| 0.0),
            Some((160, Measure::Terminate))
        );
        assert_eq!(dog.look_with(s(165), |_| None, |_| false), []);
        assert_eq!(first(&mut dog, 1000, |_| 0.0), Some((170, Measure::Kill)));
        assert_eq!(dog.next(), None);
        let failure = dog.end(3).unwrap();
        assert_eq!(failure.class, FailureClass::Timeout);
        assert!(
            failure.message.contains("timeout 1m 00s"),
            "{}",
            failure.message
        );
        assert_eq!(dog.end(3), None);
    }

    #[test]
    fn neither_events_nor_cpu_time_is_hanging() {
        let mut dog = watchdog(None, Some(80));
        let done = first(&mut dog, 1000, |_| 5.0);
        // The first look sees that it has worked up to then.
        assert_eq!(done, Some((190, Measure::DescribeAndTerminate)));
        assert_eq!(first(&mut dog, 1000, |_| 5.0), Some((200, Measure::Kill)));
        assert_eq!(dog.end(3).unwrap().class, FailureClass::Hung);
    }

    #[test]
    fn either_is_a_sign_of_life() {
        let mut computes = watchdog(None, Some(80));
        assert_eq!(
            first(&mut computes, 5000, |now| now.as_secs_f64() * 0.5),
            None
        );
        let mut wakes_up = watchdog(None, Some(80));
        let ticks = |now: Duration| now.as_secs_f64() * 1e-4;
        assert!(
            first(&mut wakes_up, 5000, ticks).is_some(),
            "a look at the clock is no work"
        );
        let mut reports = watchdog(None, Some(80));
        for now in (100..5000).step_by(60) {
            reports.heard(3, s(now));
            assert_eq!(first(&mut reports, now + 59, |_| 0.0), None);
        }
        // A helper that ended takes its time along.
        let mut helpers = watchdog(None, Some(80));
        let shrinking = |now: Duration| 10_000.0 - now.as_secs_f64();
        assert_eq!(first(&mut helpers, 5000, shrinking), None);
    }

    #[test]
    fn what_reads_or_writes_is_alive() {
        let look = |bytes_a_second: u64| {
            let mut dog = watchdog(None, Some(80));
            while let Some(now) = dog.next().filter(|now| *now < s(5000)) {
                let activity = Activity {
                    cpu_seconds: 1.0,
                    io_bytes: now.as_secs() * bytes_a_second,
                };
                if let Some((_, measure)) =
                    dog.look_with(now, |_| Some(activity), |_| false).first()
                {
                    return Some(*measure);
                }
            }
            None
        };
        assert_eq!(
            look(1 << 20),
            None,
            "a checkpoint on its way to a slow disk"
        );
        let hangs = Some(Measure::DescribeAndTerminate);
        assert_eq!(look(80), hangs, "a line a second that says that it waits");
    }

    #[test]
    fn a_gpu_that_computes_is_a_sign_of_life() {
        let look = |ends: u64| {
            let mut dog = watchdog(None, Some(80));
            while let Some(now) = dog.next().filter(|now| *now < s(5000)) {
                let computes = |stage: usize| stage == 3 && now < s(ends);
                let idle = |_| Some(Activity::default());
                if let Some((_, measure)) = dog.look_with(now, idle, computes).first() {
                    return Some((now.as_secs(), *measure));
                }
            }
            None
        };
        assert_eq!(look(10_000), None);
        // It computed last at 1000 s, as was seen at 1000 - 10.
        assert_eq!(look(1_000), Some((1_070, Measure::DescribeAndTerminate)));
    }

    #[test]
    fn every_attempt_has_its_own_grace() {
        let mut dog = Watchdog::new(1);
        for (stage, grace) in [(1, 5), (2, 60)] {
            let limits = AttemptLimits {
                timeout: Some(s(100)),
                hung_after: None,
                grace: s(grace),
            };
            dog.begin(stage, limits, s(0));
        }
        let mut seen = Vec::new();
        while let Some(now) = dog.next() {
            let measures = dog.look_with(now, |_| None, |_| false);
            seen.extend(
                measures
                    .into_iter()
                    .map(|(stage, what)| (now.as_secs(), stage, what)),
            );
        }
        let expected = [
            (100, 1, Measure::Terminate),
            (100, 2, Measure::Terminate),
            (105, 1, Measure::Kill),
            (160, 2, Measure::Kill),
        ];
        assert_eq!(seen, expected);
    }
}
