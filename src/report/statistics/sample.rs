//! One arm: the values of one metric over the seeds of one variant.

use super::{CONFIDENCE, Interval};
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// Summary of a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    pub n: usize,
    pub mean: f64,
    /// Standard deviation with n - 1 in the denominator; `None` below two values.
    pub sd: Option<f64>,
}

impl Sample {
    /// Summary of `values`; `None` if there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let n = values.len();
        let mean = values.iter().sum::<f64>() / n as f64;
        let sd = (n > 1).then(|| {
            // Two passes: the textbook formula loses everything when the spread is small.
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            (squares / (n - 1) as f64).sqrt()
        });
        Some(Sample { n, mean, sd })
    }

    /// Standard error of the mean.
    pub fn standard_error(&self) -> Option<f64> {
        Some(self.sd? / (self.n as f64).sqrt())
    }

    /// The t interval of the mean; `None` below two values.
    pub fn t_interval(&self) -> Option<Interval> {
        let half = t_quantile((self.n.checked_sub(1)?) as f64) * self.standard_error()?;
        Some(Interval::around(self.mean, half))
    }
}

/// The quantile of Student's t with `df` degrees of freedom that leaves (1 - [`CONFIDENCE`]) / 2
/// above it; infinite where `df` is not positive.
///
/// By bisection: the inverse that `statrs` has needs not end where `df` is large or no integer.
pub fn t_quantile(df: f64) -> f64 {
    let p = 0.5 + CONFIDENCE / 2.0;
    if df > 1e5 {
        // The first terms of its expansion around the normal quantile (Abramowitz and Stegun 26.7.5); what is left out
        // is below 1e-14.
        let z = Normal::standard().inverse_cdf(p);
        let first = (z.powi(3) + z) / 4.0;
        let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
        return z + first / df + second / (df * df);
    }
    let Ok(t) = StudentsT::new(0.0, 1.0, df) else {
        return f64::INFINITY;
    };
    let (mut low, mut high) = (0.0, 1.0);
    while t.cdf(high) < p && high.is_finite() {
        (low, high) = (high, high * 2.0);
    }
    // Until no number lies between them.
    loop {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            return high;
        }
        match t.cdf(middle) < p {
            true => low = middle,
            false => high = middle,
        }
    }
}
