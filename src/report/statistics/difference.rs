//! The difference of two arms.

use super::Interval;
use super::sample::Sample;
use super::t_test::TEstimate;

/// How the interval of a difference was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// Paired t over seeds that both arms share.
    Paired,
    /// Welch's unequal-variance t.
    Welch,
    /// Bootstrap over the images of the evaluation set: one run of each arm, no spread over seeds.
    Images,
}

impl Method {
    /// Its name for machines.
    pub fn name(self) -> &'static str {
        match self {
            Method::Paired => "paired",
            Method::Welch => "welch",
            Method::Images => "images",
        }
    }
}

/// A difference of means, `ours - theirs`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    pub mean: f64,
    /// Its interval and how that was made; `None` where the data give none (a single run).
    pub interval: Option<(Interval, Method)>,
    /// What the interval is made from.
    pub estimate: Option<TEstimate>,
}

/// The difference of two arms, each a list of (seed, value). The interval is paired where the same
/// seeds are present in both, Welch's otherwise. `None` if an arm is empty.
pub fn difference(ours: &[(u64, f64)], theirs: &[(u64, f64)]) -> Option<Difference> {
    let (a, b) = (sorted(ours), sorted(theirs));
    let mean = Sample::of(&a)?.mean - Sample::of(&b)?.mean;
    let (estimate, method) = if same_seeds(ours, theirs) {
        (TEstimate::paired(&a, &b), Method::Paired)
    } else {
        (TEstimate::welch(&a, &b), Method::Welch)
    };
    Some(Difference {
        mean,
        interval: estimate.map(|estimate| (estimate.interval(), method)),
        estimate,
    })
}

/// Whether both arms have runs of the same seeds.
pub fn same_seeds(ours: &[(u64, f64)], theirs: &[(u64, f64)]) -> bool {
    let seeds = |arm: &[(u64, f64)]| {
        let mut seeds: Vec<u64> = arm.iter().map(|(seed, _)| *seed).collect();
        seeds.sort_unstable();
        seeds
    };
    seeds(ours) == seeds(theirs)
}

/// An arm's values by seed.
pub fn sorted(arm: &[(u64, f64)]) -> Vec<f64> {
    let mut arm = arm.to_vec();
    arm.sort_by_key(|(seed, _)| *seed);
    arm.into_iter().map(|(_, value)| value).collect()
}

/// The paired t interval of the mean of `ours[i] - theirs[i]`; `None` below two pairs or where the
/// lengths differ.
pub fn paired(ours: &[f64], theirs: &[f64]) -> Option<Interval> {
    Some(TEstimate::paired(ours, theirs)?.interval())
}

/// Welch's t interval of the difference of means, with Satterthwaite's degrees of freedom; `None` if
/// an arm has fewer than two values.
pub fn welch(ours: &[f64], theirs: &[f64]) -> Option<Interval> {
    Some(TEstimate::welch(ours, theirs)?.interval())
}
