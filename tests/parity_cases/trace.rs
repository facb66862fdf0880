//! Thirty training steps of a tiny model on real digits, from given weights and batches.

use crate::fixture::{Report, Tensors, host, json, max_abs, number, rel_l2, size};
use crate::models;
use ablate::loss;
use ablate::model::parameter::{self, HostParameter};
use ablate::optim::Optimizer;
use ablate::optim::group::Group;
use ablate::spec::recipe::{LossName, OptimizerConfig, OptimizerName};
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

fn run(report: &mut Report, name: &str, case: &Value, tolerance: &Value) {
    let device = Device::flex().autodiff();
    let read = |part: &str| Tensors::read("trace", &format!("{name}.{part}.safetensors"));
    let data = read("data");
    let mut model = models::model(case, read("start").under(""), &device);
    let groups = parameter::shapes(&mut model)
        .iter()
        .map(|(name, shape)| Group::of(name, shape))
        .collect();
    let config = OptimizerConfig {
        name: if case["optimizer"] == "lamb" {
            OptimizerName::Lamb
        } else {
            OptimizerName::AdamW
        },
        lr: number(case, "lr"),
        weight_decay: number(case, "weight_decay"),
        betas: [0, 1].map(|i| case["betas"][i].as_f64().expect("betas")),
        eps: number(case, "eps"),
        momentum: 0.0,
        nesterov: false,
        max_grad_norm: case["max_grad_norm"].as_f64(),
        always_adapt: false,
        trust_clip: false,
    };
    let mut optimizer = Optimizer::new(&config, groups);
    let loss_name = if case["loss"] == "bce" {
        LossName::Bce
    } else {
        LossName::Ce
    };
    let [side, batch, classes, steps] =
        ["img_size", "batch", "num_classes", "steps"].map(|key| size(case, key));
    let (x, y) = (&data.get("x").values, &data.get("y").values);
    let pixels = batch * side * side;
    let (mut worst, mut worst_first): (f64, f64) = (0.0, 0.0);
    for step in 0..steps {
        let images = images(&x[step * pixels..(step + 1) * pixels], side, &device);
        let mut target = vec![0.0; batch * classes];
        for (row, label) in y[step * batch..(step + 1) * batch].iter().enumerate() {
            target[row * classes + *label as usize] = 1.0;
        }
        let target = Tensor::from_data(TensorData::new(target, [batch, classes]), &device);
        let value = loss::loss(loss_name, model.forward(images, None), target);
        let reference = case["loss_per_step"][step].as_f64().expect("a loss");
        let deviation = (f64::from(host(value.clone())[0]) - reference).abs();
        worst = worst.max(deviation);
        if step < 10 {
            worst_first = worst_first.max(deviation);
        }
        let mut grads = value.backward();
        let grads = parameter::gradients(&mut model, &mut grads);
        let lr = case["lr_per_step"][step].as_f64().expect("a rate");
        let params = optimizer.step(lr, parameter::values(&mut model), grads);
        parameter::replace(&mut model, params, true);
        for checked in [1, steps] {
            if step + 1 == checked {
                let reference = read(&format!("after_step_{checked}")).under("");
                let deviation = rel_l2(
                    &without_key_biases(&parameter::export(&mut model)),
                    &without_key_biases(&reference),
                );
                let bound = number(
                    &tolerance[format!("after_step_{checked}").as_str()],
                    "rel_l2_of_all_parameters_without_key_biases",
                );
                report.check(
                    name,
                    &format!("parameters after step {checked}"),
                    deviation,
                    bound,
                );
            }
        }
    }
    let bounds = &tolerance["loss_per_step"];
    report.check(
        name,
        "loss, first 10 steps",
        worst_first,
        number(bounds, "first_10_steps"),
    );
    report.check(name, "loss", worst, number(bounds, "abs"));
    let eval = model.without_autodiff();
    let images = images(&data.get("eval_x").values, side, &device.inner());
    let deviation = max_abs(
        &host(eval.forward(images, None)),
        &data.get("eval_logits").values,
    );
    report.check(
        name,
        "eval logits",
        deviation,
        number(&tolerance["eval_logits"], "max_abs"),
    );
}

#[test]
fn thirty_steps() {
    let manifest = json("trace", "manifest.json");
    let mut report = Report::new("trace");
    for (name, case) in manifest["cases"].as_object().expect("cases") {
        run(&mut report, name, case, &manifest["tolerance"]);
    }
    report.finish();
}
