//! The whole chain from a decoded image to a normalised tensor `[3, R, R]`.
//!
//! Training: crop, horizontal flip, policy, colour jitter (with 3-Augment or no policy only), normalise, random
//! erasing. Everything up to the jitter works on 8-bit images, as in the reference.

use super::center_crop::CenterCrop;
use super::normalize::normalize;
use super::ops::{Op, geometry};
use super::random_resized_crop::{self, RandomResizedCrop};
use super::rgb8::Rect;
use super::simple_random_crop::{Corner, SimpleRandomCrop};
use super::{DataError, Rgb8, color_jitter, random_erasing, three_augment, trivial_augment};
use crate::rng::KeyedRng;
use crate::spec::policy::{self, Policy};
use crate::spec::recipe::{AugmentConfig, CropName, ThreeAugmentOp};

/// The largest resolution: more is a slip of the pen, and its square must stay addressable.
const MAX_RESOLUTION: usize = 1 << 14;

/// The training transform of a recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainTransform {
    resolution: usize,
    crop: Crop,
    hflip: f64,
    policy: Policy,
    three_augment_ops: Vec<ThreeAugmentOp>,
    color_jitter: f64,
    random_erasing: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Crop {
    Rrc(RandomResizedCrop),
    Src(SimpleRandomCrop),
    Center,
}

/// A crop with its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CropDraw {
    /// Random resized crop of this rectangle.
    Rrc(Rect),
    /// Simple random crop at this corner.
    Src(SimpleRandomCrop, Corner),
    /// Resize and centre crop.
    Center,
}

/// All that was drawn for one image, except erasing noise.
#[derive(Debug, Clone, PartialEq)]
pub struct Draw {
    /// Where the image is cut.
    pub crop: CropDraw,
    /// Whether it is mirrored.
    pub hflip: bool,
    /// Policy and colour jitter, in order.
    pub ops: Vec<Op>,
    /// The box that noise fills.
    pub erase: Option<Rect>,
}

impl TrainTransform {
    /// The transform of the recipe's `augment` section for square images of side `resolution`.
    ///
    /// # Errors
    /// [`DataError::Config`] for a policy that does not parse and numbers outside their range.
    pub fn new(config: &AugmentConfig, resolution: usize) -> Result<TrainTransform, DataError> {
        check_resolution(resolution, "train.resolution")?;
        let probability = |field, value: f64| match (0.0..=1.0).contains(&value) {
            true => Ok(value),
            false => Err(DataError::config(
                field,
                format!("{value} is no probability"),
            )),
        };
        let crop = match config.crop {
            CropName::Rrc => {
                let [low, high] = config.rrc_scale;
                if !(0.0 < low && low <= high && high <= 1.0) {
                    let message = format!("[{low}, {high}] is not a range within (0, 1]");
                    return Err(DataError::config("augment.rrc_scale", message));
                }
                let [low, high] = config.rrc_ratio;
                if !(0.0 < low && low <= high && high.is_finite()) {
                    let message = format!("[{low}, {high}] is not a range of positive numbers");
                    return Err(DataError::config("augment.rrc_ratio", message));
                }
                Crop::Rrc(RandomResizedCrop {
                    scale: config.rrc_scale,
                    ratio: config.rrc_ratio,
                })
            }
            CropName::Src => {
                let padding = config.src_padding;
                if padding > MAX_RESOLUTION {
                    let message = format!("{padding} is more than {MAX_RESOLUTION}");
                    return Err(DataError::config("augment.src_padding", message));
                }
                Crop::Src(SimpleRandomCrop {
                    size: resolution,
                    padding,
                })
            }
            CropName::Center => Crop::Center,
        };
        let policy = policy::parse(&config.policy).map_err(|(why, advice)| {
            DataError::config("augment.policy", format!("{why}; {advice}"))
        })?;
        if policy == Policy::ThreeAugment && config.three_augment_ops.is_empty() {
            let message = "3-Augment needs at least one operation to choose from";
            return Err(DataError::config("augment.three_augment_ops", message));
        }
        if !(config.color_jitter >= 0.0 && config.color_jitter.is_finite()) {
            let message = format!("{} is not a number from 0 up", config.color_jitter);
            return Err(DataError::config("augment.color_jitter", message));
        }
        Ok(TrainTransform {
            resolution,
            crop,
            hflip: probability("augment.hflip", config.hflip)?,
            policy,
            three_augment_ops: config.three_augment_ops.clone(),
            color_jitter: config.color_jitter,
            random_erasing: probability("augment.random_erasing", config.random_erasing)?,
        })
    }

