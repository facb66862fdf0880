//! The order of the samples in an epoch, with repeated augmentation.
//!
//! In the reference each index of the permutation is repeated three times in a row and GPU r of R
//! takes positions r, r + R, ...: the copies of an image land on different GPUs, nearly always in
//! the same step, so that mixing never pairs an image with itself. Here the recipe's mixing groups
//! take the place of the GPUs.
//!
//! Two deviations. The reference cuts an epoch to a multiple of 256 samples and so selects nothing
//! from data sets shorter than that; here an epoch has as many full batches as the data set has,
//! which is the same wherever 256 divides the batch. And the reference repeats only in distributed
//! runs; here the recipe says whether it does.

use super::DataError;
use crate::rng::{KeyedRng, Purpose};

/// Draws the order of each epoch of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampler {
    samples: usize,
    batch_size: usize,
    repeats: usize,
    groups: usize,
    seed: u64,
}

impl Sampler {
    /// For a training split of `samples` images in batches of `batch_size`. `repeats` is the
    /// recipe's `train.repeated_augmentation` (1: off) and `groups` its `mix.groups`.
    ///
    /// # Errors
    /// [`DataError::Config`] if a number is zero, a batch is larger than the split, or repeats are on
    /// and the groups do not divide the batch.
    pub fn new(
        samples: usize,
        batch_size: usize,
        repeats: usize,
        groups: usize,
        seed: u64,
    ) -> Result<Sampler, DataError> {
        if batch_size == 0 || batch_size > samples {
            let message = format!(
                "a batch of {batch_size} samples cannot be filled from {samples} training images"
            );
            return Err(DataError::config("train.batch_size", message));
        }
        if u32::try_from(samples).is_err() {
            return Err(DataError::config(
                "data",
                format!("{samples} images are too many"),
            ));
        }
        if repeats == 0 {
            let message = "1 turns it off, 0 would leave no samples";
            return Err(DataError::config("train.repeated_augmentation", message));
        }
        if groups == 0 || (repeats > 1 && !batch_size.is_multiple_of(groups)) {
            let message = format!("{groups} groups do not divide a batch of {batch_size} samples");
            return Err(DataError::config("mix.groups", message));
        }
        Ok(Sampler {
            samples,
            batch_size,
            repeats,
            groups,
            seed,
        })
    }

    /// Samples per batch.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// The seed of the run.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Full batches in an epoch; the rest is dropped.
    pub fn steps_per_epoch(&self) -> usize {
        self.samples / self.batch_size
    }

    /// Indices into the training split of all batches of `epoch`, one after the other. With
    /// repeated augmentation an epoch is as long as without, so that it shows about one image in
    /// `repeats`.
    pub fn epoch(&self, epoch: u32) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.samples as u32).collect();
        KeyedRng::new(self.seed, Purpose::Order, epoch, 0).shuffle(&mut order);
        let length = self.steps_per_epoch() * self.batch_size;
        if self.repeats == 1 {
            order.truncate(length);
            return order;
        }
        let per_rank = length / self.groups;
        let local_batch = self.batch_size / self.groups;
        let ranks: Vec<Vec<u32>> = (0..self.groups)
            .map(|rank| repeated_augmentation(&order, self.repeats, self.groups, rank, per_rank))
            .collect();
        (0..self.steps_per_epoch())
            .flat_map(|step| {
                ranks
                    .iter()
                    .flat_map(move |rank| &rank[step * local_batch..][..local_batch])
            })
            .copied()
            .collect()
    }
}

/// What process `rank` of `world` reads: each index of `permutation` is repeated `repeats` times in
/// a row, the list is padded from its front to a multiple of `world`, and of the positions
/// `rank`, `rank + world`, ... the first `selected` are taken.
pub fn repeated_augmentation(
    permutation: &[u32],
    repeats: usize,
    world: usize,
    rank: usize,
    selected: usize,
) -> Vec<u32> {
    let repeated = permutation.len() * repeats;
    let padded = repeated.next_multiple_of(world);
    (rank..padded)
        .step_by(world)
        .take(selected)
        .map(|position| permutation[position % repeated / repeats])
        .collect()
}

/// Samples per process of the reference's epoch: `floor(floor(n / 256) * 256 / world)`.
pub fn reference_selected(samples: usize, world: usize) -> usize {
    samples / 256 * 256 / world
}
