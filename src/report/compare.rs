//! Two runs, variants or experiments side by side: in what they differ, and what that does.

use super::background::differing_fields;
use super::data::{ExperimentData, Variant};
use super::frame::FrameError;
use super::metric::Metric;
use super::statistics::{self, Difference, Sample};
use super::table::cells::{Cells, Source};
use crate::rundir::predictions::Prediction;
use crate::store::rows::RunRow;
use std::collections::BTreeMap;

/// One side of a comparison: a variant of an experiment with all of its runs, or one of them.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    pub data: &'a ExperimentData,
    /// Index of the variant in the plan.
    pub variant: u32,
    /// The one run that is meant.
    pub seed: Option<u64>,
}

/// A field of the configuration that differs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Field {
    /// Name of the stage; empty where both sides have one stage.
    pub stage: String,
    pub path: String,
    pub a: Option<String>,
    pub b: Option<String>,
}

/// One metric on both sides.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Effect {
    pub stage: String,
    pub set: String,
    pub metric: String,
    /// How the metric is spoken of.
    #[serde(skip)]
    pub spoken: Metric,
    pub a: Option<Arm>,
    pub b: Option<Arm>,
    /// `b - a`; `None` unless both sides have results.
    pub difference: Option<f64>,
    /// Its 95 % interval over seeds, where there are several.
    pub interval: Option<[f64; 2]>,
    /// `paired t` or `welch t`.
    pub method: Option<&'static str>,
    /// What the evaluation set's images say, where both sides' predictions are there.
    pub images: Option<ImageEffect>,
}

/// The results of one side.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Arm {
    pub n: usize,
    pub mean: f64,
    pub sd: Option<f64>,
}

/// Two models on the same images: how many each alone gets right. Of several seeds, pairs with the same seed.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct ImageEffect {
    /// Pairs of runs.
    pub pairs: usize,
    /// Images of all pairs.
    pub images: u64,
    pub only_a: u64,
    pub only_b: u64,
    /// Difference of the accuracies in percentage points, and its 95 % interval for these trained models and other
    /// images.
    pub difference: f64,
    pub interval: [f64; 2],
    /// Two-sided p of McNemar's test, exact and as mid-p; of a single pair only, since the images of several pairs are
    /// the same ones.
    pub exact_p: Option<f64>,
    pub mid_p: Option<f64>,
}

impl<'a> Side<'a> {
    fn variant(&self) -> Option<Variant<'a>> {
        let mut variants = self.data.variants().into_iter();
        variants.find(|variant| variant.index == self.variant)
    }

    fn runs(&self) -> Vec<&'a RunRow> {
        let runs = self.variant().map_or(Vec::new(), |variant| variant.runs);
        runs.into_iter()
            .filter(|run| self.seed.is_none_or(|seed| run.seed == seed))
            .collect()
    }

    fn values(&self, cells: &Cells<'_>, source: &Source) -> Vec<(u64, f64)> {
        let values = cells.values(self.variant, source).iter().copied();
        values
            .filter(|(seed, _)| self.seed.is_none_or(|own| *seed == own))
            .collect()
    }
}

/// The fields in which the configurations of the two sides differ, stage by stage from the last one
/// back, so that a run with one stage is compared with what another ends with. Seeds count where two runs are
/// compared.
pub fn fields(a: &Side<'_>, b: &Side<'_>) -> Vec<Field> {
    let (Some(one), Some(other)) = (a.variant(), b.variant()) else {
        return Vec::new();
    };
    let (a_stages, b_stages) = (a.data.stages(), b.data.stages());
    let several = a_stages.len() > 1 || b_stages.len() > 1;
    let mut fields = Vec::new();
    if let (Some(first), Some(second)) = (a.seed, b.seed)
        && first != second
    {
        fields.push(Field {
            stage: String::new(),
            path: "seed".to_owned(),
            a: Some(first.to_string()),
            b: Some(second.to_string()),
        });
    }
    let depth = a_stages.len().max(b_stages.len());
    for back in (0..depth).rev() {
        let at = |side: &Side<'_>, variant: &Variant<'_>, names: &[String]| {
            let position = names.len().checked_sub(back + 1)?;
            let spec = side.data.background.config(variant, position)?;
            Some((names[position].clone(), spec.clone()))
        };
        let (left, right) = (at(a, &one, a_stages), at(b, &other, b_stages));
        let name = |found: &Option<(String, _)>| found.as_ref().map(|(name, _)| name.clone());
        let stage = match (name(&left), name(&right)) {
            (Some(left), Some(right)) if left != right => format!("{left} / {right}"),
            (Some(name), _) | (None, Some(name)) => name,
            (None, None) => continue,
        };
        let stage = if several { stage } else { String::new() };
        if left.is_none() || right.is_none() {
            let has = |found: bool| Some(if found { "present" } else { "absent" }.to_owned());
            fields.push(Field {
                stage,
                path: "the stage itself".to_owned(),
                a: has(left.is_some()),
                b: has(right.is_some()),
            });
            continue;
        }
        let specs = [
            left.as_ref().map(|(_, spec)| spec),
            right.as_ref().map(|(_, spec)| spec),
        ];
        for (path, mut values) in differing_fields(&specs) {
            let b = values.pop().flatten();
            let a = values.pop().flatten();
            fields.push(Field {
                stage: stage.clone(),
                path,
                a,
                b,
            });
        }
    }
    fields
}

