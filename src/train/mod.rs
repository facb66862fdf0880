//! The training loop, evaluation, checkpoints.

pub mod bench;
pub mod calibration;
pub mod checkpoint;
pub mod device;
pub mod error;
pub mod evaluation;
pub mod further;
pub mod observer;
pub mod phases;
pub mod products;
pub mod stage;
pub mod step;

pub use error::TrainError;
pub use observer::Observer;
pub use stage::run;
