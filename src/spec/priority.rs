//! Priorities: what is trained first. They change no result, so they are no part of what is fingerprinted.

use super::axes::{self, Axis};
use super::document::{Content, Node, ScalarKind};
use super::patch;
use super::problem::Report;

/// Largest priority; the smallest is its negative.
pub const MOST: i32 = 1000;

/// The `priority` section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Priorities {
    /// Of the whole experiment, beside others in one `ablate run`.
    whole: i32,
    /// Of values of axes: indices of axis and value.
    values: Vec<(usize, u32, i32)>,
}

impl Priorities {
    /// The priority of the variant with these labels: those of its values together.
    pub fn of(&self, labels: &[u32]) -> i32 {
        let named = self
            .values
            .iter()
            .filter(|(axis, value, _)| labels.get(*axis) == Some(value))
            .map(|(_, _, priority)| priority);
        self.whole + named.sum::<i32>()
    }
}

/// Reads `priority`: a number, or per axis a number for each label that is to be named.
pub fn read(node: &Node, axes: &[Axis], reports: &mut Vec<Report>) -> Priorities {
    let mut priorities = Priorities::default();
    if !matches!(node.content, Content::Map(_)) {
        priorities.whole = number(node, reports).unwrap_or(0);
        return priorities;
    }
    for entry in patch::map(node, "`priority`", reports).unwrap_or_default() {
        let Some(axis) = axes::find_axis(&entry.key, entry.position, axes, reports) else {
            continue;
        };
        let place = format!("`priority.{}`", entry.key);
        for value in patch::map(&entry.value, &place, reports).unwrap_or_default() {
            let Some(label) = axes::find_label(&axes[axis], &value.key, value.position, reports)
            else {
                continue;
            };
            if let Some(priority) = number(&value.value, reports) {
                priorities.values.push((axis, label, priority));
            }
        }
    }
    priorities
}

fn number(node: &Node, reports: &mut Vec<Report>) -> Option<i32> {
    if let Content::Scalar(scalar) = &node.content
        && let ScalarKind::Integer(value) = scalar.kind
        && let Ok(value) = i32::try_from(value)
        && (-MOST..=MOST).contains(&value)
    {
        return Some(value);
    }
    let message = format!(
        "a priority is a whole number from -{MOST} to {MOST}, not `{}`",
        node.brief()
    );
    reports.push(Report::error(node.position, message).hint(
        "write `priority: 5` for the whole experiment or `priority: {axis: {label: 5}}`; higher goes first, 0 is usual",
    ));
    None
}
