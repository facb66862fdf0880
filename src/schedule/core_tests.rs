//! Tests of the state machine: chosen courses of events, and properties over random ones.

use super::core::*;
use super::policy::policy;
use crate::rng::{KeyedRng, Purpose};
use crate::rundir::event::{FailureClass, device_memory_full};
use proptest::prelude::*;

fn cpu(count: usize) -> Vec<SlotTraits> {
    vec![
        SlotTraits {
            shares_memory: true,
            ..SlotTraits::default()
        };
        count
    ]
}

fn gpu(count: usize) -> Vec<SlotTraits> {
    vec![
        SlotTraits {
            can_be_lost: true,
            ..SlotTraits::default()
        };
        count
    ]
}

fn stage(parent: Option<usize>, flops: f64) -> Stage {
    Stage {
        parent,
        flops,
        priority: 0,
        prior: Prior::Pending,
    }
}

fn failure(class: FailureClass) -> Failure {
    Failure {
        class,
        message: format!("{class:?}"),
    }
}

fn done(stage: usize) -> Message {
    Message::WorkerExited {
        stage,
        outcome: Outcome::Done,
    }
}

fn failed(stage: usize, class: FailureClass) -> Message {
    Message::WorkerExited {
        stage,
        outcome: Outcome::Failed(failure(class)),
    }
}

/// Stages that the actions start, in order.
fn spawned(actions: &[Action]) -> Vec<usize> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Spawn { stage, .. } => Some(*stage),
            _ => None,
        })
        .collect()
}

#[test]
fn nothing_to_do_is_done_at_once() {
    let mut core = Core::new(Vec::new(), cpu(2));
    assert_eq!(core.handle(Message::Begin), [Action::Finish]);
    assert_eq!(core.handle(Message::Begin), []);
    let known = Stage {
        prior: Prior::Done,
        ..stage(None, 1.0)
    };
    assert_eq!(
        Core::new(vec![known], cpu(2)).handle(Message::Begin),
        [Action::Finish]
    );
}

#[test]
fn the_longest_path_goes_first() {
    // 0 -> 1 (long together), 2 (longest alone), 3 and 4 (equal: in the plan's order).
    let stages = vec![
        stage(None, 1.0),
        stage(Some(0), 10.0),
        stage(None, 8.0),
        stage(None, 2.0),
        stage(None, 2.0),
    ];
    let mut core = Core::new(stages, cpu(1));
    assert_eq!(spawned(&core.handle(Message::Begin)), [0]);
    assert_eq!(spawned(&core.handle(done(0))), [1]);
    assert_eq!(spawned(&core.handle(done(1))), [2]);
    assert_eq!(spawned(&core.handle(done(2))), [3]);
    assert_eq!(spawned(&core.handle(done(3))), [4]);
    let last = core.handle(done(4));
    assert_eq!(
        last,
        [
            Action::Ended {
                stage: 4,
                end: End::Done
            },
            Action::Finish
        ]
    );
}

#[test]
fn a_child_runs_when_its_parent_was_done_before() {
    let stages = vec![
        Stage {
            prior: Prior::Done,
            ..stage(None, 1.0)
        },
        stage(Some(0), 1.0),
    ];
    assert_eq!(
        spawned(&Core::new(stages, cpu(1)).handle(Message::Begin)),
        [1]
    );
}

#[test]
fn a_failure_blocks_its_descendants_only() {
    let stages = vec![
        stage(Some(1), 1.0),
        stage(Some(2), 1.0),
        stage(None, 1.0),
        stage(None, 0.5),
        stage(Some(2), f64::NAN),
    ];
    let mut core = Core::new(stages, cpu(1));
    assert_eq!(spawned(&core.handle(Message::Begin)), [2]);
    let actions = core.handle(failed(2, FailureClass::Config));
    assert_eq!(spawned(&actions), [3]);
    for blocked in [0, 1, 4] {
        assert_eq!(core.end(blocked), Some(&End::Blocked { by: 2 }));
    }
    assert!(core.handle(done(3)).contains(&Action::Finish));
}

#[test]
fn an_earlier_failure_blocks_too() {
    let stages = vec![
        Stage {
            prior: Prior::Failed(failure(FailureClass::Diverged)),
            ..stage(None, 1.0)
        },
        stage(Some(0), 1.0),
        stage(None, 1.0),
    ];
    let mut core = Core::new(stages, cpu(4));
    assert_eq!(spawned(&core.handle(Message::Begin)), [2]);
    assert_eq!(core.end(1), Some(&End::Blocked { by: 0 }));
}

