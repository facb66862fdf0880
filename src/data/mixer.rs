//! Mixing of a batch and its soft targets, as timm's Mixup in batch mode.
//!
//! The reference draws once per GPU: a step has several draws. Here a batch is split into equal
//! contiguous groups, each with a draw of its own; partners are always of the same group.

use super::rgb8::Rect;
use super::{DataError, cutmix, mixup};
use crate::rng::{KeyedRng, Purpose};
use crate::spec::recipe::MixConfig;

/// What happens to one group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mix {
    /// Nothing.
    Off,
    /// Mixup with this weight of the own image.
    Mixup {
        /// Weight of the own image.
        lam: f64,
    },
    /// CutMix with this box.
    CutMix {
        /// What is pasted from the partner.
        cut: Rect,
        /// Fraction of the image outside the box.
        lam: f64,
    },
}

impl Mix {
    /// Weight of the own label in the targets.
    pub fn lam(self) -> f64 {
        match self {
            Mix::Off => 1.0,
            Mix::Mixup { lam } | Mix::CutMix { lam, .. } => lam,
        }
    }
}

/// Mixes batches of a recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixer {
    config: MixConfig,
    classes: usize,
    smoothing: f64,
}

impl Mixer {
    /// For `classes` classes and targets smoothed by `smoothing` (the recipe's
    /// `loss.label_smoothing`).
    ///
    /// # Errors
    /// [`DataError::Config`] for numbers outside their range.
    pub fn new(config: &MixConfig, classes: usize, smoothing: f64) -> Result<Mixer, DataError> {
        let check = |field, value: f64, most: f64| match value >= 0.0 && value <= most {
            true => Ok(()),
            false => Err(DataError::config(
                field,
                format!("{value} is not within [0, {most}]"),
            )),
        };
        check("mix.mixup_alpha", config.mixup_alpha, 1e6)?;
        check("mix.cutmix_alpha", config.cutmix_alpha, 1e6)?;
        check("mix.prob", config.prob, 1.0)?;
        check("mix.switch_prob", config.switch_prob, 1.0)?;
        check("loss.label_smoothing", smoothing, 1.0)?;
        if config.groups == 0 {
            return Err(DataError::config(
                "mix.groups",
                "at least one group is needed",
            ));
        }
        if classes == 0 {
            return Err(DataError::config("data", "at least one class is needed"));
        }
        Ok(Mixer {
            config: config.clone(),
            classes,
            smoothing,
        })
    }

    /// Whether any group can be mixed.
    pub fn is_active(&self) -> bool {
        self.config.prob > 0.0 && (self.config.mixup_alpha > 0.0 || self.config.cutmix_alpha > 0.0)
    }

    /// Draws what happens to a group of images of `width` x `height`.
    pub fn draw(&self, width: usize, height: usize, rng: &mut KeyedRng) -> Mix {
        let config = &self.config;
        if !self.is_active() || !rng.chance(config.prob) {
            return Mix::Off;
        }
        let use_cutmix = match (config.mixup_alpha > 0.0, config.cutmix_alpha > 0.0) {
            (true, true) => rng.chance(config.switch_prob),
            (_, cutmix) => cutmix,
        };
        if use_cutmix {
            let lam = rng.beta(config.cutmix_alpha, config.cutmix_alpha);
            let cut = cutmix::draw_box(width, height, lam, rng);
            Mix::CutMix {
                cut,
                lam: cutmix::corrected_lam(width, height, cut),
            }
        } else {
            Mix::Mixup {
                lam: rng.beta(config.mixup_alpha, config.mixup_alpha),
            }
        }
    }

    /// Applies `mix` to a group `[B, 3, height, width]`.
    pub fn apply(images: &mut [f32], width: usize, height: usize, mix: Mix) {
        match mix {
            Mix::Off => {}
            Mix::Mixup { lam } => mixup::apply(images, 3 * width * height, lam),
            Mix::CutMix { cut, .. } => cutmix::apply(images, width, height, cut),
        }
    }

    /// Targets `[B, classes]` of a group with labels `labels`: `lam y + (1 - lam) partner`, where y
    /// is `1 - s + s / classes` at the label and `s / classes` elsewhere.
    pub fn targets(&self, labels: &[u32], mix: Mix) -> Vec<f32> {
        let off = self.smoothing / self.classes as f64;
        let (on, off) = ((1.0 - self.smoothing + off) as f32, off as f32);
        let (own, other) = (mix.lam() as f32, (1.0 - mix.lam()) as f32);
        let mut targets = vec![own * off + other * off; labels.len() * self.classes];
        let rows = targets.chunks_exact_mut(self.classes);
        for (row, (&label, &partner)) in rows.zip(labels.iter().zip(labels.iter().rev())) {
            if label == partner {
                row[label as usize] = own * on + other * on;
            } else {
                row[label as usize] = own * on + other * off;
                row[partner as usize] = own * off + other * on;
            }
        }
        targets
    }

    /// Mixes a whole batch in place, `images` being `[B, 3, height, width]`, and returns its targets
    /// `[B, classes]`. Each group's draw is keyed by (`seed`, `epoch`, `step` of the epoch, group).
    ///
    /// # Errors
    /// [`DataError::Config`] if the batch does not split into the groups, or a group that can be
    /// mixed is odd (its middle sample would be its own partner).
    #[allow(clippy::too_many_arguments)] // a batch and a key; a struct for one call says no more
    pub fn mix_batch(
        &self,
        images: &mut [f32],
        labels: &[u32],
        width: usize,
        height: usize,
        seed: u64,
        epoch: u32,
        step: u64,
    ) -> Result<Vec<f32>, DataError> {
        self.check_batch(labels.len())?;
        let groups = self.config.groups as u64;
        let group = labels.len() / self.config.groups;
        let mut targets = Vec::with_capacity(labels.len() * self.classes);
        if group == 0 {
            return Ok(targets);
        }
        let parts = images.chunks_exact_mut(group * 3 * width * height);
        for (i, (images, labels)) in parts.zip(labels.chunks_exact(group)).enumerate() {
            let key = step * groups + i as u64;
            let mut rng = KeyedRng::new(seed, Purpose::Mix, epoch, key);
            let mix = self.draw(width, height, &mut rng);
            Mixer::apply(images, width, height, mix);
            targets.append(&mut self.targets(labels, mix));
        }
        Ok(targets)
    }

    /// Whether a batch of `batch` samples can be mixed.
    ///
    /// # Errors
    /// As [`Mixer::mix_batch`].
    pub fn check_batch(&self, batch: usize) -> Result<(), DataError> {
        let groups = self.config.groups;
        if !batch.is_multiple_of(groups) {
            let message = format!("{groups} groups do not divide a batch of {batch} samples");
            return Err(DataError::config("mix.groups", message));
        }
        let group = batch / groups;
        if self.is_active() && !group.is_multiple_of(2) {
            let message = format!(
                "a batch of {batch} samples in {groups} groups gives groups of {group}; mixing \
                 pairs samples, so groups must be even"
            );
            return Err(DataError::config("mix.groups", message));
        }
        Ok(())
    }
}
