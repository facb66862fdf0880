//! Draws of random parameters against statistics of timm's and torchvision's. Seeds are fixed: a draw
//! of ours is the same every time.

use crate::augment::{argument, rand_op};
use crate::fixture::{Report, entries, list, number, numbers, size};
use crate::{mixup, tolerance};
use ablate::data::color_jitter;
use ablate::data::cutmix::{BoxRule, corrected_lam, cut_box};
use ablate::data::mixer::{Mix, Mixer};
use ablate::data::ops::Op;
use ablate::data::rand_augment::RandOp;
use ablate::data::random_resized_crop::RandomResizedCrop;
use ablate::data::simple_random_crop::SimpleRandomCrop;
use ablate::data::three_augment;
use ablate::data::transform::TrainTransform;
use ablate::rng::{KeyedRng, Purpose};
use ablate::spec::policy::{self, Policy};
use ablate::spec::recipe::{AugmentConfig, CropName, ThreeAugmentOp};
use serde_json::Value;
use std::collections::BTreeMap;

const DRAWS: u64 = 50_000;

fn rng(index: u64) -> KeyedRng {
    KeyedRng::new(11, Purpose::Test, 0, index)
}

/// A report with the manifest's bounds in numbers.
struct Statistics {
    report: Report,
    /// Standard errors that a mean may be off.
    mean: f64,
    /// Factor of the Kolmogorov-Smirnov distance.
    distance: f64,
    /// Standard errors that a frequency may be off.
    frequency: f64,
}

impl Statistics {
    fn open() -> Self {
        let report = Report::open("random", &[]);
        let first = |key: &str| tolerance::numbers(&report.tolerance_text(key))[0];
        Statistics {
            mean: first("means"),
            distance: first("distribution"),
            frequency: first("frequencies"),
            report,
        }
    }

    /// Mean and distribution of `values` against those of `reference`.
    fn like(&mut self, case: &str, what: &str, values: &mut [f64], reference: &Value) {
        let known = |key: &str| {
            [
                "n",
                "mean",
                "std",
                "standard_error",
                "mean_abs",
                "min",
                "max",
                "fraction_positive",
            ]
            .contains(&key)
                || key.starts_with("quantiles_0_to_1_by_")
        };
        for (key, _) in entries(reference) {
            if !known(key) {
                self.report
                    .fail(case, &format!("unknown statistic {key} of {what}"));
            }
        }
        let (n, m) = (number(reference, "n"), values.len() as f64);
        let error = number(reference, "std") * (1.0 / n + 1.0 / m).sqrt();
        let mean = |value: &dyn Fn(f64) -> f64| values.iter().map(|v| value(*v)).sum::<f64>() / m;
        let plain = (mean(&|v| v) - number(reference, "mean")).abs();
        let absolute = (!reference["mean_abs"].is_null())
            .then(|| (mean(&f64::abs) - number(reference, "mean_abs")).abs());
        let positive = mean(&|v| f64::from(u8::from(v > 0.0)));
        self.report
            .check(case, &format!("mean of {what}"), plain, self.mean * error);
        if let Some(absolute) = absolute {
            self.report.check(
                case,
                &format!("mean size of {what}"),
                absolute,
                self.mean * error,
            );
        }
        if !reference["fraction_positive"].is_null() {
            let expected = number(reference, "fraction_positive");
            self.often(case, &format!("positive {what}"), positive, m, expected, n);
        }
        let mut grids = entries(reference).filter(|(key, _)| key.starts_with("quantiles"));
        if let Some((key, _)) = grids.next() {
            let grid = numbers(reference, key);
            self.quantiles(case, what, values, &grid, Some(n));
        }
    }

    /// Kolmogorov-Smirnov distance of `values` from a grid of quantiles of `n` draws, or exact ones.
    fn quantiles(
        &mut self,
        case: &str,
        what: &str,
        values: &mut [f64],
        grid: &[f64],
        n: Option<f64>,
    ) {
        values.sort_by(f64::total_cmp);
        let m = values.len() as f64;
        let spacing = 1.0 / (grid.len() - 1) as f64;
        let mut distance: f64 = 0.0;
        for value in grid.iter().copied() {
            // Ties make a step of both distribution functions; compare its top and its bottom.
            let ours =
                |below: &dyn Fn(f64) -> bool| values.partition_point(|v| below(*v)) as f64 / m;
            let theirs = |below: &dyn Fn(f64) -> bool| {
                grid.partition_point(|v| below(*v)) as f64 / grid.len() as f64
            };
            let width = 1e-6 * value.abs().max(1e-3);
            let top = |v: f64| v <= value + width;
            let bottom = |v: f64| v < value - width;
            distance = distance.max((ours(&top) - theirs(&top)).abs());
            distance = distance.max((ours(&bottom) - theirs(&bottom)).abs());
        }
        let bound = self.distance * (n.map_or(0.0, f64::recip) + 1.0 / m).sqrt() + spacing;
        self.report
            .check(case, &format!("distribution of {what}"), distance, bound);
    }

