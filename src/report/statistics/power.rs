//! What a number of seeds can show at all.

use super::sample::t_quantile;

/// The smallest difference between two variants over the same `seeds` that a 95 % interval can tell
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
