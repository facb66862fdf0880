//! `ablate schema`: the JSON Schema of the language, for editors.

use super::exit::Exit;
use crate::spec::schema::{File, json_schema};
use clap::{Args, ValueEnum};
use std::io::Write;

/// Files that have a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum SchemaFile {
    #[default]
    Experiment,
    Recipe,
}

/// Print the JSON Schema of experiment or recipe files
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct SchemaArgs {
    /// Kind of file
    #[arg(value_enum, default_value_t)]
    pub file: SchemaFile,
}

/// Runs the command.
pub fn run(args: &SchemaArgs) -> Exit {
    // A closed pipe has read what it wanted.
    let _ = std::io::stdout().write_all(text(args).as_bytes());
    Exit::Done
}

/// The schema as text.
fn text(args: &SchemaArgs) -> String {
    let file = match args.file {
        SchemaFile::Experiment => File::Experiment,
        SchemaFile::Recipe => File::Recipe,
    };
    format!("{:#}\n", json_schema(file))
}