    /// A frequency `ours` in `m` draws against one in `n`.
    fn often(&mut self, case: &str, what: &str, ours: f64, m: f64, expected: f64, n: f64) {
        let spread = (expected * (1.0 - expected) * (1.0 / n + 1.0 / m)).sqrt();
        // Where the reference has never, or always, seen it, its own error is not known: one draw.
        let bound = self.frequency * spread.max((1.0 / n + 1.0 / m) / 2.0);
        self.report.check(
            case,
            &format!("frequency of {what}"),
            (ours - expected).abs(),
            bound,
        );
    }

    fn case(&mut self, name: &str, run: impl FnOnce(&mut Statistics)) {
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(self)));
        if let Err(panic) = failed {
            let message = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            self.report.fail(name, &message.unwrap_or_default());
        }
    }

    fn unknown(&mut self, case: &str, value: &Value, known: &[&str]) {
        self.report.settings(case, value, known);
    }
}

#[test]
fn random() {
    let mut statistics = Statistics::open();
    let draws = tolerance::numbers(statistics.report.manifest["what"].as_str().unwrap_or(""));
    let draws = draws.first().copied().unwrap_or(200_000.0);
    let crops = statistics.report.json("resized_crop.json");
    for (index, case) in crops.as_array().expect("crops").iter().enumerate() {
        let name = format!("resized_crop {index}");
        statistics.case(&name, |s| resized_crop(s, &name, case));
    }
    let file = statistics.report.json("mixing.json");
    statistics.case("mixing", |s| mixing(s, &file, draws));
    let file = statistics.report.json("three_augment.json");
    statistics.case("three_augment", |s| three_augment_and_jitter(s, &file));
    let file = statistics.report.json("rand_augment.json");
    statistics.case("rand_augment", |s| rand_augment(s, &file));
    statistics.report.finish();
}

