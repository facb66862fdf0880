//! AutoAugment and TrivialAugment against facts that the programs of timm and torchvision gave
//! (`facts/`): tables, arguments, pixels and statistics of draws.

use super::statistics::{DRAWS, assert_frequency, rng};
use crate::data::Rgb8;
use crate::data::auto_augment::{AutoAugment, AutoOp};
use crate::data::ops::Op;
use crate::data::rand_augment::RandOp;
use crate::data::trivial_augment::{self, BINS, TrivialOp};
use crate::spec::policy::{self, Policy};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

fn read_json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn argument(op: Op) -> f64 {
    match op {
        Op::Solarize(threshold) => f64::from(threshold),
        Op::SolarizeAdd(value) | Op::Posterize(value) => f64::from(value),
        Op::GaussianBlur(value)
        | Op::Brightness(value)
        | Op::Contrast(value)
        | Op::Saturation(value)
        | Op::Sharpness(value)
        | Op::Hue(value) => f64::from(value),
        Op::Rotate(value)
        | Op::ShearX(value)
        | Op::ShearY(value)
        | Op::TranslateXRel(value)
        | Op::TranslateYRel(value)
        | Op::RotateNearest(value)
        | Op::ShearXNearest(value)
        | Op::ShearYNearest(value) => value,
        Op::TranslateX(pixels) | Op::TranslateY(pixels) => f64::from(pixels),
        Op::Grayscale | Op::Invert | Op::Equalize | Op::AutoContrast => 0.0,
    }
}

fn facts(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/data/tests/facts");
    read_json(&folder.join(name))
}

fn auto_augment(text: &str) -> AutoAugment {
    match policy::parse(text) {
        Ok(Policy::AutoAugment(policy)) => policy,
        other => panic!("{text}: {other:?}"),
    }
}

/// timm's name.
fn name(op: AutoOp) -> String {
    match op {
        AutoOp::Plain(op) => format!("{op:?}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn tables_of_auto_augment() {
    for (text, table) in facts("auto_augment.json")["policies"].as_object().unwrap() {
        let expected: Vec<Vec<(String, f64, u64)>> = table
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                let steps = row.as_array().unwrap().iter();
                steps
                    .map(|step| {
                        let name = step[0].as_str().unwrap().to_owned();
                        (name, step[1].as_f64().unwrap(), step[2].as_u64().unwrap())
                    })
                    .collect()
            })
            .collect();
        let got: Vec<Vec<(String, f64, u64)>> = auto_augment(text)
            .sub_policies()
            .iter()
            .map(|row| {
                row.map(|(op, prob, level)| (name(op), prob, u64::from(level)))
                    .into()
            })
            .collect();
        assert_eq!(got, expected, "{text}");
    }
}

#[test]
fn arguments_of_auto_augment() {
    let facts = facts("auto_augment.json");
    let ops: BTreeMap<String, AutoOp> = ["original", "originalr", "v0"]
        .iter()
        .flat_map(|text| auto_augment(text).sub_policies())
        .flatten()
        .map(|(op, ..)| (name(op), op))
        .collect();
    let expected = facts["arguments_at_level_0_to_10"].as_object().unwrap();
    assert_eq!(ops.len(), expected.len());
    for (name, levels) in expected {
        for (level, arguments) in levels.as_array().unwrap().iter().enumerate() {
            let arguments = arguments.as_array().unwrap();
            for expected in arguments {
                let expected = expected.as_f64().unwrap();
                let found = [true, false].iter().any(|negative| {
                    let got = argument(ops[name].at(level as f64, *negative));
                    (got - expected).abs() < 1e-6
                });
                assert!(found, "{name} at {level}: {expected}");
            }
        }
    }
}

#[test]
fn draws_of_auto_augment() {
    for (text, reference) in facts("auto_augment.json")["draws"].as_object().unwrap() {
        let images = reference["images"].as_f64().unwrap();
        let policy = auto_augment(text);
        let mut applied = [0usize; 3];
        let mut arguments: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for i in 0..DRAWS {
            let ops = policy.draw(&mut rng(i));
            applied[ops.len()] += 1;
            for op in ops {
                let name = match op {
                    Op::AutoContrast => "AutoContrast",
                    Op::Equalize => "Equalize",
                    Op::Invert => "Invert",
                    Op::Rotate(_) => "Rotate",
                    Op::Posterize(_) if text.starts_with("original") => "PosterizeOriginal",
                    Op::Posterize(_) => "Posterize",
                    Op::Solarize(_) => "Solarize",
                    Op::SolarizeAdd(_) => "SolarizeAdd",
                    Op::Saturation(_) => "Color",
                    Op::Contrast(_) => "Contrast",
                    Op::Sharpness(_) => "Sharpness",
                    Op::ShearX(_) => "ShearX",
                    Op::ShearY(_) => "ShearY",
                    Op::TranslateYRel(_) => "TranslateYRel",
                    other => panic!("{other:?}"),
                };
                arguments.entry(name).or_default().push(argument(op));
            }
        }
        for (i, count) in applied.into_iter().enumerate() {
            let expected = reference["applied_count_frequency"][i.to_string()]
                .as_f64()
                .unwrap();
            assert_frequency("operations per image", count, DRAWS, expected, images);
        }
        let ops = reference["ops"].as_object().unwrap();
        assert_eq!(arguments.len(), ops.len(), "{text}");
        for (name, values) in &arguments {
            let expected = ops[*name]["applied_per_image"].as_f64().unwrap();
            // An operation may stand twice in a sub-policy, so the spread is up to twice that of one.
            assert_frequency(name, values.len() / 2, DRAWS, expected / 2.0, images / 2.0);
            let Some(reference) = ops[*name].get("argument") else {
                continue;
            };
            let number = |key: &str| reference[key].as_f64().unwrap();
            let n = values.len() as f64;
            let mean =
                |value: &dyn Fn(f64) -> f64| values.iter().map(|v| value(*v)).sum::<f64>() / n;
            let bound = 5.0 * number("std") * (1.0 / number("n") + 1.0 / n).sqrt() + 1e-6;
            assert!(
                (mean(&|v| v) - number("mean")).abs() <= bound,
                "{text} {name}"
            );
            assert!(
                (mean(&f64::abs) - number("mean_abs")).abs() <= bound,
                "{text} {name}"
            );
        }
    }
}

