//! Student's t: an estimate, its standard error, and what they say together.

use super::sample::{Sample, t_quantile};
use super::{CONFIDENCE, Interval};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// An estimate with its standard error and degrees of freedom.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TEstimate {
    pub mean: f64,
    pub standard_error: f64,
    /// Degrees of freedom, not necessarily whole; infinite where the error is zero.
    pub df: f64,
}

impl TEstimate {
    /// The mean of `values` against zero; `None` below two values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let sample = Sample::of(values)?;
        Some(TEstimate {
            mean: sample.mean,
            standard_error: sample.standard_error()?,
            df: (sample.n - 1) as f64,
        })
    }

    /// The mean of `ours[i] - theirs[i]`; `None` below two pairs or where the lengths differ.
    pub fn paired(ours: &[f64], theirs: &[f64]) -> Option<Self> {
        if ours.len() != theirs.len() {
            return None;
        }
        let differences: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a - b).collect();
        TEstimate::of(&differences)
    }

    /// The difference of two means without a common variance, with Satterthwaite's degrees of freedom;
    /// `None` if an arm has fewer than two values. (Welch 1947)
    pub fn welch(ours: &[f64], theirs: &[f64]) -> Option<Self> {
        TEstimate::contrast(&[(1.0, ours), (-1.0, theirs)])
    }

    /// The weighted sum of the means of independent samples, each with its own variance; `None` if one has
    /// fewer than two values. (Satterthwaite 1946)
    pub fn contrast(parts: &[(f64, &[f64])]) -> Option<Self> {
        let (mut mean, mut variance, mut squares) = (0.0, 0.0, 0.0);
        for (weight, values) in parts {
            let sample = Sample::of(values)?;
            let part = (weight * sample.standard_error()?).powi(2);
            mean += weight * sample.mean;
            variance += part;
            squares += part * part / (sample.n - 1) as f64;
        }
        let df = if variance == 0.0 {
            f64::INFINITY
        } else {
            variance * variance / squares
        };
        Some(TEstimate {
            mean,
            standard_error: variance.sqrt(),
            df,
        })
    }

    /// The interval of [`CONFIDENCE`].
    pub fn interval(&self) -> Interval {
        let half = if self.standard_error == 0.0 {
            0.0
        } else {
            t_quantile(self.df) * self.standard_error
        };
        Interval::around(self.mean, half)
    }

    /// Two-sided p value of the mean being zero.
    pub fn p(&self) -> f64 {
        if self.standard_error == 0.0 {
            return if self.mean == 0.0 { 1.0 } else { 0.0 };
        }
        2.0 * self.tail((self.mean / self.standard_error).abs())
    }

    /// Probability of a t of these degrees of freedom above `t`.
    pub(super) fn tail(&self, t: f64) -> f64 {
        match StudentsT::new(0.0, 1.0, self.df) {
            Ok(distribution) => distribution.cdf(-t),
            Err(_) => f64::NAN,
        }
    }

    /// The interval in which one further run lies, for the mean of `n` runs of standard deviation
    /// `sd`: `mean ± t sd sqrt(1 + 1/n)`; `None` below two runs, or where
    /// they don't vary.
    pub fn prediction(sample: &Sample) -> Option<Interval> {
        let n = sample.n as f64;
        let sd = sample.sd.filter(|sd| *sd > 0.0)?;
        let half = t_quantile(n - 1.0) * sd * (1.0 + 1.0 / n).sqrt();
        Some(Interval::around(sample.mean, half))
    }
}

/// Two-sided error probability of the intervals.
pub(super) const ALPHA: f64 = 1.0 - CONFIDENCE;
