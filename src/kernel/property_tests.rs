//! Properties of the fused operations: agreement with their plain forms on random shapes, layouts and
//! values, and gradients that are those of independent forms in f64.

use super::{fused, plain};
use crate::rng::{KeyedRng, Purpose};
use burn::tensor::{Device, Tensor, TensorData};
use proptest::prelude::*;

pub(super) fn normal(key: u64, count: usize, scale: f64) -> Vec<f32> {
    let mut rng = KeyedRng::new(key, Purpose::Test, 0, 0);
    (0..count).map(|_| (scale * rng.normal()) as f32).collect()
}

pub(super) fn leaf<const D: usize>(values: &[f32], shape: [usize; D]) -> Tensor<D> {
    let device = Device::flex().autodiff();
    Tensor::from_data(TensorData::new(values.to_vec(), shape), &device).require_grad()
}

pub(super) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.inner().into_data().try_into_vec().unwrap()
}

/// How an input lies in memory.
#[derive(Debug, Clone, Copy)]
pub(super) enum Layout {
    Plain,
    /// Batch and tokens exchanged: rows are not next to each other.
    Swapped,
    /// A part of a larger tensor.
    Slice,
}

/// `[batch, tokens, width]` in a layout, from a leaf of its own shape.
pub(super) fn laid_out(
    layout: Layout,
    key: u64,
    [b, t, w]: [usize; 3],
    scale: f64,
) -> (Tensor<3>, Tensor<3>) {
    let shape = match layout {
        Layout::Plain => [b, t, w],
        Layout::Swapped => [t, b, w],
        Layout::Slice => [b + 1, t + 2, w + 3],
    };
    let leaf = leaf(&normal(key, shape.iter().product(), scale), shape);
    let view = match layout {
        Layout::Plain => leaf.clone(),
        Layout::Swapped => leaf.clone().swap_dims(0, 1),
        Layout::Slice => leaf.clone().slice([1..b + 1, 1..t + 1, 2..w + 2]),
    };
    (leaf, view)
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub batch: usize,
    pub tokens: usize,
    pub heads: usize,
    pub head_dim: usize,
    pub outputs: usize,
    pub layout: Layout,
    pub scale: f64,
    pub incoming: Incoming,
}

/// How the gradient of an output comes back.
#[derive(Debug, Clone, Copy)]
pub(super) enum Incoming {
    Written,
    /// One number everywhere.
    One,
    /// A view with batch and tokens exchanged.
    Swapped,
    /// A view with tokens and channels exchanged.
    Turned,
    /// A part of a larger tensor: what joining tokens gives back.
    Part,
}

fn incoming() -> impl Strategy<Value = Incoming> {
    prop_oneof![
        Just(Incoming::Written),
        Just(Incoming::One),
        Just(Incoming::Swapped),
        Just(Incoming::Turned),
        Just(Incoming::Part),
    ]
}

pub(super) fn case() -> impl Strategy<Value = Case> {
    let layout = prop_oneof![
        Just(Layout::Plain),
        Just(Layout::Swapped),
        Just(Layout::Slice)
    ];
    let scale = prop_oneof![Just(1e-12), Just(1e-3), Just(1.0), Just(40.0), Just(1e4)];
    let tokens = prop_oneof![Just(1usize), 2usize..9, Just(33usize)];
    let sizes = (1usize..4, tokens, 1usize..4, 1usize..9, 1usize..20);
    (sizes, layout, scale, incoming()).prop_map(|(sizes, layout, scale, incoming)| {
        let (batch, tokens, heads, head_dim, outputs) = sizes;
        Case {
            batch,
            tokens,
            heads,
            head_dim,
            outputs,
            layout,
            scale,
            incoming,
        }
    })
}

/// Output, and gradients of the leaves that come back with it.
fn results(
    out: Tensor<3>,
    case: Case,
    leaves: (Vec<Tensor<3>>, Vec<Tensor<2>>, Vec<Tensor<1>>),
) -> Vec<Vec<f32>> {
    let [b, t, w] = out.dims();
    let device = out.device();
    let weights = |shape: [usize; 3]| {
        let values = normal(77, shape.iter().product(), 1.0);
        Tensor::<3>::from_data(TensorData::new(values, shape), &device)
    };
    let loss = match case.incoming {
        Incoming::Written => (out.clone() * weights([b, t, w])).sum(),
        Incoming::One => out.clone().mean(),
        Incoming::Swapped => (out.clone().swap_dims(0, 1) * weights([t, b, w])).sum(),
        Incoming::Turned => (out.clone().swap_dims(1, 2) * weights([b, w, t])).sum(),
        Incoming::Part => {
            let first = Tensor::zeros([b, 1, w], &device);
            (Tensor::cat(vec![first, out.clone()], 1) * weights([b, t + 1, w])).sum()
        }
    };
    let grads = loss.backward();
    let mut results = vec![values(out)];
    results.extend(leaves.0.iter().map(|leaf| values_of(leaf.grad(&grads))));
    results.extend(leaves.1.iter().map(|leaf| values_of(leaf.grad(&grads))));
    results.extend(leaves.2.iter().map(|leaf| values_of(leaf.grad(&grads))));
    results
}

