//! Statistics, tables and plots.
