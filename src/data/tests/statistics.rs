//! Draws of random parameters against statistics of timm's and torchvision's. Seeds are fixed: a
//! draw of ours is the same every time.

use super::ops_parity::argument;
use super::{parity_dirs, read_json};
use crate::data::cutmix::{BoxRule, corrected_lam, cut_box};
use crate::data::mixer::{Mix, Mixer};
use crate::data::ops::Op;
use crate::data::random_resized_crop::RandomResizedCrop;
use crate::data::simple_random_crop::SimpleRandomCrop;
use crate::data::{color_jitter, random_erasing, three_augment};
use crate::rng::{KeyedRng, Purpose};
use crate::spec::policy::{self, Policy};
use crate::spec::recipe::ThreeAugmentOp;
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) const DRAWS: u64 = 50_000;

pub(super) fn rng(index: u64) -> KeyedRng {
    KeyedRng::new(11, Purpose::Test, 0, index)
}

/// Mean within 5 standard errors, distribution within the manifest's Kolmogorov-Smirnov bound.
fn assert_like(what: &str, values: &mut [f64], reference: &Value) {
    let number = |name: &str| reference[name].as_f64().unwrap();
    let (n, m) = (number("n"), values.len() as f64);
    let mean = values.iter().sum::<f64>() / m;
    let bound = 5.0 * number("std") * (1.0 / n + 1.0 / m).sqrt();
    let difference = (mean - number("mean")).abs();
    assert!(difference <= bound, "{what}: mean {mean}, {reference}");

    values.sort_by(f64::total_cmp);
    let object = reference.as_object().unwrap();
    let Some((_, grid)) = object
        .iter()
        .find(|(name, _)| name.starts_with("quantiles"))
    else {
        return;
    };
    let grid: Vec<f64> = grid
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap())
        .collect();
    let spacing = 1.0 / (grid.len() - 1) as f64;
    let mut distance: f64 = 0.0;
    for value in grid.iter().copied() {
        // Ties make a step of both distribution functions; compare its top and its bottom.
        let ours = |below: &dyn Fn(f64) -> bool| values.partition_point(|v| below(*v)) as f64 / m;
        let theirs = |below: &dyn Fn(f64) -> bool| {
            grid.partition_point(|v| below(*v)) as f64 / grid.len() as f64
        };
        let tolerance = 1e-6 * value.abs().max(1e-3);
        let top = |v: f64| v <= value + tolerance;
        let bottom = |v: f64| v < value - tolerance;
        distance = distance.max((ours(&top) - theirs(&top)).abs());
        distance = distance.max((ours(&bottom) - theirs(&bottom)).abs());
    }
    let bound = 1.95 * (1.0 / n + 1.0 / m).sqrt() + spacing;
    assert!(
        distance <= bound,
        "{what}: distance {distance}, bound {bound}"
    );
}

pub(super) fn assert_frequency(
    what: &str,
    count: usize,
    of: u64,
    expected: f64,
    reference_draws: f64,
) {
    let got = count as f64 / of as f64;
    let spread = expected * (1.0 - expected) * (1.0 / reference_draws + 1.0 / of as f64);
    assert!(
        (got - expected).abs() <= 5.0 * spread.sqrt() + 1e-4,
        "{what}: {got}, {expected}"
    );
}

#[test]
fn random_resized_crops() {
    let mut compared = 0;
    for dir in parity_dirs() {
        for case in read_json(&dir.join("random/resized_crop.json"))
            .as_array()
            .unwrap()
        {
            let pair = |name: &str| [0, 1].map(|i| case[name][i].as_f64().unwrap());
            let [width, height] = pair("image_wh");
            let crop = RandomResizedCrop {
                scale: pair("scale"),
                ratio: pair("ratio"),
            };
            let mut columns: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
            for i in 0..DRAWS {
                let rect = crop.draw(width as usize, height as usize, &mut rng(i));
                let (w, h) = (rect.width as f64, rect.height as f64);
                let mut add = |name, value| columns.entry(name).or_default().push(value);
                add("area_ratio", w * h / (width * height));
                add("log_aspect_w_over_h", (w / h).ln());
                add("height", h);
                add("width", w);
                if h < height {
                    add("relative_top_where_free", rect.top as f64 / (height - h));
                }
                if w < width {
                    add("relative_left_where_free", rect.left as f64 / (width - w));
                }
            }
            for (name, values) in &mut columns {
                assert_like(name, values, &case["timm"][*name]);
                compared += 1;
            }
            let fallback = crop.fallback(width as usize, height as usize);
            let got = [fallback.top, fallback.left, fallback.height, fallback.width];
            let expected = &case["timm"]["fallback_crop_ijhw"];
            let expected = [0, 1, 2, 3].map(|i| expected[i].as_u64().unwrap() as usize);
            assert_eq!(got, expected);
        }
    }
    assert!(compared >= 12);
}