#[test]
fn retries_are_spent_one_by_one() {
    let mut core = Core::new(vec![stage(None, 1.0)], cpu(1));
    core.handle(Message::Begin);
    let budget = policy(FailureClass::Killed).retries;
    for retry in 1..=budget {
        let actions = core.handle(failed(0, FailureClass::Killed));
        let after = policy(FailureClass::Killed).pause(retry - 1);
        assert_eq!(
            actions,
            [
                Action::Retrying {
                    stage: 0,
                    failure: failure(FailureClass::Killed),
                    retry,
                    after
                },
                Action::SetTimer {
                    timer: Timer::Retry { stage: 0 },
                    after
                },
            ]
        );
        assert_eq!(
            spawned(&core.handle(Message::Timer(Timer::Retry { stage: 0 }))),
            [0]
        );
    }
    assert!(
        core.handle(failed(0, FailureClass::Killed))
            .contains(&Action::Finish)
    );
    assert_eq!(
        core.end(0),
        Some(&End::Failed(failure(FailureClass::Killed)))
    );
}

fn checkpointed(step: u64, counts: bool) -> Message {
    Message::Checkpointed {
        stage: 0,
        step,
        counts,
    }
}

/// Fails and is tried again, as often as it is; returns how often that was. `before` comes before each failure.
fn tries(core: &mut Core, class: FailureClass, before: impl Fn(u64) -> Option<Message>) -> u64 {
    for attempt in 0..20 {
        before(attempt).map(|message| core.handle(message));
        core.handle(failed(0, class));
        core.handle(Message::Timer(Timer::Retry { stage: 0 }));
        if core.end(0).is_some() {
            return attempt;
        }
    }
    20
}

#[test]
fn progress_gives_the_retries_back_and_nothing_else_does() {
    let begun = || {
        let mut core = Core::new(vec![stage(None, 1.0)], cpu(1));
        core.handle(Message::Begin);
        core
    };
    let class = FailureClass::Killed;
    let retries = u64::from(policy(class).retries);
    assert_eq!(tries(&mut begun(), class, |_| None), retries);
    let further = |attempt| Some(checkpointed(attempt + 1, true));
    assert_eq!(tries(&mut begun(), class, further), 20, "further each time");
    // A checkpoint at the step of an earlier one: the first was progress, before any retry was spent.
    let same = |_| Some(checkpointed(7, true));
    assert_eq!(tries(&mut begun(), class, same), retries);
    let less = |attempt| Some(checkpointed(100 - attempt, true));
    assert_eq!(tries(&mut begun(), class, less), retries);
    // Written because it was asked to leave, or by an earlier attempt: no progress of this one.
    let condemned = |attempt| Some(checkpointed(attempt + 1, false));
    assert_eq!(tries(&mut begun(), class, condemned), retries);
    // What doesn't count is remembered all the same.
    let mut core = begun();
    core.handle(checkpointed(50, false));
    let again = |attempt| Some(checkpointed(attempt + 1, true));
    assert_eq!(tries(&mut core, class, again), retries);
    assert_eq!(
        tries(&mut begun(), FailureClass::Hung, condemned),
        u64::from(policy(FailureClass::Hung).retries)
    );
}

#[test]
fn a_lost_device_is_left_alone() {
    let mut core = Core::new(
        vec![stage(None, 2.0), stage(None, 1.0), stage(None, 0.5)],
        gpu(2),
    );
    core.handle(Message::Begin);
    let actions = core.handle(failed(0, FailureClass::DeviceLost));
    assert!(actions.contains(&Action::CloseSlot { slot: 0 }));
    assert!(
        matches!(actions[1], Action::Retrying { retry: 0, .. }),
        "moving is free: {actions:?}"
    );
    core.handle(Message::Timer(Timer::Retry { stage: 0 }));
    assert!(
        core.handle(done(1))
            .contains(&Action::Spawn { stage: 0, slot: 1 })
    );
    // The last device: what is left waits for the next execution.
    let actions = core.handle(failed(0, FailureClass::DeviceLost));
    assert!(
        actions.contains(&Action::Ended {
            stage: 2,
            end: End::Left
        }),
        "{actions:?}"
    );
    assert_eq!(actions.last(), Some(&Action::Finish));
}

#[test]
fn full_memory_lowers_the_number_of_workers() {
    let mut core = Core::new(vec![stage(None, 1.0); 4], cpu(3));
    assert_eq!(spawned(&core.handle(Message::Begin)).len(), 3);
    let actions = core.handle(failed(0, FailureClass::OutOfMemory));
    assert!(actions.contains(&Action::LowerConcurrency { workers: 2 }));
    assert!(spawned(&actions).is_empty(), "two are running, and two may");
    assert_eq!(spawned(&core.handle(done(1))), [3]);
    // Two, of which one fails of the same: one at a time. Alone a stage had all there is.
    let actions = core.handle(failed(2, FailureClass::OutOfMemory));
    assert!(actions.contains(&Action::LowerConcurrency { workers: 1 }));
    let actions = core.handle(failed(3, FailureClass::OutOfMemory));
    let lowered = |action: &Action| matches!(action, Action::LowerConcurrency { .. });
    assert!(!actions.iter().any(lowered), "{actions:?}");
}

