//! Who watches a stage: takes its events and may ask it to stop.

use super::TrainError;
use crate::rundir::event::EventKind;

pub trait Observer {
    /// Takes an event.
    fn event(&mut self, event: EventKind) -> Result<(), TrainError>;

    /// Makes the events so far survive a power loss.
    fn sync(&mut self) -> Result<(), TrainError>;

    /// Whether the stage should write a checkpoint and leave.
    fn stop_requested(&self) -> bool;
}
