//! Where the time of a step goes.

use serde::Serialize;
use std::time::Instant;

/// Seconds of one training step, phase by phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Phases {
    /// Waiting for the batch; without loader threads, preparing it.
    pub data: f64,
    /// Mixing images, targets, masks of stochastic depth.
    pub mix: f64,
    /// Images and targets to tensors.
    pub input: f64,
    /// Forward pass and loss, read back.
    pub forward: f64,
    pub backward: f64,
    /// Sum of micro-batches, clipping, update, average, new leaves.
    pub optimizer: f64,
}

impl Phases {
    /// The whole step.
    pub fn total(&self) -> f64 {
        self.data + self.work() + self.around()
    }

    /// Forward and backward pass.
    pub fn work(&self) -> f64 {
        self.forward + self.backward
    }

    /// What is neither data nor the passes themselves: mixing, conversion, update.
    pub fn around(&self) -> f64 {
        self.mix + self.input + self.optimizer
    }
}

/// A clock of laps.
#[derive(Debug)]
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    /// Adds the seconds since the last lap to `phase`.
    pub fn lap(&mut self, phase: &mut f64) {
        let now = Instant::now();
        *phase += (now - self.0).as_secs_f64();
        self.0 = now;
    }
}
