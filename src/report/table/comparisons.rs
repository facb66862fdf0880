//! One row per comparison with the baseline: what every view of the statistics says of it.

use super::build::{headline, title};
use super::cells::{Cells, Source};
use super::{Cell, Column, Estimate, Kind, Row, State, Table, Tone, caption};
use crate::report::data::Variant;
use crate::report::metric;
use crate::report::statistics::{self, Dunnett, Method, permutation};
use crate::spec::report::{Correction, TableSpec};

/// Seed of the bootstrap's random numbers, said in the caption.
const BOOTSTRAP_SEED: u64 = 0;

/// A variant and its baseline, both with numbers.
struct Pair<'c, 'a> {
    variant: &'c Variant<'a>,
    baseline: u32,
    ours: &'c [(u64, f64)],
    theirs: &'c [(u64, f64)],
}

/// The table; `None` without a baseline or with fewer than two runs an arm everywhere.
pub fn table(cells: &Cells<'_>, spec: &TableSpec) -> Option<Table> {
    cells.baseline.as_ref()?;
    let report = &cells.data.experiment.report;
    let source = headline(cells);
    let decimals = cells.decimals(&source);
    let metric = cells.data.metric(&source.metric);
    let pairs: Vec<Pair<'_, '_>> = cells
        .variants
        .iter()
        .filter_map(|variant| {
            let baseline = cells.baseline(variant)?;
            (baseline != variant.index).then(|| Pair {
                variant,
                baseline,
                ours: cells.values(variant.index, &source),
                theirs: cells.values(baseline, &source),
            })
        })
        .collect();
    if !pairs
        .iter()
        .any(|pair| pair.ours.len() > 1 && pair.theirs.len() > 1)
    {
        return None;
    }
    let p: Vec<Option<f64>> = pairs
        .iter()
        .map(|pair| {
            Some(
                statistics::difference(pair.ours, pair.theirs)?
                    .estimate?
                    .p(),
            )
        })
        .collect();
    let adjusted = adjusted(report.correction, &pairs, &p);
    let with_images = report.bootstrap > 0
        && source.metric == "top1"
        && pairs
            .iter()
            .any(|pair| images(cells, pair, &source, 1).is_some());

    let short = &metric.short;
    let mut columns = vec![
        Column::new("variant", Kind::Label),
        Column::new("against", Kind::Label),
        Column::new("n", Kind::Word),
        Column::new(format!("Δ {short}"), Kind::Delta),
        Column::new("p (t)", Kind::Probability),
        Column::new("p (permutation)", Kind::Probability),
    ];
    let name = match report.correction {
        Correction::None => None,
        Correction::Holm => Some("p (Holm)"),
        Correction::Dunnett => Some("p (Dunnett)"),
    };
    if let Some(name) = name {
        columns.push(Column::new(name, Kind::Probability));
    }
    columns.push(Column::new("Hedges' g", Kind::Estimate));
    columns.push(Column::new("P(better)", Kind::Estimate));
    if report.margin.is_some() {
        columns.push(Column::new("p (equivalent)", Kind::Probability));
        columns.push(Column::new("equivalent", Kind::Word));
    }
    if with_images {
        columns.push(Column::new(
            format!("Δ {short}, seeds and images"),
            Kind::Estimate,
        ));
    }
    let missing = || Cell::State(State::Missing);
    let rows: Vec<Row> = pairs
        .iter()
        .zip(p.iter().zip(&adjusted))
        .map(|(pair, (p, adjusted))| {
            let against = cells.variant(pair.baseline);
            let against = against.map(|variant| cells.display_name(variant));
            let probability = |p: Option<f64>| p.map_or_else(missing, Cell::Probability);
            let mut row = vec![
                Cell::Label(cells.display_name(pair.variant)),
                Cell::Label(against.unwrap_or_default()),
                Cell::Word(
                    format!("{}, {}", pair.ours.len(), pair.theirs.len()),
                    Tone::Plain,
                ),
                cells.delta(pair.variant, &source, decimals),
                probability(*p),
                probability(exact(pair)),
            ];
            if name.is_some() {
                row.push(probability(*adjusted));
            }
            row.extend(
                effect(pair, metric.higher_is_better).map(|cell| cell.unwrap_or_else(missing)),
            );
            if let Some(margin) = report.margin {
                let estimate = statistics::difference(pair.ours, pair.theirs)
                    .and_then(|difference| difference.estimate);
                let p = estimate.map(|estimate| statistics::tost(&estimate, margin));
                row.push(probability(p));
                row.push(match p {
                    Some(p) if p < 0.05 => Cell::Word("yes".to_owned(), Tone::Good),
                    Some(_) => Cell::Word("not shown".to_owned(), Tone::Faint),
                    None => missing(),
                });
            }
            if with_images {
                row.push(images(cells, pair, &source, report.bootstrap).map_or_else(
                    missing,
                    |found| {
                        let interval = found.interval.scaled(100.0);
                        Cell::Estimate(Estimate {
                            value: 100.0 * found.difference,
                            interval: Some(interval),
                            decimals: metric::decimals_for(interval.half_width())
                                .unwrap_or(decimals),
                            signed: true,
                        })
                    },
                ));
            }
            Row::new(row)
        })
        .collect();
    Some(Table {
        name: spec.name.clone(),
        title: title(cells, "comparisons"),
        caption: words(
            cells,
            &source,
            &rows,
            report.correction,
            report.margin,
            with_images,
            &pairs,
        ),
        footnotes: caption::footnotes(cells),
        columns,
        rows,
        experiment: String::new(),
        transposed: false,
    })
}