#[test]
fn magnitudes_of_trivial_augment() {
    let facts = facts("trivial_augment.json");
    for op in TrivialOp::ALL {
        let magnitudes = facts["magnitudes"][format!("{op:?}")].as_array().unwrap();
        for (bin, magnitude) in magnitudes.iter().enumerate() {
            let magnitude = magnitude.as_f64().unwrap();
            let expected = match op {
                TrivialOp::Brightness
                | TrivialOp::Color
                | TrivialOp::Contrast
                | TrivialOp::Sharpness => 1.0 + magnitude,
                TrivialOp::TranslateX | TrivialOp::TranslateY => magnitude.trunc(),
                TrivialOp::Solarize => magnitude.ceil(),
                _ => magnitude,
            };
            let got = op.at(bin, false).map_or(0.0, argument);
            assert!(
                (got - expected).abs() < 1e-6,
                "{op:?} {bin}: {got}, {expected}"
            );
        }
        let signed = facts["signed"].as_array().unwrap();
        let expected = signed.contains(&Value::from(format!("{op:?}")));
        assert_eq!(
            op.at(BINS - 1, true) != op.at(BINS - 1, false),
            expected,
            "{op:?}"
        );
    }
}

/// The picture that the facts were made from: noise over a gradient.
fn picture(width: usize, height: usize) -> Rgb8 {
    let mut state = 12_345u64;
    let mut data = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            for channel in 0..3 {
                state = (state * 1_103_515_245 + 12_345) & 0x7fff_ffff;
                let value = (x * 7 + y * 5 + channel * 40) as u64 + (state >> 16) % 90;
                data.push((value % 256) as u8);
            }
        }
    }
    Rgb8::from_raw(width, height, data).unwrap()
}

/// FNV-1a.
fn digest(image: &Rgb8) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in image.data() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    }
    format!("{hash:016x}")
}

#[test]
fn pixels_of_trivial_augment() {
    let facts = facts("trivial_augment.json");
    assert_eq!(
        digest(&picture(37, 23)),
        facts["image_37x23"].as_str().unwrap()
    );
    let mut failures = Vec::new();
    let cases = facts["pixels"].as_array().unwrap();
    for case in cases {
        let size = |i: usize| case[i].as_u64().unwrap() as usize;
        let mut image = picture(size(0), size(1));
        let op = TrivialOp::ALL
            .into_iter()
            .find(|op| Some(format!("{op:?}").as_str()) == case[2].as_str())
            .unwrap();
        if let Some(op) = op.at(size(3), case[4].as_bool().unwrap()) {
            op.apply(&mut image);
        }
        if Some(digest(&image).as_str()) != case[5].as_str() {
            failures.push(case.to_string());
        }
    }
    assert!(failures.is_empty() && cases.len() > 600, "{failures:#?}");
}

#[test]
fn draws_of_trivial_augment() {
    let mut counts = [0usize; TrivialOp::ALL.len()];
    let mut bins = [0usize; BINS];
    let mut negative = 0;
    for i in 0..DRAWS {
        let index = match trivial_augment::draw(&mut rng(i)) {
            None => 0,
            Some(Op::ShearXNearest(_)) => 1,
            Some(Op::ShearYNearest(_)) => 2,
            Some(Op::TranslateX(_)) => 3,
            Some(Op::TranslateY(_)) => 4,
            Some(Op::RotateNearest(degrees)) => {
                bins[(degrees.abs() / 4.5) as usize] += 1;
                negative += usize::from(degrees.is_sign_negative());
                5
            }
            Some(Op::Brightness(_)) => 6,
            Some(Op::Saturation(_)) => 7,
            Some(Op::Contrast(_)) => 8,
            Some(Op::Sharpness(_)) => 9,
            Some(Op::Posterize(_)) => 10,
            Some(Op::Solarize(_)) => 11,
            Some(Op::AutoContrast) => 12,
            Some(Op::Equalize) => 13,
            Some(other) => panic!("{other:?}"),
        };
        counts[index] += 1;
    }
    for count in counts {
        assert_frequency("operation", count, DRAWS, 1.0 / 14.0, 1e12);
    }
    let rotations = counts[5] as u64;
    for count in bins {
        assert_frequency("magnitude", count, rotations, 1.0 / 31.0, 1e12);
    }
    assert_frequency("negative", negative, rotations, 0.5, 1e12);
}

/// The list that does not increase gets weaker with the magnitude for some operations: timm's own
/// default, and what AutoAugment's tables mean.
#[test]
fn blend_factors_of_auto_augment_span_both_sides_of_one() {
    let factor = |level| argument(AutoOp::Plain(RandOp::Color).at(level, true));
    assert!((factor(0.0) - 0.1).abs() < 1e-6 && (factor(10.0) - 1.9).abs() < 1e-6);
}
