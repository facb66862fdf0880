//! The words under a table: what the numbers are, over how many runs, against what.

use super::cells::{Cells, Source};
use super::{Cell, MARKED, Row};
use crate::report::metric::Metric;
use crate::report::statistics::Method;
use crate::report::text::sentence;
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
    let metric = cells.data.metric(&headline.metric);
    let all = || rows.iter().flat_map(|row| &row.cells);
    let values = || {
        all().filter_map(|cell| match cell {
            Cell::Value(value) => Some(value),
            _ => None,
        })
    };
    let mut sentences = vec![subject(cells, sources)];
    if sources.iter().any(|source| source.resolution.is_some()) {
        sentences
            .push("\u{201c}At … px\u{201d}: the same weights at that test resolution".to_owned());
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
        _ => sentences.push("No run has finished yet".to_owned()),
    }
    sentences.extend(deltas(cells, &metric, rows));
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
    let several = sources
        .iter()
        .any(|source| source.stage != sources[0].stage);
    if several {
        words.push_str(&format!(
            ", at the end of each stage ({})",
            stages.join(", then ")
        ));
    } else if let [.., last] = stages
        && stages.len() > 1
    {
        words.push_str(&format!(", at the end of {last}"));
    }
    words
}

pub(super) fn deltas(cells: &Cells<'_>, metric: &Metric, rows: &[Row]) -> Option<String> {
    let deltas = || {
        rows.iter()
            .flat_map(|row| &row.cells)
            .filter_map(|cell| match cell {
                Cell::Delta(delta) => Some(delta),
                _ => None,
            })
    };
    deltas().next()?;
    let baseline = cells.baseline_words()?;
    let partial = cells
        .baseline
        .as_ref()
        .is_some_and(|labels| labels.iter().any(Option::is_none));
    let against = if partial {
        format!("the otherwise equal variant with {baseline}")
    } else {
        // A variant may be called `baseline`.
        match baseline.as_str() {
            "baseline" => "the baseline".to_owned(),
            _ => format!("the baseline {baseline}"),
        }
    };
    let intervals: Vec<Method> = deltas()
        .filter_map(|delta| delta.interval.map(|(_, method)| method))
        .collect();
    let has = |method| intervals.contains(&method);
    let interval = match (has(Method::Paired), has(Method::Welch)) {
        (false, false) if has(Method::Images) => {
            ", in brackets its 95 % interval over the evaluation set's images (bootstrap of the two runs; nothing \
             is known of other seeds)"
        }
        (false, false) => "; a single run per variant gives it no interval",
        (true, false) => ", in brackets its 95 % interval (paired t over the shared seeds)",
        (false, true) => ", in brackets its 95 % interval (Welch's t)",
        (true, true) => {
            ", in brackets its 95 % interval (paired t where the same seeds finished in both variants, Welch's t \
             elsewhere)"
        }
    };
    let points = if metric.is_accuracy {
        ", in percentage points,"
    } else {
        ""
    };
    let mut text = format!("Δ: difference{points} to {against}{interval}");
    if intervals.len() > 1 {
        text.push_str(&format!(
            "; {} comparisons, not corrected for their number",
            intervals.len()
        ));
    }
    Some(text)
}

/// What a reader must know of runs that aren't in the numbers.
pub fn footnotes(cells: &Cells<'_>) -> Vec<String> {
    let mut notes = Vec::new();
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
            let mut names = runs[..runs.len().min(NAMED)].join(", ");
            if runs.len() > NAMED {
                names.push_str(&format!(" and {} more", runs.len() - NAMED));
            }
            format!(
                "Deviation{place}, for memory was short: {what} ({names}); the same batches and draws, sums in \
                 another order"
            )
        })
        .collect()
}

/// Most runs that a footnote names.
const NAMED: usize = 4;
