//! Learning-rate schedules.
//!
//! The reference's cosine (timm's `CosineLRScheduler` without warmup prefix): linear warmup from
//! `warmup_lr`, then a cosine that is counted from epoch 0, so that at the end of the warmup the
//! rate is already a little below its peak, which is never reached.
//!
//! Trap, kept as it is: the reference steps its scheduler with the index of the epoch that has just
//! ended, so epoch e trains at f(e - 1); epochs 0 and 1 both run at `warmup_lr`, and f(epochs - 1)
//! is never used.

use crate::spec::recipe::{ScheduleConfig, ScheduleName};

/// A learning-rate curve over a stage.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    name: ScheduleName,
    lr: f64,
    warmup_epochs: f64,
    warmup_lr: f64,
    min_lr: f64,
    epochs: f64,
}

impl Schedule {
    /// Peak rate `lr` over `epochs` epochs.
    pub fn new(config: &ScheduleConfig, lr: f64, epochs: usize) -> Self {
        Schedule {
            name: config.name,
            lr,
            warmup_epochs: config.warmup_epochs as f64,
            warmup_lr: config.warmup_lr,
            min_lr: config.min_lr,
            epochs: epochs as f64,
        }
    }

    /// The curve at time `t` in epochs.
    pub fn at(&self, t: f64) -> f64 {
        if self.name == ScheduleName::Constant {
            return if t < self.warmup_epochs {
                self.warmup(t)
            } else {
                self.lr
            };
        }
        if t < self.warmup_epochs {
            self.warmup(t)
        } else if t < self.epochs {
            let phase = std::f64::consts::PI * t / self.epochs;
            self.min_lr + 0.5 * (self.lr - self.min_lr) * (1.0 + phase.cos())
        } else {
            self.min_lr
        }
    }

    fn warmup(&self, t: f64) -> f64 {
        self.warmup_lr + t * (self.lr - self.warmup_lr) / self.warmup_epochs
    }

    /// The rate of a step: `epoch` counts from 0, `progress` is the part of the epoch that is done.
    pub fn lr(&self, epoch: usize, progress: f64) -> f64 {
        match self.name {
            ScheduleName::Cosine | ScheduleName::Constant => {
                // Epoch 0 uses the constructor's value, f(0).
                self.at(epoch.saturating_sub(1) as f64)
            }
            ScheduleName::CosinePerStep => self.at(epoch as f64 + progress),
        }
    }
}