/// P values adjusted for the number of comparisons.
fn adjusted(correction: Correction, pairs: &[Pair<'_, '_>], p: &[Option<f64>]) -> Vec<Option<f64>> {
    match correction {
        Correction::None => vec![None; p.len()],
        Correction::Holm => {
            let known: Vec<f64> = p.iter().flatten().copied().collect();
            let mut adjusted = statistics::holm(&known).into_iter();
            p.iter().map(|p| p.and_then(|_| adjusted.next())).collect()
        }
        Correction::Dunnett => {
            // One family for each baseline.
            let mut found = vec![None; p.len()];
            for (members, test) in families(pairs) {
                for (position, p) in members.into_iter().zip(test.p) {
                    found[position] = Some(p);
                }
            }
            found
        }
    }
}

/// Dunnett's test for every baseline: positions of its pairs, and what the test says.
fn families(pairs: &[Pair<'_, '_>]) -> Vec<(Vec<usize>, Dunnett)> {
    let mut baselines: Vec<u32> = pairs.iter().map(|pair| pair.baseline).collect();
    baselines.sort_unstable();
    baselines.dedup();
    let mut families = Vec::new();
    for baseline in baselines {
        let members: Vec<usize> = (0..pairs.len())
            .filter(|position| {
                let pair = &pairs[*position];
                pair.baseline == baseline && !pair.ours.is_empty()
            })
            .collect();
        let arms: Vec<&[(u64, f64)]> = members
            .iter()
            .map(|position| pairs[*position].ours)
            .collect();
        let Some(first) = members.first() else {
            continue;
        };
        if let Some(test) = statistics::dunnett(pairs[*first].theirs, &arms) {
            families.push((members, test));
        }
    }
    families
}

/// The exact permutation test: flips of signs where seeds are shared, deals of labels elsewhere.
fn exact(pair: &Pair<'_, '_>) -> Option<f64> {
    let (ours, theirs) = (
        statistics::sorted(pair.ours),
        statistics::sorted(pair.theirs),
    );
    if ours.len() < 2 || theirs.len() < 2 {
        return None;
    }
    if statistics::same_seeds(pair.ours, pair.theirs) {
        permutation::sign_flip(&ours, &theirs)
    } else {
        permutation::labels(&ours, &theirs)
    }
}

/// Hedges' g, and the probability that a run of ours is better.
fn effect(pair: &Pair<'_, '_>, higher_is_better: bool) -> [Option<Cell>; 2] {
    let (ours, theirs) = (
        statistics::sorted(pair.ours),
        statistics::sorted(pair.theirs),
    );
    let g = statistics::hedges_g(&ours, &theirs).map(|g| {
        Cell::Estimate(Estimate {
            value: g,
            interval: None,
            decimals: 1,
            signed: true,
        })
    });
    let sign = if higher_is_better { 1.0 } else { -1.0 };
    let oriented = |values: Vec<f64>| {
        values
            .into_iter()
            .map(|value| sign * value)
            .collect::<Vec<_>>()
    };
    let paired = statistics::same_seeds(pair.ours, pair.theirs);
    let (ours, theirs) = (oriented(ours), oriented(theirs));
    let found = match paired {
        true => statistics::paired_superiority(&ours, &theirs),
        false => statistics::superiority(&ours, &theirs),
    };
    let better = found
        .filter(|_| ours.len() > 1 && theirs.len() > 1)
        .map(|found| {
            Cell::Estimate(Estimate {
                value: found.probability,
                interval: Some(found.interval),
                decimals: 2,
                signed: false,
            })
        });
    [g, better]
}

