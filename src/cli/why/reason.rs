//! From what is known of a stage to the sentences that explain it.

use super::ago;
use crate::cli::lookup::duration;
use crate::plan::difference::Nearest;
use crate::rundir::event::FailureClass;
use crate::schedule::policy::{policy, policy_of};
use crate::schedule::progress::news::Because;
use crate::store::rows::{AttemptRow, Status};
use crate::store::{Leaseholder, RunningStage, SavedPlan, StageState, StoreHolder};
use serde::Serialize;
use std::path::PathBuf;

/// Why a stage is as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Reasons {
    /// `done`, `running`, `failed`, `blocked`, `waits`, `interrupted` or `new`.
    pub status: String,
    /// What its scheduler says that it waits for: `parent`, `slots`, `memory`, …; `None` where none was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Sentences, the most important first.
    pub because: Vec<String>,
    /// The nearest finished stage of the store, if this one is new.
    pub nearest: Option<String>,
    /// Fields in which it differs from that one, `path: theirs -> ours`.
    pub changed: Vec<String>,
}

/// What is known of a stage.
pub struct Facts {
    /// Unix time.
    pub now: f64,
    /// The question is what `ablate run` would do.
    pub planned: bool,
    /// Who is at work on the store.
    pub schedulers: Vec<StoreHolder>,
    /// What a scheduler has said of the stage, and which.
    pub told: Option<(StoreHolder, Because)>,
    /// Those that were asked and didn't answer.
    pub silent: Vec<StoreHolder>,
    /// When plans were saved, which every `ablate run` does, and by which command; oldest first.
    pub plans: Vec<SavedPlan>,
    /// `None`: the store doesn't know the stage.
    pub state: Option<StageState>,
    /// The scheduler that has taken it, if that may still be alive or not.
    pub lease: Option<Leaseholder>,
    /// Oldest first.
    pub attempts: Vec<AttemptRow>,
    /// Fingerprint, name and state of the stages that it comes from, nearest first.
    pub ancestors: Vec<(String, Option<String>, Option<StageState>)>,
    /// Everything that runs on the store.
    pub running: Vec<RunningStage>,
    pub nearest: Option<Nearest>,
    /// What the paths of logs are relative to.
    pub log_folder: PathBuf,
    /// Its fingerprint.
    pub stage: String,
}

impl Facts {
    /// Whether the stage was never begun.
    pub fn is_new(&self) -> bool {
        self.attempts.is_empty() && self.status() == Status::Pending
    }

    fn status(&self) -> Status {
        self.state
            .as_ref()
            .map_or(Status::Pending, |state| state.status)
    }

    /// Whether a scheduler that is alive has it, as far as leases tell.
    fn is_held(&self) -> bool {
        match &self.lease {
            None => !self.schedulers.is_empty(),
            Some(lease) => self
                .schedulers
                .iter()
                .any(|one| one.pid == lease.pid && one.host == lease.host),
        }
    }

    /// What follows.
    pub fn reasons(&self) -> Reasons {
        let mut reasons = match self.status() {
            Status::Done => self.done(),
            Status::Running => self.running(),
            Status::Failed => self.failed(),
            Status::Pending => self.pending(),
        };
        // The last failure is told already where it is the answer.
        let told = ["failed", "interrupted"].contains(&reasons.status.as_str());
        reasons.because.extend(self.history(told));
        reasons
    }

    fn done(&self) -> Reasons {
        let mut because = Vec::new();
        if let Some(last) = self.attempts.last() {
            let time = last
                .ended
                .map_or(String::new(), |ended| format!(", {}", ago(self.now, ended)));
            because.push(format!(
                "attempt {} finished on {} of {}{time}",
                last.attempt, last.device, last.host
            ));
        }
        because.push(
            "its configuration, data, seed and parent have this fingerprint: it is not run again"
                .to_owned(),
        );
        Reasons {
            status: "done".to_owned(),
            because,
            ..Reasons::default()
        }
    }

