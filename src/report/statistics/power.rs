//! What a number of seeds can show at all.

use super::quadrature::{chi, nodes, phi};
use super::sample::t_quantile;
use super::t_test::TEstimate;

/// The smallest observed difference between two variants over the same `seeds` that a 95 % interval can tell
/// from zero, in standard deviations of one run: `t(0.975, n - 1) sqrt(2 / n)`, the half-width of the
/// paired interval (3 seeds: 3.51, 5: 1.76). Infinite below two seeds.
///
/// The square root of 2 holds where a seed's results do not correlate between variants, which is
/// common; where they do, smaller differences show.
pub fn smallest_effect(seeds: usize) -> f64 {
    if seeds < 2 {
        return f64::INFINITY;
    }
    let n = seeds as f64;
    t_quantile(n - 1.0) * (2.0 / n).sqrt()
}

/// The chance that [`detectable_effect`] is of.
pub const POWER: f64 = 0.8;

/// The true difference that an experiment with this standard error and these degrees of freedom would tell from
/// zero with a probability of [`POWER`], were it made again. An observed difference is told from zero from the
/// interval's half-width on; a true one of that size only half of the time, since the observed one scatters around
/// it.
pub fn detectable_effect(estimate: &TEstimate) -> f64 {
    noncentrality(estimate.df) * estimate.standard_error
}

/// The noncentrality at which the two-sided t test with `df` degrees of freedom has [`POWER`].
pub(super) fn noncentrality(df: f64) -> f64 {
    let critical = t_quantile(df);
    let (mut low, mut high) = (0.0, 2.0 * critical + 4.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if power(middle, df, critical) < POWER {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low + high) / 2.0
}

/// Probability that a t with `df` degrees of freedom and this noncentrality lies outside ± `critical`: the normal
/// probability, averaged over the law of the estimated standard deviation.
fn power(noncentrality: f64, df: f64, critical: f64) -> f64 {
    if !df.is_finite() {
        return phi(noncentrality - critical) + phi(-noncentrality - critical);
    }
    let (low, high, density) = chi(df);
    nodes(low, high, 48)
        .map(|(s, weight)| {
            let outside = phi(noncentrality - critical * s) + phi(-noncentrality - critical * s);
            weight * density(s) * outside
        })
        .sum()
}