/// The seed x image bootstrap of a pair whose runs' images are known and agree with the stored values.
fn images(
    cells: &Cells<'_>,
    pair: &Pair<'_, '_>,
    source: &Source,
    draws: u32,
) -> Option<statistics::Bootstrap> {
    if source.resolution.is_some() {
        return None;
    }
    let (ours, theirs) = (
        cells.correct(pair.variant.index),
        cells.correct(pair.baseline),
    );
    let seeds =
        |arm: &[(u64, &statistics::Bitset)]| arm.iter().map(|(seed, _)| *seed).collect::<Vec<_>>();
    let paired = seeds(&ours) == seeds(&theirs);
    let bits = |arm: &[(u64, &'_ statistics::Bitset)]| arm.len();
    if bits(&ours) != pair.ours.len() || bits(&theirs) != pair.theirs.len() {
        return None;
    }
    let ours: Vec<_> = ours.into_iter().map(|(_, bits)| bits).collect();
    let theirs: Vec<_> = theirs.into_iter().map(|(_, bits)| bits).collect();
    let found = statistics::bootstrap(&ours, &theirs, paired, draws, BOOTSTRAP_SEED)?;
    let difference = statistics::difference(pair.ours, pair.theirs)?.mean;
    ((100.0 * found.difference - difference).abs() < 0.01).then_some(found)
}

/// What every column is.
fn words(
    cells: &Cells<'_>,
    source: &Source,
    rows: &[Row],
    correction: Correction,
    margin: Option<f64>,
    with_images: bool,
    pairs: &[Pair<'_, '_>],
) -> String {
    let metric = cells.data.metric(&source.metric);
    let mut sentences = vec![caption::subject(cells, std::slice::from_ref(source))];
    sentences.extend(caption::deltas(cells, &metric, rows));
    let methods: Vec<Method> = rows
        .iter()
        .flat_map(|row| &row.cells)
        .filter_map(|cell| match cell {
            Cell::Delta(delta) => delta.interval.map(|(_, method)| method),
            _ => None,
        })
        .collect();
    let paired = methods.contains(&Method::Paired);
    let welch = methods.contains(&Method::Welch);
    sentences.push("n: runs of the variant, runs of the baseline".to_owned());
    sentences.push(match (paired, welch) {
        (true, false) => "p (t): two-sided paired t test; p (permutation): exact, over all flips of signs".to_owned(),
        (false, true) => "p (t): two-sided Welch test; p (permutation): exact, over all deals of the runs".to_owned(),
        _ => "p (t): two-sided paired t test where the same seeds finished in both, Welch's elsewhere; p \
              (permutation): exact, up to 8 runs an arm"
            .to_owned(),
    });
    let tested = rows
        .iter()
        .filter(|row| matches!(row.cells.get(4), Some(Cell::Probability(_))))
        .count();
    match correction {
        Correction::None => {}
        Correction::Holm => {
            sentences.push(format!("p (Holm): p (t) adjusted for {tested} comparisons"))
        }
        Correction::Dunnett => {
            let families = families(pairs);
            let blocked = families.iter().any(|(_, test)| test.blocked);
            let sizes: Vec<usize> = families.iter().map(|(members, _)| members.len()).collect();
            let size = match (sizes.iter().min(), sizes.iter().max()) {
                (Some(least), Some(most)) if least == most => most.to_string(),
                (Some(least), Some(most)) => format!("{least} to {most}"),
                _ => "no".to_owned(),
            };
            sentences.push(format!(
                "p (Dunnett): {size} comparisons with each baseline at once, with one variance for all{}",
                if blocked { " and seeds as blocks" } else { "" }
            ));
        }
    }
    sentences.push(
        "Hedges' g: the difference in standard deviations between seeds; P(better): share of comparisons of two \
         runs that the variant wins, with its 95 % interval (Wilson over shared seeds, Newcombe elsewhere)"
            .to_owned(),
    );
    if let Some(margin) = margin {
        sentences.push(format!(
            "Equivalent: two one-sided tests show that the difference is less than {margin} (p < 0.05)"
        ));
    }
    if with_images {
        let draws = cells.data.experiment.report.bootstrap;
        sentences.push(format!(
            "Seeds and images: 95 % interval where both are samples (two-way bootstrap, {draws} draws, its seed \
             {BOOTSTRAP_SEED})"
        ));
    }
    sentences
        .iter()
        .map(|sentence| format!("{sentence}."))
        .collect::<Vec<_>>()
        .join(" ")
}
