//! The table of recipe fields: the one place that says what a field is called, what it may hold,
//! what it defaults to and where its meaning comes from.
//!
//! Validation, the JSON Schema, the reference in `docs/yaml.md`, canonical texts and fingerprints are
//! all made from this table. Its order is part of every fingerprint.

use super::problem::nearest;

/// What a field may hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Bool,
    /// A whole number in `min..=max`.
    Integer {
        min: i64,
        max: i64,
    },
    /// A number in the range.
    Number(Range),
    /// Two ascending numbers in the range.
    Pair(Range),
    /// Two numbers in the range, in any order.
    Couple(Range),
    Choice(&'static [&'static str]),
    /// A list of different choices; may be empty.
    Choices(&'static [&'static str]),
    /// A set of whole numbers in `min..=max`, kept in ascending order; may be empty.
    Integers {
        min: i64,
        max: i64,
    },
    /// A set of data sets' names, kept in order; may be empty. They name files and columns of tables,
    /// so they are short and plain, and none is `val`.
    Names,
    /// Any text.
    Text,
    /// A text of `spec::policy`.
    Policy,
}

/// A range of numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    pub min: f64,
    pub max: f64,
    /// Whether `min` itself is excluded.
    pub above_min: bool,
    /// Whether `max` itself is excluded.
    pub below_max: bool,
}

impl Range {
    const fn closed(min: f64, max: f64) -> Range {
        Range {
            min,
            max,
            above_min: false,
            below_max: false,
        }
    }

    const fn above(min: f64, max: f64) -> Range {
        Range {
            min,
            max,
            above_min: true,
            below_max: false,
        }
    }

    const fn below(min: f64, max: f64) -> Range {
        Range {
            min,
            max,
            above_min: false,
            below_max: true,
        }
    }

    /// Whether `value` lies in the range.
    pub fn contains(&self, value: f64) -> bool {
        value.is_finite()
            && (if self.above_min {
                value > self.min
            } else {
                value >= self.min
            })
            && (if self.below_max {
                value < self.max
            } else {
                value <= self.max
            })
    }

    /// The bound that `value` breaks, in words.
    pub fn words_against(&self, value: f64) -> String {
        if value > self.max && self.max >= LARGE {
            return format!("at most {LARGE:e}");
        }
        self.words()
    }

    /// In words: `0 to 1`, `above 0`.
    pub fn words(&self) -> String {
        let unbounded = self.max >= LARGE;
        match (self.above_min, unbounded, self.below_max) {
            (true, true, _) => format!("above {}", self.min),
            (false, true, _) => format!("at least {}", self.min),
            (true, false, _) => format!("above {}, at most {}", self.min, self.max),
            (false, false, true) => format!("at least {}, below {}", self.min, self.max),
            (false, false, false) => format!("{} to {}", self.min, self.max),
        }
    }
}

/// Upper bound of fields that have none of their own.
pub const LARGE: f64 = 1e9;
const POSITIVE: Range = Range::above(0.0, LARGE);
const NON_NEGATIVE: Range = Range::closed(0.0, LARGE);
const UNIT: Range = Range::closed(0.0, 1.0);
const BELOW_ONE: Range = Range::below(0.0, 1.0);
const fn count(min: i64, max: i64) -> Kind {
    Kind::Integer { min, max }
}

/// A field of the recipe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Field {
    /// Path in YAML and in `Recipe`: `optimizer.lr`.
    pub path: &'static str,
    pub kind: Kind,
    /// Whether `null` is a value.
    pub nullable: bool,
    /// As YAML; `None`: the recipe must say it.
    pub default: Option<&'static str>,
    /// Whether it is part of a stage's identity. A data set's location is not: its content hash is.
    pub identity: bool,
    /// One line: meaning, unit, source.
    pub doc: &'static str,
}

const fn field(
    path: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    doc: &'static str,
) -> Field {
    Field {
        path,
        kind,
        nullable: false,
        default,
        identity: true,
        doc,
    }
}

const fn nullable(
    path: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    doc: &'static str,
) -> Field {
    Field {
        path,
        kind,
        nullable: true,
        default,
        identity: true,
        doc,
    }
}

const fn location(
    path: &'static str,
    nullable: bool,
    default: Option<&'static str>,
    doc: &'static str,
) -> Field {
    Field {
        path,
        kind: Kind::Text,
        nullable,
        default,
        identity: false,
        doc,
    }
}

