//! `execution`: how an experiment's stages are carried out. Nothing here is part of a stage's identity.
//!
//! One setting may move a result by rounding: `out_of_memory: smaller_parts` (see [`OutOfMemory`]); every
//! use of it is recorded and shown.

use super::document::{Content, Entry, Node, ScalarKind};
use super::duration;
use super::patch;
use super::problem::{Report, suggestion};
use std::time::Duration;

/// The `execution` section, complete.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecutionRules {
    /// Longest wall time of an attempt, time that it was stopped (Ctrl-Z) left out; `None`: any.
    pub timeout: Option<Duration>,
    /// An attempt that shows neither an event nor CPU time nor any reading or writing for this long hangs; `None`: it may.
    pub hung_after: Option<Duration>,
    /// Time that an attempt has to write a checkpoint and leave once it was asked to.
    pub grace: Duration,
    pub out_of_memory: OutOfMemory,
    pub checkpoints: CheckpointRules,
}

/// What becomes of a stage that ran out of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutOfMemory {
    /// It is tried again as it is.
    #[default]
    Same,
    /// It is tried again with the parts of an optimizer step halved in size and doubled in number. Batch,
    /// order, augmentation, mixing and drop path stay the same, for they are drawn per step and sample;
    /// only the order of float sums changes.
    SmallerParts,
}

/// When checkpoints are written and which are kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CheckpointRules {
    /// Time between two.
    pub every: Duration,
    /// Epochs between two, besides.
    pub every_epochs: Option<u32>,
    /// The newest that are kept until the stage is done.
    pub keep: usize,
    /// Keep the weights of the best evaluation, too.
    pub best: bool,
}

impl Default for ExecutionRules {
    fn default() -> ExecutionRules {
        ExecutionRules {
            timeout: None,
            hung_after: Some(Duration::from_secs(600)),
            grace: Duration::from_secs(10),
            out_of_memory: OutOfMemory::Same,
            checkpoints: CheckpointRules {
                every: Duration::from_secs(60),
                every_epochs: None,
                keep: 2,
                best: false,
            },
        }
    }
}

const KEYS: [&str; 5] = [
    "timeout",
    "hung_after",
    "grace",
    "out_of_memory",
    "checkpoints",
];
const CHECKPOINT_KEYS: [&str; 4] = ["every", "every_epochs", "keep", "best"];
const OUT_OF_MEMORY: [(&str, OutOfMemory); 2] = [
    ("same", OutOfMemory::Same),
    ("smaller_parts", OutOfMemory::SmallerParts),
];
/// Most checkpoints that are kept.
const MOST_KEPT: i64 = 1_000;

/// Reads the section.
pub fn read(node: &Node, reports: &mut Vec<Report>) -> ExecutionRules {
    let mut rules = ExecutionRules::default();
    for entry in patch::map(node, "`execution`", reports).unwrap_or_default() {
        let place = format!("`execution.{}`", entry.key);
        match entry.key.as_str() {
            "timeout" => rules.timeout = duration(&entry.value, &place, reports),
            "hung_after" => rules.hung_after = duration(&entry.value, &place, reports),
            "grace" => {
                if let Some(grace) = duration(&entry.value, &place, reports) {
                    rules.grace = grace;
                }
            }
            "out_of_memory" => {
                let text = entry.value.text().unwrap_or_default();
                match OUT_OF_MEMORY.iter().find(|(name, _)| *name == text) {
                    Some((_, value)) => rules.out_of_memory = *value,
                    None => {
                        let message = format!(
                            "{place} is `same` or `smaller_parts`, not `{}`",
                            entry.value.brief()
                        );
                        let report = Report::error(entry.value.position, message);
                        reports.push(
                            match suggestion(text, OUT_OF_MEMORY.iter().map(|(name, _)| *name)) {
                                Some(hint) => report.hint(hint),
                                None => report,
                            },
                        );
                    }
                }
            }
            "checkpoints" => read_checkpoints(&entry.value, &mut rules.checkpoints, reports),
            _ => unknown(entry, "`execution`", &KEYS, reports),
        }
    }
    rules
}

