//! Decoding, image operations, crops and whole chains against Pillow's bytes.

use super::{Tensors, max_difference, parity_dirs, read_image, read_json};
use crate::data::center_crop::CenterCrop;
use crate::data::normalize::normalize;
use crate::data::ops::resize::{resize, resize_crop, shorter_side};
use crate::data::ops::{FILL, Op, geometry};
use crate::data::rand_augment::RandOp;
use crate::data::rgb8::Rect;
use crate::data::simple_random_crop::{Corner, SimpleRandomCrop};
use crate::data::{EvalTransform, Rgb8, random_resized_crop};
use serde_json::Value;
use std::collections::BTreeMap;

/// How far a result is from the expected bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Deviation {
    max: u8,
    mean: f64,
    /// Fraction of bytes that differ.
    differing: f64,
    /// Fraction of bytes that differ by more than one.
    beyond_one: f64,
}

impl Deviation {
    fn between(a: &Rgb8, b: &Rgb8) -> Deviation {
        assert_eq!((a.width(), a.height()), (b.width(), b.height()));
        let differences: Vec<u8> = a
            .data()
            .iter()
            .zip(b.data())
            .map(|(a, b)| a.abs_diff(*b))
            .collect();
        let fraction = |wanted: &dyn Fn(u8) -> bool| {
            let count = differences.iter().filter(|d| wanted(**d)).count();
            count as f64 / differences.len() as f64
        };
        Deviation {
            max: differences.iter().copied().max().unwrap(),
            mean: differences.iter().map(|d| f64::from(*d)).sum::<f64>() / differences.len() as f64,
            differing: fraction(&|d| d > 0),
            beyond_one: fraction(&|d| d > 1),
        }
    }

    fn worst(self, other: Deviation) -> Deviation {
        Deviation {
            max: self.max.max(other.max),
            mean: self.mean.max(other.mean),
            differing: self.differing.max(other.differing),
            beyond_one: self.beyond_one.max(other.beyond_one),
        }
    }

    /// The manifests' tolerance classes.
    fn within(self, class: &str) -> bool {
        match class {
            "exact" => self.max == 0,
            "blend" => self.max <= 1 && self.differing <= 0.01,
            "pm1" => self.max <= 1,
            "resize" => self.max <= 1 && self.mean < 0.05,
            "affine" => self.beyond_one <= 0.002,
            "hue" => self.max <= 2,
            "photo444" => self.max <= 3 && self.mean < 0.1,
            "photo420" => self.max <= 12 && self.mean < 0.6,
            "cmyk" => self.max <= 4 && self.mean < 0.1,
            other => panic!("unknown tolerance class {other}"),
        }
    }
}

fn number(params: &Value, name: &str) -> f64 {
    params[name]
        .as_f64()
        .unwrap_or_else(|| panic!("{name} in {params}"))
}

fn size(params: &Value, name: &str) -> usize {
    params[name]
        .as_u64()
        .unwrap_or_else(|| panic!("{name} in {params}")) as usize
}

fn op(name: &str, params: &Value) -> Op {
    let factor = || number(params, "factor");
    match name {
        "grayscale" => Op::Grayscale,
        "solarize" => Op::Solarize(size(params, "threshold") as u16),
        "solarize_add" => Op::SolarizeAdd(size(params, "add") as u8),
        "posterize" => Op::Posterize(size(params, "bits") as u8),
        "invert" => Op::Invert,
        "equalize" => Op::Equalize,
        "autocontrast" => Op::AutoContrast,
        "gaussian_blur" => Op::GaussianBlur(number(params, "radius") as f32),
        "brightness" => Op::Brightness(factor() as f32),
        "contrast" => Op::Contrast(factor() as f32),
        "saturation" => Op::Saturation(factor() as f32),
        "sharpness" => Op::Sharpness(factor() as f32),
        "hue" => Op::Hue(factor() as f32),
        "rotate" => Op::Rotate(number(params, "degrees")),
        "shear_x" => Op::ShearX(factor()),
        "shear_y" => Op::ShearY(factor()),
        "translate_x_rel" => Op::TranslateXRel(number(params, "pct")),
        "translate_y_rel" => Op::TranslateYRel(number(params, "pct")),
        other => panic!("unknown operation {other}"),
    }
}

