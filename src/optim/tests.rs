//! The fused updates against the plain ones.

use super::ema::Ema;
use super::group::Group;
use super::{Optimizer, Rule, clip};
use crate::rng::{KeyedRng, Purpose};
use crate::spec::recipe::{OptimizerConfig, OptimizerName};
use burn::tensor::{Device, Tensor, TensorData};

fn config(name: OptimizerName, max_grad_norm: Option<f64>) -> OptimizerConfig {
    OptimizerConfig {
        name,
        lr: 3e-3,
        weight_decay: 0.05,
        betas: [0.9, 0.999],
        eps: 1e-8,
        momentum: 0.0,
        nesterov: false,
        max_grad_norm,
        always_adapt: false,
        trust_clip: false,
    }
}

/// Vectors of odd lengths; one is zero.
fn vectors(key: u64) -> Vec<Tensor<1>> {
    let mut rng = KeyedRng::new(key, Purpose::Test, 0, 0);
    let device = Device::flex();
    let mut vector = |len: usize, scale: f64| {
        let values: Vec<f32> = (0..len).map(|_| (scale * rng.normal()) as f32).collect();
        Tensor::from_data(TensorData::new(values, [len]), &device)
    };
    vec![
        vector(1, 1.0),
        vector(17, 1e-3),
        vector(5000, 10.0),
        vector(33, 0.0),
    ]
}

fn values(tensor: &Tensor<1>) -> Vec<f32> {
    tensor.clone().into_data().try_into_vec().unwrap()
}

/// What [`Optimizer::step`] does without the fused form.
fn plain_step(
    optimizer: &mut Optimizer,
    lr: f64,
    params: Vec<Tensor<1>>,
    grads: Vec<Tensor<1>>,
) -> Vec<Tensor<1>> {
    let norm = clip::global_norm(&grads);
    let grads = match optimizer.max_grad_norm {
        Some(max_norm) => clip::clip(grads, norm, max_norm),
        None => grads,
    };
    match &mut optimizer.rule {
        Rule::Lamb(lamb) => lamb.step(lr, params, grads),
        Rule::AdamW(adamw) => adamw.step(lr, params, grads),
        Rule::Sgd(sgd) => sgd.step(lr, params, grads),
    }
}

#[test]
fn fused_updates_are_the_plain_ones() {
    let groups = vec![Group::NoDecay, Group::Decay, Group::Decay, Group::Decay];
    for name in [OptimizerName::AdamW, OptimizerName::Lamb] {
        for (max_norm, always_adapt, trust_clip) in [
            (None, false, false),
            (Some(1.0), true, false),
            (Some(1e6), false, true),
        ] {
            let mut config = config(name, max_norm);
            (config.always_adapt, config.trust_clip) = (always_adapt, trust_clip);
            let mut fused = Optimizer::new(&config, groups.clone());
            let mut plain = fused.clone();
            let (mut ours, mut theirs) = (vectors(1), vectors(1));
            for step in 0..4 {
                let grads = vectors(10 + step);
                ours = fused
                    .fused_step(config.lr, &ours, &grads)
                    .expect("fusion is possible here");
                theirs = plain_step(&mut plain, config.lr, theirs, grads.clone());
                let norm = clip::global_norm(&grads);
                assert!((fused.grad_norm() - norm).abs() <= 1e-6 * norm);
            }
            // Norms are summed in another order: only where one takes part do bits differ.
            let exact = name == OptimizerName::AdamW && max_norm.is_none();
            let pairs = ours.iter().zip(&theirs);
            let states = fused.state().into_iter().zip(plain.state());
            let states = states.flat_map(|(a, b)| a.1.into_iter().zip(b.1));
            let pairs = pairs.map(|(a, b)| (a.clone(), b.clone())).chain(states);
            for (a, b) in pairs {
                let largest = values(&b).iter().fold(1e-12f32, |m, v| m.max(v.abs()));
                for (a, b) in values(&a).iter().zip(values(&b)) {
                    let same = a.to_bits() == b.to_bits();
                    let near = (a - b).abs() <= 2e-6 * largest;
                    assert!(
                        if exact { same } else { near },
                        "{name:?} {max_norm:?}: {a} {b}"
                    );
                }
            }
        }
    }
}

#[test]
fn updates_do_not_depend_on_threads() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let config = config(OptimizerName::Lamb, Some(1.0));
            let mut optimizer = Optimizer::new(&config, vec![Group::Decay; 4]);
            let mut params = vectors(1);
            for step in 0..3 {
                params = optimizer.step(1e-3, params, vectors(20 + step));
            }
            params.iter().map(values).collect::<Vec<_>>()
        })
    };
    let one = run(1);
    assert_eq!(run(2), one);
    assert_eq!(run(3), one);
}

/// Small differences from the averages' definition would be lost in rounding, so bits are compared.
#[test]
fn averages_are_the_plain_ones() {
    let mut ema = Ema::new(0.99, vectors(1));
    ema.update(&vectors(2));
    for ((average, before), p) in ema.average.iter().zip(vectors(1)).zip(vectors(2)) {
        let plain = before.mul_scalar(0.99) + p.mul_scalar(1.0 - 0.99);
        assert_eq!(values(average), values(&plain));
    }
}
