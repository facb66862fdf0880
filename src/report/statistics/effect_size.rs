//! How large a difference is, in standard deviations.

use super::sample::Sample;
use statrs::function::gamma::ln_gamma;

/// Hedges' g: the difference of means over the pooled standard deviation, corrected for the bias of few
/// runs (exactly, by gamma functions; Hedges 1981). `None` if an arm has fewer than two values or nothing
/// varies. With few seeds it is itself uncertain: at 3 + 3 runs its standard error is about 0.8.
pub fn hedges_g(ours: &[f64], theirs: &[f64]) -> Option<f64> {
    let (a, b) = (Sample::of(ours)?, Sample::of(theirs)?);
    let df = (a.n + b.n).checked_sub(2)? as f64;
    let squares = (a.n - 1) as f64 * a.sd?.powi(2) + (b.n - 1) as f64 * b.sd?.powi(2);
    let pooled = (squares / df).sqrt();
    if pooled == 0.0 {
        return None;
    }
    let bias = (ln_gamma(df / 2.0) - ln_gamma((df - 1.0) / 2.0)).exp() / (df / 2.0).sqrt();
    Some(bias * (a.mean - b.mean) / pooled)
}
