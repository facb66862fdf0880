//! Tables of an experiment: the pivot that the file asks for, and one row per variant.

use super::cells::{Cells, Source, mark_best};
use super::{Cell, Column, Kind, Row, State, Table, caption};
use crate::report::data::{ExperimentData, Variant, axis_words};
use crate::report::frame::FrameError;

/// Most columns of a pivot that still get a delta column each.
const MAX_PIVOT_DELTAS: usize = 4;

/// The table that answers the experiment: the pivot if the file names columns, else one row per
/// variant. Further test resolutions, which would fill a screen, are left to [`tables`].
pub fn summary_table(data: &ExperimentData) -> Result<Table, FrameError> {
    let cells = Cells::new(data)?;
    Ok(if data.experiment.report.columns.is_empty() {
        long(&cells, "table", false)
    } else {
        pivot(&cells)
    })
}

/// All tables of the experiment, the one of [`summary_table`] first, with every column.
pub fn tables(data: &ExperimentData) -> Result<Vec<Table>, FrameError> {
    let cells = Cells::new(data)?;
    Ok(if data.experiment.report.columns.is_empty() {
        vec![long(&cells, "table", true)]
    } else {
        vec![pivot(&cells), long(&cells, "variants", true)]
    })
}

/// Where the headline number comes from: the first metric after the last stage.
pub(in crate::report) fn headline(cells: &Cells<'_>) -> Source {
    Source {
        stage: cells.data.stages().last().cloned().unwrap_or_default(),
        set: cells.sets().first().cloned().unwrap_or_default(),
        resolution: None,
        metric: cells.data.metrics().first().cloned().unwrap_or_default(),
    }
}

