//! Numerical integration, and the laws that are integrated over.

use statrs::function::erf::erfc;
use statrs::function::gamma::ln_gamma;

/// The law of s = chi / sqrt(df), the estimated standard deviation over the true one: where all but 1e-16 of it
/// lies (Laurent and Massart 2000), and its density.
pub(super) fn chi(df: f64) -> (f64, f64, impl Fn(f64) -> f64) {
    let spread = 2.0 * (37.0 * df).sqrt();
    let low = ((df - spread).max(0.0) / df).sqrt();
    let high = ((df + spread + 74.0) / df).sqrt();
    let constant = 2f64.ln() + df / 2.0 * (df / 2.0).ln() - ln_gamma(df / 2.0);
    let density = move |s: f64| (constant + (df - 1.0) * s.ln() - df * s * s / 2.0).exp();
    (low, high, density)
}

/// The normal law's probability below `x`.
pub(super) fn phi(x: f64) -> f64 {
    erfc(-x / std::f64::consts::SQRT_2) / 2.0
}

/// Nodes and weights of the 16-point Gauss-Legendre rule on each of `panels` parts of [low, high].
pub(super) fn nodes(low: f64, high: f64, panels: usize) -> impl Iterator<Item = (f64, f64)> {
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
