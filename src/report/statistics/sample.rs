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
pub fn t_quantile(df: f64) -> f64 {
    if df == f64::INFINITY {
        return Normal::standard().inverse_cdf(0.5 + CONFIDENCE / 2.0);
    }
    match StudentsT::new(0.0, 1.0, df) {
        Ok(t) => t.inverse_cdf(0.5 + CONFIDENCE / 2.0),
        Err(_) => f64::INFINITY,
    }
}