/// One row per variant: labels, the headline metric after each stage, further metrics after the last,
/// n, the delta to the baseline, failed runs.
fn long(cells: &Cells<'_>, name: &str, with_resolutions: bool) -> Table {
    let data = cells.data;
    let headline = headline(cells);
    let by_axis = cells.by_labels();
    let mut sources = sources(cells, &headline);
    if !with_resolutions {
        sources.retain(|source| source.resolution.is_none());
    }
    let mut columns: Vec<Column> = Vec::new();
    let mut push = |head: String, kind| columns.push(Column { head, kind });
    if by_axis {
        data.experiment
            .axes
            .iter()
            .for_each(|axis| push(axis_words(&axis.name), Kind::Label));
    } else {
        push("variant".to_owned(), Kind::Label);
    }
    for source in &sources {
        push(head(cells, source), Kind::Value);
    }
    push("n".to_owned(), Kind::Count);
    let has_baseline = data.experiment.baseline.is_some();
    if has_baseline {
        push(
            format!("Δ {}", cells.data.metric(&headline.metric).short),
            Kind::Delta,
        );
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
                variant.labels.iter().cloned().map(Cell::Label).collect()
            } else {
                vec![Cell::Label(variant.name.to_owned())]
            };
            for (source, decimals) in sources.iter().zip(&decimals) {
                row.push(cells.value(variant, source, *decimals, *source == headline));
            }
            let tally = variant.tally();
            let n = cells.values(variant.index, &headline).len();
            row.push(Cell::Count {
                n,
                of: tally.planned,
            });
            if has_baseline {
                row.push(cells.delta(variant, &headline, headline_decimals));
            }
            row.push(Cell::Failures(tally.failures()));
            Row {
                cells: row,
                is_baseline: cells.is_baseline(variant),
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
    Table {
        name: name.to_owned(),
        title: format!(
            "{} ({} profile)",
            data.experiment.title, data.experiment.profile
        ),
        caption: caption::caption(cells, &headline, &sources, &rows, caption::Best::Column),
        footnotes: caption::footnotes(cells),
        columns,
        rows,
    }
}

/// Sources of the value columns of a long table: the headline metric after each stage in order, then
/// the further metrics after the last stage; each for every evaluation set that has it. Last the headline
/// metric at the further test resolutions of each stage.
fn sources(cells: &Cells<'_>, headline: &Source) -> Vec<Source> {
    let metrics = cells.data.metrics();
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
fn head(cells: &Cells<'_>, source: &Source) -> String {
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

/// Rows and columns by axes, as the file's `report:` says; the headline metric in the cells.
fn pivot(cells: &Cells<'_>) -> Table {
    let data = cells.data;
    let headline = headline(cells);
    let report = &data.experiment.report;
    let column_axes: Vec<usize> = report
        .columns
        .iter()
        .filter_map(|name| data.axis(name))
        .collect();
    let mut row_axes: Vec<usize> = report
        .rows
        .iter()
        .filter_map(|name| data.axis(name))
        .collect();
    // An axis that is named nowhere would put several variants into one cell.
    row_axes.extend(
        (0..data.experiment.axes.len())
            .filter(|axis| !row_axes.contains(axis) && !column_axes.contains(axis))
            .collect::<Vec<_>>(),
    );
    let pick = |variant: &Variant<'_>, axes: &[usize]| -> Vec<String> {
        axes.iter()
            .map(|axis| variant.labels.get(*axis).cloned().unwrap_or_default())
            .collect()
    };
    let distinct = |axes: &[usize]| {
        let mut keys: Vec<(Vec<usize>, Vec<String>)> = Vec::new();
        for variant in &cells.variants {
            let labels = pick(variant, axes);
            if keys.iter().all(|(_, known)| *known != labels) {
                let order = axes
                    .iter()
                    .zip(&labels)
                    .map(|(axis, label)| {
                        let known = &data.experiment.axes[*axis].labels;
                        known
                            .iter()
                            .position(|other| other == label)
                            .unwrap_or(known.len())
                    })
                    .collect();
                keys.push((order, labels));
            }
        }
        keys.sort_by(|a, b| a.0.cmp(&b.0));
        keys.into_iter()
            .map(|(_, labels)| labels)
            .collect::<Vec<_>>()
    };
    let row_keys = distinct(&row_axes);
    let column_keys = distinct(&column_axes);
    let decimals = cells.decimals(&headline);

    // A column's deltas make sense where the baseline is another column of the same row.
    let baseline_column = data.experiment.baseline.as_ref().and_then(|baseline| {
        let given = |axis: &usize| baseline.get(*axis).cloned().flatten();
        let wanted: Option<Vec<String>> = column_axes.iter().map(given).collect();
        let wanted = wanted?;
        (!wanted.is_empty() && row_axes.iter().all(|axis| given(axis).is_none()))
            .then(|| column_keys.iter().position(|key| *key == wanted))
            .flatten()
    });
    let with_deltas = baseline_column.is_some() && column_keys.len() <= MAX_PIVOT_DELTAS;

    let metric = cells.data.metric(&headline.metric);
    let mut columns: Vec<Column> = row_axes
        .iter()
        .map(|axis| Column {
            head: axis_words(&data.experiment.axes[*axis].name),
            kind: Kind::Label,
        })
        .collect();
    for key in &column_keys {
        columns.push(Column {
            head: key.join(", "),
            kind: Kind::Value,
        });
    }
    if with_deltas {
        for (position, key) in column_keys.iter().enumerate() {
            if Some(position) != baseline_column {
                columns.push(Column {
                    head: format!("Δ {}", key.join(", ")),
                    kind: Kind::Delta,
                });
            }
        }
    }
    let mut rows: Vec<Row> = row_keys
        .iter()
        .map(|row_key| {
            let mut row: Vec<Cell> = row_key.iter().cloned().map(Cell::Label).collect();
            let variants: Vec<Option<&Variant<'_>>> = column_keys
                .iter()
                .map(|column_key| {
                    cells.variants.iter().find(|variant| {
                        pick(variant, &row_axes) == *row_key
                            && pick(variant, &column_axes) == *column_key
                    })
                })
                .collect();
            row.extend(variants.iter().map(|variant| match variant {
                Some(variant) => cells.value(variant, &headline, decimals, false),
                None => Cell::State(State::Missing),
            }));
            if with_deltas {
                row.extend(
                    variants
                        .iter()
                        .enumerate()
                        .filter(|(position, _)| Some(*position) != baseline_column)
                        .map(|(_, variant)| match variant {
                            Some(variant) => cells.delta(variant, &headline, decimals),
                            None => Cell::State(State::Missing),
                        }),
                );
            }
            Row {
                cells: row,
                is_baseline: false,
            }
        })
        .collect();

    let values = row_axes.len()..row_axes.len() + column_keys.len();
    let best = if baseline_column.is_some() {
        caption::Best::Row
    } else {
        caption::Best::Column
    };
    match best {
        caption::Best::Row => {
            for row in &mut rows {
                mark_best(
                    &mut row.cells[values.clone()].iter_mut().collect::<Vec<_>>(),
                    &metric,
                );
            }
        }
        caption::Best::Column => {
            for column in values {
                let mut column: Vec<&mut Cell> =
                    rows.iter_mut().map(|row| &mut row.cells[column]).collect();
                mark_best(&mut column, &metric);
            }
        }
    }
    Table {
        name: "table".to_owned(),
        title: format!(
            "{} ({} profile)",
            data.experiment.title, data.experiment.profile
        ),
        caption: caption::caption(
            cells,
            &headline,
            std::slice::from_ref(&headline),
            &rows,
            best,
        ),
        footnotes: caption::footnotes(cells),
        columns,
        rows,
    }
}
