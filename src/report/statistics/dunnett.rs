//! Dunnett's test: several variants against one baseline.

use super::difference::{same_seeds, sorted};
use super::sample::Sample;
use super::{CONFIDENCE, Interval};
use statrs::function::erf::erfc;
use statrs::function::gamma::ln_gamma;

/// What Dunnett's test says of variants against one baseline, in the order given.
#[derive(Debug, Clone, PartialEq)]
pub struct Dunnett {
    /// Two-sided p values, adjusted for the number of variants.
    pub p: Vec<f64>,
    /// Simultaneous intervals of the differences.
    pub intervals: Vec<Interval>,
    pub df: f64,
    /// Whether seeds were blocks: all arms have the same ones.
    pub blocked: bool,
}

/// Dunnett's test (1955) of each arm's mean against the baseline's, with one variance for all. Where all
/// arms have the same seeds, these are blocks and the variance is that of the residuals of variant + seed;
/// else it is pooled within the arms. `None` without arms, with an empty one, or without a degree of
/// freedom or a variance.
pub fn dunnett(baseline: &[(u64, f64)], arms: &[&[(u64, f64)]]) -> Option<Dunnett> {
    if arms.is_empty() || baseline.is_empty() || arms.iter().any(|arm| arm.is_empty()) {
        return None;
    }
    let all: Vec<Vec<f64>> = std::iter::once(&baseline)
        .chain(arms)
        .map(|arm| sorted(arm))
        .collect();
    let means: Vec<f64> = all
        .iter()
        .map(|values| Sample::of(values).map(|sample| sample.mean))
        .collect::<Option<_>>()?;
    let blocked = arms.iter().all(|arm| same_seeds(baseline, arm));
    let (squares, df) = if blocked {
        let seeds = all[0].len();
        let grand = means.iter().sum::<f64>() / means.len() as f64;
        let blocks: Vec<f64> = (0..seeds)
            .map(|seed| all.iter().map(|values| values[seed]).sum::<f64>() / all.len() as f64)
            .collect();
        let squares: f64 = all
            .iter()
            .zip(&means)
            .flat_map(|(values, mean)| {
                values
                    .iter()
                    .zip(&blocks)
                    .map(move |(value, block)| (value - mean - block + grand).powi(2))
            })
            .sum();
        (squares, (all.len() - 1) * (seeds.checked_sub(1)?))
    } else {
        let squares = all
            .iter()
            .zip(&means)
            .flat_map(|(values, mean)| values.iter().map(move |value| (value - mean).powi(2)))
            .sum();
        let runs: usize = all.iter().map(Vec::len).sum();
        (squares, runs.checked_sub(all.len())?)
    };
    if df == 0 || squares <= 0.0 {
        return None;
    }
    let variance = squares / df as f64;
    let df = df as f64;
    let n0 = baseline.len() as f64;
    let lambdas: Vec<f64> = arms
        .iter()
        .map(|arm| (arm.len() as f64 / (arm.len() as f64 + n0)).sqrt())
        .collect();
    let law = MaxT::new(&lambdas, df);
    let errors: Vec<f64> = arms
        .iter()
        .map(|arm| (variance * (1.0 / arm.len() as f64 + 1.0 / n0)).sqrt())
        .collect();
    let critical = law.quantile(CONFIDENCE);
    let differences = means[1..].iter().map(|mean| mean - means[0]);
    Some(Dunnett {
        p: differences
            .clone()
            .zip(&errors)
            .map(|(difference, error)| (1.0 - law.cdf((difference / error).abs())).clamp(0.0, 1.0))
            .collect(),
        intervals: differences
            .zip(&errors)
            .map(|(difference, error)| Interval::around(difference, critical * error))
            .collect(),
        df,
        blocked,
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
        // Where all but 1e-16 of the chi distribution lies (Laurent and Massart 2000).
        let spread = 2.0 * (37.0 * df).sqrt();
        let low = ((df - spread).max(0.0) / df).sqrt();
        let high = ((df + spread + 74.0) / df).sqrt();
        let constant = 2f64.ln() + df / 2.0 * (df / 2.0).ln() - ln_gamma(df / 2.0);
        let density = |s: f64| (constant + (df - 1.0) * s.ln() - df * s * s / 2.0).exp();
        let normal = |z: f64| (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt();
        MaxT {
            lambdas: lambdas.to_vec(),
            scales: nodes(low, high, 6)
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

fn phi(x: f64) -> f64 {
    erfc(-x / std::f64::consts::SQRT_2) / 2.0
}

/// Nodes and weights of the 16-point Gauss-Legendre rule on each of `panels` parts of [low, high].
fn nodes(low: f64, high: f64, panels: usize) -> impl Iterator<Item = (f64, f64)> {
    // Abramowitz and Stegun 1964, table 25.4: positive abscissae and weights for n = 16.
    const RULE: [(f64, f64); 8] = [
        (0.095_012_509_837_637_44, 0.189_450_610_455_068_5),
        (0.281_603_550_779_258_9, 0.182_603_415_044_923_6),
        (0.458_016_777_657_227_4, 0.169_156_519_395_002_54),
        (0.617_876_244_402_643_7, 0.149_595_988_816_576_73),
        (0.755_404_408_355_003, 0.124_628_971_255_533_87),
        (0.865_631_202_387_831_7, 0.095_158_511_682_492_78),
        (0.944_575_023_073_232_6, 0.062_253_523_938_647_89),
        (0.989_400_934_991_649_9, 0.027_152_459_411_754_095),
    ];
    let half = (high - low) / panels as f64 / 2.0;
    (0..panels).flat_map(move |panel| {
        let middle = low + half * (2 * panel + 1) as f64;
        RULE.iter().flat_map(move |&(node, weight)| {
            [
                (middle - half * node, half * weight),
                (middle + half * node, half * weight),
            ]
        })
    })
}
