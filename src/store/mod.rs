//! The SQLite store: migrations, queries, views; the only SQL.

pub mod rows;
