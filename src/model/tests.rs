//! Properties of the whole model.

use super::parameter;
use super::{Architecture, DropPathMasks, VisionTransformer};
use crate::rng::{KeyedRng, Purpose};
use crate::spec::recipe::DropPathRule;
use burn::tensor::{Device, Tensor, TensorData};

fn architecture(parallel_branches: usize, layer_scale: Option<f64>) -> Architecture {
    Architecture {
        resolution: 12,
        channels: 3,
        patch_size: 4,
        embed_dim: 24,
        depth: 3,
        num_heads: 3,
        mlp_ratio: 4.0,
        parallel_branches,
        layer_scale,
        drop_path: 0.3,
        drop_path_rule: DropPathRule::Constant,
        pos_embed_class: false,
        classes: 5,
    }
}

/// Logits and gradients of one step, as bits.
fn step(arch: &Architecture, recompute: bool) -> Vec<Vec<u32>> {
    let device = Device::flex().autodiff();
    let mut model = VisionTransformer::new(arch.clone(), 3, &device);
    model.recompute = recompute;
    let batch = 6;
    let mut rng = KeyedRng::new(1, Purpose::Test, 0, 0);
    let size = batch * 3 * arch.resolution * arch.resolution;
    let images: Vec<f32> = (0..size).map(|_| rng.normal() as f32).collect();
    let images = TensorData::new(images, [batch, 3, arch.resolution, arch.resolution]);
    let masks = DropPathMasks::draw(
        &arch.drop_path_rates(),
        2 * arch.parallel_branches,
        batch,
        0,
        0,
        0,
    );
    let logits = model.forward(Tensor::from_data(images, &device), Some(&masks));
    let weights: Vec<f32> = (0..batch * arch.classes)
        .map(|_| rng.normal() as f32)
        .collect();
    let weights = TensorData::new(weights, [batch, arch.classes]);
    let loss = (logits.clone() * Tensor::from_data(weights, &device)).sum();
    let mut grads = loss.backward();
    let mut results = vec![logits.inner().reshape([batch * arch.classes])];
    results.extend(parameter::gradients(&mut model, &mut grads));
    let bits = |tensor: Tensor<1>| {
        let values: Vec<f32> = tensor.into_data().try_into_vec().unwrap();
        assert!(values.iter().any(|value| *value != 0.0), "not all zero");
        values.into_iter().map(f32::to_bits).collect()
    };
    results.into_iter().map(bits).collect()
}

/// The last attention's key bias has no influence on a softmax, so its gradient is rounding noise, but
/// the same noise.
#[test]
fn recomputed_blocks_give_the_same_bits() {
    for (branches, layer_scale) in [(1, Some(0.5)), (1, None), (2, Some(1.0))] {
        let arch = architecture(branches, layer_scale);
        let (kept, again) = (step(&arch, false), step(&arch, true));
        assert_eq!(kept.len(), again.len());
        for (index, (kept, again)) in kept.iter().zip(&again).enumerate() {
            assert!(
                kept == again,
                "result {index}, {branches} branches, {layer_scale:?}"
            );
        }
    }
}

/// Without fusion, too. The switch is the process's, so this is another one.
#[test]
fn recomputed_blocks_give_the_same_bits_without_fusion() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .env(crate::kernel::SWITCH, "off")
        .args([
            "--exact",
            "model::tests::recomputed_blocks_give_the_same_bits",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

/// What an evaluation runs on keeps nothing for a backward pass: its results are plain tensors.
#[test]
fn evaluation_builds_no_graph() {
    let arch = architecture(2, Some(0.1));
    let trained = VisionTransformer::new(arch, 3, &Device::flex().autodiff());
    let model = trained.without_autodiff();
    let images = Tensor::<4>::ones([2, 3, 12, 12], &Device::flex());
    let logits = model.forward(images, None);
    assert!(logits.try_into_primitive::<burn::backend::Flex>().is_ok());
    let images = Tensor::<4>::ones([2, 3, 12, 12], &Device::flex().autodiff());
    let logits = trained.forward(images, None);
    assert!(logits.try_into_primitive::<burn::backend::Flex>().is_err());
}

/// Outside autodiff there is nothing to recompute.
#[test]
fn recomputation_leaves_inference_alone() {
    let device = Device::flex();
    let mut model = VisionTransformer::new(architecture(1, Some(0.1)), 3, &device);
    let images = Tensor::<4>::ones([2, 3, 12, 12], &device);
    let plain = model.forward(images.clone(), None).into_data();
    model.recompute = true;
    assert_eq!(model.forward(images, None).into_data(), plain);
}
