//! Dunnett's test: several variants against one baseline.

use super::pairing::{common_seeds, negligible};
use super::quadrature::{chi, nodes, phi};
use super::sample::Sample;
use super::{CONFIDENCE, Interval};

/// What Dunnett's test says of variants against one baseline, in the order given.
#[derive(Debug, Clone, PartialEq)]
pub struct Dunnett {
    pub differences: Vec<f64>,
    /// Two-sided p values, adjusted for the number of comparisons.
    pub p: Vec<f64>,
    /// Simultaneous intervals of the differences.
    pub intervals: Vec<Interval>,
    pub df: f64,
    /// The seeds that were blocks, those of all arms; empty where the arms share none.
    pub blocks: Vec<u64>,
}

/// What a family of comparisons has beside those that can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// Variants against this baseline, those without a result among them.
    pub arms: usize,
    /// Baselines with such a family each; they share the error probability in equal parts (Bonferroni).
    pub families: usize,
}

/// Dunnett's test (1955) of each arm's mean against the baseline's, with one variance for all. Where all
/// arms share two seeds and more, these are blocks, other runs are left out, and the variance is that of the
/// residuals of variant + seed; else it is pooled within the arms. Arms that are planned and have no result count,
/// as if they were as large as the baseline. `None` without arms, with an empty one, or without a degree of freedom
/// or a variance.
pub fn dunnett(
    baseline: &[(u64, f64)],
    arms: &[&[(u64, f64)]],
    planned: Planned,
) -> Option<Dunnett> {
    if arms.is_empty() || baseline.is_empty() || arms.iter().any(|arm| arm.is_empty()) {
        return None;
    }
    let arms_and_baseline = || std::iter::once(baseline).chain(arms.iter().copied());
    let mut blocks = common_seeds(arms_and_baseline());
    if blocks.len() < 2 {
        blocks.clear();
    }
    let all: Vec<Vec<f64>> = arms_and_baseline()
        .map(|arm| {
            let mut arm = arm.to_vec();
            arm.sort_by_key(|(seed, _)| *seed);
            arm.iter()
                .filter(|(seed, _)| blocks.is_empty() || blocks.binary_search(seed).is_ok())
                .map(|(_, value)| *value)
                .collect()
        })
        .collect();
    let means: Vec<f64> = all
        .iter()
        .map(|values| Sample::of(values).map(|sample| sample.mean))
        .collect::<Option<_>>()?;
    let (squares, df) = if blocks.is_empty() {
        let squares: f64 = all
            .iter()
            .zip(&means)
            .flat_map(|(values, mean)| values.iter().map(move |value| (value - mean).powi(2)))
            .sum();
        let runs: usize = all.iter().map(Vec::len).sum();
        (squares, runs.checked_sub(all.len())?)
    } else {
        let grand = means.iter().sum::<f64>() / means.len() as f64;
        let seeds: Vec<f64> = (0..blocks.len())
            .map(|seed| all.iter().map(|values| values[seed]).sum::<f64>() / all.len() as f64)
            .collect();
        let squares: f64 = all
            .iter()
            .zip(&means)
            .flat_map(|(values, mean)| {
                values
                    .iter()
                    .zip(&seeds)
                    .map(move |(value, seed)| (value - mean - seed + grand).powi(2))
            })
            .sum();
        (squares, (all.len() - 1) * (blocks.len() - 1))
    };
    let size = means.iter().fold(0.0f64, |size, mean| size.max(mean.abs()));
    if df == 0 || negligible((squares / df as f64).sqrt(), size) {
        return None;
    }
    let variance = squares / df as f64;
    let df = df as f64;
    let n = |arm: &Vec<f64>| arm.len() as f64;
    let n0 = n(&all[0]);
    let mut lambdas: Vec<f64> = all[1..]
        .iter()
        .map(|arm| (n(arm) / (n(arm) + n0)).sqrt())
        .collect();
    let errors: Vec<f64> = all[1..]
        .iter()
        .map(|arm| (variance * (1.0 / n(arm) + 1.0 / n0)).sqrt())
        .collect();
    let further = planned.arms.saturating_sub(arms.len());
    lambdas.extend(std::iter::repeat_n(0.5f64.sqrt(), further));
    let law = MaxT::new(&lambdas, df);
    let families = planned.families.max(1) as f64;
    let critical = law.quantile(1.0 - (1.0 - CONFIDENCE) / families);
    let differences: Vec<f64> = means[1..].iter().map(|mean| mean - means[0]).collect();
    let both = || differences.iter().zip(&errors);
    Some(Dunnett {
        p: both()
            .map(|(difference, error)| {
                (families * (1.0 - law.cdf((difference / error).abs()))).clamp(0.0, 1.0)
            })
            .collect(),
        intervals: both()
            .map(|(difference, error)| Interval::around(*difference, critical * error))
            .collect(),
        df,
        blocks,
        differences,
    })
}

