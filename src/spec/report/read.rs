//! Reads the `report` section; every problem has its position and the valid names.

use super::{
    Correction, Direction, PlotKind, PlotSpec, PlotX, ReferenceSpec, ReportSpec, Sort, TableKind,
    TableSpec,
};
use crate::spec::axes::{self, Axis};
use crate::spec::document::{Content, Entry, Node, ScalarKind};
use crate::spec::patch;
use crate::spec::problem::{Position, Report, is_invisible, suggestion};
use crate::spec::published;

/// Metrics of an evaluation.
pub(in crate::spec) const METRICS: &[&str] = &["top1", "top5", "loss"];

const KEYS: &[&str] = &[
    "metrics",
    "rows",
    "columns",
    "correction",
    "margin",
    "bootstrap",
    "tables",
    "plots",
    "reference",
];
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
    "footnotes",
    "transposed",
];
const PLOT_KEYS: &[&str] = &[
    "kind", "name", "title", "metric", "x", "stage", "rows", "columns", "count",
];
const REFERENCE_KEYS: &[&str] = &[
    "at",
    "id",
    "curve",
    "value",
    "std",
    "metric",
    "stage",
    "set",
    "direction",
    "source",
    "confidence",
];
pub(in crate::spec) const DIRECTIONS: &[&str] = &["better", "worse", "none"];
pub(in crate::spec) const CORRECTIONS: &[&str] = &["none", "holm", "dunnett"];
pub(in crate::spec) const TABLE_KINDS: &[&str] = &[
    "auto",
    "variants",
    "pivot",
    "ingredients",
    "roadmap",
    "resolutions",
    "comparisons",
    "effects",
    "published",
];
pub(in crate::spec) const PLOT_KINDS: &[&str] = &[
    "usual",
    "result",
    "curves",
    "against",
    "resolution",
    "forest",
    "slopes",
    "heatmap",
    "samples",
    "loss",
    "lr",
];
pub(in crate::spec) const PLOT_X: &[&str] = &["epochs", "flops", "parameters", "throughput"];

/// Files of a report that no table and no plot may overwrite.
const RESERVED: &[&str] = &["report", "results", "index", "summary", "runs"];
/// Most tables, plots and references of a report.
const MOST: usize = 100;
/// Most draws of a bootstrap.
const MOST_DRAWS: i64 = 1_000_000;

/// What the section is read against.
struct Reader<'a> {
    axes: &'a [Axis],
    stages: &'a [&'a str],
    metrics: &'a [&'a str],
    reports: &'a mut Vec<Report>,
}

/// Reads the section. `stages` are the names of the experiment's stages, `metrics` those that they report.
pub(in crate::spec) fn read(
    node: &Node,
    axes: &[Axis],
    stages: &[&str],
    metrics: &[&str],
    reports: &mut Vec<Report>,
) -> ReportSpec {
    let mut reader = Reader {
        axes,
        stages,
        metrics,
        reports,
    };
    let mut section = ReportSpec::default();
    let entries = patch::map(node, "`report`", reader.reports).unwrap_or_default();
    for entry in entries {
        let node = &entry.value;
        match entry.key.as_str() {
            "metrics" => section.metrics = reader.metrics(node, "`report.metrics`"),
            "rows" => section.rows = reader.axes(node, "`report.rows`"),
            "columns" => section.columns = reader.axes(node, "`report.columns`"),
            "correction" => {
                if let Some(name) = reader.choice(node, "correction", CORRECTIONS) {
                    section.correction = named::<Correction>(name);
                }
            }
            "margin" => section.margin = reader.positive(node, "`report.margin`"),
            "bootstrap" => section.bootstrap = reader.draws(node),
            "tables" => section.tables = Some(reader.tables(node)),
            "plots" => section.plots = Some(reader.plots(node)),
            "reference" => {
                section.reference = reader
                    .items(node, "`report.reference`")
                    .iter()
                    .filter_map(|item| reader.reference(item))
                    .collect();
            }
            _ => reader.unknown_key(entry, "`report`", KEYS),
        }
    }
    reader.disjoint(&section.rows, entries, "`report`");
    section
}

/// The value of an enum whose names are those of `serde`; the name was checked.
fn named<T: serde::de::DeserializeOwned + Default>(name: &str) -> T {
    serde_json::from_value(serde_json::Value::String(name.to_owned())).unwrap_or_default()
}

