//! Expansion of an experiment into runs and stages, fingerprints, cost estimates.
//!
//! | module | owns |
//! | --- | --- |
//! | [`model`] | the plan as plain data |
//! | [`build`] | from an experiment to its plan |
//! | [`design`] | from axes to variants |
//! | `command` | stages that run a program: command lines and input files |
//! | [`inputs`] | files that programs read |
//! | [`init`] | files of weights that stages start from |
//! | [`layers`] | which value of a field wins |
//! | [`difference`] | what distinguishes two stages |
//! | `identify` | checks, costs and fingerprints of all stages |
//! | `share` | equal stages become one |
//! | [`fingerprint`] | identity of stages |
//! | [`cost`] | parameters, operations, steps and bytes |
//! | [`memory`] | what a stage needs of a machine's memory |

pub mod build;
mod command;
pub mod cost;
pub mod design;
pub mod difference;
pub mod fingerprint;
mod identify;
pub mod init;
pub mod inputs;
pub mod layers;
pub mod memory;
pub mod model;
mod share;

pub use build::{
    DEFAULT_MAX_CELLS, DataDescription, Request, Resolver, Resolvers, SetResolver, plan, plan_file,
    plan_file_with, plan_with,
};

#[cfg(test)]
mod command_tests;
#[cfg(test)]
mod tests;
