//! Cells of one experiment: the number or the state for a variant, stage and metric.

use super::family::Family;
use super::{Cell, Delta, State, Value, Verdict};
use crate::report::data::{ExperimentData, Variant};
use crate::report::frame::{self, Arm, FrameError};
use crate::report::metric;
use crate::report::statistics::{self, Bitset, Interval, McNemar, Sample};
use crate::spec::report::TableSpec;
use crate::store::rows::Status;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// Where a number comes from: a metric of an evaluation set at a test resolution after a stage.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source {
    pub stage: String,
    pub set: String,
    /// Side of the test images; `None`: the recipe's `eval.resolution`, which variants may differ in.
    pub resolution: Option<u32>,
    pub metric: String,
}

/// Seeds with their values, by variant and source.
type Arms = HashMap<(u32, Source), Vec<(u64, f64)>>;

/// Numbers of an experiment by variant and source.
#[derive(Clone)]
pub struct Cells<'a> {
    pub data: &'a ExperimentData,
    pub variants: Vec<Variant<'a>>,
    /// What deltas are taken against: one label per axis, or `None` for a variant's own.
    pub baseline: Option<Vec<Option<String>>>,
    /// The first is the headline.
    pub metrics: Vec<String>,
    arms: Arc<Arms>,
    sets: Vec<String>,
    /// Stages with further test resolutions, and all of their resolutions.
    resolutions: BTreeMap<String, BTreeSet<u32>>,
    baselines: HashMap<u32, u32>,
    by_labels: bool,
    /// Seeds of finished runs whose number isn't finite, by variant and source.
    lost: Arc<HashMap<(u32, Source), Vec<u64>>>,
    /// The comparisons with these baselines, once they are made.
    families: Arc<Mutex<HashMap<Source, Arc<Family>>>>,
}

impl<'a> Cells<'a> {
    /// Groups the results of `data`. Values that aren't finite are left out of every statistic.
    pub fn new(data: &'a ExperimentData) -> Result<Self, FrameError> {
        let mut sets = Vec::new();
        let mut arms = HashMap::new();
        let mut lost: HashMap<(u32, Source), Vec<u64>> = HashMap::new();
        let mut resolutions: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
        let val = || data.results.iter().filter(|row| row.set == "val");
        for further in val().filter(|row| !row.headline) {
            resolutions.entry(further.stage.clone()).or_default();
        }
        for row in val() {
            if let Some(known) = resolutions.get_mut(&row.stage) {
                known.insert(row.resolution);
            }
        }
        let results = frame::results(data)?;
        let mut all = frame::arms(&results, false)?;
        if !resolutions.is_empty() {
            let by_resolution = frame::arms(&results, true)?.into_iter();
            all.extend(
                by_resolution
                    .filter(|arm| arm.set == "val" && resolutions.contains_key(&arm.stage)),
            );
        }
        for Arm {
            variant_index,
            stage,
            set,
            resolution,
            metric,
            mut values,
        } in all
        {
            if !sets.contains(&set) {
                sets.push(set.clone());
            }
            // One value a run: of several resolutions the headline's, else the largest.
            values.reverse();
            values.dedup_by_key(|(seed, _)| *seed);
            values.reverse();
            let infinite = values.iter().filter(|(_, value)| !value.is_finite());
            let infinite: Vec<u64> = infinite.map(|(seed, _)| *seed).collect();
            values.retain(|(_, value)| value.is_finite());
            let source = Source {
                stage,
                set,
                resolution,
                metric,
            };
            if !infinite.is_empty() {
                lost.insert((variant_index, source.clone()), infinite);
            }
            arms.insert((variant_index, source), values);
        }
        if sets.is_empty() {
            sets.push("val".to_owned());
        }
        // The usual set first.
        sets.sort_by_key(|set| (set != "val", set.clone()));
        let variants = data.variants();
        let baselines = variants.iter().zip(data.baselines(&variants));
        Ok(Cells {
            data,
            baseline: data.experiment.baseline.clone(),
            metrics: data.metrics(),
            arms: Arc::new(arms),
            sets,
            resolutions,
            baselines: baselines
                .filter_map(|(variant, baseline)| Some((variant.index, baseline?)))
                .collect(),
            by_labels: data.named_by_labels(&variants),
            variants,
            lost: Arc::new(lost),
            families: Arc::default(),
        })
    }