#[test]
fn simple_random_crops_are_uniform_over_all_corners() {
    let crop = SimpleRandomCrop {
        size: 20,
        padding: 4,
    };
    // 40 x 27 becomes 29 x 20: free are 29 + 8 - 20 columns and 8 rows, both ends included.
    let mut tops = [0usize; 9];
    let mut lefts = [0usize; 18];
    for i in 0..DRAWS {
        let corner = crop.draw(40, 27, &mut rng(i));
        tops[corner.top] += 1;
        lefts[corner.left] += 1;
    }
    for count in tops {
        assert_frequency("top", count, DRAWS, 1.0 / 9.0, 1e12);
    }
    for count in lefts {
        assert_frequency("left", count, DRAWS, 1.0 / 18.0, 1e12);
    }
}

#[test]
fn three_augment_and_color_jitter() {
    for dir in parity_dirs() {
        let reference = read_json(&dir.join("random/three_augment.json"));
        let choices = [
            ThreeAugmentOp::Grayscale,
            ThreeAugmentOp::Solarize,
            ThreeAugmentOp::GaussianBlur,
        ];
        let mut counts = [0; 3];
        let mut sigmas = Vec::new();
        let mut factors: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        let mut orders: BTreeMap<String, usize> = BTreeMap::new();
        for i in 0..DRAWS {
            let mut rng = rng(i);
            match three_augment::draw(&choices, &mut rng).unwrap() {
                Op::Grayscale => counts[0] += 1,
                Op::Solarize(threshold) => {
                    assert_eq!(threshold, 128);
                    counts[1] += 1;
                }
                Op::GaussianBlur(sigma) => {
                    sigmas.push(f64::from(sigma));
                    counts[2] += 1;
                }
                other => panic!("{other:?}"),
            }
            let ops = color_jitter::draw(0.3, &mut rng);
            let names = ops.map(|op| {
                let name = match op {
                    Op::Brightness(_) => "brightness",
                    Op::Contrast(_) => "contrast",
                    Op::Saturation(_) => "saturation",
                    other => panic!("{other:?}"),
                };
                factors.entry(name).or_default().push(argument(op));
                name
            });
            *orders.entry(names.join(",")).or_default() += 1;
        }
        for (name, count) in ["grayscale", "solarize_128", "gaussian_blur"]
            .iter()
            .zip(counts)
        {
            let expected = reference["choice"][*name].as_f64().unwrap();
            assert_frequency(name, count, DRAWS, expected, 1e5);
        }
        let n = sigmas.len() as f64;
        let mean = sigmas.iter().sum::<f64>() / n;
        assert!((mean - 1.05).abs() < 5.0 * 1.9 / 12f64.sqrt() / n.sqrt());
        assert!(sigmas.iter().all(|sigma| (0.1..=2.0).contains(sigma)));
        let jitter = &reference["color_jitter_0_3"];
        for (name, values) in &mut factors {
            assert_like(name, values, &jitter[*name]);
        }
        assert_eq!(orders.len(), 6);
        for (order, count) in orders {
            let expected = jitter["order_frequency"][&order].as_f64().unwrap();
            assert_frequency(&order, count, DRAWS, expected, 4e4);
        }
    }
}

