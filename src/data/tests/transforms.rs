//! The training transform: configuration, exclusivity, and any image at any resolution.

use crate::data::ops::Op;
use crate::data::transform::CropDraw;
use crate::data::{EvalTransform, Rgb8, TrainTransform};
use crate::rng::{KeyedRng, Purpose};
use crate::spec::recipe::{AugmentConfig, CropName, ThreeAugmentOp};
use proptest::prelude::*;

pub(super) fn config(crop: CropName, policy: &str) -> AugmentConfig {
    AugmentConfig {
        crop,
        rrc_scale: [0.08, 1.0],
        rrc_ratio: [3.0 / 4.0, 4.0 / 3.0],
        src_padding: 4,
        hflip: 0.5,
        policy: policy.to_owned(),
        three_augment_ops: vec![
            ThreeAugmentOp::Grayscale,
            ThreeAugmentOp::Solarize,
            ThreeAugmentOp::GaussianBlur,
        ],
        color_jitter: 0.3,
        random_erasing: 0.25,
    }
}

pub(super) fn noise(width: usize, height: usize, seed: u64) -> Rgb8 {
    let mut rng = KeyedRng::new(seed, Purpose::Test, 0, 0);
    let data = (0..width * height * 3)
        .map(|_| rng.next_u32() as u8)
        .collect();
    Rgb8::from_raw(width, height, data).unwrap()
}

fn key(index: u64) -> KeyedRng {
    KeyedRng::new(0, Purpose::Augment, 0, index)
}

#[test]
fn jitter_follows_3_augment_and_no_policy_only() {
    let jitters = |policy: &str, index| {
        let transform = TrainTransform::new(&config(CropName::Rrc, policy), 32).unwrap();
        transform.draw(60, 40, &mut key(index)).ops
    };
    for index in 0..50 {
        let ops = jitters("three_augment", index);
        assert_eq!(ops.len(), 4);
        assert!(matches!(
            ops[0],
            Op::Grayscale | Op::Solarize(128) | Op::GaussianBlur(_)
        ));
        assert_eq!(jitters("none", index).len(), 3);
        assert!(jitters("rand-m9-mstd0.5-inc1", index).len() <= 2);
        assert!(jitters("autoaugment", index).len() <= 2);
        assert!(jitters("trivialaugment", index).len() <= 1);
    }
}

#[test]
fn center_crop_without_ops_is_the_evaluation() {
    let plain = AugmentConfig {
        hflip: 0.0,
        color_jitter: 0.0,
        random_erasing: 0.0,
        ..config(CropName::Center, "none")
    };
    let image = noise(50, 37, 1);
    let mut train = vec![0.0; 3 * 24 * 24];
    let mut eval = train.clone();
    TrainTransform::new(&plain, 24)
        .unwrap()
        .apply(&image, &mut key(0), &mut train);
    EvalTransform::new(24, 1.0)
        .unwrap()
        .apply(&image, &mut eval);
    assert_eq!(train, eval);
}

