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
    let z = Normal::standard().inverse_cdf(0.5 + CONFIDENCE / 2.0);
    let n = trials as f64;
    let p = successes as f64 / n;
    let denominator = 1.0 + z * z / n;
    let centre = (p + z * z / (2.0 * n)) / denominator;
    let half = z / denominator * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    Some(Interval {
        low: (centre - half).max(0.0),
        high: (centre + half).min(1.0),
    })
}
