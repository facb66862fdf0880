//! Axes, designs and cells: what varies, and in which combinations.

use super::document::{Content, Entry, Node};
use super::fields;
use super::params;
use super::patch::{self, Patch, StagePatch};
use super::problem::{Position, Report, is_invisible, suggestion};

/// One thing that varies.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    pub name: String,
    pub position: Position,
    pub values: Vec<AxisValue>,
}

/// One value of an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct AxisValue {
    pub label: String,
    pub position: Position,
    pub patch: Patch,
}

impl Axis {
    /// Index of the value with this label.
    pub fn find(&self, label: &str) -> Option<u32> {
        self.values
            .iter()
            .position(|value| value.label == label)
            .map(|index| index as u32)
    }
}

/// How axes combine into variants.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Design {
    /// Every combination.
    #[default]
    Product,
    /// First values together, second values together, ...
    Zip,
    /// The combinations that are listed.
    List(Vec<Cell>),
    /// The baseline, and every variant that differs from it in one axis.
    OneAtATime,
    /// The full recipe, and for each axis the recipe with that axis `off`.
    LeaveOneOut,
    /// From the baseline on, one axis after the other is switched and stays so.
    Path,
}

/// Names of the designs in YAML.
pub const DESIGNS: &[&str] = &[
    "product",
    "zip",
    "list",
    "one_at_a_time",
    "leave_one_out",
    "path",
];

/// Labels of some or all axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    pub position: Position,
    /// For each axis the indices of the labels that are named; `None`: any.
    pub labels: Vec<Option<Vec<u32>>>,
}

impl Cell {
    /// Whether a variant has one of the named labels on every axis that is named.
    pub fn matches(&self, labels: &[u32]) -> bool {
        self.labels
            .iter()
            .zip(labels)
            .all(|(named, label)| match named {
                Some(named) => named.contains(label),
                None => true,
            })
    }
}

/// Reads one axis.
pub fn read_axis(entry: &Entry, reports: &mut Vec<Report>) -> Option<Axis> {
    let name = &entry.key;
    if name.trim().is_empty() || name.contains(['/', '=', ',']) {
        let message = format!("`{name}` is no name for an axis");
        reports.push(
            Report::error(entry.position, message).hint("use a name without `/`, `=` and `,`"),
        );
        return None;
    }
    let mut values = match long_form(&entry.value) {
        Some(entries) => read_long(name, entry, entries, reports)?,
        None => read_values(name, &entry.value, None, entry.position, reports)?,
    };
    values.retain(|value| valid_label(value, reports));
    let mut seen = std::collections::HashMap::new();
    for value in &values {
        if seen.insert(value.label.as_str(), ()).is_some() {
            let message = format!("axis `{name}` has the label `{}` twice", value.label);
            reports.push(Report::error(value.position, message));
        }
    }
    Some(Axis {
        name: name.clone(),
        position: entry.position,
        values,
    })
}

fn valid_label(value: &AxisValue, reports: &mut Vec<Report>) -> bool {
    let label = &value.label;
    let message = if label.trim().is_empty() {
        "a label can't be empty".to_owned()
    } else if label.chars().count() > 80 {
        "a label has at most 80 characters".to_owned()
    } else if label.contains('/') || label.chars().any(is_invisible) {
        format!("label `{label}` contains `/` or an invisible character")
    } else {
        return true;
    };
    reports.push(Report::error(value.position, message).hint("write `label: {path: value}`"));
    false
}

/// `{values: ..., path: ..., stages: [...]}`.
fn long_form(node: &Node) -> Option<&[Entry]> {
    let Content::Map(entries) = &node.content else {
        return None;
    };
    let long = entries.iter().any(|entry| entry.key == "values")
        && entries
            .iter()
            .all(|entry| matches!(entry.key.as_str(), "values" | "path" | "stages"));
    long.then_some(entries)
}