fn resized_crop(s: &mut Statistics, name: &str, case: &Value) {
    s.unknown(
        name,
        case,
        &["image_wh", "scale", "ratio", "torchvision", "timm"],
    );
    let pair = |key: &str| [0, 1].map(|i| case[key][i].as_f64().expect("a pair"));
    let [width, height] = pair("image_wh");
    let crop = RandomResizedCrop {
        scale: pair("scale"),
        ratio: pair("ratio"),
    };
    let fallback = crop.fallback(width as usize, height as usize);
    let mut columns: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut fallbacks = 0;
    for i in 0..DRAWS {
        let rect = crop.draw(width as usize, height as usize, &mut rng(i));
        fallbacks += usize::from(rect == fallback);
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
    let correlated = correlation(&columns["area_ratio"], &columns["log_aspect_w_over_h"]);
    for sampler in ["timm", "torchvision"] {
        let reference = &case[sampler];
        if reference.is_null() {
            continue;
        }
        let name = format!("{name} {sampler}");
        let mut n = 0.0;
        for (key, expected) in entries(reference) {
            if let Some(values) = columns.get_mut(key) {
                n = number(expected, "n").max(n);
                s.like(&name, key, values, expected);
            }
        }
        let m = DRAWS as f64;
        for (key, expected) in entries(reference).filter(|(key, _)| !columns.contains_key(key)) {
            match key {
                "corr_area_aspect" => {
                    let r = expected.as_f64().expect("a correlation");
                    // Standard error of a correlation.
                    let bound = s.mean * (1.0 - r * r) * (1.0 / n + 1.0 / m).sqrt();
                    s.report.check(&name, key, (correlated - r).abs(), bound);
                }
                "fraction_equal_to_fallback_crop" => {
                    let expected = expected.as_f64().expect("a fraction");
                    s.often(&name, key, fallbacks as f64 / m, m, expected, n);
                }
                "fallback_crop_ijhw" => {
                    let ours = [fallback.top, fallback.left, fallback.height, fallback.width];
                    let equal = numbers(reference, key).iter().map(|v| *v as usize).eq(ours);
                    s.report.holds(&name, key, equal);
                }
                other => panic!("unknown statistic {other}"),
            }
        }
    }
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len() as f64;
    let mean = |v: &[f64]| v.iter().sum::<f64>() / n;
    let (ma, mb) = (mean(a), mean(b));
    let product =
        |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(b).map(|(a, b)| f(a - ma, b - mb)).sum::<f64>();
    product(&|a, b| a * b) / (product(&|a, _| a * a) * product(&|_, b| b * b)).sqrt()
}

fn mixing(s: &mut Statistics, file: &Value, reference_draws: f64) {
    s.unknown(
        "mixing",
        file,
        &["exact_quantiles", "grid", "draws", "cutmix"],
    );
    for (name, _) in entries(&file["exact_quantiles"]) {
        // "beta(0.8,0.8)"
        let inner = name
            .strip_prefix("beta(")
            .and_then(|rest| rest.strip_suffix(')'));
        let (a, b) = inner
            .and_then(|pair| pair.split_once(','))
            .unwrap_or_else(|| panic!("unknown law {name}"));
        let (a, b): (f64, f64) = (a.trim().parse().expect("a"), b.trim().parse().expect("b"));
        let mut values: Vec<f64> = (0..DRAWS).map(|i| rng(i).beta(a, b)).collect();
        let grid = numbers(&file["exact_quantiles"], name);
        s.quantiles("mixing", name, &mut values, &grid, None);
    }
    for (index, case) in list(file, "draws").iter().enumerate() {
        let name = format!("mixing {index}");
        let known = [
            "mixup_alpha",
            "cutmix_alpha",
            "prob",
            "switch_prob",
            "fraction_cutmix",
            "fraction_untouched",
            "fraction_mixup",
            "lam_mixup",
            "lam_cutmix",
        ];
        s.unknown(&name, case, &known);
        let mut config = mixup::config(number(case, "mixup_alpha"), number(case, "cutmix_alpha"));
        config.prob = number(case, "prob");
        config.switch_prob = number(case, "switch_prob");
        let mixer = Mixer::new(&config, 10, 0.0).expect("a mixer");
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
        for (key, count) in ["fraction_untouched", "fraction_mixup", "fraction_cutmix"]
            .iter()
            .zip(counts)
        {
            let (ours, m) = (count as f64 / DRAWS as f64, DRAWS as f64);
            s.often(&name, key, ours, m, number(case, key), reference_draws);
        }
        s.report.holds(
            &name,
            "has lam of mixup",
            lams.is_empty() == case["lam_mixup"].is_null(),
        );
        if !lams.is_empty() {
            s.like(&name, "lam of mixup", &mut lams, &case["lam_mixup"]);
        }
        if !case["lam_cutmix"].is_null() {
            // Before the box is cut at the border, which a draw of the mixer does not show.
            let alpha = config.cutmix_alpha;
            let mut lams: Vec<f64> = (0..DRAWS).map(|i| rng(i).beta(alpha, alpha)).collect();
            s.like(&name, "lam of cutmix", &mut lams, &case["lam_cutmix"]);
        }
    }
    for case in list(file, "cutmix") {
        let side = size(case, "size");
        let name = format!("cutmix {side}");
        s.unknown(
            &name,
            case,
            &["size", "lam_after_correction", "fraction_lam_one"],
        );
        let draw = |i: u64| {
            let mut rng = rng(i);
            let lam = rng.beta(1.0, 1.0);
            let mut center = || rng.below(side as u64) as usize;
            let (cy, cx) = (center(), center());
            // The fixtures are of a current timm.
            corrected_lam(side, side, cut_box(side, side, lam, cx, cy, BoxRule::Timm1))
        };
        let mut lams: Vec<f64> = (0..DRAWS).map(draw).collect();
        let ones = lams.iter().filter(|lam| **lam == 1.0).count() as f64 / DRAWS as f64;
        let n = number(&case["lam_after_correction"], "n");
        s.often(
            &name,
            "lam 1",
            ones,
            DRAWS as f64,
            number(case, "fraction_lam_one"),
            n,
        );
        s.like(
            &name,
            "lam after the box",
            &mut lams,
            &case["lam_after_correction"],
        );
    }
}

fn three_augment_and_jitter(s: &mut Statistics, file: &Value) {
    const CASE: &str = "three_augment";
    let m = DRAWS as f64;
    let choices = [
        ThreeAugmentOp::Grayscale,
        ThreeAugmentOp::Solarize,
        ThreeAugmentOp::GaussianBlur,
    ];
    for (key, reference) in entries(file) {
        if let Some(strength) = key.strip_prefix("color_jitter_") {
            let strength = strength.replacen('_', ".", 1).parse().expect("a strength");
            jitter(s, key, strength, reference);
            continue;
        }
        match key {
            "choice" => {
                let mut counts: BTreeMap<String, usize> = BTreeMap::new();
                for i in 0..DRAWS {
                    let name = match three_augment::draw(&choices, &mut rng(i)) {
                        Some(Op::Grayscale) => "grayscale".to_owned(),
                        Some(Op::Solarize(threshold)) => format!("solarize_{threshold}"),
                        Some(Op::GaussianBlur(_)) => "gaussian_blur".to_owned(),
                        other => panic!("drew {other:?}"),
                    };
                    *counts.entry(name).or_default() += 1;
                }
                s.unknown(
                    CASE,
                    reference,
                    &["grayscale", "solarize_128", "gaussian_blur", "expected"],
                );
                for (name, count) in counts {
                    // The file does not say how many draws; a hundred thousand are the fewest that
                    // its five digits can come from.
                    let expected = number(reference, &name);
                    s.often(CASE, &name, count as f64 / m, m, expected, 1e5);
                }
            }
            "blur_radius" => {
                let words = reference.as_str().expect("a law");
                let bounds = words
                    .strip_prefix("uniform(")
                    .and_then(|rest| rest.strip_suffix(')'));
                let (low, high) = bounds
                    .and_then(|b| b.split_once(','))
                    .unwrap_or_else(|| panic!("unknown law {words}"));
                let (low, high): (f64, f64) = (
                    low.trim().parse().expect("low"),
                    high.trim().parse().expect("high"),
                );
                let mut radii: Vec<f64> = (0..DRAWS)
                    .filter_map(|i| match three_augment::draw(&choices, &mut rng(i)) {
                        Some(Op::GaussianBlur(radius)) => Some(f64::from(radius)),
                        _ => None,
                    })
                    .collect();
                let grid: Vec<f64> = (0..=100)
                    .map(|i| low + (high - low) * f64::from(i) / 100.0)
                    .collect();
                s.quantiles(CASE, key, &mut radii, &grid, None);
                // The radius is a 32-bit float.
                let inside = |r: &f64| *r >= f64::from(low as f32) && *r <= f64::from(high as f32);
                s.report
                    .holds(CASE, "range of the blur", radii.iter().all(inside));
            }
            "hflip_probability" => {
                let expected = reference.as_f64().expect("a probability");
                let transform = transform(expected);
                let flips = (0..DRAWS)
                    .filter(|i| transform.draw(40, 30, &mut rng(*i)).hflip)
                    .count();
                s.often(CASE, key, flips as f64 / m, m, expected, f64::INFINITY);
            }
            "order_of_stages" => {
                let order = "crop, hflip, one of three, color jitter, to tensor, normalise";
                let draw = transform(0.5).draw(40, 30, &mut rng(0));
                let first = matches!(
                    draw.ops[0],
                    Op::Grayscale | Op::Solarize(_) | Op::GaussianBlur(_)
                );
                s.report.holds(
                    CASE,
                    key,
                    reference == order && first && draw.ops.len() == 4,
                );
            }
            "src" => {
                s.unknown(CASE, reference, &["crop_offset"]);
                // 40 x 27 becomes 29 x 20: free are 29 + 8 - 20 columns and 8 rows.
                let crop = SimpleRandomCrop {
                    size: 20,
                    padding: 4,
                };
                let mut tops = [0usize; 9];
                let mut lefts = [0usize; 18];
                for i in 0..DRAWS {
                    let corner = crop.draw(40, 27, &mut rng(i));
                    tops[corner.top] += 1;
                    lefts[corner.left] += 1;
                }
                for count in tops {
                    s.often(
                        CASE,
                        "src top",
                        count as f64 / m,
                        m,
                        1.0 / 9.0,
                        f64::INFINITY,
                    );
                }
                for count in lefts {
                    s.often(
                        CASE,
                        "src left",
                        count as f64 / m,
                        m,
                        1.0 / 18.0,
                        f64::INFINITY,
                    );
                }
            }
            other => panic!("unknown part {other}"),
        }
    }
}

/// The 3-Augment transform at 24 pixels.
fn transform(hflip: f64) -> TrainTransform {
    let config = AugmentConfig {
        crop: CropName::Src,
        rrc_scale: [0.08, 1.0],
        rrc_ratio: [3.0 / 4.0, 4.0 / 3.0],
        src_padding: 4,
        hflip,
        policy: "three_augment".to_owned(),
        three_augment_ops: vec![
            ThreeAugmentOp::Grayscale,
            ThreeAugmentOp::Solarize,
            ThreeAugmentOp::GaussianBlur,
        ],
        color_jitter: 0.3,
        random_erasing: 0.0,
    };
    TrainTransform::new(&config, 24).expect("a transform")
}

fn jitter(s: &mut Statistics, case: &str, strength: f64, reference: &Value) {
    let known = [
        "factor_range",
        "order_frequency",
        "expected_order",
        "brightness",
        "contrast",
        "saturation",
    ];
    s.unknown(case, reference, &known);
    let mut factors: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut orders: BTreeMap<String, usize> = BTreeMap::new();
    for i in 0..DRAWS {
        let names = color_jitter::draw(strength, &mut rng(i)).map(|op| {
            let name = match op {
                Op::Brightness(_) => "brightness",
                Op::Contrast(_) => "contrast",
                Op::Saturation(_) => "saturation",
                other => panic!("drew {other:?}"),
            };
            factors.entry(name).or_default().push(argument(op));
            name
        });
        *orders.entry(names.join(",")).or_default() += 1;
    }
    let range = numbers(reference, "factor_range");
    let mut n = 0.0;
    for (name, values) in &mut factors {
        n = number(&reference[*name], "n");
        s.like(case, name, values, &reference[*name]);
        let inside = |v: &f64| *v >= f64::from(range[0] as f32) && *v <= f64::from(range[1] as f32);
        s.report
            .holds(case, &format!("range of {name}"), values.iter().all(inside));
    }
    let expected: BTreeMap<&str, &Value> = entries(&reference["order_frequency"]).collect();
    assert_eq!(expected.len(), orders.len(), "orders");
    for (order, count) in orders {
        let expected = expected[order.as_str()].as_f64().expect("a frequency");
        s.often(
            case,
            &order,
            count as f64 / DRAWS as f64,
            DRAWS as f64,
            expected,
            n,
        );
    }
}

fn rand_augment(s: &mut Statistics, file: &Value) {
    const CASE: &str = "rand_augment";
    let known = [
        "images",
        "ops_drawn_per_image",
        "with_replacement",
        "apply_probability",
        "applied_count_frequency",
        "expected_count_frequency",
        "magnitude",
        "probability_level_is_10",
        "ops",
        "policy",
    ];
    s.unknown(CASE, file, &known);
    let words = file["policy"]
        .as_str()
        .or(s.report.manifest["files"]["rand_augment.json"].as_str());
    let policy = words
        .expect("a policy")
        .split_whitespace()
        .next()
        .expect("a policy");
    let Ok(Policy::RandAugment(policy)) = policy::parse(policy) else {
        panic!("{policy} is not RandAugment");
    };
    assert_eq!(policy.num_ops, size(file, "ops_drawn_per_image"));
    assert_eq!(file["with_replacement"], true);
    let (images, m) = (number(file, "images"), DRAWS as f64);

    let mut applied: BTreeMap<usize, usize> = BTreeMap::new();
    let mut arguments: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for i in 0..DRAWS {
        let ops = policy.draw(&mut rng(i));
        *applied.entry(ops.len()).or_default() += 1;
        for op in ops {
            let drawn = RandOp::ALL.iter().find(|candidate| {
                let example = candidate.at(5.0, policy.increasing, false);
                std::mem::discriminant(&example) == std::mem::discriminant(&op)
            });
            let name = format!("{:?}", drawn.expect("an operation of RandAugment"));
            arguments.entry(name).or_default().push(argument(op));
        }
    }
    let expected: BTreeMap<&str, &Value> = entries(&file["applied_count_frequency"]).collect();
    assert_eq!(expected.len(), applied.len(), "numbers of operations");
    for (count, times) in applied {
        let expected = expected[count.to_string().as_str()]
            .as_f64()
            .expect("a frequency");
        s.often(
            CASE,
            &format!("{count} operations"),
            times as f64 / m,
            m,
            expected,
            images,
        );
    }
    assert_eq!(
        file["ops"].as_object().expect("operations").len(),
        arguments.len(),
        "operations"
    );
    for (name, reference) in entries(&file["ops"]) {
        s.unknown(name, reference, &["applied_per_image", "argument"]);
        let (op, _) = rand_op(name);
        let values = arguments
            .get_mut(&format!("{op:?}"))
            .unwrap_or_else(|| panic!("{name} is never drawn"));
        // Two chances of one in fifteen at a half each; both may be the same operation.
        let expected = number(reference, "applied_per_image");
        s.often(name, "use", values.len() as f64 / m, m, expected, images);
        if reference["argument"].is_object() {
            s.like(name, "argument", values, &reference["argument"]);
        }
    }
}
