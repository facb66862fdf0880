//! `ablate schema`: the JSON Schema of the language, for editors.

use crate::spec::schema::{File, json_schema};
use clap::{Args, ValueEnum};

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

/// The schema as text.
pub fn run(args: &SchemaArgs) -> String {
    let file = match args.file {
        SchemaFile::Experiment => File::Experiment,
        SchemaFile::Recipe => File::Recipe,
    };
    format!("{:#}\n", json_schema(file))
}
