//! The difference of two arms.

use super::Interval;
use super::sample::{Sample, t_quantile};

/// How the interval of a difference was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// Paired t over seeds that both arms share.
    Paired,
    /// Welch's unequal-variance t.
    Welch,
}

/// A difference of means, `ours - theirs`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    pub mean: f64,
    /// Its interval and how that was made; `None` where the data give none (a single run).
    pub interval: Option<(Interval, Method)>,
}

/// The difference of two arms, each a list of (seed, value). The interval is paired where the same
/// seeds are present in both, Welch's otherwise. `None` if an arm is empty.
pub fn difference(ours: &[(u64, f64)], theirs: &[(u64, f64)]) -> Option<Difference> {
    let sorted = |arm: &[(u64, f64)]| {
        let mut arm = arm.to_vec();
        arm.sort_by_key(|(seed, _)| *seed);
        arm
    };
    let (ours, theirs) = (sorted(ours), sorted(theirs));
    let values = |arm: &[(u64, f64)]| arm.iter().map(|(_, value)| *value).collect::<Vec<_>>();
    let (a, b) = (values(&ours), values(&theirs));
    let mean = Sample::of(&a)?.mean - Sample::of(&b)?.mean;
    let same_seeds = ours.len() == theirs.len()
        && ours
            .iter()
            .zip(&theirs)
            .all(|((seed, _), (other, _))| seed == other);
    let interval = if same_seeds {
        paired(&a, &b).map(|interval| (interval, Method::Paired))
    } else {
        welch(&a, &b).map(|interval| (interval, Method::Welch))
    };
    Some(Difference { mean, interval })
}

/// The paired t interval of the mean of `ours[i] - theirs[i]`; `None` below two pairs or where the
/// lengths differ.
pub fn paired(ours: &[f64], theirs: &[f64]) -> Option<Interval> {
    if ours.len() != theirs.len() {
        return None;
    }
    let differences: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a - b).collect();
    Sample::of(&differences)?.t_interval()
}

/// Welch's t interval of the difference of means, with Satterthwaite's degrees of freedom; `None` if
/// an arm has fewer than two values.
pub fn welch(ours: &[f64], theirs: &[f64]) -> Option<Interval> {
    let (a, b) = (Sample::of(ours)?, Sample::of(theirs)?);
    let (va, vb) = (a.standard_error()?.powi(2), b.standard_error()?.powi(2));
    let mean = a.mean - b.mean;
    if va + vb == 0.0 {
        return Some(Interval::around(mean, 0.0));
    }
    let df = (va + vb).powi(2) / (va.powi(2) / (a.n - 1) as f64 + vb.powi(2) / (b.n - 1) as f64);
    Some(Interval::around(mean, t_quantile(df) * (va + vb).sqrt()))
}
