//! Factorial designs: main effects and two-way interactions.

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

/// An effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// (factor, level, reference level): one for a main effect, two for an interaction.
    pub factors: Vec<(usize, usize, usize)>,
    pub estimate: TEstimate,
    /// Whether it was estimated within seeds.
    pub paired: bool,
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

    /// The seeds that every cell has, where these are all it has.
    fn common_seeds(&self) -> Option<Vec<u64>> {
        let seeds = |runs: &CellRuns| {
            let mut seeds: Vec<u64> = runs.iter().map(|(seed, _)| *seed).collect();
            seeds.sort_unstable();
            seeds
        };
        let mut all = self.cells.values().map(seeds);
        let first = all.next()?;
        all.all(|other| other == first).then_some(first)
    }

    /// Main effects of every level against its factor's `references` level, each averaged over the levels
    /// of the others with equal weights; and, of every pair of factors, how much the effect of one is
    /// larger at a level of the other than at that one's reference level. Within seeds where all cells
    /// have the same ones (a t interval over the seeds' contrasts), else with a variance for each cell.
    pub fn effects(&self, references: &[usize]) -> Vec<Effect> {
        let mut effects = Vec::new();
        let others = |factor: usize| {
            (0..self.levels[factor]).filter(move |level| *level != references[factor])
        };
        for (factor, &reference) in references.iter().enumerate() {
            for level in others(factor) {
                effects.extend(self.effect(vec![(factor, level, reference)]));
            }
        }
        for first in 0..self.levels.len() {
            for second in first + 1..self.levels.len() {
                for a in others(first) {
                    for b in others(second) {
                        effects.extend(self.effect(vec![
                            (first, a, references[first]),
                            (second, b, references[second]),
                        ]));
                    }
                }
            }
        }
        effects
    }

    /// The effect as a contrast of cell means.
    fn effect(&self, factors: Vec<(usize, usize, usize)>) -> Option<Effect> {
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
        Some(Effect {
            factors,
            estimate: TEstimate::contrast(&parts)?,
            paired: false,
        })
    }
}