/// Every metric that either side's table has, after the last stage of each, on every set.
///
/// `predictions` reads the per-image results of a stage.
pub fn effects(
    a: &Side<'_>,
    b: &Side<'_>,
    predictions: &mut dyn FnMut(&str) -> Option<Vec<Prediction>>,
) -> Result<Vec<Effect>, FrameError> {
    let (a_cells, b_cells) = (Cells::new(a.data)?, Cells::new(b.data)?);
    let mut keys: Vec<(String, String)> = Vec::new();
    for (side, cells) in [(a, &a_cells), (b, &b_cells)] {
        for metric in side.data.metrics() {
            for set in cells.sets() {
                let key = (set.clone(), metric.clone());
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
    }
    let last = |data: &ExperimentData| data.stages().last().cloned().unwrap_or_default();
    let (a_stage, b_stage) = (last(a.data), last(b.data));
    let mut effects = Vec::new();
    for (set, metric) in keys {
        let source = |stage: &str| Source {
            stage: stage.to_owned(),
            set: set.clone(),
            resolution: None,
            metric: metric.clone(),
        };
        let ours = a.values(&a_cells, &source(&a_stage));
        let theirs = b.values(&b_cells, &source(&b_stage));
        if ours.is_empty() && theirs.is_empty() {
            continue;
        }
        let difference: Option<Difference> = statistics::difference(&theirs, &ours);
        let interval = difference.and_then(|difference| difference.interval);
        let is_headline = set == "val" && metric == "top1";
        let images = if is_headline && difference.is_some() {
            image_effect(a, b, predictions)
        } else {
            None
        };
        effects.push(Effect {
            stage: if a_stage == b_stage {
                a_stage.clone()
            } else {
                format!("{a_stage} / {b_stage}")
            },
            set,
            spoken: a.data.metric(&metric),
            metric,
            a: arm(&ours),
            b: arm(&theirs),
            difference: difference.map(|difference| difference.mean),
            interval: interval.map(|(interval, _)| [interval.low, interval.high]),
            method: interval.map(|(_, method)| match method {
                statistics::Method::Paired => "paired t",
                statistics::Method::Welch => "welch t",
                statistics::Method::Images => "images",
            }),
            images,
        });
    }
    Ok(effects)
}

fn arm(values: &[(u64, f64)]) -> Option<Arm> {
    let numbers: Vec<f64> = values.iter().map(|(_, value)| *value).collect();
    let sample = Sample::of(&numbers)?;
    Some(Arm {
        n: sample.n,
        mean: sample.mean,
        sd: sample.sd,
    })
}

/// Pairs of runs with the same seed, or the two single runs, on the images of their evaluation sets; `None` where
/// predictions are missing or were made on other images.
fn image_effect(
    a: &Side<'_>,
    b: &Side<'_>,
    predictions: &mut dyn FnMut(&str) -> Option<Vec<Prediction>>,
) -> Option<ImageEffect> {
    let (ours, theirs) = (a.runs(), b.runs());
    let pairs: Vec<(&RunRow, &RunRow)> = match (&ours[..], &theirs[..]) {
        ([one], [other]) => vec![(one, other)],
        _ => ours
            .iter()
            .filter_map(|run| {
                let other = theirs.iter().find(|other| other.seed == run.seed)?;
                Some((*run, *other))
            })
            .collect(),
    };
    // Per image, over all pairs: how often each side alone was right.
    let mut by_image: BTreeMap<usize, i64> = BTreeMap::new();
    let (mut images, mut only_a, mut only_b, mut used) = (0u64, 0u64, 0u64, 0usize);
    let mut per_pair = 0usize;
    for (one, other) in &pairs {
        let (Some(left), Some(right)) = (
            one.stages.last().and_then(|stage| predictions(stage)),
            other.stages.last().and_then(|stage| predictions(stage)),
        ) else {
            continue;
        };
        let same = left.len() == right.len()
            && !left.is_empty()
            && left.iter().zip(&right).all(|(a, b)| a.label == b.label);
        if !same || (used > 0 && left.len() != per_pair) {
            continue;
        }
        per_pair = left.len();
        used += 1;
        images += left.len() as u64;
        for (image, (a, b)) in left.iter().zip(&right).enumerate() {
            match (a.rank == 0, b.rank == 0) {
                (true, false) => {
                    only_a += 1;
                    *by_image.entry(image).or_default() -= 1;
                }
                (false, true) => {
                    only_b += 1;
                    *by_image.entry(image).or_default() += 1;
                }
                _ => {}
            }
        }
    }
    if used == 0 {
        return None;
    }
    // Images are the units, each with its mean difference over the pairs: seeds of one image are no new images.
    let (n, runs) = (per_pair as f64, used as f64);
    let sum: f64 = by_image.values().map(|&d| d as f64 / runs).sum();
    let squares: f64 = by_image.values().map(|&d| (d as f64 / runs).powi(2)).sum();
    let mean = sum / n;
    let variance = ((squares - n * mean * mean) / (n - 1.0).max(1.0)).max(0.0);
    let half = statistics::t_quantile(n - 1.0) * (variance / n).sqrt();
    let test = (used == 1).then(|| statistics::mcnemar(only_a, only_b));
    Some(ImageEffect {
        pairs: used,
        images,
        only_a,
        only_b,
        difference: 100.0 * mean,
        interval: [100.0 * (mean - half), 100.0 * (mean + half)],
        exact_p: test.map(|test| test.exact),
        mid_p: test.map(|test| test.mid_p),
    })
}

/// The pairs of variants with the same name in two experiments, in the order of the first.
pub fn matching<'a>(
    a: &'a ExperimentData,
    b: &'a ExperimentData,
) -> Vec<(String, Side<'a>, Side<'a>)> {
    let theirs = b.variants();
    a.variants()
        .into_iter()
        .filter_map(|variant| {
            let other = theirs.iter().find(|other| other.name == variant.name)?;
            let side = |data, variant| Side {
                data,
                variant,
                seed: None,
            };
            Some((
                variant.name.to_owned(),
                side(a, variant.index),
                side(b, other.index),
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::table::fixture;

    #[test]
    fn two_variants_with_the_same_seeds() {
        let data = fixture::crop(3).predictions().data;
        let side = |variant| Side {
            data: &data,
            variant,
            seed: None,
        };
        let mut read = |stage: &str| data.predictions.get(stage).cloned();
        let effects = effects(&side(0), &side(1), &mut read).unwrap();
        let top1 = &effects[0];
        assert_eq!(
            (top1.metric.as_str(), top1.method),
            ("top1", Some("paired t"))
        );
        let images = top1.images.unwrap();
        assert_eq!((images.pairs, images.images), (3, 5400));
        // The images' difference is that of the accuracies.
        assert!((images.difference - top1.difference.unwrap()).abs() < 1e-9);
        assert!(images.exact_p.is_none());
    }

    #[test]
    fn two_runs_have_no_interval_over_seeds_but_one_over_images() {
        let data = fixture::crop(3).predictions().configurations("crop").data;
        let side = |variant, seed| Side {
            data: &data,
            variant,
            seed: Some(seed),
        };
        let mut read = |stage: &str| data.predictions.get(stage).cloned();
        let (a, b) = (side(0, 0), side(1, 0));
        let effects = effects(&a, &b, &mut read).unwrap();
        assert_eq!(effects[0].interval, None);
        let images = effects[0].images.unwrap();
        assert_eq!((images.pairs, images.images), (1, 1800));
        assert!(images.exact_p.unwrap() >= images.mid_p.unwrap());
        let fields = fields(&a, &b);
        assert!(
            fields
                .iter()
                .any(|field| field.path == "train.epochs" || field.path == "augment.crop"),
            "{fields:?}"
        );
        // A run with itself: no field differs, and no image.
        let effects = super::effects(&a, &a, &mut read).unwrap();
        assert_eq!(effects[0].difference, Some(0.0));
        assert_eq!(super::fields(&a, &a), []);
    }
}
