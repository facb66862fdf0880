//! What a stage needs of a machine's memory at most, before it runs on a CPU.
//!
//! The sum of what is alive at once: vectors of the parameters' size (parameters, optimizer state, gradients),
//! the tensors that the backward pass waits for and the largest ones of its own, the data set's decoded images,
//! and the program; and what the allocator loses between them ([`resident`]). It follows the operations
//! (`kernel`): what each keeps for its backward pass is listed in [`kept_per_block`]. Evaluation keeps nothing,
//! but its batches are larger, so it can be what counts.

use super::cost::VitShape;
use crate::rundir::stage::{StageSpec, Task};
use crate::spec::recipe::{OptimizerName, Recipe};
use std::fmt;

/// Images per batch of an evaluation (`train::evaluation`).
pub const EVALUATION_BATCH: u64 = 128;

/// The program's code and constants as far as they are touched (26 MiB), its threads, and the pages that the
/// allocator keeps of every size (16 MiB), as measured.
const PROGRAM: u64 = 42 << 20;

/// Most that is lost to the allocator's division into chunks of 32 MiB, each for blocks of similar size.
const CHUNK: u64 = 28 << 20;

/// Tensors of less than this lie in pages of their own size, which larger ones can't use when they are free.
const SMALL_TENSOR: u64 = 192 << 10;

/// Bytes of a number.
const F32: u64 = 4;

/// What memory depends on besides the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    pub train_resolution: u64,
    /// Images per optimizer step.
    pub batch_size: u64,
    /// Micro-batches per step.
    pub accumulation: u64,
    /// A micro-batch holds a multiple of this many images: `mix.groups`, and twice that where images are mixed
    /// in pairs. Memory doesn't depend on it; a batch that would fit does.
    pub multiple: u64,
    /// Gradient checkpointing.
    pub recompute: bool,
    /// Fused operations.
    pub fused: bool,
    /// Copies of the parameters that the optimizer and the average keep.
    pub state_copies: u64,
    /// The largest of the test resolutions.
    pub eval_resolution: u64,
    /// Images of the largest evaluation set.
    pub eval_images: u64,
    /// Bytes of decoded images and of the index that the data set keeps.
    pub data_bytes: u64,
}

impl Load {
    /// A recipe's training without its evaluations and data set.
    pub fn of_training(recipe: &Recipe) -> Load {
        let moments = if recipe.optimizer.name == OptimizerName::Sgd {
            1
        } else {
            2
        };
        let mix = &recipe.mix;
        let mixes = (mix.mixup_alpha > 0.0 || mix.cutmix_alpha > 0.0) && mix.prob > 0.0;
        Load {
            train_resolution: recipe.train.resolution as u64,
            batch_size: recipe.train.batch_size as u64,
            accumulation: recipe.train.accumulation as u64,
            multiple: multiple(mix.groups as u64, mixes),
            recompute: recipe.train.gradient_checkpointing,
            fused: is_fused(),
            state_copies: moments + u64::from(recipe.ema.decay.is_some()),
            eval_resolution: 1,
            eval_images: 0,
            data_bytes: 0,
        }
    }
}

/// What the images of a micro-batch are a multiple of.
pub fn multiple(groups: u64, mixes: bool) -> u64 {
    groups.max(1) * if mixes { 2 } else { 1 }
}

/// Whether workers of this process's environment use the fused operations.
pub fn is_fused() -> bool {
    !crate::rundir::stage::is_fusion_off()
}

/// Peak memory in bytes of a training stage with its evaluations.
pub fn training_bytes(vit: &VitShape, load: &Load) -> u64 {
    let parameters = vit.parameters(load.train_resolution);
    let micro = load.batch_size.div_ceil(load.accumulation.max(1));
    let image = 3 * load.train_resolution * load.train_resolution;
    let held = parameters * (1 + load.state_copies);
    // Gradients and new parameters of an update; or a checkpoint, gathered on the host and written from there,
    // where the gradients were.
    let accumulated = load.accumulation > 1;
    let sum = if accumulated { parameters } else { 0 };
    let vectors = held + (2 * parameters).max(held - parameters) + sum;

    // The batch, whole until its last micro-batch is through, and the patches that were cut out of it.
    let batches = load.batch_size * image * if accumulated { 2 } else { 1 } + micro * image;
    let backward = transient(vit, micro, load.train_resolution);
    let training = batches + activations(vit, micro, load) + backward;
    let stream = micro * vit.tokens(load.train_resolution) * vit.embed_dim;
    let evaluation = evaluation_floats(vit, load);
    let tensors = if F32 * stream < SMALL_TENSOR {
        training + evaluation
    } else {
        training.max(evaluation)
    };
    resident(vectors, tensors, load.data_bytes)
}

