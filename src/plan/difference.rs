//! What distinguishes two stages: the answer to "why would this run again?".

use crate::rundir::stage::{CommandSpec, InputFile, NamedSet, StageSpec};
use crate::spec::fields::FIELDS;
use crate::spec::resolved::from_recipe;
use std::collections::{BTreeMap, BTreeSet};

/// Fields in which `ours` differs from `theirs`, as `path: theirs -> ours`, in the order of the table of
/// fields; seed, data and parent included. Empty: the fingerprints are equal.
pub fn differences(theirs: &StageSpec, ours: &StageSpec) -> Vec<String> {
    let mut differences = Vec::new();
    if let (Some(theirs), Some(ours)) = (&theirs.command, &ours.command) {
        differences.extend(command_differences(theirs, ours));
    }
    let pairs = from_recipe(&theirs.recipe)
        .into_iter()
        .zip(from_recipe(&ours.recipe));
    for (field, (theirs, ours)) in FIELDS.iter().zip(pairs) {
        if field.identity && theirs != ours {
            differences.push(format!(
                "{}: {} -> {}",
                field.path,
                theirs.canonical(),
                ours.canonical()
            ));
        }
    }
    let mut other_than = |what: &str, theirs: String, ours: String| {
        if theirs != ours {
            differences.push(format!("{what}: {theirs} -> {ours}"));
        }
    };
    other_than("seed", theirs.seed.to_string(), ours.seed.to_string());
    other_than("data", short(&theirs.data_hash), short(&ours.data_hash));
    let sets = |spec: &StageSpec| {
        let set = |set: &NamedSet| format!("{} {}", set.name, short(&set.hash));
        let sets: Vec<String> = spec.evaluation_sets.iter().map(set).collect();
        format!("[{}]", sets.join(", "))
    };
    other_than("evaluation sets", sets(theirs), sets(ours));
    if ours.command.is_none() {
        other_than(
            "trainer revision",
            theirs.trainer_revision.to_string(),
            ours.trainer_revision.to_string(),
        );
    }
    let parent = |spec: &StageSpec| spec.parent.as_deref().map_or("none".to_owned(), short);
    other_than("parent", parent(theirs), parent(ours));
    let init = |spec: &StageSpec| {
        spec.init_weights
            .as_deref()
            .map_or("none".to_owned(), short)
    };
    other_than("initial weights", init(theirs), init(ours));
    differences
}

/// In what two programs differ, as `what: theirs -> ours`.
fn command_differences(theirs: &CommandSpec, ours: &CommandSpec) -> Vec<String> {
    let mut differences = Vec::new();
    let mut maps = |what: &str, theirs: BTreeMap<&str, String>, ours: BTreeMap<&str, String>| {
        let names: BTreeSet<&str> = theirs.keys().chain(ours.keys()).copied().collect();
        for name in names {
            let (theirs, ours) = (theirs.get(name), ours.get(name));
            if theirs != ours {
                let word = |value: Option<&String>| value.map_or("none".to_owned(), String::clone);
                differences.push(format!("{what}{name}: {} -> {}", word(theirs), word(ours)));
            }
        }
    };
    fn json(map: &BTreeMap<String, serde_json::Value>) -> BTreeMap<&str, String> {
        map.iter()
            .map(|(name, value)| (name.as_str(), value.to_string()))
            .collect()
    }
    maps("params.", json(&theirs.params), json(&ours.params));
    maps("", json(&theirs.fields), json(&ours.fields));
    fn inputs(spec: &CommandSpec) -> BTreeMap<&str, String> {
        let input = |input: &'_ InputFile| short(&input.hash);
        spec.inputs
            .iter()
            .map(|file| (file.path.as_str(), input(file)))
            .collect()
    }
    maps("input ", inputs(theirs), inputs(ours));
    fn environment(spec: &CommandSpec) -> BTreeMap<&str, String> {
        spec.environment
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()))
            .collect()
    }
    maps("environment ", environment(theirs), environment(ours));
    let mut lists = |what: &str, theirs: &[String], ours: &[String]| {
        if theirs != ours {
            let list = |words: &[String]| words.join(" ");
            differences.push(format!("{what}: {} -> {}", list(theirs), list(ours)));
        }
    };
    lists("metrics", &theirs.metrics, &ours.metrics);
    lists("outputs", &theirs.outputs, &ours.outputs);
    // What differs in the command line follows from the rest, unless its text was changed.
    if differences.is_empty() && theirs.argv != ours.argv {
        let list = |words: &[String]| words.join(" ");
        differences.push(format!(
            "command: {} -> {}",
            list(&theirs.argv),
            list(&ours.argv)
        ));
    }
    differences
}

/// The stage that another one is most like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nearest {
    pub fingerprint: String,
    /// [`differences`] from it.
    pub differences: Vec<String>,
}

impl Nearest {
    /// The candidate of the same task with the fewest differences; the first of several.
    pub fn of<'s>(
        ours: &StageSpec,
        candidates: impl IntoIterator<Item = &'s StageSpec>,
    ) -> Option<Nearest> {
        candidates
            .into_iter()
            .filter(|spec| spec.task == ours.task)
            .map(|spec| Nearest {
                fingerprint: spec.fingerprint.clone(),
                differences: differences(spec, ours),
            })
            .min_by_key(|nearest| nearest.differences.len())
    }

    /// `differs from 0123456789ab: optimizer.lr: 0.01 -> 0.002, seed: 0 -> 1 and 3 more`.
    pub fn text(&self, shown: usize) -> String {
        let mut list = self
            .differences
            .iter()
            .take(shown)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        let more = self.differences.len().saturating_sub(shown);
        if more > 0 {
            list.push_str(&format!(" and {more} more"));
        }
        format!("differs from {}: {list}", short(&self.fingerprint))
    }
}

/// The first digits of a hash.
fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}
