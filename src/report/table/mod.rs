//! The table model: what a table says, typed, before anything is rendered.
//!
//! [`build`] makes tables from an experiment's rows; [`render`] turns one model into text, one file per
//! form, so that no form can say something another doesn't.

mod best;
pub mod build;
mod caption;
pub(in crate::report) mod cells;
mod changes;
mod comparisons;
pub(in crate::report) mod deviations;
mod effects;
pub(in crate::report) mod family;
mod pivot;
pub(in crate::report) mod power;
pub(in crate::report) mod published;
pub mod render;
mod resolutions;
mod variants;

#[cfg(test)]
mod comparison_tests;
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod form_tests;
#[cfg(test)]
mod kind_tests;
#[cfg(test)]
mod published_tests;
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
    /// Name of its experiment, so that a document may have tables of several.
    pub experiment: String,
    pub title: String,
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
    /// States n, the kind of interval and the baseline.
    pub caption: String,
    /// Below the caption. One that a column's head refers to begins with that [`Column::note`] and a colon.
    pub footnotes: Vec<String>,
    /// Whether people are shown rows as columns ([`Table::shown`]); files for machines aren't affected.
    pub transposed: bool,
}

/// A column.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub head: String,
    pub kind: Kind,
    /// A head over neighbouring columns of the same group.
    pub group: Option<String>,
    /// Mark of the footnote that is about this column.
    pub note: Option<char>,
}

impl Column {
    /// A column of no group and without a note.
    pub fn new(head: impl Into<String>, kind: Kind) -> Self {
        Column {
            head: head.into(),
            kind,
            group: None,
            note: None,
        }
    }

    /// The head with its group's in front, for renderings with one line of heads.
    pub fn full_head(&self) -> String {
        match &self.group {
            Some(group) if self.head.is_empty() => group.clone(),
            Some(group) => format!("{group} {}", self.head),
            None => self.head.clone(),
        }
    }
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Words of the experiment file: text, to be escaped.
    Label,
    Value,
    Delta,
    Count,
    /// A p value.
    Probability,
    /// A number with or without an interval.
    Estimate,
    /// A word of ours (`equivalent`).
    Word,
    /// Long words about a row (where a number comes from): people are shown a letter, and the words as a footnote.
    Source,
    /// Cells of several kinds, in a table that is shown transposed.
    Mixed,
}

impl Kind {
    /// Whether its cells are text, which is set flush left.
    pub fn is_text(self) -> bool {
        matches!(self, Kind::Label | Kind::Word | Kind::Source)
    }

    /// Its name for machines.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Label => "label",
            Kind::Value => "value",
            Kind::Delta => "delta",
            Kind::Count => "count",
            Kind::Probability => "probability",
            Kind::Estimate => "estimate",
            Kind::Word => "word",
            Kind::Source => "source",
            Kind::Mixed => "mixed",
        }
    }
}

/// A row: one cell per column.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub cells: Vec<Cell>,
    /// Whether it is the variant that deltas are taken against.
    pub is_baseline: bool,
    /// A head over neighbouring rows of the same group.
    pub group: Option<String>,
}

impl Row {
    /// A row of no group.
    pub fn new(cells: Vec<Cell>) -> Self {
        Row {
            cells,
            is_baseline: false,
            group: None,
        }
    }
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
    /// A p value.
    Probability(f64),
    Estimate(Estimate),
    /// Whether a published number lies in our interval, and that interval.
    Within(Within),
    /// A word of ours, and how good the news is.
    Word(String, Tone),
}

/// Why there is no number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Pending,
    Running,
    /// All runs that ended failed; the failure class.
    Failed(String),
    Diverged,
    OutOfMemory,
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
            State::OutOfMemory => "OOM".to_owned(),
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
    /// Runs; `None` where nobody says how many (a published number).
    pub n: Option<usize>,
    pub planned: Option<usize>,
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

/// A number, and its interval where it has one.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    pub value: f64,
    pub interval: Option<Interval>,
    pub decimals: usize,
    /// Whether a positive number has its sign.
    pub signed: bool,
}

impl Estimate {
    fn number(&self, value: f64) -> String {
        if self.signed {
            metric::signed(value, self.decimals)
        } else {
            metric::number(value, self.decimals)
        }
    }

    fn text(&self) -> String {
        match self.interval {
            Some(interval) => format!(
                "{} [{}, {}]",
                self.number(self.value),
                self.number(interval.low),
                self.number(interval.high)
            ),
            None => self.number(self.value),
        }
    }
}

/// Whether a number lies in an interval.
#[derive(Debug, Clone, PartialEq)]
pub struct Within {
    pub inside: bool,
    pub interval: Interval,
    pub decimals: usize,
}

impl Within {
    fn text(&self) -> String {
        let bound = |value| metric::number(value, self.decimals);
        format!(
            "{} [{}, {}]",
            if self.inside { "yes" } else { "no" },
            bound(self.interval.low),
            bound(self.interval.high)
        )
    }
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
    /// Whether something has a part.
    pub fn tick(has: bool) -> Cell {
        match has {
            true => Cell::Word("✓".to_owned(), Tone::Plain),
            false => Cell::Word("–".to_owned(), Tone::Faint),
        }
    }

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
                    State::Failed(_) | State::Diverged | State::OutOfMemory => Tone::Bad,
                    _ => Tone::Faint,
                },
            ),
            Cell::Probability(p) => words(probability(*p), false, Tone::Plain),
            Cell::Estimate(estimate) => words(estimate.text(), false, Tone::Plain),
            Cell::Within(within) => words(
                within.text(),
                false,
                if within.inside { Tone::Good } else { Tone::Bad },
            ),
            Cell::Word(word, tone) => words(word.clone(), false, *tone),
        }
    }
}

