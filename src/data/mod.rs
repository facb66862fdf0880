//! Data: from image files to the batches that a training step reads.
//!
//! | part | owns |
//! | --- | --- |
//! | [`dataset`] | data sets: the embedded one and image folders; [`locate`] finds them by name, [`content_hash`] identifies their content |
//! | [`evaluation_set`] | further sets of images for the evaluation of a trained model |
//! | [`decode`] [`rgb8`] | files to 8-bit RGB |
//! | [`ops`] | image operations with given parameters, byte for byte those of Pillow |
//! | [`random_resized_crop`] [`simple_random_crop`] [`center_crop`] [`three_augment`] [`color_jitter`] [`rand_augment`] [`auto_augment`] [`trivial_augment`] [`random_erasing`] | the recipe's random transforms: the draw of parameters apart from their application |
//! | [`transform`] | the whole chain from a decoded image to a normalised tensor |
//! | [`mixup`] [`cutmix`] [`mixer`] | mixing of samples in a batch |
//! | [`sampler`] [`loader`] | the order of an epoch and its batches |
//!
//! Every draw comes from a [`crate::rng::KeyedRng`], so nothing here depends on the number of
//! threads or on where a run was interrupted.

pub mod auto_augment;
pub mod center_crop;
pub mod color_jitter;
pub mod content_hash;
pub mod cutmix;
pub mod dataset;
pub mod decode;
pub mod embedded;
pub mod error;
pub mod evaluation_set;
pub mod image_folder;
pub mod loader;
pub mod locate;
pub mod mixer;
pub mod mixup;
pub mod normalize;
pub mod ops;
pub mod rand_augment;
pub mod random_erasing;
pub mod random_resized_crop;
pub mod rgb8;
pub mod sampler;
pub mod simple_random_crop;
pub mod three_augment;
pub mod transform;
pub mod trivial_augment;

#[cfg(test)]
mod tests;

pub use dataset::{Dataset, Split};
pub use error::DataError;
pub use evaluation_set::EvaluationSet;
pub use loader::{Batch, Loader};
pub use mixer::Mixer;
pub use rgb8::Rgb8;
pub use sampler::Sampler;
pub use transform::{EvalTransform, TrainTransform};
