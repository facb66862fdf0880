//! The recipe: a complete training configuration.
//!
//! Plain data. Every field has a value by the time a worker sees it; the table of fields in
//! `spec::fields` gives each its type, range, default and documentation, and a test holds the two
//! together.

use serde::{Deserialize, Serialize};

/// A complete training configuration. Field paths in YAML are the paths of this structure
/// (`optimizer.lr`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    pub model: ModelConfig,
    pub data: DataConfig,
    pub train: TrainConfig,
    pub optimizer: OptimizerConfig,
    pub schedule: ScheduleConfig,
    pub loss: LossConfig,
    pub mix: MixConfig,
    pub augment: AugmentConfig,
    pub ema: EmaConfig,
    pub eval: EvalConfig,
}

/// The Vision Transformer. `model.arch` in YAML is shorthand that `plan` expands into these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Side of a square patch in pixels. An image side that is no multiple of it loses the rest.
    pub patch_size: usize,
    /// Width d of the residual stream.
    pub embed_dim: usize,
    /// Number of (attention, MLP) layer pairs in sequence.
    pub depth: usize,
    pub num_heads: usize,
    /// Hidden width of the MLP over `embed_dim`.
    pub mlp_ratio: f64,
    /// Branches side by side in each block (1: the usual block; 2: "Three things everyone should
    /// know about ViTs").
    pub parallel_branches: usize,
    /// Initial value of LayerScale's per-channel factors; null: no LayerScale.
    pub layer_scale: Option<f64>,
    /// Stochastic depth rate.
    pub drop_path: f64,
    /// Rate over depth: the same everywhere (DeiT III) or linear from 0 (DeiT).
    pub drop_path_rule: DropPathRule,
    /// Whether the class token has a position embedding (DeiT: yes, DeiT III: no).
    pub pos_embed_class: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropPathRule {
    Constant,
    Linear,
}

/// The data set. Its location is not part of the recipe's identity: its content hash is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// `bluemarble-climate` is embedded; any other name is looked up (`--data NAME=PATH`,
    /// `ABLATE_DATA_<NAME>`, the user's `data.yaml`).
    pub name: String,
    /// An image folder (`train/<class>/*`, `val/<class>/*`); overrides the look-up by name.
    pub root: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Side of the square training images in pixels.
    pub resolution: usize,
    pub epochs: usize,
    /// Samples per optimizer step, over all devices and accumulation steps. The rest of an epoch
    /// that does not fill a batch is dropped.
    pub batch_size: usize,
    /// Micro-batches per optimizer step.
    pub accumulation: usize,
    /// Copies of a sample per epoch in repeated augmentation (1: off, DeiT III: 3).
    pub repeated_augmentation: usize,
    /// Run blocks again in the backward pass instead of keeping their tensors. Changes no result, so it
    /// is not part of a stage's identity.
    #[serde(default)]
    pub gradient_checkpointing: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    pub name: OptimizerName,
    /// Peak learning rate, used as it is (no scaling by batch size).
    pub lr: f64,
    /// Applies to tensors of two and more dimensions except position embedding and class token.
    pub weight_decay: f64,
    pub betas: [f64; 2],
    pub eps: f64,
    /// SGD only.
    pub momentum: f64,
    /// SGD only.
    pub nesterov: bool,
    /// Largest global L2 norm of the gradient; null: no clipping.
    pub max_grad_norm: Option<f64>,
    /// LAMB only: trust ratio for tensors without weight decay, too.
    pub always_adapt: bool,
    /// LAMB only: trust ratio of at most 1.
    pub trust_clip: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerName {
    Lamb,
    #[serde(rename = "adamw")]
    AdamW,
    Sgd,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    pub name: ScheduleName,
    pub warmup_epochs: usize,
    pub warmup_lr: f64,
    pub min_lr: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleName {
    /// The reference's: constant within an epoch, epoch e trains at f(e - 1).
    Cosine,
    /// The same curve evaluated at every step, without the reference's shift.
    CosinePerStep,
    Constant,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    pub name: LossName,
    pub label_smoothing: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossName {
    /// Soft-target cross-entropy: sum over classes, mean over the batch.
    Ce,
    /// Binary cross-entropy on the binarised target (> 0 becomes 1): mean over batch and classes.
    Bce,
    /// Binary cross-entropy on the binarised target: sum over classes, mean over the batch.
    BceSum,
    /// Binary cross-entropy on the soft target: mean over batch and classes.
    BceSoft,
    /// Binary cross-entropy on the soft target: sum over classes, mean over the batch.
    BceSoftSum,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixConfig {
    /// 0: no Mixup.
    pub mixup_alpha: f64,
    /// 0: no CutMix.
    pub cutmix_alpha: f64,
    /// Probability that a group is mixed at all.
    pub prob: f64,
    /// Probability of CutMix where both are on.
    pub switch_prob: f64,
    /// Independent draws per optimizer step: the reference draws once per GPU (8 or 32).
    pub groups: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AugmentConfig {
    pub crop: CropName,
    /// Random resized crop: range of the area fraction.
    pub rrc_scale: [f64; 2],
    /// Random resized crop: range of the aspect ratio.
    pub rrc_ratio: [f64; 2],
    /// Simple random crop: reflected padding in pixels.
    pub src_padding: usize,
    pub hflip: f64,
    /// A policy in the notation of `spec::policy` (`three_augment`, `rand-m9-mstd0.5-inc1`).
    pub policy: String,
    /// The operations that 3-Augment chooses from, one per image.
    pub three_augment_ops: Vec<ThreeAugmentOp>,
    /// Brightness, contrast and saturation factors are drawn from [1 - x, 1 + x]; 0: off.
    /// Used with the policies `none` and `three_augment` only, as in timm.
    pub color_jitter: f64,
    /// Probability of random erasing.
    pub random_erasing: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CropName {
    /// Random resized crop.
    Rrc,
    /// Simple random crop.
    Src,
    /// The evaluation's resize and centre crop: no randomness.
    Center,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThreeAugmentOp {
    Grayscale,
    Solarize,
    GaussianBlur,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmaConfig {
    /// Decay of the exponential moving average of the weights; null: none is kept.
    pub decay: Option<f64>,
    /// Evaluate the average instead of the raw weights.
    pub eval: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalConfig {
    /// Side of the square test images; null in YAML means `train.resolution`.
    pub resolution: usize,
    /// Centre crop over resized short side (DeiT III: 1.0, DeiT: 0.875).
    pub crop_ratio: f64,
    /// Epochs between evaluations; the last epoch is always evaluated.
    pub every: usize,
    /// Further test resolutions of the final weights, ascending.
    pub resolutions: Vec<usize>,
    /// Names of further evaluation sets of the final weights, in order. Their content is identified
    /// by `StageSpec::evaluation_sets`.
    pub sets: Vec<String>,
}