    /// Side R of the square result, in pixels.
    pub fn resolution(&self) -> usize {
        self.resolution
    }

    /// Draws the parameters for an image of `width` x `height`.
    pub fn draw(&self, width: usize, height: usize, rng: &mut KeyedRng) -> Draw {
        let crop = match self.crop {
            Crop::Rrc(crop) => CropDraw::Rrc(crop.draw(width, height, rng)),
            Crop::Src(crop) => CropDraw::Src(crop, crop.draw(width, height, rng)),
            Crop::Center => CropDraw::Center,
        };
        let hflip = rng.chance(self.hflip);
        let mut ops = match self.policy {
            Policy::None => Vec::new(),
            Policy::ThreeAugment => {
                let op = three_augment::draw(&self.three_augment_ops, rng);
                op.into_iter().collect()
            }
            Policy::RandAugment(policy) => policy.draw(rng),
            Policy::AutoAugment(policy) => policy.draw(rng),
            Policy::TrivialAugment => trivial_augment::draw(rng).into_iter().collect(),
        };
        if self.color_jitter > 0.0 && self.policy.keeps_color_jitter() {
            ops.extend(color_jitter::draw(self.color_jitter, rng));
        }
        let side = self.resolution;
        let erase = random_erasing::draw(self.random_erasing, side, side, rng);
        Draw {
            crop,
            hflip,
            ops,
            erase,
        }
    }

    /// Applies what was drawn up to the normalisation: the 8-bit image of side R.
    pub fn apply_draw(&self, image: &Rgb8, draw: &Draw) -> Rgb8 {
        let mut cropped = match draw.crop {
            CropDraw::Rrc(rect) => random_resized_crop::apply(image, rect, self.resolution),
            CropDraw::Src(crop, corner) => crop.apply(image, corner),
            CropDraw::Center => {
                CenterCrop::new(image.width(), image.height(), self.resolution, 1.0).apply(image)
            }
        };
        if draw.hflip {
            geometry::hflip(&mut cropped);
        }
        for op in &draw.ops {
            op.apply(&mut cropped);
        }
        cropped
    }

    /// Draws, applies and normalises: writes the `[3, R, R]` values to `out`. Panics if `out` has
    /// another length: a defect of the caller.
    pub fn apply(&self, image: &Rgb8, rng: &mut KeyedRng, out: &mut [f32]) {
        let draw = self.draw(image.width(), image.height(), rng);
        normalize(&self.apply_draw(image, &draw), out);
        if let Some(rect) = draw.erase {
            random_erasing::apply(out, self.resolution, rect, rng);
        }
    }
}

/// The evaluation's transform: resize, centre crop, normalise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EvalTransform {
    resolution: usize,
    crop_ratio: f64,
}

impl EvalTransform {
    /// Centre crops of side `resolution` from images whose shorter side was resized to
    /// `resolution / crop_ratio`.
    ///
    /// # Errors
    /// [`DataError::Config`] for a resolution of 0 or a crop ratio outside (0, 1].
    pub fn new(resolution: usize, crop_ratio: f64) -> Result<EvalTransform, DataError> {
        check_resolution(resolution, "eval.resolution")?;
        let smallest = resolution as f64 / MAX_RESOLUTION as f64;
        if !(crop_ratio >= smallest && crop_ratio <= 1.0) {
            let message = format!("{crop_ratio} is not a number within (0, 1] of a usable size");
            return Err(DataError::config("eval.crop_ratio", message));
        }
        Ok(EvalTransform {
            resolution,
            crop_ratio,
        })
    }

    /// Side R of the square result, in pixels.
    pub fn resolution(&self) -> usize {
        self.resolution
    }

    /// The 8-bit image of side R.
    pub fn crop(&self, image: &Rgb8) -> Rgb8 {
        CenterCrop::new(
            image.width(),
            image.height(),
            self.resolution,
            self.crop_ratio,
        )
        .apply(image)
    }

    /// Writes the `[3, R, R]` values to `out`. Panics if `out` has another length: a defect of the
    /// caller.
    pub fn apply(&self, image: &Rgb8, out: &mut [f32]) {
        normalize(&self.crop(image), out);
    }
}

fn check_resolution(resolution: usize, field: &'static str) -> Result<(), DataError> {
    if (1..=MAX_RESOLUTION).contains(&resolution) {
        return Ok(());
    }
    let message = format!("{resolution} is not a side from 1 to {MAX_RESOLUTION} pixels");
    Err(DataError::config(field, message))
}
