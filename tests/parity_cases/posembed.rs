//! Interpolation of position embeddings, alone and while weights are loaded.

use crate::fixture::{Report, Tensors, host, json, max_abs, number, size};
use crate::models;
use ablate::model::{VisionTransformer, pos_embed, weights};
use burn::tensor::{Device, Tensor};
use serde_json::json;

#[test]
fn interpolation() {
    let manifest = json("posembed", "manifest.json");
    let tensors = Tensors::read("posembed", "interpolate.safetensors");
    let mut report = Report::new("posembed");
    for case in manifest["cases"].as_array().expect("cases") {
        let name = case["name"].as_str().expect("a name");
        let [old, new, dim] = ["old", "new", "dim"].map(|key| size(case, key));
        let ours =
            pos_embed::interpolate(&tensors.get(&format!("in.{name}")).values, old, new, dim);
        let deviation = max_abs(&ours, &tensors.get(&format!("out.{name}")).values);
        report.check(
            name,
            "out",
            deviation,
            number(&manifest["tolerance"]["out"], "max_abs"),
        );
    }
    report.finish();
}

#[test]
fn weights_at_another_resolution() {
    let manifest = json("posembed", "manifest.json");
    let source = &manifest["model"];
    let mut report = Report::new("posembed/model");
    let params = Tensors::read("posembed", "model.params.safetensors").under("");
    let io = Tensors::read("posembed", "model.io.safetensors");
    let case = json!({
        "img_size": source["target_image"], "patch_size": source["patch_size"],
        "dim": source["dim"], "depth": source["depth"], "heads": source["heads"],
        "num_classes": source["num_classes"],
    });
    let device = Device::flex();
    let mut model = VisionTransformer::new(models::architecture(&case, &params), 0, &device);
    let adapted = weights::load(&mut model, params, false).expect("the weights fit");
    assert_eq!(adapted.pos_embed, Some((4, 6)));
    let tolerance = &manifest["tolerance"];
    let deviation = max_abs(&host(model.pos_embed.clone()), &io.get("pos_embed").values);
    report.check(
        "model",
        "pos_embed",
        deviation,
        number(&tolerance["out"], "max_abs"),
    );
    let input: Tensor<4> = io.tensor("input", &device);
    let deviation = max_abs(&host(model.forward(input, None)), &io.get("logits").values);
    report.check(
        "model",
        "logits",
        deviation,
        number(&tolerance["logits"], "max_abs"),
    );
    report.finish();
}
