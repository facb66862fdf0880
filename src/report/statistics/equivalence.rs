//! Equivalence: evidence that a difference is smaller than a margin.

use super::t_test::TEstimate;

/// The p value of two one-sided t tests (Schuirmann 1987) that the difference lies within ± `margin`.
/// Below 0.05 the claim "no difference that matters" stands: the 90 % interval lies within the margin.
pub fn tost(estimate: &TEstimate, margin: f64) -> f64 {
    if estimate.standard_error == 0.0 {
        return if estimate.mean.abs() < margin {
            0.0
        } else {
            1.0
        };
    }
    let t = |distance: f64| distance / estimate.standard_error;
    let below = estimate.tail(t(estimate.mean + margin));
    let above = estimate.tail(t(margin - estimate.mean));
    below.max(above)
}
