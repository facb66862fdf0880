//! What a stage costs: parameters, floating-point operations, steps and bytes (of memory: [`memory`]).
//!
//! Operations are counted as in the tables of the field, two for each multiply-add: patch projection,
//! linear layers, the two products of attention, and the head; norms, activations and biases are left
//! out (well under 1 %). The backward pass counts twice the forward pass.

use super::memory;
use super::model::Cost;
use crate::rundir::stage::{DataShape, NamedSet, Task};
use crate::spec::fields::index;
use crate::spec::recipe::{ModelConfig, OptimizerName, Recipe};
use crate::spec::resolved::View;
use crate::spec::value::Value;

/// What the size of a Vision Transformer depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VitShape {
    pub patch_size: u64,
    pub embed_dim: u64,
    pub depth: u64,
    pub num_heads: u64,
    pub parallel_branches: u64,
    pub mlp_ratio: f64,
    pub layer_scale: bool,
    pub pos_embed_class: bool,
    pub classes: u64,
}

impl VitShape {
    /// The recipe's model for so many classes.
    pub fn new(model: &ModelConfig, classes: usize) -> VitShape {
        VitShape {
            patch_size: model.patch_size as u64,
            embed_dim: model.embed_dim as u64,
            depth: model.depth as u64,
            num_heads: model.num_heads as u64,
            parallel_branches: model.parallel_branches as u64,
            mlp_ratio: model.mlp_ratio,
            layer_scale: model.layer_scale.is_some(),
            pos_embed_class: model.pos_embed_class,
            classes: classes as u64,
        }
    }

    /// Patches of a square image with side `resolution`, and the class token.
    pub fn tokens(&self, resolution: u64) -> u64 {
        self.patches(resolution) + 1
    }

    /// Hidden width of the MLP.
    pub fn hidden_dim(&self) -> u64 {
        (self.embed_dim as f64 * self.mlp_ratio) as u64
    }

    /// Patches of a square image with side `resolution` in pixels.
    pub fn patches(&self, resolution: u64) -> u64 {
        let side = resolution.checked_div(self.patch_size).unwrap_or(0);
        side * side
    }

    /// Number of trained parameters; the position embedding is for images of `resolution` pixels.
    pub fn parameters(&self, resolution: u64) -> u64 {
        let (d, h) = (self.embed_dim, self.hidden_dim());
        let patch = 3 * self.patch_size * self.patch_size * d + d;
        let tokens = d + d * (self.patches(resolution) + u64::from(self.pos_embed_class));
        let attention = 2 * d + (3 * d * d + 3 * d) + (d * d + d);
        let mlp = 2 * d + (d * h + h) + (h * d + d);
        let scale = if self.layer_scale { 2 * d } else { 0 };
        let blocks = self.depth * self.parallel_branches * (attention + mlp + scale);
        let head = 2 * d + d * self.classes + self.classes;
        patch + tokens + blocks + head
    }

    /// Operations of one forward pass of one image with side `resolution`.
    pub fn forward_flops(&self, resolution: u64) -> f64 {
        let (d, h) = (self.embed_dim as f64, self.hidden_dim() as f64);
        let patches = self.patches(resolution) as f64;
        let tokens = patches + 1.0;
        let patch = 2.0 * patches * 3.0 * (self.patch_size * self.patch_size) as f64 * d;
        let linear = 2.0 * tokens * (4.0 * d * d + 2.0 * d * h);
        let attention = 4.0 * tokens * tokens * d;
        let blocks = (self.depth * self.parallel_branches) as f64 * (linear + attention);
        patch + blocks + 2.0 * d * self.classes as f64
    }
}

