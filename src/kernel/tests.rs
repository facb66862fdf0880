//! Every fused operation against its plain form, and against itself with other thread counts.

use super::{fused, plain};
use crate::rng::{KeyedRng, Purpose};
use burn::tensor::{Device, Tensor, TensorData};

fn random<const D: usize>(key: u64, shape: [usize; D], scale: f64) -> Tensor<D> {
    let mut rng = KeyedRng::new(key, Purpose::Test, 0, 0);
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| (scale * rng.normal()) as f32)
        .collect();
    let device = Device::flex().autodiff();
    Tensor::from_data(TensorData::new(values, shape), &device).require_grad()
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .inner()
        .into_data()
        .try_into_vec()
        .expect("f32 values")
}

/// Relative to the largest value.
fn assert_close(what: &str, ours: &[f32], reference: &[f32]) {
    assert_eq!(ours.len(), reference.len(), "{what}");
    let largest = reference.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    for (i, (a, b)) in ours.iter().zip(reference).enumerate() {
        assert!(
            (a - b).abs() <= 3e-5 * largest,
            "{what}[{i}]: {a} against {b}"
        );
    }
}

/// Output and gradients of an operation of three inputs; the output's gradient is `weights`, or a
/// broadcast one if there are none.
type Op<'a> = &'a dyn Fn([Tensor<3>; 2], Tensor<2>, [Tensor<1>; 2]) -> Tensor<3>;

fn results(op: Op<'_>, inputs: &Inputs, weighted: bool) -> Vec<Vec<f32>> {
    let Inputs { x, y, w, a, b } = inputs;
    let out = op([x.clone(), y.clone()], w.clone(), [a.clone(), b.clone()]);
    let loss = if weighted {
        (out.clone() * random(99, out.dims(), 1.0).detach()).sum()
    } else {
        out.clone().mean()
    };
    let grads = loss.backward();
    let mut results = vec![values(out)];
    for grad in [x.grad(&grads), y.grad(&grads)].into_iter().flatten() {
        results.push(values(grad));
    }
    for grad in [w.grad(&grads)].into_iter().flatten() {
        results.push(values(grad));
    }
    for grad in [a.grad(&grads), b.grad(&grads)].into_iter().flatten() {
        results.push(values(grad));
    }
    results
}

struct Inputs {
    x: Tensor<3>,
    y: Tensor<3>,
    w: Tensor<2>,
    a: Tensor<1>,
    b: Tensor<1>,
}

fn compare(what: &str, inputs: &Inputs, ours: Op<'_>, reference: Op<'_>) {
    for weighted in [true, false] {
        let ours = results(ours, inputs, weighted);
        let reference = results(reference, inputs, weighted);
        assert_eq!(ours.len(), reference.len(), "{what}: gradients");
        for (index, (ours, reference)) in ours.iter().zip(&reference).enumerate() {
            assert_close(&format!("{what}, result {index}"), ours, reference);
        }
    }
}

/// Batch, tokens, width, outputs.
const SHAPES: [[usize; 4]; 7] = [
    [1, 1, 1, 1],
    [2, 1, 6, 3],
    [3, 5, 7, 11],
    [2, 37, 48, 144],
    [1, 65, 33, 17],
    [5, 260, 24, 8],
    // More outputs than a block of a weight gradient has.
    [2, 70, 5, 400],
];

fn inputs([batch, tokens, width, outputs]: [usize; 4], scale: f64) -> Inputs {
    Inputs {
        x: random(1, [batch, tokens, width], scale),
        y: random(2, [batch, tokens, width], scale),
        w: random(3, [outputs, width], 0.3),
        a: random(4, [width], 1.0),
        b: random(5, [width], 1.0),
    }
}

#[test]
fn linear_and_gelu() {
    for shape in SHAPES {
        let mut inputs = inputs(shape, 1.5);
        inputs.a = random(4, [shape[3]], 1.0);
        let what = format!("{shape:?}");
        compare(
            &format!("linear {what}"),
            &inputs,
            &|[x, _], w, [a, _]| fused::linear(x, w, a),
            &|[x, _], w, [a, _]| plain::linear(x, w, a),
        );
        compare(
            &format!("gelu {what}"),
            &inputs,
            &|[x, _], w, [a, _]| fused::linear_gelu(x, w, a),
            &|[x, _], w, [a, _]| plain::linear_gelu(x, w, a),
        );
    }
}

#[test]
fn layer_norm() {
    for shape in SHAPES.into_iter().filter(|shape| shape[2] > 1) {
        for scale in [1e-2, 1.0, 300.0] {
            compare(
                &format!("layer norm {shape:?} x {scale}"),
                &inputs(shape, scale),
                &|[x, _], _, [a, b]| fused::layer_norm(x, a, b, 1e-6),
                &|[x, _], _, [a, b]| plain::layer_norm(x, a, b, 1e-6),
            );
        }
    }
}

