//! The order of an epoch.

use crate::data::Sampler;
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn an_epoch_without_repeats_is_a_permutation() {
    let sampler = Sampler::new(103, 10, 1, 1, 7).unwrap();
    let order = sampler.epoch(0);
    assert_eq!((order.len(), sampler.steps_per_epoch()), (100, 10));
    let distinct: BTreeSet<u32> = order.iter().copied().collect();
    assert_eq!(distinct.len(), 100);
    assert!(distinct.iter().all(|i| *i < 103));
    assert_eq!(order, sampler.epoch(0));
    assert_ne!(order, sampler.epoch(1));
    assert_ne!(order, Sampler::new(103, 10, 1, 1, 8).unwrap().epoch(0));
}

#[test]
fn copies_share_a_step_and_never_a_group() {
    let (batch, repeats, groups) = (48, 3, 4);
    let sampler = Sampler::new(1000, batch, repeats, groups, 3).unwrap();
    let order = sampler.epoch(5);
    assert_eq!(order.len(), 1000 / batch * batch);
    let distinct: BTreeSet<u32> = order.iter().copied().collect();
    assert_eq!(distinct.len(), order.len() / repeats);

    let mut apart = 0;
    let mut steps: BTreeMap<u32, BTreeSet<usize>> = BTreeMap::new();
    for (step, batch) in order.chunks(batch).enumerate() {
        for group in batch.chunks(12) {
            let distinct: BTreeSet<u32> = group.iter().copied().collect();
            assert_eq!(distinct.len(), group.len(), "an image twice in a group");
        }
        for index in batch {
            steps.entry(*index).or_default().insert(step);
        }
    }
    apart += steps.values().filter(|steps| steps.len() > 1).count();
    assert!(
        apart <= order.len() / batch,
        "{apart} images are spread over steps"
    );
}

#[test]
fn small_sets_and_bad_numbers() {
    // Shorter than 256: the reference would select nothing.
    let sampler = Sampler::new(50, 24, 3, 2, 0).unwrap();
    assert_eq!(sampler.epoch(0).len(), 48);
    for (samples, batch, repeats, groups, field) in [
        (10, 11, 1, 1, "train.batch_size"),
        (10, 0, 1, 1, "train.batch_size"),
        (10, 4, 0, 1, "train.repeated_augmentation"),
        (10, 4, 3, 3, "mix.groups"),
        (10, 4, 1, 0, "mix.groups"),
    ] {
        let message = Sampler::new(samples, batch, repeats, groups, 0)
            .unwrap_err()
            .to_string();
        assert!(message.starts_with(field), "{message}");
    }
}
