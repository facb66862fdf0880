//! The probability that a run of one arm beats a run of the other (Bouthillier et al. 2021).

use super::Interval;
use super::proportion::wilson_share;
use super::t_test::ALPHA;
use statrs::distribution::{ContinuousCDF, Normal};

/// A probability and its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Superiority {
    pub probability: f64,
    pub interval: Interval,
}

/// For shared seeds: the share of seeds whose run of ours is larger (ties count half), with Wilson's
/// interval. `None` without pairs or where the lengths differ.
pub fn paired_superiority(ours: &[f64], theirs: &[f64]) -> Option<Superiority> {
    if ours.len() != theirs.len() || ours.is_empty() {
        return None;
    }
    let wins: f64 = ours.iter().zip(theirs).map(|(a, b)| win(*a, *b)).sum();
    let n = ours.len() as f64;
    Some(Superiority {
        probability: wins / n,
        interval: wilson_share(wins, n),
    })
}

/// For independent runs: the share of all pairs of a run of ours and one of theirs in which ours is larger
/// (the Mann-Whitney statistic over n m), with the interval of Newcombe's method 5 (2006), which stays
/// inside [0, 1] and doesn't vanish where all pairs are won. `None` if an arm is empty.
pub fn superiority(ours: &[f64], theirs: &[f64]) -> Option<Superiority> {
    let (n, m) = (ours.len() as f64, theirs.len() as f64);
    if n == 0.0 || m == 0.0 {
        return None;
    }
    let wins: f64 = ours
        .iter()
        .flat_map(|a| theirs.iter().map(|b| win(*a, *b)))
        .sum();
    let share = wins / (n * m);
    let z = Normal::standard().inverse_cdf(1.0 - ALPHA / 2.0);
    let half = (n + m) / 2.0 - 1.0;
    // The Hanley-McNeil variance at the bound itself, as in Wilson's interval.
    let beyond = |bound: f64| {
        let variance = bound
            * (1.0 - bound)
            * (1.0 + half * (1.0 - bound) / (2.0 - bound) + half * bound / (1.0 + bound))
            / (n * m);
        (share - bound).abs() > z * variance.sqrt()
    };
    Some(Superiority {
        probability: share,
        interval: Interval {
            low: edge(share, 0.0, beyond),
            high: edge(share, 1.0, beyond),
        },
    })
}

/// Where, on the way from `inside` to `outside`, `beyond` begins to hold.
fn edge(inside: f64, outside: f64, beyond: impl Fn(f64) -> bool) -> f64 {
    if inside == outside || !beyond(outside) {
        return outside;
    }
    let (mut near, mut far) = (inside, outside);
    for _ in 0..100 {
        let middle = (near + far) / 2.0;
        if beyond(middle) {
            far = middle;
        } else {
            near = middle;
        }
    }
    near
}

fn win(a: f64, b: f64) -> f64 {
    match a.total_cmp(&b) {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Less => 0.0,
    }
}
