//! Forward pass, losses and every gradient of tiny models, with fused operations and without.

use crate::fixture::{
    Report, Tensors, entries, host, list, max_abs, models_in_turn, number, one_hot, rel_l2, size,
};
use ablate::data::mixer::{Mix, Mixer};
use ablate::loss;
use ablate::model::parameter::{self, HostParameter};
use ablate::model::{Architecture, DropPathMasks, VisionTransformer, weights};
use ablate::spec::recipe::{DropPathRule, LossName};
use burn::tensor::{Device, Tensor};
use serde_json::Value;

/// The architecture that a case describes. LayerScale is there if its weights are, and a position of
/// the class token if the embedding has one position more than a square grid.
pub fn architecture(case: &Value, params: &[HostParameter]) -> Architecture {
    let pos_embed = params.iter().find(|p| p.name == "pos_embed");
    let positions = pos_embed.map_or(0, |p| p.shape[1]);
    let is_square = |n: usize| n.isqrt().pow(2) == n;
    Architecture {
        resolution: size(case, "img_size"),
        channels: case["in_chans"].as_u64().unwrap_or(3) as usize,
        patch_size: size(case, "patch_size"),
        embed_dim: size(case, "dim"),
        depth: size(case, "depth"),
        num_heads: size(case, "heads"),
        mlp_ratio: case["mlp_ratio"].as_f64().unwrap_or(4.0),
        parallel_branches: match &case["parallel"] {
            Value::Bool(true) => 2,
            Value::Number(branches) => branches.as_u64().expect("branches") as usize,
            _ => 1,
        },
        layer_scale: params
            .iter()
            .any(|p| p.name.contains("gamma"))
            .then_some(1e-4),
        drop_path: 0.0,
        drop_path_rule: DropPathRule::Constant,
        pos_embed_class: positions > 1 && !is_square(positions) && is_square(positions - 1),
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

fn check_case(report: &mut Report, name: &str, case: &Value, mode: &str) {
    let device = Device::flex().autodiff();
    let params = report.tensors(&format!("{name}.params.safetensors"));
    let io = report.tensors(&format!("{name}.io.safetensors"));
    let mut model = model(case, params.under(""), &device);
    let masks = masks(&io, case["drop_path"].as_f64().unwrap_or(0.0));
    let label = |what: &str| format!("{what} ({mode})");

    let shapes = parameter::shapes(&mut model);
    let count: usize = shapes
        .iter()
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum();
    let excess = count.abs_diff(size(case, "n_parameters"));
    report.check(name, &label("number of parameters"), excess as f64, 0.0);

    let input: Tensor<4> = io.tensor("input", &device);
    let mut x = model.tokens(input.clone());
    let mut worst = max_abs(&host(x.clone()), &io.get("act.tokens").values);
    for (index, block) in model.blocks.iter().enumerate() {
        x = block.forward(x, index, masks.as_ref());
        let reference = &io.get(&format!("act.block.{index}")).values;
        worst = worst.max(max_abs(&host(x.clone()), reference));
    }
    let [batch, _, dim] = x.dims();
    let cls = model.norm.forward(x.slice([0..batch, 0..1, 0..dim]));
    worst = worst.max(max_abs(&host(cls), &io.get("act.cls").values));
    let bound = report.tolerance(&["act", "max_abs"]);
    report.check(name, &label("activations"), worst, bound);
    let logits = host(model.forward(input.clone(), masks.as_ref()));
    let deviation = max_abs(&logits, &io.get("logits").values);
    let bound = report.tolerance(&["logits", "max_abs"]);
    report.check(name, &label("logits"), deviation, bound);

    let labels = io.labels("labels");
    assert_eq!(labels.len(), size(case, "batch"));
    let classes = size(case, "num_classes");
    let loss_bound = report.tolerance(&["loss", "abs"]);
    // "(lam = mixup_lam, flipped batch, smoothing 0.1)"
    let words = report.manifest["tensors"]["io"].as_str().unwrap_or("");
    let smoothing = words.split_once("smoothing ").map_or("", |(_, rest)| rest);
    let end = smoothing
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(smoothing.len());
    let smoothing: f64 = smoothing[..end]
        .parse()
        .expect("the smoothing of target.mixup_smooth");
    for (key, smoothing) in [("target.mixup", 0.0), ("target.mixup_smooth", smoothing)] {
        let config = crate::mixup::config(0.8, 0.0);
        let mixer = Mixer::new(&config, classes, smoothing).expect("a mixer");
        let lam = number(case, "mixup_lam");
        let mut targets = mixer.targets(&labels, Mix::Mixup { lam });
        let deviation = max_abs(&targets, &io.get(key).values);
        report.check(name, &label(key), deviation, loss_bound);
        if key == "target.mixup" {
            loss::binarise(LossName::Bce, &mut targets);
            let equal = targets == io.get("target.bce").values;
            report.holds(name, &label("target.bce"), equal);
        }
    }

    let mut unread: Vec<&str> = list(case, "files")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    unread.retain(|file| {
        !file.ends_with(".params.safetensors") && !file.ends_with(".io.safetensors")
    });
    for (loss_name, reference) in entries(&case["losses"]) {
        let logits = model.forward(input.clone(), masks.as_ref());
        let target = |key: &str| io.tensor::<2>(key, &device);
        let value = match loss_name {
            "ce" => {
                loss::soft_target_cross_entropy(logits, one_hot(&labels, classes, 0.0, &device))
            }
            "bce" => {
                loss::binary_cross_entropy(logits, target("target.bce"), loss::Reduction::Mean)
            }
            "soft_ce" => loss::soft_target_cross_entropy(logits, target("target.mixup_smooth")),
            "bce_soft" => loss::binary_cross_entropy(
                logits,
                target("target.mixup_smooth"),
                loss::Reduction::Mean,
            ),
            other => panic!("unknown loss {other}"),
        };
        let reference = reference.as_f64().expect("a loss");
        let deviation = (f64::from(host(value.clone())[0]) - reference).abs();
        report.check(name, &label(loss_name), deviation, loss_bound);

        let file = format!("{name}.grads_{loss_name}.safetensors");
        if !unread.contains(&file.as_str()) {
            continue;
        }
        unread.retain(|other| *other != file);
        let reference = report.tensors(&file);
        let mut grads = value.backward();
        assert_eq!(shapes.len(), reference.names().count(), "tensors of {file}");
        let grads = parameter::gradients(&mut model, &mut grads);
        let worst = shapes
            .iter()
            .zip(grads)
            .map(|((name, _), grad)| rel_l2(&host(grad), &reference.get(name).values))
            .fold(0.0, f64::max);
        let bound = report.tolerance(&["grads", "rel_l2_per_tensor"]);
        report.check(
            name,
            &label(&format!("gradients of {loss_name}")),
            worst,
            bound,
        );
    }
    assert!(unread.is_empty(), "unknown files {}", unread.join(", "));
}

#[test]
fn models() {
    let _turn = models_in_turn();
    let mut report = Report::open("models", &["cases"]);
    let manifest = report.manifest.clone();
    for (name, case) in entries(&manifest["cases"]) {
        let known = [
            "img_size",
            "patch_size",
            "dim",
            "depth",
            "heads",
            "num_classes",
            "parallel",
            "layer_scale",
            "qkv_bias",
            "layer_norm_eps",
            "gelu",
            "batch",
            "drop_path",
            "n_parameters",
            "mixup_lam",
            "losses",
            "files",
            "float32_torch_deviation",
            "mlp_ratio",
            "in_chans",
        ];
        report.settings(name, case, &known);
        // What the architecture has no choice in.
        for (key, ours) in [
            ("qkv_bias", Value::Bool(true)),
            ("layer_norm_eps", 1e-6.into()),
            ("gelu", "erf".into()),
        ] {
            if !case[key].is_null() && case[key] != ours {
                report.fail(name, &format!("{key} {} is unknown", case[key]));
            }
        }
        // The other mode is tested in a process of its own (`without_fusion`).
        let mode = if ablate::kernel::is_on() {
            "fused"
        } else {
            "plain"
        };
        report.case(name, |report| check_case(report, name, case, mode));
    }
    report.finish();
}
