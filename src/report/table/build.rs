//! Tables of an experiment: those that its file lists, else those that suit its design.

use super::cells::{Cells, Source};
use super::{
    Column, Kind, Table, caption, changes, comparisons, effects, pivot, published, resolutions,
    variants,
};
use crate::report::data::ExperimentData;
use crate::report::frame::FrameError;
use crate::spec::report::{DesignKind, TableKind, TableSpec};

/// Most labels of an axis that a table takes for its columns without being asked to.
const MOST_COLUMNS: usize = 8;

/// The table that answers the experiment: the first of [`tables`], without further test resolutions, which
/// would fill a screen.
pub fn summary_table(data: &ExperimentData) -> Result<Table, FrameError> {
    let cells = Cells::new(data)?;
    let mut left_out = Vec::new();
    for spec in specs(&cells) {
        match table(&cells, &spec, true) {
            Ok(mut found) => {
                found.footnotes.extend(left_out);
                return Ok(found);
            }
            Err(why) => left_out.push(format!("Table {}: left out, since {why}", spec.name)),
        }
    }
    let mut found = variants::table(&cells, &TableSpec::default(), true);
    found.footnotes.extend(left_out);
    Ok(found)
}

/// All tables of the experiment with every column.
pub fn tables(data: &ExperimentData) -> Result<Vec<Table>, FrameError> {
    Ok(tables_of(&Cells::new(data)?))
}

/// [`tables`] from cells that are made.
pub(in crate::report) fn tables_of(cells: &Cells<'_>) -> Vec<Table> {
    let specs = specs(cells);
    // Further test resolutions have a table of their own.
    let brief = specs.iter().any(|spec| spec.kind == TableKind::Resolutions);
    specs
        .iter()
        .map(|spec| {
            table(cells, spec, brief).unwrap_or_else(|why| left_out(&cells.view(spec), spec, &why))
        })
        .collect()
}

/// What stands for a table that was asked for and can't be made.
fn left_out(cells: &Cells<'_>, spec: &TableSpec, why: &str) -> Table {
    let mut footnotes = caption::footnotes(cells);
    footnotes.extend(spec.footnotes.iter().cloned());
    Table {
        name: spec.name.clone(),
        title: match &spec.title {
            Some(title) => title.clone(),
            None => title(cells, &spec.name),
        },
        columns: vec![Column::new("variant", Kind::Label)],
        rows: Vec::new(),
        caption: format!("Left out, since {why}."),
        footnotes,
        experiment: cells.data.experiment.name.clone(),
        transposed: false,
    }
}

/// What the tables are: the file's, or those of the design.
fn specs(cells: &Cells<'_>) -> Vec<TableSpec> {
    let data = cells.data;
    let report = &data.experiment.report;
    if let Some(tables) = report.tables.as_ref().filter(|tables| !tables.is_empty()) {
        return tables.clone();
    }
    let spec = |name: &str, kind| TableSpec {
        name: name.to_owned(),
        kind,
        ..TableSpec::default()
    };
    let main = spec("table", TableKind::Auto);
    let mut specs = vec![main];
    if kind(cells, &specs[0]) == TableKind::Pivot {
        specs.push(spec("variants", TableKind::Variants));
    }
    for (name, kind) in [
        ("resolutions", TableKind::Resolutions),
        ("comparisons", TableKind::Comparisons),
        ("effects", TableKind::Effects),
        ("published", TableKind::Published),
    ] {
        let spec = spec(name, kind);
        let suits = match kind {
            TableKind::Comparisons => comparisons::suits(cells),
            TableKind::Effects => effects::suits(cells),
            _ => true,
        };
        if suits && table(cells, &spec, false).is_ok_and(|table| !table.rows.is_empty()) {
            specs.push(spec);
        }
    }
    specs
}

