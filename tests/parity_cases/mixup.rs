//! Mixup, CutMix, boxes, and soft and binarised targets.

use crate::fixture::{Report, list, max_abs, number, numbers, size, text};
use ablate::data::cutmix::{BoxRule, corrected_lam, cut_box};
use ablate::data::mixer::{Mix, Mixer};
use ablate::data::rgb8::Rect;
use ablate::loss;
use ablate::spec::recipe::{LossName, MixConfig};
use serde_json::Value;

/// Mixing with these strengths, always, as one group.
pub fn config(mixup_alpha: f64, cutmix_alpha: f64) -> MixConfig {
    MixConfig {
        mixup_alpha,
        cutmix_alpha,
        prob: 1.0,
        switch_prob: 0.5,
        groups: 1,
    }
}

/// Whether `cut` is the box `[yl, yh, xl, xh]` at `key`; all boxes without area are the same.
fn is_box(cut: Rect, case: &Value, key: &str) -> bool {
    let expected = numbers(case, key);
    let ours = [
        cut.top,
        cut.top + cut.height,
        cut.left,
        cut.left + cut.width,
    ];
    let empty = expected[0] >= expected[1] || expected[2] >= expected[3];
    if empty {
        cut.width == 0 || cut.height == 0
    } else {
        ours.iter().zip(&expected).all(|(a, b)| *a as f64 == *b)
    }
}

#[test]
fn mixup() {
    let mut report = Report::open("mixup", &["cases"]);
    boxes(&mut report);
    let tensors = report.tensors("mixup.safetensors");
    let manifest = report.manifest.clone();
    for case in list(&manifest, "cases") {
        let name = text(case, "name");
        let known = [
            "kind",
            "lam",
            "smoothing",
            "classes",
            "shape",
            "name",
            "lam_for_targets",
            "on_value",
            "off_value",
            "cy",
            "cx",
            "bbox_yl_yh_xl_xh",
        ];
        report.settings(name, case, &known);
        report.case(name, |report| {
            let [batch, _, height, width] = numbers(case, "shape")[..] else {
                panic!("shape of four numbers")
            };
            let (batch, height, width) = (batch as usize, height as usize, width as usize);
            let (lam, smoothing) = (number(case, "lam"), number(case, "smoothing"));
            let mixer =
                Mixer::new(&config(0.8, 1.0), size(case, "classes"), smoothing).expect("a mixer");
            let mix = match text(case, "kind") {
                "mixup" => Mix::Mixup { lam },
                "cutmix" => {
                    let (cx, cy) = (size(case, "cx"), size(case, "cy"));
                    // The fixtures are of a current timm.
                    let cut = cut_box(width, height, lam, cx, cy, BoxRule::Timm1);
                    report.holds(name, "box", is_box(cut, case, "bbox_yl_yh_xl_xh"));
                    let lam = corrected_lam(width, height, cut);
                    Mix::CutMix { cut, lam }
                }
                other => panic!("unknown kind {other}"),
            };
            let deviation = (mix.lam() - number(case, "lam_for_targets")).abs();
            report.check(name, "lam", deviation, report.tolerance(&["lam", "abs"]));

            let mut images = tensors.get(&format!("{name}.x")).values.clone();
            Mixer::apply(&mut images, width, height, mix);
            let deviation = max_abs(&images, &tensors.get(&format!("{name}.mixed")).values);
            report.check(
                name,
                "images",
                deviation,
                report.tolerance(&["mixed", "max_abs"]),
            );

            let labels = tensors.labels(&format!("{name}.labels"));
            assert_eq!(labels.len(), batch);
            let mut targets = mixer.targets(&labels, mix);
            let deviation = max_abs(&targets, &tensors.get(&format!("{name}.target")).values);
            report.check(
                name,
                "targets",
                deviation,
                report.tolerance(&["target", "max_abs"]),
            );
            loss::binarise(LossName::Bce, &mut targets);
            let deviation = max_abs(&targets, &tensors.get(&format!("{name}.target_bce")).values);
            report.check(name, "binarised", deviation, report.exact("target_bce"));
        });
    }
    report.finish();
}

fn boxes(report: &mut Report) {
    let cases = report.json("bbox.json");
    for (index, case) in cases.as_array().expect("boxes").iter().enumerate() {
        let name = format!("box {index}");
        let known = [
            "h",
            "w",
            "lam",
            "cy",
            "cx",
            "bbox",
            "lam_corrected",
            "bbox_timm_0_3_2",
            "lam_corrected_timm_0_3_2",
        ];
        report.settings(&name, case, &known);
        report.case(&name, |report| {
            let (width, height) = (size(case, "w"), size(case, "h"));
            let (cx, cy) = (size(case, "cx"), size(case, "cy"));
            let (mut exact, mut worst) = (true, 0f64);
            for (rule, suffix) in [(BoxRule::Timm1, ""), (BoxRule::Timm032, "_timm_0_3_2")] {
                let cut = cut_box(width, height, number(case, "lam"), cx, cy, rule);
                exact &= is_box(cut, case, &format!("bbox{suffix}"));
                let lam = corrected_lam(width, height, cut);
                worst = worst.max((lam - number(case, &format!("lam_corrected{suffix}"))).abs());
            }
            report.holds(&name, "corners", exact && report.exact("bbox") == 0.0);
            report.check(&name, "lam", worst, report.tolerance(&["lam", "abs"]));
        });
    }
}
