//! Reads the tables of the section.

use super::{MOST, Reader, TABLE_KINDS, named};
use crate::spec::axes;
use crate::spec::document::Node;
use crate::spec::patch;
use crate::spec::problem::{is_invisible, suggestion};
use crate::spec::report::{Sort, TableKind, TableSpec, Tick};

const TABLE_KEYS: &[&str] = &[
    "name",
    "title",
    "kind",
    "rows",
    "columns",
    "metrics",
    "baseline",
    "sort",
    "groups",
    "ticks",
    "footnotes",
    "transposed",
];

/// How the LaTeX preview beside a table's file ends.
const PREVIEW: &str = "-preview";

impl Reader<'_> {
    fn sort(&mut self, node: &Node, place: &str) -> Option<Sort> {
        let text = self.text(node, place)?;
        let known: Vec<&str> = self
            .metrics
            .iter()
            .copied()
            .chain(self.axes.iter().map(|axis| axis.name.as_str()))
            .collect();
        // An axis may be called `-blur`.
        let (by, reversed) = match text.strip_prefix('-') {
            Some(rest) if !known.contains(&text.as_str()) => (rest.trim_start(), true),
            _ => (text.as_str(), false),
        };
        if known.contains(&by) {
            return Some(Sort {
                by: by.to_owned(),
                reversed,
            });
        }
        let hint = suggestion(by, known).unwrap_or_default();
        let message = format!("no metric and no axis is called `{by}`");
        self.error(node.position, message, Some(hint));
        None
    }

    /// `{axis: {part: [labels that have it]}}`.
    fn ticks(&mut self, node: &Node) -> Vec<Tick> {
        let mut ticks: Vec<Tick> = Vec::new();
        for entry in patch::map(node, "`ticks`", self.reports).unwrap_or_default() {
            let axis = axes::find_axis(&entry.key, entry.position, self.axes, self.reports);
            let Some(axis) = axis.map(|index| &self.axes[index]) else {
                continue;
            };
            let place = format!("`ticks.{}`", axis.name);
            for part in patch::map(&entry.value, &place, self.reports).unwrap_or_default() {
                let place = format!("`ticks.{}.{}`", axis.name, part.key);
                if part.key.chars().any(is_invisible) {
                    let message = format!("{place} contains an invisible character");
                    self.error(part.position, message, None);
                }
                let mut labels = Vec::new();
                for (label, position) in axes::texts(&part.value, &place, self.reports) {
                    if axes::find_label(axis, &label, position, self.reports).is_some() {
                        labels.push(label);
                    }
                }
                ticks.push(Tick {
                    axis: axis.name.clone(),
                    part: part.key.clone(),
                    labels,
                });
            }
        }
        if ticks.len() > MOST {
            let message = format!("`ticks` has more than {MOST} parts");
            self.error(node.position, message, None);
            ticks.truncate(MOST);
        }
        ticks
    }

    pub(super) fn tables(&mut self, node: &Node) -> Vec<TableSpec> {
        let mut tables: Vec<TableSpec> = Vec::new();
        for (index, item) in self.items(node, "`report.tables`").iter().enumerate() {
            let mut table = TableSpec {
                name: String::new(),
                ..TableSpec::default()
            };
            if item.text().is_some() {
                if let Some(kind) = self.choice(item, "table", TABLE_KINDS) {
                    table.kind = named::<TableKind>(kind);
                }
            } else {
                self.table(item, &mut table);
            }
            if table.name.is_empty() {
                table.name = match (index, table.kind) {
                    (0, _) => "table".to_owned(),
                    (_, TableKind::Auto) => format!("table-{}", index + 1),
                    (_, kind) => serde_json::to_value(kind)
                        .ok()
                        .and_then(|name| name.as_str().map(str::to_owned))
                        .unwrap_or_default(),
                };
            }
            if tables.iter().any(|known| known.name == table.name) {
                let message = format!("two tables are called `{}`", table.name);
                let hint = "give each a `name`".to_owned();
                self.error(item.position, message, Some(hint));
            }
            tables.push(table);
        }
        tables
    }

    fn table(&mut self, node: &Node, table: &mut TableSpec) {
        let place = "a table of `report`";
        let entries = patch::map(node, place, self.reports).unwrap_or_default();
        for entry in entries {
            let node = &entry.value;
            match entry.key.as_str() {
                "name" => {
                    table.name = self.name(node, "`name`").unwrap_or_default();
                    if table.name.ends_with(PREVIEW) {
                        let message = format!(
                            "`{}` ends like the preview that every table has beside it",
                            table.name
                        );
                        let hint = format!("leave `{PREVIEW}` out");
                        self.error(node.position, message, Some(hint));
                    }
                }
                "title" => table.title = self.text(node, "`title`"),
                "kind" => {
                    if let Some(kind) = self.choice(node, "table", TABLE_KINDS) {
                        table.kind = named::<TableKind>(kind);
                    }
                }
                "rows" => table.rows = self.axes(node, "`rows`"),
                "columns" => table.columns = self.axes(node, "`columns`"),
                "metrics" => table.metrics = self.metrics(node, "`metrics`"),
                "baseline" => table.baseline = self.labels(node, "`baseline`"),
                "sort" => table.sort = self.sort(node, "`sort`"),
                "groups" => table.groups = self.axis(node, "`groups`"),
                "ticks" => table.ticks = self.ticks(node),
                "footnotes" => {
                    table.footnotes = self
                        .items(node, "`footnotes`")
                        .iter()
                        .filter_map(|item| self.text(item, "`footnotes`"))
                        .collect();
                }
                "transposed" => table.transposed = self.flag(node, "`transposed`"),
                _ => self.unknown_key(entry, place, TABLE_KEYS),
            }
        }
        self.disjoint(&table.rows, entries, place);
        for entry in entries.iter().filter(|entry| entry.key == "ticks") {
            if !matches!(table.kind, TableKind::Auto | TableKind::Variants) {
                let message = "`ticks` are columns of a table of variants".to_owned();
                let hint = "`kind: variants`".to_owned();
                self.error(entry.position, message, Some(hint));
            }
        }
        if let Some(groups) = &table.groups
            && table.columns.contains(groups)
        {
            let message = format!("axis `{groups}` heads groups of rows and can't be a column");
            self.error(node.position, message, None);
        }
    }
}