/// What the cost of a stage depends on besides its model.
#[derive(Debug, Clone)]
struct Work {
    train_resolution: u64,
    eval_resolution: u64,
    epochs: u64,
    batch_size: u64,
    eval_every: u64,
    /// Further test resolutions of the final weights on `val`.
    resolutions: Vec<u64>,
    /// Images of the further evaluation sets.
    set_images: Vec<u64>,
    /// Copies of the parameters in a checkpoint besides the parameters.
    state_copies: u64,
    /// Micro-batches per step.
    accumulation: u64,
    /// What the images of a micro-batch are a multiple of.
    multiple: u64,
    /// Gradient checkpointing.
    recompute: bool,
}

impl Work {
    /// What memory depends on, for a data set of this shape.
    fn load(&self, shape: DataShape) -> memory::Load {
        let sides = self.resolutions.iter().copied();
        memory::Load {
            train_resolution: self.train_resolution,
            batch_size: self.batch_size,
            accumulation: self.accumulation,
            multiple: self.multiple,
            recompute: self.recompute,
            fused: memory::is_fused(),
            data_bytes: shape.kept_bytes,
            state_copies: self.state_copies,
            eval_resolution: sides.fold(self.eval_resolution, u64::max),
            eval_images: self
                .set_images
                .iter()
                .copied()
                .fold(shape.val_images as u64, u64::max),
        }
    }
}

/// The cost of a stage.
pub fn of_recipe(recipe: &Recipe, task: Task, shape: DataShape, sets: &[NamedSet]) -> Cost {
    let (vit, work) = parts(recipe, shape, sets);
    total(&vit, &work, task, shape)
}

/// What a stage's memory depends on.
pub fn load_of(recipe: &Recipe, shape: DataShape, sets: &[NamedSet]) -> (VitShape, memory::Load) {
    let (vit, work) = parts(recipe, shape, sets);
    let load = work.load(shape);
    (vit, load)
}

fn parts(recipe: &Recipe, shape: DataShape, sets: &[NamedSet]) -> (VitShape, Work) {
    let vit = VitShape::new(&recipe.model, shape.classes);
    let moments = if recipe.optimizer.name == OptimizerName::Sgd {
        1
    } else {
        2
    };
    let work = Work {
        train_resolution: recipe.train.resolution as u64,
        eval_resolution: recipe.eval.resolution as u64,
        epochs: recipe.train.epochs as u64,
        batch_size: recipe.train.batch_size as u64,
        eval_every: recipe.eval.every as u64,
        resolutions: further(
            recipe.eval.resolution as u64,
            recipe.eval.resolutions.iter().map(|&side| side as u64),
        ),
        set_images: set_images(sets),
        state_copies: moments + u64::from(recipe.ema.decay.is_some()),
        accumulation: recipe.train.accumulation as u64,
        multiple: memory::Load::of_training(recipe).multiple,
        recompute: recipe.train.gradient_checkpointing,
    };
    (vit, work)
}

/// The test resolutions besides the headline's.
fn further(headline: u64, all: impl Iterator<Item = u64>) -> Vec<u64> {
    all.filter(|&side| side != headline).collect()
}

fn set_images(sets: &[NamedSet]) -> Vec<u64> {
    sets.iter().map(|set| set.images as u64).collect()
}

