//! The table model: what a table says, typed, before anything is rendered.
//!
//! [`build`] makes tables from an experiment's rows; [`render`] turns one model into text, one file per
//! form, so that no form can say something another doesn't.

pub mod build;
mod caption;
pub(in crate::report) mod cells;
pub mod render;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

pub use build::{summary_table, tables};

use super::metric;
use super::statistics::{Interval, Method};

/// A table.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Stem of its files (`table`).
    pub name: String,
    pub title: String,
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
    /// States n, the kind of interval and the baseline.
    pub caption: String,
    pub footnotes: Vec<String>,
}

/// A column.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub head: String,
    pub kind: Kind,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Words of the experiment file: text, to be escaped.
    Label,
    Value,
    Delta,
    Count,
}

/// A row: one cell per column.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub cells: Vec<Cell>,
    /// Whether it is the variant that deltas are taken against.
    pub is_baseline: bool,
}

/// A cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Label(String),
    Value(Value),
    Delta(Delta),
    /// The delta of the baseline to itself.
    Baseline,
    /// How many of how many.
    Count {
        n: usize,
        of: usize,
    },
    /// Runs that failed.
    Failures(usize),
    State(State),
}

/// Why there is no number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Pending,
    Running,
    /// All runs that ended failed; the failure class.
    Failed(String),
    Diverged,
    /// The grid has no such variant, or the stage wasn't evaluated by this metric.
    Missing,
}

impl State {
    /// In a cell.
    pub fn words(&self) -> String {
        match self {
            State::Pending => "pending".to_owned(),
            State::Running => "running".to_owned(),
            State::Failed(class) => format!("failed ({})", class.replace('_', " ")),
            State::Diverged => "diverged".to_owned(),
            State::Missing => "—".to_owned(),
        }
    }
}

/// A mean over seeds, or the value of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    pub mean: f64,
    /// Standard deviation over seeds; `None` for one run.
    pub sd: Option<f64>,
    pub n: usize,
    pub planned: usize,
    /// For one run: the image-level interval of its accuracy.
    pub images: Option<Interval>,
    pub best: bool,
    pub decimals: usize,
    /// Whether the cell itself must say n (the table has no column for it, or n isn't as planned).
    pub says_n: bool,
}

/// A difference to the baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Delta {
    pub mean: f64,
    pub interval: Option<(Interval, Method)>,
    pub decimals: usize,
    pub verdict: Verdict,
}

/// What a delta's interval shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Better,
    Worse,
    /// The interval contains zero, or there is none.
    Unclear,
}

/// A cell in words, with the hints a rendering may use.
#[derive(Debug, Clone, PartialEq)]
pub struct Words {
    pub text: String,
    pub bold: bool,
    pub tone: Tone,
}

/// The colour of a cell where there is colour. The sign or the word says the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    Bad,
    /// Waiting, absent, or undecided.
    Faint,
}

impl Cell {
    /// The cell as text, not yet escaped. The same for every rendering that is read by people.
    pub fn words(&self) -> Words {
        let words = |text: String, bold, tone| Words { text, bold, tone };
        match self {
            Cell::Label(label) => words(label.clone(), false, Tone::Plain),
            Cell::Value(value) => words(value.text(), value.best, Tone::Plain),
            Cell::Delta(delta) => words(
                delta.text(),
                false,
                match delta.verdict {
                    Verdict::Better => Tone::Good,
                    Verdict::Worse => Tone::Bad,
                    Verdict::Unclear => Tone::Plain,
                },
            ),
            Cell::Baseline => words("baseline".to_owned(), false, Tone::Faint),
            Cell::Count { n, of } if n == of => words(n.to_string(), false, Tone::Plain),
            Cell::Count { n, of } => words(format!("{n} of {of}"), false, Tone::Plain),
            Cell::Failures(0) => words("0".to_owned(), false, Tone::Faint),
            Cell::Failures(count) => words(count.to_string(), false, Tone::Bad),
            Cell::State(state) => words(
                state.words(),
                false,
                match state {
                    State::Failed(_) | State::Diverged => Tone::Bad,
                    _ => Tone::Faint,
                },
            ),
        }
    }
}

impl Value {
    /// The mean as printed, which decides ties.
    pub fn printed(&self) -> String {
        metric::number(self.mean, self.decimals)
    }

    fn text(&self) -> String {
        let mut text = self.printed();
        if let Some(sd) = self.sd {
            text.push_str(&format!(" ± {}", metric::number(sd, self.decimals)));
        } else if let Some(interval) = self.images {
            let bound = |value| metric::number(value, self.decimals);
            text.push_str(&format!(
                " [{}, {}]",
                bound(interval.low),
                bound(interval.high)
            ));
        }
        if self.says_n {
            text.push_str(&format!(" (n = {})", self.n));
        }
        text
    }
}

impl Delta {
    fn text(&self) -> String {
        let number = |value| metric::signed(value, self.decimals);
        match self.interval {
            Some((interval, _)) => {
                format!(
                    "{} [{}, {}]",
                    number(self.mean),
                    number(interval.low),
                    number(interval.high)
                )
            }
            None => number(self.mean),
        }
    }
}