/// A failure for want of the memory of a GPU.
fn gpu_full(stage: usize) -> Message {
    Message::WorkerExited {
        stage,
        outcome: Outcome::Failed(Failure {
            class: FailureClass::OutOfMemory,
            message: device_memory_full("cuda:0"),
        }),
    }
}

#[test]
fn a_full_gpu_is_no_reason_to_do_the_same_once_more() {
    let mut core = Core::new(vec![stage(None, 1.0); 3], gpu(2));
    core.handle(Message::Begin);
    let actions = core.handle(gpu_full(0));
    assert!(matches!(core.end(0), Some(End::Failed(_))), "{actions:?}");
    assert_eq!(spawned(&actions), [2], "the others have GPUs of their own");
    // On a share others may have had what it lacked.
    let shared = SlotTraits {
        is_share: true,
        ..gpu(1)[0]
    };
    let mut core = Core::new(vec![stage(None, 1.0); 2], vec![shared; 2]);
    core.handle(Message::Begin);
    core.handle(gpu_full(0));
    assert_eq!(core.end(0), None);
    core.handle(Message::Timer(Timer::Retry { stage: 0 }));
    core.handle(gpu_full(0));
    assert!(matches!(core.end(0), Some(End::Failed(_))));
    // With smaller parts it is another attempt.
    let mut core = Core::new(vec![stage(None, 1.0)], gpu(1));
    core.handle(Message::Begin);
    for _ in 0..5 {
        core.handle(Message::Relieved { stage: 0 });
        core.handle(gpu_full(0));
        assert_eq!(
            spawned(&core.handle(Message::Timer(Timer::Retry { stage: 0 }))),
            [0]
        );
    }
    core.handle(gpu_full(0));
    assert!(matches!(core.end(0), Some(End::Failed(_))));
}

#[test]
fn workers_on_gpus_live_in_the_memory_of_the_machine_too() {
    let mut core = Core::new(vec![stage(None, 1.0); 5], gpu(4));
    core.handle(Message::Begin);
    let actions = core.handle(failed(0, FailureClass::OutOfMemory));
    assert!(actions.contains(&Action::LowerConcurrency { workers: 3 }));
    assert!(spawned(&actions).is_empty(), "{actions:?}");
    assert_eq!(core.why(4), Reason::Lowered { workers: 3 });
    assert_eq!(spawned(&core.handle(done(1))), [4]);
}

#[test]
fn the_first_stop_drains_and_the_next_kills() {
    let mut core = Core::new(
        vec![stage(None, 3.0), stage(None, 2.0), stage(None, 1.0)],
        cpu(2),
    );
    core.handle(Message::Begin);
    assert_eq!(
        core.handle(Message::Stop),
        [
            Action::Terminate { stage: 0 },
            Action::Terminate { stage: 1 },
            Action::SetTimer {
                timer: Timer::Grace,
                after: GRACE
            },
        ]
    );
    assert_eq!(
        core.handle(done(0)),
        [Action::Ended {
            stage: 0,
            end: End::Done
        }]
    );
    assert_eq!(core.handle(Message::Stop), [Action::Kill { stage: 1 }]);
    assert_eq!(
        core.handle(failed(1, FailureClass::Killed)),
        [
            Action::Ended {
                stage: 1,
                end: End::Left
            },
            Action::Ended {
                stage: 2,
                end: End::Left
            },
            Action::Finish,
        ]
    );
}

#[test]
fn grace_ends_and_a_third_stop_does_not_wait() {
    let mut core = Core::new(vec![stage(None, 1.0)], cpu(1));
    core.handle(Message::Begin);
    core.handle(Message::Stop);
    assert_eq!(
        core.handle(Message::Timer(Timer::Grace)),
        [Action::Kill { stage: 0 }]
    );
    assert_eq!(core.handle(Message::Timer(Timer::Grace)), []);
    assert_eq!(
        core.handle(Message::Stop),
        [
            Action::Ended {
                stage: 0,
                end: End::Left
            },
            Action::Finish
        ]
    );
    assert_eq!(
        core.handle(failed(0, FailureClass::Killed)),
        [],
        "it came too late"
    );
}