/// Resident bytes where so many numbers are alive at once, in vectors of the parameters' size and in tensors of
/// a batch, which lie in blocks of other sizes: the allocator keeps what was freed (`MIMALLOC_PURGE_DELAY=-1`),
/// rounds sizes up, and divides its memory into chunks by size. Shares and limits are those of
/// `docs/performance.md`.
fn resident(vectors: u64, tensors: u64, data_bytes: u64) -> u64 {
    let rounded = F32 * (vectors + tensors) * 26 / 25;
    PROGRAM + data_bytes + rounded + (F32 * tensors * 9 / 20).min(CHUNK)
}

/// Peak memory in bytes of a stage that only evaluates: the weights as they were read, a copy, and the model.
pub fn evaluation_bytes(vit: &VitShape, load: &Load) -> u64 {
    let parameters = vit.parameters(load.train_resolution);
    resident(
        3 * parameters,
        evaluation_floats(vit, load),
        load.data_bytes,
    )
}

/// The largest batch with which a stage needs at most `limit` bytes, in micro-batches as before and one that
/// the rules of recipes admit; `None` if the smallest is too much.
pub fn largest_batch(vit: &VitShape, load: &Load, limit: u64) -> Option<u64> {
    let unit = load.accumulation.max(1) * load.multiple.max(1);
    let fits = |units: u64| {
        let load = Load {
            batch_size: units * unit,
            ..*load
        };
        training_bytes(vit, &load) <= limit
    };
    let (mut fitting, mut too_large) = (0, load.batch_size / unit + 1);
    while too_large - fitting > 1 {
        let middle = fitting + (too_large - fitting) / 2;
        if fits(middle) {
            fitting = middle;
        } else {
            too_large = middle;
        }
    }
    (fitting > 0).then_some(fitting * unit)
}

/// The fewest micro-batches with which a stage needs at most `limit` bytes; `None` if there are none.
pub fn smallest_accumulation(vit: &VitShape, load: &Load, limit: u64) -> Option<u64> {
    (load.accumulation.max(1)..=load.batch_size)
        .filter(|parts| load.batch_size.is_multiple_of(parts * load.multiple.max(1)))
        .find(|&accumulation| {
            let load = Load {
                accumulation,
                ..*load
            };
            training_bytes(vit, &load) <= limit
        })
}

/// Why a stage can't run in the memory that there is, and what would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge {
    pub needs: u64,
    pub limit: u64,
    /// The largest batch that would fit.
    pub batch: Option<u64>,
    /// The number of micro-batches with which the same batch would fit.
    pub accumulation: Option<u64>,
    /// Whether gradient checkpointing would do.
    pub checkpointing: bool,
    /// The test resolution, where the evaluation alone is too large.
    pub evaluation: Option<u64>,
}

impl TooLarge {
    /// What is too large about the stage `spec` for `limit` bytes; `None` if it fits.
    pub fn of(spec: &StageSpec, limit: u64) -> Option<TooLarge> {
        let (vit, load) =
            super::cost::load_of(&spec.recipe, spec.data_shape, &spec.evaluation_sets);
        let needs = match spec.task {
            Task::Train => training_bytes(&vit, &load),
            Task::Evaluate => evaluation_bytes(&vit, &load),
            Task::Command => 0,
        };
        if needs <= limit {
            return None;
        }
        let trains = spec.task == Task::Train;
        let recomputed = Load {
            recompute: true,
            ..load
        };
        Some(TooLarge {
            needs,
            limit,
            batch: largest_batch(&vit, &load, limit).filter(|_| trains),
            accumulation: smallest_accumulation(&vit, &load, limit).filter(|_| trains),
            checkpointing: trains && training_bytes(&vit, &recomputed) <= limit,
            evaluation: (evaluation_bytes(&vit, &load) > limit).then_some(load.eval_resolution),
        })
    }
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
        write!(
            f,
            "needs about {:.1} GiB of memory, and {:.1} GiB are there",
            gib(self.needs),
            gib(self.limit)
        )?;
        let mut ways = Vec::new();
        if let Some(batch) = self.batch {
            ways.push(format!("a batch of {batch} (`train.batch_size`)"));
        }
        if let Some(parts) = self.accumulation {
            ways.push(format!(
                "the same batch in {parts} parts (`train.accumulation: {parts}`)"
            ));
        }
        if self.checkpointing {
            ways.push("`train.gradient_checkpointing: true`".to_owned());
        }
        match (&ways[..], self.evaluation) {
            ([], Some(side)) => write!(
                f,
                "; the evaluation of {EVALUATION_BATCH} images at {side} px is too large for this machine \
                 (`eval.resolution`, `eval.resolutions`)"
            ),
            ([], None) => write!(f, "; the model is too large for this machine"),
            (ways, _) => write!(f, "; what would fit: {}", ways.join(", or ")),
        }
    }
}

