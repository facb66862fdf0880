//! The train/test resolution curve as a table: one row per variant, one column per test resolution.

use super::best::mark_best;
use super::build::{headline, title};
use super::cells::{Cells, Source};
use super::variants::group;
use super::{Cell, Column, Kind, Row, Table, caption};
use crate::spec::report::TableSpec;

/// The table; or why there is none.
pub fn table(cells: &Cells<'_>, spec: &TableSpec) -> Result<Table, String> {
    let data = cells.data;
    let headline = headline(cells);
    let stages = data.stages();
    let sources: Vec<Source> = stages
        .iter()
        .flat_map(|stage| {
            cells.resolutions(stage).map(|resolution| Source {
                stage: stage.clone(),
                set: "val".to_owned(),
                resolution: Some(resolution),
                metric: headline.metric.clone(),
            })
        })
        .collect();
    if sources.is_empty() {
        return Err("no stage has results at several test resolutions".to_owned());
    }
    let groups = spec.groups.as_deref().and_then(|name| data.axis(name));
    let by_axis = cells.by_labels();
    let mut columns = Vec::new();
    if by_axis {
        for index in 0..data.experiment.axes.len() {
            if Some(index) != groups {
                columns.push(Column::new(data.axis_words(index), Kind::Label));
            }
        }
    } else {
        columns.push(Column::new("variant", Kind::Label));
    }
    let first_value = columns.len();
    for source in &sources {
        let resolution = source.resolution.unwrap_or_default();
        columns.push(Column {
            group: Some(format!("{} tested at", source.stage)),
            ..Column::new(format!("{resolution} px"), Kind::Value)
        });
    }
    let decimals: Vec<usize> = sources
        .iter()
        .map(|source| cells.decimals(source))
        .collect();
    let decimals = decimals.into_iter().max().unwrap_or(1);
    let metric = data.metric(&headline.metric);
    let rows: Vec<Row> = cells
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
            row.extend(
                sources
                    .iter()
                    .map(|source| cells.value(variant, source, decimals, false)),
            );
            let mut values: Vec<&mut Cell> = row[first_value..].iter_mut().collect();
            mark_best(&mut values, &metric);
            Row {
                is_baseline: cells.is_baseline(variant),
                group: groups.and_then(|axis| group(cells, variant, axis)),
                ..Row::new(row)
            }
        })
        .collect();
    Ok(Table {
        name: spec.name.clone(),
        title: title(cells, "test resolutions"),
        caption: caption::caption(cells, &headline, &sources, &rows, caption::Best::Row),
        footnotes: caption::footnotes(cells),
        columns,
        rows,
        experiment: String::new(),
        transposed: false,
    })
}
