//! Optimizer updates on the CPU: each parameter in one pass over its values.
//!
//! An update reads parameter, gradient and moments once and writes each once; as single operations it
//! would be a dozen passes. The arithmetic is that of the plain forms in `optim`, operation by operation
//! and without fused multiply-adds, so both give the same bits where no sum is taken. Sums (norms) are taken
//! in f64 over blocks of a fixed size.

use super::op::{contiguous, values};
use super::parallel::Hole;
use super::simd::{dot, map2, simd};
use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

/// Values of a norm that are summed in f32 before the sum goes on in f64.
const SUM_BLOCK: usize = 4096;

/// Coefficients of one step of Adam.
#[derive(Debug, Clone, Copy)]
pub struct Adam {
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    /// `1 - beta^t` for both moments.
    pub corrections: [f64; 2],
}

/// What becomes of Adam's direction.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// `p * (1 - lr * decay) - lr * direction`.
    AdamW { decay: f64 },
    /// `p - lr * ratio * (direction + decay * p)`, with the trust ratio if `adapt`.
    Lamb {
        decay: f64,
        adapt: bool,
        /// Trust ratio of at most 1.
        clip: bool,
    },
}

/// A parameter with all that its update reads and writes; vectors of equal length outside autodiff.
#[derive(Debug)]
pub struct Slot {
    pub param: Tensor<1>,
    pub grad: Tensor<1>,
    pub exp_avg: Tensor<1>,
    pub exp_avg_sq: Tensor<1>,
    pub rule: Rule,
}

/// Whether `tensors` can be updated here: on the CPU, with fusion on.
pub fn is_possible(tensors: &[Tensor<1>]) -> bool {
    tensors.first().is_some_and(super::is_fused)
}

fn flex(tensor: Tensor<1>) -> FlexTensor {
    let tensor = tensor
        .try_into_primitive::<Flex>()
        .expect("the caller has asked whether this is possible");
    contiguous(&tensor)
}

fn vector(values: Vec<f32>) -> Tensor<1> {
    let shape = [values.len()];
    Tensor::from_primitive::<Flex>(FlexTensor::from_data(TensorData::new(values, shape)))
}

/// Runs `work` on each of `items`, in parallel if there are threads; results in order.
fn each<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    if rayon::current_num_threads() == 1 {
        items.into_iter().map(work).collect()
    } else {
        items.into_par_iter().with_max_len(1).map(work).collect()
    }
}

/// Sum of squares of `values`, in an order that depends on the length only.
fn sum_of_squares(values: &[f32]) -> f64 {
    simd! {
        fn block(values: &[f32]) -> f32 {
            dot(values, values)
        }
    }
    values
        .chunks(SUM_BLOCK)
        .map(|chunk| f64::from(block(chunk)))
        .sum()
}

/// Global L2 norm of `tensors`.
pub fn global_norm(tensors: &[Tensor<1>]) -> f64 {
    let squares = each(tensors.to_vec(), |tensor| {
        sum_of_squares(values(&flex(tensor)))
    });
    squares.iter().sum::<f64>().sqrt()
}

/// One step of Adam on every slot at learning rate `lr`, with gradients divided by `divisor`. Returns
/// parameters and both moments, in order.
pub fn step(
    slots: Vec<Slot>,
    adam: Adam,
    lr: f64,
    divisor: f64,
) -> (Vec<Tensor<1>>, [Vec<Tensor<1>>; 2]) {
    let updated = each(slots, |slot| update(slot, adam, lr, divisor));
    let mut params = Vec::with_capacity(updated.len());
    let mut moments = [Vec::new(), Vec::new()];
    for (param, exp_avg, exp_avg_sq) in updated {
        params.push(param);
        moments[0].push(exp_avg);
        moments[1].push(exp_avg_sq);
    }
    (params, moments)
}

fn update(slot: Slot, adam: Adam, lr: f64, divisor: f64) -> (Tensor<1>, Tensor<1>, Tensor<1>) {
    let (param, grad) = (flex(slot.param), flex(slot.grad));
    let (mut exp_avg, mut exp_avg_sq) = (flex(slot.exp_avg), flex(slot.exp_avg_sq));
    let [p, g] = [&param, &grad].map(values);
    let (m, v) = (
        exp_avg.storage_mut::<f32>(),
        exp_avg_sq.storage_mut::<f32>(),
    );
    let adam = Rounded::new(adam, divisor);
    let new = match slot.rule {
        Rule::AdamW { decay } => {
            let keep = (1.0 - lr * decay) as f32;
            fill(p.len(), |out| adamw(out, p, g, m, v, adam, keep, lr as f32))
        }
        Rule::Lamb { decay, adapt, clip } => {
            let direction = fill(p.len(), |out| {
                lamb_direction(out, p, g, m, v, adam, decay as f32)
            });
            let ratio = if adapt {
                trust_ratio(p, &direction, clip)
            } else {
                1.0
            };
            fill(p.len(), |out| descend(out, p, &direction, ratio, lr as f32))
        }
    };
    let moment = Tensor::from_primitive::<Flex>;
    (vector(new), moment(exp_avg), moment(exp_avg_sq))
}

