//! Tests of the state machine: devices that are shared, in use by others, lost, or several for one stage.

use super::core::*;
use crate::rundir::event::FailureClass;

fn core(stages: usize, devices: &[usize], widths: &[usize]) -> Core {
    let stages = (0..stages)
        .map(|_| Stage {
            parent: None,
            flops: 1.0,
            priority: 0,
            prior: Prior::Pending,
        })
        .collect();
    let slots = devices
        .iter()
        .map(|_| SlotTraits {
            can_be_lost: true,
            ..SlotTraits::default()
        })
        .collect();
    Core::new(stages, slots).on_devices(devices, widths.to_vec())
}

fn exited(stage: usize, outcome: Outcome) -> Message {
    Message::WorkerExited { stage, outcome }
}

fn lost() -> Outcome {
    Outcome::Failed(Failure {
        class: FailureClass::DeviceLost,
        message: "gone".into(),
    })
}

/// Stages that are started, with their slots.
fn spawned(actions: &[Action]) -> Vec<(usize, usize)> {
    let spawned = actions.iter().filter_map(|action| match action {
        Action::Spawn { stage, slot } => Some((*stage, *slot)),
        _ => None,
    });
    spawned.collect()
}

fn closed(actions: &[Action]) -> Vec<usize> {
    let closed = actions.iter().filter_map(|action| match action {
        Action::CloseSlot { slot } => Some(*slot),
        _ => None,
    });
    closed.collect()
}

#[test]
fn a_slot_in_use_by_others_is_passed_over_until_it_is_free() {
    let mut core = core(2, &[0, 1], &[]);
    assert_eq!(spawned(&core.handle(Message::Begin)), [(0, 0), (1, 1)]);
    // Somebody is on device 0: the stage waits, for the other slot is taken.
    let busy = Message::SlotBusy { stage: 0, slot: 0 };
    assert_eq!(core.handle(busy.clone()), []);
    assert_eq!(core.handle(busy), [], "it runs no more");
    let actions = core.handle(exited(1, Outcome::Done));
    assert_eq!(spawned(&actions), [(0, 1)]);
    // And again, alone: it waits and doesn't give up.
    assert_eq!(core.handle(Message::SlotBusy { stage: 0, slot: 1 }), []);
    let actions = core.handle(Message::SlotFree { slot: 1 });
    assert_eq!(spawned(&actions), [(0, 1)]);
    let actions = core.handle(exited(0, Outcome::Done));
    assert!(actions.contains(&Action::Finish));
}

#[test]
fn a_stage_gets_as_many_devices_as_it_asks_for_at_once() {
    // Two GPUs of two shares each; stage 0 wants both GPUs, the others one.
    let mut core = core(4, &[0, 1, 0, 1], &[2, 1, 1, 1]);
    assert_eq!(
        spawned(&core.handle(Message::Begin)),
        [(0, 0), (1, 2), (2, 3)]
    );
    assert_eq!(core.slots_of(0), [0, 1], "different GPUs");
    assert_eq!(core.slots_of(1), [2]);
    assert_eq!(core.slots_of(3), Vec::<usize>::new());
    let actions = core.handle(exited(0, Outcome::Done));
    assert_eq!(spawned(&actions), [(3, 0)], "both of its slots are free");
}

#[test]
fn nobody_overtakes_a_stage_that_waits_for_devices() {
    let mut core = core(3, &[0, 1], &[1, 2, 1]);
    assert_eq!(spawned(&core.handle(Message::Begin)), [(0, 0)]);
    let actions = core.handle(exited(0, Outcome::Done));
    assert_eq!(spawned(&actions), [(1, 0)]);
    // One of the two is in use: both are given back, and the next in line waits, too.
    assert_eq!(core.handle(Message::SlotBusy { stage: 1, slot: 1 }), []);
    assert_eq!(core.slots_of(1), Vec::<usize>::new());
    let actions = core.handle(Message::SlotFree { slot: 1 });
    assert_eq!(spawned(&actions), [(1, 0)]);
    let actions = core.handle(exited(1, Outcome::Done));
    assert_eq!(spawned(&actions), [(2, 0)]);
}

#[test]
fn a_lost_device_closes_all_its_slots_and_costs_no_retry() {
    let mut core = core(2, &[0, 1, 0], &[]);
    core.handle(Message::Begin);
    let actions = core.handle(exited(0, lost()));
    assert_eq!(closed(&actions), [0, 2]);
    let retry = actions.iter().find_map(|action| match action {
        Action::Retrying { stage, retry, .. } => Some((*stage, *retry)),
        _ => None,
    });
    assert_eq!(retry, Some((0, 0)));
    // The driver says so, too: known.
    assert!(closed(&core.handle(Message::DeviceLost { slot: 2 })).is_empty());
    let actions = core.handle(Message::Timer(Timer::Retry { stage: 0 }));
    assert!(spawned(&actions).is_empty(), "the other device is taken");
    let actions = core.handle(Message::DeviceBack { slot: 2 });
    assert_eq!(spawned(&actions), [(0, 2)]);
}

#[test]
fn without_enough_devices_it_ends_and_the_rest_is_left() {
    let mut all = core(1, &[0, 0], &[]);
    all.handle(Message::Begin);
    all.handle(Message::DeviceLost { slot: 1 });
    // The scheduler kills what runs there; where no device is left, that is a retry and then the end.
    let actions = all.handle(exited(0, lost()));
    assert!(actions.contains(&Action::Finish), "{actions:?}");
    assert_eq!(all.end(0), Some(&End::Left));

    // Two are asked for, one is there: the others go on, and it comes back with the device.
    let mut wide = core(3, &[0, 1], &[2, 1, 1]);
    assert_eq!(spawned(&wide.handle(Message::Begin)), [(0, 0)]);
    wide.handle(Message::DeviceLost { slot: 1 });
    let actions = wide.handle(Message::SlotBusy { stage: 0, slot: 1 });
    assert_eq!(spawned(&actions), [(1, 0)]);
    wide.handle(Message::DeviceBack { slot: 1 });
    let actions = wide.handle(exited(1, Outcome::Done));
    assert_eq!(spawned(&actions), [(0, 0)]);
    wide.handle(Message::DeviceLost { slot: 1 });
    let actions = wide.handle(exited(0, lost()));
    assert!(closed(&actions).is_empty(), "the other one is well");
    assert_eq!(spawned(&actions), [(2, 0)]);
}
