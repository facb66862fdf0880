//! The queue, slots, executors and retry policy: how the stages of a plan come to be done.
//!
//! One owner of state, messages only. [`core`] is a pure state machine (no clock, no files): it is
//! told what happened and answers with what to do. [`actor`] turns child exits, event logs, timers
//! and signals into messages in one order and carries the answers out. An
//! [`executor`] starts workers; [`device`] says what they may run on; [`policy`] says what becomes of
//! a failure; [`progress`] shows it all to the user.
//!
//! | file | owns |
//! | --- | --- |
//! | [`core`] | the state machine: queue, slots, leases, retries, limits, draining |
//! | [`policy`] | failure class → retries, back-off, hint |
//! | [`outcome`] | exit status + last words of a worker → what became of the attempt |
//! | [`actor`] | the loop around the core |
//! | [`execution`] | what goes into an execution and what comes out |
//! | [`attempt`] | one execution of a stage: its run directory, event log, log cap |
//! | [`device`] | slots: CPU cores and GPUs, and what else uses them |
//! | [`executor`] | starting, signalling and reaping workers |
//! | [`progress`] | bars and lines on stderr, and the socket of those who watch |
//! | [`clock`] | time at work, without the time that it stood still |
//! | [`jobs`] | the stages of the plans, each once, and what is known of them |
//! | [`reconcile`] | what a scheduler that died has left: its leases are taken over |
//! | [`peers`] | the other schedulers of the store |
//! | [`notices`] | what the file system tells: event logs that grow, peers that have news |
//! | [`signals`] | signals to the scheduler, as messages |
//! | [`energy`] | what attempts use of it, where the machine counts |
//! | [`eta`] | when it will be done |
//! | `guard` | what the loop does about long attempts, a full disk and lost memory |
//! | [`watchdog`] | attempts that take too long or stand still |
//! | [`process_tree`] | what a worker and its processes are doing, and signals to all of them |
//! | [`space`] | room on the store's disk |
//! | [`relief`] | what a stage that ran out of memory may do with less |

pub mod actor;
pub mod attempt;
pub mod clock;
pub mod core;
pub mod device;
pub mod energy;
pub mod eta;
pub mod execution;
pub mod executor;
mod guard;
pub mod jobs;
pub mod notices;
pub mod outcome;
pub mod peers;
pub mod policy;
pub mod process_tree;
pub mod progress;
pub mod reconcile;
pub mod relief;
pub mod signals;
pub mod space;
mod symptom;
pub mod watchdog;

#[cfg(test)]
mod core_devices_tests;
#[cfg(test)]
mod core_tests;
#[cfg(test)]
mod core_why_tests;
#[cfg(test)]
mod process_tests;
#[cfg(test)]
mod simulator;
