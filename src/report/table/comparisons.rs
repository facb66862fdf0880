//! One row per comparison with the baseline: what every view of the statistics says of it.

use super::build::{headline, title};
use super::cells::{Cells, Source};
use super::family::{Comparison, Family};
use super::variants::group;
use super::{Cell, Column, Estimate, Kind, Row, State, Table, Tone, caption, power};
use crate::report::metric;
use crate::report::statistics::{self, Bitset, Method, Pairing, permutation};
use crate::spec::report::{Correction, TableSpec};

/// Seed of the bootstrap's random numbers, said in the caption.
const BOOTSTRAP_SEED: u64 = 0;

/// Whether the table says something that others don't: some variant and its baseline will have two runs, or single
/// runs whose images are known.
pub fn suits(cells: &Cells<'_>) -> bool {
    let runs = |index: u32| cells.variant(index).map_or(0, |variant| variant.runs.len());
    cells
        .pairs()
        .into_iter()
        .any(|(variant, baseline)| runs(variant) > 1 && runs(baseline) > 1)
        || cells.family(&headline(cells)).over_images
}

/// The table; or why there is none.
pub fn table(cells: &Cells<'_>, spec: &TableSpec) -> Result<Table, String> {
    if cells.baseline.is_none() {
        return Err("the experiment has no baseline".to_owned());
    }
    let source = headline(cells);
    let family = cells.family(&source);
    if family.comparisons.is_empty() {
        return Err("no variant has another one for its baseline".to_owned());
    }
    let view = View::of(cells, &source, &family);
    let groups = spec
        .groups
        .as_deref()
        .and_then(|name| cells.data.axis(name));
    // In the order of this table's variants: the family is also that of tables with another one.
    let rows: Vec<Row> = cells
        .pairs()
        .into_iter()
        .filter_map(|pair| {
            let group = groups.and_then(|axis| group(cells, cells.variant(pair.0)?, axis));
            Some(Row {
                group,
                ..Row::new(view.row(family.get(pair)?))
            })
        })
        .collect();
    let mut footnotes = caption::footnotes(cells);
    footnotes.extend(caption::comparison_notes(cells, &[&family]));
    footnotes.extend(power::words(cells, &source));
    let report = &cells.data.experiment.report;
    if report.bootstrap > 0 && source.metric != "top1" {
        footnotes.push(format!(
            "The bootstrap over seeds and images is of top-1, which says of every image whether it is right; of {} \
             there is none",
            cells.data.metric(&source.metric).short
        ));
    }
    Ok(Table {
        name: spec.name.clone(),
        title: title(cells, "comparisons"),
        caption: view.words(&rows),
        footnotes,
        columns: view.columns(),
        rows,
        experiment: String::new(),
        transposed: false,
    })
}

/// What the table shows.
struct View<'c, 'a> {
    cells: &'c Cells<'a>,
    source: &'c Source,
    family: &'c Family,
    decimals: usize,
    margin: Option<f64>,
    /// Draws of the bootstrap over seeds and images; 0 where it isn't shown.
    draws: u32,
}

impl<'c, 'a> View<'c, 'a> {
    fn of(cells: &'c Cells<'a>, source: &'c Source, family: &'c Family) -> Self {
        let report = &cells.data.experiment.report;
        let view = View {
            cells,
            source,
            family,
            decimals: cells.decimals(source),
            margin: report
                .margin
                .filter(|_| cells.data.metrics().first() == Some(&source.metric)),
            draws: report.bootstrap,
        };
        let known = report.bootstrap > 0
            && source.metric == "top1"
            && !family.over_images
            && family
                .comparisons
                .iter()
                .any(|comparison| view.seeds_and_images(comparison, 1).is_some());
        View {
            draws: if known { report.bootstrap } else { 0 },
            ..view
        }
    }

    fn short(&self) -> String {
        self.cells.data.metric(&self.source.metric).short
    }

    fn is_dunnett(&self) -> bool {
        self.family.correction == Correction::Dunnett
    }

