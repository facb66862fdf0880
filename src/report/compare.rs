//! Two runs, variants or experiments side by side: in what they differ, and what that does.

use super::background::differing_fields;
use super::data::{ExperimentData, Variant};
use super::frame::FrameError;
use super::metric::Metric;
use super::statistics::{self, Bitset, Difference, Sample};
use super::table::cells::{Cells, Source};
use crate::rundir::predictions::Prediction;
use crate::store::rows::RunRow;
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
    /// Seeds that both sides have and that are compared, where the interval is paired.
    pub pairs: Option<usize>,
    /// Seeds that only one side has, where pairs are compared: the difference isn't of these.
    pub left_out: Vec<u64>,
    /// The true difference that would be told from zero with a probability of 80 %, by this spread.
    pub detectable: Option<f64>,
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

/// Both sides on the same images. Of several runs, pairs with the same seed; where no seed is shared, all of them.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct ImageEffect {
    /// Pairs of runs; `None` where no seed is shared.
    pub pairs: Option<usize>,
    /// Images of the evaluation set.
    pub images: usize,
    /// Images that only one side has right, summed over the pairs.
    pub only_a: Option<u64>,
    pub only_b: Option<u64>,
    /// Difference of the accuracies in percentage points, and its 95 % interval by the bootstrap over what `over` says.
    pub difference: f64,
    pub interval: [f64; 2],
    /// `images`: for these trained models and other images; `seeds and images`: for other seeds and other images.
    pub over: &'static str,
    /// Draws of the bootstrap.
    pub draws: u32,
    /// Two-sided p of McNemar's test, exact and as mid-p; of a single pair only, since the images of several pairs are
    /// the same ones.
    pub exact_p: Option<f64>,
    pub mid_p: Option<f64>,
}

/// Draws of the bootstrap.
const DRAWS: u32 = 10_000;

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
        let interval = difference
            .as_ref()
            .and_then(|difference| difference.interval);
        let paired = difference.as_ref().filter(|own| own.pairing.paired);
        let estimate = difference
            .as_ref()
            .and_then(|difference| difference.estimate);
        let is_headline = set == "val" && metric == "top1";
        let images = difference
            .as_ref()
            .filter(|_| is_headline)
            .and_then(|difference| image_effect(a, b, difference, predictions));
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
            pairs: paired.map(|difference| difference.pairing.ours.len()),
            left_out: difference
                .as_ref()
                .map(|difference| difference.pairing.left_out.clone())
                .unwrap_or_default(),
            detectable: estimate.map(|estimate| statistics::detectable_effect(&estimate)),
            difference: difference.as_ref().map(|difference| difference.mean),
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

/// One run of a side on the images of its evaluation set.
struct Judged {
    seed: u64,
    /// The images' labels, by which sets are told apart.
    labels: Vec<u32>,
    right: Bitset,
}

/// The runs of a side whose predictions are there.
fn judged(
    side: &Side<'_>,
    predictions: &mut dyn FnMut(&str) -> Option<Vec<Prediction>>,
) -> Vec<Judged> {
    let runs = side.runs();
    let found = runs.iter().filter_map(|run| {
        let images = predictions(run.stages.last()?)?;
        Some(Judged {
            seed: run.seed,
            labels: images.iter().map(|image| image.label).collect(),
            right: Bitset::new(images.iter().map(|image| image.rank == 0)),
        })
    });
    found.filter(|run| !run.labels.is_empty()).collect()
}

fn bits(runs: &[Judged]) -> Vec<&Bitset> {
    runs.iter().map(|run| &run.right).collect()
}

/// The runs that `difference` compares (pairs with the same seed, or the two single runs, or else all runs of both) on
/// the images of their evaluation sets: the bootstrap over seeds and images, and of two single runs McNemar's test.
/// `None` where predictions are missing, were made on other images, or aren't those of the stored values.
fn image_effect(
    a: &Side<'_>,
    b: &Side<'_>,
    difference: &Difference,
    predictions: &mut dyn FnMut(&str) -> Option<Vec<Prediction>>,
) -> Option<ImageEffect> {
    let (mut ours, mut theirs) = (judged(a, predictions), judged(b, predictions));
    let labels = ours.first()?.labels.clone();
    ours.retain(|run| run.labels == labels);
    theirs.retain(|run| run.labels == labels);
    let pairing = &difference.pairing;
    if pairing.paired {
        for side in [&mut ours, &mut theirs] {
            side.retain(|run| pairing.seeds.binary_search(&run.seed).is_ok());
            side.sort_by_key(|run| run.seed);
        }
    }
    let (n, m) = (ours.len(), theirs.len());
    // The difference is B - A.
    if n != pairing.theirs.len() || m != pairing.ours.len() {
        return None;
    }
    let paired = pairing.paired || (n == 1 && m == 1);
    let found = statistics::bootstrap(&bits(&theirs), &bits(&ours), paired, DRAWS, 0)?;
    if (100.0 * found.difference - difference.mean).abs() >= 0.01 {
        return None;
    }
    let only = |of: &[Judged], other: &[Judged]| -> Option<u64> {
        let pairs = of.iter().zip(other);
        paired.then(|| pairs.map(|(own, other)| own.right.only(&other.right)).sum())
    };
    let (only_a, only_b) = (only(&ours, &theirs), only(&theirs, &ours));
    let test = match (only_a, only_b) {
        (Some(a), Some(b)) if n == 1 && m == 1 => Some(statistics::mcnemar(a, b)),
        _ => None,
    };
    let interval = found.interval.scaled(100.0);
    Some(ImageEffect {
        pairs: paired.then_some(n),
        images: labels.len(),
        only_a,
        only_b,
        difference: 100.0 * found.difference,
        interval: [interval.low, interval.high],
        over: if n == 1 && m == 1 {
            "images"
        } else {
            "seeds and images"
        },
        draws: found.draws,
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
    use crate::store::rows::Status;

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
        assert_eq!((images.pairs, images.images), (Some(3), 1800));
        assert_eq!((images.over, images.draws), ("seeds and images", DRAWS));
        // With seeds drawn, too, at least as wide as between the runs at hand.
        let [low, high] = images.interval;
        assert!(low < images.difference && images.difference < high);
        // The images' difference is that of the accuracies.
        assert!((images.difference - top1.difference.unwrap()).abs() < 1e-9);
        assert!(images.exact_p.is_none());
    }

    /// `B - A` is of the shared seeds alone, and says which it isn't of.
    #[test]
    fn seeds_without_a_partner_are_named() {
        let data = fixture::crop(3)
            .lose(1, 1, Status::Failed, Some("bug"))
            .lose(1, 2, Status::Failed, Some("bug"))
            .data;
        let side = |variant| Side {
            data: &data,
            variant,
            seed: None,
        };
        let effects = effects(&side(0), &side(1), &mut |_: &str| None).unwrap();
        let top1 = &effects[0];
        assert_eq!(top1.left_out, [1, 2]);
        let (a, b) = (top1.a.unwrap(), top1.b.unwrap());
        assert_eq!((a.n, b.n), (3, 1));
        assert!((top1.difference.unwrap() - (b.mean - a.mean)).abs() > 1e-3);
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
        assert_eq!(
            (images.pairs, images.images, images.over),
            (Some(1), 1800, "images")
        );
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
