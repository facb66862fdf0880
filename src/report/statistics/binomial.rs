//! Draws from the binomial distribution.

use crate::rng::KeyedRng;

/// A draw of the number of successes in `n` trials of probability `p`. Exact: inversion where few are
/// expected, else Hörmann's transformed rejection (BTRS, 1993).
pub(super) fn binomial(rng: &mut KeyedRng, n: u64, p: f64) -> u64 {
    if n == 0 || p <= 0.0 {
        return 0;
    }
    if p >= 1.0 {
        return n;
    }
    if p > 0.5 {
        return n - binomial(rng, n, 1.0 - p);
    }
    if n as f64 * p < 10.0 {
        inversion(rng, n, p)
    } else {
        rejection(rng, n, p)
    }
}

fn inversion(rng: &mut KeyedRng, n: u64, p: f64) -> u64 {
    let q = 1.0 - p;
    let ratio = p / q;
    let most = (n + 1) as f64 * ratio;
    let start = (n as f64 * q.ln()).exp();
    loop {
        let mut left = rng.unit();
        let mut term = start;
        let mut successes = 0;
        loop {
            if left <= term {
                return successes;
            }
            left -= term;
            successes += 1;
            if successes > n {
                // Rounding has used the last term up.
                break;
            }
            term *= most / successes as f64 - ratio;
        }
    }
}

fn rejection(rng: &mut KeyedRng, n: u64, p: f64) -> u64 {
    let trials = n as f64;
    let q = 1.0 - p;
    let spread = (trials * p * q).sqrt();
    let b = 1.15 + 2.53 * spread;
    let a = -0.0873 + 0.0248 * b + 0.01 * p;
    let c = trials * p + 0.5;
    let quick = 0.92 - 4.2 / b;
    let alpha = (2.83 + 5.1 / b) * spread;
    let ratio = p / q;
    let mode = ((trials + 1.0) * p).floor();
    loop {
        let u = rng.unit() - 0.5;
        let v = rng.unit();
        let us = 0.5 - u.abs();
        let k = ((2.0 * a / us + b) * u + c).floor();
        if us >= 0.07 && v <= quick {
            return k as u64;
        }
        if !(0.0..=trials).contains(&k) {
            continue;
        }
        let v = (v * alpha / (a / (us * us) + b)).ln();
        let bound = (mode + 0.5) * ((mode + 1.0) / (ratio * (trials - mode + 1.0))).ln()
            + (trials + 1.0) * ((trials - mode + 1.0) / (trials - k + 1.0)).ln()
            + (k + 0.5) * (ratio * (trials - k + 1.0) / (k + 1.0)).ln()
            + stirling(mode)
            + stirling(trials - mode)
            - stirling(k)
            - stirling(trials - k);
        if v <= bound {
            return k as u64;
        }
    }
}

/// The rest of Stirling's formula: ln k! less its leading terms.
fn stirling(k: f64) -> f64 {
    const TABLE: [f64; 10] = [
        0.081_061_466_795_327_26,
        0.041_340_695_955_409_29,
        0.027_677_925_684_998_34,
        0.020_790_672_103_765_09,
        0.016_644_691_189_821_19,
        0.013_876_128_823_070_75,
        0.011_896_709_945_891_77,
        0.010_411_265_261_972_09,
        0.009_255_462_182_712_733,
        0.008_330_563_433_362_87,
    ];
    if k < 10.0 {
        return TABLE[k as usize];
    }
    let square = (k + 1.0) * (k + 1.0);
    (1.0 / 12.0 - (1.0 / 360.0 - 1.0 / 1260.0 / square) / square) / (k + 1.0)
}
