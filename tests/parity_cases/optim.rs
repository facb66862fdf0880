//! Trajectories of optimizers with given gradients, and the average of weights.

use crate::fixture::{Report, Tensors, host, json, max_abs, number, rel_l2};
use ablate::model::parameter::HostParameter;
use ablate::optim::group::Group;
use ablate::optim::{Optimizer, Rule, ema::Ema};
use ablate::spec::recipe::{OptimizerConfig, OptimizerName};
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::Value;

fn config(case: &Value) -> OptimizerConfig {
    let float = |key: &str| case[key].as_f64().unwrap_or(0.0);
    OptimizerConfig {
        name: match case["optimizer"].as_str().expect("optimizer") {
            "lamb" => OptimizerName::Lamb,
            "adamw" => OptimizerName::AdamW,
            "sgd" => OptimizerName::Sgd,
            other => panic!("unknown optimizer {other}"),
        },
        lr: float("lr"),
        weight_decay: float("weight_decay"),
        betas: [0, 1].map(|i| case["betas"][i].as_f64().unwrap_or(0.0)),
        eps: float("eps"),
        momentum: float("momentum"),
        nesterov: case["nesterov"].as_bool().unwrap_or(false),
        max_grad_norm: case["max_grad_norm"].as_f64(),
        always_adapt: false,
        trust_clip: false,
    }
}

fn flat(parameter: &HostParameter) -> Tensor<1> {
    let data = TensorData::new(parameter.values.clone(), [parameter.values.len()]);
    Tensor::from_data(data, &Device::flex())
}

#[test]
fn trajectories() {
    let manifest = json("optim", "manifest.json");
    let inputs = Tensors::read("optim", "inputs.safetensors");
    let init = inputs.under("init.");
    let tolerance = &manifest["tolerance"];
    let mut report = Report::new("optim");
    for (name, case) in manifest["cases"].as_object().expect("cases") {
        let reference = Tensors::read("optim", &format!("{name}.safetensors"));
        let grouped = case["groups"].as_bool().expect("groups");
        let groups = init
            .iter()
            .map(|p| {
                if grouped {
                    Group::of(&p.name, &p.shape)
                } else {
                    Group::Decay
                }
            })
            .collect();
        let mut optimizer = Optimizer::new(&config(case), groups);
        if let Rule::Lamb(lamb) = &mut optimizer.rule {
            lamb.always_adapt = case["always_adapt"].as_bool().unwrap_or(false);
            lamb.trust_clip = case["trust_clip"].as_bool().unwrap_or(false);
        }
        let mut params: Vec<_> = init.iter().map(flat).collect();
        // The parameters' bound is either of two: report the worse tensor by its better measure.
        let (absolute, relative) = (
            number(&tolerance["param"], "max_abs"),
            number(&tolerance["param"], "or_rel_l2"),
        );
        let mut worst: f64 = 0.0;
        let rates = case["lr_per_step"].as_array().expect("rates");
        for (step, lr) in rates.iter().enumerate() {
            let grads = init
                .iter()
                .map(|p| flat(inputs.get(&format!("grad.{step:02}.{}", p.name))))
                .collect();
            params = optimizer.step(lr.as_f64().expect("a rate"), params, grads);
            for (p, value) in init.iter().zip(&params) {
                let key = format!("param.{step:02}.{}", p.name);
                if !reference.has(&key) {
                    continue;
                }
                let (ours, theirs) = (host(value.clone()), &reference.get(&key).values);
                let of_bound =
                    (max_abs(&ours, theirs) / absolute).min(rel_l2(&ours, theirs) / relative);
                worst = worst.max(of_bound);
            }
        }
        report.check(name, "parameters (of the bound)", worst, 1.0);
        let mut worst: f64 = 0.0;
        for (part, values) in optimizer.state() {
            for (p, value) in init.iter().zip(values) {
                let theirs = &reference.get(&format!("state.{part}.{}", p.name)).values;
                worst = worst.max(rel_l2(&host(value), theirs));
            }
        }
        report.check(name, "state", worst, number(&tolerance["state"], "rel_l2"));
    }
    report.finish();
}

#[test]
fn weight_average() {
    let inputs = Tensors::read("optim", "inputs.safetensors");
    let reference = Tensors::read("optim", "ema.safetensors");
    let mut report = Report::new("optim/ema");
    let mut decays: Vec<&str> = reference
        .0
        .keys()
        .filter_map(|key| Some(key.strip_prefix("ema.")?.rsplit_once('.')?.0))
        .collect();
    decays.dedup();
    for decay in decays {
        let start = flat(inputs.get("init.block.weight"));
        let mut ema = Ema::new(decay.parse().expect("a decay"), vec![start]);
        let mut worst: f64 = 0.0;
        for step in 0..20 {
            ema.update(&[flat(inputs.get(&format!("grad.{step:02}.block.weight")))]);
            let key = format!("ema.{decay}.{step:02}");
            if reference.has(&key) {
                let ours = host(ema.average[0].clone());
                worst = worst.max(max_abs(&ours, &reference.get(&key).values));
            }
        }
        report.check(decay, "average", worst, 2e-6);
    }
    report.finish();
}
