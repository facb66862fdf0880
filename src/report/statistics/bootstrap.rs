//! The seed x image bootstrap: how sure a difference of accuracies is where both the runs and the images
//! are a sample.
//!
//! Each draw takes as many seeds and as many images as there are, with replacement, crossed: the two-way
//! cluster ("pigeonhole") bootstrap of McCullagh (2000) and Owen (2007), which errs on the side of wide
//! intervals where both are many. Runs are few: what a draw of the seeds changes is stretched, as in the expanded
//! percentile interval of Hesterberg (2015, "What Teachers Should Know About the Bootstrap"), by sqrt(n / (n - 1)) for the
//! spread of n values about their own mean, and by the quantile of t over that of the normal distribution. Images that all runs judge alike are exchangeable, so a draw of the images is one
//! multinomial draw over the patterns of right and wrong: exactly the same law, and at most 2^runs
//! numbers instead of one for each image.

use super::Interval;
use super::binomial::binomial;
use super::bitset::Bitset;
use super::sample::t_quantile;
use super::t_test::{ALPHA, TEstimate};
use crate::rng::{KeyedRng, Purpose};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// What the bootstrap says of a difference of accuracies, `ours - theirs`, as fractions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    pub difference: f64,
    /// Percentile interval, expanded for few seeds.
    pub interval: Interval,
    pub draws: u32,
    /// Seed of its random numbers.
    pub seed: u64,
}

/// By how much a draw of `n` runs moves their mean too little for an interval over seeds; 1 where there is one.
fn stretch(n: usize, df: f64) -> f64 {
    const NORMAL: f64 = 1.959_963_984_540_054;
    match n {
        0 | 1 => 1.0,
        n => (n as f64 / (n - 1) as f64).sqrt() * t_quantile(df) / NORMAL,
    }
}

/// Degrees of freedom of the difference of two arms' means: n - 1 of pairs; of others those of Satterthwaite (1946), by
/// the spread of each arm's accuracies, as Welch's t has them, or where nothing varies those of equal variances.
pub(super) fn degrees(ours: &[&Bitset], theirs: &[&Bitset], paired: bool) -> f64 {
    if paired {
        return ours.len() as f64 - 1.0;
    }
    let accuracies = |runs: &[&Bitset]| -> Vec<f64> {
        runs.iter()
            .map(|run| run.count() as f64 / run.len() as f64)
            .collect()
    };
    TEstimate::contrast(&[(1.0, &accuracies(ours)), (-1.0, &accuracies(theirs))])
        .map(|estimate| estimate.df)
        .filter(|df| df.is_finite() && *df > 0.0)
        .unwrap_or((ours.len() + theirs.len()) as f64 - 2.0)
}

/// Images that the same runs have right.
struct Pattern {
    images: u64,
    /// Positions of the runs that have them right.
    right: Vec<u32>,
}

/// Bootstraps the difference of mean accuracies of two arms over the same images. `paired`: run `i` of
/// both arms has the same seed, and both are drawn together. With one run an arm only images are drawn.
/// The same seed gives the same bits on any number of threads. `None` without runs, images or draws, where the
/// runs' images differ in number, and for a single run against several.
pub fn bootstrap(
    ours: &[&Bitset],
    theirs: &[&Bitset],
    paired: bool,
    draws: u32,
    seed: u64,
) -> Option<Bootstrap> {
    let images = ours.first()?.len();
    let runs: Vec<&Bitset> = ours.iter().chain(theirs).copied().collect();
    if theirs.is_empty() || images == 0 || draws == 0 {
        return None;
    }
    // A single run beside several says nothing of its arm's other seeds.
    if (ours.len() == 1) != (theirs.len() == 1) {
        return None;
    }
    if runs.iter().any(|run| run.len() != images) || (paired && ours.len() != theirs.len()) {
        return None;
    }
    let patterns = patterns(&runs, images);
    let df = degrees(ours, theirs, paired);
    let (stretch_ours, stretch_theirs) = (stretch(ours.len(), df), stretch(theirs.len(), df));
    let mean = |runs: &[&Bitset]| {
        runs.iter().map(|run| run.count()).sum::<u64>() as f64 / (runs.len() * images) as f64
    };
    let mut differences: Vec<f64> = (0..draws)
        .into_par_iter()
        .map_init(
            || vec![0u64; runs.len()],
            |right, draw| {
                let mut rng = KeyedRng::new(seed, Purpose::Statistics, 0, u64::from(draw));
                draw_images(&mut rng, &patterns, images as u64, right);
                let of_ours = draw_runs(&mut rng, ours.len());
                let of_theirs = if paired {
                    of_ours.clone()
                } else {
                    draw_runs(&mut rng, theirs.len())
                };
                let mean = |counts: &[u64], drawn: &[usize], stretch: f64| {
                    let (all, sum) = (
                        counts.iter().sum::<u64>() as f64,
                        drawn.iter().map(|&run| counts[run]).sum::<u64>() as f64,
                    );
                    (all + stretch * (sum - all)) / (drawn.len() * images) as f64
                };
                let (counts, others) = right.split_at(ours.len());
                mean(counts, &of_ours, stretch_ours) - mean(others, &of_theirs, stretch_theirs)
            },
        )
        .collect();
    differences.sort_unstable_by(f64::total_cmp);
    Some(Bootstrap {
        difference: mean(ours) - mean(theirs),
        interval: Interval {
            low: quantile(&differences, ALPHA / 2.0),
            high: quantile(&differences, 1.0 - ALPHA / 2.0),
        },
        draws,
        seed,
    })
}

/// The images by the runs that have them right, the most frequent first.
fn patterns(runs: &[&Bitset], images: usize) -> Vec<Pattern> {
    let mut counts: BTreeMap<Vec<u64>, u64> = BTreeMap::new();
    let mut key = vec![0u64; runs.len().div_ceil(64)];
    for image in 0..images {
        key.fill(0);
        for (position, run) in runs.iter().enumerate() {
            key[position / 64] |= u64::from(run.get(image)) << (position % 64);
        }
        match counts.get_mut(&key) {
            Some(count) => *count += 1,
            None => {
                counts.insert(key.clone(), 1);
            }
        }
    }
    let mut patterns: Vec<Pattern> = counts
        .into_iter()
        .map(|(key, images)| Pattern {
            images,
            right: (0..runs.len() as u32)
                .filter(|run| key[*run as usize / 64] >> (run % 64) & 1 == 1)
                .collect(),
        })
        .collect();
    // Stable: equal counts stay in the order of their keys.
    patterns.sort_by_key(|pattern| std::cmp::Reverse(pattern.images));
    patterns
}

/// Draws `images` images with replacement and counts, for each run, those it has right.
fn draw_images(rng: &mut KeyedRng, patterns: &[Pattern], images: u64, right: &mut [u64]) {
    right.fill(0);
    let (mut to_draw, mut left) = (images, images);
    for pattern in patterns {
        if to_draw == 0 {
            break;
        }
        let drawn = binomial(rng, to_draw, pattern.images as f64 / left as f64);
        left -= pattern.images;
        to_draw -= drawn;
        for &run in &pattern.right {
            right[run as usize] += drawn;
        }
    }
}

/// Draws `count` of `count` runs with replacement.
fn draw_runs(rng: &mut KeyedRng, count: usize) -> Vec<usize> {
    (0..count)
        .map(|_| rng.below(count as u64) as usize)
        .collect()
}

/// The quantile of sorted values, linear between them (the usual definition, type 7).
fn quantile(sorted: &[f64], p: f64) -> f64 {
    let position = p * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}
