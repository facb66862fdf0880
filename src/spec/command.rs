//! Stages that run a program: their keys in YAML.

use super::document::{Content, Entry, Node, ScalarKind};
use super::patch;
use super::problem::{Position, Report, is_invisible, suggestion};
use super::template::Template;
use serde::{Deserialize, Serialize};

/// Keys of a stage that only make sense beside `command`.
pub const KEYS: &[&str] = &[
    "command",
    "inputs",
    "metrics",
    "outputs",
    "environment",
    "params",
    "gpus",
    "threads",
];

/// What a child stage of the built-in trainer starts from: a program that leaves it names it in `outputs`.
pub const WEIGHTS: &str = "final.safetensors";

/// Longest command line in words, and longest list of anything else.
const MOST: usize = 1_000;

/// A program, and what it needs and promises.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// Where the key `command` stands.
    pub position: Position,
    /// Program and arguments; never empty.
    pub argv: Vec<Template>,
    /// Files that are part of the stage's identity: paths and patterns, as written.
    pub inputs: Vec<(String, Position)>,
    /// Metrics that it must have reported in the end.
    pub metrics: Vec<Metric>,
    /// Files that it must have left in its folder in the end.
    pub outputs: Vec<String>,
    pub environment: Vec<(String, Template)>,
    /// The parameters that it is told; `None`: all.
    pub params: Option<Vec<(String, Position)>>,
    /// GPUs that it uses; `None`: those of its slot.
    pub gpus: Option<u32>,
    /// Threads that it may use; `None`: those of its slot.
    pub threads: Option<u32>,
}

/// A metric that a program reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    pub name: String,
    /// `None`: the name says it (losses and errors are better when lower).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub better: Option<Better>,
    /// What stands behind its numbers: `%`, `nats`, `mIoU`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

/// Which of two values of a metric is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    Higher,
    Lower,
}

/// Whether `name` can be a metric's: it names columns and files.
pub fn is_metric_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-.@%+".contains(c))
}

/// Reads the entries of a stage that are this module's; later ones win, null takes one away. `None`: the stage has no
/// `command`.
pub fn read(stage: &str, entries: &[&Entry], reports: &mut Vec<Report>) -> Option<Command> {
    let find = |key: &str| {
        let last = entries.iter().rev().find(|entry| entry.key == key);
        last.filter(|entry| entry.value.content != Content::Null)
            .copied()
    };
    let Some(own) = find("command") else {
        for entry in entries.iter().filter(|entry| entry.key != "command") {
            if entry.value.content != Content::Null {
                let message = format!(
                    "`{}` of stage `{stage}` is for stages with a `command`",
                    entry.key
                );
                reports.push(Report::error(entry.position, message));
            }
        }
        return None;
    };
    let argv = argv(own, reports);
    let inputs = find("inputs").map_or_else(Vec::new, |entry| {
        texts(entry, reports)
            .into_iter()
            .map(|(text, position)| (text.to_owned(), position))
            .collect()
    });
    Some(Command {
        position: own.position,
        argv,
        inputs,
        metrics: find("metrics").map_or_else(Vec::new, |entry| metrics(entry, reports)),
        outputs: find("outputs").map_or_else(Vec::new, |entry| outputs(entry, reports)),
        environment: find("environment").map_or_else(Vec::new, |entry| environment(entry, reports)),
        params: find("params").map(|entry| {
            texts(entry, reports)
                .into_iter()
                .map(|(text, position)| (text.to_owned(), position))
                .collect()
        }),
        gpus: find("gpus").and_then(|entry| count(entry, 0, 64, reports)),
        threads: find("threads").and_then(|entry| count(entry, 1, 4096, reports)),
    })
}

/// The items of a list, or the one that stands for itself.
fn items(entry: &Entry) -> &[Node] {
    match &entry.value.content {
        Content::List(items) => items,
        _ => std::slice::from_ref(&entry.value),
    }
}

fn limited<'e>(entry: &'e Entry, reports: &mut Vec<Report>) -> &'e [Node] {
    let items = items(entry);
    if items.len() > MOST {
        let message = format!("`{}` has more than {MOST} items", entry.key);
        reports.push(Report::error(entry.position, message));
        return &[];
    }
    items
}

/// Texts without invisible characters, not empty.
fn texts<'e>(entry: &'e Entry, reports: &mut Vec<Report>) -> Vec<(&'e str, Position)> {
    let mut found: Vec<(&str, Position)> = Vec::new();
    for item in limited(entry, reports) {
        let message = match item.text() {
            Some("") => format!("`{}` has an empty item", entry.key),
            Some(text) if text.chars().any(is_invisible) => {
                format!("`{}` has an invisible character", entry.key)
            }
            Some(text) if found.iter().any(|(known, _)| *known == text) => {
                format!("`{}` names `{text}` twice", entry.key)
            }
            Some(text) => {
                found.push((text, item.position));
                continue;
            }
            None => format!("`{}` expects names, not {}", entry.key, item.noun()),
        };
        reports.push(Report::error(item.position, message));
    }
    found
}

fn argv(entry: &Entry, reports: &mut Vec<Report>) -> Vec<Template> {
    let mut argv = Vec::new();
    if !matches!(entry.value.content, Content::List(_)) {
        let message = format!(
            "`command` expects a list of words, not {}",
            entry.value.noun()
        );
        reports.push(Report::error(entry.value.position, message).hint(
            "write `[python, train.py, --lr, \"{optimizer.lr}\"]`; no shell reads it (`[sh, -c, ...]` is one)",
        ));
        return argv;
    }
    let words = limited(entry, reports);
    if words.first().is_none_or(|word| word.text() == Some("")) {
        reports.push(Report::error(
            entry.value.position,
            "`command` names no program",
        ));
    }
    for word in words {
        if let Some(template) = template(word, "`command`", reports) {
            argv.push(template);
        }
    }
    argv
}

