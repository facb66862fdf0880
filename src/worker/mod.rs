//! One stage in one process.
