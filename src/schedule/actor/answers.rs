//! Answers to those who ask, and sentences for the reasons why stages don't run.

use super::Actor;
use crate::schedule::core::{Closing, End, Failure, Reason};
use crate::schedule::eta;
use crate::schedule::outcome::signal_name;
use crate::schedule::policy::policy_of;
use crate::schedule::progress::news::{Because, Request};
use crate::schedule::space;
use std::time::Duration;

/// The pause before a retry.
pub(super) struct Pause {
    /// When it is over, on the scheduler's clock.
    until: Duration,
    /// Why the attempt before it failed.
    failure: Failure,
}

/// Stages that are listed.
const LISTED: usize = 8;

impl Actor<'_> {
    /// Does what somebody who watches wants.
    pub(super) fn answer(&mut self, request: Request) {
        match request {
            Request::CheckDevices => self.check_devices(),
            Request::Why { fingerprints } => {
                let known = |name: &String| {
                    let mut jobs = self.run.jobs.iter();
                    jobs.position(|job| job.fingerprint == *name)
                };
                let stages = fingerprints.iter().filter_map(known);
                let stages = stages.map(|stage| self.because(stage)).collect();
                self.run.progress.why(stages);
            }
        }
    }

    /// The stage is tried again after a pause.
    pub(super) fn begin_pause(&mut self, stage: usize, failure: Failure, after: Duration) {
        let until = self.clock.now() + after / self.run.settings.hurry.max(1);
        self.pauses.insert(stage, Pause { until, failure });
    }

    fn because(&self, stage: usize) -> Because {
        let reason = self.core.why(stage);
        let mut because = Vec::new();
        let is_over = matches!(reason, Reason::Runs | Reason::Ended | Reason::Elsewhere);
        if let (Some(full), false) = (&self.store_is_full, is_over) {
            because.push(format!("{full}: nothing is started until there is some"));
        }
        self.explain(stage, &reason, &mut because);
        Because {
            fingerprint: self.run.jobs[stage].fingerprint.clone(),
            reason: match self.store_is_full.is_some() && !is_over {
                true => "store_full".to_owned(),
                false => reason.name().to_owned(),
            },
            because,
        }
    }

    fn explain(&self, stage: usize, reason: &Reason, lines: &mut Vec<String>) {
        let label = |stage: usize| format!("`{}`", self.run.jobs[stage].label);
        match reason {
            Reason::Runs => lines.push(self.place(stage)),
            Reason::Ended => lines.push(match self.core.end(stage) {
                Some(End::Failed(failure)) => {
                    format!("it failed: {}: {}", failure.class.name(), failure.message)
                }
                Some(End::Blocked { by }) => format!("{} failed", label(*by)),
                Some(End::Left) => "it is left for the next `ablate run`".to_owned(),
                Some(End::Done) | None => "it is done".to_owned(),
            }),
            Reason::Elsewhere => {
                lines.push("another `ablate run` of this store has it".to_owned());
            }
            Reason::Parent { stage: parent } => {
                lines.push(format!("it starts from {}, which isn't done:", label(*parent)));
                self.explain(*parent, &self.core.why(*parent), lines);
            }
            Reason::Pause { retry } => lines.push(self.pause(stage, *retry)),
            Reason::Closed(cause) => lines.push(match cause {
                Closing::MaxFail(failures) => format!(
                    "no new stage is started, for {failures} have failed (--max-fail): the next `ablate run` goes on"
                ),
                Closing::Budget => {
                    "no new stage is started, for the time is over (--budget): the next `ablate run` goes on".to_owned()
                }
                Closing::Canary { stage } => {
                    format!("no new stage is started, for the canary failed: {}", label(*stage))
                }
            }),
            Reason::Stopping => {
                let by = self.interrupted.map_or("a stop", signal_name);
                lines.push(format!(
                    "no new stage is started, for the run is to end ({by}): the next `ablate run` goes on"
                ));
            }
            Reason::OnHold => lines.push(self.hold()),
            Reason::NoDevice => {
                lines.push("no device is left".to_owned());
                self.list_lost(lines);
            }
            Reason::TooFewDevices { wants, left } => {
                lines.push(format!("it uses {wants} devices at once, and {left} are left"));
                self.list_lost(lines);
            }
            Reason::Canary { stage } => {
                lines.push(format!(
                    "one stage, the canary, has to be done before the others: {}",
                    label(*stage)
                ));
                self.explain(*stage, &self.core.why(*stage), lines);
            }
            Reason::Held { slots } => {
                let obstacles = slots.iter().filter_map(|&slot| self.keeper.obstacle(slot));
                lines.extend(obstacles.take(LISTED).map(str::to_owned));
                if lines.is_empty() {
                    lines.push("the devices that it could have are in use by others".to_owned());
                }
                self.list_lost(lines);
            }
            Reason::Slots { wants, free } => {
                let running = count(self.attempts.len(), "stage runs", "stages run");
                lines.push(match (wants, free) {
                    (1, _) => format!("for a slot: {running}"),
                    (_, 0) => format!("for {wants} devices at once: {running}"),
                    (_, free) => format!("for {wants} devices at once: {free} are free, {running}"),
                });
                self.list_ahead(stage, lines);
                self.list_running(lines);
                self.list_lost(lines);
            }
            Reason::Lowered { workers } => {
                lines.push(format!(
                    "the machine's memory was full: no more than {workers} workers at once since then"
                ));
                self.list_ahead(stage, lines);
                self.list_running(lines);
            }
            Reason::Memory {
                needs,
                used,
                capacity,
            } => {
                lines.push(format!(
                    "for memory: it needs {}, and those that run need {} of {}",
                    space::show(*needs),
                    space::show(*used),
                    space::show(*capacity)
                ));
                self.list_running(lines);
            }
            Reason::Behind { stage: first, because } => {
                lines.push(format!("{} comes first, and waits:", label(*first)));
                self.explain(*first, because, lines);
            }
            Reason::Turn => lines.push("nothing: it is about to be started".to_owned()),
        }
    }

    /// Where the stage runs.
    fn place(&self, stage: usize) -> String {
        match self.attempts.get(&stage) {
            Some(attempt) => {
                let slot = &self.run.slots[attempt.slot].name;
                format!("it runs on {slot}, as attempt {}", attempt.number)
            }
            None => "it is being started".to_owned(),
        }
    }

    fn pause(&self, stage: usize, retry: u32) -> String {
        let Some(Pause { until, failure }) = self.pauses.get(&stage) else {
            return "it is tried again after a pause".to_owned();
        };
        let left = until.saturating_sub(self.clock.now());
        let most = policy_of(failure.class, &failure.message)
            .retries
            .max(retry);
        let which = match retry {
            0 => "not counted as a retry".to_owned(),
            retry => format!("retry {retry} of {most}"),
        };
        format!(
            "it failed and is tried again in {} ({which}): {}: {}",
            eta::show(left),
            failure.class.name(),
            failure.message
        )
    }

    fn list_ahead(&self, stage: usize, lines: &mut Vec<String>) {
        let ahead = self.core.ahead(stage);
        if ahead > 0 {
            lines.push(count(ahead, "stage goes before it", "stages go before it"));
        }
    }

    fn list_running(&self, lines: &mut Vec<String>) {
        let running = self.attempts.iter().take(LISTED);
        lines.extend(running.map(|(&stage, attempt)| {
            format!(
                "`{}` on {}",
                self.run.jobs[stage].label, self.run.slots[attempt.slot].name
            )
        }));
        if self.attempts.len() > LISTED {
            lines.push(format!("and {} more", self.attempts.len() - LISTED));
        }
    }

    fn list_lost(&self, lines: &mut Vec<String>) {
        let lost = self.keeper.lost().iter();
        lines.extend(lost.map(|(uuid, what)| self.keeper.farewell(uuid, what)));
    }
}

/// `1 stage runs`, `3 stages run`.
fn count(number: usize, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {many}"),
    }
}