fn run(name: &str, params: &Value, image: &Rgb8) -> Rgb8 {
    let mut out = match name {
        "hflip" => {
            let mut out = image.clone();
            geometry::hflip(&mut out);
            out
        }
        "resized_crop" => {
            let rect = Rect {
                left: size(params, "left"),
                top: size(params, "top"),
                width: size(params, "width"),
                height: size(params, "height"),
            };
            random_resized_crop::apply(image, rect, size(params, "size"))
        }
        "resize_shorter" => {
            let (width, height) = shorter_side(image.width(), image.height(), size(params, "size"));
            resize(image, width, height)
        }
        "src" => {
            let crop = SimpleRandomCrop {
                size: size(params, "size"),
                padding: size(params, "pad"),
            };
            crop.apply(
                image,
                Corner {
                    left: size(params, "left"),
                    top: size(params, "top"),
                },
            )
        }
        "eval_transform" => {
            let ratio = number(params, "crop_ratio");
            EvalTransform::new(size(params, "size"), ratio)
                .unwrap()
                .crop(image)
        }
        _ => {
            if let Some(fill) = params["fill"].as_array() {
                assert!(
                    fill.iter()
                        .zip(FILL)
                        .all(|(a, b)| a.as_u64() == Some(u64::from(b)))
                );
            }
            let mut out = image.clone();
            op(name, params).apply(&mut out);
            out
        }
    };
    if params["hflip"].as_bool() == Some(true) {
        geometry::hflip(&mut out);
    }
    out
}

#[test]
fn operations() {
    for dir in parity_dirs() {
        let dir = dir.join("augment");
        let mut worst: BTreeMap<String, Deviation> = BTreeMap::new();
        let mut ops = std::collections::BTreeSet::new();
        let mut failures = Vec::new();
        for case in read_json(&dir.join("cases.json")).as_array().unwrap() {
            let text = |name: &str| case[name].as_str().unwrap();
            let image = read_image(&dir.join(text("input")));
            let out = run(text("op"), &case["params"], &image);
            let deviation = Deviation::between(&out, &read_image(&dir.join(text("output"))));
            ops.insert(text("op").to_owned());
            let class = text("tolerance");
            // The classes allow more; every operation meets its bytes.
            if !deviation.within(class) || !deviation.within("exact") {
                failures.push(format!("{} ({class}): {deviation:?}", text("id")));
            }
            let entry = worst.entry(class.to_owned()).or_default();
            *entry = entry.worst(deviation);
        }
        println!("{}: {worst:#?}", dir.display());
        assert_eq!(ops.len(), 23, "an operation has no case");
        assert!(failures.is_empty(), "{failures:#?}");
    }
}

#[test]
fn decoding() {
    for dir in parity_dirs() {
        let dir = dir.join("decode");
        for case in read_json(&dir.join("manifest.json"))["cases"]
            .as_array()
            .unwrap()
        {
            let text = |name: &str| case[name].as_str().unwrap();
            let image = read_image(&dir.join(text("file")));
            let deviation = Deviation::between(&image, &read_image(&dir.join(text("expected"))));
            println!("{} ({}): {deviation:?}", text("file"), text("tolerance"));
            assert!(
                deviation.within(text("tolerance")),
                "{}: {deviation:?}",
                text("file")
            );
        }
    }
}

/// Pillow 13, which made the fixtures, runs the vertical pass first where the height shrinks much
/// more than the width (python-pillow/Pillow#9549); the Pillow of the reference's time never does,
/// and neither do we. The fixtures show the change between ratios of 1.33 and 1.78.
const PILLOW_13_VERTICAL_FIRST: f64 = 1.5;

