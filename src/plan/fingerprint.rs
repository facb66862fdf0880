//! Fingerprints: the identity of a stage.
//!
//! A fingerprint is the first half of the BLAKE3 of a text: one line each for format, trainer
//! revision, task, seed, content hash of the data set, fingerprint of the parent (or
//! `weights:` and the hash of the file that it starts from) and the hash of the
//! names of the fields, then one line with the canonical value of every field of the table that is part
//! of the identity, in the table's order, then one line with the content hash of each evaluation set that
//! the recipe names. A program's stage is hashed by what it is told instead ([`of_command`]). The location of a data set is not in it. Names are hashed
//! apart because a text below 1 KiB is hashed three times as fast, and there can be a million of them.

use super::model::Fingerprint;
use crate::rundir::stage::{COMMAND_REVISION, CommandSpec, NamedSet, StageSpec, Task};
use crate::spec::fields::FIELDS;
use crate::spec::resolved::{Flat, Values, from_recipe};
use std::sync::OnceLock;

/// Format of `stage.json`, and of the text that is hashed.
pub const STAGE_FORMAT: u32 = 1;

/// The lines in front of the recipe's.
pub(in crate::plan) fn header(
    text: &mut String,
    trainer_revision: u32,
    task: Task,
    seed: u64,
    data_hash: &str,
    parent: Option<&str>,
) {
    use std::fmt::Write;
    let task = task.name();
    let parent = parent.unwrap_or("none");
    // Writing to a string can't fail.
    let _ = write!(
        text,
        "stage={STAGE_FORMAT}\nrevision={trainer_revision}\ntask={task}\nseed={seed}\ndata={data_hash}\nparent={parent}\nfields={}\n",
        field_names()
    );
}

/// The text of a program's stage: no field of the recipe, no data set and no revision of the trainer can change what it
/// does.
pub(in crate::plan) fn of_command(
    seed: u64,
    parent: Option<&str>,
    command: &CommandSpec,
) -> String {
    let task = Task::Command.name();
    let parent = parent.unwrap_or("none");
    format!(
        "stage={STAGE_FORMAT}\ncommand={COMMAND_REVISION}\ntask={task}\nseed={seed}\nparent={parent}\n{}\n",
        command.canonical()
    )
}

/// What stands for a parent where a stage starts from a file with this hash.
pub(in crate::plan) fn weights_origin(hash: &str) -> String {
    format!("weights:{hash}")
}

/// Hash of the names of the fields that are part of the identity.
fn field_names() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| {
        let names = FIELDS
            .iter()
            .filter(|field| field.identity)
            .map(|field| field.path);
        hash(&names.collect::<Vec<_>>().join("\n")).to_string()
    })
}

fn line(text: &mut String, value: &str) {
    text.push_str(value);
    text.push('\n');
}

/// The recipe's lines, and those of the evaluation sets that it names.
pub(in crate::plan) fn body(
    text: &mut String,
    flat: &Flat,
    values: &Values,
    evaluation_sets: &[NamedSet],
) {
    for (field, &id) in FIELDS.iter().zip(flat) {
        if field.identity {
            line(text, values.canonical(id));
        }
    }
    sets(text, evaluation_sets);
}

fn sets(text: &mut String, sets: &[NamedSet]) {
    sets.iter().for_each(|set| line(text, &set.hash));
}

/// The fingerprint of a text.
pub(in crate::plan) fn hash(text: &str) -> Fingerprint {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..16]);
    Fingerprint(bytes)
}

impl StageSpec {
    /// What the stage starts from, as it is hashed: a parent's fingerprint, or a file.
    fn origin(&self) -> Option<String> {
        let file = self.init_weights.as_deref().map(weights_origin);
        self.parent.clone().or(file)
    }

    /// The fingerprint of what stands here (the field `fingerprint` is not looked at).
    pub fn compute_fingerprint(&self) -> Fingerprint {
        if let Some(command) = &self.command {
            return hash(&of_command(self.seed, self.parent.as_deref(), command));
        }
        let mut text = String::with_capacity(2048);
        header(
            &mut text,
            self.trainer_revision,
            self.task,
            self.seed,
            &self.data_hash,
            self.origin().as_deref(),
        );
        let values = from_recipe(&self.recipe);
        for (field, value) in FIELDS.iter().zip(&values) {
            if field.identity {
                line(&mut text, &value.canonical());
            }
        }
        sets(&mut text, &self.evaluation_sets);
        hash(&text)
    }
}

impl Fingerprint {
    /// The 32 lower-case hexadecimal digits.
    pub(in crate::plan) fn hex(&self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; 32];
        for (index, byte) in self.0.iter().enumerate() {
            hex[2 * index] = DIGITS[usize::from(byte >> 4)];
            hex[2 * index + 1] = DIGITS[usize::from(byte & 15)];
        }
        hex
    }
}
