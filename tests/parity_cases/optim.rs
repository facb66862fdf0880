//! Trajectories of optimizers with given gradients, and the average of weights.

use crate::fixture::{
    Report, Tensors, entries, host, list, max_abs, numbers, rel_l2, relative, size,
};
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

/// The settings that a case may have.
const KNOWN: [&str; 15] = [
    "optimizer",
    "betas",
    "lr",
    "lr_kind",
    "eps",
    "weight_decay",
    "max_grad_norm",
    "groups",
    "always_adapt",
    "trust_clip",
    "momentum",
    "nesterov",
    "lr_per_step",
    "float32_torch_deviation",
    "files",
];

#[test]
fn optim() {
    let sections = ["steps", "grad_global_norm_per_step", "groups", "cases"];
    let mut report = Report::open("optim", &sections);
    let inputs = report.tensors("inputs.safetensors");
    let manifest = report.manifest.clone();
    let steps = size(&manifest, "steps");
    decay_groups(&mut report, &inputs, &manifest["groups"]);
    for (name, case) in entries(&manifest["cases"]) {
        report.settings(name, case, &KNOWN);
        report.case(name, |report| {
            trajectory(report, name, case, &inputs, steps)
        });
    }
    averages(&mut report, &inputs, steps);
    report.finish();
}

/// Which parameters decay.
fn decay_groups(report: &mut Report, inputs: &Tensors, groups: &Value) {
    report.settings("groups", groups, &["decay", "no_decay", "rule"]);
    report.case("groups", |report| {
        for p in inputs.under("init.") {
            let listed = |key: &str| list(groups, key).iter().any(|name| name == p.name.as_str());
            let expected = match (listed("decay"), listed("no_decay")) {
                (true, false) => Group::Decay,
                (false, true) => Group::NoDecay,
                _ => panic!("{} is not in one group", p.name),
            };
            report.holds("groups", &p.name, Group::of(&p.name, &p.shape) == expected);
        }
    });
}

fn trajectory(report: &mut Report, name: &str, case: &Value, inputs: &Tensors, steps: usize) {
    let reference = report.tensors(&format!("{name}.safetensors"));
    let init = inputs.under("init.");
    let grouped = case["groups"].as_bool().expect("groups");
    let group = |p: &HostParameter| match grouped {
        true => Group::of(&p.name, &p.shape),
        false => Group::Decay,
    };
    let mut optimizer = Optimizer::new(&config(case), init.iter().map(group).collect());
    let flag = |key: &str| case[key].as_bool().unwrap_or(false);
    match &mut optimizer.rule {
        Rule::Lamb(lamb) => {
            lamb.always_adapt = flag("always_adapt");
            lamb.trust_clip = flag("trust_clip");
        }
        _ => assert!(
            !flag("always_adapt") && !flag("trust_clip"),
            "LAMB's settings"
        ),
    }
    let mut params: Vec<_> = init.iter().map(flat).collect();
    // The parameters' bound is either of two: report the worse tensor by its better measure.
    let absolute = report.tolerance(&["param", "max_abs"]);
    let relative_bound = report.tolerance(&["param", "or_rel_l2"]);
    let (mut worst, mut worst_norm): (f64, f64) = (0.0, 0.0);
    let rates = numbers(case, "lr_per_step");
    assert_eq!(rates.len(), steps, "rates");
    let norms = numbers(&report.manifest, "grad_global_norm_per_step");
    assert_eq!(norms.len(), steps, "norms");
    for (step, lr) in rates.into_iter().enumerate() {
        let grads = init
            .iter()
            .map(|p| flat(inputs.get(&format!("grad.{step:02}.{}", p.name))))
            .collect();
        params = optimizer.step(lr, params, grads);
        worst_norm = worst_norm.max(relative(optimizer.grad_norm(), norms[step]));
        for (p, value) in init.iter().zip(&params) {
            let key = format!("param.{step:02}.{}", p.name);
            // A trajectory may leave steps out, but not its end.
            if step + 1 < steps && !reference.has(&key) {
                continue;
            }
            let (ours, theirs) = (host(value.clone()), &reference.get(&key).values);
            let of_bound =
                (max_abs(&ours, theirs) / absolute).min(rel_l2(&ours, theirs) / relative_bound);
            worst = worst.max(of_bound);
        }
    }
    report.check(name, "parameters (share of the bound)", worst, 1.0);
    let bound = report.tolerance(&["state", "rel_l2"]);
    report.check(name, "gradient norms", worst_norm, bound);
    let mut worst: f64 = 0.0;
    for (part, values) in optimizer.state() {
        for (p, value) in init.iter().zip(values) {
            let theirs = &reference.get(&format!("state.{part}.{}", p.name)).values;
            worst = worst.max(rel_l2(&host(value), theirs));
        }
    }
    report.check(name, "state", worst, bound);
}

/// Averages of weights at every decay of `ema.safetensors`.
fn averages(report: &mut Report, inputs: &Tensors, steps: usize) {
    let reference = report.tensors("ema.safetensors");
    let mut decays: Vec<String> = reference
        .names()
        .filter_map(|key| Some(key.strip_prefix("ema.")?.rsplit_once('.')?.0.to_owned()))
        .collect();
    decays.dedup();
    for decay in decays {
        let name = format!("ema {decay}");
        report.case(&name, |report| {
            let start = flat(inputs.get("init.block.weight"));
            let mut ema = Ema::new(decay.parse().expect("a decay"), vec![start]);
            let mut worst: f64 = 0.0;
            for step in 0..steps {
                ema.update(&[flat(inputs.get(&format!("grad.{step:02}.block.weight")))]);
                let key = format!("ema.{decay}.{step:02}");
                if reference.has(&key) {
                    let ours = host(ema.average[0].clone());
                    worst = worst.max(max_abs(&ours, &reference.get(&key).values));
                }
            }
            report.check(
                &name,
                "average",
                worst,
                report.tolerance(&["param", "max_abs"]),
            );
        });
    }
}
