//! What a report is made from: one experiment's rows, and how to find one's way in them.

use super::background::Background;
use super::metric::Metric;
use super::statistics::Bitset;
use crate::rundir::predictions::Prediction;
use crate::store::rows::{CurveRow, ExperimentRow, ResultRow, RunRow, Status};
use std::collections::{BTreeMap, HashMap};

/// Everything stored of one experiment.
#[derive(Debug, Clone)]
pub struct ExperimentData {
    pub experiment: ExperimentRow,
    pub runs: Vec<RunRow>,
    pub results: Vec<ResultRow>,
    pub curves: Vec<CurveRow>,
    /// Per-image results by stage fingerprint; stages may be left out.
    pub predictions: BTreeMap<String, Vec<Prediction>>,
    /// Which images of the evaluation set the last stage has right, by its fingerprint; of single runs, and of
    /// all where a bootstrap is asked for.
    pub correct: BTreeMap<String, Bitset>,
    /// Name of the data set, where known.
    pub data_set: Option<String>,
    /// Stages that were carried out otherwise than configured, as (run, stage, what).
    pub deviations: Vec<(String, String, String)>,
    /// Cost, attempts, configurations, provenance.
    pub background: Background,
}

/// One variant and its runs.
#[derive(Debug, Clone)]
pub struct Variant<'a> {
    pub index: u32,
    pub name: &'a str,
    /// One label per axis.
    pub labels: &'a [String],
    /// Its runs, by seed.
    pub runs: Vec<&'a RunRow>,
}

/// What has become of a variant's runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    pub planned: usize,
    pub done: usize,
    pub running: usize,
    pub pending: usize,
    /// Failed runs by failure class.
    pub failed: BTreeMap<String, usize>,
}

impl Tally {
    /// Number of failed runs.
    pub fn failures(&self) -> usize {
        self.failed.values().sum()
    }
}

impl Variant<'_> {
    /// Counts its runs by state.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally {
            planned: self.runs.len(),
            ..Tally::default()
        };
        for run in &self.runs {
            match run.status {
                Status::Done => tally.done += 1,
                Status::Running => tally.running += 1,
                Status::Pending => tally.pending += 1,
                Status::Failed => {
                    let class = run.failure.clone().unwrap_or_else(|| "unknown".to_owned());
                    *tally.failed.entry(class).or_default() += 1;
                }
            }
        }
        tally
    }
}