#[test]
fn rand_augment() {
    for dir in parity_dirs() {
        let reference = read_json(&dir.join("random/rand_augment.json"));
        let images = reference["images"].as_f64().unwrap();
        let Ok(Policy::RandAugment(policy)) = policy::parse("rand-m9-mstd0.5-inc1") else {
            panic!("not RandAugment");
        };
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
                    Op::Posterize(_) => "PosterizeIncreasing",
                    Op::Solarize(_) => "SolarizeIncreasing",
                    Op::SolarizeAdd(_) => "SolarizeAdd",
                    Op::Saturation(_) => "ColorIncreasing",
                    Op::Contrast(_) => "ContrastIncreasing",
                    Op::Brightness(_) => "BrightnessIncreasing",
                    Op::Sharpness(_) => "SharpnessIncreasing",
                    Op::ShearX(_) => "ShearX",
                    Op::ShearY(_) => "ShearY",
                    Op::TranslateXRel(_) => "TranslateXRel",
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
        assert_eq!(arguments.len(), 15);
        for (name, values) in &mut arguments {
            let case = &reference["ops"][*name];
            // Two chances of one in fifteen at a half each; both may be the same operation.
            let expected = case["applied_per_image"].as_f64().unwrap();
            assert_frequency(name, values.len(), DRAWS, expected, images);
            if case["argument"].is_object() {
                let mean_abs = values.iter().map(|v| v.abs()).sum::<f64>() / values.len() as f64;
                let expected = case["argument"]["mean_abs"].as_f64().unwrap();
                let std = case["argument"]["std"].as_f64().unwrap();
                assert!(
                    (mean_abs - expected).abs() <= 5.0 * std / 2500f64.sqrt(),
                    "{name}"
                );
                assert_like(name, values, &case["argument"]);
            }
        }
    }
}

#[test]
fn mixing() {
    for dir in parity_dirs() {
        let reference = read_json(&dir.join("random/mixing.json"));
        for case in reference["draws"].as_array().unwrap() {
            let number = |name: &str| case[name].as_f64().unwrap();
            let mut config =
                super::mixing::config(number("mixup_alpha"), number("cutmix_alpha"), 1);
            config.prob = number("prob");
            config.switch_prob = number("switch_prob");
            let mixer = Mixer::new(&config, 10, 0.0).unwrap();
            let mut counts = [0usize; 3];
            let mut lams = Vec::new();
            for i in 0..DRAWS {
                match mixer.draw(224, 224, &mut rng(i)) {
                    Mix::Off => counts[0] += 1,
                    Mix::Mixup { lam } => {
                        counts[1] += 1;
                        lams.push(lam);
                    }
                    Mix::CutMix { .. } => counts[2] += 1,
                }
            }
            for (name, count) in ["fraction_untouched", "fraction_mixup", "fraction_cutmix"]
                .iter()
                .zip(counts)
            {
                assert_frequency(name, count, DRAWS, number(name), 2e5);
            }
            if !lams.is_empty() {
                assert_like("lam of mixup", &mut lams, &case["lam_mixup"]);
            }
        }
        for case in reference["cutmix"].as_array().unwrap() {
            let side = case["size"].as_u64().unwrap() as usize;
            let mut lams: Vec<f64> = (0..DRAWS)
                .map(|i| {
                    let mut rng = rng(i);
                    let lam = rng.beta(1.0, 1.0);
                    let mut center = || rng.below(side as u64) as usize;
                    let (cy, cx) = (center(), center());
                    let cut = cut_box(side, side, lam, cx, cy, BoxRule::Timm1);
                    corrected_lam(side, side, cut)
                })
                .collect();
            assert_like(
                "lam after the box",
                &mut lams,
                &case["lam_after_correction"],
            );
        }
    }
}

#[test]
fn random_erasing_boxes() {
    let mut boxes = 0;
    for i in 0..DRAWS {
        if let Some(rect) = random_erasing::draw(0.25, 64, 48, &mut rng(i)) {
            boxes += 1;
            assert!(rect.width < 64 && rect.height < 48);
            assert!(rect.left + rect.width <= 64 && rect.top + rect.height <= 48);
            let area = (rect.width * rect.height) as f64 / (64.0 * 48.0);
            assert!((0.015..0.345).contains(&area), "{rect:?}");
        }
    }
    assert_frequency("erased", boxes, DRAWS, 0.25, 1e12);
    // A box of the only pixel would not be smaller than the image; an empty one is.
    for i in 0..100 {
        let rect = random_erasing::draw(1.0, 1, 1, &mut rng(i));
        assert!(rect.is_none_or(|rect| rect.width * rect.height == 0));
    }
}
