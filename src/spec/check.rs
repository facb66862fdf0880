//! Rules between fields: what no field can say alone.

use super::fields::index;
use super::policy::{self, Policy};
use super::problem::Severity;
use super::resolved::View;
use super::task::Task;
use super::value::Value;

const PATCH_SIZE: usize = index("model.patch_size");
const EMBED_DIM: usize = index("model.embed_dim");
const NUM_HEADS: usize = index("model.num_heads");
const RESOLUTION: usize = index("train.resolution");
const EPOCHS: usize = index("train.epochs");
const BATCH_SIZE: usize = index("train.batch_size");
const ACCUMULATION: usize = index("train.accumulation");
const OPTIMIZER: usize = index("optimizer.name");
const LR: usize = index("optimizer.lr");
const WEIGHT_DECAY: usize = index("optimizer.weight_decay");
const ALWAYS_ADAPT: usize = index("optimizer.always_adapt");
const NESTEROV: usize = index("optimizer.nesterov");
const MOMENTUM: usize = index("optimizer.momentum");
const SCHEDULE: usize = index("schedule.name");
const WARMUP_EPOCHS: usize = index("schedule.warmup_epochs");
const MIN_LR: usize = index("schedule.min_lr");
const LOSS: usize = index("loss.name");
const SMOOTHING: usize = index("loss.label_smoothing");
const MIXUP: usize = index("mix.mixup_alpha");
const CUTMIX: usize = index("mix.cutmix_alpha");
const MIX_PROB: usize = index("mix.prob");
const GROUPS: usize = index("mix.groups");
const CROP: usize = index("augment.crop");
const SRC_PADDING: usize = index("augment.src_padding");
const POLICY: usize = index("augment.policy");
const THREE_AUGMENT_OPS: usize = index("augment.three_augment_ops");
const COLOR_JITTER: usize = index("augment.color_jitter");
const EMA_DECAY: usize = index("ema.decay");
const EMA_EVAL: usize = index("ema.eval");
const EVAL_RESOLUTION: usize = index("eval.resolution");
const EVAL_RESOLUTIONS: usize = index("eval.resolutions");

/// A rule between fields.
pub struct Rule {
    pub severity: Severity,
    /// The fields it is about; the problem is shown at the one that was set last.
    pub fields: &'static [usize],
    /// Whether it is about training only.
    training: bool,
    broken: fn(&View<'_>) -> bool,
    /// Message and advice.
    explain: fn(&View<'_>) -> (String, &'static str),
}

impl Rule {
    /// Whether the recipe breaks the rule.
    pub fn is_broken(&self, view: &View<'_>, task: Task) -> bool {
        // A program of the user's own does with values what it likes.
        task != Task::Command && (!self.training || task == Task::Train) && (self.broken)(view)
    }