#[test]
fn attention() {
    for (batch, tokens, dim, heads) in [(1, 1, 4, 1), (2, 1, 6, 3), (3, 7, 10, 2), (2, 37, 48, 3)] {
        for scale in [0.5, 6.0] {
            let mut inputs = inputs([batch, tokens, 3 * dim, 1], scale);
            inputs.y = random(2, [batch, tokens, dim], scale);
            compare(
                &format!("attention {batch} {tokens} {dim} {heads} x {scale}"),
                &inputs,
                &|[x, _], _, _| fused::attention(x, heads),
                &|[x, _], _, _| plain::attention(x, heads),
            );
        }
    }
}

#[test]
fn residual() {
    for shape in SHAPES {
        let inputs = inputs(shape, 1.0);
        let keep: Vec<f32> = (0..shape[0]).map(|i| [0.0, 1.25][i % 2]).collect();
        for keep in [None, Some(&keep[..])] {
            compare(
                &format!("residual {shape:?}"),
                &inputs,
                &|[x, y], _, [a, _]| fused::residual(x, y, Some(a), keep),
                &|[x, y], _, [a, _]| plain::residual(x, y, Some(a), keep),
            );
            compare(
                &format!("residual without LayerScale {shape:?}"),
                &inputs,
                &|[x, y], _, _| fused::residual(x, y, None, keep),
                &|[x, y], _, _| plain::residual(x, y, None, keep),
            );
        }
    }
}

#[test]
fn strided_inputs() {
    let x = random(1, [4, 6, 10], 1.0);
    let w = random(2, [5, 10], 1.0);
    let b = random(3, [5], 1.0);
    let view = |x: Tensor<3>| x.swap_dims(0, 1).slice([1..5, 0..4, 0..10]);
    let ours = fused::linear(view(x.clone()), w.clone(), b.clone());
    assert_close(
        "strided",
        &values(ours),
        &values(plain::linear(view(x), w, b)),
    );
}

#[test]
fn bits_do_not_depend_on_threads() {
    let shape = [16, 50, 64, 576];
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let all = inputs(shape, 1.0);
            let mut wide = inputs(shape, 1.0);
            wide.a = random(4, [shape[3]], 1.0);
            let packed = inputs([shape[0], shape[1], shape[3], 1], 1.0);
            [
                results(
                    &|[x, _], w, [a, _]| fused::linear_gelu(x, w, a),
                    &wide,
                    true,
                ),
                results(&|[x, _], w, [a, _]| fused::linear(x, w, a), &wide, true),
                results(
                    &|[x, _], _, [a, b]| fused::layer_norm(x, a, b, 1e-6),
                    &all,
                    true,
                ),
                results(&|[x, _], _, _| fused::attention(x, 4), &packed, true),
                results(
                    &|[x, y], _, [a, _]| fused::residual(x, y, Some(a), None),
                    &all,
                    true,
                ),
            ]
            .concat()
        })
    };
    let one = run(1);
    for threads in [2, 3, 5] {
        let other = run(threads);
        assert_eq!(one.len(), other.len());
        for (index, (a, b)) in one.iter().zip(&other).enumerate() {
            let same = a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "result {index} with {threads} threads");
        }
    }
}

/// The element-wise kernels of every instruction set that this processor has, the baseline among them, against
/// each other to the bit and against the plain forms.
#[cfg(target_arch = "x86_64")]
#[test]
fn every_instruction_set_gives_the_same_bits() {
    let shape = [3, 19, 24, 40];
    let all = inputs(shape, 1.0);
    let mut wide = inputs(shape, 1.0);
    wide.a = random(4, [shape[3]], 1.0);
    let packed = inputs([shape[0], shape[1], 3 * shape[2], 1], 1.0);
    let keep = [1.25, 0.0, 2.0];
    let fused = || {
        let linear: Op<'_> = &|[x, _], w, [a, _]| fused::linear(x, w, a);
        let gelu: Op<'_> = &|[x, _], w, [a, _]| fused::linear_gelu(x, w, a);
        let norm: Op<'_> = &|[x, _], _, [a, b]| fused::layer_norm(x, a, b, 1e-6);
        let attention: Op<'_> = &|[x, _], _, _| fused::attention(x, 3);
        let scaled: Op<'_> = &|[x, y], _, [a, _]| fused::residual(x, y, Some(a), Some(&keep));
        let bare: Op<'_> = &|[x, y], _, _| fused::residual(x, y, None, Some(&keep));
        [
            results(linear, &wide, true),
            results(gelu, &wide, true),
            results(norm, &all, true),
            results(attention, &packed, true),
            results(scaled, &all, true),
            results(bare, &all, true),
        ]
        .concat()
    };
    let levels = super::simd::at_every_level(|_| fused());
    let plain = [
        results(&|[x, _], w, [a, _]| plain::linear(x, w, a), &wide, true),
        results(
            &|[x, _], w, [a, _]| plain::linear_gelu(x, w, a),
            &wide,
            true,
        ),
        results(
            &|[x, _], _, [a, b]| plain::layer_norm(x, a, b, 1e-6),
            &all,
            true,
        ),
        results(&|[x, _], _, _| plain::attention(x, 3), &packed, true),
        results(
            &|[x, y], _, [a, _]| plain::residual(x, y, Some(a), Some(&keep)),
            &all,
            true,
        ),
        results(
            &|[x, y], _, _| plain::residual(x, y, None, Some(&keep)),
            &all,
            true,
        ),
    ]
    .concat();
    for (level, results) in levels.iter().enumerate() {
        assert_eq!(results.len(), plain.len());
        for (index, (ours, plain)) in results.iter().zip(&plain).enumerate() {
            assert_close(&format!("level {level}, result {index}"), ours, plain);
            let same = ours
                .iter()
                .zip(&levels[0][index])
                .all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(
                same,
                "level {level}, result {index}: other bits than the baseline's"
            );
        }
    }
}