/// The kind of a table whose file leaves it to the design.
fn kind(cells: &Cells<'_>, spec: &TableSpec) -> TableKind {
    if spec.kind != TableKind::Auto {
        return spec.kind;
    }
    if !spec.ticks.is_empty() {
        return TableKind::Variants;
    }
    let report = &cells.data.experiment.report;
    match report.design {
        DesignKind::OneAtATime | DesignKind::LeaveOneOut => TableKind::Ingredients,
        DesignKind::Path => TableKind::Roadmap,
        _ if !pivot_columns(cells, spec).is_empty() => TableKind::Pivot,
        _ => TableKind::Variants,
    }
}

/// Axes along the columns of a pivot: the table's, the section's, or for a product of several axes that nothing is
/// said about those that the baseline gives a label of, so that what is compared stands side by side, else the last.
pub(super) fn pivot_columns(cells: &Cells<'_>, spec: &TableSpec) -> Vec<String> {
    let report = &cells.data.experiment.report;
    let named = [&spec.columns, &report.columns];
    if let Some(columns) = named.into_iter().find(|columns| !columns.is_empty()) {
        return columns.clone();
    }
    let axes = &cells.data.experiment.axes;
    let is_free = axes.len() > 1
        && report.design == DesignKind::Product
        && spec.rows.is_empty()
        && report.rows.is_empty()
        && cells.by_labels();
    if !is_free {
        return Vec::new();
    }
    let baseline = spec.baseline.as_ref().or(cells.baseline.as_ref());
    let given: Vec<usize> = (0..axes.len())
        .filter(|axis| baseline.is_some_and(|own| own.get(*axis).is_some_and(Option::is_some)))
        .collect();
    let columns = match given.len() {
        0 => vec![axes.len() - 1],
        // Against one variant all others are compared, in whatever column.
        all if all == axes.len() => vec![axes.len() - 1],
        _ => given,
    };
    let count: usize = columns
        .iter()
        .map(|axis| axes[*axis].labels.len())
        .product();
    if count > MOST_COLUMNS {
        return Vec::new();
    }
    columns
        .into_iter()
        .map(|axis| axes[axis].name.clone())
        .collect()
}

/// One table; or why the experiment has nothing for it. `brief`: without further test resolutions.
fn table(cells: &Cells<'_>, spec: &TableSpec, brief: bool) -> Result<Table, String> {
    let cells = &cells.view(spec);
    let mut table = match kind(cells, spec) {
        TableKind::Auto | TableKind::Variants => variants::table(cells, spec, brief),
        TableKind::Pivot => pivot::table(cells, spec),
        TableKind::Ingredients => changes::ingredients(cells, spec),
        TableKind::Roadmap => changes::roadmap(cells, spec),
        TableKind::Resolutions => resolutions::table(cells, spec)?,
        TableKind::Comparisons => comparisons::table(cells, spec)?,
        TableKind::Effects => effects::table(cells, spec)?,
        TableKind::Published => published::table(cells, spec)?,
    };
    if let Some(title) = &spec.title {
        table.title = title.clone();
    }
    table.name = spec.name.clone();
    table.experiment = cells.data.experiment.name.clone();
    table.footnotes.extend(spec.footnotes.iter().cloned());
    table.transposed = spec.transposed;
    Ok(table)
}

/// The title of a table of this experiment.
pub(super) fn title(cells: &Cells<'_>, what: &str) -> String {
    let experiment = &cells.data.experiment;
    let what = if what.is_empty() {
        String::new()
    } else {
        format!(": {what}")
    };
    format!(
        "{}{what} ({} profile)",
        experiment.title, experiment.profile
    )
}

/// Where the headline number comes from: the first metric after the last stage.
pub(in crate::report) fn headline(cells: &Cells<'_>) -> Source {
    Source {
        stage: cells.data.stages().last().cloned().unwrap_or_default(),
        set: cells.sets().first().cloned().unwrap_or_default(),
        resolution: None,
        metric: cells.metrics.first().cloned().unwrap_or_default(),
    }
}
