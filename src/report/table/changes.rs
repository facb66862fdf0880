//! Designs that change one thing after another: the ingredient table and the roadmap.

use super::build::{headline, title};
use super::cells::{Cells, Source, mark_best};
use super::variants::{head, sources};
use super::{Cell, Column, Kind, Row, Table, Tone, caption};
use crate::report::data::{Variant, axis_words};
use crate::spec::report::{DesignKind, TableSpec};

/// Most axes that get a column of their own in an ingredient table of `leave_one_out`.
const MOST_MARKS: usize = 12;

/// One row per changed ingredient: what is changed, the metrics, the delta to the baseline.
/// `leave_one_out` has a mark per ingredient, as the tables of the field do.
pub fn ingredients(cells: &Cells<'_>, spec: &TableSpec) -> Table {
    let axes = &cells.data.experiment.axes;
    let marks = cells.data.experiment.report.design == DesignKind::LeaveOneOut
        && axes.len() <= MOST_MARKS
        && cells
            .variants
            .iter()
            .all(|variant| variant.labels.len() == axes.len());
    let mut columns = Vec::new();
    if marks {
        columns.push(Column::new("recipe", Kind::Label));
        for axis in axes {
            columns.push(Column::new(axis_words(&axis.name), Kind::Word));
        }
    } else {
        columns.push(Column::new("change", Kind::Label));
        columns.push(Column::new("from", Kind::Label));
        columns.push(Column::new("to", Kind::Label));
    }
    let labels = |variant: &Variant<'_>| -> Vec<Cell> {
        if marks {
            let mut row = vec![Cell::Label(variant.name.to_owned())];
            row.extend(variant.labels.iter().map(|label| match label.as_str() {
                "off" => Cell::Word("–".to_owned(), Tone::Faint),
                _ => Cell::Word("✓".to_owned(), Tone::Plain),
            }));
            return row;
        }
        let (change, from, to) = change(cells, variant);
        vec![Cell::Label(change), Cell::Label(from), Cell::Label(to)]
    };
    let delta = |variant: &Variant<'_>, _: usize, source: &Source, decimals: usize| {
        vec![cells.delta(variant, source, decimals)]
    };
    let deltas = match cells.baseline.is_some() {
        true => &["Δ"][..],
        false => &[],
    };
    let mut table = steps(cells, spec, columns, deltas, labels, delta);
    table.title = title(cells, "");
    table
}

/// What a variant has otherwise than its baseline: axes, the baseline's labels, its own.
fn change(cells: &Cells<'_>, variant: &Variant<'_>) -> (String, String, String) {
    let baseline = cells
        .baseline(variant)
        .and_then(|index| cells.variant(index));
    let Some(baseline) = baseline.filter(|baseline| baseline.index != variant.index) else {
        return (variant.name.to_owned(), String::new(), String::new());
    };
    let (mut axes, mut from, mut to) = (Vec::new(), Vec::new(), Vec::new());
    for (position, axis) in cells.data.experiment.axes.iter().enumerate() {
        let (Some(theirs), Some(ours)) =
            (baseline.labels.get(position), variant.labels.get(position))
        else {
            continue;
        };
        if theirs != ours {
            axes.push(axis_words(&axis.name));
            from.push(theirs.as_str());
            to.push(ours.as_str());
        }
    }
    (axes.join(", "), from.join(", "), to.join(", "))
}

/// One row per step of a path: the metrics, the delta to the step before and that to the start.
pub fn roadmap(cells: &Cells<'_>, spec: &TableSpec) -> Table {
    let columns = vec![Column::new("step", Kind::Label)];
    let labels = |variant: &Variant<'_>| vec![Cell::Label(variant.name.to_owned())];
    let delta = |variant: &Variant<'_>, position: usize, source: &Source, decimals: usize| {
        let before = position
            .checked_sub(1)
            .map(|before| cells.variants[before].index);
        let to = |other: Option<u32>| match other {
            Some(other) => cells.delta_to(variant.index, other, source, decimals),
            None => Cell::Baseline,
        };
        let first = cells.variants.first().map(|first| first.index);
        vec![
            to(before),
            to(first.filter(|first| *first != variant.index)),
        ]
    };
    let mut table = steps(cells, spec, columns, &["Δ step", "Δ total"], labels, delta);
    table.title = title(cells, "");
    table
}

/// A table of variants in their order: labels, metrics after the last stage, n, deltas, failed runs.
fn steps(
    cells: &Cells<'_>,
    spec: &TableSpec,
    mut columns: Vec<Column>,
    deltas: &[&str],
    labels: impl Fn(&Variant<'_>) -> Vec<Cell>,
    delta: impl Fn(&Variant<'_>, usize, &Source, usize) -> Vec<Cell>,
) -> Table {
    let headline = headline(cells);
    let mut sources = sources(cells, &headline);
    sources.retain(|source| source.resolution.is_none());
    let first_value = columns.len();
    for source in &sources {
        columns.push(Column::new(head(cells, source), Kind::Value));
    }
    columns.push(Column::new("n", Kind::Count));
    let short = cells.data.metric(&headline.metric).short;
    for head in deltas {
        columns.push(Column::new(format!("{head} {short}"), Kind::Delta));
    }
    columns.push(Column::new("failed", Kind::Count));
    let decimals: Vec<usize> = sources
        .iter()
        .map(|source| cells.decimals(source))
        .collect();
    let headline_decimals = cells.decimals(&headline);
    let mut rows: Vec<Row> = cells
        .variants
        .iter()
        .enumerate()
        .map(|(position, variant)| {
            let mut row = labels(variant);
            for (source, decimals) in sources.iter().zip(&decimals) {
                row.push(cells.value(variant, source, *decimals, *source == headline));
            }
            let tally = variant.tally();
            row.push(Cell::Count {
                n: cells.values(variant.index, &headline).len(),
                of: tally.planned,
            });
            if !deltas.is_empty() {
                row.extend(delta(variant, position, &headline, headline_decimals));
            }
            row.push(Cell::Failures(tally.failures()));
            Row {
                is_baseline: cells.is_baseline(variant),
                ..Row::new(row)
            }
        })
        .collect();
    for (offset, source) in sources.iter().enumerate() {
        let mut column: Vec<&mut Cell> = rows
            .iter_mut()
            .map(|row| &mut row.cells[first_value + offset])
            .collect();
        mark_best(&mut column, &cells.data.metric(&source.metric));
    }
    let mut caption = caption::caption(cells, &headline, &sources, &rows, caption::Best::Column);
    if deltas.len() > 1 {
        caption.push_str(" Δ step: against the row above; Δ total: against the first row.");
    }
    Table {
        name: spec.name.clone(),
        title: String::new(),
        caption,
        footnotes: caption::footnotes(cells),
        columns,
        rows,
        experiment: String::new(),
        transposed: false,
    }
}
