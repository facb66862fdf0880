//! Tests of the state machine: every way in which a stage can wait has its reason.

use super::core::*;
use crate::rundir::event::FailureClass;
use std::time::Duration;

fn stages(parents: &[Option<usize>]) -> Vec<Stage> {
    let stage = |parent: &Option<usize>| Stage {
        parent: *parent,
        flops: 1.0,
        priority: 0,
        prior: Prior::Pending,
    };
    parents.iter().map(stage).collect()
}

fn cpu(count: usize) -> Vec<SlotTraits> {
    let slot = SlotTraits {
        shares_memory: true,
        ..SlotTraits::default()
    };
    vec![slot; count]
}

fn gpu(count: usize) -> Vec<SlotTraits> {
    let slot = SlotTraits {
        can_be_lost: true,
        ..SlotTraits::default()
    };
    vec![slot; count]
}

fn begun(mut core: Core) -> Core {
    assert_eq!(core.why(0), Reason::Turn, "before the beginning");
    core.handle(Message::Begin);
    core
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
        outcome: Outcome::Failed(Failure {
            class,
            message: String::new(),
        }),
    }
}

#[test]
fn in_line_behind_others() {
    let mut core = begun(Core::new(stages(&[None, Some(0), None, None]), cpu(1)));
    assert_eq!(core.why(0), Reason::Runs);
    assert_eq!(core.why(1), Reason::Parent { stage: 0 });
    let full = Reason::Slots { wants: 1, free: 0 };
    assert_eq!((core.why(2), core.why(3)), (full.clone(), full));
    assert_eq!((core.ahead(2), core.ahead(3)), (0, 1));
    core.handle(failed(0, FailureClass::Killed));
    assert_eq!(core.why(0), Reason::Pause { retry: 1 });
    assert_eq!(core.why(2), Reason::Runs);
    core.handle(Message::Timer(Timer::Retry { stage: 0 }));
    core.handle(failed(2, FailureClass::Bug));
    assert_eq!(core.why(2), Reason::Ended);
    assert_eq!(core.why(0), Reason::Runs);
}

#[test]
fn elsewhere_and_on_hold() {
    let mut core = begun(Core::new(stages(&[None, None]), cpu(1)));
    core.handle(Message::Refused {
        stage: 0,
        standing: Standing::Elsewhere,
    });
    assert_eq!(
        (core.why(0), core.why(1)),
        (Reason::Elsewhere, Reason::Runs)
    );
    core.handle(Message::Hold(true));
    core.handle(Message::Told {
        stage: 0,
        standing: Standing::Free,
    });
    assert_eq!(core.why(0), Reason::OnHold);
}

#[test]
fn devices_in_use_lost_or_too_few() {
    let core = |widths: &[usize]| {
        let core = Core::new(stages(&[None, None, None]), gpu(2));
        begun(core.on_devices(&[0, 1], widths.to_vec()))
    };
    let mut held = core(&[]);
    held.handle(Message::SlotBusy { stage: 0, slot: 0 });
    // The other slot is taken: when that is free it goes there.
    assert_eq!(held.why(0), Reason::Held { slots: vec![0] });
    held.handle(Message::SlotBusy { stage: 1, slot: 1 });
    assert_eq!(held.why(0), Reason::Held { slots: vec![0, 1] });
    assert_eq!(
        held.why(2),
        Reason::Behind {
            stage: 0,
            because: Box::new(Reason::Held { slots: vec![0, 1] })
        }
    );

    // Stage 1 wants both devices, and 2 has to wait behind it.
    let mut wide = core(&[1, 2, 1]);
    assert_eq!(wide.why(1), Reason::Slots { wants: 2, free: 1 });
    assert_eq!(
        wide.why(2),
        Reason::Behind {
            stage: 1,
            because: Box::new(Reason::Slots { wants: 2, free: 1 })
        }
    );
    wide.handle(Message::DeviceLost { slot: 1 });
    assert_eq!(wide.why(1), Reason::TooFewDevices { wants: 2, left: 1 });
    assert_eq!(wide.why(2), Reason::Slots { wants: 1, free: 0 });
    wide.handle(Message::DeviceLost { slot: 0 });
    assert_eq!(wide.why(1), Reason::NoDevice);
}

