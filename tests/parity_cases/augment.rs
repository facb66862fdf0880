//! Image operations, crops and whole chains against Pillow's bytes.

use crate::fixture::{Report, entries, list, max_abs, number, numbers, size, text};
use crate::tolerance::{self, Deviation};
use ablate::data::center_crop::CenterCrop;
use ablate::data::normalize::{MEAN, STD, normalize};
use ablate::data::ops::resize::{resize, shorter_side};
use ablate::data::ops::{FILL, Op, affine, geometry};
use ablate::data::rand_augment::RandOp;
use ablate::data::rgb8::Rect;
use ablate::data::simple_random_crop::{Corner, SimpleRandomCrop};
use ablate::data::{EvalTransform, Rgb8, random_resized_crop};
use serde_json::{Value, json};

/// Settings of an operation that a case may have.
const PARAMS: [&str; 22] = [
    "channels",
    "threshold",
    "add",
    "bits",
    "radius",
    "factor",
    "degrees",
    "pct",
    "fill",
    "resample",
    "top",
    "left",
    "height",
    "width",
    "size",
    "hflip",
    "result_wh",
    "resized_wh",
    "padded_wh",
    "pad",
    "crop_ratio",
    "resize_to",
];

fn op(name: &str, params: &Value) -> Op {
    let factor = || number(params, "factor") as f32;
    match name {
        "grayscale" => Op::Grayscale,
        "solarize" => Op::Solarize(size(params, "threshold") as u16),
        "solarize_add" => Op::SolarizeAdd(size(params, "add") as u8),
        "posterize" => Op::Posterize(size(params, "bits") as u8),
        "invert" => Op::Invert,
        "equalize" => Op::Equalize,
        "autocontrast" => Op::AutoContrast,
        "gaussian_blur" => Op::GaussianBlur(number(params, "radius") as f32),
        "brightness" => Op::Brightness(factor()),
        "contrast" => Op::Contrast(factor()),
        "saturation" => Op::Saturation(factor()),
        "sharpness" => Op::Sharpness(factor()),
        "hue" => Op::Hue(factor()),
        other => panic!("unknown operation {other}"),
    }
}

fn src(image: &Rgb8, size: usize, padding: usize, top: usize, left: usize) -> Rgb8 {
    SimpleRandomCrop { size, padding }.apply(image, Corner { left, top })
}

fn eval(image: &Rgb8, size: usize, crop_ratio: f64) -> Rgb8 {
    EvalTransform::new(size, crop_ratio)
        .expect("an evaluation")
        .crop(image)
}

