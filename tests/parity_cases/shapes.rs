//! Parameter counts, shapes, operations and initial values of the real models, and a model of real
//! size whose weights come from a hash.

use crate::fixture::{
    Report, entries, host, list, max_abs, models_in_turn, number, numbers, one_hot, relative, size,
    text,
};
use crate::models;
use ablate::loss;
use ablate::model::parameter::{self, HostParameter};
use ablate::model::{Architecture, VisionTransformer};
use ablate::plan::cost::VitShape;
use ablate::spec::recipe::DropPathRule;
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::Value;

/// The architecture of a row of `models.json`. Rows of timm's models leave out what the name says.
fn architecture(row: &Value) -> Architecture {
    let name = text(row, "name");
    let in_name = |key: &str| -> Option<usize> {
        let digits = name.split_once(key)?.1;
        let end = digits
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(digits.len());
        digits[..end].parse().ok()
    };
    let get = |key: &str| row[key].as_u64().map(|v| v as usize);
    let embed_dim = size(row, "embed_dim");
    Architecture {
        resolution: size(row, "image_size"),
        channels: 3,
        patch_size: get("patch_size")
            .or(in_name("patch"))
            .expect("a patch size"),
        embed_dim,
        depth: size(row, "depth"),
        // The number of heads changes no shape.
        num_heads: get("num_heads").unwrap_or(1),
        mlp_ratio: 4.0,
        parallel_branches: get("parallel").unwrap_or(1),
        layer_scale: row["layer_scale"].as_bool().unwrap_or(true).then_some(1e-4),
        drop_path: 0.0,
        drop_path_rule: DropPathRule::Constant,
        pos_embed_class: false,
        classes: get("num_classes").unwrap_or(1000),
    }
}

/// Names and shapes of all parameters. Built with one block, which stands for all: they are equal, and
/// the largest models don't fit every memory.
fn shapes_of(arch: &Architecture) -> Vec<(String, Vec<usize>)> {
    let depth = arch.depth;
    let one = Architecture {
        depth: 1,
        ..arch.clone()
    };
    let mut model = VisionTransformer::new(one, 0, &Device::flex());
    let mut all = Vec::new();
    for (name, shape) in parameter::shapes(&mut model) {
        match name.strip_prefix("blocks.0.") {
            Some(rest) => {
                all.extend((0..depth).map(|i| (format!("blocks.{i}.{rest}"), shape.clone())))
            }
            None => all.push((name, shape)),
        }
    }
    all
}

#[test]
fn shapes() {
    let _turn = models_in_turn();
    let mut report = Report::open(
        "shapes",
        &["procedural_rule", "procedural_scale_offset", "real_size"],
    );
    let rows = report.json("models.json");
    let rows = rows.as_array().expect("models");
    for row in rows {
        let name = format!("{} at {}", text(row, "name"), size(row, "image_size"));
        let known = [
            "name",
            "image_size",
            "patch_size",
            "embed_dim",
            "depth",
            "num_heads",
            "layer_scale",
            "parallel",
            "num_classes",
            "n_parameters",
            "n_tensors",
            "n_tokens",
            "flops_per_image",
        ];
        report.settings(&name, row, &known);
        report.case(&name, |report| counts(report, &name, row));
    }
    let tables = report.json("state_dict_shapes.json");
    for (name, table) in entries(&tables) {
        report.settings(name, table, &["image_size", "shapes"]);
        report.case(name, |report| {
            let row = rows
                .iter()
                .find(|row| row["name"] == name && row["image_size"] == table["image_size"])
                .expect("a row of models.json");
            let mut ours = shapes_of(&architecture(row));
            ours.sort();
            let mut theirs: Vec<(String, Vec<usize>)> = entries(&table["shapes"])
                .map(|(key, _)| {
                    (
                        key.to_owned(),
                        numbers(&table["shapes"], key)
                            .iter()
                            .map(|n| *n as usize)
                            .collect(),
                    )
                })
                .collect();
            theirs.sort();
            let wrong = ours.iter().filter(|pair| !theirs.contains(pair)).count();
            report.check(
                name,
                "shapes that differ",
                wrong.max(ours.len().abs_diff(theirs.len())) as f64,
                0.0,
            );
        });
    }
    let rules = report.json("init.json");
    report.case("init", |report| initial_values(report, &rules));
    let manifest = report.manifest.clone();
    for case in list(&manifest, "real_size") {
        let name = text(case, "name");
        let known = [
            "name",
            "img_size",
            "patch_size",
            "dim",
            "depth",
            "heads",
            "num_classes",
            "batch",
            "name_prefix",
            "file",
            "loss_ce",
            "grad_norms",
            "input",
            "first_values",
            "float32_torch_deviation",
            "parallel",
        ];
        report.settings(name, case, &known);
        report.case(name, |report| {
            procedural(report, name, case, &manifest["procedural_scale_offset"])
        });
    }
    report.finish();
}

