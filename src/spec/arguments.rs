//! The command line's changes to an experiment.

use super::axes::{self, Axis, Cell};
use super::document::{self, Content, Node};
use super::patch::{self, Patch};
use super::problem::{Position, Report, Sources};

/// What the command line changes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// Name of a profile; `None`: `quick` where there is one.
    pub profile: Option<String>,
    /// `path=value`, in order.
    pub set: Vec<String>,
    /// A count (`5`) or a list (`0,1,2`).
    pub seeds: Option<String>,
    /// `axis=label`; labels of one axis are alternatives.
    pub only: Vec<String>,
}

/// `--set path=value`: the value is YAML.
pub fn read_overrides(
    arguments: &[String],
    sources: &mut Sources,
    reports: &mut Vec<Report>,
) -> Patch {
    let mut overrides = Patch::default();
    for argument in arguments {
        let source = sources.add("--set", argument.as_str());
        let at = |column: usize| Position {
            source,
            line: 1,
            column: column as u32 + 1,
        };
        let Some((path, value)) = argument.split_once('=') else {
            let message = format!("`{argument}` is no `path=value`");
            reports.push(Report::error(at(0), message).hint("write `--set optimizer.lr=1e-3`"));
            continue;
        };
        let path = path.trim();
        let before = reports.len();
        let mut alone = Sources::default();
        let number = alone.add("", value);
        let node = document::parse(&alone, number, reports);
        let offset = argument.chars().count() - value.chars().count();
        for report in &mut reports[before..] {
            report.position = at(offset + (report.position.column as usize).saturating_sub(1));
        }
        let Some(mut node) = node else { continue };
        relocate(&mut node, source, offset as u32);
        let stage = path
            .strip_prefix("stages.")
            .and_then(|rest| rest.split_once('.'));
        match stage {
            Some((stage, path)) => overrides.stages.push(patch::StagePatch {
                stage: stage.to_owned(),
                position: at(0),
                settings: patch::setting(path, at(0), &node, reports),
            }),
            None => overrides
                .settings
                .extend(patch::setting(path, at(0), &node, reports)),
        }
    }
    overrides
}

/// Moves a node that was read from the end of an argument to its place in the argument.
fn relocate(node: &mut Node, source: u32, offset: u32) {
    let moved = |position: &mut Position| {
        *position = Position {
            source,
            line: position.line.max(1),
            column: position.column.max(1) + offset,
        };
    };
    moved(&mut node.position);
    match &mut node.content {
        Content::List(items) => items
            .iter_mut()
            .for_each(|item| relocate(item, source, offset)),
        Content::Map(entries) => {
            for entry in entries {
                moved(&mut entry.position);
                relocate(&mut entry.value, source, offset);
            }
        }
        Content::Null | Content::Scalar(_) => {}
    }
}

/// `--only axis=label`: one cell, with the union of the labels of each axis.
pub fn read_only(
    arguments: &[String],
    axes: &[Axis],
    sources: &mut Sources,
    reports: &mut Vec<Report>,
) -> Vec<Cell> {
    let mut labels: Vec<Option<Vec<u32>>> = vec![None; axes.len()];
    for argument in arguments {
        let source = sources.add(format!("--only {argument}"), "");
        let position = Position {
            source,
            line: 0,
            column: 0,
        };
        let Some((name, label)) = argument.split_once('=') else {
            let message = format!("`{argument}` is no `axis=label`");
            reports.push(Report::error(position, message).hint("write `--only loss=bce`"));
            continue;
        };
        let Some(axis) = axes::find_axis(name.trim(), position, axes, reports) else {
            continue;
        };
        if let Some(label) = axes::find_label(&axes[axis], label.trim(), position, reports) {
            labels[axis].get_or_insert_default().push(label);
        }
    }
    if labels.iter().all(Option::is_none) {
        return Vec::new();
    }
    vec![Cell {
        position: Position::default(),
        labels,
    }]
}
