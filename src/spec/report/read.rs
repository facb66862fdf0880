//! Reads the `report` section; every problem has its position and the valid names.

use super::{Correction, ReportSpec};
use crate::spec::axes::{self, Axis};
use crate::spec::document::{Content, Entry, Node, ScalarKind};
use crate::spec::patch;
use crate::spec::problem::{Position, Report, is_invisible, suggestion};

mod plot;
mod reference;
mod table;

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
}

fn all(known: &[&str]) -> String {
    format!("known: {}", known.join(", "))
}
