//! What a stage that ran out of memory may do with less: the parts of an optimizer step halved in size and
//! doubled in number, so that the batch stays.
//!
//! Batches, augmentation, mixing and drop path are drawn for the whole step before it is cut into parts, and
//! nothing in the model looks across samples. So the mathematics is the same: each part's loss is a mean over
//! equally many samples, and the gradient is the mean of theirs. What changes is the order in which floats are
//! added: results agree up to rounding, not to the bit.

use crate::rundir::layout::RunDir;
use crate::rundir::stage::{Launch, StageSpec, Task};

/// The next number of parts after `parts` of a batch of `batch` samples: at least twice as many, all equal.
/// `None` where a part is a single sample already.
pub fn more_parts(batch: usize, parts: usize) -> Option<usize> {
    (parts.max(1) * 2..=batch).find(|&more| batch.is_multiple_of(more))
}

/// The number of parts that the stage's last attempt was told to take, where it was told.
pub fn parts_of_last_launch(dir: &RunDir) -> Option<usize> {
    let text = std::fs::read(dir.launch()).ok()?;
    serde_json::from_slice::<Launch>(&text).ok()?.accumulation
}

/// The number of parts for the attempt after one that ran out of memory with `told` parts (`None`: those of
/// the recipe). `None`: the stage can't do with less.
pub fn after_out_of_memory(spec: &StageSpec, told: Option<usize>) -> Option<usize> {
    if spec.task != Task::Train {
        return None;
    }
    let train = &spec.recipe.train;
    more_parts(train.batch_size, told.unwrap_or(train.accumulation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stay_equal() {
        assert_eq!(more_parts(64, 1), Some(2));
        assert_eq!(more_parts(64, 32), Some(64));
        assert_eq!(more_parts(64, 64), None);
        assert_eq!(more_parts(48, 4), Some(8));
        assert_eq!(more_parts(12, 4), Some(12), "8 doesn't divide 12");
        assert_eq!(more_parts(9, 1), Some(3));
        assert_eq!(more_parts(1, 1), None);
        for batch in 1..200 {
            let mut parts = 1;
            while let Some(more) = more_parts(batch, parts) {
                assert!(more >= 2 * parts && batch % more == 0);
                parts = more;
            }
            assert_eq!(parts, batch, "down to single samples");
        }
    }
}