    fn running(&self) -> Reasons {
        let Some(last) = self.attempts.last() else {
            return Reasons {
                status: "running".to_owned(),
                ..Reasons::default()
            };
        };
        let place = format!(
            "attempt {} began {} on {} of {}{}",
            last.attempt,
            ago(self.now, last.started),
            last.device,
            last.host,
            last.pid
                .map_or(String::new(), |pid| format!(" (pid {pid})"))
        );
        if !self.is_held() {
            let gone = match &self.lease {
                Some(lease) if !self.schedulers.is_empty() => format!(
                    "its `ablate run` ({lease}) is gone: another one takes it over, from the last checkpoint"
                ),
                _ => "no `ablate run` is at work on this store any more: the next one goes on from the last checkpoint"
                    .to_owned(),
            };
            return Reasons {
                status: "interrupted".to_owned(),
                because: vec![place, gone],
                ..Reasons::default()
            };
        }
        let mut because = vec![place];
        because.extend(
            self.lease
                .as_ref()
                .map(|lease| format!("leased by `ablate run` ({lease})")),
        );
        if let Some(stage) = self
            .running
            .iter()
            .find(|stage| stage.fingerprint == self.stage)
        {
            because.push(match (stage.step, stage.total_steps, stage.last_event) {
                (Some(step), Some(total), Some(last)) => {
                    format!("step {step} of {total}, heard of {}", ago(self.now, last))
                }
                (_, _, Some(last)) => format!("heard of {}", ago(self.now, last)),
                _ => "it has said nothing yet".to_owned(),
            });
        }
        Reasons {
            status: "running".to_owned(),
            because,
            ..Reasons::default()
        }
    }

    fn failed(&self) -> Reasons {
        let mut because = Vec::new();
        let class = self.state.as_ref().and_then(|state| state.failure);
        let message = self
            .state
            .as_ref()
            .and_then(|state| state.message.clone())
            .unwrap_or_else(|| "no cause is known".to_owned());
        let name = class.map_or("failed", FailureClass::name);
        because.push(format!("{name}: {message}"));
        if let Some(last) = self.attempts.last() {
            because.push(format!(
                "log: {}",
                self.log_folder.join(&last.log).display()
            ));
        }
        if let Some(class) = class {
            let policy = policy_of(class, &message);
            because.push(format!("hint: {}", policy.hint));
            because.push(tried_again(class));
        }
        Reasons {
            status: "failed".to_owned(),
            because,
            ..Reasons::default()
        }
    }

    fn pending(&self) -> Reasons {
        let mut reasons = self.waiting();
        if let (true, Some(nearest)) = (self.is_new(), &self.nearest) {
            reasons.because.push(format!(
                "nearest finished stage: {}, which has",
                nearest
                    .fingerprint
                    .get(..12)
                    .unwrap_or(&nearest.fingerprint)
            ));
            reasons.nearest = Some(nearest.fingerprint.clone());
            reasons.changed.clone_from(&nearest.differences);
        } else if self.is_new() {
            reasons
                .because
                .push("no finished stage of the store is like it".to_owned());
        }
        reasons
    }