/// Number of fields.
pub const COUNT: usize = FIELDS.len();

/// Every field of a recipe, in the order of fingerprints.
pub const FIELDS: &[Field] = &[
    field(
        "model.patch_size",
        count(1, 256),
        None,
        "Side of a square patch in pixels; what an image side leaves over is not seen.",
    ),
    field(
        "model.embed_dim",
        count(1, 16384),
        None,
        "Width of the residual stream.",
    ),
    field(
        "model.depth",
        count(1, 512),
        None,
        "Number of blocks in sequence.",
    ),
    field(
        "model.num_heads",
        count(1, 512),
        None,
        "Attention heads; must divide `model.embed_dim`.",
    ),
    field(
        "model.mlp_ratio",
        Kind::Number(Range::above(0.0, 64.0)),
        Some("4"),
        "Hidden width of the MLP over `model.embed_dim`.",
    ),
    field(
        "model.parallel_branches",
        count(1, 8),
        Some("1"),
        "Attention and MLP branches side by side in a block (2: arXiv 2203.09795, section 3).",
    ),
    nullable(
        "model.layer_scale",
        Kind::Number(POSITIVE),
        Some("1e-4"),
        "Initial value of LayerScale's per-channel factors; null: no LayerScale (DeiT III: 1e-4).",
    ),
    field(
        "model.drop_path",
        Kind::Number(BELOW_ONE),
        Some("0"),
        "Rate of stochastic depth.",
    ),
    field(
        "model.drop_path_rule",
        Kind::Choice(&["constant", "linear"]),
        Some("constant"),
        "Rate over depth: the same in every block (DeiT III) or linear from 0 (DeiT).",
    ),
    field(
        "model.pos_embed_class",
        Kind::Bool,
        Some("false"),
        "Whether the class token has a position embedding (DeiT: true, DeiT III: false).",
    ),
    location(
        "data.name",
        false,
        Some("bluemarble-climate"),
        "Data set; `bluemarble-climate` is built in, others are looked up (`--data NAME=PATH`).",
    ),
    location(
        "data.root",
        true,
        Some("null"),
        "An image folder (`train/<class>/*`, `val/<class>/*`); replaces the look-up by name.",
    ),
    field(
        "train.resolution",
        count(1, 4096),
        None,
        "Side of the square training images in pixels.",
    ),
    field("train.epochs", count(1, 1_000_000), None, "Epochs."),
    field(
        "train.batch_size",
        count(1, 1_048_576),
        None,
        "Images per optimizer step; the rest of an epoch that fills no batch is dropped.",
    ),
    field(
        "train.accumulation",
        count(1, 65_536),
        Some("1"),
        "Micro-batches per optimizer step.",
    ),
    field(
        "train.repeated_augmentation",
        count(1, 64),
        Some("1"),
        "Copies of an image in an epoch's list (1: off; DeiT III on ImageNet-1k: 3).",
    ),
    Field {
        identity: false,
        ..field(
            "train.gradient_checkpointing",
            Kind::Bool,
            Some("false"),
            "Run blocks again in the backward pass instead of keeping their tensors: less memory, about a third more work, the same results (on a CPU; elsewhere it has no effect).",
        )
    },
    field(
        "optimizer.name",
        Kind::Choice(&["lamb", "adamw", "sgd"]),
        None,
        "Optimizer.",
    ),
    field(
        "optimizer.lr",
        Kind::Number(NON_NEGATIVE),
        None,
        "Peak learning rate, used as it is (no scaling by batch size).",
    ),
    field(
        "optimizer.weight_decay",
        Kind::Number(NON_NEGATIVE),
        None,
        "Decay of matrices; not of vectors, position embedding and class token.",
    ),
    field(
        "optimizer.betas",
        Kind::Couple(BELOW_ONE),
        Some("[0.9, 0.999]"),
        "Decay rates of the two moments (LAMB, AdamW).",
    ),
    field(
        "optimizer.eps",
        Kind::Number(POSITIVE),
        Some("1e-8"),
        "Added to the root of the second moment (LAMB, AdamW).",
    ),
    field(
        "optimizer.momentum",
        Kind::Number(BELOW_ONE),
        Some("0.9"),
        "Momentum (SGD).",
    ),
    field(
        "optimizer.nesterov",
        Kind::Bool,
        Some("false"),
        "Nesterov momentum (SGD).",
    ),
    nullable(
        "optimizer.max_grad_norm",
        Kind::Number(POSITIVE),
        Some("null"),
        "Largest global L2 norm of the gradient; null: no clipping (LAMB of the reference: 1).",
    ),
    field(
        "optimizer.always_adapt",
        Kind::Bool,
        Some("false"),
        "LAMB: trust ratio for tensors without weight decay, too (timm's `always_adapt`; the reference: false).",
    ),
    field(
        "optimizer.trust_clip",
        Kind::Bool,
        Some("false"),
        "LAMB: trust ratio of at most 1 (timm's `trust_clip`, `lambc`; the reference: false).",
    ),
    field(
        "schedule.name",
        Kind::Choice(&["cosine", "cosine_per_step", "constant"]),
        Some("cosine"),
        "Course of the learning rate; `cosine` is the reference's: constant in an epoch, shifted by one.",
    ),
    field(
        "schedule.warmup_epochs",
        count(0, 1_000_000),
        Some("5"),
        "Epochs of linear warm-up.",
    ),
    field(
        "schedule.warmup_lr",
        Kind::Number(NON_NEGATIVE),
        Some("1e-6"),
        "Learning rate at the start.",
    ),
    field(
        "schedule.min_lr",
        Kind::Number(NON_NEGATIVE),
        Some("1e-5"),
        "Learning rate at the end of the cosine.",
    ),
    field(
        "loss.name",
        Kind::Choice(&["ce", "bce", "bce_sum", "bce_soft", "bce_soft_sum"]),
        None,
        "`ce`: soft-target cross-entropy; `bce`: binary, on the target binarised by > 0, mean over batch and classes; `bce_soft`: binary, on the soft target; `bce_sum`, `bce_soft_sum`: the same summed over classes, mean over the batch.",
    ),
    field(
        "loss.label_smoothing",
        Kind::Number(BELOW_ONE),
        Some("0"),
        "Label smoothing; must be 0 with `bce`.",
    ),
    field(
        "mix.mixup_alpha",
        Kind::Number(NON_NEGATIVE),
        Some("0"),
        "Mixup's Beta parameter; 0: no Mixup.",
    ),
    field(
        "mix.cutmix_alpha",
        Kind::Number(NON_NEGATIVE),
        Some("0"),
        "CutMix's Beta parameter; 0: no CutMix.",
    ),
    field(
        "mix.prob",
        Kind::Number(UNIT),
        Some("1"),
        "Probability that a group is mixed at all.",
    ),
    field(
        "mix.switch_prob",
        Kind::Number(UNIT),
        Some("0.5"),
        "Probability of CutMix where both are on.",
    ),
    field(
        "mix.groups",
        count(1, 65_536),
        Some("1"),
        "Independent draws per optimizer step; the reference draws once per GPU (8 or 32).",
    ),
    field(
        "augment.crop",
        Kind::Choice(&["rrc", "src", "center"]),
        None,
        "`rrc`: random resized crop; `src`: simple random crop; `center`: no randomness.",
    ),
    field(
        "augment.rrc_scale",
        Kind::Pair(Range::above(0.0, 1.0)),
        Some("[0.08, 1.0]"),
        "Random resized crop: range of the area fraction.",
    ),
    field(
        "augment.rrc_ratio",
        Kind::Pair(Range::above(0.0, 100.0)),
        Some("[0.75, 1.3333333333333333]"),
        "Random resized crop: range of the aspect ratio.",
    ),
    field(
        "augment.src_padding",
        count(0, 1024),
        Some("4"),
        "Simple random crop: reflected padding in pixels.",
    ),
    field(
        "augment.hflip",
        Kind::Number(UNIT),
        Some("0.5"),
        "Probability of a horizontal flip.",
    ),
    field(
        "augment.policy",
        Kind::Policy,
        None,
        "`none`, `three_augment`, `trivialaugment` (torchvision's Wide), RandAugment or AutoAugment as timm writes them (`rand-m9-mstd0.5-inc1`, `original-mstd0.5`; `autoaugment` is `original`).",
    ),
    field(
        "augment.three_augment_ops",
        Kind::Choices(&["grayscale", "solarize", "gaussian_blur"]),
        Some("[grayscale, solarize, gaussian_blur]"),
        "What 3-Augment chooses from, one operation per image.",
    ),
    field(
        "augment.color_jitter",
        Kind::Number(UNIT),
        Some("0"),
        "Brightness, contrast and saturation factors from [1 - x, 1 + x]; used with `none` and `three_augment` only (3-Augment: 0.3).",
    ),
    field(
        "augment.random_erasing",
        Kind::Number(UNIT),
        Some("0"),
        "Probability of random erasing.",
    ),
    nullable(
        "ema.decay",
        Kind::Number(BELOW_ONE),
        Some("null"),
        "Decay of a moving average of the weights; null: none is kept.",
    ),
    field(
        "ema.eval",
        Kind::Bool,
        Some("false"),
        "Evaluate the average instead of the raw weights.",
    ),
    nullable(
        "eval.resolution",
        count(1, 4096),
        Some("null"),
        "Side of the test images in pixels; null: `train.resolution`.",
    ),
    field(
        "eval.crop_ratio",
        Kind::Number(Range::above(0.0, 1.0)),
        Some("1"),
        "Centre crop over resized short side (DeiT III: 1, DeiT: 0.875).",
    ),
    field(
        "eval.every",
        count(1, 1_000_000),
        Some("1"),
        "Epochs between evaluations; the last epoch is always evaluated.",
    ),
    field(
        "eval.resolutions",
        Kind::Integers { min: 1, max: 4096 },
        Some("[]"),
        "Further test resolutions that the final weights are evaluated at, on `val`; the result stays `eval.resolution`'s.",
    ),
    field(
        "eval.sets",
        Kind::Names,
        Some("[]"),
        "Further evaluation sets for the final weights, at `eval.resolution`: names, looked up like `data.name`.",
    ),
];

