//! One row per variant.

use super::best::mark_best;
use super::build::{headline, title};
use super::cells::{Cells, Source};
use super::{Cell, Column, Kind, Row, Table, caption};
use crate::report::data::Variant;
use crate::spec::report::{TableSpec, Tick};

/// One row per variant: labels, the headline metric after each stage, further metrics after the last,
/// n, the delta to the baseline, failed runs.
pub fn table(cells: &Cells<'_>, spec: &TableSpec, brief: bool) -> Table {
    let data = cells.data;
    let headline = headline(cells);
    let by_axis = cells.by_labels();
    let groups = spec.groups.as_deref().and_then(|name| data.axis(name));
    let mut sources = sources(cells, &headline);
    if brief {
        sources.retain(|source| source.resolution.is_none());
    }
    let mut columns: Vec<Column> = Vec::new();
    let mut push = |head: String, kind| columns.push(Column::new(head, kind));
    if by_axis {
        for index in 0..data.experiment.axes.len() {
            if Some(index) != groups {
                push(data.axis_words(index), Kind::Label);
            }
        }
    } else {
        push("variant".to_owned(), Kind::Label);
    }
    // What an axis that the experiment hasn't any more stood for, nobody can say.
    let ticks: Vec<(usize, &Tick)> = spec
        .ticks
        .iter()
        .filter_map(|tick| Some((data.axis(&tick.axis)?, tick)))
        .collect();
    for (_, tick) in &ticks {
        push(tick.part.clone(), Kind::Word);
    }
    for source in &sources {
        push(head(cells, source), Kind::Value);
    }
    push("n".to_owned(), Kind::Count);
    let has_baseline = cells.baseline.is_some();
    if has_baseline {
        push(caption::delta_head(cells, &headline), Kind::Delta);
    }
    push("failed".to_owned(), Kind::Count);

    let decimals: Vec<usize> = sources
        .iter()
        .map(|source| cells.decimals(source))
        .collect();
    let headline_decimals = cells.decimals(&headline);
    let mut rows: Vec<Row> = cells
        .variants
        .iter()
        .map(|variant| {
            let mut row: Vec<Cell> = if by_axis {
                let labels = variant.labels.iter().enumerate();
                labels
                    .filter(|(index, _)| Some(*index) != groups)
                    .map(|(_, label)| Cell::Label(label.clone()))
                    .collect()
            } else {
                vec![Cell::Label(variant.name.to_owned())]
            };
            row.extend(ticks.iter().map(|(axis, tick)| {
                let label = variant.labels.get(*axis);
                Cell::tick(label.is_some_and(|label| tick.labels.contains(label)))
            }));
            let n = cells.values(variant.index, &headline).len();
            for (source, decimals) in sources.iter().zip(&decimals) {
                // The column for n speaks for all that have as many.
                let has_n = cells.values(variant.index, source).len() == n;
                row.push(cells.value(variant, source, *decimals, has_n));
            }
            row.push(Cell::Count {
                n,
                of: variant.runs.len(),
            });
            if has_baseline {
                row.push(cells.delta(variant, &headline, headline_decimals));
            }
            row.push(Cell::Failures(cells.failures(variant, &headline)));
            Row {
                cells: row,
                is_baseline: cells.is_baseline(variant),
                group: groups.and_then(|axis| group(cells, variant, axis)),
            }
        })
        .collect();

    let first_value = columns
        .iter()
        .position(|column| column.kind == Kind::Value)
        .unwrap_or_default();
    for (offset, source) in sources.iter().enumerate() {
        let mut column: Vec<&mut Cell> = rows
            .iter_mut()
            .map(|row| &mut row.cells[first_value + offset])
            .collect();
        mark_best(&mut column, &cells.data.metric(&source.metric));
    }
    let mut footnotes = caption::footnotes(cells);
    footnotes.extend(caption::comparison_notes(
        cells,
        &[&cells.family(&headline)],
    ));
    Table {
        name: spec.name.clone(),
        title: title(cells, ""),
        caption: caption::caption(cells, &headline, &sources, &rows, caption::Best::Column),
        footnotes,
        columns,
        rows,
        experiment: String::new(),
        transposed: false,
    }
}

/// Sources of the value columns of a long table: the headline metric after each stage in order, then
/// the further metrics after the last stage; each for every evaluation set that has it. Last the headline
/// metric at the further test resolutions of each stage.
pub(super) fn sources(cells: &Cells<'_>, headline: &Source) -> Vec<Source> {
    let metrics = cells.metrics.clone();
    let stages = cells.data.stages();
    let mut sources = Vec::new();
    let mut push = |stage: &String, metric: &String| {
        for (position, set) in cells.sets().iter().enumerate() {
            let source = Source {
                stage: stage.clone(),
                set: set.clone(),
                resolution: None,
                metric: metric.clone(),
            };
            // Not every set is evaluated after every stage, nor has every metric.
            if !sources.contains(&source) && (position == 0 || cells.has(&source)) {
                sources.push(source);
            }
        }
    };
    for stage in stages {
        push(stage, &headline.metric);
    }
    if let Some(last) = stages.last() {
        metrics.iter().for_each(|metric| push(last, metric));
    }
    for stage in stages {
        sources.extend(cells.resolutions(stage).map(|resolution| Source {
            stage: stage.clone(),
            set: "val".to_owned(),
            resolution: Some(resolution),
            metric: headline.metric.clone(),
        }));
    }
    sources
}

/// Head of a value column: the metric, and the stage and set where there are several.
pub(super) fn head(cells: &Cells<'_>, source: &Source) -> String {
    let mut parts = Vec::new();
    if cells.data.stages().len() > 1 {
        parts.push(source.stage.as_str());
    }
    // "loss" alone could be the training loss, or an axis of that name.
    if cells.sets().len() > 1 || source.metric == "loss" {
        parts.push(source.set.as_str());
    }
    let metric = cells.data.metric(&source.metric);
    if let Some(resolution) = source.resolution {
        // The width of these many columns counts; their unit is that of the headline.
        parts.retain(|part| *part != "val");
        parts.push(&metric.short);
        return format!("{} at {resolution} px", parts.join(" "));
    }
    if parts.is_empty() {
        metric.head
    } else {
        format!("{} {}", parts.join(" "), metric.head)
    }
}

/// The head over the rows of a variant's group.
pub(super) fn group(cells: &Cells<'_>, variant: &Variant<'_>, axis: usize) -> Option<String> {
    let name = cells.data.axis_words(axis);
    Some(format!("{name} {}", variant.labels.get(axis)?))
}