    /// For what a stage waits that is not begun, or not finished.
    fn waiting(&self) -> Reasons {
        let of = |status: &str, because: Vec<String>| Reasons {
            status: status.to_owned(),
            because,
            ..Reasons::default()
        };
        let shown = |fingerprint: &str, name: &Option<String>| {
            let short = fingerprint.get(..12).unwrap_or(fingerprint);
            match name {
                Some(name) => format!("`{name}` ({short})"),
                None => short.to_owned(),
            }
        };
        if let Some((holder, told)) = &self.told
            && !["runs", "ended", "elsewhere"].contains(&told.reason.as_str())
        {
            let mut because = told.because.clone();
            because.push(format!("so says `ablate run` ({holder})"));
            return Reasons {
                reason: Some(told.reason.clone()),
                ..of("waits", because)
            };
        }
        for (fingerprint, name, state) in &self.ancestors {
            let Some(state) = state else { continue };
            if state.status == Status::Failed {
                let mut because = vec![format!(
                    "it starts from {}, which failed: {}: {}",
                    shown(fingerprint, name),
                    state.failure.map_or("unknown", FailureClass::name),
                    state.message.as_deref().unwrap_or("no cause is known")
                )];
                because.extend(state.failure.map(tried_again));
                return of("blocked", because);
            }
        }
        if let Some((fingerprint, name, state)) = self.ancestors.first()
            && state
                .as_ref()
                .is_none_or(|state| state.status != Status::Done)
        {
            let status = state.as_ref().map_or("new", |state| state.status.name());
            let what = format!(
                "it starts from {}, which is {status}",
                shown(fingerprint, name)
            );
            return match self.planned {
                true => of("new", vec![what]),
                false => of("waits", vec![what]),
            };
        }
        if self.planned && self.attempts.is_empty() {
            return of("new", vec!["`ablate run` would run it".to_owned()]);
        }
        let Some(scheduler) = self.schedulers.first() else {
            return match self.attempts.last() {
                Some(last) => of(
                    "interrupted",
                    vec![format!(
                        "attempt {} ended without a result ({}); the next `ablate run` goes on from its last checkpoint",
                        last.attempt,
                        last.message.as_deref().unwrap_or("no cause is known")
                    )],
                ),
                None => of(
                    "waits",
                    vec![
                        "no `ablate run` is at work on this store: the next one takes it"
                            .to_owned(),
                    ],
                ),
            };
        };
        if let Some(pause) = self.pause() {
            return of("waits", vec![pause]);
        }
        if let (Some(lease), true) = (&self.lease, self.is_held()) {
            return of(
                "waits",
                vec![format!(
                    "`ablate run` ({lease}) has the lease: it starts the next attempt"
                )],
            );
        }
        let mut because = match self.silent.first() {
            Some(silent) => vec![format!(
                "`ablate run` ({silent}) may know for what, but doesn't answer: it is on another host, stands still, or \
                 waits for the database"
            )],
            None => vec![format!(
                "`ablate run` ({scheduler}) is at work on other stages: the next one takes it"
            )],
        };
        if !self.running.is_empty() {
            because.push(match self.running.len() {
                1 => "1 stage runs now:".to_owned(),
                count => format!("{count} stages run now:"),
            });
        }
        const SHOWN: usize = 8;
        because.extend(self.running.iter().take(SHOWN).map(|stage| {
            format!(
                "{} on {} of {}, since {}",
                stage.run.as_deref().unwrap_or(&stage.fingerprint),
                stage.device,
                stage.host,
                duration(self.now - stage.started)
            )
        }));
        of("waits", because)
    }

    /// The pause before a retry, if that is what goes on.
    fn pause(&self) -> Option<String> {
        let last = self.attempts.last()?;
        let class = class_of(last)?;
        let ended = last.ended?;
        let policy = policy(class);
        // Attempts that failed of the same since one that succeeded in writing a checkpoint can't be told apart
        // here from those before: the longest pause that may be.
        let failures = self
            .attempts
            .iter()
            .rev()
            .take_while(|attempt| class_of(attempt) == Some(class))
            .count();
        let pause = policy
            .pause(u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX))
            .as_secs_f64();
        let left = ended + pause - self.now;
        (policy.retries > 0 && left > 0.0).then(|| {
            format!(
                "it failed ({}) {} and is tried again in {} at most: up to {} retries, with pauses that double",
                class.name(),
                ago(self.now, ended),
                duration(left.max(1.0)),
                policy.retries
            )
        })
    }
}

pub(super) fn class_of(attempt: &AttemptRow) -> Option<FailureClass> {
    let name = attempt.failure.as_deref()?;
    FailureClass::ALL
        .into_iter()
        .find(|class| class.name() == name)
}

