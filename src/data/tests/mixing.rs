//! Mixup, CutMix and their targets.

use super::{Tensors, max_difference, parity_dirs, read_json};
use crate::data::cutmix::{BoxRule, corrected_lam, cut_box};
use crate::data::mixer::{Mix, Mixer};
use crate::data::rgb8::Rect;
use crate::spec::recipe::MixConfig;
use serde_json::Value;

pub(super) fn config(mixup_alpha: f64, cutmix_alpha: f64, groups: usize) -> MixConfig {
    MixConfig {
        mixup_alpha,
        cutmix_alpha,
        prob: 1.0,
        switch_prob: 0.5,
        groups,
    }
}

fn size(case: &Value, name: &str) -> usize {
    case[name].as_u64().unwrap() as usize
}

/// `[yl, yh, xl, xh]`
fn corners(cut: Rect) -> [usize; 4] {
    [
        cut.top,
        cut.top + cut.height,
        cut.left,
        cut.left + cut.width,
    ]
}

#[test]
fn boxes() {
    for dir in parity_dirs() {
        for case in read_json(&dir.join("mixup/bbox.json")).as_array().unwrap() {
            let (width, height) = (size(case, "w"), size(case, "h"));
            let lam = case["lam"].as_f64().unwrap();
            for (rule, suffix) in [(BoxRule::Timm1, ""), (BoxRule::Timm032, "_timm_0_3_2")] {
                let (cx, cy) = (size(case, "cx"), size(case, "cy"));
                let cut = cut_box(width, height, lam, cx, cy, rule);
                let expected = &case[format!("bbox{suffix}")];
                let expected = [0, 1, 2, 3].map(|i| expected[i].as_u64().unwrap() as usize);
                if cut.width > 0 && cut.height > 0 {
                    assert_eq!(corners(cut), expected, "{case}");
                }
                let expected = case[format!("lam_corrected{suffix}")].as_f64().unwrap();
                let got = corrected_lam(width, height, cut);
                assert!((got - expected).abs() <= 1e-12, "{case}: {got}");
            }
        }
    }
}

#[test]
fn mixed_batches_and_targets() {
    let mut worst = [0.0f32; 2];
    for dir in parity_dirs() {
        let dir = dir.join("mixup");
        let tensors = Tensors::open(&dir.join("mixup.safetensors"));
        for case in read_json(&dir.join("manifest.json"))["cases"]
            .as_array()
            .unwrap()
        {
            let name = case["name"].as_str().unwrap();
            let shape = |i: usize| case["shape"][i].as_u64().unwrap() as usize;
            let (height, width) = (shape(2), shape(3));
            let lam = case["lam"].as_f64().unwrap();
            let smoothing = case["smoothing"].as_f64().unwrap();
            let mixer = Mixer::new(&config(0.8, 1.0, 1), size(case, "classes"), smoothing).unwrap();
            let mix = if case["kind"] == "mixup" {
                Mix::Mixup { lam }
            } else {
                let (cx, cy) = (size(case, "cx"), size(case, "cy"));
                let cut = cut_box(width, height, lam, cx, cy, BoxRule::Timm1);
                Mix::CutMix {
                    cut,
                    lam: corrected_lam(width, height, cut),
                }
            };
            assert!((mix.lam() - case["lam_for_targets"].as_f64().unwrap()).abs() <= 1e-12);

            let mut images = tensors.f32(&format!("{name}.x"));
            Mixer::apply(&mut images, width, height, mix);
            let mixed = max_difference(&images, &tensors.f32(&format!("{name}.mixed")));
            let labels = tensors.i64(&format!("{name}.labels"));
            let labels: Vec<u32> = labels.iter().map(|&label| label as u32).collect();
            let targets = mixer.targets(&labels, mix);
            let target = max_difference(&targets, &tensors.f32(&format!("{name}.target")));
            worst = [worst[0].max(mixed), worst[1].max(target)];
            assert!(mixed <= 1e-6 && target <= 1e-6, "{name}: {mixed}, {target}");
            let binary: Vec<f32> = targets
                .iter()
                .map(|t| f32::from(u8::from(*t > 0.0)))
                .collect();
            assert_eq!(binary, tensors.f32(&format!("{name}.target_bce")), "{name}");
        }
    }
    println!(
        "worst deviation: images {:e}, targets {:e}",
        worst[0], worst[1]
    );
}

#[test]
fn groups_draw_apart_and_mix_within() {
    let (side, batch, groups) = (4, 12, 3);
    let mixer = Mixer::new(&config(0.8, 0.0, groups), 5, 0.0).unwrap();
    let sample = 3 * side * side;
    let original: Vec<f32> = (0..batch).flat_map(|i| vec![i as f32; sample]).collect();
    let labels: Vec<u32> = (0..batch as u32).map(|i| i % 5).collect();
    let mut images = original.clone();
    let targets = mixer
        .mix_batch(&mut images, &labels, side, side, 1, 2, 3)
        .unwrap();
    assert_eq!(targets.len(), batch * 5);
    let mut lams = Vec::new();
    for group in 0..groups {
        let lam_of = |i: usize| {
            let (own, partner) = (i as f32, (group * 4 + 3 - (i - group * 4)) as f32);
            (images[i * sample] - partner) / (own - partner)
        };
        let lam = lam_of(group * 4);
        for i in group * 4..group * 4 + 4 {
            assert!((lam_of(i) - lam).abs() < 1e-5);
            assert!((targets[i * 5 + labels[i] as usize] - lam).abs() < 1e-5);
        }
        lams.push(lam);
    }
    assert!(lams[0] != lams[1] && lams[1] != lams[2]);

    let mut again = original.clone();
    mixer
        .mix_batch(&mut again, &labels, side, side, 1, 2, 3)
        .unwrap();
    assert_eq!(again, images);
    let mut other = original.clone();
    mixer
        .mix_batch(&mut other, &labels, side, side, 1, 2, 4)
        .unwrap();
    assert_ne!(other, images);
}

#[test]
fn odd_groups_are_refused_only_where_mixing_is_on() {
    let on = Mixer::new(&config(0.8, 1.0, 2), 3, 0.0).unwrap();
    let message = on.check_batch(6).unwrap_err().to_string();
    assert!(
        message.starts_with("mix.groups: ") && message.contains("groups of 3"),
        "{message}"
    );
    assert!(on.check_batch(5).is_err());
    assert!(on.check_batch(8).is_ok());
    let off = Mixer::new(&config(0.0, 0.0, 2), 3, 0.1).unwrap();
    assert!(off.check_batch(6).is_ok());
    let mut images = vec![1.0; 6 * 12];
    let targets = off
        .mix_batch(&mut images, &[0, 1, 2, 0, 1, 2], 2, 2, 0, 0, 0)
        .unwrap();
    assert!(images.iter().all(|v| *v == 1.0));
    assert!((targets[0] - (0.9 + 0.1 / 3.0)).abs() < 1e-6);
    assert!(Mixer::new(&config(f64::NAN, 1.0, 1), 3, 0.0).is_err());
    assert!(Mixer::new(&config(0.8, 1.0, 0), 3, 0.0).is_err());
}