fn template(node: &Node, place: &str, reports: &mut Vec<Report>) -> Option<Template> {
    let Some(text) = node.text() else {
        let report = Report::error(
            node.position,
            format!("{place} expects words, not {}", node.noun()),
        );
        reports.push(if matches!(node.content, Content::Map(_)) {
            report.hint("quote an argument with a placeholder: `\"{optimizer.lr}\"`")
        } else {
            report.hint("quote it")
        });
        return None;
    };
    if text
        .chars()
        .any(|c| is_invisible(c) && c != '\n' && c != '\t')
    {
        let message = format!("{place} has an invisible character");
        reports.push(Report::error(node.position, message));
        return None;
    }
    Template::parse(text, node.position)
        .map_err(|report| reports.push(report))
        .ok()
}

fn metrics(entry: &Entry, reports: &mut Vec<Report>) -> Vec<Metric> {
    let mut found: Vec<Metric> = Vec::new();
    for item in limited(entry, reports) {
        let Some(metric) = metric(item, reports) else {
            continue;
        };
        if found.iter().any(|known| known.name == metric.name) {
            let message = format!("`metrics` names `{}` twice", metric.name);
            reports.push(Report::error(item.position, message));
            continue;
        }
        found.push(metric);
    }
    found
}

fn metric(item: &Node, reports: &mut Vec<Report>) -> Option<Metric> {
    let mut metric = Metric {
        name: String::new(),
        better: None,
        unit: None,
    };
    match &item.content {
        Content::Map(entries) => {
            for entry in entries {
                match (entry.key.as_str(), entry.value.text()) {
                    ("name", Some(name)) => metric.name = name.to_owned(),
                    ("better", Some("higher")) => metric.better = Some(Better::Higher),
                    ("better", Some("lower")) => metric.better = Some(Better::Lower),
                    ("better", _) => {
                        let message =
                            format!("`better` is higher or lower, not {}", entry.value.brief());
                        reports.push(Report::error(entry.value.position, message));
                    }
                    ("unit", Some(unit))
                        if unit.chars().count() <= 20 && !unit.chars().any(is_invisible) =>
                    {
                        metric.unit = Some(unit.to_owned());
                    }
                    ("name" | "unit", _) => {
                        let message = format!(
                            "`{}` of a metric expects a short text, not {}",
                            entry.key,
                            entry.value.brief()
                        );
                        reports.push(Report::error(entry.value.position, message));
                    }
                    (unknown, _) => {
                        let message = format!("unknown key `{unknown}` in a metric");
                        let report = Report::error(entry.position, message);
                        reports.push(match suggestion(unknown, ["name", "better", "unit"]) {
                            Some(hint) => report.hint(hint),
                            None => report,
                        });
                    }
                }
            }
        }
        _ => metric.name = item.text().unwrap_or_default().to_owned(),
    }
    if !is_metric_name(&metric.name) {
        let message = format!("`{}` is no name for a metric", item.brief());
        reports.push(Report::error(item.position, message).hint(
            "use letters, digits, `_`, `-`, `.`, `@`, `%` and `+`, at most 64; `{name: loss, better: lower}` says more",
        ));
        return None;
    }
    Some(metric)
}

/// Paths of files in the program's own folder.
fn outputs(entry: &Entry, reports: &mut Vec<Report>) -> Vec<String> {
    let mut found = Vec::new();
    for (text, position) in texts(entry, reports) {
        let inside = text
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..");
        if inside && !text.contains('\\') {
            found.push(text.to_owned());
        } else {
            let message = format!("`outputs` names `{text}`, which leaves the stage's folder");
            reports.push(
                Report::error(position, message)
                    .hint("outputs are relative to ABLATE_RUN_DIR, without `.` and `..`"),
            );
        }
    }
    found.sort();
    found
}

fn environment(entry: &Entry, reports: &mut Vec<Report>) -> Vec<(String, Template)> {
    let mut found = Vec::new();
    for variable in patch::map(&entry.value, "`environment`", reports).unwrap_or_default() {
        let name = &variable.key;
        let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !plain || name.starts_with("ABLATE_") {
            let message = format!("`{name}` is no variable that `environment` can set");
            reports.push(Report::error(variable.position, message).hint(
                "use letters, digits and `_`; those that begin with ABLATE_ are the program's own",
            ));
            continue;
        }
        if let Some(template) = template(&variable.value, "`environment`", reports) {
            found.push((name.clone(), template));
        }
    }
    found
}

fn count(entry: &Entry, min: i64, max: i64, reports: &mut Vec<Report>) -> Option<u32> {
    let value = match &entry.value.content {
        Content::Scalar(scalar) => match scalar.kind {
            ScalarKind::Integer(value) => Some(value),
            _ => None,
        },
        _ => None,
    };
    let value = value.filter(|value| (min..=max).contains(value));
    if value.is_none() {
        let message = format!(
            "`{}` must be a whole number, {min} to {max}, not {}",
            entry.key,
            entry.value.brief()
        );
        reports.push(Report::error(entry.value.position, message));
    }
    value.and_then(|value| u32::try_from(value).ok())
}