#[test]
fn the_key_decides_everything() {
    let transform = TrainTransform::new(&config(CropName::Src, "three_augment"), 16).unwrap();
    let image = noise(20, 30, 2);
    let run = |index| {
        let mut out = vec![0.0; 3 * 16 * 16];
        transform.apply(&image, &mut key(index), &mut out);
        out
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

#[test]
fn erasing_replaces_a_box_by_noise() {
    let all = AugmentConfig {
        random_erasing: 1.0,
        ..config(CropName::Center, "none")
    };
    let transform = TrainTransform::new(&all, 32).unwrap();
    let image = Rgb8::filled(32, 32, [124, 116, 104]);
    let mut out = vec![0.0; 3 * 32 * 32];
    transform.apply(&image, &mut key(1), &mut out);
    let rect = transform.draw(32, 32, &mut key(1)).erase.unwrap();
    let far = out.iter().filter(|v| v.abs() > 0.7).count();
    let area = 3 * rect.width * rect.height;
    // Half of a normal distribution lies beyond 0.67; jitter of the mean colour stays within 0.7.
    assert!(far > area / 3 && far < area * 2 / 3, "{far} of {area}");
}

#[test]
fn bad_values_name_their_field() {
    let base = || config(CropName::Rrc, "none");
    let bad = [
        (
            AugmentConfig {
                policy: "3augment".into(),
                ..base()
            },
            "augment.policy",
        ),
        (
            AugmentConfig {
                policy: "rand-m9-foo".into(),
                ..base()
            },
            "augment.policy",
        ),
        (
            AugmentConfig {
                policy: "three_augment".into(),
                three_augment_ops: vec![],
                ..base()
            },
            "augment.three_augment_ops",
        ),
        (
            AugmentConfig {
                rrc_scale: [0.0, 1.0],
                ..base()
            },
            "augment.rrc_scale",
        ),
        (
            AugmentConfig {
                rrc_ratio: [2.0, 1.0],
                ..base()
            },
            "augment.rrc_ratio",
        ),
        (
            AugmentConfig {
                hflip: 1.5,
                ..base()
            },
            "augment.hflip",
        ),
        (
            AugmentConfig {
                color_jitter: f64::NAN,
                ..base()
            },
            "augment.color_jitter",
        ),
        (
            AugmentConfig {
                random_erasing: -0.1,
                ..base()
            },
            "augment.random_erasing",
        ),
    ];
    for (config, field) in bad {
        let message = TrainTransform::new(&config, 32).unwrap_err().to_string();
        assert!(message.starts_with(field), "{message}");
    }
    assert!(TrainTransform::new(&base(), 0).is_err());
    assert!(EvalTransform::new(32, 0.0).is_err());
    assert!(EvalTransform::new(32, 1.1).is_err());
}

#[test]
fn extreme_shapes_cost_no_more_than_their_window() {
    // Resized as a whole these would have 10^5 x 224 pixels and more.
    for (width, height) in [(1, 60_000), (60_000, 1), (2, 9_001)] {
        let image = noise(width, height, 3);
        for crop in [CropName::Rrc, CropName::Src, CropName::Center] {
            let transform = TrainTransform::new(&config(crop, "three_augment"), 224).unwrap();
            let mut out = vec![0.0; 3 * 224 * 224];
            transform.apply(&image, &mut key(0), &mut out);
            assert!(out.iter().all(|v| v.is_finite()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any image from 1 x 1 up, at any resolution, with any policy, gives finite values; a simple
    /// random crop equals cropping from the resized and padded whole.
    #[test]
    fn any_image(
        width in 1usize..70,
        height in 1usize..70,
        resolution in 1usize..80,
        index in 0u64..1000,
        crop in prop_oneof![Just(CropName::Rrc), Just(CropName::Src), Just(CropName::Center)],
        policy in prop_oneof![Just("none"), Just("three_augment"), Just("rand-m9-mstd2-n5-inc1"), Just("rand-m5")],
        padding in 0usize..20,
    ) {
        let image = noise(width, height, index);
        let config = AugmentConfig { src_padding: padding, ..config(crop, policy) };
        let transform = TrainTransform::new(&config, resolution).unwrap();
        let mut out = vec![f32::NAN; 3 * resolution * resolution];
        transform.apply(&image, &mut key(index), &mut out);
        prop_assert!(out.iter().all(|v| v.is_finite()));

        if let CropDraw::Src(crop, corner) = transform.draw(width, height, &mut key(index)).crop {
            let (w, h) = crate::data::ops::resize::shorter_side(width, height, resolution);
            let whole = crate::data::ops::resize::resize(&image, w, h);
            let cropped = crop.apply(&image, corner);
            for y in 0..resolution {
                for x in 0..resolution {
                    let at = |i: usize, n| {
                        crate::data::ops::geometry::reflect(i as i64 - padding as i64, n)
                    };
                    let expected = whole.pixel(at(corner.left + x, w), at(corner.top + y, h));
                    prop_assert_eq!(cropped.pixel(x, y), expected);
                }
            }
        }
    }

    /// No text makes the parser of policies panic, and what it accepts it can draw.
    #[test]
    fn any_policy(
        text in prop_oneof![
            "rand(-(m|mstd|n|p|inc|mmax|w|x)?[0-9.e+]{0,4}){0,5}",
            "(original|v0)r?(-mstd[0-9.]{1,3})?",
            "trivialaugment",
            ".{0,12}",
        ],
        (width, height, resolution, index) in (1usize..40, 1usize..40, 1usize..40, 0u64..1000),
    ) {
        if let Ok(transform) = TrainTransform::new(&config(CropName::Rrc, &text), resolution) {
            let image = noise(width, height, 1);
            let draw = transform.draw(width, height, &mut key(index));
            let out = transform.apply_draw(&image, &draw);
            prop_assert_eq!((out.width(), out.height()), (resolution, resolution));
        }
    }

    /// The blur's special cases for narrow boxes agree with the definition.
    #[test]
    fn blur_is_the_box_definition(
        width in 1usize..20,
        height in 1usize..20,
        sigma in 0.05f32..6.0,
        seed in 0u64..100,
    ) {
        let image = noise(width, height, seed);
        let mut blurred = image.clone();
        crate::data::ops::blur::gaussian_blur(&mut blurred, sigma);
        let expected = slow_blur(&image, sigma);
        prop_assert_eq!(blurred.data(), expected.data());
    }
}

/// Box blurs pixel by pixel, from the definition.
fn slow_blur(image: &Rgb8, sigma: f32) -> Rgb8 {
    let s2 = sigma * sigma / 3.0;
    let l = ((((12.0 * f64::from(s2) + 1.0).sqrt() as f32) - 1.0) / 2.0).floor();
    let a = (2.0 * l + 1.0) * (l * (l + 1.0) - 3.0 * s2) / (6.0 * (s2 - (l + 1.0) * (l + 1.0)));
    let half = l + a;
    let radius = half as i64;
    let ww = ((1u32 << 24) as f32 / (half * 2.0 + 1.0)) as u32;
    let fw = ((1u32 << 24) - (radius as u32 * 2 + 1) * ww) / 2;
    let mut current = image.clone();
    let (width, height) = (image.width() as i64, image.height() as i64);
    for pass in 0..6 {
        let source = current.clone();
        for y in 0..height {
            for x in 0..width {
                let at = |d: i64| {
                    let (x, y) = if pass < 3 { (x + d, y) } else { (x, y + d) };
                    source.pixel(
                        x.clamp(0, width - 1) as usize,
                        y.clamp(0, height - 1) as usize,
                    )
                };
                for channel in 0..3 {
                    let inner: u32 = (-radius..=radius).map(|d| u32::from(at(d)[channel])).sum();
                    let outer =
                        u32::from(at(-radius - 1)[channel]) + u32::from(at(radius + 1)[channel]);
                    let value = (inner * ww + outer * fw + (1 << 23)) >> 24;
                    current.row_mut(y as usize)[x as usize * 3 + channel] = value as u8;
                }
            }
        }
    }
    current
}