fn counts(report: &mut Report, name: &str, row: &Value) {
    let arch = architecture(row);
    let shape = VitShape {
        patch_size: arch.patch_size as u64,
        embed_dim: arch.embed_dim as u64,
        depth: arch.depth as u64,
        num_heads: 1,
        parallel_branches: arch.parallel_branches as u64,
        mlp_ratio: arch.mlp_ratio,
        layer_scale: arch.layer_scale.is_some(),
        pos_embed_class: arch.pos_embed_class,
        classes: arch.classes as u64,
    };
    let resolution = arch.resolution as u64;
    let shapes = shapes_of(&arch);
    let count: usize = shapes
        .iter()
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum();
    let expected = size(row, "n_parameters");
    let exact = report.exact("counts and shapes");
    report.check(
        name,
        "parameters of the model",
        count.abs_diff(expected) as f64,
        exact,
    );
    let counted = shape.parameters(resolution) as usize;
    report.check(
        name,
        "parameters of the plan",
        counted.abs_diff(expected) as f64,
        exact,
    );
    let tensors = shapes.len().abs_diff(size(row, "n_tensors"));
    report.check(name, "tensors", tensors as f64, exact);
    if !row["n_tokens"].is_null() {
        let tokens = shape.patches(resolution) as usize + 1;
        report.check(
            name,
            "tokens",
            tokens.abs_diff(size(row, "n_tokens")) as f64,
            exact,
        );
    }
    let flops = (shape.forward_flops(resolution) - number(row, "flops_per_image")).abs();
    report.check(name, "operations", flops, report.exact("flops"));
}

/// A fresh model of the kind that `init.json` describes: every tensor within five standard errors of
/// its law's mean and standard deviation, constants exactly.
fn initial_values(report: &mut Report, rules: &Value) {
    let known = [
        "comment",
        "pos_embed",
        "cls_token",
        "every Linear weight, head included",
        "every Linear bias",
        "LayerNorm weight / bias",
        "gamma_*",
        "patch_embed.proj.weight and .bias",
    ];
    report.settings("init", rules, &known);
    let std = |key: &str| -> f64 {
        let words = text(rules, key);
        let number = words
            .strip_prefix("trunc_normal(std ")
            .and_then(|rest| rest.strip_suffix(')'));
        number
            .and_then(|n| n.parse().ok())
            .unwrap_or_else(|| panic!("unknown law {words}"))
    };
    let constant = |words: &str| -> f64 {
        words
            .split_whitespace()
            .next()
            .and_then(|w| w.parse().ok())
            .expect("a constant")
    };
    let (norm_weight, norm_bias) = text(rules, "LayerNorm weight / bias")
        .split_once('/')
        .expect("two constants");
    let patch_law = text(rules, "patch_embed.proj.weight and .bias");
    assert!(
        patch_law.contains("uniform(-b, b), b = 1/sqrt(3*p*p)"),
        "unknown law {patch_law}"
    );
    let gamma = constant(text(rules, "gamma_*"));
    let patch_size = 16;
    let row = serde_json::json!({
        "name": "a tiny model", "image_size": 224, "patch_size": patch_size, "embed_dim": 192, "depth": 2,
        "num_heads": 3,
    });
    let arch = Architecture {
        layer_scale: Some(gamma),
        ..architecture(&row)
    };
    let mut model = VisionTransformer::new(arch, 5, &Device::flex());
    let bound = 1.0 / (3.0 * f64::from(patch_size * patch_size)).sqrt();
    for p in parameter::export(&mut model) {
        let name = p.name.as_str();
        let law = if name.starts_with("patch_embed.proj.") {
            Law::Uniform(bound)
        } else if name == "pos_embed" || name == "cls_token" {
            Law::Normal(std(name))
        } else if name.contains("gamma_") {
            Law::Constant(gamma)
        } else if name.contains("norm") {
            Law::Constant(constant(if name.ends_with("weight") {
                norm_weight
            } else {
                norm_bias
            }))
        } else if name.ends_with("bias") {
            Law::Constant(constant(text(rules, "every Linear bias")))
        } else {
            Law::Normal(std("every Linear weight, head included"))
        };
        law.check(report, &p);
    }
}

#[derive(Clone, Copy)]
enum Law {
    Constant(f64),
    Normal(f64),
    Uniform(f64),
}

impl Law {
    fn check(self, report: &mut Report, p: &HostParameter) {
        let n = p.values.len() as f64;
        let mean = p.values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let variance = p
            .values
            .iter()
            .map(|v| (f64::from(*v) - mean).powi(2))
            .sum::<f64>()
            / n;
        // Standard deviation, and kurtosis for the error of the sample's own.
        let (std, kurtosis) = match self {
            Law::Constant(value) => {
                let equal = p.values.iter().all(|v| *v == value as f32);
                return report.holds("init", &p.name, equal);
            }
            Law::Normal(std) => (std, 3.0),
            Law::Uniform(bound) => {
                let inside = p
                    .values
                    .iter()
                    .all(|v| f64::from(v.abs()) <= bound * (1.0 + 1e-7));
                report.holds("init", &format!("range of {}", p.name), inside);
                (bound / 3f64.sqrt(), 1.8)
            }
        };
        let errors = mean.abs() / (std / n.sqrt());
        report.check(
            "init",
            &format!("mean of {} in standard errors", p.name),
            errors,
            5.0,
        );
        let errors = (variance / (std * std) - 1.0).abs() / ((kurtosis - 1.0) / n).sqrt();
        report.check(
            "init",
            &format!("variance of {} in standard errors", p.name),
            errors,
            5.0,
        );
    }
}

