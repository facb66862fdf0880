//! McNemar's test: two trained models on the same images.

use statrs::distribution::{Binomial, Discrete, DiscreteCDF};

/// P values of McNemar's test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct McNemar {
    /// Images that only ours has right.
    pub ours_only: u64,
    /// Images that only theirs has right.
    pub theirs_only: u64,
    /// Exact conditional (binomial) p value, two-sided; conservative.
    pub exact: f64,
    /// Mid-p value: half of the observed outcome's probability; nearer to its nominal level.
    /// (Fagerland, Lydersen and Laake 2013)
    pub mid_p: f64,
}

/// Compares two models by the images that only one of them has right. It says whether these two trained
/// models differ on this kind of images, and nothing about other seeds.
pub fn mcnemar(ours_only: u64, theirs_only: u64) -> McNemar {
    let discordant = ours_only + theirs_only;
    let least = ours_only.min(theirs_only);
    let (exact, mid_p) = match Binomial::new(0.5, discordant) {
        // Half of the outcome's own probability, which is in both tails.
        Ok(binomial) if discordant > 0 && ours_only == theirs_only => {
            (1.0, 1.0 - binomial.pmf(least) / 2.0)
        }
        Ok(binomial) if discordant > 0 => {
            let tail = binomial.cdf(least);
            let here = binomial.pmf(least);
            (
                (2.0 * tail).min(1.0),
                (2.0 * (tail - here / 2.0)).clamp(0.0, 1.0),
            )
        }
        _ => (1.0, 1.0),
    };
    McNemar {
        ours_only,
        theirs_only,
        exact,
        mid_p,
    }
}