    fn columns(&self) -> Vec<Column> {
        let short = self.short();
        let mut columns = vec![
            Column::new("variant", Kind::Label),
            Column::new("against", Kind::Label),
            Column::new("n", Kind::Word),
            Column::new(caption::delta_head(self.cells, self.source), Kind::Delta),
        ];
        let mut push = |head: String, kind| columns.push(Column::new(head, kind));
        if self.is_dunnett() {
            push(format!("Δ {short}, simultaneous"), Kind::Estimate);
        }
        if self.family.over_images {
            push("right alone".to_owned(), Kind::Word);
            push("p (McNemar)".to_owned(), Kind::Probability);
            push("mid-p".to_owned(), Kind::Probability);
        } else {
            push("p (t)".to_owned(), Kind::Probability);
            push("p (permutation)".to_owned(), Kind::Probability);
        }
        if let Some(name) = self.family.correction_name() {
            push(name.to_owned(), Kind::Probability);
        }
        if !self.family.over_images {
            push("Hedges' g".to_owned(), Kind::Estimate);
            push("P(better)".to_owned(), Kind::Estimate);
            if self.margin.is_some() {
                push("p (equivalent)".to_owned(), Kind::Probability);
                push("equivalent".to_owned(), Kind::Word);
            }
        }
        if self.draws > 0 {
            push(format!("Δ {short}, seeds and images"), Kind::Estimate);
        }
        columns
    }

    fn row(&self, comparison: &Comparison) -> Vec<Cell> {
        let cells = self.cells;
        let name = |index: u32| {
            let variant = cells.variant(index);
            Cell::Label(variant.map_or_else(String::new, |variant| cells.display_name(variant)))
        };
        let missing = || Cell::State(State::Missing);
        let probability = |p: Option<f64>| p.map_or_else(missing, Cell::Probability);
        let pair = (comparison.variant, comparison.baseline);
        let mut row = vec![
            name(comparison.variant),
            name(comparison.baseline),
            self.n(comparison),
            cells.delta_of(self.family, pair, self.source, self.decimals),
        ];
        if self.is_dunnett() {
            row.push(match comparison.simultaneous {
                Some((value, interval)) => Cell::Estimate(Estimate {
                    value,
                    interval: Some(interval),
                    decimals: self.family.decimals(self.decimals),
                    signed: true,
                }),
                None => missing(),
            });
        }
        if self.family.over_images {
            let test = comparison.images.map(|(_, test)| test);
            row.push(test.map_or_else(missing, |test| {
                let words = format!("{}, {}", test.ours_only, test.theirs_only);
                Cell::Word(words, Tone::Plain)
            }));
            row.push(probability(test.map(|test| test.exact)));
            row.push(probability(test.map(|test| test.mid_p)));
        } else {
            row.push(probability(comparison.p));
            row.push(probability(pairing(comparison).and_then(exact)));
        }
        if self.family.correction_name().is_some() {
            row.push(probability(comparison.adjusted));
        }
        if !self.family.over_images {
            let higher = cells.data.metric(&self.source.metric).higher_is_better;
            let effect = pairing(comparison).map(|pairing| effect(pairing, higher));
            let [g, better] = effect.unwrap_or_default();
            row.push(g.unwrap_or_else(missing));
            row.push(better.unwrap_or_else(missing));
            if let Some(margin) = self.margin {
                let estimate = comparison.estimate();
                let p = estimate.map(|estimate| statistics::tost(&estimate, margin));
                row.push(probability(p));
                row.push(match p {
                    Some(p) if p < 0.05 => Cell::Word("yes".to_owned(), Tone::Good),
                    Some(_) => Cell::Word("not shown".to_owned(), Tone::Faint),
                    None => missing(),
                });
            }
        }
        if self.draws > 0 {
            let found = self.seeds_and_images(comparison, self.draws);
            row.push(found.map_or_else(missing, |found| {
                let interval = found.interval.scaled(100.0);
                Cell::Estimate(Estimate {
                    value: 100.0 * found.difference,
                    interval: Some(interval),
                    decimals: metric::decimals_for(interval.half_width())
                        .map_or(self.decimals, |decimals| decimals.max(self.decimals)),
                    signed: true,
                })
            }));
        }
        row
    }