/// A p value as printed: three decimals, two from a tenth on.
fn probability(p: f64) -> String {
    match p {
        p if p.is_nan() => "—".to_owned(),
        p if p < 0.001 => "< 0.001".to_owned(),
        p if p < 0.0995 => format!("{p:.3}"),
        p => format!("{p:.2}"),
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
        if let Some(n) = self.n.filter(|_| self.says_n) {
            text.push_str(&format!(" (n = {n})"));
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

/// How a caption names the mark of the best values until a rendering says how it marks them.
pub const MARKED: &str = "Marked (bold or *)";

impl Table {
    /// The caption, with what the best values are marked by (`Bold`, `*`).
    pub fn caption_with(&self, mark: &str) -> String {
        self.caption.replace(MARKED, mark)
    }

    /// The table as people are shown it: with [sources](Kind::Source) as footnotes, and with rows as columns if it is
    /// [`transposed`](Table::transposed).
    pub fn shown(&self) -> std::borrow::Cow<'_, Table> {
        use std::borrow::Cow;
        let noted = self.with_notes();
        if !self.transposed {
            return noted;
        }
        Cow::Owned(noted.turned())
    }

    /// Its sources as letters, and their words as footnotes.
    fn with_notes(&self) -> std::borrow::Cow<'_, Table> {
        use std::borrow::Cow;
        let is_source = |index: usize| self.columns[index].kind == Kind::Source;
        let sources: Vec<usize> = (0..self.columns.len()).filter(|i| is_source(*i)).collect();
        if sources.is_empty() {
            return Cow::Borrowed(self);
        }
        let mut table = self.clone();
        // Letters that heads use are taken.
        let mut letters = ('a'..='z').filter(|letter| {
            self.columns
                .iter()
                .all(|column| column.note != Some(*letter))
        });
        let mut known: Vec<(String, String)> = Vec::new();
        for (row, from) in table.rows.iter_mut().zip(&self.rows) {
            let parts: Vec<String> = sources
                .iter()
                .filter_map(|index| Some((index, from.cells.get(*index)?.words().text)))
                .filter(|(_, text)| !text.is_empty())
                .map(|(index, text)| match self.columns[*index].head.as_str() {
                    "source" => text,
                    head => format!("{head}: {text}"),
                })
                .collect();
            let words = parts.join("; ");
            let letter = match known.iter().find(|(_, own)| *own == words) {
                _ if words.is_empty() => String::new(),
                Some((letter, _)) => letter.clone(),
                None => {
                    let letter = letters.next().map_or_else(
                        || format!("{}", known.len() + 1),
                        |letter| letter.to_string(),
                    );
                    known.push((letter.clone(), words));
                    letter
                }
            };
            let mut index = 0;
            row.cells.retain(|_| {
                index += 1;
                !is_source(index - 1)
            });
            row.cells.push(Cell::Label(letter));
        }
        table.columns.retain(|column| column.kind != Kind::Source);
        table.columns.push(Column::new("source", Kind::Label));
        let notes = known
            .into_iter()
            .map(|(letter, words)| format!("{letter}: {words}"));
        let others = table
            .footnotes
            .iter()
            .filter(|note| {
                let of_column = |column: &Column| {
                    column
                        .note
                        .is_some_and(|letter| note.starts_with(&format!("{letter}: ")))
                };
                !self.columns.iter().any(of_column)
            })
            .count();
        let lettered = table.footnotes.len() - others;
        table.footnotes.splice(lettered..lettered, notes);
        Cow::Owned(table)
    }

    fn turned(&self) -> Table {
        let is_label = |column: &Column| column.kind == Kind::Label;
        let heads: Vec<&str> = self
            .columns
            .iter()
            .filter(|column| is_label(column))
            .map(|column| column.head.as_str())
            .collect();
        let mut columns = vec![Column::new(heads.join(", "), Kind::Label)];
        for row in &self.rows {
            let labels: Vec<String> = row
                .cells
                .iter()
                .zip(&self.columns)
                .filter(|(_, column)| is_label(column))
                .map(|(cell, _)| cell.words().text)
                .collect();
            columns.push(Column {
                group: row.group.clone(),
                ..Column::new(labels.join(", "), Kind::Mixed)
            });
        }
        let rows = self
            .columns
            .iter()
            .enumerate()
            .filter(|(_, column)| !is_label(column))
            .map(|(index, column)| {
                let mut head = column.head.clone();
                if let Some(note) = column.note {
                    head.push_str(&format!(" ({note})"));
                }
                let mut cells = vec![Cell::Label(head)];
                cells.extend(
                    self.rows
                        .iter()
                        .filter_map(|row| row.cells.get(index).cloned()),
                );
                Row {
                    group: column.group.clone(),
                    ..Row::new(cells)
                }
            })
            .collect();
        Table {
            columns,
            rows,
            transposed: false,
            ..self.clone()
        }
    }

    /// Whether a head is over row `index`: its group's first row.
    pub(in crate::report) fn group_head(&self, index: usize) -> Option<&str> {
        let group = self.rows[index].group.as_deref()?;
        let before = index
            .checked_sub(1)
            .and_then(|before| self.rows[before].group.as_deref());
        (before != Some(group)).then_some(group)
    }

    /// Runs of neighbouring columns of one group: the group and the number of its columns.
    pub(in crate::report) fn column_groups(&self) -> Vec<(Option<&str>, usize)> {
        let mut groups: Vec<(Option<&str>, usize)> = Vec::new();
        for column in &self.columns {
            let group = column.group.as_deref();
            match groups.last_mut() {
                Some((last, count)) if *last == group && group.is_some() => *count += 1,
                _ => groups.push((group, 1)),
            }
        }
        groups
    }
}
