//! Designs that change one thing after another: the ingredient table and the roadmap.

use super::best::mark_best;
use super::build::{headline, title};
use super::cells::Cells;
use super::family::Family;
use super::variants::{head, sources};
use super::{Cell, Column, Kind, Row, Table, caption};
use crate::report::data::Variant;
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
        for axis in 0..axes.len() {
            columns.push(Column::new(cells.data.axis_words(axis), Kind::Word));
        }
    } else {
        columns.push(Column::new("change", Kind::Label));
        columns.push(Column::new("from", Kind::Label));
        columns.push(Column::new("to", Kind::Label));
    }
    let labels = |variant: &Variant<'_>| -> Vec<Cell> {
        if marks {
            let mut row = vec![Cell::Label(variant.name.to_owned())];
            row.extend(
                variant
                    .labels
                    .iter()
                    .map(|label| Cell::tick(label != "off")),
            );
            return row;
        }
        let (change, from, to) = change(cells, variant);
        vec![Cell::Label(change), Cell::Label(from), Cell::Label(to)]
    };
    let family = cells.family(&headline(cells));
    let baseline = |_: usize, variant: &Variant<'_>| {
        cells
            .baseline(variant)
            .filter(|other| *other != variant.index)
    };
    let deltas = match cells.baseline.is_some() {
        true => vec![(
            String::new(),
            Against {
                family: &family,
                other: &baseline,
            },
        )],
        false => Vec::new(),
    };
    steps(
        cells,
        spec,
        columns,
        (&deltas, caption::against(cells)),
        labels,
    )
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
    for position in 0..cells.data.experiment.axes.len() {
        let (Some(theirs), Some(ours)) =
            (baseline.labels.get(position), variant.labels.get(position))
        else {
            continue;
        };
        if theirs != ours {
            axes.push(cells.data.axis_words(position));
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
    let index = |position: usize| cells.variants.get(position).map(|variant| variant.index);
    let before = |position: usize, _: &Variant<'_>| index(position.checked_sub(1)?);
    let start = |position: usize, _: &Variant<'_>| index(0).filter(|_| position > 0);
    let source = headline(cells);
    let family = |other: &dyn Fn(usize, &Variant<'_>) -> Option<u32>| {
        let pairs: Vec<(u32, u32)> = cells
            .variants
            .iter()
            .enumerate()
            .filter_map(|(position, variant)| Some((variant.index, other(position, variant)?)))
            .collect();
        Family::of(cells, &source, &pairs)
    };
    let (steps_before, steps_in_all) = (family(&before), family(&start));
    let deltas = [
        (
            " step".to_owned(),
            Against {
                family: &steps_before,
                other: &before,
            },
        ),
        (
            " total".to_owned(),
            Against {
                family: &steps_in_all,
                other: &start,
            },
        ),
    ];
    let against = "the row above (Δ step) and to the first row (Δ total)".to_owned();
    steps(cells, spec, columns, (&deltas, Some(against)), labels)
}

/// What the differences of a column are taken against.
struct Against<'a> {
    /// Its comparisons.
    family: &'a Family,
    /// The variant that the one in this row is compared with; `None` for the baseline itself.
    other: &'a dyn Fn(usize, &Variant<'_>) -> Option<u32>,
}

/// A table of variants in their order: labels, metrics after the last stage, n, deltas, failed runs. `deltas`: the
/// columns of differences, with what their heads say beside the metric, and what they are to.
fn steps(
    cells: &Cells<'_>,
    spec: &TableSpec,
    mut columns: Vec<Column>,
    (deltas, against): (&[(String, Against<'_>)], Option<String>),
    labels: impl Fn(&Variant<'_>) -> Vec<Cell>,
) -> Table {
    let headline = headline(cells);
    let mut sources = sources(cells, &headline);
    sources.retain(|source| source.resolution.is_none());
    let first_value = columns.len();
    for source in &sources {
        columns.push(Column::new(head(cells, source), Kind::Value));
    }
    columns.push(Column::new("n", Kind::Count));
    for (what, _) in deltas {
        let head = caption::delta_head(cells, &headline);
        columns.push(Column::new(
            head.replacen('Δ', &format!("Δ{what}"), 1),
            Kind::Delta,
        ));
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
            let n = cells.values(variant.index, &headline).len();
            for (source, decimals) in sources.iter().zip(&decimals) {
                let has_n = cells.values(variant.index, source).len() == n;
                row.push(cells.value(variant, source, *decimals, has_n));
            }
            row.push(Cell::Count {
                n,
                of: variant.runs.len(),
            });
            row.extend(deltas.iter().map(|(_, against)| {
                match (against.other)(position, variant) {
                    Some(other) => cells.delta_of(
                        against.family,
                        (variant.index, other),
                        &headline,
                        headline_decimals,
                    ),
                    None => Cell::Baseline,
                }
            }));
            row.push(Cell::Failures(cells.failures(variant, &headline)));
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
    let families: Vec<&Family> = deltas.iter().map(|(_, against)| against.family).collect();
    let caption = caption::caption_of(
        cells,
        (&headline, &sources),
        &rows,
        caption::Best::Column,
        (&families, against.as_deref()),
    );
    let mut footnotes = caption::footnotes(cells);
    footnotes.extend(caption::comparison_notes(cells, &families));
    Table {
        name: spec.name.clone(),
        title: title(cells, ""),
        caption,
        footnotes,
        columns,
        rows,
        experiment: String::new(),
        transposed: false,
    }
}