fn read_checkpoints(node: &Node, rules: &mut CheckpointRules, reports: &mut Vec<Report>) {
    const PLACE: &str = "`execution.checkpoints`";
    for entry in patch::map(node, PLACE, reports).unwrap_or_default() {
        let place = format!("`execution.checkpoints.{}`", entry.key);
        match entry.key.as_str() {
            "every" => {
                if let Some(every) = duration(&entry.value, &place, reports) {
                    rules.every = every;
                }
            }
            "every_epochs" if entry.value.content == Content::Null => rules.every_epochs = None,
            "every_epochs" => {
                let most = i64::from(u32::MAX);
                if let Some(epochs) = count(&entry.value, &place, most, reports) {
                    rules.every_epochs = u32::try_from(epochs).ok();
                }
            }
            "keep" => {
                if let Some(keep) = count(&entry.value, &place, MOST_KEPT, reports) {
                    rules.keep = keep as usize;
                }
            }
            "best" => match &entry.value.content {
                Content::Scalar(scalar) if matches!(scalar.kind, ScalarKind::Bool(_)) => {
                    rules.best = scalar.kind == ScalarKind::Bool(true);
                }
                _ => {
                    let message = format!(
                        "{place} is `true` or `false`, not `{}`",
                        entry.value.brief()
                    );
                    reports.push(Report::error(entry.value.position, message));
                }
            },
            _ => unknown(entry, PLACE, &CHECKPOINT_KEYS, reports),
        }
    }
}

fn unknown(entry: &Entry, place: &str, known: &[&'static str], reports: &mut Vec<Report>) {
    let message = format!("unknown key `{}` in {place}", entry.key);
    let report = Report::error(entry.position, message);
    reports.push(match suggestion(&entry.key, known.iter().copied()) {
        Some(hint) => report.hint(hint),
        None => report.hint(format!("known: {}", known.join(", "))),
    });
}

/// A duration; `None` for null, and for what is none, which is reported.
fn duration(node: &Node, place: &str, reports: &mut Vec<Report>) -> Option<Duration> {
    if node.content == Content::Null {
        return None;
    }
    let found = node.text().and_then(duration::parse);
    if found.is_none() {
        let message = format!("{place} expects a duration, not `{}`", node.brief());
        reports.push(Report::error(node.position, message).hint(duration::HINT));
    }
    found
}

fn count(node: &Node, place: &str, most: i64, reports: &mut Vec<Report>) -> Option<i64> {
    if let Content::Scalar(scalar) = &node.content
        && let ScalarKind::Integer(value) = scalar.kind
        && (1..=most).contains(&value)
    {
        return Some(value);
    }
    let message = format!(
        "{place} expects a whole number from 1 to {most}, not `{}`",
        node.brief()
    );
    reports.push(Report::error(node.position, message));
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::experiment::{Options, read as read_experiment};

    fn rules(section: &str) -> Result<ExecutionRules, String> {
        let text = format!("recipe: quick\nexecution:\n{section}");
        read_experiment("x.yaml", &text, None, &Options::default())
            .map(|experiment| experiment.execution)
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_whole_section() {
        let read = rules(
            "  timeout: 2h\n  hung_after: 90s\n  grace: 1m\n  out_of_memory: smaller_parts\n\
             \x20 checkpoints: {every: 0.5s, every_epochs: 3, keep: 4, best: true}\n",
        );
        let expected = ExecutionRules {
            timeout: Some(Duration::from_secs(7200)),
            hung_after: Some(Duration::from_secs(90)),
            grace: Duration::from_secs(60),
            out_of_memory: OutOfMemory::SmallerParts,
            checkpoints: CheckpointRules {
                every: Duration::from_millis(500),
                every_epochs: Some(3),
                keep: 4,
                best: true,
            },
        };
        assert_eq!(read, Ok(expected));
        let none = rules("  timeout: null\n  hung_after: null\n").unwrap();
        assert_eq!((none.timeout, none.hung_after), (None, None));
        let plain = read_experiment("x.yaml", "recipe: quick\n", None, &Options::default());
        assert_eq!(plain.unwrap().execution, ExecutionRules::default());
    }

    #[test]
    fn mistakes_are_named_where_they_stand() {
        for (section, words) in [
            ("  timeot: 2h\n", "3:3: unknown key `timeot` in `execution`"),
            (
                "  timeout: soon\n",
                "3:12: `execution.timeout` expects a duration, not `soon`",
            ),
            (
                "  out_of_memory: smaler_parts\n",
                "did you mean `smaller_parts`?",
            ),
            ("  checkpoints: {keep: 0}\n", "from 1 to 1000, not `0`"),
            (
                "  checkpoints: {best: 1}\n",
                "is `true` or `false`, not `1`",
            ),
            ("  checkpoints: {evry: 1s}\n", "did you mean `every`?"),
            (
                "  checkpoints: {every_epochs: 1.5}\n",
                "expects a whole number",
            ),
        ] {
            let message = rules(section).unwrap_err();
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn a_profile_has_its_own() {
        let text = "recipe: quick\nexecution: {timeout: 1h}\nprofiles:\n  quick: {execution: {timeout: 1m}}\n";
        let experiment = read_experiment("x.yaml", text, None, &Options::default()).unwrap();
        assert_eq!(experiment.execution.timeout, Some(Duration::from_secs(60)));
    }
}