#[test]
fn a_fault_while_draining_stays_a_fault() {
    let mut core = Core::new(vec![stage(None, 1.0), stage(Some(0), 1.0)], cpu(1));
    core.handle(Message::Begin);
    core.handle(Message::Stop);
    core.handle(failed(0, FailureClass::Diverged));
    assert_eq!(
        core.end(0),
        Some(&End::Failed(failure(FailureClass::Diverged)))
    );
    assert_eq!(core.end(1), Some(&End::Blocked { by: 0 }));
}

#[test]
fn a_stop_before_the_start_starts_nothing() {
    let mut core = Core::new(vec![stage(None, 1.0)], cpu(1));
    let actions = core.handle(Message::Stop);
    assert_eq!(
        actions,
        [
            Action::Ended {
                stage: 0,
                end: End::Left
            },
            Action::Finish
        ]
    );
    assert_eq!(core.handle(Message::Begin), []);
}

fn limited(stages: Vec<Stage>, slots: usize, limits: Limits) -> Core {
    Core::with_limits(stages, cpu(slots), limits)
}

fn refused(stage: usize, standing: Standing) -> Message {
    Message::Refused { stage, standing }
}

fn told(stage: usize, standing: Standing) -> Message {
    Message::Told { stage, standing }
}

#[test]
fn a_stage_that_is_elsewhere_holds_no_slot_and_its_children_wait() {
    let stages = vec![stage(None, 9.0), stage(Some(0), 1.0), stage(None, 1.0)];
    let mut core = Core::new(stages, cpu(1));
    assert_eq!(spawned(&core.handle(Message::Begin)), [0]);
    assert_eq!(
        spawned(&core.handle(refused(0, Standing::Elsewhere))),
        [2],
        "the slot goes to the next"
    );
    assert_eq!(core.elsewhere().iter().copied().collect::<Vec<_>>(), [0]);
    assert_eq!(core.handle(told(0, Standing::Elsewhere)), []);
    let actions = core.handle(done(2));
    assert!(
        !actions.contains(&Action::Finish),
        "it waits for the other scheduler"
    );
    let actions = core.handle(told(0, Standing::Done));
    assert_eq!(core.end(0), Some(&End::Done));
    assert_eq!(spawned(&actions), [1]);
    assert!(core.handle(done(1)).contains(&Action::Finish));
}

#[test]
fn what_others_give_up_is_ours_again() {
    let mut core = Core::new(vec![stage(None, 1.0)], cpu(1));
    core.handle(Message::Begin);
    core.handle(refused(0, Standing::Elsewhere));
    assert_eq!(spawned(&core.handle(told(0, Standing::Free))), [0]);
    assert_eq!(
        core.handle(told(0, Standing::Done)),
        [],
        "what runs here is ours"
    );
    assert!(core.handle(done(0)).contains(&Action::Finish));
}

#[test]
fn a_failure_elsewhere_blocks_here() {
    let stages = vec![stage(None, 2.0), stage(Some(0), 1.0), stage(None, 1.0)];
    let mut core = Core::new(stages, cpu(1));
    core.handle(Message::Begin);
    core.handle(refused(0, Standing::Failed(failure(FailureClass::Config))));
    assert_eq!(
        core.end(0),
        Some(&End::Failed(failure(FailureClass::Config)))
    );
    assert_eq!(core.end(1), Some(&End::Blocked { by: 0 }));
    assert!(core.handle(done(2)).contains(&Action::Finish));
}

#[test]
fn a_stop_does_not_wait_for_others() {
    let mut core = Core::new(vec![stage(None, 1.0)], cpu(1));
    core.handle(Message::Begin);
    core.handle(refused(0, Standing::Elsewhere));
    assert_eq!(
        core.handle(Message::Stop),
        [
            Action::Ended {
                stage: 0,
                end: End::Left
            },
            Action::Finish
        ]
    );
}

#[test]
fn priorities_come_first_and_lift_what_they_wait_for() {
    let urgent = Stage {
        priority: 5,
        ..stage(Some(0), 1.0)
    };
    let late = Stage {
        priority: -1,
        ..stage(None, 99.0)
    };
    let stages = vec![stage(None, 1.0), urgent, stage(None, 50.0), late];
    let mut core = Core::new(stages, cpu(1));
    let mut order = spawned(&core.handle(Message::Begin));
    for _ in 0..3 {
        order.extend(spawned(&core.handle(done(*order.last().unwrap()))));
    }
    assert_eq!(order, [0, 1, 2, 3]);
}

