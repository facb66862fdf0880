//! The SQLite store: migrations, queries, views; the only SQL.
//!
//! A store is a folder with `ablate.db` and `stages/`. The database is an index over what the run
//! directories say, and the only memory of plans and attempts. Schedulers write side by side, each under a
//! shared [`StoreLock`] and as an [`Owner`] of leases; what must be alone takes the lock exclusively. Any
//! number read, and never block them (WAL).
//!
//! Every change of state is on disk before the call returns (`synchronous = FULL`). Events are stored
//! with `synchronous = NORMAL`: a power loss may take the last of them together with the sequence number
//! of the last event stored, which lies in the same transaction, so the next scheduler reads the event
//! log on from there. The next change of state syncs them too, since it comes later in the same WAL.

mod attempts;
mod bulk;
mod connection;
mod curves;
mod error;
mod extract;
mod facts;
mod garbage;
mod gpus;
mod ingest;
mod journal;
mod kin;
mod leases;
mod lock;
mod marks;
mod network;
mod open;
mod owner;
mod patience;
mod plans;
mod query;
mod reads;
mod records;
mod recover;
mod reference;
mod reopen;
pub mod rows;
mod scan;
mod status;
mod verify;
mod views;

pub use attempts::{AttemptEnd, AttemptStart, StageState, abandoned};
pub use error::StoreError;
pub use extract::View;
pub use facts::{MachineRow, PlanRow, StageRow, TroubledAttempt};
pub use garbage::{Garbage, Item, KeepWeights, KeepWork, Named, Policy as GarbagePolicy, Reason};
pub use gpus::AttemptGpu;
pub use kin::{Leaseholder, SavedPlan};
pub use leases::{Change, Claim, Lease};
pub(crate) use lock::utc;
pub use lock::{StoreHolder, StoreLock};
pub use marks::{Marks, Note, Tag};
pub use open::Store;
pub use owner::{Life, Owner, OwnerLock, folder as owner_folder};
#[cfg(test)]
pub(crate) use plans::Parts;
pub use plans::Provenance;
pub use query::{Cell, Query, Rows};
pub use recover::{Recovered, check, recover};
pub use status::{ExperimentStatus, RunningStage};
pub use views::{ColumnDoc, ViewDoc, view_docs};

#[cfg(test)]
pub(crate) mod tests;
