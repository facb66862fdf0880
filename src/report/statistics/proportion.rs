//! The accuracy of one run, from its images.

use super::{CONFIDENCE, Interval};
use statrs::distribution::{ContinuousCDF, Normal};

/// Wilson's score interval for `successes` of `trials`, as fractions; `None` without trials. It says
/// how well the test set's size determines the accuracy of this one trained model, and nothing about
/// other seeds. (Wilson 1927; without continuity correction.)
pub fn wilson(successes: u64, trials: u64) -> Option<Interval> {
    if trials == 0 || successes > trials {
        return None;
    }
    Some(wilson_share(successes as f64, trials as f64))
}

/// [`wilson`] where ties count half a success; `trials` is positive.
pub(super) fn wilson_share(successes: f64, trials: f64) -> Interval {
    let z = Normal::standard().inverse_cdf(0.5 + CONFIDENCE / 2.0);
    let p = successes / trials;
    let denominator = 1.0 + z * z / trials;
    let centre = (p + z * z / (2.0 * trials)) / denominator;
    let half = z / denominator * (p * (1.0 - p) / trials + z * z / (4.0 * trials * trials)).sqrt();
    Interval {
        low: (centre - half).max(0.0),
        high: (centre + half).min(1.0),
    }
}
