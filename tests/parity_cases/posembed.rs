//! Interpolation of position embeddings, alone and while weights are loaded.

use crate::fixture::{Report, host, list, max_abs, models_in_turn, size, text};
use crate::models;
use ablate::model::{VisionTransformer, pos_embed, weights};
use burn::tensor::{Device, Tensor};

#[test]
fn posembed() {
    let _turn = models_in_turn();
    let mut report = Report::open("posembed", &["cases", "model"]);
    let manifest = report.manifest.clone();
    let tensors = report.tensors("interpolate.safetensors");
    let bound = report.tolerance(&["out", "max_abs"]);
    for case in list(&manifest, "cases") {
        let name = text(case, "name");
        report.settings(
            name,
            case,
            &["name", "old", "new", "dim", "float32_torch_deviation"],
        );
        report.case(name, |report| {
            let [old, new, dim] = ["old", "new", "dim"].map(|key| size(case, key));
            let source = &tensors.get(&format!("in.{name}")).values;
            let ours = pos_embed::interpolate(source, old, new, dim);
            let deviation = max_abs(&ours, &tensors.get(&format!("out.{name}")).values);
            report.check(name, "out", deviation, bound);
            // What the reference does not do: antialiasing, as later releases of timm have it.
            let _ = tensors.get(&format!("antialias.{name}"));
        });
    }
    report.case("model", |report| {
        let source = &manifest["model"];
        let known = [
            "patch_size",
            "dim",
            "depth",
            "heads",
            "num_classes",
            "source_image",
            "target_image",
            "parallel",
        ];
        report.settings("model", source, &known);
        let params = report.tensors("model.params.safetensors").under("");
        let io = report.tensors("model.io.safetensors");
        let mut case = source.clone();
        case["img_size"] = source["target_image"].clone();
        let device = Device::flex();
        let mut model = VisionTransformer::new(models::architecture(&case, &params), 0, &device);
        let adapted = weights::load(&mut model, params, false).expect("the weights fit");
        let grid = |key: &str| size(source, key) / size(source, "patch_size");
        let grids = (grid("source_image"), grid("target_image"));
        let expected = (grids.0 != grids.1).then_some(grids);
        report.holds("model", "grids", adapted.pos_embed == expected);
        let ours = host(model.pos_embed.clone());
        report.check(
            "model",
            "pos_embed",
            max_abs(&ours, &io.get("pos_embed").values),
            bound,
        );
        let input: Tensor<4> = io.tensor("input", &device);
        let deviation = max_abs(&host(model.forward(input, None)), &io.get("logits").values);
        report.check(
            "model",
            "logits",
            deviation,
            report.tolerance(&["logits", "max_abs"]),
        );
    });
    report.finish();
}