/// The optimizers' kernels, on lengths below, at and above the lanes.
#[cfg(target_arch = "x86_64")]
#[test]
fn updates_of_every_instruction_set_give_the_same_bits() {
    use super::update::{self, Adam, Rule, Slot};
    let vector = |key: u64, len: usize, scale: f64| random(key, [len], scale).inner();
    let adam = Adam {
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        corrections: [0.1, 1e-3],
    };
    let rules = [
        Rule::AdamW { decay: 0.05 },
        Rule::Lamb {
            decay: 0.02,
            adapt: true,
            clip: false,
        },
    ];
    let levels = super::simd::at_every_level(|_| {
        let mut found: Vec<Vec<u32>> = Vec::new();
        for rule in rules {
            for len in [1, 7, 15, 16, 17, 31, 33, 5000] {
                let small = vector(4, len, 1e-3);
                let slot = Slot {
                    param: vector(1, len, 1.0),
                    grad: vector(2, len, 1e-2),
                    exp_avg: vector(3, len, 1e-2),
                    exp_avg_sq: small.clone() * small,
                    rule,
                };
                let norm = update::global_norm(std::slice::from_ref(&slot.grad)).to_bits();
                found.push(vec![norm as u32, (norm >> 32) as u32]);
                let (params, [first, second]) = update::step(vec![slot], adam, 1e-3, 1.7);
                let averages = update::blend(params.clone(), &first, 0.99);
                for tensor in [params, first, second, averages].concat() {
                    found.push(values(tensor).into_iter().map(f32::to_bits).collect());
                }
            }
        }
        found
    });
    for (level, found) in levels.iter().enumerate() {
        assert!(
            found == &levels[0],
            "level {level}: other bits than the baseline's"
        );
    }
}

/// Products are split by the number of threads, which no bit may show: rows and outputs around the borders of jobs, sums
/// within one block of the matrix product and over several.
#[test]
fn jobs_change_no_bit() {
    use super::linear;
    let vector = |key: u64, len: usize| -> Vec<f32> {
        let mut rng = KeyedRng::new(key, Purpose::Test, 0, 0);
        (0..len).map(|_| rng.normal() as f32).collect()
    };
    for (rows, outputs, inputs) in [
        (1, 1, 5),
        (1, 130, 7),
        (2, 65, 600),
        (65, 193, 33),
        (129, 2, 1300),
        (191, 385, 16),
        (700, 129, 70),
        (800, 576, 64),
        (1600, 64, 576),
        (193, 600, 1100),
        (2049, 66, 24),
        (4100, 3, 10),
    ] {
        let [x, w, b, g] = [rows * inputs, outputs * inputs, outputs, rows * outputs]
            .map(|len| vector(len as u64, len));
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| {
                let (y, derivative) = linear::forward_gelu_with_derivative(&x, &w, &b, inputs);
                [
                    linear::forward(&x, &w, &b, inputs),
                    y,
                    derivative,
                    linear::backward_input(&g, &w, inputs),
                    linear::backward_weight(&g, &x, outputs, inputs),
                    linear::backward_bias(&g, outputs),
                ]
                .concat()
                .into_iter()
                .map(f32::to_bits)
                .collect::<Vec<_>>()
            })
        };
        let one = run(1);
        for threads in [2, 3, 7, 16] {
            assert!(
                run(threads) == one,
                "{rows} x {outputs} x {inputs}, {threads} threads"
            );
        }
    }
}
