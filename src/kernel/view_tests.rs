//! Fused operations on what is out of the ordinary: gradients that are views, rows and tokens that are all alike,
//! and what is no number.

use super::property_tests::{Case, case, laid_out, leaf, normal, values, values_of};
use super::{fused, plain};
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, Flex};
use burn::tensor::{Device, Tensor, TensorData};
use proptest::prelude::*;

/// A node whose gradient is what the test says, as it lies there. Burn's own sums write theirs out.
#[derive(Debug)]
struct Pull;

impl Backward<Flex, 1> for Pull {
    type State = FlexTensor;

    fn backward(self, ops: Ops<FlexTensor, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        grads.consume::<Flex>(&ops.node);
        let [parent] = ops.parents;
        if let Some(node) = parent {
            grads.register::<Flex>(node.id, ops.state);
        }
    }
}

/// A number whose gradient with respect to `out` is `gradient`, a tensor outside autodiff.
fn pull(out: Tensor<3>, gradient: Tensor<3>) -> Tensor<1> {
    let out = out.try_into_primitive::<Autodiff<Flex>>().unwrap();
    let (value, node) = out.into_parts();
    let sum = Tensor::<3>::from_primitive::<Flex>(value).sum();
    let sum = sum.try_into_primitive::<Flex>().unwrap();
    let gradient = gradient.try_into_primitive::<Flex>().unwrap();
    let prepared = Pull
        .prepare::<NoCheckpointing>([node])
        .compute_bound()
        .stateful();
    Tensor::from_primitive::<Autodiff<Flex>>(match prepared {
        OpsKind::Tracked(prep) => prep.finish(gradient, sum),
        OpsKind::UnTracked(prep) => prep.finish(sum),
    })
}

/// Gradients of one shape: exchanged, a part, and broadcast over everything, over rows, over tokens.
fn views([b, t, w]: [usize; 3]) -> Vec<Tensor<3>> {
    let of = |shape: [usize; 3]| {
        let data = TensorData::new(normal(78, shape.iter().product(), 1.0), shape);
        Tensor::<3>::from_data(data, &Device::flex())
    };
    vec![
        of([t, b, w]).swap_dims(0, 1),
        of([b, w, t]).swap_dims(1, 2),
        of([b + 1, t + 2, w + 3]).slice([1..b + 1, 1..t + 1, 2..w + 2]),
        of([1, 1, 1]).expand([b, t, w]),
        of([1, 1, w]).expand([b, t, w]),
        of([b, 1, w]).expand([b, t, w]),
    ]
}