/// The law of the largest |t| of several variants against one baseline: a multivariate t whose
/// correlations are products of `lambdas`.
pub(super) struct MaxT {
    lambdas: Vec<f64>,
    /// (scale s = chi/sqrt(df), its weight).
    scales: Vec<(f64, f64)>,
    /// (normal z of the baseline, its weight).
    normals: Vec<(f64, f64)>,
}

impl MaxT {
    pub(super) fn new(lambdas: &[f64], df: f64) -> Self {
        let (low, high, density) = chi(df);
        let normal = |z: f64| (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt();
        MaxT {
            lambdas: lambdas.to_vec(),
            // With one or two degrees of freedom the scale has a long reach.
            scales: nodes(low, high, if df < 3.0 { 24 } else { 6 })
                .map(|(s, weight)| (s, weight * density(s)))
                .filter(|(_, weight)| *weight > 1e-18)
                .collect(),
            normals: nodes(-8.5, 8.5, 8)
                .map(|(z, weight)| (z, weight * normal(z)))
                .collect(),
        }
    }

    /// Probability that all |t| are at most `t`.
    pub(super) fn cdf(&self, t: f64) -> f64 {
        let equal = self.lambdas.windows(2).all(|pair| pair[0] == pair[1]);
        let within = |lambda: f64, z: f64, s: f64| {
            let width = (1.0 - lambda * lambda).sqrt();
            (phi((lambda * z + t * s) / width) - phi((lambda * z - t * s) / width)).max(0.0)
        };
        self.scales
            .iter()
            .map(|&(s, weight)| {
                let inner: f64 = self
                    .normals
                    .iter()
                    .map(|&(z, weight)| {
                        weight
                            * if equal {
                                within(self.lambdas[0], z, s).powi(self.lambdas.len() as i32)
                            } else {
                                self.lambdas.iter().map(|l| within(*l, z, s)).product()
                            }
                    })
                    .sum();
                weight * inner
            })
            .sum()
    }

    /// The t that all |t| are at most with probability `p`.
    pub(super) fn quantile(&self, p: f64) -> f64 {
        let (mut low, mut high) = (0.0, 2.0);
        while self.cdf(high) < p && high < 1e6 {
            low = high;
            high *= 2.0;
        }
        // Regula falsi with the Illinois rule: a handful of evaluations.
        let (mut f_low, mut f_high) = (self.cdf(low) - p, self.cdf(high) - p);
        for _ in 0..100 {
            let t = (low * f_high - high * f_low) / (f_high - f_low);
            let f = self.cdf(t) - p;
            if f.abs() < 1e-12 || high - low < 1e-10 {
                return t;
            }
            if f > 0.0 {
                (high, f_high) = (t, f);
                f_low /= 2.0;
            } else {
                (low, f_low) = (t, f);
                f_high /= 2.0;
            }
        }
        (low + high) / 2.0
    }
}