/// Numbers that wait for the backward pass after the last block.
fn activations(vit: &VitShape, batch: u64, load: &Load) -> u64 {
    let rows = batch * vit.tokens(load.train_resolution);
    let block = kept_per_block(vit, batch, load.train_resolution, load.fused);
    let blocks = if load.recompute {
        // Each block's input, and one block at a time with its output.
        rows * vit.embed_dim * (vit.depth + 2) + block
    } else {
        vit.depth * block
    };
    // Logits, targets and what the loss keeps.
    blocks + 6 * batch * vit.classes
}

/// Numbers that one block keeps for its backward pass.
fn kept_per_block(vit: &VitShape, batch: u64, resolution: u64, fused: bool) -> u64 {
    let tokens = vit.tokens(resolution);
    let (rows, d, h) = (batch * tokens, vit.embed_dim, vit.hidden_dim());
    // LayerScale's gradient needs the branch's output.
    let scaled = if vit.layer_scale { d } else { 0 };
    // Moments of the norm, its output, queries with keys and values, their mix; and the softmax.
    let attention = rows * (2 + d + 3 * d + d + scaled) + batch * vit.num_heads * tokens * tokens;
    // Moments of the norm, its output, the GELU and its derivative.
    let mlp = rows * (2 + d + 2 * h + scaled);
    if fused {
        // The inputs of both norms.
        return 2 * rows * d + vit.parallel_branches * (attention + mlp);
    }
    // Burn's own: each norm keeps its input without the mean, and that divided by the deviation, instead of the
    // input; the softmax its exponentials, their sums and the scores, too.
    let norms = 2 * 2 * rows * d;
    let softmax = 3 * batch * vit.num_heads * tokens * tokens;
    vit.parallel_branches * (attention + mlp + norms + softmax)
}

/// Numbers of the largest moment of a block's backward pass besides what was kept: the gradients of the
/// stream, of a branch, and of the hidden layer before and after the GELU.
fn transient(vit: &VitShape, batch: u64, resolution: u64) -> u64 {
    let rows = batch * vit.tokens(resolution);
    rows * (2 * vit.embed_dim + vit.hidden_dim())
}

