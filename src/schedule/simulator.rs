//! A deterministic simulator: several schedulers on one store, a virtual clock, and a fault at every step.
//!
//! The state machine is the real one, and so is the ledger through which it speaks to the store. Around them is a
//! model of all else: workers that checkpoint, finish, fail or die; GPUs that are lost, in use by others, and back;
//! a disk that is short and a store that is full for a while; timers; notices that arrive late or never. A run is a
//! function of its seed and its faults, so what fails fails again. Promises that are checked while it runs:
//!
//! - a stage is finished once, and never runs in two places at once;
//! - a slot holds one worker; a worker starts only under a lease that is in the store, on a parent that is
//!   done there, on as many GPUs as it uses and that nobody else has, with memory for it, and not beside a
//!   canary;
//! - retries obey the policy, whatever checkpoints are written;
//! - a stage that waits has a reason, and none that could run waits;
//! - every scheduler comes to its end, every stage to an end or to the next execution, and no lease of
//!   a dead scheduler stays.

mod devices;
mod peers;
mod scheduler;
mod store;
mod world;

use super::core::Limits;
use crate::rng::{KeyedRng, Purpose};
use crate::store::rows::Status;
use world::{FAULTS, Scene, World};

fn scene(seed: u64) -> Scene {
    Scene {
        seed,
        stages: 7,
        schedulers: 2,
        slots: 2,
        gpus: 0,
        per_gpu: 1,
        wide: false,
        memory: u64::MAX,
        failing: 0.0,
        limits: Limits::default(),
        stops: false,
    }
}

/// Two GPUs of one share or two, stages on one or both.
fn with_gpus(seed: u64) -> Scene {
    Scene {
        gpus: 2,
        per_gpu: 1 + (seed % 2) as usize,
        wide: true,
        ..scene(seed)
    }
}

#[test]
fn undisturbed_schedulers_share_the_work() {
    for seed in 0..200 {
        for scene in [scene(seed), with_gpus(seed)] {
            let world = World::new(scene, None, 0.0).run();
            assert!(world.rows.iter().all(|row| row.status == Status::Done));
            assert!(world.rows.iter().all(|row| row.attempts == 1));
        }
    }
}

/// SQLite's idea: the fault at the first step, at the second, and so on until it comes too late.
#[test]
fn every_fault_at_every_step() {
    for seed in 0..4 {
        for fault in FAULTS {
            for scene in [scene(seed), with_gpus(seed)] {
                let mut step = 1;
                loop {
                    let world = World::new(scene.clone(), Some((step, fault)), 0.0).run();
                    assert!(
                        world.rows.iter().all(|row| row.status == Status::Done),
                        "{fault:?} at step {step}"
                    );
                    if world.struck == 0 {
                        break;
                    }
                    step += 1;
                }
                assert!(step > 50, "only {step} steps");
            }
        }
    }
}

#[test]
fn every_fault_at_every_step_of_failing_stages() {
    for seed in 0..3 {
        for fault in FAULTS {
            for scene in [scene(seed), with_gpus(seed)] {
                let scene = Scene {
                    failing: 0.4,
                    ..scene
                };
                for step in 1.. {
                    let world = World::new(scene.clone(), Some((step, fault)), 0.0);
                    if world.run().struck == 0 {
                        break;
                    }
                }
            }
        }
    }
}

/// A scene of that seed in which anything may be.
fn any_scene(seed: u64) -> (Scene, f64) {
    let mut rng = KeyedRng::new(seed, Purpose::Test, 0, 99);
    let limits = Limits {
        max_fail: rng.chance(0.2).then_some(2),
        budget: rng
            .chance(0.2)
            .then_some(std::time::Duration::from_millis(rng.below(2_000))),
        canary: rng.chance(0.3),
        grace: None,
    };
    let scene = Scene {
        seed,
        stages: 1 + rng.below(14) as usize,
        schedulers: 1 + rng.below(3) as usize,
        slots: 1 + rng.below(3) as usize,
        gpus: if rng.chance(0.5) {
            1 + rng.below(3) as usize
        } else {
            0
        },
        per_gpu: 1 + rng.below(2) as usize,
        wide: rng.chance(0.5),
        memory: 5 + rng.below(20),
        failing: if rng.chance(0.5) { 0.3 } else { 0.0 },
        limits,
        stops: rng.chance(0.4),
    };
    let chaos = [0.0, 0.02, 0.02, 0.1][rng.below(4) as usize];
    (scene, chaos)
}

/// `ABLATE_TEST_SEEDS=FIRST..LAST` runs others, more of them.
#[test]
fn random_courses_with_many_faults() {
    let seeds = std::env::var("ABLATE_TEST_SEEDS").unwrap_or("0..3000".to_owned());
    let (first, last) = seeds.split_once("..").expect("FIRST..LAST");
    let (mut faults, mut attempts) = (0, 0);
    for seed in first.parse().unwrap()..last.parse().unwrap() {
        let (scene, chaos) = any_scene(seed);
        let world = World::new(scene, None, chaos).run();
        faults += world.struck;
        attempts += world.rows.iter().map(|row| row.attempts).sum::<u32>();
    }
    println!("seeds {seeds}: {attempts} attempts, {faults} faults");
}
