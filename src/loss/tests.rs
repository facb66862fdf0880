//! Values and gradients of timm 1.0.31 on PyTorch 2.15 in 64-bit floats:
//! `BinaryCrossEntropy(smoothing=0, sum_classes=S)(logits, target)`.

use super::*;
use burn::tensor::{Device, TensorData};

const LOGITS: [f32; 12] = [
    1.5, -2.0, 0.25, 40.0, -0.5, 3.0, 0.0, -90.0, 0.125, 0.75, -1.25, 2.0,
];
const TARGET: [f32; 12] = [0.0, 0.6, 0.4, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.25, 0.75];
const HARD: [f64; 12] = [
    0.2725248253978812,
    -0.29359902599262744,
    -0.14594116637140064,
    0.3333333333333333,
    -0.20748644373395153,
    0.3175247089408111,
    0.16666666666666666,
    2.7313375413301714e-40,
    0.17706979112458543,
    0.226392899725131,
    -0.259099953724897,
    -0.03973430734070589,
];
const SOFT: [f64; 12] = [
    0.2725248253978812,
    -0.16026569265929413,
    0.05405883362859935,
    0.3333333333333333,
    -0.20748644373395153,
    0.3175247089408111,
    0.16666666666666666,
    2.7313375413301714e-40,
    0.17706979112458543,
    0.226392899725131,
    -0.009099953724897053,
    0.04359902599262744,
];

#[test]
fn each_reduction_of_binary_cross_entropy_is_what_its_name_says() {
    let cases = [
        (LossName::Bce, 4.386951613253231, HARD, 4.0),
        (LossName::BceSum, 17.547806453012925, HARD, 1.0),
        (LossName::BceSoft, 4.296326613253231, SOFT, 4.0),
        (LossName::BceSoftSum, 17.185306453012924, SOFT, 1.0),
    ];
    let device = Device::flex().autodiff();
    for (name, value, gradient, classes) in cases {
        let logits = Tensor::<2>::from_data(TensorData::new(LOGITS.to_vec(), [3, 4]), &device)
            .require_grad();
        let mut target = TARGET;
        binarise(name, &mut target);
        let target = Tensor::from_data(TensorData::new(target.to_vec(), [3, 4]), &device);
        let result = loss(name, logits.clone(), target);
        let grads = result.backward();
        let ours = f64::from(result.into_scalar::<f32>());
        assert!((ours / value - 1.0).abs() < 1e-6, "{name:?}: {ours}");
        let ours = logits.grad(&grads).expect("a gradient").into_data();
        for (ours, expected) in ours.iter::<f64>().zip(gradient) {
            let expected = expected / classes;
            assert!(
                (ours - expected).abs() < 1e-7,
                "{name:?}: {ours} {expected}"
            );
        }
    }
}

/// As many terms as a batch of ImageNet-21k has: the loss is the same to the bit with any number of threads.
#[test]
fn many_terms_are_summed_in_order() {
    let (batch, classes) = (192, 21_846);
    let logits: Vec<f32> = (0..batch * classes)
        .map(|i| (i as f32 * 0.37).sin())
        .collect();
    let device = Device::flex();
    let logits = Tensor::<2>::from_data(TensorData::new(logits, [batch, classes]), &device);
    let target = Tensor::<2>::zeros([batch, classes], &device);
    for name in [LossName::Bce, LossName::BceSum] {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let value = pool.install(|| loss(name, logits.clone(), target.clone()));
            value.into_scalar::<f32>()
        };
        let one = run(1);
        assert!(one.is_finite());
        for threads in [2, 5] {
            assert_eq!(one.to_bits(), run(threads).to_bits(), "{name:?}, {threads}");
        }
    }
}
