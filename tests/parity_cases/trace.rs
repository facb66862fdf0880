//! Thirty training steps of a tiny model on real digits, from given weights and batches.

use crate::fixture::{
    Report, entries, host, max_abs, models_in_turn, number, numbers, one_hot, rel_l2, size, text,
};
use crate::models;
use ablate::loss;
use ablate::model::parameter::{self, HostParameter};
use ablate::optim::Optimizer;
use ablate::optim::group::Group;
use ablate::spec::recipe::{LossName, OptimizerConfig, OptimizerName};
use ablate::train::evaluation::{Evaluation, predict};
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::Value;

/// Grey images of the fixture, three channels.
fn images(values: &[f32], side: usize, device: &Device) -> Tensor<4> {
    let pixels = side * side;
    let batch = values.len() / pixels;
    let rgb = values
        .chunks(pixels)
        .flat_map(|image| image.repeat(3))
        .collect::<Vec<_>>();
    Tensor::from_data(TensorData::new(rgb, [batch, 3, side, side]), device)
}

/// All parameters in one vector, without the key third of qkv biases: their true gradient is 0, and
/// Adam turns its rounding into full steps.
fn without_key_biases(params: &[HostParameter]) -> Vec<f32> {
    let mut params: Vec<_> = params.iter().collect();
    params.sort_by(|a, b| a.name.cmp(&b.name));
    let mut all = Vec::new();
    for p in params {
        let third = p.values.len() / 3;
        if p.name.ends_with("attn.qkv.bias") {
            all.extend_from_slice(&p.values[..third]);
            all.extend_from_slice(&p.values[2 * third..]);
        } else {
            all.extend_from_slice(&p.values);
        }
    }
    all
}

fn run(report: &mut Report, name: &str, case: &Value) {
    let device = Device::flex().autodiff();
    let data = report.tensors(&format!("{name}.data.safetensors"));
    let start = report.tensors(&format!("{name}.start.safetensors"));
    let mut model = models::model(case, start.under(""), &device);
    let groups = parameter::shapes(&mut model)
        .iter()
        .map(|(name, shape)| Group::of(name, shape))
        .collect();
    let float = |key: &str| case[key].as_f64().unwrap_or(0.0);
    let config = OptimizerConfig {
        name: match text(case, "optimizer") {
            "lamb" => OptimizerName::Lamb,
            "adamw" => OptimizerName::AdamW,
            "sgd" => OptimizerName::Sgd,
            other => panic!("unknown optimizer {other}"),
        },
        lr: number(case, "lr"),
        weight_decay: number(case, "weight_decay"),
        betas: [0, 1].map(|i| case["betas"][i].as_f64().unwrap_or(0.0)),
        eps: float("eps"),
        momentum: float("momentum"),
        nesterov: case["nesterov"].as_bool().unwrap_or(false),
        max_grad_norm: case["max_grad_norm"].as_f64(),
        always_adapt: false,
        trust_clip: false,
    };
    let mut optimizer = Optimizer::new(&config, groups);
    let loss_name = match text(case, "loss") {
        "bce" => LossName::Bce,
        "ce" => LossName::Ce,
        other => panic!("unknown loss {other}"),
    };
    let [side, batch, classes, steps] =
        ["img_size", "batch", "num_classes", "steps"].map(|key| size(case, key));
    assert_eq!(size(case, "in_chans"), 3, "channels");
    // Positions in the data set: the batches themselves are in the fixture.
    if data.has("index") {
        data.get("index");
    }
    let (x, y) = (&data.get("x").values, data.labels("y"));
    let rates = numbers(case, "lr_per_step");
    let losses = numbers(case, "loss_per_step");
    let norms = numbers(case, "grad_norm_per_step");
    assert!(
        [rates.len(), losses.len(), norms.len()] == [steps; 3],
        "steps"
    );
    let pixels = batch * side * side;
    let (mut worst, mut worst_first, mut worst_norm): (f64, f64, f64) = (0.0, 0.0, 0.0);
    for step in 0..steps {
        let images = images(&x[step * pixels..(step + 1) * pixels], side, &device);
        let target = one_hot(&y[step * batch..(step + 1) * batch], classes, 0.0, &device);
        let value = loss::loss(loss_name, model.forward(images, None), target);
        let deviation = (f64::from(host(value.clone())[0]) - losses[step]).abs();
        worst = worst.max(deviation);
        if step < 10 {
            worst_first = worst_first.max(deviation);
        }
        let mut grads = value.backward();
        let grads = parameter::gradients(&mut model, &mut grads);
        let params = optimizer.step(rates[step], parameter::values(&mut model), grads);
        worst_norm = worst_norm.max((optimizer.grad_norm() - norms[step]).abs() / norms[step]);
        parameter::replace(&mut model, params, true);

        let after = format!("after_step_{}", step + 1);
        let file = format!("{name}.{after}.safetensors");
        if report.exists(&file) {
            let reference = report.tensors(&file).under("");
            let ours = without_key_biases(&parameter::export(&mut model));
            let deviation = rel_l2(&ours, &without_key_biases(&reference));
            let bound = report.tolerance(&[&after, "rel_l2_of_all_parameters_without_key_biases"]);
            report.check(name, &format!("parameters {after}"), deviation, bound);
        } else {
            assert!(step != 0 && step + 1 != steps, "no file {file}");
        }
    }
    let first = report.tolerance(&["loss_per_step", "first_10_steps"]);
    report.check(name, "loss, first 10 steps", worst_first, first);
    let bound = report.tolerance(&["loss_per_step", "abs"]);
    report.check(name, "loss", worst, bound);
    let last = format!("after_step_{steps}");
    let bound = report.tolerance(&[&last, "rel_l2_of_all_parameters_without_key_biases"]);
    report.check(name, "gradient norms", worst_norm, bound);

    let eval = model.without_autodiff();
    let images = images(&data.get("eval_x").values, side, &device.inner());
    let logits = host(eval.forward(images, None));
    let deviation = max_abs(&logits, &data.get("eval_logits").values);
    report.check(
        name,
        "eval logits",
        deviation,
        report.tolerance(&["eval_logits", "max_abs"]),
    );
    let labels = data.labels("eval_y");
    let predictions = logits.chunks_exact(classes).zip(labels);
    let predictions = predictions
        .map(|(row, label)| predict(row, label))
        .collect();
    let top1 = Evaluation {
        predictions,
        single_labelled: true,
    }
    .metrics()["top1"]
        / 100.0;
    let deviation = (top1 - number(case, "eval_accuracy")).abs();
    report.check(
        name,
        "eval accuracy",
        deviation,
        report.tolerance(&["eval_accuracy", "abs"]),
    );
}

#[test]
fn trace() {
    let _turn = models_in_turn();
    let mut report = Report::open("trace", &["cases"]);
    let manifest = report.manifest.clone();
    for (name, case) in entries(&manifest["cases"]) {
        let known = [
            "dim",
            "depth",
            "heads",
            "optimizer",
            "loss",
            "lr",
            "weight_decay",
            "eps",
            "gamma",
            "start",
            "img_size",
            "patch_size",
            "in_chans",
            "num_classes",
            "batch",
            "steps",
            "betas",
            "max_grad_norm",
            "momentum",
            "nesterov",
            "parallel",
            "lr_per_step",
            "loss_per_step",
            "grad_norm_per_step",
            "eval_accuracy",
            "float32_torch_deviation",
        ];
        report.settings(name, case, &known);
        report.case(name, |report| run(report, name, case));
    }
    report.finish();
}
