//! The difference of two arms.

use super::Interval;
use super::pairing::{Pairing, negligible};
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
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Over the pairs where the arms are paired.
    pub mean: f64,
    /// Its interval and how that was made; `None` where the data give none: a single run, or no spread.
    pub interval: Option<(Interval, Method)>,
    /// What the interval is made from.
    pub estimate: Option<TEstimate>,
    /// The values that it is made from.
    pub pairing: Pairing,
    /// Whether there are several runs, and yet no spread: every seed gives the same difference. That is what runs
    /// look like which ignore their seed, and no sample of anything.
    pub still: bool,
}

/// The difference of two arms, each a list of (seed, value). The interval is paired over the seeds that both
/// have ([`Pairing::of`]), else Welch's. `None` if an arm is empty.
pub fn difference(ours: &[(u64, f64)], theirs: &[(u64, f64)]) -> Option<Difference> {
    let pairing = Pairing::of(ours, theirs);
    let (a, b) = (&pairing.ours, &pairing.theirs);
    let (ours, theirs) = (Sample::of(a)?, Sample::of(b)?);
    let (estimate, method) = if pairing.paired {
        (TEstimate::paired(a, b), Method::Paired)
    } else {
        (TEstimate::welch(a, b), Method::Welch)
    };
    let size = ours.mean.abs().max(theirs.mean.abs());
    let still = estimate.is_some_and(|estimate| negligible(estimate.standard_error, size));
    let estimate = estimate.filter(|_| !still);
    Some(Difference {
        mean: ours.mean - theirs.mean,
        interval: estimate.map(|estimate| (estimate.interval(), method)),
        estimate,
        pairing,
        still,
    })
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