/// `|p| / |direction|`, 1 if either is 0.
fn trust_ratio(p: &[f32], direction: &[f32], clip: bool) -> f32 {
    let [p, direction] = [p, direction].map(|values| sum_of_squares(values).sqrt() as f32);
    if p == 0.0 || direction == 0.0 {
        return 1.0;
    }
    let ratio = p / direction;
    // Not `min`, which would hide what is no number.
    if clip && ratio > 1.0 { 1.0 } else { ratio }
}

/// `average * decay + p * (1 - decay)` for every pair.
pub fn blend(averages: Vec<Tensor<1>>, params: &[Tensor<1>], decay: f64) -> Vec<Tensor<1>> {
    let pairs: Vec<_> = averages.into_iter().zip(params.iter().cloned()).collect();
    each(pairs, |(average, p)| {
        let (average, p) = (flex(average), flex(p));
        let [a, p] = [&average, &p].map(values);
        vector(fill(p.len(), |out| {
            mixed(out, a, p, decay as f32, (1.0 - decay) as f32)
        }))
    })
}

/// A vector that one job writes.
fn fill(len: usize, work: impl for<'a> FnOnce(Hole<'a>) -> &'a mut [f32]) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    let hole = &mut values.spare_capacity_mut()[..len];
    let start = hole.as_ptr().cast::<f32>();
    let written = work(hole);
    assert!(
        std::ptr::eq(written.as_ptr(), start) && written.len() == len,
        "the job writes all of it"
    );
    // SAFETY: the whole of it was shown as initialised numbers.
    unsafe { values.set_len(len) };
    values
}

/// [`Adam`] as the kernels use it.
#[derive(Debug, Clone, Copy)]
struct Rounded {
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    correction1: f32,
    root2: f32,
    eps: f32,
    divisor: f32,
}

impl Rounded {
    fn new(adam: Adam, divisor: f64) -> Self {
        Rounded {
            beta1: adam.beta1 as f32,
            rest1: (1.0 - adam.beta1) as f32,
            beta2: adam.beta2 as f32,
            rest2: (1.0 - adam.beta2) as f32,
            correction1: adam.corrections[0] as f32,
            root2: adam.corrections[1].sqrt() as f32,
            eps: adam.eps as f32,
            divisor: divisor as f32,
        }
    }

    /// Updates both moments with a gradient and returns the direction.
    #[inline(always)]
    fn direction(&self, g: f32, m: &mut f32, v: &mut f32) -> f32 {
        let g = g / self.divisor;
        *m = *m * self.beta1 + g * self.rest1;
        *v = *v * self.beta2 + (g * g) * self.rest2;
        (*m / self.correction1) / (v.sqrt() / self.root2 + self.eps)
    }
}

/// Writes `f(p, g, m, v)` for each parameter; `f` changes the moments.
#[inline(always)]
fn map_moments<'h>(
    out: Hole<'h>,
    p: &[f32],
    g: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    f: impl Fn(f32, f32, &mut f32, &mut f32) -> f32,
) -> &'h mut [f32] {
    let len = out.len();
    assert!(
        p.len() == len && g.len() == len && m.len() == len && v.len() == len,
        "a parameter, its gradient and its moments are of one length"
    );
    for ((((o, p), g), m), v) in out.iter_mut().zip(p).zip(g).zip(m).zip(v) {
        o.write(f(*p, *g, m, v));
    }
    // SAFETY: each value was written just now.
    unsafe { out.assume_init_mut() }
}

simd! {
    fn adamw<'h>(
        out: Hole<'h>,
        p: &[f32],
        g: &[f32],
        m: &mut [f32],
        v: &mut [f32],
        adam: Rounded,
        keep: f32,
        lr: f32,
    ) -> &'h mut [f32] {
        map_moments(out, p, g, m, v, |p, g, m, v| p * keep - adam.direction(g, m, v) * lr)
    }
}

simd! {
    fn lamb_direction<'h>(
        out: Hole<'h>,
        p: &[f32],
        g: &[f32],
        m: &mut [f32],
        v: &mut [f32],
        adam: Rounded,
        decay: f32,
    ) -> &'h mut [f32] {
        map_moments(out, p, g, m, v, |p, g, m, v| adam.direction(g, m, v) + p * decay)
    }
}

simd! {
    fn descend<'h>(out: Hole<'h>, p: &[f32], direction: &[f32], ratio: f32, lr: f32) -> &'h mut [f32] {
        map2(out, p, direction, |p, direction| p - direction * ratio * lr)
    }
}

simd! {
    fn mixed<'h>(out: Hole<'h>, a: &[f32], b: &[f32], x: f32, y: f32) -> &'h mut [f32] {
        map2(out, a, b, |a, b| a * x + b * y)
    }
}