impl ExperimentData {
    /// The variants in the order of the plan.
    pub fn variants(&self) -> Vec<Variant<'_>> {
        let mut variants: BTreeMap<u32, Variant<'_>> = BTreeMap::new();
        for run in &self.runs {
            variants
                .entry(run.variant_index)
                .or_insert_with(|| Variant {
                    index: run.variant_index,
                    name: &run.variant,
                    labels: &run.labels,
                    runs: Vec::new(),
                })
                .runs
                .push(run);
        }
        let mut variants: Vec<_> = variants.into_values().collect();
        for variant in &mut variants {
            variant.runs.sort_by_key(|run| run.seed);
        }
        variants
    }

    /// For each of `variants` the index of the one that its delta is taken against: it has the
    /// baseline's labels where the baseline gives them and the variant's own elsewhere. `None`
    /// without a baseline, or where the grid has no such variant. A baseline variant's baseline is
    /// itself.
    pub fn baselines(&self, variants: &[Variant<'_>]) -> Vec<Option<u32>> {
        self.baselines_of(variants, self.experiment.baseline.as_deref())
    }

    /// [`baselines`](Self::baselines) for another baseline: one label per axis, or `None` for the variant's own.
    pub fn baselines_of(
        &self,
        variants: &[Variant<'_>],
        baseline: Option<&[Option<String>]>,
    ) -> Vec<Option<u32>> {
        let Some(baseline) = baseline else {
            return vec![None; variants.len()];
        };
        let mut first: HashMap<Vec<&str>, u32> = HashMap::with_capacity(variants.len());
        for variant in variants {
            let labels = variant.labels.iter().map(String::as_str).collect();
            first.entry(labels).or_insert(variant.index);
        }
        let wanted = |variant: &Variant<'_>| -> Option<u32> {
            let labels: Vec<&str> = variant
                .labels
                .iter()
                .enumerate()
                .map(|(axis, own)| {
                    baseline
                        .get(axis)
                        .and_then(Option::as_ref)
                        .unwrap_or(own)
                        .as_str()
                })
                .collect();
            first.get(&labels).copied()
        };
        variants.iter().map(wanted).collect()
    }

    /// The baseline in words: its given labels (`ce`), or the name of the variant where all are
    /// given. `None` without a baseline.
    pub fn baseline_words(&self) -> Option<String> {
        self.words_of(self.experiment.baseline.as_deref()?)
    }

    /// [`baseline_words`](Self::baseline_words) for another baseline.
    pub fn words_of(&self, baseline: &[Option<String>]) -> Option<String> {
        let given: Vec<&str> = baseline.iter().flatten().map(String::as_str).collect();
        if given.len() == baseline.len() {
            let variants = self.variants();
            let named = variants.iter().find(|variant| {
                variant
                    .labels
                    .iter()
                    .map(String::as_str)
                    .eq(given.iter().copied())
            });
            if let Some(variant) = named {
                return Some(self.display_name(variant, self.named_by_labels(&variants)));
            }
        }
        let labels = baseline.iter().enumerate();
        let parts: Vec<String> = labels
            .filter_map(|(axis, label)| Some(self.label_words(axis, label.as_deref()?)))
            .collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// Whether a variant's name says no more than its labels, so that axes can head the columns.
    /// Designs that vary one ingredient at a time name their variants themselves.
    pub fn named_by_labels(&self, variants: &[Variant<'_>]) -> bool {
        let axes = self.experiment.axes.len();
        axes > 0
            && variants.iter().all(|variant| {
                variant.labels.len() == axes && variant.name == variant.labels.join(",")
            })
    }

    /// A variant's name for a legend or a label: its labels, numbers with their axis in front
    /// (`resolution 48`); or its own name where the design gives it one.
    /// `by_labels`: what [`named_by_labels`](Self::named_by_labels) says of all variants.
    pub fn display_name(&self, variant: &Variant<'_>, by_labels: bool) -> String {
        if !by_labels {
            return variant.name.to_owned();
        }
        let labels = variant.labels.iter().enumerate();
        let parts: Vec<String> = labels
            .map(|(axis, label)| self.label_words(axis, label))
            .collect();
        parts.join(", ")
    }

    /// Position of the axis called `name`.
    pub fn axis(&self, name: &str) -> Option<usize> {
        self.experiment
            .axes
            .iter()
            .position(|axis| axis.name == name)
    }

    /// Names of the stages; at least the last one is the run's result.
    pub fn stages(&self) -> &[String] {
        &self.experiment.stage_names
    }

    /// Names of the table's metrics, the headline first.
    pub fn metrics(&self) -> Vec<String> {
        if self.experiment.report.metrics.is_empty() {
            vec!["top1".to_owned()]
        } else {
            self.experiment.report.metrics.clone()
        }
    }

    /// How the metric called `name` is spoken of; what a program's stage says of it counts first.
    pub fn metric(&self, name: &str) -> Metric {
        let described = &self.experiment.report.described;
        match described.iter().find(|metric| metric.name == name) {
            Some(described) => Metric::described(described),
            None => Metric::named(name),
        }
    }

    /// Whether the trainer of this program made the results, as far as configurations are known.
    pub fn trained_here(&self) -> bool {
        let configs = &self.background.configs;
        !configs.is_empty() && configs.values().all(|spec| spec.command.is_none())
    }

    /// An axis in words that no other axis has: its last word (`train.epochs` is `epochs`), or its name where two end
    /// alike.
    pub fn axis_words(&self, axis: usize) -> String {
        let axes = &self.experiment.axes;
        let words = axis_words(&axes[axis].name);
        let alike = axes.iter().filter(|other| axis_words(&other.name) == words);
        match alike.count() {
            0 | 1 => words,
            _ => axes[axis].name.clone(),
        }
    }

    /// A label in a sentence: with its axis where it is a number.
    fn label_words(&self, axis: usize, label: &str) -> String {
        match numeric_labels(&self.experiment.axes[axis].labels) {
            Some(_) => format!("{} {label}", self.axis_words(axis)),
            None => label.to_owned(),
        }
    }

    /// All seeds of the experiment's runs, in order.
    pub fn seeds(&self) -> Vec<u64> {
        let mut seeds: Vec<u64> = self.runs.iter().map(|run| run.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        seeds
    }
}

/// The numbers in an axis' labels, where all are finite numbers with the same (or no) unit behind
/// them (`160 px`, `400`), and that unit.
pub fn numeric_labels(labels: &[String]) -> Option<(Vec<f64>, String)> {
    let mut unit: Option<&str> = None;
    let mut values = Vec::with_capacity(labels.len());
    for label in labels {
        let end = label
            .rfind(|c: char| c.is_ascii_digit() || c == '.')
            .map(|position| position + 1)?;
        let (number, rest) = label.split_at(end);
        let rest = rest.trim();
        if *unit.get_or_insert(rest) != rest {
            return None;
        }
        let value: f64 = number.trim().parse().ok()?;
        if !value.is_finite() {
            return None;
        }
        values.push(value);
    }
    (values.len() > 1).then(|| (values, unit.unwrap_or_default().to_owned()))
}

/// An axis' name in words: `train.epochs` is `epochs`, `loss.name` is `loss`, underscores are spaces.
pub fn axis_words(name: &str) -> String {
    let mut parts = name.rsplit('.');
    let last = parts.next().unwrap_or(name);
    let word = match (last, parts.next()) {
        ("name" | "policy", Some(parent)) => parent,
        _ => last,
    };
    if word == "lr" {
        "learning rate".to_owned()
    } else {
        word.replace('_', " ")
    }
}
