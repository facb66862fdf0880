//! Loss values and gradients with respect to the logits.

use crate::fixture::relative;
use crate::fixture::{Report, Tensors, entries, host, list, max_abs, one_hot, size};
use ablate::loss;
use burn::tensor::{Device, Tensor};
use serde_json::Value;

fn value_of(
    name: &str,
    logits: Tensor<2>,
    index: usize,
    case: &Value,
    tensors: &Tensors,
) -> Tensor<1> {
    let device = logits.device();
    let labels = tensors.labels(&format!("{index}.labels"));
    let smoothed = |smoothing| one_hot(&labels, size(case, "classes"), smoothing, &device);
    let target = |name: &str| tensors.tensor(&format!("{index}.{name}"), &device);
    if let Some(smoothing) = name.strip_prefix("label_smoothing_ce_") {
        let smoothing = smoothing.parse().expect("a smoothing after the last _");
        return loss::soft_target_cross_entropy(logits, smoothed(smoothing));
    }
    match name {
        "ce" => loss::soft_target_cross_entropy(logits, smoothed(0.0)),
        "soft_target_ce" => loss::soft_target_cross_entropy(logits, target("soft_target")),
        "bce_official" => {
            loss::binary_cross_entropy(logits, target("bce_target"), loss::Reduction::Mean)
        }
        "bce_soft" => {
            loss::binary_cross_entropy(logits, target("soft_target"), loss::Reduction::Mean)
        }
        other => panic!("unknown loss {other}"),
    }
}

#[test]
fn losses() {
    let mut report = Report::open("losses", &["cases"]);
    let tensors = report.tensors("losses.safetensors");
    let device = Device::flex().autodiff();
    let bounds = (
        report.tolerance(&["loss", "rel"]),
        report.tolerance(&["grad", "max_abs"]),
    );
    let manifest = report.manifest.clone();
    for (index, case) in list(&manifest, "cases").iter().enumerate() {
        let known = [
            "batch",
            "classes",
            "mixup_lam",
            "smoothing",
            "loss",
            "float32_torch_deviation",
            "scale",
        ];
        report.settings(&index.to_string(), case, &known);
        for (name, reference) in entries(&case["loss"]) {
            let label = format!("{index}.{name}");
            report.case(&label, |report| {
                let logits: Tensor<2> = tensors
                    .tensor::<2>(&format!("{index}.logits"), &device)
                    .require_grad();
                assert_eq!(logits.dims(), [size(case, "batch"), size(case, "classes")]);
                let value = value_of(name, logits.clone(), index, case, &tensors);
                let reference = reference.as_f64().expect("a loss");
                let deviation = relative(f64::from(host(value.clone())[0]), reference);
                report.check(&label, "loss", deviation, bounds.0);
                let grads = value.backward();
                let grad = host(logits.grad(&grads).expect("gradient of the logits"));
                let reference = &tensors.get(&format!("{index}.grad.{name}")).values;
                report.check(&label, "gradient", max_abs(&grad, reference), bounds.1);
            });
        }
    }
    report.finish();
}
