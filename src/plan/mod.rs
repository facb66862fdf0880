//! Expansion of an experiment into runs and stages, fingerprints, cost estimates.

pub mod model;
