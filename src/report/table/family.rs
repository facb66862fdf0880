//! The comparisons of one source that stand beside each other: their differences, and what the correction for
//! their number makes of them.

use super::cells::{Cells, Source};
use crate::report::metric;
use crate::report::statistics::{
    self, Difference, Dunnett, Interval, McNemar, Method, Planned, TEstimate,
};
use crate::spec::report::Correction;
use std::collections::HashMap;

/// Below it a difference is told from zero.
const ALPHA: f64 = 1.0 - statistics::CONFIDENCE;

/// A variant against another.
#[derive(Debug, Clone)]
pub struct Comparison {
    pub variant: u32,
    pub baseline: u32,
    /// `None` where one of both has no number.
    pub difference: Option<Difference>,
    /// Two single runs whose images are known: the interval over these in the metric's unit, and McNemar's test.
    pub images: Option<(Interval, McNemar)>,
    /// Of the t test; in a family of single runs McNemar's mid-p.
    pub p: Option<f64>,
    /// Adjusted for the number of comparisons.
    pub adjusted: Option<f64>,
    /// Dunnett's difference and its simultaneous interval.
    pub simultaneous: Option<(f64, Interval)>,
}

impl Comparison {
    /// The interval of this one comparison, not corrected for others.
    pub fn interval(&self) -> Option<(Interval, Method)> {
        let over_seeds = self.difference.as_ref()?.interval;
        over_seeds.or_else(|| self.images.map(|(interval, _)| (interval, Method::Images)))
    }

    /// What the t interval is made from.
    pub fn estimate(&self) -> Option<TEstimate> {
        self.difference.as_ref()?.estimate
    }
}

/// Comparisons whose number is answered for together.
#[derive(Debug, Clone)]
pub struct Family {
    pub comparisons: Vec<Comparison>,
    /// The correction that is made: Holm's where Dunnett's can't be, since no variant has two runs.
    pub correction: Correction,
    /// Whether nothing but single runs on the same images is compared.
    pub over_images: bool,
    /// Dunnett's test for every baseline.
    pub dunnett: Vec<Dunnett>,
    /// Baselines that variants are compared with.
    pub baselines: usize,
    places: HashMap<(u32, u32), usize>,
    /// Decimals that the median half-width of the intervals supports.
    supported: Option<usize>,
}

impl Family {
    /// The comparisons of these pairs (variant, baseline), those without a number among them.
    pub fn of(cells: &Cells<'_>, source: &Source, pairs: &[(u32, u32)]) -> Self {
        let mut comparisons: Vec<Comparison> = pairs
            .iter()
            .map(|&(variant, baseline)| {
                let (ours, theirs) = (
                    cells.values(variant, source),
                    cells.values(baseline, source),
                );
                let difference = statistics::difference(ours, theirs);
                let images = difference
                    .as_ref()
                    .filter(|_| ours.len() == 1 && theirs.len() == 1)
                    .and_then(|difference| {
                        cells.on_images(variant, baseline, source, difference.mean)
                    });
                Comparison {
                    variant,
                    baseline,
                    images,
                    p: None,
                    adjusted: None,
                    simultaneous: None,
                    difference,
                }
            })
            .collect();
        let over_images = comparisons
            .iter()
            .all(|comparison| comparison.estimate().is_none())
            && comparisons
                .iter()
                .any(|comparison| comparison.images.is_some());
        for comparison in &mut comparisons {
            comparison.p = match over_images {
                true => comparison.images.map(|(_, test)| test.mid_p),
                false => comparison.estimate().map(|estimate| estimate.p()),
            };
        }
        let mut baselines: Vec<u32> = pairs.iter().map(|pair| pair.1).collect();
        baselines.sort_unstable();
        baselines.dedup();
        let mut halves: Vec<f64> = comparisons
            .iter()
            .filter_map(|own| Some(own.estimate()?.interval().half_width()))
            .collect();
        halves.sort_by(f64::total_cmp);
        let asked = cells.data.experiment.report.correction;
        let mut family = Family {
            places: pairs.iter().copied().zip(0..).collect(),
            correction: match (asked, over_images) {
                (Correction::Dunnett, true) => Correction::Holm,
                (asked, _) => asked,
            },
            over_images,
            supported: halves
                .get(halves.len() / 2)
                .and_then(|median| metric::decimals_for(*median)),
            dunnett: Vec::new(),
            baselines: baselines.len(),
            comparisons,
        };
        match family.correction {
            Correction::None => {}
            Correction::Holm => family.holm(),
            Correction::Dunnett => {
                for baseline in &baselines {
                    family.dunnett(cells, source, *baseline);
                }
            }
        }
        family
    }

