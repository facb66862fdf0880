//! One model in the formats of published checkpoints.

use crate::fixture::{Report, entries, host, max_abs, models_in_turn};
use crate::models;
use ablate::model::parameter::HostParameter;
use ablate::weights;
use burn::tensor::Device;
use serde_json::Value;
use std::collections::BTreeMap;

/// Values by official name, sorted.
type Parameters = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn by_name(parameters: &[HostParameter]) -> Parameters {
    let pair = |p: &HostParameter| (p.name.clone(), (p.shape.clone(), p.values.clone()));
    parameters.iter().map(pair).collect()
}

/// Nearest half-precision number (ties to even), as a 32-bit float.
fn half(value: f32) -> f32 {
    let magnitude = f64::from(value.abs());
    // Spacing of half-precision numbers around the value; subnormal ones are 2^-24 apart.
    let exponent = if magnitude == 0.0 {
        -14
    } else {
        (magnitude.log2().floor() as i32).max(-14)
    };
    let step = 2f64.powi(exponent - 10);
    ((magnitude / step).round_ties_even() * step).copysign(f64::from(value)) as f32
}

#[test]
fn checkpoint() {
    let _turn = models_in_turn();
    let mut report = Report::open("checkpoint", &["model", "name_map"]);
    let manifest = report.manifest.clone();
    let words = report.tolerance_text("parameters");
    let exact = words.starts_with("bit for bit");
    assert!(
        exact && words.contains("bare_half: float16 of them"),
        "unknown tolerance {words}"
    );
    let io = report.tensors("io.safetensors");

    let mut reference: Option<Parameters> = None;
    let is_half = |file: &str| file.contains("half");
    let mut files: Vec<&str> = entries(&manifest["files"]).map(|(file, _)| file).collect();
    files.retain(|file| *file != "io.safetensors");
    // Full precision first: the others are compared with the first of it.
    files.sort_by_key(|file| is_half(file));
    for file in files {
        report.case(file, |report| {
            let path = report.path(file);
            let read = weights::read(&path).unwrap_or_else(|error| panic!("{error}"));
            let ours = by_name(&read.parameters);
            if is_half(file) {
                let full = reference.as_ref().expect("a file of full precision");
                let rounded: Parameters = full
                    .iter()
                    .map(|(name, (shape, values))| {
                        let values = values.iter().map(|v| half(*v)).collect();
                        (name.clone(), (shape.clone(), values))
                    })
                    .collect();
                report.holds(file, "parameters as float16", ours == rounded);
                return;
            }
            let device = Device::flex();
            let model = models::model(
                &manifest["model"],
                read.parameters,
                &device.clone().autodiff(),
            );
            let logits = model
                .without_autodiff()
                .forward(io.tensor::<4>("input", &device), None);
            let deviation = max_abs(&host(logits), &io.get("logits").values);
            report.check(
                file,
                "logits",
                deviation,
                report.tolerance(&["logits", "max_abs"]),
            );
            let first = reference.get_or_insert_with(|| ours.clone());
            report.holds(file, "parameters", ours == *first);
        });
    }
    report.case("name_map", |report| name_map(report, &manifest["name_map"]));
    report.finish();
}

/// The two naming schemes, in both directions.
fn name_map(report: &mut Report, map: &Value) {
    for (official, timm) in entries(map) {
        match (official, timm) {
            ("everything else", Value::String(same)) => {
                assert_eq!(same, "the same in both");
                let name = "blocks.3.mlp.fc1.weight";
                let equal = weights::timm(name, 1) == name && weights::official(name) == name;
                report.holds("name_map", official, equal);
            }
            ("parallel blocks (timm side)", Value::Object(parts)) => {
                for (timm, official) in parts {
                    // A prefix stands for all that begin with it.
                    let rest = if timm.ends_with('.') { "weight" } else { "" };
                    let rest = match timm.contains(".attn.") {
                        true => "proj.weight",
                        false if timm.contains(".mlp.") => "fc1.weight",
                        false => rest,
                    };
                    let timm = format!("blocks.5.{timm}{rest}");
                    let ours = format!("blocks.5.{}{rest}", official.as_str().expect("a name"));
                    let equal = weights::timm(&ours, 2) == timm && weights::official(&timm) == ours;
                    report.holds("name_map", &timm, equal);
                }
            }
            (official, Value::String(timm)) => {
                let (official, timm) = (official.replace(".N.", ".7."), timm.replace(".N.", ".7."));
                let equal =
                    weights::timm(&official, 1) == timm && weights::official(&timm) == official;
                report.holds("name_map", &official, equal);
            }
            (other, _) => panic!("unknown entry {other}"),
        }
    }
}