/// Shorthand that stands for several fields of `model` (`spec::arch`).
pub const ARCH: &str = "model.arch";

/// Index of the field with this path.
pub fn find(path: &str) -> Option<usize> {
    FIELDS.iter().position(|field| field.path == path)
}

/// Index of a field that is known to exist (paths written in this program).
pub const fn index(path: &str) -> usize {
    let mut i = 0;
    while i < FIELDS.len() {
        if same(FIELDS[i].path.as_bytes(), path.as_bytes()) {
            return i;
        }
        i += 1;
    }
    panic!("no such field")
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Whether `path` names a section (`optimizer`).
pub fn is_section(path: &str) -> bool {
    sections().any(|section| section == path)
}

/// Names of the recipe's sections, in order.
pub fn sections() -> impl Iterator<Item = &'static str> + Clone {
    let mut last = "";
    FIELDS.iter().filter_map(move |field| {
        let section = field.path.split('.').next().unwrap_or_default();
        (section != last).then(|| {
            last = section;
            section
        })
    })
}

/// All paths a patch may name.
pub fn paths() -> impl Iterator<Item = &'static str> + Clone {
    FIELDS.iter().map(|field| field.path).chain([ARCH])
}

/// The known path that an unknown one is most likely meant to be. Old and common names of other
/// programs are known too.
pub fn nearest_path(path: &str) -> Option<&'static str> {
    const ALIASES: &[(&str, &str)] = &[
        ("learning_rate", "optimizer.lr"),
        ("unscale_lr", "optimizer.lr"),
        ("wd", "optimizer.weight_decay"),
        ("opt", "optimizer.name"),
        ("batch", "train.batch_size"),
        ("input_size", "train.resolution"),
        ("img_size", "train.resolution"),
        ("image_size", "train.resolution"),
        ("layerscale", "model.layer_scale"),
        ("stochastic_depth", "model.drop_path"),
        ("mixup", "mix.mixup_alpha"),
        ("cutmix", "mix.cutmix_alpha"),
        ("smoothing", "loss.label_smoothing"),
        ("aa", "augment.policy"),
        ("reprob", "augment.random_erasing"),
        ("clip_grad", "optimizer.max_grad_norm"),
        ("nvlamb", "optimizer.always_adapt"),
        ("three_augment", "augment.policy"),
        ("repeated_aug", "train.repeated_augmentation"),
    ];
    let last = path.rsplit('.').next().unwrap_or(path).replace('-', "_");
    if let Some((_, target)) = ALIASES.iter().find(|(alias, _)| *alias == last) {
        return Some(target);
    }
    nearest(path, paths())
}