    fn holm(&mut self) {
        let known: Vec<f64> = self.comparisons.iter().filter_map(|own| own.p).collect();
        let mut adjusted = statistics::holm(&known, self.comparisons.len()).into_iter();
        for comparison in &mut self.comparisons {
            comparison.adjusted = comparison.p.and_then(|_| adjusted.next());
        }
    }

    /// Dunnett's test of the variants that have this baseline.
    fn dunnett(&mut self, cells: &Cells<'_>, source: &Source, baseline: u32) {
        let theirs = cells.values(baseline, source);
        let own: Vec<usize> = (0..self.comparisons.len())
            .filter(|place| self.comparisons[*place].baseline == baseline)
            .collect();
        let arms: Vec<(usize, &[(u64, f64)])> = own
            .iter()
            .map(|place| {
                (
                    *place,
                    cells.values(self.comparisons[*place].variant, source),
                )
            })
            .filter(|(_, arm)| !arm.is_empty())
            .collect();
        let planned = Planned {
            arms: own.len(),
            families: self.baselines,
        };
        let values: Vec<&[(u64, f64)]> = arms.iter().map(|(_, arm)| *arm).collect();
        let Some(test) = statistics::dunnett(theirs, &values, planned) else {
            return;
        };
        for (position, (place, _)) in arms.iter().enumerate() {
            let comparison = &mut self.comparisons[*place];
            comparison.adjusted = Some(test.p[position]);
            comparison.simultaneous = Some((test.differences[position], test.intervals[position]));
        }
        self.dunnett.push(test);
    }

    /// The comparison of this pair (variant, baseline).
    pub fn get(&self, pair: (u32, u32)) -> Option<&Comparison> {
        self.comparisons.get(*self.places.get(&pair)?)
    }

    /// Whether a comparison tells its difference from zero, after the correction.
    pub fn is_clear(&self, comparison: &Comparison) -> bool {
        match self.correction {
            // An interval over images counts where all are: it says nothing of other seeds.
            Correction::None => comparison.interval().is_some_and(|(interval, method)| {
                !interval.contains(0.0) && (self.over_images || method != Method::Images)
            }),
            _ => comparison.adjusted.is_some_and(|p| p < ALPHA),
        }
    }

    /// Decimals of the differences: those of their values, or more where the half-width of their intervals (the median
    /// one's) supports it, as where lucky seeds are lucky in both variants.
    pub fn decimals(&self, of_values: usize) -> usize {
        self.supported
            .map_or(of_values, |decimals| decimals.max(of_values))
    }

    /// Comparisons that have a p value.
    pub fn made(&self) -> usize {
        let has_p = |own: &&Comparison| own.p.or(own.adjusted).is_some();
        self.comparisons.iter().filter(has_p).count()
    }

    /// Comparisons that tell their difference from zero.
    pub fn clear(&self) -> usize {
        let clear = |own: &&Comparison| self.is_clear(own);
        self.comparisons.iter().filter(clear).count()
    }

    /// What the adjusted p is called in a column's head.
    pub fn correction_name(&self) -> Option<&'static str> {
        match self.correction {
            Correction::None => None,
            Correction::Holm => Some("p (Holm)"),
            Correction::Dunnett => Some("p (Dunnett)"),
        }
    }
}
