//! A pivot: axes along rows and columns, the headline metric in the cells.

use super::build::{headline, pivot_columns, title};
use super::cells::{Cells, mark_best};
use super::{Cell, Column, Kind, Row, State, Table, caption};
use crate::report::data::{Variant, axis_words};
use crate::spec::report::TableSpec;
use std::collections::{HashMap, HashSet};

/// Most columns of a pivot that still get a delta column each.
const MAX_PIVOT_DELTAS: usize = 4;

/// Rows and columns by axes, as the file's `report:` says; the headline metric in the cells.
pub fn table(cells: &Cells<'_>, spec: &TableSpec) -> Table {
    let data = cells.data;
    let headline = headline(cells);
    let report = &data.experiment.report;
    let columns = pivot_columns(cells, spec);
    let rows = match spec.rows.is_empty() {
        true => &report.rows,
        false => &spec.rows,
    };
    let column_axes: Vec<usize> = columns.iter().filter_map(|name| data.axis(name)).collect();
    let mut row_axes: Vec<usize> = rows
        .iter()
        .filter_map(|name| data.axis(name))
        .filter(|axis| !column_axes.contains(axis))
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
    let distinct = |axes: &[usize], in_order: bool| {
        let mut known = HashSet::new();
        let mut keys: Vec<(Vec<usize>, Vec<String>)> = Vec::new();
        for variant in &cells.variants {
            let labels = pick(variant, axes);
            if known.insert(labels.clone()) {
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
        if in_order {
            keys.sort_by(|a, b| a.0.cmp(&b.0));
        }
        keys.into_iter()
            .map(|(_, labels)| labels)
            .collect::<Vec<_>>()
    };
    let groups = spec.groups.as_deref().and_then(|name| data.axis(name));
    let groups = groups.filter(|axis| row_axes.contains(axis));
    // The groups come first, so that the rows of each are together.
    row_axes.sort_by_key(|axis| Some(*axis) != groups);
    let named_axes: Vec<usize> = row_axes
        .iter()
        .copied()
        .filter(|axis| Some(*axis) != groups)
        .collect();
    let row_keys = distinct(&row_axes, spec.sort.is_none());
    let column_keys = distinct(&column_axes, true);
    let found: HashMap<(Vec<String>, Vec<String>), &Variant<'_>> = cells
        .variants
        .iter()
        .rev()
        .map(|variant| {
            let key = (pick(variant, &row_axes), pick(variant, &column_axes));
            (key, variant)
        })
        .collect();
    let decimals = cells.decimals(&headline);

    // A column's deltas make sense where the baseline is another column of the same row.
    let baseline_column = cells.baseline.as_ref().and_then(|baseline| {
        let given = |axis: &usize| baseline.get(*axis).cloned().flatten();
        let wanted: Option<Vec<String>> = column_axes.iter().map(given).collect();
        let wanted = wanted?;
        (!wanted.is_empty() && row_axes.iter().all(|axis| given(axis).is_none()))
            .then(|| column_keys.iter().position(|key| *key == wanted))
            .flatten()
    });
    let with_deltas = baseline_column.is_some() && column_keys.len() <= MAX_PIVOT_DELTAS;

    let metric = cells.data.metric(&headline.metric);
    let mut columns: Vec<Column> = named_axes
        .iter()
        .map(|axis| Column::new(axis_words(&data.experiment.axes[*axis].name), Kind::Label))
        .collect();
    for key in &column_keys {
        columns.push(Column::new(key.join(", "), Kind::Value));
    }
    if with_deltas {
        for (position, key) in column_keys.iter().enumerate() {
            if Some(position) != baseline_column {
                columns.push(Column::new(format!("Δ {}", key.join(", ")), Kind::Delta));
            }
        }
    }
    let mut rows: Vec<Row> = row_keys
        .iter()
        .map(|row_key| {
            let (group, labels) = row_key.split_at(usize::from(groups.is_some()));
            let mut row: Vec<Cell> = labels.iter().cloned().map(Cell::Label).collect();
            let variants: Vec<Option<&Variant<'_>>> = column_keys
                .iter()
                .map(|column_key| found.get(&(row_key.clone(), column_key.clone())).copied())
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
            let group = group.first().zip(groups).map(|(label, axis)| {
                format!("{} {label}", axis_words(&data.experiment.axes[axis].name))
            });
            Row {
                group,
                ..Row::new(row)
            }
        })
        .collect();

    let values = named_axes.len()..named_axes.len() + column_keys.len();
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
        name: spec.name.clone(),
        title: title(cells, ""),
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
        experiment: String::new(),
        transposed: false,
    }
}
