//! The words under a table: what the numbers are, over how many runs, against what.

use super::build::headline;
use super::cells::{Cells, Source};
use super::family::Family;
use super::{Cell, MARKED, Row};
use crate::report::statistics::Method;
use crate::report::text::sentence;
use crate::spec::report::Correction;
use std::collections::BTreeMap;

/// Among which cells the best is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Best {
    Row,
    Column,
}

/// The caption of a table with these rows.
pub fn caption(
    cells: &Cells<'_>,
    headline: &Source,
    sources: &[Source],
    rows: &[Row],
    best: Best,
) -> String {
    let family = cells.family(headline);
    let against = against(cells);
    caption_of(
        cells,
        (headline, sources),
        rows,
        best,
        (&[&family], against.as_deref()),
    )
}

/// [`caption`] of a table whose differences are of these families, one a column, and against what these words say.
pub(super) fn caption_of(
    cells: &Cells<'_>,
    (headline, sources): (&Source, &[Source]),
    rows: &[Row],
    best: Best,
    (families, against): (&[&Family], Option<&str>),
) -> String {
    let all = || rows.iter().flat_map(|row| &row.cells);
    let values = || {
        all().filter_map(|cell| match cell {
            Cell::Value(value) => Some(value),
            _ => None,
        })
    };
    let mut sentences = vec![subject(cells, sources)];
    if sources.iter().any(|source| source.resolution.is_some()) {
        // As the heads of a table of nothing else say it, or those beside other columns.
        let head = match sources.iter().all(|source| source.resolution.is_some()) {
            true => "Tested at … px",
            false => "At … px",
        };
        sentences.push(format!(
            "\u{201c}{head}\u{201d}: the same weights at that test resolution"
        ));
    }
    let (least, most) = (
        values().filter_map(|value| value.n).min(),
        values().filter_map(|value| value.n).max(),
    );
    match (least, most) {
        (Some(1), Some(1)) => {
            let mut text =
                "Each value is a single run (n = 1), so nothing is known of the spread over seeds"
                    .to_owned();
            if values().any(|value| value.images.is_some()) {
                text.push_str(
                    "; in brackets the 95 % Wilson interval over the evaluation set's images",
                );
            }
            sentences.push(text);
        }
        (Some(least), Some(most)) => {
            let n = if least == most {
                format!("{most}")
            } else {
                format!("{least} to {most}")
            };
            sentences.push(format!("Mean ± standard deviation over seeds (n = {n})"));
            if least == 1 {
                let images = if values().any(|value| value.images.is_some()) {
                    "; in brackets the 95 % Wilson interval over the evaluation set's images"
                } else {
                    ""
                };
                sentences.push(format!("A single run has no ±{images}"));
            }
        }
        _ => sentences.push(no_number(cells)),
    }
    sentences.extend(
        against.and_then(|against| deltas_against(cells, headline, rows, families, against)),
    );
    if values().any(|value| value.best) {
        let place = match best {
            Best::Row => "row",
            Best::Column => "column",
        };
        sentences.push(format!(
            "{MARKED}: the best of its {place}; values that print alike share it"
        ));
    }
    sentences
        .iter()
        .map(|sentence| format!("{sentence}."))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Why no cell has a number.
pub(super) fn no_number(cells: &Cells<'_>) -> String {
    let waits = cells.variants.iter().any(|variant| {
        let tally = variant.tally();
        tally.pending + tally.running > 0
    });
    match waits {
        true => "No run has finished yet".to_owned(),
        false => "No run has a number".to_owned(),
    }
}

/// What the values are: their metrics, evaluation sets and stages.
pub(super) fn subject(cells: &Cells<'_>, sources: &[Source]) -> String {
    let mut metrics: Vec<String> = Vec::new();
    for source in sources {
        let words = cells.data.metric(&source.metric).words;
        if !metrics.contains(&words) {
            metrics.push(words);
        }
    }
    let mut words = sentence(&metrics.join(" and "));
    let mut sets: Vec<&str> = Vec::new();
    for source in sources {
        if !sets.contains(&source.set.as_str()) {
            sets.push(&source.set);
        }
    }
    words.push_str(&format!(" on {}", sets.join(" and ")));
    let stages = cells.data.stages();
    if stages.len() > 1 {
        let shown = |stage: &&String| sources.iter().any(|source| source.stage == **stage);
        let shown: Vec<&str> = stages.iter().filter(shown).map(String::as_str).collect();
        if shown.len() > 1 {
            words.push_str(&format!(
                ", at the end of each stage ({})",
                shown.join(", then ")
            ));
        } else if let Some(only) = shown.first() {
            words.push_str(&format!(", at the end of {only}"));
        }
    }
    words
}

/// The head of a column of differences of this source, after a stage and on a set where there are several.
pub(super) fn delta_head(cells: &Cells<'_>, source: &Source) -> String {
    let mut parts = vec!["Δ"];
    if cells.data.stages().len() > 1 {
        parts.push(&source.stage);
    }
    if cells.sets().len() > 1 {
        parts.push(&source.set);
    }
    let short = cells.data.metric(&source.metric).short;
    parts.push(&short);
    parts.join(" ")
}

/// What the differences in these rows are, against what, and what their intervals say. `families`: the comparisons
/// that they are of, a family a column.
pub(super) fn deltas(
    cells: &Cells<'_>,
    source: &Source,
    rows: &[Row],
    families: &[&Family],
) -> Option<String> {
    deltas_against(cells, source, rows, families, &against(cells)?)
}

/// [`deltas`] against what `against` says.
fn deltas_against(
    cells: &Cells<'_>,
    source: &Source,
    rows: &[Row],
    families: &[&Family],
    against: &str,
) -> Option<String> {
    let deltas = || {
        rows.iter()
            .flat_map(|row| &row.cells)
            .filter_map(|cell| match cell {
                Cell::Delta(delta) => Some(delta),
                _ => None,
            })
    };
    deltas().next()?;
    let intervals: Vec<Method> = deltas()
        .filter_map(|delta| delta.interval.map(|(_, method)| method))
        .collect();
    let has = |method| intervals.contains(&method);
    let several = families
        .iter()
        .flat_map(|family| &family.comparisons)
        .filter_map(|own| own.difference.as_ref())
        .any(|own| own.pairing.ours.len() > 1 && own.pairing.theirs.len() > 1);
    let interval = match (has(Method::Paired), has(Method::Welch)) {
        (false, false) if has(Method::Images) => {
            ", in brackets its 95 % interval over the evaluation set's images (bootstrap of the two runs; nothing \
             is known of other seeds)"
        }
        (false, false) if several => "; without a spread over seeds it has no interval",
        (false, false) => "; a single run gives it no interval",
        (true, false) => ", in brackets its 95 % interval (paired t over the shared seeds)",
        (false, true) => ", in brackets its 95 % interval (Welch's t)",
        (true, true) => {
            ", in brackets its 95 % interval (paired t over the seeds that both variants share, Welch's t where those \
             are fewer than two or less than half)"
        }
    };
    let images = match has(Method::Images) && (has(Method::Paired) || has(Method::Welch)) {
        true => {
            "; of two single runs it is a bootstrap over the evaluation set's images, and says nothing of other seeds"
        }
        false => "",
    };
    let metric = cells.data.metric(&source.metric);
    let mut of = String::new();
    if cells.data.stages().len() > 1 {
        of.push_str(&format!(" of {} after {}", metric.short, source.stage));
    }
    let unit = match metric.difference_unit() {
        Some(unit) => format!(", in {unit},"),
        None => String::new(),
    };
    let mut text = format!("Δ: difference{of}{unit} to {against}{interval}{images}");
    text.extend(corrected(families));
    Some(text)
}

/// The baseline, for a sentence.
pub(super) fn against(cells: &Cells<'_>) -> Option<String> {
    let baseline = cells.baseline_words()?;
    let partial = cells
        .baseline
        .as_ref()
        .is_some_and(|labels| labels.iter().any(Option::is_none));
    Some(if partial {
        format!("the otherwise equal variant with {baseline}")
    } else {
        // A variant may be called `baseline`.
        match baseline.as_str() {
            "baseline" => "the baseline".to_owned(),
            _ => format!("the baseline {baseline}"),
        }
    })
}

/// How many comparisons there are, and what is left of them after the correction for their number.
fn corrected(families: &[&Family]) -> Option<String> {
    let planned: usize = families.iter().map(|own| own.comparisons.len()).sum();
    let made: usize = families.iter().map(|own| own.made()).sum();
    let first = families.first()?;
    if made == 0 || families.iter().all(|own| own.comparisons.len() < 2) {
        return None;
    }
    let number = of_planned(made, planned);
    let name = match first.correction {
        Correction::None => {
            return Some(format!("; {number}, not corrected for their number"));
        }
        Correction::Holm => "Holm",
        Correction::Dunnett => "Dunnett",
    };
    let each = match families.len() {
        1 => "",
        _ => ", each column for itself",
    };
    let of_what = match first.over_images {
        true => " of McNemar's mid-p",
        false => "",
    };
    let clear: usize = families.iter().map(|own| own.clear()).sum();
    let found = match clear {
        0 => "none of them differs".to_owned(),
        1 => "1 of them differs".to_owned(),
        clear => format!("{clear} of them differ"),
    };
    let colour = match clear {
        0 => "",
        1 => "; it alone is coloured where there is colour",
        _ => "; these alone are coloured where there is colour",
    };
    Some(format!(
        "; {number}, their intervals not corrected for their number: by the corrected p ({name}{of_what}{each}) \
         {found} from zero{colour}"
    ))
}

/// `1 comparison`, `3 of 6 planned comparisons`.
pub(super) fn of_planned(made: usize, planned: usize) -> String {
    let word = if planned == 1 {
        "comparison"
    } else {
        "comparisons"
    };
    if made == planned {
        format!("{made} {word}")
    } else {
        format!("{made} of {planned} planned {word}")
    }
}

/// What a reader must know of the runs that a table of differences compares: seeds without a partner, and runs
/// that don't vary.
pub(super) fn comparison_notes(cells: &Cells<'_>, families: &[&Family]) -> Vec<String> {
    let name = |index: u32| match cells.variant(index) {
        Some(variant) => cells.display_name(variant),
        None => String::new(),
    };
    // The same seeds are missing for the same reason: one note.
    let mut by_seeds: BTreeMap<Vec<u64>, Vec<String>> = BTreeMap::new();
    let mut still: Vec<String> = Vec::new();
    for comparison in families.iter().flat_map(|family| &family.comparisons) {
        let Some(difference) = &comparison.difference else {
            continue;
        };
        let add = |list: &mut Vec<String>| {
            let own = name(comparison.variant);
            if !list.contains(&own) {
                list.push(own);
            }
        };
        if !difference.pairing.left_out.is_empty() {
            add(by_seeds
                .entry(difference.pairing.left_out.clone())
                .or_default());
        }
        if difference.still {
            add(&mut still);
        }
    }
    let mut notes: Vec<String> = by_seeds
        .into_iter()
        .map(|(seeds, names)| {
            let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
            format!(
                "Compared over the seeds that both variants have, without {} {} that only one of them has: {}",
                if seeds.len() == 1 { "seed" } else { "seeds" },
                shortened(&seeds),
                shortened(&names)
            )
        })
        .collect();
    if !still.is_empty() {
        notes.push(format!(
            "Without an interval and p (t), since the difference is the same for every seed, as if the runs didn't \
             depend on it: {}",
            shortened(&still)
        ));
    }
    notes
}

/// The first few of a list.
fn shortened(names: &[String]) -> String {
    let mut text = names[..names.len().min(NAMED)].join(", ");
    if names.len() > NAMED {
        text.push_str(&format!(" and {} more", names.len() - NAMED));
    }
    text
}

/// What a reader must know of runs that aren't in the numbers.
pub fn footnotes(cells: &Cells<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    let headline = headline(cells);
    let (mut pending, mut running, mut planned) = (0, 0, 0);
    for variant in &cells.variants {
        let tally = variant.tally();
        pending += tally.pending;
        running += tally.running;
        planned += tally.planned;
        if tally.failures() > 0 {
            let classes: Vec<String> = tally
                .failed
                .iter()
                .map(|(class, count)| {
                    let class = class.replace('_', " ");
                    if *count == 1 {
                        class
                    } else {
                        format!("{count} × {class}")
                    }
                })
                .collect();
            notes.push(format!(
                "{}: {} of {} runs failed ({})",
                cells.display_name(variant),
                tally.failures(),
                tally.planned,
                classes.join(", ")
            ));
        }
    }
    for variant in &cells.variants {
        let lost = cells.lost(variant.index, &headline);
        if !lost.is_empty() {
            let seeds: Vec<String> = lost.iter().map(u64::to_string).collect();
            notes.push(format!(
                "{}: {} of {} runs ended with a {} that isn't a finite number and {} counted as failed ({} {})",
                cells.display_name(variant),
                lost.len(),
                variant.runs.len(),
                cells.data.metric(&headline.metric).short,
                if lost.len() == 1 { "is" } else { "are" },
                if lost.len() == 1 { "seed" } else { "seeds" },
                shortened(&seeds)
            ));
        }
    }
    notes.extend(deviations(cells));
    if pending + running > 0 {
        notes.insert(
            0,
            format!("Not final: of {planned} runs, {running} running and {pending} pending"),
        );
    }
    notes
}

/// What was done otherwise than configured, with the runs that it concerns.
fn deviations(cells: &Cells<'_>) -> Vec<String> {
    let mut runs_by_what: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for (run, stage, what) in &cells.data.deviations {
        let runs = runs_by_what.entry((stage, what)).or_default();
        runs.push(run);
    }
    let several = cells.data.stages().len() > 1;
    runs_by_what
        .into_iter()
        .map(|((stage, what), runs)| {
            let place = if several {
                format!(" of stage {stage}")
            } else {
                String::new()
            };
            let runs: Vec<String> = runs.into_iter().map(str::to_owned).collect();
            let names = shortened(&runs);
            format!(
                "Deviation{place}, for memory was short: {what} ({names}); the same batches and draws, sums in \
                 another order"
            )
        })
        .collect()
}

/// Most runs that a footnote names.
const NAMED: usize = 4;