#[test]
fn enough_failures_start_nothing_new() {
    let limits = Limits {
        max_fail: Some(2),
        ..Limits::default()
    };
    let mut core = limited(vec![stage(None, 1.0); 6], 3, limits);
    assert_eq!(spawned(&core.handle(Message::Begin)), [0, 1, 2]);
    assert_eq!(
        spawned(&core.handle(failed(0, FailureClass::Diverged))),
        [3]
    );
    let actions = core.handle(failed(1, FailureClass::Bug));
    assert!(actions.contains(&Action::Close(Closing::MaxFail(2))));
    assert!(spawned(&actions).is_empty());
    assert!(
        !core.handle(done(2)).contains(&Action::Finish),
        "3 goes on to its end"
    );
    // No retries either.
    let actions = core.handle(failed(3, FailureClass::Killed));
    assert_eq!(core.end(3), Some(&End::Left));
    assert_eq!(core.end(5), Some(&End::Left));
    assert!(actions.contains(&Action::Finish));
}

#[test]
fn the_budget_drains() {
    let limits = Limits {
        budget: Some(std::time::Duration::from_secs(60)),
        ..Limits::default()
    };
    let mut core = limited(vec![stage(None, 1.0); 2], 1, limits);
    let actions = core.handle(Message::Begin);
    assert!(actions.contains(&Action::SetTimer {
        timer: Timer::Budget,
        after: std::time::Duration::from_secs(60)
    }));
    assert_eq!(
        core.handle(Message::Timer(Timer::Budget)),
        [
            Action::Close(Closing::Budget),
            Action::Terminate { stage: 0 },
            Action::SetTimer {
                timer: Timer::Grace,
                after: GRACE
            },
        ]
    );
    let actions = core.handle(failed(0, FailureClass::Killed));
    assert_eq!(core.end(0), Some(&End::Left));
    assert_eq!(core.end(1), Some(&End::Left));
    assert!(actions.contains(&Action::Finish));
}

#[test]
fn the_canary_goes_first_and_alone() {
    let limits = Limits {
        canary: true,
        ..Limits::default()
    };
    let stages = || {
        vec![
            stage(None, 9.0),
            stage(None, 2.0),
            stage(None, 5.0),
            stage(Some(1), 0.1),
        ]
    };
    let mut core = limited(stages(), 2, limits);
    assert_eq!(
        spawned(&core.handle(Message::Begin)),
        [1],
        "the cheapest that can run"
    );
    // A retry of it is still the canary.
    core.handle(failed(1, FailureClass::Killed));
    assert_eq!(
        spawned(&core.handle(Message::Timer(Timer::Retry { stage: 1 }))),
        [1]
    );
    assert_eq!(spawned(&core.handle(done(1))), [0, 2]);

    let mut core = limited(stages(), 2, limits);
    core.handle(Message::Begin);
    let actions = core.handle(failed(1, FailureClass::Config));
    assert!(actions.contains(&Action::Close(Closing::Canary { stage: 1 })));
    assert!(actions.contains(&Action::Finish));
    assert_eq!(core.end(0), Some(&End::Left));
    assert_eq!(core.end(3), Some(&End::Blocked { by: 1 }));

    // Another scheduler has it: its result counts.
    let mut core = limited(stages(), 2, limits);
    core.handle(Message::Begin);
    assert!(spawned(&core.handle(refused(1, Standing::Elsewhere))).is_empty());
    assert_eq!(spawned(&core.handle(told(1, Standing::Done))), [0, 2]);
}

/// A random course of events: a forest of stages, outcomes, stops, in a random order.
struct World {
    core: Core,
    rng: KeyedRng,
    stages: Vec<Stage>,
    slots: Vec<Option<usize>>,
    closed: Vec<bool>,
    /// What will come about sooner or later.
    pending: Vec<Message>,
    ended: Vec<Option<End>>,
    stops: bool,
    transcript: Vec<Action>,
    renewed: std::collections::BTreeSet<usize>,
    finished: bool,
}

impl World {
    fn new(seed: u64, stages: usize, slots: usize, stops: bool) -> World {
        let mut rng = KeyedRng::new(seed, Purpose::Test, 0, 0);
        let mut order: Vec<usize> = (0..stages).collect();
        rng.shuffle(&mut order);
        let mut list = vec![stage(None, 0.0); stages];
        for (position, &index) in order.iter().enumerate() {
            if position > 0 && rng.chance(0.6) {
                list[index].parent = Some(order[rng.below(position as u64) as usize]);
            }
            list[index].flops = rng.unit();
            if rng.chance(0.05) {
                list[index].prior = Prior::Done;
            } else if rng.chance(0.05) {
                list[index].prior = Prior::Failed(failure(FailureClass::Bug));
            }
        }
        let traits = (0..slots)
            .map(|_| {
                if rng.chance(0.5) {
                    gpu(1)[0]
                } else {
                    cpu(1)[0]
                }
            })
            .collect();
        World {
            core: Core::new(list.clone(), traits),
            ended: list
                .iter()
                .map(|stage| match &stage.prior {
                    Prior::Pending => None,
                    Prior::Done => Some(End::Done),
                    Prior::Failed(failure) => Some(End::Failed(failure.clone())),
                })
                .collect(),
            stages: list,
            slots: vec![None; slots],
            closed: vec![false; slots],
            pending: vec![Message::Begin],
            rng,
            stops,
            transcript: Vec::new(),
            renewed: std::collections::BTreeSet::new(),
            finished: false,
        }
    }