#[test]
fn chains_up_to_the_tensor() {
    for dir in parity_dirs() {
        let dir = dir.join("augment");
        let tensors = Tensors::open(&dir.join("pipelines.safetensors"));
        for case in read_json(&dir.join("manifest.json"))["pipelines"]
            .as_array()
            .unwrap()
        {
            let text = |name: &str| case[name].as_str().unwrap();
            let side = size(case, "size");
            let image = read_image(&dir.join("in").join(text("image")).with_extension("png"));
            let list = |name: &str| -> Option<Vec<usize>> {
                let list = case[name].as_array()?;
                Some(list.iter().map(|v| v.as_u64().unwrap() as usize).collect())
            };
            let mut out = if let Some(crop) = list("crop") {
                let rect = Rect {
                    top: crop[0],
                    left: crop[1],
                    height: crop[2],
                    width: crop[3],
                };
                if (rect.height as f64) < PILLOW_13_VERTICAL_FIRST * rect.width as f64 {
                    random_resized_crop::apply(&image, rect, side)
                } else {
                    let narrow = resize_crop(&image, rect, rect.width, side);
                    resize(&narrow, side, side)
                }
            } else if let Some(corner) = list("src") {
                let crop = SimpleRandomCrop {
                    size: side,
                    padding: 4,
                };
                crop.apply(
                    &image,
                    Corner {
                        top: corner[0],
                        left: corner[1],
                    },
                )
            } else {
                EvalTransform::new(side, number(case, "eval_crop_ratio"))
                    .unwrap()
                    .crop(&image)
            };
            if case["hflip"].as_bool() == Some(true) {
                geometry::hflip(&mut out);
            }
            for step in case["ops"].as_array().unwrap_or(&Vec::new()) {
                let value = step[1].clone();
                let name = step[0].as_str().unwrap();
                let key = match name {
                    "gaussian_blur" => "radius",
                    "solarize" => "threshold",
                    _ => "factor",
                };
                op(
                    name,
                    &Value::Object([(key.to_owned(), value)].into_iter().collect()),
                )
                .apply(&mut out);
            }
            let expected = read_image(&dir.join(text("before_normalise")));
            let deviation = Deviation::between(&out, &expected);
            assert!(deviation.within("exact"), "{}: {deviation:?}", text("id"));
            let mut tensor = vec![0.0; 3 * side * side];
            normalize(&out, &mut tensor);
            let difference = max_difference(&tensor, &tensors.f32(text("id")));
            println!("{}: {difference:e}", text("id"));
            assert!(difference <= 1e-5, "{}: {difference}", text("id"));
        }
    }
}

#[test]
fn geometry_of_the_evaluation() {
    for dir in parity_dirs() {
        for case in read_json(&dir.join("augment/eval_geometry.json"))
            .as_array()
            .unwrap()
        {
            let pair = |name: &str| {
                let side = |i: usize| case[name][i].as_u64().unwrap() as usize;
                (side(0), side(1))
            };
            let (width, height) = pair("wh");
            let side = size(case, "size");
            let crop = CenterCrop::new(width, height, side, number(case, "crop_ratio"));
            assert_eq!(crop.resized, pair("resized_wh"), "{case}");
            let window = crop.window;
            assert_eq!(
                (window.top, window.left),
                (size(case, "top"), size(case, "left")),
                "{case}"
            );
            assert_eq!((window.width, window.height), (side, side));
        }
    }
}

#[test]
fn rand_augment_arguments() {
    for dir in parity_dirs() {
        for case in read_json(&dir.join("augment/rand_augment_levels.json"))
            .as_array()
            .unwrap()
        {
            let level = number(case, "level");
            for (name, expected) in case.as_object().unwrap() {
                let op = match name.trim_end_matches("Increasing") {
                    "level" => continue,
                    "Rotate" => RandOp::Rotate,
                    "Posterize" => RandOp::Posterize,
                    "Solarize" => RandOp::Solarize,
                    "SolarizeAdd" => RandOp::SolarizeAdd,
                    "Color" => RandOp::Color,
                    "Contrast" => RandOp::Contrast,
                    "Brightness" => RandOp::Brightness,
                    "Sharpness" => RandOp::Sharpness,
                    "ShearX" => RandOp::ShearX,
                    "ShearY" => RandOp::ShearY,
                    "TranslateXRel" => RandOp::TranslateXRel,
                    "TranslateYRel" => RandOp::TranslateYRel,
                    other => panic!("unknown operation {other}"),
                };
                let mut got: Vec<f64> = [true, false]
                    .iter()
                    .map(|n| argument(op.at(level, true, *n)))
                    .collect();
                got.sort_by(f64::total_cmp);
                got.dedup();
                let expected: Vec<f64> = expected
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|v| v.as_f64().unwrap())
                    .collect();
                assert_eq!(
                    got.len(),
                    expected.len(),
                    "{name} at {level}: {got:?}, {expected:?}"
                );
                for (got, expected) in got.iter().zip(&expected) {
                    // Blend factors are 32-bit floats, as in Pillow.
                    assert!(
                        (got - expected).abs() < 1e-6,
                        "{name} at {level}: {got}, {expected}"
                    );
                }
            }
        }
    }
}

pub(super) fn argument(op: Op) -> f64 {
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
