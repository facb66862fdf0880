//! `ablate`: declarative experiments and ablations for training Vision Transformers.
//!
//! The rooms of the house, lowest first; a room imports only rooms above it in this list:
//!
//! | room | owns |
//! | --- | --- |
//! | [`rng`] | keyed random numbers: every draw is a function of its key |
//! | [`spec`] | the YAML language: documents, positions, fields, defaults, validation, JSON Schema |
//! | [`rundir`] | the run directory: layout, event log, predictions; the interface of a worker |
//! | [`plan`] | expansion into runs and stages, fingerprints, cost estimates |
//! | [`store`] | the SQLite store: migrations, queries, views; the only SQL |
//! | [`kernel`] | fused operations on the CPU |
//! | [`data`] [`model`] [`loss`] [`optim`] | the pieces of the recipe |
//! | [`weights`] | files of weights: published ones in, ours out |
//! | [`train`] | the training loop, evaluation, checkpoints |
//! | [`worker`] | one stage in one process |
//! | [`schedule`] | the queue, slots, executors and retry policy |
//! | [`report`] | statistics, tables and plots |
//! | [`cli`] | one file per command |

pub mod cli;
pub mod data;
pub mod kernel;
pub mod loss;
pub mod model;
pub mod optim;
pub mod plan;
pub mod report;
pub mod rng;
pub mod rundir;
pub mod schedule;
pub mod spec;
pub mod store;
pub mod train;
pub mod weights;
pub mod worker;
