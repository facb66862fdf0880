//! Forward pass, losses and every gradient of tiny models, with fused operations and without.

use crate::fixture::{Report, Tensors, host, json, max_abs, number, rel_l2, size};
use ablate::loss;
use ablate::model::parameter::{self, HostParameter};
use ablate::model::{Architecture, DropPathMasks, VisionTransformer, weights};
use ablate::spec::recipe::DropPathRule;
use burn::tensor::{Device, Tensor};
use serde_json::Value;

/// The architecture that a case describes; LayerScale is there if its weights are.
pub fn architecture(case: &Value, params: &[HostParameter]) -> Architecture {
    Architecture {
        resolution: size(case, "img_size"),
        channels: 3,
        patch_size: size(case, "patch_size"),
        embed_dim: size(case, "dim"),
        depth: size(case, "depth"),
        num_heads: size(case, "heads"),
        mlp_ratio: 4.0,
        parallel_branches: if case["parallel"].as_bool() == Some(true) {
            2
        } else {
            1
        },
        layer_scale: params
            .iter()
            .any(|p| p.name.contains("gamma"))
            .then_some(1e-4),
        drop_path: 0.0,
        drop_path_rule: DropPathRule::Constant,
        pos_embed_class: false,
        classes: size(case, "num_classes"),
    }
}

/// A model with the weights `params`, for training.
pub fn model(case: &Value, params: Vec<HostParameter>, device: &Device) -> VisionTransformer {
    let mut model = VisionTransformer::new(architecture(case, &params), 0, device);
    weights::load(&mut model, params, true).expect("the case's weights fit");
    model
}

fn masks(io: &Tensors, drop_path: f64) -> Option<DropPathMasks> {
    if !io.has("drop_path_mask") {
        return None;
    }
    let mask = io.get("drop_path_mask");
    let [_, branches, batch] = mask.shape[..] else {
        panic!("mask of three dimensions")
    };
    let scaled: Vec<f32> = mask
        .values
        .iter()
        .map(|m| (f64::from(*m) / (1.0 - drop_path)) as f32)
        .collect();
    Some(DropPathMasks(
        scaled
            .chunks(branches * batch)
            .map(|block| {
                block
                    .chunks(batch)
                    .map(|branch| Some(branch.to_vec()))
                    .collect()
            })
            .collect(),
    ))
}

fn check_case(report: &mut Report, name: &str, case: &Value, tolerance: &Value, mode: &str) {
    let device = Device::flex().autodiff();
    let params = Tensors::read("models", &format!("{name}.params.safetensors"));
    let io = Tensors::read("models", &format!("{name}.io.safetensors"));
    let mut model = model(case, params.under(""), &device);
    let masks = masks(&io, number(case, "drop_path"));
    let label = |what: &str| format!("{what} ({mode})");

    let input: Tensor<4> = io.tensor("input", &device);
    let mut x = model.tokens(input.clone());
    let tolerance_act = number(&tolerance["act"], "max_abs");
    let mut worst = max_abs(&host(x.clone()), &io.get("act.tokens").values);
    for (index, block) in model.blocks.iter().enumerate() {
        x = block.forward(x, index, masks.as_ref());
        let reference = &io.get(&format!("act.block.{index}")).values;
        worst = worst.max(max_abs(&host(x.clone()), reference));
    }
    report.check(name, &label("activations"), worst, tolerance_act);
    let logits = model.forward(input.clone(), masks.as_ref());
    let deviation = max_abs(&host(logits), &io.get("logits").values);
    report.check(
        name,
        &label("logits"),
        deviation,
        number(&tolerance["logits"], "max_abs"),
    );

    let one_hot = {
        let labels = io.get("labels");
        let classes = size(case, "num_classes");
        let mut target = vec![0.0; labels.values.len() * classes];
        for (row, label) in labels.values.iter().enumerate() {
            target[row * classes + *label as usize] = 1.0;
        }
        Tensor::<2>::from_data(
            burn::tensor::TensorData::new(target, [labels.values.len(), classes]),
            &device,
        )
    };
    let targets: [(&str, Tensor<2>, bool); 4] = [
        ("ce", one_hot, true),
        ("bce", io.tensor("target.bce", &device), false),
        ("soft_ce", io.tensor("target.mixup_smooth", &device), true),
        ("bce_soft", io.tensor("target.mixup_smooth", &device), false),
    ];
    for (loss_name, target, cross_entropy) in targets {
        let logits = model.forward(input.clone(), masks.as_ref());
        let value = if cross_entropy {
            loss::soft_target_cross_entropy(logits, target)
        } else {
            loss::binary_cross_entropy(logits, target)
        };
        let reference = number(&case["losses"], loss_name);
        let deviation = (f64::from(host(value.clone())[0]) - reference).abs();
        report.check(
            name,
            &label(loss_name),
            deviation,
            number(&tolerance["loss"], "abs").abs(),
        );
        if loss_name != "ce" && loss_name != "bce" {
            continue;
        }
        let reference = Tensors::read("models", &format!("{name}.grads_{loss_name}.safetensors"));
        let mut grads = value.backward();
        let names = parameter::shapes(&mut model);
        assert_eq!(
            names.len(),
            reference.0.len(),
            "{name}: parameters with gradients"
        );
        let grads = parameter::gradients(&mut model, &mut grads);
        let worst = names
            .iter()
            .zip(grads)
            .map(|((name, _), grad)| rel_l2(&host(grad), &reference.get(name).values))
            .fold(0.0, f64::max);
        let bound = number(&tolerance["grads"], "rel_l2_per_tensor");
        report.check(
            name,
            &label(&format!("gradients of {loss_name}")),
            worst,
            bound,
        );
    }
}

#[test]
fn models() {
    let manifest = json("models", "manifest.json");
    let mut report = Report::new("models");
    for (name, case) in manifest["cases"].as_object().expect("cases") {
        for (mode, fused) in [("fused", true), ("plain", false)] {
            ablate::kernel::set_fused(fused);
            check_case(&mut report, name, case, &manifest["tolerance"], mode);
        }
        ablate::kernel::set_fused(true);
    }
    report.finish();
}
