//! Evaluation: top-1, top-5, loss and what the model said of every image.
//!
//! The reference's: resize the short side, centre crop, no mixing, raw weights unless the recipe asks
//! for their average. The loss is the mean cross-entropy over images (the reference prints a mean of
//! batch means, in which a short last batch counts in full).
//!
//! An image with several labels is right if the predicted class is one of them (arXiv 2006.07159). Top-5
//! and loss aren't defined for sets with such images and are left out.

use super::TrainError;
use crate::data::{EvalTransform, EvaluationSet, Loader};
use crate::model::VisionTransformer;
use crate::rundir::predictions::Prediction;
use burn::tensor::{Device, Tensor, TensorData};
use std::collections::BTreeMap;

/// Images per batch: a constant, so that results never depend on the circumstances.
const BATCH: usize = 128;

/// What an evaluation found.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// One per image, in the order of the data set.
    pub predictions: Vec<Prediction>,
    /// Whether every image has one label.
    pub single_labelled: bool,
}

impl Evaluation {
    /// `top1` in per cent; where every image has one label, `top5` in per cent and `loss` too.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let n = self.predictions.len().max(1) as f64;
        let within = |k| self.predictions.iter().filter(|p| p.rank < k).count() as f64 * 100.0 / n;
        let loss = self
            .predictions
            .iter()
            .map(|p| f64::from(p.loss))
            .sum::<f64>()
            / n;
        if !self.single_labelled {
            return BTreeMap::from([("top1".to_owned(), within(1))]);
        }
        BTreeMap::from([
            ("top1".to_owned(), within(1)),
            ("top5".to_owned(), within(5)),
            ("loss".to_owned(), loss),
        ])
    }
}

/// Evaluates `model` (outside autodiff, of the resolution of `transform`) on `set`.
pub fn evaluate(
    model: &VisionTransformer,
    set: &EvaluationSet,
    transform: &EvalTransform,
    loader_threads: usize,
    device: &Device,
    mut stop: impl FnMut() -> Result<(), TrainError>,
) -> Result<Evaluation, TrainError> {
    let side = transform.resolution();
    let mut predictions = Vec::with_capacity(set.len());
    for batch in Loader::eval(set.dataset(), transform, BATCH, loader_threads) {
        stop()?;
        let batch = batch?;
        let count = batch.labels.len();
        let images: Tensor<4> = Tensor::from_data(
            TensorData::new(batch.images, [count, 3, side, side]),
            device,
        );
        let logits = model.forward(images, None).into_data().convert::<f32>();
        let logits = logits
            .as_slice::<f32>()
            .map_err(|error| TrainError::Config(format!("logits can't be read: {error:?}")))?;
        let first = predictions.len();
        let rows = logits.chunks_exact(model.arch.classes).enumerate();
        predictions.extend(rows.map(|(row, logits)| match set.labels(first + row) {
            [label] => predict(logits, *label),
            labels => predict_any(logits, labels),
        }));
    }
    Ok(Evaluation {
        predictions,
        single_labelled: set.is_single_labelled(),
    })
}

/// Reads one row of logits. Ties count against the label: a model that says the same of every class
/// has learnt nothing.
pub fn predict(logits: &[f32], label: u32) -> Prediction {
    let own = logits[label as usize];
    let mut class = 0;
    let mut rank = 0;
    for (index, &logit) in logits.iter().enumerate() {
        if logit > logits[class] {
            class = index;
        }
        let below = logit < own;
        if index != label as usize && !below {
            rank += 1;
        }
    }
    let largest = f64::from(logits[class]);
    let sum: f64 = logits
        .iter()
        .map(|&logit| (f64::from(logit) - largest).exp())
        .sum();
    let loss = (sum.ln() + largest - f64::from(own)) as f32;
    Prediction {
        label,
        class: class as u32,
        rank,
        loss,
    }
}

/// Reads one row of logits for an image of several classes. The label is the one of them with the largest
/// logit; its rank counts the classes that the image doesn't show, so that rank 0 means that the predicted
/// class is among the labels (ties count against them, as in [`predict`]). There is no loss: NaN.
pub fn predict_any(logits: &[f32], labels: &[u32]) -> Prediction {
    let at = |label: u32| logits[label as usize];
    let mut label = labels.first().copied().unwrap_or_default();
    for &other in labels {
        if at(other) > at(label) {
            label = other;
        }
    }
    let own = predict(logits, label);
    let ahead = labels
        .iter()
        .filter(|&&other| {
            let below = at(other) < at(label);
            other != label && !below
        })
        .count();
    Prediction {
        rank: own.rank - ahead as u32,
        loss: f32::NAN,
        ..own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_several_labels_is_enough() {
        let logits = [1.0, 3.0, 2.0, 0.0];
        let rank = |labels: &[u32]| {
            let p = predict_any(&logits, labels);
            assert!(p.loss.is_nan() && p.class == 1 && labels.contains(&p.label));
            (p.label, p.rank)
        };
        assert_eq!(rank(&[0, 1]), (1, 0));
        assert_eq!(rank(&[0, 2]), (2, 1));
        assert_eq!(rank(&[0, 3]), (0, 2));
        // Ties between labels are none; ties with other classes count against them.
        assert_eq!(predict_any(&[5.0, 5.0, 1.0], &[0, 1]).rank, 0);
        assert_eq!(predict_any(&[5.0, 5.0, 5.0], &[0, 1]).rank, 1);
        assert_eq!(predict_any(&[f32::NAN; 4], &[1, 2]).rank, 2);
        let evaluation = Evaluation {
            predictions: vec![predict_any(&logits, &[0, 1]), predict(&logits, 2)],
            single_labelled: false,
        };
        assert_eq!(
            evaluation.metrics(),
            BTreeMap::from([("top1".to_owned(), 50.0)])
        );
    }

    #[test]
    fn ranks_and_ties() {
        let p = predict(&[1.0, 3.0, 2.0], 2);
        assert_eq!((p.class, p.rank), (1, 1));
        assert!((f64::from(p.loss) - 1.407_605_96).abs() < 1e-6);
        assert_eq!(predict(&[0.0; 4], 1).rank, 3);
        assert_eq!(predict(&[f32::NAN; 4], 1).rank, 3);
        assert_eq!(predict(&[0.0, 5.0], 1).rank, 0);
    }
}