/// Numbers of an evaluation besides the model: a batch's images with its patches, or, where they were, the
/// widest tensor of a block; and the stream, the norm's output, and the branch's.
fn evaluation_floats(vit: &VitShape, load: &Load) -> u64 {
    let batch = EVALUATION_BATCH.min(load.eval_images);
    let image = 3 * load.eval_resolution * load.eval_resolution;
    let rows = batch * vit.tokens(load.eval_resolution);
    let (d, h) = (vit.embed_dim, vit.hidden_dim());
    let widest = rows * (3 * d).max(h);
    // Burn's own attention: packed queries, keys and values and their parts, the scores and their softmax.
    let scores = batch * vit.num_heads * vit.tokens(load.eval_resolution).pow(2);
    let attention = if load.fused {
        0
    } else {
        4 * rows * d + 2 * scores
    };
    (2 * batch * image).max(widest).max(attention) + 3 * rows * d + 2 * batch * vit.classes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> VitShape {
        VitShape {
            patch_size: 4,
            embed_dim: 192,
            depth: 12,
            num_heads: 3,
            parallel_branches: 1,
            mlp_ratio: 4.0,
            layer_scale: true,
            pos_embed_class: false,
            classes: 1000,
        }
    }

    const LOAD: Load = Load {
        train_resolution: 32,
        batch_size: 64,
        accumulation: 1,
        multiple: 1,
        recompute: false,
        fused: true,
        state_copies: 2,
        eval_resolution: 1,
        eval_images: 0,
        data_bytes: 0,
    };

    /// What a block keeps, counted by hand: 64 images of 65 tokens, 10 rows of 192 and two of 768, four
    /// moments, and three softmaxes of 65 x 65.
    #[test]
    fn a_block_keeps_what_its_operations_keep() {
        let rows = 64 * 65;
        let expected = rows * (10 * 192 + 2 * 768 + 4) + 64 * 3 * 65 * 65;
        assert_eq!(kept_per_block(&tiny(), 64, 32, true), expected);
        assert!(kept_per_block(&tiny(), 64, 32, false) > expected);
    }

    #[test]
    fn less_is_needed_with_smaller_parts_and_recomputation() {
        let whole = training_bytes(&tiny(), &LOAD);
        let with = |load: Load| training_bytes(&tiny(), &load);
        assert!(
            with(Load {
                accumulation: 8,
                ..LOAD
            }) < whole / 2
        );
        assert!(
            with(Load {
                recompute: true,
                ..LOAD
            }) < whole / 2
        );
        assert!(
            with(Load {
                batch_size: 128,
                ..LOAD
            }) > whole * 3 / 2
        );
        assert!(
            with(Load {
                state_copies: 3,
                ..LOAD
            }) > whole
        );
        assert_eq!(
            with(Load {
                data_bytes: 77 << 20,
                ..LOAD
            }),
            whole + (77 << 20)
        );
        // Evaluation counts where its batches are larger.
        let large = Load {
            eval_resolution: 224,
            eval_images: 1000,
            ..LOAD
        };
        assert!(with(large) > whole);
    }

    /// Burn's own attention holds the scores of a whole batch, twice.
    #[test]
    fn an_evaluation_without_fusion_holds_its_scores() {
        let load = Load {
            eval_resolution: 64,
            eval_images: 1000,
            ..LOAD
        };
        let unfused = Load {
            fused: false,
            ..load
        };
        let scores = 128 * 3 * 257 * 257;
        assert!(evaluation_floats(&tiny(), &unfused) > 2 * scores);
        assert!(evaluation_floats(&tiny(), &load) < 2 * scores);
    }

    #[test]
    fn what_would_fit_fits_and_no_more_does() {
        let limit = 300 << 20;
        let batch = largest_batch(&tiny(), &LOAD, limit).unwrap();
        let with = |batch_size| training_bytes(&tiny(), &Load { batch_size, ..LOAD });
        assert!(with(batch) <= limit && with(batch + 1) > limit);
        let parts = smallest_accumulation(&tiny(), &LOAD, limit).unwrap();
        let with = |accumulation| {
            training_bytes(
                &tiny(),
                &Load {
                    accumulation,
                    ..LOAD
                },
            )
        };
        assert!(with(parts) <= limit && with(parts / 2) > limit);
        assert_eq!(largest_batch(&tiny(), &LOAD, 1 << 20), None);
    }

    /// A batch of 37 would fit, but not in three micro-batches of two groups whose images are paired.
    #[test]
    fn what_would_fit_is_what_a_recipe_may_have() {
        let load = Load {
            batch_size: 96,
            accumulation: 3,
            multiple: multiple(2, true),
            ..LOAD
        };
        for limit in [250u64 << 20, 280 << 20, 320 << 20, 360 << 20] {
            if let Some(batch) = largest_batch(&tiny(), &load, limit) {
                assert_eq!(batch % 12, 0, "{limit}");
            }
            if let Some(parts) = smallest_accumulation(&tiny(), &load, limit) {
                assert!(96 % (parts * 4) == 0 && parts >= 3, "{limit}: {parts}");
            }
        }
        assert_eq!(largest_batch(&tiny(), &load, u64::MAX), Some(96));
    }

    #[test]
    fn a_refusal_names_the_ways_out() {
        let why = TooLarge {
            needs: 3 << 30,
            limit: 2 << 30,
            batch: Some(40),
            accumulation: Some(2),
            checkpointing: true,
            evaluation: None,
        };
        assert_eq!(
            why.to_string(),
            "needs about 3.0 GiB of memory, and 2.0 GiB are there; what would fit: a batch of 40 \
             (`train.batch_size`), or the same batch in 2 parts (`train.accumulation: 2`), or \
             `train.gradient_checkpointing: true`"
        );
        let why = TooLarge {
            batch: None,
            accumulation: None,
            checkpointing: false,
            evaluation: Some(512),
            ..why
        };
        assert!(
            why.to_string().contains("at 512 px"),
            "the batch of the training is not to blame: {why}"
        );
    }
}