fn run(name: &str, params: &Value, image: &Rgb8) -> Rgb8 {
    let at = |key: &str| size(params, key);
    let pair = |key: &str| [0, 1].map(|i| params[key][i].as_u64().expect("a size") as usize);
    let geometric = |transform: fn(&Rgb8, f64, [u8; 3]) -> Rgb8, key: &str| {
        assert_eq!(params["resample"], "bicubic");
        let fill = [0, 1, 2].map(|i| params["fill"][i].as_u64().expect("a colour") as u8);
        transform(image, number(params, key), fill)
    };
    let shorter = || shorter_side(image.width(), image.height(), at("size"));
    let mut out = match name {
        "hflip" => {
            let mut out = image.clone();
            geometry::hflip(&mut out);
            out
        }
        "rotate" => geometric(affine::rotate, "degrees"),
        "shear_x" => geometric(affine::shear_x, "factor"),
        "shear_y" => geometric(affine::shear_y, "factor"),
        "translate_x_rel" => geometric(affine::translate_x_rel, "pct"),
        "translate_y_rel" => geometric(affine::translate_y_rel, "pct"),
        "resized_crop" => {
            let rect = Rect {
                left: at("left"),
                top: at("top"),
                width: at("width"),
                height: at("height"),
            };
            random_resized_crop::apply(image, rect, at("size"))
        }
        "resize_shorter" => {
            let (width, height) = shorter();
            assert_eq!([width, height], pair("result_wh"));
            resize(image, width, height)
        }
        "src" => {
            let (width, height) = shorter();
            assert_eq!([width, height], pair("resized_wh"));
            assert_eq!(
                [width, height].map(|n| n + 2 * at("pad")),
                pair("padded_wh")
            );
            src(image, at("size"), at("pad"), at("top"), at("left"))
        }
        "eval_transform" => {
            let ratio = number(params, "crop_ratio");
            let crop = CenterCrop::new(image.width(), image.height(), at("size"), ratio);
            assert_eq!([crop.resized.0, crop.resized.1], pair("resized_wh"));
            eval(image, at("size"), ratio)
        }
        _ => {
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
fn augment() {
    let mut report = Report::open("augment", &["normalise", "pipelines"]);
    let cases = report.json("cases.json");
    let mut exact = 0;
    for case in cases.as_array().expect("cases") {
        let id = text(case, "id");
        report.settings(
            id,
            case,
            &["id", "op", "input", "output", "tolerance", "params"],
        );
        report.settings(
            id,
            &case["params"],
            &[&PARAMS[..], &["ra_name", "level"]].concat(),
        );
        report.case(id, |report| {
            let image = report.image(text(case, "input"));
            let expected = report.image(text(case, "output"));
            let out = run(text(case, "op"), &case["params"], &image);
            let tolerance = report.tolerance_text(text(case, "tolerance"));
            exact += usize::from(out == expected);
            for (what, measured, bound) in Deviation::between(&out, &expected).clauses(&tolerance) {
                report.check(id, &what, measured, bound);
            }
        });
    }
    println!(
        "augment: {exact} of {} images byte for byte",
        cases.as_array().map_or(0, Vec::len)
    );
    chains(&mut report);
    geometry_of_the_evaluation(&mut report);
    rand_augment_levels(&mut report);
    report.finish();
}

/// Whole chains up to the normalised tensor.
fn chains(report: &mut Report) {
    let manifest = report.manifest.clone();
    let tensors = report.tensors("pipelines.safetensors");
    report.case("normalise", |report| {
        for (key, ours) in [("mean", MEAN), ("std", STD)] {
            let equal = numbers(&manifest["normalise"], key)
                .iter()
                .map(|v| *v as f32)
                .eq(ours);
            report.holds("normalise", key, equal);
        }
    });
    for case in list(&manifest, "pipelines") {
        let id = text(case, "id");
        let known = [
            "id",
            "before_normalise",
            "image",
            "size",
            "crop",
            "src",
            "eval_crop_ratio",
            "pad",
            "hflip",
            "ops",
        ];
        report.settings(id, case, &known);
        report.case(id, |report| {
            let side = size(case, "size");
            let image = report.image(&format!("in/{}.png", text(case, "image")));
            let corner = |key: &str| numbers(case, key).iter().map(|v| *v as usize).collect::<Vec<_>>();
            let mut out = if !case["crop"].is_null() {
                let crop = corner("crop");
                let rect = Rect { top: crop[0], left: crop[1], height: crop[2], width: crop[3] };
                random_resized_crop::apply(&image, rect, side)
            } else if !case["src"].is_null() {
                let corner = corner("src");
                let pad = case["pad"].as_u64().unwrap_or(4) as usize;
                src(&image, side, pad, corner[0], corner[1])
            } else {
                eval(&image, side, number(case, "eval_crop_ratio"))
            };
            if case["hflip"].as_bool() == Some(true) {
                geometry::hflip(&mut out);
            }
            for step in case["ops"].as_array().unwrap_or(&Vec::new()) {
                let name = step[0].as_str().expect("an operation");
                // The one argument, under whichever name the operation has for it.
                let value = &step[1];
                let params = json!({
                    "radius": value, "threshold": value, "factor": value, "add": value, "bits": value,
                    "degrees": value, "pct": value, "resample": "bicubic", "fill": FILL,
                });
                out = run(name, &params, &out);
            }
            let expected = report.image(text(case, "before_normalise"));
            let bytes = Deviation::between(&out, &expected);
            let mut tensor = vec![0.0; 3 * side * side];
            normalize(&out, &mut tensor);
            let reference = &tensors.get(id).values;
            let deviation = max_abs(&tensor, reference);
            let words = report.tolerance_text("pipelines");
            let (loose, strict) = words.split_once(';').expect("two tolerances");
            if bytes.max == 0 {
                assert!(strict.contains("when the 8-bit image before normalising is equal"));
                report.check(id, "tensor (bytes equal)", deviation, tolerance::numbers(strict)[0]);
            } else {
                let [max_bound, mean_bound] = tolerance::numbers(loose)[..] else {
                    panic!("unknown tolerance {loose:?}")
                };
                report.check(id, "tensor", deviation, max_bound);
                let distance = tensor.iter().zip(reference).map(|(a, b)| f64::from((a - b).abs()));
                let mean = distance.sum::<f64>() / tensor.len() as f64;
                report.check(id, "tensor, mean", mean, mean_bound);
            }
        });
    }
}

fn geometry_of_the_evaluation(report: &mut Report) {
    let cases = report.json("eval_geometry.json");
    for (index, case) in cases.as_array().expect("cases").iter().enumerate() {
        let name = format!("geometry {index}");
        let known = [
            "wh",
            "size",
            "crop_ratio",
            "resize_to",
            "resized_wh",
            "top",
            "left",
        ];
        report.settings(&name, case, &known);
        report.case(&name, |report| {
            let pair = |key: &str| {
                let side = |i: usize| case[key][i].as_u64().expect("a size") as usize;
                (side(0), side(1))
            };
            let (width, height) = pair("wh");
            let side = size(case, "size");
            let crop = CenterCrop::new(width, height, side, number(case, "crop_ratio"));
            let shorter = crop.resized.0.min(crop.resized.1);
            let window = Rect {
                left: size(case, "left"),
                top: size(case, "top"),
                width: side,
                height: side,
            };
            let equal = crop.resized == pair("resized_wh")
                && crop.window == window
                && shorter == size(case, "resize_to");
            report.holds(&name, "resized and cropped", equal);
        });
    }
}

fn rand_augment_levels(report: &mut Report) {
    let cases = report.json("rand_augment_levels.json");
    for case in cases.as_array().expect("levels") {
        let level = number(case, "level");
        let label = format!("level {level}");
        report.case(&label, |report| {
            for (name, expected) in entries(case).filter(|(key, _)| *key != "level") {
                let (op, increasing) = rand_op(name);
                let mut ours: Vec<f64> = [true, false]
                    .iter()
                    .map(|negative| argument(op.at(level, increasing, *negative)))
                    .collect();
                ours.sort_by(f64::total_cmp);
                ours.dedup();
                let expected: Vec<f64> = expected
                    .as_array()
                    .expect("arguments")
                    .iter()
                    .map(|v| v.as_f64().expect("an argument"))
                    .collect();
                assert_eq!(ours.len(), expected.len(), "{name}: {ours:?}, {expected:?}");
                // Blend factors are 32-bit floats, as in Pillow.
                let equal = ours.iter().zip(&expected).all(|(a, b)| {
                    *a == *b
                        || *a as f32 == *b as f32
                        || (a - b).abs() <= 4.0 * f64::EPSILON * b.abs()
                });
                report.holds(&label, name, equal);
            }
        });
    }
}

/// The operation that timm calls `name`, and whether it is of the increasing list.
pub fn rand_op(name: &str) -> (RandOp, bool) {
    // What has no increasing form of its own is in both lists.
    let plain = name.trim_end_matches("Increasing");
    let op = match plain {
        "AutoContrast" => RandOp::AutoContrast,
        "Equalize" => RandOp::Equalize,
        "Invert" => RandOp::Invert,
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
    (op, plain != name)
}

/// The argument of `op`, 0 without one.
pub fn argument(op: Op) -> f64 {
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