/// What the next run does with a failure.
fn tried_again(class: FailureClass) -> String {
    match policy(class).transient {
        true => "the next `ablate run` tries it again".to_owned(),
        false => "only `ablate run --retry-failed` tries it again".to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn state(status: Status, failure: Option<FailureClass>) -> StageState {
        StageState {
            status,
            attempts: 1,
            failure,
            message: Some("why".to_owned()),
            log: None,
        }
    }

    pub(in crate::cli::why) fn attempt(
        attempt: u32,
        status: Status,
        failure: Option<FailureClass>,
    ) -> AttemptRow {
        AttemptRow {
            stage: "aa".repeat(16),
            attempt,
            device: "cpu".to_owned(),
            host: "lab".to_owned(),
            pid: Some(7),
            started: 10.0,
            ended: (status != Status::Running).then_some(90.0),
            status,
            failure: failure.map(|class| class.name().to_owned()),
            message: Some(format!("cause {attempt}")),
            exit_code: None,
            peak_rss_bytes: None,
            log: "stages/aa/attempt-1.log".to_owned(),
        }
    }

    pub(in crate::cli::why) fn facts() -> Facts {
        Facts {
            now: 90.5,
            planned: false,
            schedulers: Vec::new(),
            told: None,
            silent: Vec::new(),
            plans: Vec::new(),
            state: Some(state(Status::Pending, None)),
            lease: None,
            attempts: Vec::new(),
            ancestors: Vec::new(),
            running: Vec::new(),
            nearest: None,
            log_folder: PathBuf::from("store"),
            stage: "aa".repeat(16),
        }
    }

    fn scheduler() -> StoreHolder {
        StoreHolder {
            pid: 5,
            host: "lab".to_owned(),
            since: 0.0,
        }
    }

    #[track_caller]
    fn check(facts: &Facts, status: &str, parts: &[&str]) {
        let reasons = facts.reasons();
        assert_eq!(reasons.status, status, "{reasons:?}");
        let text = reasons.because.join("\n");
        for part in parts {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
    }

    #[test]
    fn every_way_to_wait_has_its_reason() {
        let alone = facts();
        check(
            &alone,
            "waits",
            &["no `ablate run` is at work", "no finished stage"],
        );

        let parent = |status, failure| Facts {
            ancestors: vec![(
                "bb".repeat(16),
                Some("pretrain".to_owned()),
                Some(state(status, failure)),
            )],
            ..facts()
        };
        check(
            &parent(Status::Running, None),
            "waits",
            &["`pretrain` (bbbbbbbbbbbb), which is running"],
        );
        check(
            &parent(Status::Failed, Some(FailureClass::Diverged)),
            "blocked",
            &[
                "`pretrain` (bbbbbbbbbbbb), which failed: diverged: why",
                "--retry-failed",
            ],
        );
        check(
            &parent(Status::Failed, Some(FailureClass::Killed)),
            "blocked",
            &["the next `ablate run` tries it again"],
        );

        let busy = Facts {
            schedulers: vec![scheduler()],
            running: vec![RunningStage {
                fingerprint: "cc".repeat(16),
                stage: None,
                run: Some("e/v/s0".to_owned()),
                runs: 1,
                attempt: 1,
                device: "cuda:0".to_owned(),
                host: "lab".to_owned(),
                pid: None,
                started: 30.0,
                last_event: None,
                step: None,
                total_steps: None,
                loss: None,
            }],
            ..facts()
        };
        check(
            &busy,
            "waits",
            &[
                "(pid 5 on host lab",
                "is at work on other stages",
                "1 stage runs now",
                "e/v/s0 on cuda:0 of lab, since",
            ],
        );

        let told = |reason: &str, because: &[&str]| {
            let told = Because {
                fingerprint: "aa".repeat(16),
                reason: reason.to_owned(),
                because: because.iter().map(|&line| line.to_owned()).collect(),
            };
            Some((scheduler(), told))
        };
        let asked = Facts {
            told: told("memory", &["for memory: it needs 3 GiB"]),
            ..busy
        };
        check(&asked, "waits", &["for memory: it needs 3 GiB", "so says"]);
        assert_eq!(asked.reasons().reason.as_deref(), Some("memory"));
        let elsewhere = Facts {
            told: told("elsewhere", &["another one has it"]),
            ..asked
        };
        check(&elsewhere, "waits", &["1 stage runs now"]);
        let silent = Facts {
            silent: vec![scheduler()],
            told: None,
            ..elsewhere
        };
        check(&silent, "waits", &["doesn't answer"]);

        let pausing = Facts {
            schedulers: vec![scheduler()],
            attempts: vec![attempt(1, Status::Failed, Some(FailureClass::DeviceLost))],
            ..facts()
        };
        check(
            &pausing,
            "waits",
            &[
                "failed (device_lost)",
                "tried again in",
                "attempt 1 on cpu of lab",
            ],
        );
        let alone = Facts {
            schedulers: Vec::new(),
            attempts: vec![attempt(1, Status::Failed, Some(FailureClass::Killed))],
            ..facts()
        };
        check(
            &alone,
            "interrupted",
            &["attempt 1 ended without a result (cause 1)"],
        );
        assert_eq!(alone.reasons().because.len(), 1, "told once");
        let paused = Facts {
            now: 200.0,
            ..pausing
        };
        check(&paused, "waits", &["the next one takes it"]);
    }

    #[test]
    fn what_was_begun_tells_its_story() {
        let failed = Facts {
            state: Some(state(Status::Failed, Some(FailureClass::OutOfMemory))),
            attempts: vec![
                attempt(1, Status::Failed, Some(FailureClass::Killed)),
                attempt(2, Status::Failed, Some(FailureClass::OutOfMemory)),
            ],
            ..facts()
        };
        check(
            &failed,
            "failed",
            &[
                "out_of_memory: why",
                "log: store/stages/aa/attempt-1.log",
                "hint: ",
                "attempt 1 on cpu of lab: killed: cause 1; tried again by an `ablate run` that was at work",
            ],
        );
        let reasons = failed.reasons();
        assert!(
            !reasons
                .because
                .iter()
                .any(|line| line.contains("attempt 2 on"))
        );

        let running = |schedulers| Facts {
            state: Some(state(Status::Running, None)),
            attempts: vec![attempt(1, Status::Running, None)],
            schedulers,
            ..facts()
        };
        check(
            &running(vec![scheduler()]),
            "running",
            &["attempt 1 began", "(pid 7)"],
        );
        check(
            &running(Vec::new()),
            "interrupted",
            &["goes on from the last checkpoint"],
        );

        // Two schedulers share the store, and the one that had it has died.
        let lease = |pid| {
            Some(Leaseholder {
                host: "lab".to_owned(),
                pid,
            })
        };
        let held = Facts {
            lease: lease(5),
            ..running(vec![scheduler()])
        };
        check(
            &held,
            "running",
            &["leased by `ablate run` (pid 5 on host lab)"],
        );
        let orphan = Facts {
            lease: lease(6),
            ..held
        };
        check(
            &orphan,
            "interrupted",
            &["(pid 6 on host lab) is gone: another one takes it over"],
        );
        let next = Facts {
            lease: lease(5),
            schedulers: vec![scheduler()],
            ..facts()
        };
        check(&next, "waits", &["has the lease"]);

        let done = Facts {
            state: Some(state(Status::Done, None)),
            attempts: vec![
                attempt(1, Status::Failed, Some(FailureClass::Diverged)),
                attempt(2, Status::Done, None),
            ],
            ..facts()
        };
        check(
            &done,
            "done",
            &["attempt 2 finished", "attempt 1 on cpu of lab: diverged"],
        );
    }

    #[test]
    fn a_new_stage_names_what_changed() {
        let new = Facts {
            state: None,
            planned: true,
            nearest: Some(Nearest {
                fingerprint: "dd".repeat(16),
                differences: vec!["optimizer.lr: 0.1 -> 0.2".to_owned()],
            }),
            ..facts()
        };
        check(
            &new,
            "new",
            &[
                "`ablate run` would run it",
                "nearest finished stage: dddddddddddd",
            ],
        );
        assert_eq!(new.reasons().changed, ["optimizer.lr: 0.1 -> 0.2"]);
    }
}
