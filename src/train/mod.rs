//! The training loop, evaluation, checkpoints.
