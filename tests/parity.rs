//! Agreement with the reference implementation, measured against numeric fixtures from PyTorch and
//! timm.
//!
//! Fixtures lie in `tests/parity`, or in the folder that `ABLATE_PARITY_DIR` names. Every case of a
//! manifest is run, and one line a case prints the measured deviation beside the tolerance
//! (`cargo test --release --test parity -- --nocapture`).

#[path = "parity_cases/fixture.rs"]
mod fixture;
#[path = "parity_cases/losses.rs"]
mod losses;
#[path = "parity_cases/models.rs"]
mod models;
#[path = "parity_cases/optim.rs"]
mod optim;
#[path = "parity_cases/posembed.rs"]
mod posembed;
#[path = "parity_cases/schedule.rs"]
mod schedule;
#[path = "parity_cases/trace.rs"]
mod trace;
