//! What a number of seeds can show at all.

use super::sample::t_quantile;

/// The smallest difference between two arms of `seeds` runs each that a 95 % interval can tell from
/// zero, in units of the standard deviation between seeds: the half-width of Welch's interval for
/// arms of equal spread (3 seeds: 2.27, 5: 1.46). Infinite below two seeds. Where seeds pair well the
/// paired interval is narrower; that can't be known before the runs.
pub fn smallest_effect(seeds: usize) -> f64 {
    if seeds < 2 {
        return f64::INFINITY;
    }
    let n = seeds as f64;
    t_quantile(2.0 * n - 2.0) * (2.0 / n).sqrt()
}
