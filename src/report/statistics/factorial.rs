//! Factorial designs: main effects and two-way interactions.

use super::pairing::{common_seeds, negligible};
use super::sample::Sample;
use super::t_test::TEstimate;
use std::collections::HashMap;

/// The runs of one cell of the design: (seed, value).
pub type CellRuns = Vec<(u64, f64)>;

/// A complete factorial design: a cell for every combination of levels.
#[derive(Debug, Clone)]
pub struct Factorial {
    /// Number of levels of each factor.
    levels: Vec<usize>,
    cells: HashMap<Vec<usize>, CellRuns>,
}

/// What an effect compares: (factor, level, reference level), one for a main effect, two for an interaction.
pub type Contrast = Vec<(usize, usize, usize)>;

/// The main effect of every level against its factor's reference level, and the interaction of every two of them of
/// different factors.
pub fn contrasts(levels: &[usize], references: &[usize]) -> Vec<Contrast> {
    let mut contrasts = Vec::new();
    let others =
        |factor: usize| (0..levels[factor]).filter(move |level| *level != references[factor]);
    for (factor, &reference) in references.iter().enumerate() {
        contrasts.extend(others(factor).map(|level| vec![(factor, level, reference)]));
    }
    for first in 0..levels.len() {
        for second in first + 1..levels.len() {
            for a in others(first) {
                for b in others(second) {
                    contrasts.push(vec![
                        (first, a, references[first]),
                        (second, b, references[second]),
                    ]);
                }
            }
        }
    }
    contrasts
}

/// An effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    pub factors: Contrast,
    pub estimate: TEstimate,
    /// Whether it was estimated within seeds.
    pub paired: bool,
    /// Whether it is the same for every seed: then nothing is known of its spread, and its interval and p mean
    /// nothing.
    pub still: bool,
}

impl Factorial {
    /// The design with these cells by their levels; `None` unless it has two factors of two levels and
    /// more, and every cell at least one run.
    pub fn new(levels: &[usize], cells: HashMap<Vec<usize>, CellRuns>) -> Option<Self> {
        let levels = levels.to_vec();
        let varied = levels.iter().filter(|count| **count > 1).count();
        let all: usize = levels.iter().product();
        let complete = cells.len() == all && cells.values().all(|runs| !runs.is_empty());
        (varied > 1 && complete).then_some(Factorial { levels, cells })
    }

    #[cfg(test)]
    pub(super) fn lose(&mut self, cell: &[usize], seed: u64) {
        let runs = self.cells.get_mut(cell).expect("a cell");
        runs.retain(|(own, _)| *own != seed);
    }

    /// The seeds that every cell has, if there are two and more.
    pub fn common_seeds(&self) -> Option<Vec<u64>> {
        let common = common_seeds(self.cells.values().map(Vec::as_slice));
        (common.len() > 1).then_some(common)
    }

    /// Main effects of every level against its factor's `references` level, each averaged over the levels
    /// of the others with equal weights; and, of every pair of factors, how much the effect of one is
    /// larger at a level of the other than at that one's reference level. Within the seeds
    /// that all cells have (a t interval over the seeds' contrasts), else with a variance for each cell.
    pub fn effects(&self, references: &[usize]) -> Vec<Effect> {
        contrasts(&self.levels, references)
            .into_iter()
            .filter_map(|factors| self.effect(factors))
            .collect()
    }

    /// The effect as a contrast of cell means.
    fn effect(&self, factors: Contrast) -> Option<Effect> {
        let mut keys: Vec<&Vec<usize>> = self.cells.keys().collect();
        keys.sort_unstable();
        let free: usize = self
            .levels
            .iter()
            .enumerate()
            .filter(|(factor, _)| factors.iter().all(|(own, ..)| own != factor))
            .map(|(_, count)| count)
            .product();
        let weighted: Vec<(f64, &CellRuns)> = keys
            .into_iter()
            .filter_map(|key| {
                let mut weight = 1.0 / free as f64;
                for &(factor, level, reference) in &factors {
                    weight *= match key[factor] {
                        own if own == level => 1.0,
                        own if own == reference => -1.0,
                        _ => return None,
                    };
                }
                Some((weight, &self.cells[key]))
            })
            .collect();
        if let Some(seeds) = self.common_seeds() {
            let contrasts: Vec<f64> = seeds
                .iter()
                .map(|seed| {
                    weighted
                        .iter()
                        .flat_map(|(weight, runs)| {
                            runs.iter()
                                .filter(|(own, _)| own == seed)
                                .map(move |(_, value)| weight * value)
                        })
                        .sum()
                })
                .collect();
            return Some(Effect {
                factors,
                estimate: TEstimate::of(&contrasts)?,
                paired: true,
                still: self.still(&TEstimate::of(&contrasts)?),
            });
        }
        let values: Vec<(f64, Vec<f64>)> = weighted
            .iter()
            .map(|(weight, runs)| (*weight, runs.iter().map(|(_, value)| *value).collect()))
            .collect();
        let parts: Vec<(f64, &[f64])> = values
            .iter()
            .map(|(weight, values)| (*weight, values.as_slice()))
            .collect();
        Sample::of(parts.first()?.1)?;
        let estimate = TEstimate::contrast(&parts)?;
        Some(Effect {
            factors,
            estimate,
            paired: false,
            still: self.still(&estimate),
        })
    }

    /// Whether an estimate has no spread to speak of.
    fn still(&self, estimate: &TEstimate) -> bool {
        let values = self.cells.values().flatten();
        let size = values.fold(0.0f64, |size, (_, value)| size.max(value.abs()));
        negligible(estimate.standard_error, size)
    }
}