    fn run(mut self) -> World {
        let mut messages = 0;
        while !self.pending.is_empty() {
            messages += 1;
            assert!(messages < 100_000, "it doesn't end");
            let index = self.rng.below(self.pending.len() as u64) as usize;
            let message = self.pending.swap_remove(index);
            if let Message::WorkerExited { stage, .. } = message {
                let slot = self
                    .slots
                    .iter()
                    .position(|&running| running == Some(stage))
                    .unwrap();
                self.slots[slot] = None;
            }
            for action in self.core.handle(message) {
                self.apply(action);
            }
            if self.stops && self.rng.chance(0.03) {
                self.pending.push(Message::Stop);
            }
        }
        self
    }

    fn apply(&mut self, action: Action) {
        assert!(!self.finished, "nothing comes after the end: {action:?}");
        match &action {
            Action::Renewed { stage } => {
                assert_eq!(self.ended[*stage], Some(End::Done), "nothing to renew");
                assert!(self.renewed.insert(*stage), "renewed twice");
                self.ended[*stage] = None;
            }
            Action::Spawn { stage, slot } => {
                assert!(!self.core.is_stopping(), "no new stages after a stop");
                assert_eq!(self.slots[*slot], None, "two workers on a slot");
                assert!(!self.closed[*slot], "a closed slot");
                assert!(!self.slots.contains(&Some(*stage)), "a stage runs twice");
                assert_eq!(self.ended[*stage], None, "a stage runs after its end");
                if let Some(parent) = self.stages[*stage].parent {
                    assert_eq!(self.ended[parent], Some(End::Done), "before its parent");
                }
                self.slots[*slot] = Some(*stage);
                if self.rng.chance(0.2) {
                    self.pending.push(Message::Checkpointed {
                        stage: *stage,
                        step: self.rng.below(9),
                        counts: self.rng.chance(0.8),
                    });
                }
                let outcome = if self.rng.chance(0.6) {
                    Outcome::Done
                } else {
                    let class =
                        FailureClass::ALL[self.rng.below(FailureClass::ALL.len() as u64) as usize];
                    Outcome::Failed(failure(class))
                };
                if matches!(outcome, Outcome::Failed(_)) && self.rng.chance(0.2) {
                    self.pending.push(Message::ParentLost { stage: *stage });
                }
                self.pending.push(Message::WorkerExited {
                    stage: *stage,
                    outcome,
                });
            }
            Action::Terminate { stage } | Action::Kill { stage } => {
                assert!(self.slots.contains(&Some(*stage)), "a signal to nobody");
            }
            Action::SetTimer { timer, .. } => self.pending.push(Message::Timer(*timer)),
            Action::Retrying { stage, .. } => assert_eq!(self.ended[*stage], None),
            Action::CloseSlot { slot } => self.closed[*slot] = true,
            Action::LowerConcurrency { workers } => assert!(*workers >= 1),
            Action::Close(cause) => panic!("no limits were set: {cause:?}"),
            Action::Ended { stage, end } => {
                assert_eq!(self.ended[*stage], None, "a stage ends twice");
                self.ended[*stage] = Some(end.clone());
            }
            Action::Finish => self.finished = true,
        }
        self.transcript.push(action);
    }

    fn has_renewed_ancestor(&self, mut stage: usize) -> bool {
        while let Some(parent) = self.stages[stage].parent {
            if self.renewed.contains(&parent) {
                return true;
            }
            stage = parent;
        }
        false
    }

