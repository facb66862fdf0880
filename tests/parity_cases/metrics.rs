//! Accuracy, cross-entropy and calibration error of given logits.

use crate::fixture::{Report, number, numbers, size};
use crate::tolerance;
use ablate::train::calibration::{confidence, expected_calibration_error};
use ablate::train::evaluation::{Evaluation, predict};

#[test]
fn metrics() {
    let known = [
        "top1_percent",
        "top5_percent",
        "n_top1",
        "n_top5",
        "n",
        "cross_entropy_mean",
        "batches",
        "cross_entropy_per_batch",
        "cross_entropy_mean_of_batch_means",
    ];
    let file = std::fs::read(crate::fixture::root().join("metrics/manifest.json"));
    let manifest: serde_json::Value =
        serde_json::from_slice(&file.expect("a manifest")).expect("JSON");
    // `ece_N_bins`, for any N.
    let bins = |key: &str| -> Option<usize> {
        key.strip_prefix("ece_")?
            .strip_suffix("_bins")?
            .parse()
            .ok()
    };
    let keys = manifest.as_object().expect("an object").keys();
    let calibration: Vec<&str> = keys
        .map(String::as_str)
        .filter(|k| bins(k).is_some())
        .collect();
    let mut report = Report::open("metrics", &[&known[..], &calibration].concat());
    let tensors = report.tensors("metrics.safetensors");

    report.case("logits", |report| {
        let logits = tensors.get("logits");
        let labels = tensors.labels("labels");
        let rows: Vec<&[f32]> = logits.values.chunks_exact(logits.shape[1]).collect();
        assert_eq!(
            (rows.len(), labels.len()),
            (size(&manifest, "n"), rows.len())
        );
        let predictions: Vec<_> = rows
            .iter()
            .zip(&labels)
            .map(|(row, label)| predict(row, *label))
            .collect();
        let ranks = tensors.labels("rank_of_label");
        let wrong = predictions
            .iter()
            .zip(&ranks)
            .filter(|(p, rank)| p.rank as usize != **rank as usize);
        report.check("logits", "ranks that differ", wrong.count() as f64, 0.0);

        let bound = {
            let words = report.tolerance_text("top1 top5");
            let inner = words
                .trim_start_matches("exact")
                .trim_matches([' ', '(', ')']);
            *tolerance::numbers(inner)
                .last()
                .expect("a bound in per cent")
        };
        let loss_bound = report.tolerance(&["loss", "abs"]);
        for k in [1, 5] {
            let count = predictions.iter().filter(|p| (p.rank as usize) < k).count();
            let expected = size(&manifest, &format!("n_top{k}"));
            report.check(
                "logits",
                &format!("n_top{k}"),
                count.abs_diff(expected) as f64,
                0.0,
            );
        }
        let batches: Vec<usize> = numbers(&manifest, "batches")
            .iter()
            .map(|n| *n as usize)
            .collect();
        let per_batch = numbers(&manifest, "cross_entropy_per_batch");
        assert_eq!(batches.len(), per_batch.len());
        let (mut start, mut worst, mut sum) = (0, 0f64, 0.0);
        for (size, reference) in batches.iter().zip(&per_batch) {
            let part = predictions[start..start + size].to_vec();
            start += size;
            let mean = Evaluation {
                predictions: part,
                single_labelled: true,
            }
            .metrics()["loss"];
            worst = worst.max((mean - reference).abs());
            sum += mean;
        }
        assert_eq!(start, predictions.len());
        report.check("logits", "cross-entropy of batches", worst, loss_bound);
        let mean = sum / batches.len() as f64;
        let reference = number(&manifest, "cross_entropy_mean_of_batch_means");
        report.check(
            "logits",
            "mean of batch means",
            (mean - reference).abs(),
            loss_bound,
        );

        let ours = Evaluation {
            single_labelled: true,
            predictions: predictions.clone(),
        }
        .metrics();
        for k in [1, 5] {
            let reference = number(&manifest, &format!("top{k}_percent"));
            let deviation = (ours[&format!("top{k}")] - reference).abs();
            report.check("logits", &format!("top{k}"), deviation, bound);
        }
        let reference = number(&manifest, "cross_entropy_mean");
        report.check(
            "logits",
            "cross-entropy",
            (ours["loss"] - reference).abs(),
            loss_bound,
        );

        assert!(!calibration.is_empty(), "no ece_N_bins");
        for key in &calibration {
            let answers = rows
                .iter()
                .zip(&predictions)
                .map(|(row, p)| (confidence(row), p.class == p.label));
            let ours = expected_calibration_error(answers, bins(key).expect("bins"));
            let deviation = (ours - number(&manifest, key)).abs();
            report.check("logits", key, deviation, report.tolerance(&["ece", "abs"]));
        }
    });
    report.finish();
}