impl Reader<'_> {
    fn error(&mut self, position: Position, message: String, hint: Option<String>) {
        let report = Report::error(position, message);
        self.reports.push(match hint {
            Some(hint) => report.hint(hint),
            None => report,
        });
    }

    fn unknown_key(&mut self, entry: &Entry, place: &str, known: &[&'static str]) {
        let message = format!("unknown key `{}` in {place}", entry.key);
        let hint = suggestion(&entry.key, known.iter().copied());
        self.error(entry.position, message, hint);
    }

    fn items<'n>(&mut self, node: &'n Node, place: &str) -> &'n [Node] {
        let items = match &node.content {
            Content::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        if items.len() > MOST {
            let message = format!("{place} has more than {MOST} entries");
            self.error(node.position, message, None);
            return &[];
        }
        items
    }

    /// One of `known`, or a report.
    fn choice(&mut self, node: &Node, what: &str, known: &[&'static str]) -> Option<&'static str> {
        let Some(text) = node.text() else {
            let message = format!("`{what}` expects a name, not {}", node.noun());
            self.error(node.position, message, Some(all(known)));
            return None;
        };
        let found = known.iter().find(|name| **name == text).copied();
        if found.is_none() {
            let message = format!("unknown {what} `{text}`");
            let hint = suggestion(text, known.iter().copied()).unwrap_or_else(|| all(known));
            self.error(node.position, message, Some(hint));
        }
        found
    }

    fn metric(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node, "a metric")?;
        if self.metrics.contains(&text.as_str()) {
            return Some(text);
        }
        let hint = suggestion(&text, self.metrics.iter().copied())
            .unwrap_or_else(|| "a program's metrics stand in `metrics` of its stage".to_owned());
        self.error(
            node.position,
            format!("unknown metric `{text}`"),
            Some(hint),
        );
        None
    }

    fn metrics(&mut self, node: &Node, place: &str) -> Vec<String> {
        let mut metrics = Vec::new();
        for item in self.items(node, place) {
            let Some(metric) = self.metric(item) else {
                continue;
            };
            if metrics.contains(&metric) {
                let message = format!("{place} names metric `{metric}` twice");
                self.error(item.position, message, None);
            } else {
                metrics.push(metric);
            }
        }
        metrics
    }

    fn axes(&mut self, node: &Node, place: &str) -> Vec<String> {
        let mut names = Vec::new();
        for (name, position) in axes::texts(node, place, self.reports) {
            if axes::find_axis(&name, position, self.axes, self.reports).is_none() {
                continue;
            }
            if names.contains(&name) {
                self.error(position, format!("{place} names axis `{name}` twice"), None);
            } else {
                names.push(name);
            }
        }
        names
    }

    fn axis(&mut self, node: &Node, place: &str) -> Option<String> {
        let name = self.text(node, place)?;
        axes::find_axis(&name, node.position, self.axes, self.reports)?;
        Some(name)
    }

    /// An axis is along the rows or along the columns.
    fn disjoint(&mut self, rows: &[String], entries: &[Entry], place: &str) {
        for entry in entries.iter().filter(|entry| entry.key == "columns") {
            // What is no name was reported when it was read.
            for (name, position) in axes::texts(&entry.value, place, &mut Vec::new()) {
                if rows.contains(&name) {
                    let message = format!("{place} names axis `{name}` twice");
                    self.error(position, message, None);
                }
            }
        }
    }

    fn text(&mut self, node: &Node, place: &str) -> Option<String> {
        match node.text() {
            Some(text) if text.chars().any(|c| is_invisible(c) && c != '\n') => {
                let message = format!("{place} contains an invisible character");
                self.error(node.position, message, None);
                None
            }
            Some(text) => Some(text.trim().to_owned()),
            None => {
                let message = format!("{place} expects a string, not {}", node.noun());
                self.error(node.position, message, None);
                None
            }
        }
    }

    fn number(&mut self, node: &Node, place: &str) -> Option<f64> {
        let number = match &node.content {
            Content::Scalar(scalar) => scalar.text.parse::<f64>().ok().filter(|n| n.is_finite()),
            _ => None,
        };
        if number.is_none() {
            let message = format!("{place} expects a number, not {}", node.brief());
            self.error(node.position, message, None);
        }
        number
    }

    fn positive(&mut self, node: &Node, place: &str) -> Option<f64> {
        let number = self.number(node, place)?;
        if number > 0.0 {
            return Some(number);
        }
        self.error(node.position, format!("{place} must be positive"), None);
        None
    }

    fn draws(&mut self, node: &Node) -> u32 {
        let place = "`report.bootstrap`";
        match node.text().map(str::parse::<i64>) {
            Some(Ok(draws)) if (0..=MOST_DRAWS).contains(&draws) => draws as u32,
            _ => {
                let message =
                    format!("{place} expects a number of draws up to {MOST_DRAWS}, 0 for none");
                self.error(node.position, message, None);
                0
            }
        }
    }

    fn flag(&mut self, node: &Node, place: &str) -> bool {
        match &node.content {
            Content::Scalar(scalar) => match scalar.kind {
                ScalarKind::Bool(flag) => return flag,
                _ => self.error(
                    node.position,
                    format!("{place} expects true or false"),
                    None,
                ),
            },
            _ => self.error(
                node.position,
                format!("{place} expects true or false"),
                None,
            ),
        }
        false
    }

    /// The stem of a file.
    fn name(&mut self, node: &Node, place: &str) -> Option<String> {
        let name = self.text(node, place)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            let message = format!("`{name}` is no name for a file of a report");
            let hint = "use letters, digits, `_` and `-`".to_owned();
            self.error(node.position, message, Some(hint));
            return None;
        }
        if RESERVED.contains(&name.as_str()) {
            let message = format!("`{name}` is a file that every report has");
            self.error(node.position, message, None);
            return None;
        }
        Some(name)
    }

    fn stage(&mut self, node: &Node, place: &str) -> Option<String> {
        let name = self.text(node, place)?;
        if self.stages.contains(&name.as_str()) {
            return Some(name);
        }
        let hint = suggestion(&name, self.stages.iter().copied());
        self.error(node.position, format!("unknown stage `{name}`"), hint);
        None
    }

    /// One label of some axes.
    fn labels(&mut self, node: &Node, place: &str) -> Option<Vec<Option<String>>> {
        let cell = axes::read_cell(node, place, self.axes, self.reports)?;
        let mut labels = Vec::with_capacity(self.axes.len());
        for (axis, named) in self.axes.iter().zip(cell.labels) {
            let one = match named.as_deref() {
                Some([label]) => Some(axis.values[*label as usize].label.clone()),
                Some([_, _, ..]) => {
                    let message = format!("{place} names several labels of axis `{}`", axis.name);
                    self.reports.push(Report::error(cell.position, message));
                    None
                }
                _ => None,
            };
            labels.push(one);
        }
        Some(labels)
    }

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

    fn tables(&mut self, node: &Node) -> Vec<TableSpec> {
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
                "name" => table.name = self.name(node, "`name`").unwrap_or_default(),
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
        if let Some(groups) = &table.groups
            && table.columns.contains(groups)
        {
            let message = format!("axis `{groups}` heads groups of rows and can't be a column");
            self.error(node.position, message, None);
        }
    }

    fn plots(&mut self, node: &Node) -> Vec<PlotSpec> {
        let mut plots: Vec<PlotSpec> = Vec::new();
        for item in self.items(node, "`report.plots`") {
            let plot = if item.text().is_some() {
                self.choice(item, "plot", PLOT_KINDS)
                    .and_then(plot_kind)
                    .map(|kind| PlotSpec {
                        kind,
                        ..PlotSpec::default()
                    })
            } else {
                self.plot(item)
            };
            let Some(plot) = plot else { continue };
            let taken = plot.name.is_some() && plots.iter().any(|known| known.name == plot.name);
            if taken {
                let name = plot.name.as_deref().unwrap_or_default();
                self.error(
                    item.position,
                    format!("two plots are called `{name}`"),
                    None,
                );
            }
            plots.push(plot);
        }
        plots
    }

    fn plot(&mut self, node: &Node) -> Option<PlotSpec> {
        let place = "a plot of `report`";
        let entries = patch::map(node, place, self.reports)?;
        let mut plot = PlotSpec::default();
        let mut kind = None;
        for entry in entries {
            let node = &entry.value;
            match entry.key.as_str() {
                "kind" => kind = Some(self.choice(node, "plot", PLOT_KINDS)),
                "name" => plot.name = self.name(node, "`name`"),
                "title" => plot.title = self.text(node, "`title`"),
                "metric" => plot.metric = self.metric(node),
                "x" => {
                    plot.x = self
                        .choice(node, "quantity", PLOT_X)
                        .and_then(|name| serde_json::from_value::<PlotX>(name.into()).ok());
                }
                "stage" => plot.stage = self.stage(node, "`stage`"),
                "rows" => plot.rows = self.axis(node, "`rows`"),
                "columns" => plot.columns = self.axis(node, "`columns`"),
                "count" => {
                    let count = self.positive(node, "`count`");
                    plot.count = count.map(|count| count.round().clamp(1.0, 64.0) as u32);
                }
                _ => self.unknown_key(entry, place, PLOT_KEYS),
            }
        }
        match kind {
            Some(kind) => plot.kind = plot_kind(kind?)?,
            None => {
                let message = format!("{place} needs a `kind`");
                self.error(node.position, message, Some(all(PLOT_KINDS)));
                return None;
            }
        }
        Some(plot)
    }

    fn reference(&mut self, node: &Node) -> Option<ReferenceSpec> {
        let place = "a reference of `report`";
        let entries = patch::map(node, place, self.reports)?;
        let mut reference = ReferenceSpec {
            at: vec![None; self.axes.len()],
            ..ReferenceSpec::default()
        };
        let mut metric = None;
        let before = self.reports.len();
        for entry in entries {
            let node = &entry.value;
            match entry.key.as_str() {
                "at" => {
                    if let Some(labels) = self.labels(node, "`at`") {
                        reference.at = labels;
                    }
                }
                "id" => reference.id = self.published(node),
                "curve" => {
                    let names = published::curve_names();
                    let text = self.text(node, "`curve`")?;
                    if names.contains(&text) {
                        reference.curve = Some(text);
                    } else {
                        let hint = suggestion(&text, names.iter().map(String::as_str))
                            .or_else(|| Some(range(names)));
                        let message = format!("no published curve is called `{text}`");
                        self.error(node.position, message, hint);
                    }
                }
                "value" => reference.value = self.number(node, "`value`"),
                "std" => reference.std = self.positive(node, "`std`"),
                "metric" => metric = self.metric(node),
                "stage" => reference.stage = self.stage(node, "`stage`"),
                "set" => reference.set = self.text(node, "`set`"),
                "direction" => {
                    reference.direction = self
                        .choice(node, "direction", DIRECTIONS)
                        .and_then(|name| serde_json::from_value::<Direction>(name.into()).ok());
                }
                "source" => reference.source = self.text(node, "`source`").unwrap_or_default(),
                "confidence" => {
                    reference.confidence = self.text(node, "`confidence`").unwrap_or_default();
                }
                _ => self.unknown_key(entry, place, REFERENCE_KEYS),
            }
        }
        if self.reports.len() > before {
            return None;
        }
        let published = reference.id.as_deref().and_then(published::result);
        let statement = published.is_some_and(|row| row.value.is_none());
        match (&reference.id, reference.value) {
            (Some(id), _) if statement != reference.direction.is_some() => {
                let message = if statement {
                    format!(
                        "`{id}` is published as a statement without a number: say with `direction` what it says of \
                         these variants against the baseline"
                    )
                } else {
                    format!("`{id}` is published as a number, which has a direction of its own")
                };
                let hint = statement.then(|| all(DIRECTIONS));
                self.error(node.position, message, hint);
            }
            (None, _) if reference.direction.is_some() => {
                let message =
                    "`direction` is for an `id` that is published as a statement".to_owned();
                self.error(node.position, message, None);
            }
            (Some(_), Some(_)) => {
                let message = "a reference has an `id` or a `value`, not both".to_owned();
                self.error(node.position, message, None);
            }
            (None, Some(_)) if reference.source.is_empty() => {
                let message = "a published `value` needs its `source`".to_owned();
                self.error(node.position, message, None);
            }
            (None, None) if reference.curve.is_none() => {
                let message = format!("{place} needs an `id`, a `value` or a `curve`");
                self.error(node.position, message, None);
            }
            _ => {}
        }
        reference.metric = match (metric, published.filter(|_| !statement)) {
            (Some(metric), Some(row)) if metric != row.metric => {
                let message = format!("`{}` is published as {}, not {metric}", row.id, row.metric);
                self.error(node.position, message, None);
                metric
            }
            (_, Some(row)) => row.metric.clone(),
            (Some(metric), None) => metric,
            (None, None) => "top1".to_owned(),
        };
        Some(reference)
    }

    /// The number of a published result that has a value of a metric that we measure, or that is a statement.
    fn published(&mut self, node: &Node) -> Option<String> {
        let id = self.text(node, "`id`")?;
        match published::result(&id) {
            Some(row) if row.value.is_none() || METRICS.contains(&row.metric.as_str()) => {
                return Some(id);
            }
            Some(row) => {
                let message = format!(
                    "`{id}` is published as `{}`; a reference has one of {}",
                    row.metric,
                    METRICS.join(", ")
                );
                self.error(node.position, message, None);
            }
            None => {
                let ids: Vec<String> = published::results()
                    .iter()
                    .map(|row| row.id.clone())
                    .collect();
                let hint = suggestion(&id, ids.iter().map(String::as_str))
                    .map_or_else(|| range(&ids), |near| format!("{near} {}", range(&ids)));
                let message = format!("no published result is called `{id}`");
                self.error(node.position, message, Some(hint));
            }
        }
        None
    }
}

fn plot_kind(name: &str) -> Option<PlotKind> {
    serde_json::from_value(name.into()).ok()
}

fn all(known: &[&str]) -> String {
    format!("known: {}", known.join(", "))
}

/// The names of a long list by its ends.
fn range(names: &[String]) -> String {
    match (names.first(), names.last()) {
        (Some(first), Some(last)) => format!(
            "known: {first} to {last} (`ablate query \"SELECT * FROM v_reference\"` lists the results)"
        ),
        _ => String::new(),
    }
}