    /// The same numbers with what a table of the experiment file wants otherwise: its baseline, its metrics,
    /// and its rows' order.
    pub fn view(&self, spec: &TableSpec) -> Self {
        let mut cells = self.clone();
        if let Some(baseline) = &spec.baseline
            && baseline.iter().any(Option::is_some)
        {
            let found = self.data.baselines_of(&self.variants, Some(baseline));
            cells.baselines = self
                .variants
                .iter()
                .zip(found)
                .filter_map(|(variant, baseline)| Some((variant.index, baseline?)))
                .collect();
            cells.baseline = Some(baseline.clone());
            cells.families = Arc::default();
        }
        if !spec.metrics.is_empty() {
            cells.metrics = spec.metrics.clone();
        }
        if let Some(sort) = &spec.sort {
            cells.sort(&sort.by, sort.reversed);
        }
        if let Some(axis) = spec.groups.as_deref().and_then(|name| self.data.axis(name)) {
            let order = |variant: &Variant<'_>| self.label_order(variant, axis);
            cells.variants.sort_by_key(order);
        }
        cells
    }

    /// Sorts the variants by an axis (its labels' order) or a metric (best first, those without a number
    /// last).
    fn sort(&mut self, by: &str, reversed: bool) {
        let mut variants = std::mem::take(&mut self.variants);
        if let Some(axis) = self.data.axis(by) {
            variants.sort_by_key(|variant| self.label_order(variant, axis));
            if reversed {
                variants.reverse();
            }
        } else {
            let metric = self.data.metric(by);
            let source = Source {
                stage: self.data.stages().last().cloned().unwrap_or_default(),
                set: self.sets.first().cloned().unwrap_or_default(),
                resolution: None,
                metric: by.to_owned(),
            };
            let key = |variant: &Variant<'_>| {
                let mean = self.sample(variant.index, &source)?.mean;
                Some(if metric.higher_is_better != reversed {
                    -mean
                } else {
                    mean
                })
            };
            variants.sort_by(|a, b| match (key(a), key(b)) {
                (Some(a), Some(b)) => a.total_cmp(&b),
                (a, b) => a.is_none().cmp(&b.is_none()),
            });
        }
        self.variants = variants;
    }

    /// Position of a variant's label on an axis.
    pub fn label_order(&self, variant: &Variant<'_>, axis: usize) -> usize {
        let known = &self.data.experiment.axes[axis].labels;
        let label = variant.labels.get(axis);
        known
            .iter()
            .position(|other| Some(other) == label)
            .unwrap_or(known.len())
    }

    /// The baseline in words.
    pub fn baseline_words(&self) -> Option<String> {
        self.data.words_of(self.baseline.as_deref()?)
    }

    /// The variant of this index.
    pub fn variant(&self, index: u32) -> Option<&Variant<'a>> {
        self.variants.iter().find(|variant| variant.index == index)
    }

    /// Correctness of the runs of a variant after the last stage, by seed; empty unless all its finished
    /// runs have it.
    pub fn correct(&self, variant: u32) -> Vec<(u64, &'a Bitset)> {
        let Some(variant) = self.variant(variant) else {
            return Vec::new();
        };
        let done = variant.runs.iter().filter(|run| run.status == Status::Done);
        let found: Option<Vec<_>> = done
            .map(|run| Some((run.seed, self.data.correct.get(run.stages.last()?)?)))
            .collect();
        found.unwrap_or_default()
    }

    /// The variant that this one's delta is taken against; itself if it is a baseline.
    pub fn baseline(&self, variant: &Variant<'_>) -> Option<u32> {
        self.baselines.get(&variant.index).copied()
    }

    /// Whether deltas are taken against this variant.
    pub fn is_baseline(&self, variant: &Variant<'_>) -> bool {
        self.baseline(variant) == Some(variant.index)
    }

    /// Whether axes can head the columns: the variants' names say no more than their labels.
    pub fn by_labels(&self) -> bool {
        self.by_labels
    }

    /// The variant's name for a legend, a label or a sentence.
    pub fn display_name(&self, variant: &Variant<'_>) -> String {
        self.data.display_name(variant, self.by_labels)
    }

    /// Seeds of finished runs of a variant whose number isn't finite: they count as failed.
    pub fn lost(&self, variant: u32, source: &Source) -> &[u64] {
        self.lost
            .get(&(variant, source.clone()))
            .map_or(&[], Vec::as_slice)
    }

    /// Runs of a variant that failed, or ended with a number that isn't finite.
    pub fn failures(&self, variant: &Variant<'_>, source: &Source) -> usize {
        variant.tally().failures() + self.lost(variant.index, source).len()
    }

    /// The evaluation sets that have results.
    pub fn sets(&self) -> &[String] {
        &self.sets
    }

    /// The test resolutions of `val` after a stage, ascending; none where there is only the headline's.
    pub fn resolutions(&self, stage: &str) -> impl Iterator<Item = u32> {
        self.resolutions.get(stage).into_iter().flatten().copied()
    }

    /// Whether any variant has numbers from this source.
    pub fn has(&self, source: &Source) -> bool {
        self.variants
            .iter()
            .any(|variant| self.arms.contains_key(&(variant.index, source.clone())))
    }

    /// (seed, value) of a variant; empty where there is none.
    pub fn values(&self, variant: u32, source: &Source) -> &[(u64, f64)] {
        self.arms
            .get(&(variant, source.clone()))
            .map_or(&[], Vec::as_slice)
    }

    /// Summary over the seeds of a variant.
    pub fn sample(&self, variant: u32, source: &Source) -> Option<Sample> {
        let values: Vec<f64> = self
            .values(variant, source)
            .iter()
            .map(|(_, value)| *value)
            .collect();
        Sample::of(&values)
    }

    /// For the single run of a variant: the Wilson interval of its accuracy in per cent, where its
    /// predictions are known and agree with the stored value.
    pub fn image_interval(&self, variant: &Variant<'_>, source: &Source) -> Option<Interval> {
        let [(seed, value)] = self.values(variant.index, source) else {
            return None;
        };
        // The predictions that are kept are the headline's.
        if source.resolution.is_some() || Some(&source.set) != self.sets.first() {
            return None;
        }
        let within = match source.metric.as_str() {
            "top1" => 1,
            "top5" => 5,
            _ => return None,
        };
        let stage = self
            .data
            .stages()
            .iter()
            .position(|name| *name == source.stage)?;
        let run = variant.runs.iter().find(|run| run.seed == *seed)?;
        let predictions = self.data.predictions.get(run.stages.get(stage)?)?;
        let right = predictions
            .iter()
            .filter(|prediction| prediction.rank < within)
            .count() as u64;
        let trials = predictions.len() as u64;
        let interval = statistics::wilson(right, trials)?;
        // Predictions of another evaluation set would give an interval for something else.
        let accuracy = 100.0 * right as f64 / trials as f64;
        ((accuracy - value).abs() < 0.01).then_some(Interval {
            low: 100.0 * interval.low,
            high: 100.0 * interval.high,
        })
    }

    /// The uncertainty that decides how a value is rounded.
    fn uncertainty(&self, variant: &Variant<'_>, source: &Source) -> Option<f64> {
        let sample = self.sample(variant.index, source)?;
        match sample.sd {
            Some(sd) => Some(sd),
            None => self
                .image_interval(variant, source)
                .map(|interval| interval.half_width()),
        }
    }

    /// Decimals of all values of one source: what the median of their uncertainties supports.
    pub fn decimals(&self, source: &Source) -> usize {
        let mut known: Vec<f64> = self
            .variants
            .iter()
            .filter_map(|variant| self.uncertainty(variant, source))
            .filter(|uncertainty| *uncertainty > 0.0)
            .collect();
        known.sort_by(f64::total_cmp);
        known
            .get(known.len() / 2)
            .and_then(|median| metric::decimals_for(*median))
            .unwrap_or_else(|| self.data.metric(&source.metric).decimals)
    }

    /// The value cell of a variant. `has_n`: the table has a column for n.
    pub fn value(
        &self,
        variant: &Variant<'_>,
        source: &Source,
        decimals: usize,
        has_n: bool,
    ) -> Cell {
        let Some(sample) = self.sample(variant.index, source) else {
            return Cell::State(self.state(variant, source));
        };
        let planned = variant.runs.len();
        Cell::Value(Value {
            mean: sample.mean,
            sd: sample.sd,
            n: Some(sample.n),
            planned: Some(planned),
            images: self.image_interval(variant, source),
            best: false,
            decimals,
            says_n: !has_n && (sample.n == 1 || sample.n != planned),
        })
    }

    /// Why a variant has no number.
    fn state(&self, variant: &Variant<'_>, source: &Source) -> State {
        let tally = variant.tally();
        if tally.running > 0 {
            return State::Running;
        }
        if tally.pending > 0 {
            return State::Pending;
        }
        if let Some(class) = tally.failed.keys().next() {
            return match (tally.failed.len(), class.as_str()) {
                (1, "diverged") => State::Diverged,
                (1, "out_of_memory") => State::OutOfMemory,
                _ => State::Failed(tally.failed.keys().cloned().collect::<Vec<_>>().join(", ")),
            };
        }
        // Done, but no finite number: either it isn't measured, or it is infinite or NaN.
        if self.arms.contains_key(&(variant.index, source.clone())) {
            State::Diverged
        } else {
            State::Missing
        }
    }

    /// The comparisons of a source with the variants' baselines.
    pub fn family(&self, source: &Source) -> Arc<Family> {
        let known = || self.families.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(family) = known().get(source) {
            return family.clone();
        }
        let family = Arc::new(Family::of(self, source, &self.pairs()));
        known().insert(source.clone(), family.clone());
        family
    }

    /// Every variant that isn't a baseline itself, with its baseline.
    pub fn pairs(&self) -> Vec<(u32, u32)> {
        self.variants
            .iter()
            .filter_map(|variant| Some((variant.index, self.baseline(variant)?)))
            .filter(|(variant, baseline)| variant != baseline)
            .collect()
    }

    /// The delta cell of a variant against its baseline.
    pub fn delta(&self, variant: &Variant<'_>, source: &Source, decimals: usize) -> Cell {
        match self.baseline(variant) {
            None => Cell::State(State::Missing),
            Some(baseline) if baseline == variant.index => Cell::Baseline,
            Some(baseline) => {
                let family = self.family(source);
                self.delta_of(&family, (variant.index, baseline), source, decimals)
            }
        }
    }

    /// The delta cell of a variant against another, a pair of `family`. Where each has a single run whose images
    /// are known, the interval is that over the images. What is better or worse is so after the correction for the
    /// number of comparisons.
    pub fn delta_of(
        &self,
        family: &Family,
        pair: (u32, u32),
        source: &Source,
        decimals: usize,
    ) -> Cell {
        let comparison = family.get(pair);
        let Some((comparison, mean)) = comparison
            .and_then(|comparison| Some((comparison, comparison.difference.as_ref()?.mean)))
        else {
            // The variant has no number, or its baseline hasn't.
            let without = [pair.0, pair.1]
                .into_iter()
                .find(|index| self.values(*index, source).is_empty());
            let state = without
                .and_then(|index| self.variant(index))
                .map(|variant| self.state(variant, source));
            return Cell::State(state.unwrap_or(State::Missing));
        };
        let verdict = match (
            family.is_clear(comparison),
            self.data.metric(&source.metric),
        ) {
            (true, metric) if metric.better(mean, 0.0) => Verdict::Better,
            (true, _) => Verdict::Worse,
            (false, _) => Verdict::Unclear,
        };
        Cell::Delta(Delta {
            mean,
            interval: comparison.interval(),
            decimals: family.decimals(decimals),
            verdict,
        })
    }

    /// Two single runs on the images of the evaluation set: the interval of the difference of their top-1, in per
    /// cent, and McNemar's test.
    pub(super) fn on_images(
        &self,
        variant: u32,
        baseline: u32,
        source: &Source,
        difference: f64,
    ) -> Option<(Interval, McNemar)> {
        let last = self.data.stages().last();
        let is_headline = source.resolution.is_none()
            && source.metric == "top1"
            && Some(&source.stage) == last
            && Some(&source.set) == self.sets.first();
        let (ours, theirs) = (self.correct(variant), self.correct(baseline));
        let ([(_, ours)], [(_, theirs)]) = (&ours[..], &theirs[..]) else {
            return None;
        };
        let found = statistics::bootstrap(&[ours], &[theirs], true, SINGLE_RUN_DRAWS, 0)?;
        // Images of another evaluation would give an interval for something else.
        let agrees = (100.0 * found.difference - difference).abs() < 0.01;
        let test = statistics::mcnemar(ours.only(theirs), theirs.only(ours));
        (is_headline && agrees).then(|| (found.interval.scaled(100.0), test))
    }
}

/// Draws of the bootstrap over the images of two single runs: of at most four kinds of images, so it costs
/// nothing.
const SINGLE_RUN_DRAWS: u32 = 10_000;
