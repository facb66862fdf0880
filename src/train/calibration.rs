//! Calibration: whether the model is right as often as it claims to be.

/// Softmax probability of the class with the largest logit.
pub fn confidence(logits: &[f32]) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .iter()
        .map(|&logit| (f64::from(logit) - f64::from(largest)).exp())
        .sum();
    1.0 / sum
}

/// Expected calibration error (Naeini et al. 2015, as in Guo et al. 2017): of answers with a
/// confidence in [0, 1] and whether they were right, in `bins` equal bins (lo, hi] of the confidence,
/// the mean distance between confidence and accuracy, weighted by the size of the bins. 0 without
/// answers.
///
/// Trap: bins are open below and closed above, so a confidence of exactly 0 is in none; a softmax
/// never gives it.
pub fn expected_calibration_error(
    answers: impl IntoIterator<Item = (f64, bool)>,
    bins: usize,
) -> f64 {
    // Per bin: sum of confidences, number of right answers.
    let mut sums = vec![(0.0, 0usize); bins];
    let mut total = 0usize;
    for (confidence, right) in answers {
        total += 1;
        let bin = (confidence * bins as f64).ceil() as usize;
        if let Some((sum, count)) = bin.checked_sub(1).and_then(|bin| sums.get_mut(bin)) {
            *sum += confidence;
            *count += usize::from(right);
        }
    }
    let gaps = sums.iter().map(|(sum, right)| (sum - *right as f64).abs());
    gaps.sum::<f64>() / total.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_closed_above() {
        // 0.2 belongs to the bin (0, 0.2] of five, 0.21 to the next.
        let ece = expected_calibration_error([(0.2, false), (0.21, true)], 5);
        assert!((ece - (0.2 + 0.79) / 2.0).abs() < 1e-12);
        // In one bin the two errors cancel.
        let ece = expected_calibration_error([(0.6, true), (0.6, false)], 5);
        assert!((ece - 0.1).abs() < 1e-12);
        assert_eq!(expected_calibration_error([], 15), 0.0);
        assert_eq!(expected_calibration_error([(1.0, true)], 15), 0.0);
    }

    #[test]
    fn confidence_of_large_logits_is_finite() {
        assert_eq!(confidence(&[90.0, -90.0]), 1.0);
        assert_eq!(confidence(&[3.0; 4]), 0.25);
    }
}
