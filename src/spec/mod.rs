//! The YAML language: documents, positions, fields, defaults, validation, JSON Schema.

pub mod recipe;
