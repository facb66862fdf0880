//! A pivot: axes along rows and columns, metrics in the cells.

use super::best::mark_best;
use super::build::{headline, pivot_columns, title};
use super::cells::{Cells, Source};
use super::variants::head;
use super::{Cell, Column, Kind, Row, State, Table, caption};
use crate::report::data::Variant;
use crate::spec::report::TableSpec;
use std::collections::{HashMap, HashSet};

/// Most columns of a pivot that still get a delta column each.
const MAX_PIVOT_DELTAS: usize = 4;

/// Rows and columns by axes, as the file's `report:` says; of every metric a group of columns.
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
    let is_baseline = |variant: &&Variant<'_>| cells.is_baseline(variant);
    let in_column = |key: &Vec<String>| {
        let own = found.iter().filter(|((_, column), _)| column == key);
        own.map(|(_, variant)| *variant).collect::<Vec<_>>()
    };
    // A column of nothing but baselines: the others of its row are compared with it.
    let of_baselines: Vec<bool> = column_keys
        .iter()
        .map(|key| in_column(key).iter().all(is_baseline))
        .collect();
    let across = of_baselines.contains(&true) && of_baselines.contains(&false);
    let with_deltas = cells.baseline.is_some() && column_keys.len() <= MAX_PIVOT_DELTAS;
    let delta_columns: Vec<usize> = (0..column_keys.len())
        .filter(|column| with_deltas && !of_baselines[*column])
        .collect();

    // One group of columns for every metric, with the differences of the first.
    let sources: Vec<Source> = cells
        .metrics
        .iter()
        .map(|metric| Source {
            metric: metric.clone(),
            ..headline.clone()
        })
        .collect();
    let mut columns: Vec<Column> = named_axes
        .iter()
        .map(|axis| Column::new(data.axis_words(*axis), Kind::Label))
        .collect();
    for (position, source) in sources.iter().enumerate() {
        let metric = head(cells, source);
        let group = (sources.len() > 1).then(|| metric.clone());
        let mut push = |head: String, kind| {
            columns.push(Column {
                group: group.clone(),
                ..Column::new(head, kind)
            });
        };
        for key in &column_keys {
            let head = match (key.is_empty(), &group) {
                (true, None) => metric.clone(),
                _ => key.join(", "),
            };
            push(head, Kind::Value);
        }
        for column in delta_columns.iter().filter(|_| position == 0) {
            let head = format!("Δ {}", column_keys[*column].join(", "));
            push(head.trim_end().to_owned(), Kind::Delta);
        }
    }
    let decimals: Vec<usize> = sources
        .iter()
        .map(|source| cells.decimals(source))
        .collect();
    let mut rows: Vec<Row> = row_keys
        .iter()
        .map(|row_key| {
            let (group, labels) = row_key.split_at(usize::from(groups.is_some()));
            let mut row: Vec<Cell> = labels.iter().cloned().map(Cell::Label).collect();
            let variants: Vec<Option<&Variant<'_>>> = column_keys
                .iter()
                .map(|column_key| found.get(&(row_key.clone(), column_key.clone())).copied())
                .collect();
            let missing = || Cell::State(State::Missing);
            for (position, (source, decimals)) in sources.iter().zip(&decimals).enumerate() {
                row.extend(variants.iter().map(|variant| match variant {
                    Some(variant) => cells.value(variant, source, *decimals, false),
                    None => missing(),
                }));
                let deltas = delta_columns.iter().filter(|_| position == 0);
                row.extend(deltas.map(|column| match variants[*column] {
                    Some(variant) => cells.delta(variant, source, *decimals),
                    None => missing(),
                }));
            }
            let group = group
                .first()
                .zip(groups)
                .map(|(label, axis)| format!("{} {label}", data.axis_words(axis)));
            Row {
                group,
                ..Row::new(row)
            }
        })
        .collect();

    let best = match across {
        true => caption::Best::Row,
        false => caption::Best::Column,
    };
    let mut first = named_axes.len();
    for (position, source) in sources.iter().enumerate() {
        let metric = data.metric(&source.metric);
        let values = first..first + column_keys.len();
        match best {
            caption::Best::Row => {
                for row in &mut rows {
                    let mut cells: Vec<&mut Cell> = row.cells[values.clone()].iter_mut().collect();
                    mark_best(&mut cells, &metric);
                }
            }
            caption::Best::Column => {
                for column in values.clone() {
                    let mut column: Vec<&mut Cell> =
                        rows.iter_mut().map(|row| &mut row.cells[column]).collect();
                    mark_best(&mut column, &metric);
                }
            }
        }
        first = values.end
            + if position == 0 {
                delta_columns.len()
            } else {
                0
            };
    }
    let mut caption = caption::caption(cells, &headline, &sources, &rows, best);
    let mut footnotes = caption::footnotes(cells);
    if with_deltas {
        let family = cells.family(&headline);
        footnotes.extend(caption::comparison_notes(cells, &[&family]));
    } else if let Some(baseline) = cells.baseline_words() {
        caption.push_str(&format!(
            " Differences to {baseline} are too many for this table{}.",
            match report.tables {
                None => " and stand in that of the variants",
                Some(_) => "",
            }
        ));
    }
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
