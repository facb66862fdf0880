//! Data sets, image operations, augmentation, sampling and batches.