    /// Whether an ancestor failed, with none in between that was done all the same (by an earlier
    /// execution).
    fn has_failed_ancestor(&self, mut stage: usize) -> bool {
        while let Some(parent) = self.stages[stage].parent {
            match self.ended[parent] {
                Some(End::Failed(_)) => return true,
                Some(End::Done) => return false,
                _ => stage = parent,
            }
        }
        false
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_stage_ends_once(seed: u64, stages in 0usize..24, slots in 1usize..5, stops: bool) {
        let world = World::new(seed, stages, slots, stops).run();
        prop_assert!(world.finished);
        let lost_all = world.closed.iter().all(|&closed| closed);
        for stage in 0..stages {
            let end = world.ended[stage].clone();
            prop_assert!(end.is_some(), "stage {} has no end", stage);
            prop_assert_eq!(world.core.end(stage), end.as_ref());
            match end {
                Some(End::Blocked { by }) => {
                    prop_assert!(matches!(world.ended[by], Some(End::Failed(_))));
                    prop_assert!(world.has_failed_ancestor(stage));
                }
                Some(End::Left) => prop_assert!(stops || lost_all, "stage {} was left", stage),
                Some(End::Done) if world.stages[stage].prior == Prior::Pending => {
                    // It may have been done, or at work, before its ancestor had to be done again.
                    prop_assert!(!world.has_failed_ancestor(stage) || world.has_renewed_ancestor(stage));
                }
                _ => {}
            }
        }
    }

    #[test]
    fn the_same_messages_give_the_same_actions(seed: u64, stages in 0usize..24, slots in 1usize..5) {
        let first = World::new(seed, stages, slots, true).run();
        let second = World::new(seed, stages, slots, true).run();
        prop_assert_eq!(first.transcript, second.transcript);
    }
}

#[test]
fn a_hundred_thousand_stages_are_no_burden() {
    let count = 100_000;
    let stages = (0..count)
        .map(|index| stage((index % 2 == 1).then(|| index - 1), index as f64))
        .collect();
    let mut core = Core::new(stages, cpu(8));
    let mut running: std::collections::VecDeque<usize> =
        spawned(&core.handle(Message::Begin)).into();
    let mut ended = 0;
    while let Some(stage) = running.pop_front() {
        running.extend(spawned(&core.handle(done(stage))));
        ended += 1;
    }
    assert_eq!(ended, count);
}

/// Stages on the CPU need memory: the first in line waits until there is room for it.
#[test]
fn stages_wait_for_memory() {
    let stages = (0..4).map(|_| stage(None, 1.0)).collect();
    let mut core = Core::new(stages, cpu(4)).in_memory(10, vec![6, 4, 3, 11]);
    assert_eq!(spawned(&core.handle(Message::Begin)), [0, 1]);
    assert_eq!(spawned(&core.handle(done(0))), [2]);
    // The last needs more than there is: it runs alone rather than never.
    assert!(spawned(&core.handle(done(1))).is_empty());
    assert_eq!(spawned(&core.handle(done(2))), [3]);
}

/// A GPU's stages have the GPU's memory.
#[test]
fn memory_of_the_host_is_for_the_host() {
    let stages = (0..2).map(|_| stage(None, 1.0)).collect();
    let mut core = Core::new(stages, gpu(2)).in_memory(10, vec![8, 8]);
    assert_eq!(spawned(&core.handle(Message::Begin)), [0, 1]);
}

#[test]
fn on_hold_nothing_starts_and_nothing_ends() {
    let mut core = Core::new(vec![stage(None, 2.0), stage(None, 1.0)], cpu(1));
    assert_eq!(core.handle(Message::Hold(true)), []);
    assert_eq!(core.handle(Message::Begin), [], "it waits");
    assert_eq!(spawned(&core.handle(Message::Hold(false))), [0]);
    core.handle(Message::Hold(true));
    let actions = core.handle(done(0));
    assert!(spawned(&actions).is_empty() && !actions.contains(&Action::Finish));
    // A stop ends it all the same.
    let mut stopped = core.clone();
    let actions = stopped.handle(Message::Stop);
    assert_eq!(actions.last(), Some(&Action::Finish));
    assert_eq!(stopped.end(1), Some(&End::Left));
    assert_eq!(spawned(&core.handle(Message::Hold(false))), [1]);
}

#[test]
fn a_relieved_stage_spends_no_retry() {
    let mut core = Core::new(vec![stage(None, 1.0)], gpu(1));
    core.handle(Message::Begin);
    let class = FailureClass::OutOfMemory;
    for _ in 0..5 {
        core.handle(Message::Relieved { stage: 0 });
        let actions = core.handle(failed(0, class));
        let retried = |action: &Action| matches!(action, Action::Retrying { retry: 0, .. });
        assert!(actions.iter().any(retried), "{actions:?}");
        core.handle(Message::Timer(Timer::Retry { stage: 0 }));
    }
    let retries = u64::from(policy(class).retries);
    assert_eq!(tries(&mut core, class, |_| None), retries);
}

/// Two children of a stage that was done before, and what becomes of them when its weights are damaged.
fn family() -> Core {
    let known = Stage {
        prior: Prior::Done,
        ..stage(None, 1.0)
    };
    let stages = vec![known, stage(Some(0), 2.0), stage(Some(0), 1.0)];
    Core::new(stages, cpu(1))
}

fn orphaned(core: &mut Core, stage: usize) -> Vec<Action> {
    assert_eq!(core.handle(Message::ParentLost { stage }), []);
    core.handle(failed(stage, FailureClass::Bug))
}

#[test]
fn a_parent_whose_output_is_damaged_is_done_again_once() {
    let mut core = family();
    assert_eq!(spawned(&core.handle(Message::Begin)), [1]);
    let actions = orphaned(&mut core, 1);
    assert_eq!(actions[0], Action::Renewed { stage: 0 });
    assert_eq!(spawned(&actions), [0], "the other child waits, too");
    // That is no retry of the child: a failure of its own afterwards counts as the first.
    assert_eq!(spawned(&core.handle(done(0))), [1]);
    assert!(matches!(
        core.handle(failed(1, FailureClass::Killed))[0],
        Action::Retrying { retry: 1, .. }
    ));
    assert_eq!(core.end(0), Some(&End::Done));
    assert!(spawned(&core.handle(done(2))).is_empty());
    let again = core.handle(Message::Timer(Timer::Retry { stage: 1 }));
    assert_eq!(spawned(&again), [1]);
    // The second output is no better: the child's failure is its own.
    let actions = orphaned(&mut core, 1);
    assert!(matches!(core.end(1), Some(End::Failed(_))), "{actions:?}");
    assert_eq!(actions.last(), Some(&Action::Finish));
}

#[test]
fn a_parent_that_fails_when_it_is_done_again_blocks_its_children() {
    let mut core = family();
    core.handle(Message::Begin);
    orphaned(&mut core, 1);
    let actions = core.handle(failed(0, FailureClass::Config));
    assert_eq!(core.end(1), Some(&End::Blocked { by: 0 }));
    assert_eq!(core.end(2), Some(&End::Blocked { by: 0 }));
    assert_eq!(actions.last(), Some(&Action::Finish));
}

#[test]
fn whoever_was_at_work_when_the_parent_failed_again_is_blocked_in_the_end() {
    let known = Stage {
        prior: Prior::Done,
        ..stage(None, 1.0)
    };
    let stages = vec![
        known,
        stage(Some(0), 4.0),
        stage(Some(0), 3.0),
        stage(Some(0), 2.0),
        stage(Some(2), 1.0),
    ];
    let mut core = Core::new(stages, cpu(3));
    assert_eq!(spawned(&core.handle(Message::Begin)), [1, 2, 3]);
    assert_eq!(spawned(&orphaned(&mut core, 1)), [0]);
    core.handle(failed(3, FailureClass::Killed));
    core.handle(failed(0, FailureClass::Config));
    assert_eq!(core.end(1), Some(&End::Blocked { by: 0 }));
    // One that fails of the same, and one in its pause.
    let actions = orphaned(&mut core, 2);
    let retried = |action: &Action| matches!(action, Action::Retrying { stage: 2, .. });
    assert!(
        actions.iter().any(retried),
        "its attempt has ended: {actions:?}"
    );
    assert_eq!(core.end(2), Some(&End::Blocked { by: 0 }));
    assert_eq!(core.end(4), Some(&End::Blocked { by: 0 }));
    let actions = core.handle(Message::Timer(Timer::Retry { stage: 3 }));
    assert_eq!(core.end(3), Some(&End::Blocked { by: 0 }));
    assert_eq!(actions.last(), Some(&Action::Finish));
}

#[test]
fn grandparents_are_done_again_where_their_output_is_lost_too() {
    let known = |parent| Stage {
        prior: Prior::Done,
        ..stage(parent, 1.0)
    };
    let stages = vec![known(None), known(Some(0)), stage(Some(1), 1.0)];
    let mut core = Core::with_limits(
        stages,
        cpu(2),
        Limits {
            canary: true,
            ..Limits::default()
        },
    );
    assert_eq!(spawned(&core.handle(Message::Begin)), [2]);
    assert_eq!(spawned(&orphaned(&mut core, 2)), [1]);
    assert_eq!(spawned(&orphaned(&mut core, 1)), [0]);
    assert_eq!(spawned(&core.handle(done(0))), [1]);
    assert_eq!(spawned(&core.handle(done(1))), [2]);
    assert_eq!(core.handle(done(2)).last(), Some(&Action::Finish));
}

#[test]
fn a_stop_leaves_a_child_without_its_parent_for_the_next_time() {
    let mut core = family();
    core.handle(Message::Begin);
    core.handle(Message::Stop);
    let actions = orphaned(&mut core, 1);
    assert_eq!(core.end(1), Some(&End::Left), "{actions:?}");
    assert_eq!(core.end(0), Some(&End::Done));
}