pub(super) fn values_of<const D: usize>(gradient: Option<Tensor<D>>) -> Vec<f32> {
    gradient
        .map(|gradient| gradient.into_data().try_into_vec().unwrap())
        .unwrap_or_default()
}

/// Relative to the largest value of each result.
fn agree(what: &str, case: Case, tolerance: f32, ours: &[Vec<f32>], reference: &[Vec<f32>]) {
    assert_eq!(ours.len(), reference.len());
    for (number, (ours, reference)) in ours.iter().zip(reference).enumerate() {
        assert_eq!(ours.len(), reference.len(), "{what} {number} {case:?}");
        let largest = reference
            .iter()
            .fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
        for (a, b) in ours.iter().zip(reference) {
            assert!(
                a.is_finite() && (a - b).abs() <= tolerance * largest,
                "{what}, result {number}, {case:?}: {a} against {b} (largest {largest})"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn linear_is_linear(case in case()) {
        let width = case.heads * case.head_dim;
        let run = |gelu: bool, is_fused: bool| {
            let shape = [case.batch, case.tokens, width];
            let (x, view) = laid_out(case.layout, 1, shape, case.scale);
            // Weights may be views, too.
            let turned = case.outputs % 2 == 0;
            let shape = if turned { [width, case.outputs] } else { [case.outputs, width] };
            let w = leaf(&normal(2, case.outputs * width, 0.4), shape);
            let weight = if turned { w.clone().transpose() } else { w.clone() };
            let b = leaf(&normal(3, case.outputs, 1.0), [case.outputs]);
            let out = match (gelu, is_fused) {
                (false, true) => fused::linear(view, weight, b.clone()),
                (false, false) => plain::linear(view, weight, b.clone()),
                (true, true) => fused::linear_gelu(view, weight, b.clone()),
                (true, false) => plain::linear_gelu(view, weight, b.clone()),
            };
            results(out, case, (vec![x], vec![w], vec![b]))
        };
        for gelu in [false, true] {
            agree("linear", case, 2e-4, &run(gelu, true), &run(gelu, false));
        }
    }

    #[test]
    fn layer_norm_is_layer_norm(case in case()) {
        // One number has no variance, and what is far below eps none to speak of: the plain form's
        // rounding would be compared with ours.
        prop_assume!(case.heads * case.head_dim > 1 && case.scale > 1e-6);
        let width = case.heads * case.head_dim;
        let run = |is_fused: bool| {
            let shape = [case.batch, case.tokens, width];
            let (x, view) = laid_out(case.layout, 1, shape, case.scale);
            let w = leaf(&normal(2, width, 1.0), [width]);
            let b = leaf(&normal(3, width, 1.0), [width]);
            let norm = if is_fused { fused::layer_norm } else { plain::layer_norm };
            let out = norm(view, w.clone(), b.clone(), 1e-6);
            results(out, case, (vec![x], vec![], vec![w, b]))
        };
        // Of two or three numbers, little is left of a gradient but noise.
        let mut ours = run(true);
        let mut reference = run(false);
        if width < 4 {
            (ours, reference) = (vec![ours.swap_remove(0)], vec![reference.swap_remove(0)]);
        }
        agree("layer norm", case, 2e-3, &ours, &reference);
    }

    #[test]
    fn attention_is_attention(case in case()) {
        let dim = case.heads * case.head_dim;
        // Scores beyond some thousand differ by more than 1 through rounding alone.
        let scale = case.scale.min(40.0);
        let run = |is_fused: bool| {
            let (x, view) = laid_out(case.layout, 1, [case.batch, case.tokens, 3 * dim], scale);
            let attention = if is_fused { fused::attention } else { plain::attention };
            results(attention(view, case.heads), case, (vec![x], vec![], vec![]))
        };
        let tolerance = if scale > 1.0 { 2e-2 } else { 2e-4 };
        agree("attention", case, tolerance, &run(true), &run(false));
    }

    #[test]
    fn residual_is_residual(case in case(), scaled in any::<bool>(), dropped in any::<bool>()) {
        let dim = case.heads * case.head_dim;
        let keep: Vec<f32> = (0..case.batch).map(|i| [1.25, 0.0][i % 2]).collect();
        let run = |is_fused: bool| {
            let shape = [case.batch, case.tokens, dim];
            let (x, x_view) = laid_out(case.layout, 1, shape, case.scale);
            let (y, y_view) = laid_out(Layout::Plain, 2, shape, case.scale);
            let gamma = leaf(&normal(3, dim, 1.0), [dim]);
            let keep = dropped.then_some(&keep[..]);
            let residual = if is_fused { fused::residual } else { plain::residual };
            let out = residual(x_view, y_view, scaled.then(|| gamma.clone()), keep);
            let gammas = if scaled { vec![gamma] } else { vec![] };
            results(out, case, (vec![x, y], vec![], gammas))
        };
        agree("residual", case, 1e-4, &run(true), &run(false));
    }
}

/// Independent forms in f64.
mod exact {
    pub fn linear(x: &[f64], w: &[f64], b: &[f64], inputs: usize) -> Vec<f64> {
        let rows = x.chunks_exact(inputs);
        rows.flat_map(|row| {
            w.chunks_exact(inputs)
                .zip(b)
                .map(|(w, b)| row.iter().zip(w).map(|(x, w)| x * w).sum::<f64>() + b)
        })
        .collect()
    }

    pub fn gelu(x: f64) -> f64 {
        0.5 * x * (1.0 + statrs::function::erf::erf(x / 2f64.sqrt()))
    }

    pub fn layer_norm(x: &[f64], w: &[f64], b: &[f64]) -> Vec<f64> {
        let n = w.len() as f64;
        let rows = x.chunks_exact(w.len());
        rows.flat_map(|row| {
            let mean = row.iter().sum::<f64>() / n;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
            let scale = 1.0 / (variance + 1e-6).sqrt();
            row.iter()
                .zip(w)
                .zip(b)
                .map(move |((x, w), b)| (x - mean) * scale * w + b)
        })
        .collect()
    }

    pub fn attention(qkv: &[f64], tokens: usize, dim: usize, heads: usize) -> Vec<f64> {
        let head_dim = dim / heads;
        let samples = qkv.chunks_exact(3 * tokens * dim);
        samples
            .flat_map(|sample| {
                let at = |token: usize, part: usize, channel: usize| {
                    sample[token * 3 * dim + part * dim + channel]
                };
                let mut out = vec![0.0; tokens * dim];
                for head in 0..heads {
                    let channels = head * head_dim..(head + 1) * head_dim;
                    for query in 0..tokens {
                        let scores: Vec<f64> = (0..tokens)
                            .map(|key| {
                                let products =
                                    channels.clone().map(|c| at(query, 0, c) * at(key, 1, c));
                                (products.sum::<f64>() / (head_dim as f64).sqrt()).exp()
                            })
                            .collect();
                        let total: f64 = scores.iter().sum();
                        for c in channels.clone() {
                            let values = (0..tokens).map(|key| scores[key] / total * at(key, 2, c));
                            out[query * dim + c] = values.sum();
                        }
                    }
                }
                out
            })
            .collect()
    }

    pub fn residual(x: &[f64], y: &[f64], gamma: &[f64], keep: &[f64]) -> Vec<f64> {
        let sample = x.len() / keep.len();
        let values = x.iter().zip(y).enumerate();
        values
            .map(|(i, (x, y))| x + keep[i / sample] * gamma[i % gamma.len()] * y)
            .collect()
    }
}

/// Compares the gradients of `sum(weights * out)` with central differences of the form in f64.
fn check_gradients(
    what: &str,
    ours: &[Vec<f32>],
    inputs: &[Vec<f32>],
    exact: &dyn Fn(&[Vec<f64>]) -> Vec<f64>,
) {
    let inputs: Vec<Vec<f64>> = inputs
        .iter()
        .map(|input| input.iter().map(|v| f64::from(*v)).collect())
        .collect();
    let out = exact(&inputs);
    let weights = normal(77, out.len(), 1.0);
    let loss = |inputs: &[Vec<f64>]| -> f64 {
        let out = exact(inputs);
        out.iter()
            .zip(&weights)
            .map(|(o, w)| o * f64::from(*w))
            .sum()
    };
    for (a, b) in ours[0].iter().zip(&out) {
        assert!(
            (f64::from(*a) - b).abs() < 2e-5,
            "{what}: output {a} against {b}"
        );
    }
    assert_eq!(ours.len(), inputs.len() + 1, "{what}");
    for (number, ours) in ours[1..].iter().enumerate() {
        assert_eq!(ours.len(), inputs[number].len(), "{what}, input {number}");
        for (index, &gradient) in ours.iter().enumerate() {
            const H: f64 = 1e-5;
            let moved = |by: f64| {
                let mut inputs = inputs.clone();
                inputs[number][index] += by;
                loss(&inputs)
            };
            let difference = (moved(H) - moved(-H)) / (2.0 * H);
            assert!(
                (f64::from(gradient) - difference).abs() < 1e-4 * (1.0 + difference.abs()),
                "{what}, input {number}, place {index}: {gradient} against {difference}"
            );
        }
    }
}

#[test]
fn gradients_are_those_of_the_exact_forms() {
    for (batch, tokens, heads, head_dim, outputs) in [
        (2, 3, 2, 4, 5),
        (1, 1, 1, 3, 2),
        (3, 2, 3, 1, 7),
        (1, 5, 1, 17, 1),
    ] {
        let dim = heads * head_dim;
        let case = Case {
            batch,
            tokens,
            heads,
            head_dim,
            outputs,
            layout: Layout::Plain,
            scale: 1.0,
            incoming: Incoming::Written,
        };
        let rows = batch * tokens;
        let (x, y) = (normal(1, rows * dim, 1.0), normal(2, rows * dim, 1.0));
        let (w, b) = (normal(3, outputs * dim, 0.5), normal(4, outputs, 0.5));
        let (gamma, beta) = (normal(5, dim, 1.0), normal(6, dim, 0.5));
        let xt = leaf(&x, [batch, tokens, dim]);
        let yt = leaf(&y, [batch, tokens, dim]);
        let (wt, bt) = (leaf(&w, [outputs, dim]), leaf(&b, [outputs]));
        let (gt, et) = (leaf(&gamma, [dim]), leaf(&beta, [dim]));

        let out = fused::linear(xt.clone(), wt.clone(), bt.clone());
        let ours = results(
            out,
            case,
            (vec![xt.clone()], vec![wt.clone()], vec![bt.clone()]),
        );
        let inputs = [x.clone(), w.clone(), b.clone()];
        check_gradients("linear", &ours, &inputs, &|i| {
            exact::linear(&i[0], &i[1], &i[2], dim)
        });

        let out = fused::linear_gelu(xt.clone(), wt.clone(), bt.clone());
        let ours = results(out, case, (vec![xt.clone()], vec![wt], vec![bt]));
        check_gradients("gelu", &ours, &inputs, &|i| {
            let y = exact::linear(&i[0], &i[1], &i[2], dim);
            y.into_iter().map(exact::gelu).collect()
        });

        if dim > 2 {
            let out = fused::layer_norm(xt.clone(), gt.clone(), et.clone(), 1e-6);
            let ours = results(out, case, (vec![xt.clone()], vec![], vec![gt.clone(), et]));
            let inputs = [x.clone(), gamma.clone(), beta];
            check_gradients("layer norm", &ours, &inputs, &|i| {
                exact::layer_norm(&i[0], &i[1], &i[2])
            });
        }

        let qkv = normal(7, rows * 3 * dim, 1.0);
        let packed = leaf(&qkv, [batch, tokens, 3 * dim]);
        let out = fused::attention(packed.clone(), heads);
        let ours = results(out, case, (vec![packed], vec![], vec![]));
        check_gradients("attention", &ours, &[qkv], &|i| {
            exact::attention(&i[0], tokens, dim, heads)
        });

        let keep: Vec<f32> = (0..batch).map(|i| [1.25, 0.0, 2.0][i % 3]).collect();
        let out = fused::residual(xt.clone(), yt.clone(), Some(gt.clone()), Some(&keep));
        let ours = results(out, case, (vec![xt, yt], vec![], vec![gt]));
        let keep: Vec<f64> = keep.iter().map(|k| f64::from(*k)).collect();
        check_gradients("residual", &ours, &[x, y, gamma], &|i| {
            exact::residual(&i[0], &i[1], &i[2], &keep)
        });
    }
}

/// Far out, the GELU is the identity or nothing, and the softmax one of its values.
#[test]
fn extreme_values_stay_finite() {
    let x = leaf(&[-3e4, -40.0, -0.0, 40.0, 3e4, 1e-38], [1, 6, 1]);
    let w = leaf(&[1.0], [1, 1]);
    let b = leaf(&[0.0], [1]);
    let out = fused::linear_gelu(x.clone(), w, b);
    let grads = out.clone().sum().backward();
    assert_eq!(values(out)[..5], [0.0, 0.0, 0.0, 40.0, 3e4]);
    let slopes = values_of(x.grad(&grads));
    assert_eq!(slopes, [0.0, 0.0, 0.5, 1.0, 1.0, 0.5]);

    let qkv = leaf(&[300.0, 300.0, 1.0, -300.0, -300.0, 2.0], [1, 2, 3]);
    let out = fused::attention(qkv.clone(), 1);
    let grads = out.clone().sum().backward();
    assert_eq!(values(out), [1.0, 2.0]);
    assert!(values_of(qkv.grad(&grads)).iter().all(|g| g.is_finite()));
}