    /// What to say about a recipe that breaks it: message and advice (may be empty).
    pub fn explain(&self, view: &View<'_>) -> (String, &'static str) {
        (self.explain)(view)
    }
}

fn mixes(view: &View<'_>) -> bool {
    (view.number(MIXUP) > 0.0 || view.number(CUTMIX) > 0.0) && view.number(MIX_PROB) > 0.0
}

/// Images of a micro-batch that are mixed with each other.
fn share(view: &View<'_>) -> u64 {
    let parts = view.count(ACCUMULATION) * view.count(GROUPS);
    view.count(BATCH_SIZE).checked_div(parts).unwrap_or(0)
}

fn divides(view: &View<'_>) -> bool {
    let parts = view.count(ACCUMULATION) * view.count(GROUPS);
    parts > 0 && view.count(BATCH_SIZE).is_multiple_of(parts)
}

fn keeps_color_jitter(view: &View<'_>) -> bool {
    policy::parse(view.text(POLICY)).is_ok_and(Policy::keeps_color_jitter)
}

/// All rules.
pub const RULES: &[Rule] = &[
    Rule {
        severity: Severity::Error,
        fields: &[EMBED_DIM, NUM_HEADS],
        training: false,
        broken: |v| {
            v.count(NUM_HEADS) == 0 || !v.count(EMBED_DIM).is_multiple_of(v.count(NUM_HEADS))
        },
        explain: |v| {
            (
                format!(
                    "`model.embed_dim` {} is no multiple of `model.num_heads` {}",
                    v.count(EMBED_DIM),
                    v.count(NUM_HEADS)
                ),
                "",
            )
        },
    },
    Rule {
        severity: Severity::Error,
        fields: &[PATCH_SIZE, RESOLUTION],
        training: true,
        broken: |v| v.count(RESOLUTION) < v.count(PATCH_SIZE),
        explain: |v| {
            (
                format!(
                    "`train.resolution` {} is smaller than one patch ({})",
                    v.count(RESOLUTION),
                    v.count(PATCH_SIZE)
                ),
                "",
            )
        },
    },
    Rule {
        severity: Severity::Error,
        fields: &[PATCH_SIZE, EVAL_RESOLUTION],
        training: false,
        broken: |v| v.count(EVAL_RESOLUTION) < v.count(PATCH_SIZE),
        explain: |v| {
            (
                format!(
                    "`eval.resolution` {} is smaller than one patch ({})",
                    v.count(EVAL_RESOLUTION),
                    v.count(PATCH_SIZE)
                ),
                "",
            )
        },
    },
    Rule {
        severity: Severity::Error,
        fields: &[PATCH_SIZE, EVAL_RESOLUTIONS],
        training: false,
        broken: |v| {
            let smallest = v.value(EVAL_RESOLUTIONS).items().first();
            smallest.is_some_and(|side| side.as_count().unwrap_or(0) < v.count(PATCH_SIZE))
        },
        explain: |v| {
            let smallest = v.value(EVAL_RESOLUTIONS).items().first();
            (
                format!(
                    "`eval.resolutions` has {}, which is smaller than one patch ({})",
                    smallest.and_then(Value::as_count).unwrap_or(0),
                    v.count(PATCH_SIZE)
                ),
                "",
            )
        },
    },
    Rule {
        severity: Severity::Error,
        fields: &[BATCH_SIZE, ACCUMULATION, GROUPS],
        training: true,
        broken: |v| !divides(v),
        explain: |v| {
            (
                format!(
                    "`train.batch_size` {} is no multiple of `train.accumulation` {} x `mix.groups` {}",
                    v.count(BATCH_SIZE),
                    v.count(ACCUMULATION),
                    v.count(GROUPS)
                ),
                "every micro-batch holds the same number of images of every mixing group",
            )
        },
    },
    Rule {
        severity: Severity::Error,
        fields: &[BATCH_SIZE, ACCUMULATION, GROUPS, MIXUP, CUTMIX],
        training: true,
        broken: |v| mixes(v) && divides(v) && share(v) % 2 == 1,
        explain: |v| {
            (
                format!(
                    "Mixup and CutMix pair images, but a mixing group has {} of them",
                    share(v)
                ),
                "make `train.batch_size` / (`train.accumulation` x `mix.groups`) even",
            )
        },
    },
    Rule {
        severity: Severity::Error,
        fields: &[BATCH_SIZE],
        training: true,
        broken: |v| v.count(BATCH_SIZE) > v.shape.train_images as u64,
        explain: |v| {
            (
                format!(
                    "`train.batch_size` {} is larger than the training set ({} images)",
                    v.count(BATCH_SIZE),
                    v.shape.train_images
                ),
                "an epoch would have no step",
            )
        },
    },
    Rule {
        severity: Severity::Error,
        fields: &[LOSS, SMOOTHING],
        training: true,
        broken: |v| matches!(v.text(LOSS), "bce" | "bce_sum") && v.number(SMOOTHING) > 0.0,
        explain: |v| {
            (
                format!(
                    "`loss.name` {} can't be used with `loss.label_smoothing` {}",
                    v.text(LOSS),
                    v.number(SMOOTHING)
                ),
                "every class would become positive; set it to 0, or use `bce_soft`",
            )
        },
    },
    Rule {
        severity: Severity::Error,
        fields: &[EPOCHS, WARMUP_EPOCHS],
        training: true,
        broken: |v| v.count(WARMUP_EPOCHS) > v.count(EPOCHS),
        explain: |v| {
            (
                format!(
                    "`schedule.warmup_epochs` {} is more than `train.epochs` {}",
                    v.count(WARMUP_EPOCHS),
                    v.count(EPOCHS)
                ),
                "",
            )
        },
    },
    Rule {
        severity: Severity::Error,
        fields: &[EMA_DECAY, EMA_EVAL],
        training: true,
        broken: |v| *v.value(EMA_EVAL) == Value::Bool(true) && *v.value(EMA_DECAY) == Value::Null,
        explain: |_| {
            (
                "`ema.eval` needs an average, but `ema.decay` is null".to_owned(),
                "set `ema.decay`, such as 0.9999",
            )
        },
    },
    Rule {
        severity: Severity::Error,
        fields: &[POLICY, THREE_AUGMENT_OPS],
        training: true,
        broken: |v| {
            v.text(POLICY) == "three_augment"
                && *v.value(THREE_AUGMENT_OPS) == Value::List(Vec::new())
        },
        explain: |_| {
            (
                "`augment.policy` three_augment has no operation to choose from".to_owned(),
                "name some in `augment.three_augment_ops`, or write `augment.policy: none`",
            )
        },
    },
    Rule {
        severity: Severity::Error,
        fields: &[RESOLUTION, CROP, SRC_PADDING],
        training: true,
        broken: |v| v.text(CROP) == "src" && v.count(SRC_PADDING) >= v.count(RESOLUTION),
        explain: |v| {
            (
                format!(
                    "`augment.src_padding` {} can't be reflected from {} pixels",
                    v.count(SRC_PADDING),
                    v.count(RESOLUTION)
                ),
                "",
            )
        },
    },
    Rule {
        severity: Severity::Error,
        fields: &[OPTIMIZER, NESTEROV, MOMENTUM],
        training: true,
        broken: |v| {
            v.text(OPTIMIZER) == "sgd"
                && *v.value(NESTEROV) == Value::Bool(true)
                && v.number(MOMENTUM) == 0.0
        },
        explain: |_| {
            (
                "`optimizer.nesterov` needs `optimizer.momentum` above 0".to_owned(),
                "",
            )
        },
    },
    Rule {
        severity: Severity::Warning,
        fields: &[OPTIMIZER, WEIGHT_DECAY, ALWAYS_ADAPT],
        training: true,
        broken: |v| {
            v.text(OPTIMIZER) == "lamb"
                && v.number(WEIGHT_DECAY) == 0.0
                && *v.value(ALWAYS_ADAPT) == Value::Bool(false)
        },
        explain: |_| {
            (
                "LAMB with `optimizer.weight_decay` 0 has no trust ratio".to_owned(),
                "it is Adam then, as in the reference; a small decay or `optimizer.always_adapt` keeps the ratio",
            )
        },
    },
    Rule {
        severity: Severity::Warning,
        fields: &[LR, MIN_LR],
        training: true,
        broken: |v| v.text(SCHEDULE) != "constant" && v.number(MIN_LR) > v.number(LR),
        explain: |v| {
            (
                format!(
                    "`schedule.min_lr` {} is above `optimizer.lr` {}: the learning rate rises",
                    v.number(MIN_LR),
                    v.number(LR)
                ),
                "",
            )
        },
    },
    Rule {
        severity: Severity::Warning,
        fields: &[POLICY, COLOR_JITTER],
        training: true,
        broken: |v| v.number(COLOR_JITTER) > 0.0 && !keeps_color_jitter(v),
        explain: |v| {
            (
                format!(
                    "`augment.color_jitter` is not used with `augment.policy` {}",
                    v.text(POLICY)
                ),
                "set it to 0 there",
            )
        },
    },
];
