//! Loss values and gradients with respect to the logits.

use crate::fixture::{Report, Tensors, host, json, max_abs, number};
use ablate::loss;
use burn::tensor::{Device, Tensor, TensorData};

#[test]
fn losses() {
    let manifest = json("losses", "manifest.json");
    let tensors = Tensors::read("losses", "losses.safetensors");
    let device = Device::flex().autodiff();
    let mut report = Report::new("losses");
    for (index, case) in manifest["cases"]
        .as_array()
        .expect("cases")
        .iter()
        .enumerate()
    {
        let [batch, classes] = ["batch", "classes"].map(|key| number(case, key) as usize);
        let labels = &tensors.get(&format!("{index}.labels")).values;
        let one_hot = |smoothing: f64| {
            let off = smoothing / classes as f64;
            let mut target = vec![off as f32; batch * classes];
            for (row, label) in labels.iter().enumerate() {
                target[row * classes + *label as usize] = (1.0 - smoothing + off) as f32;
            }
            Tensor::<2>::from_data(TensorData::new(target, [batch, classes]), &device)
        };
        for (name, reference) in case["loss"].as_object().expect("losses of the case") {
            let logits: Tensor<2> = tensors
                .tensor::<2>(&format!("{index}.logits"), &device)
                .require_grad();
            let target = |name: &str| tensors.tensor(&format!("{index}.{name}"), &device);
            let value = match name.as_str() {
                "ce" => loss::soft_target_cross_entropy(logits.clone(), one_hot(0.0)),
                "label_smoothing_ce_0.1" => {
                    loss::soft_target_cross_entropy(logits.clone(), one_hot(0.1))
                }
                "soft_target_ce" => {
                    loss::soft_target_cross_entropy(logits.clone(), target("soft_target"))
                }
                "bce_official" => loss::binary_cross_entropy(logits.clone(), target("bce_target")),
                "bce_soft" => loss::binary_cross_entropy(logits.clone(), target("soft_target")),
                other => panic!("unknown loss {other}"),
            };
            let case_name = format!("{index}.{name}");
            let reference = reference.as_f64().expect("a loss");
            let deviation = (f64::from(host(value.clone())[0]) - reference).abs() / reference.abs();
            report.check(
                &case_name,
                "loss",
                deviation,
                number(&manifest["tolerance"]["loss"], "rel"),
            );
            let grads = value.backward();
            let grad = logits.grad(&grads).expect("gradient of the logits");
            let reference = &tensors.get(&format!("{index}.grad.{name}")).values;
            let deviation = max_abs(&host(grad), reference);
            let bound = number(&manifest["tolerance"]["grad"], "max_abs");
            report.check(&case_name, "gradient", deviation, bound);
        }
    }
    report.finish();
}