/// Output and leaves of the fused operation `number` of six.
fn operation(
    number: usize,
    case: Case,
) -> (Tensor<3>, Vec<Tensor<3>>, Vec<Tensor<2>>, Vec<Tensor<1>>) {
    let dim = case.heads * case.head_dim;
    let shape = [case.batch, case.tokens, dim];
    let (x, view) = laid_out(case.layout, 1, shape, 1.0);
    let w = leaf(&normal(2, case.outputs * dim, 0.4), [case.outputs, dim]);
    let b = leaf(&normal(3, case.outputs, 1.0), [case.outputs]);
    let [p, q] = [4, 5].map(|key| leaf(&normal(key, dim, 1.0), [dim]));
    let keep: Vec<f32> = (0..case.batch).map(|i| [1.25, 0.0][i % 2]).collect();
    match number {
        0 => (
            fused::linear(view, w.clone(), b.clone()),
            vec![x],
            vec![w],
            vec![b],
        ),
        1 => (
            fused::linear_gelu(view, w.clone(), b.clone()),
            vec![x],
            vec![w],
            vec![b],
        ),
        2 => (
            fused::layer_norm(view, p.clone(), q.clone(), 1e-6),
            vec![x],
            vec![],
            vec![p, q],
        ),
        3 => {
            let (x, view) = laid_out(case.layout, 1, [case.batch, case.tokens, 3 * dim], 1.0);
            (fused::attention(view, case.heads), vec![x], vec![], vec![])
        }
        4 | 5 => {
            let y = leaf(&normal(6, case.batch * case.tokens * dim, 1.0), shape);
            let gamma = (number == 4).then(|| p.clone());
            let out = fused::residual(view, y.clone(), gamma, Some(&keep));
            (
                out,
                vec![x, y],
                vec![],
                if number == 4 { vec![p] } else { vec![] },
            )
        }
        _ => unreachable!("six operations"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn gradients_may_be_views(case in case(), number in 0usize..6) {
        let gradients = |gradient: Tensor<3>| {
            let (out, threes, twos, ones) = operation(number, case);
            let grads = pull(out, gradient).backward();
            let mut found: Vec<Vec<f32>> = Vec::new();
            found.extend(threes.iter().map(|leaf| values_of(leaf.grad(&grads))));
            found.extend(twos.iter().map(|leaf| values_of(leaf.grad(&grads))));
            found.extend(ones.iter().map(|leaf| values_of(leaf.grad(&grads))));
            found
        };
        let shape = operation(number, case).0.dims();
        for (index, view) in views(shape).into_iter().enumerate() {
            let written = Tensor::from_data(view.clone().into_data(), &Device::flex());
            let (ours, reference) = (gradients(view), gradients(written));
            for (ours, reference) in ours.iter().zip(&reference) {
                prop_assert!(!ours.is_empty(), "operation {number}, view {index}: a gradient");
                let same = ours.iter().zip(reference).all(|(a, b)| a.to_bits() == b.to_bits());
                prop_assert!(same, "operation {number}, view {index}, {case:?}");
            }
        }
    }
}

/// Numbers that are all the same have no variance: their norm is the bias, and the gradient what the weights
/// give without its mean, divided by the root of eps.
#[test]
fn equal_rows_become_the_bias() {
    for width in [2, 3, 7, 16, 17, 24, 48, 200] {
        for value in [0.0f32, 1e-12, -0.1, 1.0] {
            let [w, b, g] = [1, 2, 3].map(|key| normal(key, width, 1.0));
            let x = leaf(&vec![value; 2 * width], [1, 2, width]);
            let (wt, bt) = (leaf(&w, [width]), leaf(&b, [width]));
            let out = fused::layer_norm(x.clone(), wt.clone(), bt.clone(), 1e-6);
            let weights = TensorData::new([g.clone(), g.clone()].concat(), [1, 2, width]);
            let weights = Tensor::<3>::from_data(weights, &out.device());
            let grads = (out.clone() * weights).sum().backward();
            for (y, b) in values(out).iter().zip(b.iter().cycle()) {
                assert!((y - b).abs() < 5e-3, "{width} x {value}: {y} against {b}");
            }
            let gw: Vec<f64> = g.iter().zip(&w).map(|(g, w)| f64::from(g * w)).collect();
            let mean = gw.iter().sum::<f64>() / width as f64;
            let largest = gw.iter().fold(1e-3, |m: f64, v| m.max((v - mean).abs()));
            for (dx, gw) in values_of(x.grad(&grads)).iter().zip(gw.iter().cycle()) {
                let expected = (gw - mean) * 1e3;
                let off = (f64::from(*dx) - expected).abs();
                assert!(
                    off <= 5.0 * largest,
                    "{width} x {value}: {dx} against {expected}"
                );
            }
            for (db, g) in values_of(bt.grad(&grads)).iter().zip(&g) {
                assert_eq!(*db, g + g, "{width} x {value}");
            }
        }
    }
}

/// Tokens that are all the same mix to themselves; queries and keys get no gradient.
#[test]
fn equal_tokens_mix_to_themselves() {
    let (heads, dim) = (2, 6);
    for tokens in [1, 2, 5, 16, 17, 33, 65] {
        let token = normal(1, 3 * dim, 2.0);
        let qkv = leaf(&token.repeat(tokens), [1, tokens, 3 * dim]);
        let out = fused::attention(qkv.clone(), heads);
        let g = normal(2, tokens * dim, 1.0);
        let weights = TensorData::new(g.clone(), [1, tokens, dim]);
        let grads = (out.clone() * Tensor::<3>::from_data(weights, &out.device()))
            .sum()
            .backward();
        for (y, v) in values(out).iter().zip(token[2 * dim..].iter().cycle()) {
            assert!(
                (y - v).abs() <= 2e-6 * (1.0 + v.abs()),
                "{tokens}: {y} against {v}"
            );
        }
        for (index, d) in values_of(qkv.grad(&grads)).iter().enumerate() {
            let (part, channel) = (index % (3 * dim) / dim, index % dim);
            let expected = match part {
                2 => g.iter().skip(channel).step_by(dim).sum::<f32>() / tokens as f32,
                _ => 0.0,
            };
            assert!(
                (d - expected).abs() < 1e-4,
                "{tokens}, part {part}: {d} against {expected}"
            );
        }
    }
}

/// What is no number stays none where the plain forms have none, and nowhere else.
#[test]
fn what_is_no_number_stays_none() {
    let (batch, tokens, heads, dim, outputs) = (2, 3, 2, 20, 7);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let spoilt = |key: u64, width: usize| {
            let mut values = normal(key, batch * tokens * width, 1.0);
            values[width + 1] = bad; // in the second token of the first sample
            leaf(&values, [batch, tokens, width])
        };
        let run = |number: usize, is_fused: bool| -> [Vec<f32>; 2] {
            let x = spoilt(1, if number == 3 { 3 * dim } else { dim });
            let w = leaf(&normal(2, outputs * dim, 0.4), [outputs, dim]);
            let b = leaf(&normal(3, outputs, 1.0), [outputs]);
            let [p, q] = [4, 5].map(|key| leaf(&normal(key, dim, 1.0), [dim]));
            let y = leaf(&normal(6, batch * tokens * dim, 1.0), [batch, tokens, dim]);
            let out = match (number, is_fused) {
                (0, true) => fused::linear(x.clone(), w, b),
                (0, false) => plain::linear(x.clone(), w, b),
                (1, true) => fused::linear_gelu(x.clone(), w, b),
                (1, false) => plain::linear_gelu(x.clone(), w, b),
                (2, true) => fused::layer_norm(x.clone(), p, q, 1e-6),
                (2, false) => plain::layer_norm(x.clone(), p, q, 1e-6),
                (3, true) => fused::attention(x.clone(), heads),
                (3, false) => plain::attention(x.clone(), heads),
                // Dropped, and still no number: 0 * NaN.
                (_, true) => fused::residual(y, x.clone(), Some(p), Some(&[0.0, 1.25])),
                (_, false) => plain::residual(y, x.clone(), Some(p), Some(&[0.0, 1.25])),
            };
            let grads = out.clone().sum().backward();
            [values(out), values_of(x.grad(&grads))]
        };
        for number in 0..5 {
            let (ours, reference) = (run(number, true), run(number, false));
            let compared = if bad.is_nan() { 2 } else { 1 };
            for (ours, reference) in ours.iter().zip(&reference).take(compared) {
                for (place, (a, b)) in ours.iter().zip(reference).enumerate() {
                    assert_eq!(
                        a.is_nan(),
                        b.is_nan(),
                        "operation {number}, {bad} at {place}: {a} against {b}"
                    );
                }
                let second = &ours[ours.len() / 2..];
                assert!(
                    second.iter().all(|v| v.is_finite()),
                    "operation {number}: the other sample"
                );
            }
            assert!(
                ours[0].iter().any(|v| !v.is_finite()),
                "operation {number}: {bad} is to be seen"
            );
        }
    }
}
