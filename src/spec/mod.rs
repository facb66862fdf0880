//! The YAML language: documents, positions, fields, defaults, validation, JSON Schema.
//!
//! | module | owns |
//! | --- | --- |
//! | [`document`] | YAML texts as trees with positions |
//! | [`problem`] | problems, their rendering, nearest names |
//! | [`fields`] | the table of recipe fields |
//! | [`value`] | values of fields: coercion and canonical text |
//! | [`arch`] | names of architectures |
//! | [`policy`] | the notation of augmentation policies |
//! | [`patch`] | maps from configuration paths to values |
//! | [`axes`] | axes, designs and cells |
//! | [`stages`] | stages of a run |
//! | [`command`] | stages that run a program |
//! | [`template`] | arguments with placeholders |
//! | [`params`] | free parameters |
//! | [`seeds`] | seeds of the replicates |
//! | [`priority`] | what is trained first |
//! | [`arguments`] | the command line's changes |
//! | [`execution`] | how stages are carried out: limits, checkpoints |
//! | [`duration`] | durations as people write them |
//! | [`experiment`] | experiment files and profiles |
//! | [`report`] | the `report` section: tables, plots, references |
//! | [`published`] | published numbers that a reference may name |
//! | [`library`] | recipes and experiments, built in or beside the file |
//! | [`resolved`] | complete recipes as values of the table |
//! | [`check`] | what holds between fields |
//! | [`schema`] | JSON Schema and reference, made from the table |
//! | [`recipe`] | the recipe as a structure |

pub mod arch;
pub mod arguments;
pub mod axes;
pub mod check;
pub mod command;
pub mod document;
pub mod duration;
pub mod execution;
pub mod experiment;
pub mod fields;
pub mod library;
pub mod params;
pub mod patch;
pub mod policy;
pub mod priority;
pub mod problem;
pub mod published;
pub mod recipe;
pub mod report;
pub mod resolved;
pub mod schema;
pub mod seeds;
pub mod stages;
pub mod task;
pub mod template;
pub mod value;

#[cfg(test)]
mod recipe_facts;
#[cfg(test)]
mod tests;