/// Values of the hash that the manifest describes.
fn hashed(key: &str, count: usize, scale: f64, offset: f64) -> Vec<f32> {
    let start = crc32fast::hash(key.as_bytes());
    (0..count as u32)
        .map(|i| {
            let mut x = i.wrapping_mul(0x9E37_79B1).wrapping_add(start);
            x ^= x >> 16;
            x = x.wrapping_mul(0x7FEB_352D);
            x ^= x >> 15;
            x = x.wrapping_mul(0x846C_A68B);
            x ^= x >> 16;
            ((f64::from(x) / 2f64.powi(31) - 1.0) * scale + offset) as f32
        })
        .collect()
}

/// Scale and offset of the parameter `name`.
fn scale_offset(rules: &Value, name: &str) -> (f64, f64) {
    let matches = |pattern: &str| {
        pattern.split(", ").any(|pattern| match pattern {
            "*gamma*" => name.contains("gamma"),
            "*norm*.weight" => name.contains("norm") && name.ends_with(".weight"),
            "*norm*.bias" => name.contains("norm") && name.ends_with(".bias"),
            "other .bias" => name.ends_with(".bias"),
            "other .weight" => name.ends_with(".weight"),
            "key" => false,
            exact => exact == name,
        })
    };
    // The first that matches: "other" comes last.
    let (key, _) = entries(rules)
        .find(|(key, _)| matches(key))
        .unwrap_or_else(|| panic!("no scale for {name}"));
    let pair = numbers(rules, key);
    (pair[0], pair[1])
}

fn procedural(report: &mut Report, name: &str, case: &Value, rules: &Value) {
    let prefix = text(case, "name_prefix");
    let expected = report.tensors(text(case, "file"));
    let described = [HostParameter {
        name: "gamma".to_owned(),
        shape: vec![],
        values: vec![],
    }];
    let layer_scale = entries(&case["grad_norms"]).any(|(key, _)| key.contains("gamma"));
    let arch = models::architecture(case, if layer_scale { &described } else { &[] });
    let device = Device::flex().autodiff();
    let mut model = VisionTransformer::new(arch, 0, &device);
    let params: Vec<HostParameter> = parameter::shapes(&mut model)
        .into_iter()
        .map(|(name, shape)| {
            let (scale, offset) = scale_offset(rules, &name);
            let values = hashed(
                &format!("{prefix}{name}"),
                shape.iter().product(),
                scale,
                offset,
            );
            HostParameter {
                name,
                shape,
                values,
            }
        })
        .collect();
    for (key, _) in entries(&case["first_values"]) {
        let ours = params
            .iter()
            .find(|p| p.name == key)
            .expect("a parameter")
            .values
            .iter();
        let theirs = numbers(&case["first_values"], key);
        report.holds(
            name,
            &format!("first values of {key}"),
            ours.zip(&theirs).all(|(a, b)| f64::from(*a) == *b),
        );
    }
    ablate::model::weights::load(&mut model, params, true).expect("the weights fit");

    let input = &case["input"];
    let side = size(case, "img_size");
    let shape = [size(case, "batch"), 3, side, side];
    let values = hashed(
        text(input, "key"),
        shape.iter().product(),
        number(input, "scale"),
        number(input, "offset"),
    );
    let images: Tensor<4> = Tensor::from_data(TensorData::new(values, shape), &device);
    let logits = model.forward(images, None);
    let deviation = max_abs(&host(logits.clone()), &expected.get("logits").values);
    report.check(
        name,
        "logits",
        deviation,
        report.tolerance(&["logits", "max_abs"]),
    );
    let labels = expected.labels("labels");
    let target = one_hot(&labels, size(case, "num_classes"), 0.0, &device);
    let value = loss::soft_target_cross_entropy(logits, target);
    let deviation = (f64::from(host(value.clone())[0]) - number(case, "loss_ce")).abs();
    report.check(
        name,
        "loss",
        deviation,
        report.tolerance(&["loss_ce", "abs"]),
    );
    let mut grads = value.backward();
    let names = parameter::shapes(&mut model);
    let grads = parameter::gradients(&mut model, &mut grads);
    assert_eq!(
        names.len(),
        case["grad_norms"].as_object().expect("norms").len(),
        "gradients"
    );
    let norm = |grad: &[f32]| {
        grad.iter()
            .map(|g| f64::from(*g).powi(2))
            .sum::<f64>()
            .sqrt()
    };
    let worst = names
        .iter()
        .zip(grads)
        .map(|((name, _), grad)| relative(norm(&host(grad)), number(&case["grad_norms"], name)))
        .fold(0.0, f64::max);
    report.check(
        name,
        "gradient norms",
        worst,
        report.tolerance(&["grad_norms", "rel"]),
    );
}
