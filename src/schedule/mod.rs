//! The queue, slots, executors and retry policy.
