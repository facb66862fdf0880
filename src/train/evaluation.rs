//! Evaluation: top-1, top-5, loss and what the model said of every image.
//!
//! The reference's: resize the short side, centre crop, no mixing, raw weights unless the recipe asks
//! for their average. The loss is the mean cross-entropy over images (the reference prints a mean of
//! batch means, in which a short last batch counts in full).

use super::TrainError;
use crate::data::{Dataset, EvalTransform, Loader};
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
}

impl Evaluation {
    /// `top1` and `top5` in per cent, `loss`.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let n = self.predictions.len().max(1) as f64;
        let within = |k| self.predictions.iter().filter(|p| p.rank < k).count() as f64 * 100.0 / n;
        let loss = self
            .predictions
            .iter()
            .map(|p| f64::from(p.loss))
            .sum::<f64>()
            / n;
        BTreeMap::from([
            ("top1".to_owned(), within(1)),
            ("top5".to_owned(), within(5)),
            ("loss".to_owned(), loss),
        ])
    }
}

/// Evaluates `model` (outside autodiff, of the resolution of `transform`) on the val split.
pub fn evaluate(
    model: &VisionTransformer,
    dataset: &Dataset,
    transform: &EvalTransform,
    loader_threads: usize,
    device: &Device,
    mut stop: impl FnMut() -> Result<(), TrainError>,
) -> Result<Evaluation, TrainError> {
    let side = transform.resolution();
    let mut predictions = Vec::new();
    for batch in Loader::eval(dataset, transform, BATCH, loader_threads) {
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
        let rows = logits.chunks_exact(model.arch.classes);
        predictions.extend(
            rows.zip(&batch.labels)
                .map(|(row, &label)| predict(row, label)),
        );
    }
    Ok(Evaluation { predictions })
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

#[cfg(test)]
mod tests {
    use super::*;

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
