//! What a stage that runs a program is: the part of `stage.json` that the built-in trainer has no use for.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A program with everything that can change its result, as far as a file can say it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandSpec {
    /// Program and arguments, placeholders filled in.
    pub argv: Vec<String>,
    /// Variables that the experiment adds to the environment.
    pub environment: BTreeMap<String, String>,
    /// Free parameters.
    pub params: BTreeMap<String, serde_json::Value>,
    /// Fields of the recipe that placeholders name, by path.
    pub fields: BTreeMap<String, serde_json::Value>,
    /// Files that it reads, by path relative to the experiment's folder.
    pub inputs: Vec<InputFile>,
    /// Metrics that must be there in the end, sorted.
    pub metrics: Vec<String>,
    /// Files that must be there in the end, sorted; relative to the program's folder.
    pub outputs: Vec<String>,
}

/// A file that a program reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputFile {
    pub path: String,
    /// BLAKE3 of the content, in hexadecimal.
    pub hash: String,
}

impl CommandSpec {
    /// The text that identifies it: its JSON, keys in order.
    pub fn canonical(&self) -> String {
        serde_json::to_string(self).expect("plain data with string keys is JSON")
    }
}