    /// `3 pairs`, `3 pairs (4, 3)` where seeds are left out, `4, 3` where there are no pairs.
    fn n(&self, comparison: &Comparison) -> Cell {
        let runs = |index: u32| self.cells.values(index, self.source).len();
        let (ours, theirs) = (runs(comparison.variant), runs(comparison.baseline));
        let words = match &comparison.difference {
            Some(difference) if difference.pairing.paired => {
                let pairs = difference.pairing.ours.len();
                let mut words = format!("{pairs} {}", if pairs == 1 { "pair" } else { "pairs" });
                if !difference.pairing.left_out.is_empty() {
                    words.push_str(&format!(" ({ours}, {theirs})"));
                }
                words
            }
            _ => format!("{ours}, {theirs}"),
        };
        let tone = match comparison.difference {
            Some(_) => Tone::Plain,
            None => Tone::Faint,
        };
        Cell::Word(words, tone)
    }

    /// The seed x image bootstrap of a pair whose runs' images are known and agree with the stored values.
    fn seeds_and_images(
        &self,
        comparison: &Comparison,
        draws: u32,
    ) -> Option<statistics::Bootstrap> {
        let difference = comparison.difference.as_ref()?;
        if self.source.resolution.is_some() {
            return None;
        }
        let (ours, theirs) = (
            self.cells.correct(comparison.variant),
            self.cells.correct(comparison.baseline),
        );
        let pairing = &difference.pairing;
        // Over single runs the draws would be of images alone.
        if pairing.ours.len() < 2 || pairing.theirs.len() < 2 {
            return None;
        }
        // Of the pairs where there are pairs; both arms are by seed.
        let used = |arm: Vec<(u64, &'a Bitset)>| -> Vec<&'a Bitset> {
            arm.into_iter()
                .filter(|(seed, _)| !pairing.paired || pairing.seeds.binary_search(seed).is_ok())
                .map(|(_, bits)| bits)
                .collect()
        };
        let (ours, theirs) = (used(ours), used(theirs));
        if ours.len() != pairing.ours.len() || theirs.len() != pairing.theirs.len() {
            return None;
        }
        let found = statistics::bootstrap(&ours, &theirs, pairing.paired, draws, BOOTSTRAP_SEED)?;
        ((100.0 * found.difference - difference.mean).abs() < 0.01).then_some(found)
    }

    /// What every column is.
    fn words(&self, rows: &[Row]) -> String {
        let (cells, family) = (self.cells, self.family);
        let metric = cells.data.metric(&self.source.metric);
        let mut sentences = vec![caption::subject(cells, std::slice::from_ref(self.source))];
        sentences.extend(caption::deltas(cells, self.source, rows, &[family]));
        let has = |method| {
            family
                .comparisons
                .iter()
                .any(|own| own.interval().is_some_and(|(_, own)| own == method))
        };
        let left_out = family
            .comparisons
            .iter()
            .filter_map(|own| own.difference.as_ref())
            .any(|own| !own.pairing.left_out.is_empty());
        sentences.push(match (left_out, has(Method::Welch)) {
            (true, _) => "n: pairs of runs with the same seed, in brackets the finished runs of the variant and of \
                          its baseline"
                .to_owned(),
            (false, true) => "n: pairs of runs with the same seed, elsewhere runs of the variant, runs of its baseline"
                .to_owned(),
            (false, false) => "n: pairs of runs with the same seed".to_owned(),
        });
        let waits = family
            .comparisons
            .iter()
            .any(|own| own.difference.is_none());
        if family.made() == 0 && waits {
            sentences.push("No comparison can be made yet".to_owned());
        }
        let planned = family.comparisons.len();
        let number = caption::of_planned(family.made(), planned);
        if family.over_images {
            sentences.push(
                "Right alone: images that only the variant's run has right, and only the baseline's; p (McNemar): exact \
                 two-sided test of these two trained models on the same images, mid-p: the same with half of the \
                 observed outcome's probability, nearer to its level (Fagerland et al. 2013)"
                    .to_owned(),
            );
        } else {
            sentences.push(match (has(Method::Paired), has(Method::Welch)) {
                (true, false) => {
                    "p (t): two-sided paired t test; p (permutation): exact, over all flips of signs, up to 8 pairs".to_owned()
                }
                (false, true) => {
                    "p (t): two-sided Welch test; p (permutation): exact, over all deals of the runs, up to 8 an arm".to_owned()
                }
                _ => "p (t): two-sided paired t test over shared seeds, Welch's elsewhere; p (permutation): exact, up \
                      to 8 runs an arm"
                    .to_owned(),
            });
        }
        match family.correction {
            Correction::None => {}
            Correction::Holm => {
                let of = if family.over_images { "mid-p" } else { "p (t)" };
                sentences.push(format!("p (Holm): {of} adjusted for {number}"));
            }
            Correction::Dunnett => sentences.push(self.dunnett_words()),
        }
        if !family.over_images {
            sentences.push(
                "Hedges' g: the difference in standard deviations between seeds; P(better): share of comparisons of \
                 two runs that the variant wins, with its 95 % interval (Wilson over shared seeds, Newcombe elsewhere)"
                    .to_owned(),
            );
            if let Some(margin) = self.margin {
                sentences.push(format!(
                    "Equivalent: two one-sided t tests show that the difference is less than {} either way (p < 0.05, \
                     not corrected for the number of comparisons), the margin that the experiment file declares",
                    metric.amount(&margin.to_string())
                ));
            }
        }
        if self.draws > 0 {
            sentences.push(format!(
                "Seeds and images: 95 % interval where both are samples (two-way bootstrap, widened for few seeds; {} \
                 draws, their seed {BOOTSTRAP_SEED})",
                self.draws
            ));
        }
        sentences
            .iter()
            .map(|sentence| format!("{sentence}."))
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn dunnett_words(&self) -> String {
        let family = self.family;
        let number = caption::of_planned(family.made(), family.comparisons.len());
        let with = match family.baselines {
            1 => "with one baseline".to_owned(),
            several => format!("with {several} baselines, which share the 5 % in equal parts"),
        };
        let blocks: Vec<usize> = family.dunnett.iter().map(|own| own.blocks.len()).collect();
        let variance = match (blocks.iter().min(), blocks.iter().max()) {
            (Some(0), Some(0)) | (None, _) | (_, None) => "one variance for all runs".to_owned(),
            (Some(0), Some(_)) => {
                "one variance for all runs, with seeds as blocks where all share them".to_owned()
            }
            (Some(least), Some(most)) if least == most => {
                format!("one variance for all and the {most} seeds that all share as blocks")
            }
            (Some(least), Some(most)) => {
                format!(
                    "one variance for all and the {least} to {most} seeds that all share as blocks"
                )
            }
        };
        format!(
            "p (Dunnett): {number} {with} at once, {variance}; simultaneous: the 95 % intervals that belong to it, all \
             of which hold their difference with a probability of 95 %"
        )
    }
}

/// The values that are compared; `None` where nothing varies in either arm, or where one is a single run.
fn pairing(comparison: &Comparison) -> Option<&Pairing> {
    let pairing = &comparison.difference.as_ref()?.pairing;
    let several = pairing.ours.len() > 1 && pairing.theirs.len() > 1;
    (several && !pairing.is_constant()).then_some(pairing)
}

/// The exact permutation test: flips of signs where seeds are shared, deals of labels elsewhere.
fn exact(pairing: &Pairing) -> Option<f64> {
    if pairing.paired {
        permutation::sign_flip(&pairing.ours, &pairing.theirs)
    } else {
        permutation::labels(&pairing.ours, &pairing.theirs)
    }
}

/// Hedges' g, and the probability that a run of ours is better.
fn effect(pairing: &Pairing, higher_is_better: bool) -> [Option<Cell>; 2] {
    let g = statistics::hedges_g(&pairing.ours, &pairing.theirs).map(|g| {
        Cell::Estimate(Estimate {
            value: g,
            interval: None,
            decimals: 1,
            signed: true,
        })
    });
    let sign = if higher_is_better { 1.0 } else { -1.0 };
    let oriented = |values: &[f64]| values.iter().map(|value| sign * value).collect::<Vec<_>>();
    let (ours, theirs) = (oriented(&pairing.ours), oriented(&pairing.theirs));
    let found = match pairing.paired {
        true => statistics::paired_superiority(&ours, &theirs),
        false => statistics::superiority(&ours, &theirs),
    };
    let better = found.map(|found| {
        Cell::Estimate(Estimate {
            value: found.probability,
            interval: Some(found.interval),
            decimals: 2,
            signed: false,
        })
    });
    [g, better]
}