#[test]
fn memory_of_the_machine() {
    let core = Core::new(stages(&[None, None, None]), cpu(3)).in_memory(10, vec![6, 5, 1]);
    let mut core = begun(core);
    let memory = Reason::Memory {
        needs: 5,
        used: 6,
        capacity: 10,
    };
    assert_eq!(core.why(1), memory);
    assert_eq!(
        core.why(2),
        Reason::Behind {
            stage: 1,
            because: Box::new(memory)
        }
    );
    core.handle(done(0));
    assert_eq!((core.why(1), core.why(2)), (Reason::Runs, Reason::Runs));

    let mut core = begun(Core::new(stages(&[None; 4]), cpu(3)));
    core.handle(failed(0, FailureClass::OutOfMemory));
    let lowered = Reason::Lowered { workers: 2 };
    assert_eq!(core.why(3), lowered);
    core.handle(Message::Timer(Timer::Retry { stage: 0 }));
    assert_eq!((core.why(0), core.why(3)), (lowered.clone(), lowered));
}

#[test]
fn limits_of_the_execution() {
    let canary = Limits {
        canary: true,
        ..Limits::default()
    };
    let limited = |limits| {
        begun(Core::with_limits(
            stages(&[None, None, None]),
            cpu(2),
            limits,
        ))
    };
    let mut core = limited(canary);
    assert_eq!(core.why(1), Reason::Canary { stage: 0 });
    core.handle(failed(0, FailureClass::Killed));
    assert_eq!(core.why(0), Reason::Pause { retry: 1 });
    assert_eq!(core.why(2), Reason::Canary { stage: 0 });
    core.handle(Message::Timer(Timer::Retry { stage: 0 }));
    core.handle(done(0));
    assert_eq!((core.why(1), core.why(2)), (Reason::Runs, Reason::Runs));

    let mut core = limited(Limits {
        max_fail: Some(1),
        ..Limits::default()
    });
    core.handle(failed(0, FailureClass::Bug));
    assert_eq!(core.why(2), Reason::Closed(Closing::MaxFail(1)));
    assert_eq!(core.why(1), Reason::Runs);
    core.handle(Message::Stop);
    assert_eq!(core.why(2), Reason::Stopping);

    let mut core = limited(Limits {
        budget: Some(Duration::from_secs(1)),
        ..Limits::default()
    });
    core.handle(Message::Timer(Timer::Budget));
    assert_eq!(core.why(2), Reason::Closed(Closing::Budget));
    core.handle(Message::Stop);
    assert_eq!(core.why(2), Reason::Closed(Closing::Budget));
}

/// Whatever has happened: a stage that waits has a reason, and none that is ready could be started.
#[test]
fn whoever_is_ready_has_an_obstacle() {
    use crate::rng::{KeyedRng, Purpose};
    for seed in 0..300 {
        let mut rng = KeyedRng::new(seed, Purpose::Test, 0, 0);
        let count = 1 + rng.below(9) as usize;
        let parents: Vec<Option<usize>> = (0..count)
            .map(|stage| (stage > 0 && rng.chance(0.3)).then(|| rng.below(stage as u64) as usize))
            .collect();
        let slots = 1 + rng.below(4) as usize;
        let mut traits = cpu(slots);
        traits.extend(gpu(rng.below(3) as usize));
        let devices: Vec<usize> = (0..traits.len()).map(|slot| slot / 2).collect();
        let widths = (0..count).map(|_| 1 + rng.below(2) as usize).collect();
        let needs = (0..count).map(|_| rng.below(9)).collect();
        let limits = Limits {
            max_fail: rng.chance(0.2).then_some(2),
            canary: rng.chance(0.3),
            ..Limits::default()
        };
        let slots = traits.len();
        let mut core = Core::with_limits(stages(&parents), traits, limits)
            .on_devices(&devices, widths)
            .in_memory(12, needs);
        core.handle(Message::Begin);
        for _ in 0..60 {
            let stage = rng.below(count as u64) as usize;
            let slot = rng.below(slots as u64) as usize;
            let class = FailureClass::ALL[rng.below(12) as usize];
            let message = match rng.below(9) {
                0 => done(stage),
                1 | 2 => failed(stage, class),
                3 => Message::Timer(Timer::Retry { stage }),
                4 => Message::DeviceLost { slot },
                5 => Message::DeviceBack { slot },
                6 => match core.slots_of(stage).first() {
                    Some(&slot) => Message::SlotBusy { stage, slot },
                    None => Message::SlotFree { slot },
                },
                7 => Message::SlotFree { slot },
                _ => Message::Hold(rng.chance(0.5)),
            };
            let actions = core.handle(message);
            if actions.contains(&Action::Finish) {
                break;
            }
            for stage in 0..count {
                let why = core.why(stage);
                assert_ne!(why, Reason::Turn, "seed {seed}, stage {stage}");
                assert_eq!(why == Reason::Ended, core.end(stage).is_some());
                assert_eq!(why == Reason::Runs, !core.slots_of(stage).is_empty());
            }
        }
    }
}