/// The same from numbers of values.
pub(in crate::plan) fn of_view(view: &View<'_>, task: Task, sets: &[NamedSet]) -> Cost {
    const PATCH_SIZE: usize = index("model.patch_size");
    const EMBED_DIM: usize = index("model.embed_dim");
    const DEPTH: usize = index("model.depth");
    const HEADS: usize = index("model.num_heads");
    const BRANCHES: usize = index("model.parallel_branches");
    const MLP_RATIO: usize = index("model.mlp_ratio");
    const LAYER_SCALE: usize = index("model.layer_scale");
    const POS_CLASS: usize = index("model.pos_embed_class");
    const OPTIMIZER: usize = index("optimizer.name");
    const EMA: usize = index("ema.decay");
    const RESOLUTION: usize = index("train.resolution");
    const EVAL_RESOLUTION: usize = index("eval.resolution");
    const EPOCHS: usize = index("train.epochs");
    const BATCH_SIZE: usize = index("train.batch_size");
    const ACCUMULATION: usize = index("train.accumulation");
    const RECOMPUTE: usize = index("train.gradient_checkpointing");
    const GROUPS: usize = index("mix.groups");
    const MIXUP: usize = index("mix.mixup_alpha");
    const CUTMIX: usize = index("mix.cutmix_alpha");
    const MIX_PROB: usize = index("mix.prob");
    const EVERY: usize = index("eval.every");
    const RESOLUTIONS: usize = index("eval.resolutions");
    let vit = VitShape {
        patch_size: view.count(PATCH_SIZE),
        embed_dim: view.count(EMBED_DIM),
        depth: view.count(DEPTH),
        num_heads: view.count(HEADS),
        parallel_branches: view.count(BRANCHES),
        mlp_ratio: view.number(MLP_RATIO),
        layer_scale: *view.value(LAYER_SCALE) != Value::Null,
        pos_embed_class: *view.value(POS_CLASS) == Value::Bool(true),
        classes: view.shape.classes as u64,
    };
    let moments = if view.text(OPTIMIZER) == "sgd" { 1 } else { 2 };
    let work = Work {
        train_resolution: view.count(RESOLUTION),
        eval_resolution: view.count(EVAL_RESOLUTION),
        epochs: view.count(EPOCHS),
        batch_size: view.count(BATCH_SIZE),
        eval_every: view.count(EVERY),
        resolutions: further(
            view.count(EVAL_RESOLUTION),
            view.value(RESOLUTIONS)
                .items()
                .iter()
                .filter_map(Value::as_count),
        ),
        set_images: set_images(sets),
        state_copies: moments + u64::from(*view.value(EMA) != Value::Null),
        accumulation: view.count(ACCUMULATION),
        multiple: memory::multiple(
            view.count(GROUPS),
            (view.number(MIXUP) > 0.0 || view.number(CUTMIX) > 0.0) && view.number(MIX_PROB) > 0.0,
        ),
        recompute: *view.value(RECOMPUTE) == Value::Bool(true),
    };
    total(&vit, &work, task, view.shape)
}

fn total(vit: &VitShape, work: &Work, task: Task, shape: DataShape) -> Cost {
    let parameters = vit.parameters(work.train_resolution);
    let evaluation = vit.forward_flops(work.eval_resolution) * shape.val_images as f64;
    let further = work
        .resolutions
        .iter()
        .map(|&side| (side, shape.val_images as u64))
        .chain(
            work.set_images
                .iter()
                .map(|&images| (work.eval_resolution, images)),
        );
    let (mut further_flops, mut predictions) = (0.0, 16 * shape.val_images as u64 + 44);
    for (side, images) in further {
        further_flops += vit.forward_flops(side) * images as f64;
        predictions += 16 * images + 44;
    }
    if task == Task::Evaluate {
        return Cost {
            flops: evaluation + further_flops,
            parameters,
            steps: 0,
            disk_bytes: predictions,
            memory_bytes: memory::evaluation_bytes(vit, &work.load(shape)),
        };
    }
    let steps_per_epoch = (shape.train_images as u64)
        .checked_div(work.batch_size)
        .unwrap_or(0);
    let steps = work.epochs.saturating_mul(steps_per_epoch);
    let evaluations = work.epochs.div_ceil(work.eval_every.max(1));
    let training =
        3.0 * vit.forward_flops(work.train_resolution) * steps as f64 * work.batch_size as f64;
    // The final weights, and the checkpoint that an interrupted stage resumes from.
    let disk_bytes = 4 * parameters * (2 + work.state_copies) + predictions;
    Cost {
        flops: training + evaluations as f64 * evaluation + further_flops,
        parameters,
        steps,
        disk_bytes,
        memory_bytes: memory::training_bytes(vit, &work.load(shape)),
    }
}
