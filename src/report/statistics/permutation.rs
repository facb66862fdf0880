//! Exact permutation tests of a difference of means, for few runs.

/// Most runs an arm for which all permutations are counted (8 + 8 runs: 12,870 of them).
pub const MOST_RUNS: usize = 8;

/// Differences below this share of the values' size count as ties: sums of the same numbers in another
/// order may differ in their last digits.
const TIE: f64 = 1e-12;

/// Two-sided p value of the mean of paired differences, over all flips of their signs: the share of
/// the 2^n flips whose mean is at least as far from zero. `None` without pairs or above [`MOST_RUNS`].
/// The smallest possible value is 2^(1 - n): 0.25 for 3 pairs, 0.0625 for 5.
pub fn sign_flip(ours: &[f64], theirs: &[f64]) -> Option<f64> {
    let n = ours.len();
    if n == 0 || n != theirs.len() || n > MOST_RUNS {
        return None;
    }
    let differences: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a - b).collect();
    let observed = differences.iter().sum::<f64>().abs();
    let size: f64 = differences.iter().map(|d| d.abs()).sum();
    let as_far = (0..1u32 << n)
        .filter(|signs| {
            let sum: f64 = differences
                .iter()
                .enumerate()
                .map(|(bit, d)| if signs >> bit & 1 == 1 { -d } else { *d })
                .sum();
            sum.abs() >= observed - TIE * size
        })
        .count();
    Some(as_far as f64 / f64::from(1u32 << n))
}

/// Two-sided p value of the difference of two means, over all ways to deal the values to the arms: the
/// share whose means are at least as far apart. `None` if an arm is empty or above [`MOST_RUNS`]. The
/// smallest possible value is 0.1 for 3 + 3 runs, 0.008 for 5 + 5.
pub fn labels(ours: &[f64], theirs: &[f64]) -> Option<f64> {
    let (n, m) = (ours.len(), theirs.len());
    if n == 0 || m == 0 || n > MOST_RUNS || m > MOST_RUNS {
        return None;
    }
    let all: Vec<f64> = ours.iter().chain(theirs).copied().collect();
    // Around their mean, so that the sums are small.
    let centre = all.iter().sum::<f64>() / all.len() as f64;
    let all: Vec<f64> = all.iter().map(|value| value - centre).collect();
    let total: f64 = all.iter().sum();
    let apart = |sum: f64| (sum / n as f64 - (total - sum) / m as f64).abs();
    let observed = apart(all[..n].iter().sum());
    let size: f64 = all.iter().map(|value| value.abs()).sum();
    let (mut deals, mut as_far) = (0u32, 0u32);
    for chosen in 0..1u32 << all.len() {
        if chosen.count_ones() as usize != n {
            continue;
        }
        let sum: f64 = (0..all.len())
            .filter(|bit| chosen >> bit & 1 == 1)
            .map(|bit| all[bit])
            .sum();
        deals += 1;
        as_far += u32::from(apart(sum) >= observed - TIE * size);
    }
    Some(f64::from(as_far) / f64::from(deals))
}