fn read_long(
    name: &str,
    axis: &Entry,
    entries: &[Entry],
    reports: &mut Vec<Report>,
) -> Option<Vec<AxisValue>> {
    let get = |key: &str| entries.iter().find(|entry| entry.key == key);
    let path = get("path").and_then(|entry| match entry.value.text() {
        Some(text) => Some((text, entry.value.position)),
        None => {
            let message = format!("`path` of axis `{name}` expects a configuration path");
            reports.push(Report::error(entry.value.position, message));
            None
        }
    });
    let values = get("values")?;
    let mut read = read_values(name, &values.value, path, axis.position, reports)?;
    if let Some(stages) = get("stages") {
        let names = texts(&stages.value, "`stages` of an axis", reports);
        for value in &mut read {
            let settings = std::mem::take(&mut value.patch.settings);
            value
                .patch
                .stages
                .extend(names.iter().map(|(stage, position)| StagePatch {
                    stage: stage.clone(),
                    position: *position,
                    settings: settings.clone(),
                }));
        }
    }
    Some(read)
}

/// A scalar or a list of scalars as texts.
pub fn texts(node: &Node, place: &str, reports: &mut Vec<Report>) -> Vec<(String, Position)> {
    let items = match &node.content {
        Content::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut texts = Vec::with_capacity(items.len());
    for item in items {
        match item.text() {
            Some(text) => texts.push((text.to_owned(), item.position)),
            None => {
                let message = format!("{place} expects names, not {}", item.noun());
                reports.push(Report::error(item.position, message));
            }
        }
    }
    texts
}

fn read_values(
    name: &str,
    node: &Node,
    path: Option<(&str, Position)>,
    position: Position,
    reports: &mut Vec<Report>,
) -> Option<Vec<AxisValue>> {
    match &node.content {
        Content::List(items) => {
            if items.is_empty() {
                reports.push(Report::error(
                    node.position,
                    format!("axis `{name}` has no values"),
                ));
                return None;
            }
            let (path, position) = path.unwrap_or((name, position));
            if fields::find(path).is_none() && path != fields::ARCH && !params::is_path(path) {
                let report = Report::error(
                    position,
                    format!("axis `{name}` lists values, but `{path}` is no configuration path"),
                );
                reports.push(match fields::nearest_path(path) {
                    Some(nearest) => report.hint(format!("did you mean `{nearest}`?")),
                    None => report
                        .hint("name a path, or write labelled patches: `label: {path: value}`"),
                });
                return None;
            }
            let mut values = Vec::with_capacity(items.len());
            for item in items {
                let settings = patch::setting(path, item.position, item, reports);
                let patch = Patch {
                    settings,
                    stages: Vec::new(),
                };
                values.push(AxisValue {
                    label: item.brief(),
                    position: item.position,
                    patch,
                });
            }
            Some(values)
        }
        Content::Map(entries) if !entries.is_empty() => {
            if let Some((_, position)) = path {
                let message =
                    format!("`path` of axis `{name}` needs a list of values, not labelled patches");
                reports.push(Report::error(position, message));
            }
            let place = format!("axis `{name}`");
            let mut values = Vec::with_capacity(entries.len());
            for entry in entries {
                let patch = match &entry.value.content {
                    Content::Map(_) | Content::Null => patch::read(&entry.value, &place, reports),
                    _ => {
                        let message = format!(
                            "label `{}` of axis `{name}` expects a patch, not {}",
                            entry.key,
                            entry.value.noun()
                        );
                        reports.push(
                            Report::error(entry.value.position, message)
                                .hint("write `label: {path: value}`, or list the values on a configuration path"),
                        );
                        Patch::default()
                    }
                };
                values.push(AxisValue {
                    label: entry.key.clone(),
                    position: entry.position,
                    patch,
                });
            }
            Some(values)
        }
        Content::Map(_) | Content::Null => {
            reports.push(Report::error(
                node.position,
                format!("axis `{name}` has no values"),
            ));
            None
        }
        Content::Scalar(_) => {
            let message = format!(
                "axis `{name}` expects a list of values or labelled patches, not {}",
                node.noun()
            );
            reports.push(
                Report::error(node.position, message)
                    .hint("a value that doesn't vary belongs in `set`"),
            );
            None
        }
    }
}

/// Reads a map from axes to labels (or lists of labels).
pub fn read_cell(
    node: &Node,
    place: &str,
    axes: &[Axis],
    reports: &mut Vec<Report>,
) -> Option<Cell> {
    let entries = patch::map(node, place, reports)?;
    let mut labels = vec![None; axes.len()];
    for entry in entries {
        let Some(axis) = find_axis(&entry.key, entry.position, axes, reports) else {
            continue;
        };
        let named = texts(&entry.value, place, reports)
            .into_iter()
            .filter_map(|(label, position)| find_label(&axes[axis], &label, position, reports))
            .collect();
        labels[axis] = Some(named);
    }
    Some(Cell {
        position: node.position,
        labels,
    })
}

/// Reads a list of maps from axes to labels; one map alone is a list of one.
pub fn read_cells(node: &Node, place: &str, axes: &[Axis], reports: &mut Vec<Report>) -> Vec<Cell> {
    let items = match &node.content {
        Content::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    items
        .iter()
        .filter_map(|item| read_cell(item, place, axes, reports))
        .collect()
}

/// Index of the axis called `name`.
pub fn find_axis(
    name: &str,
    position: Position,
    axes: &[Axis],
    reports: &mut Vec<Report>,
) -> Option<usize> {
    let found = axes.iter().position(|axis| axis.name == name);
    if found.is_none() {
        let report = Report::error(position, format!("unknown axis `{name}`"));
        let names: Vec<&str> = axes.iter().map(|axis| axis.name.as_str()).collect();
        reports.push(match suggestion(name, names) {
            Some(hint) => report.hint(hint),
            None => report.hint("the experiment has no axes"),
        });
    }
    found
}

/// Index of the label on `axis`.
pub fn find_label(
    axis: &Axis,
    label: &str,
    position: Position,
    reports: &mut Vec<Report>,
) -> Option<u32> {
    let found = axis.find(label);
    if found.is_none() {
        let report = Report::error(
            position,
            format!("axis `{}` has no label `{label}`", axis.name),
        );
        let labels: Vec<&str> = axis
            .values
            .iter()
            .map(|value| value.label.as_str())
            .collect();
        reports.push(match suggestion(label, labels) {
            Some(hint) => report.hint(hint),
            None => report,
        });
    }
    found
}

/// Reads `design`.
pub fn read_design(node: &Node, axes: &[Axis], reports: &mut Vec<Report>) -> Design {
    let (name, argument, position) = match &node.content {
        Content::Map(entries) if entries.len() == 1 => (
            entries[0].key.as_str(),
            Some(&entries[0].value),
            entries[0].position,
        ),
        _ => match node.text() {
            Some(text) => (text, None, node.position),
            None => {
                let message = format!("`design` expects a name, not {}", node.noun());
                reports.push(
                    Report::error(node.position, message)
                        .hint(format!("known: {}", DESIGNS.join(", "))),
                );
                return Design::Product;
            }
        },
    };
    match (name, argument) {
        ("product", None) => Design::Product,
        ("zip", None) => {
            for axis in axes.iter().skip(1) {
                let (length, first) = (axis.values.len(), axes[0].values.len());
                if length != first {
                    let message = format!(
                        "`zip` needs axes of one length: `{}` has {first} values, `{}` has {length}",
                        axes[0].name, axis.name
                    );
                    reports.push(Report::error(axis.position, message));
                }
            }
            Design::Zip
        }
        ("list", Some(cells)) => Design::List(read_cells(cells, "`design.list`", axes, reports)),
        ("list", None) => {
            reports.push(
                Report::error(position, "`list` needs its combinations")
                    .hint("write `design: {list: [{axis: label, ...}, ...]}`"),
            );
            Design::Product
        }
        ("one_at_a_time", None) => Design::OneAtATime,
        ("leave_one_out", None) => {
            for axis in axes {
                let off = axis.find("off").is_some();
                if !off || axis.values.len() != 2 {
                    let message = format!(
                        "`leave_one_out` needs two labels on axis `{}`: one, and `off`",
                        axis.name
                    );
                    reports.push(Report::error(axis.position, message));
                }
            }
            Design::LeaveOneOut
        }
        ("path", None) => Design::Path,
        (known, Some(argument)) if DESIGNS.contains(&known) => {
            reports.push(Report::error(
                argument.position,
                format!("design `{known}` takes no argument"),
            ));
            Design::Product
        }
        _ => {
            let report = Report::error(position, format!("unknown design `{name}`"));
            reports.push(match suggestion(name, DESIGNS.iter().copied()) {
                Some(hint) => report.hint(hint),
                None => report,
            });
            Design::Product
        }
    }
}
