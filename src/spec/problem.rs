//! Problems: what is wrong with a file, where, and what to do about it.
//!
//! Every reader of this room collects problems instead of stopping at the first one, so a user sees
//! all of a file's problems at once.

use std::fmt;
use std::sync::Arc;

/// A place in a source: which one, and line and column counted from 1 (columns in characters).
/// Line 0 means the source as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Position {
    pub source: u32,
    pub line: u32,
    pub column: u32,
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Warning,
}

/// A text that problems point into: a file, a built-in recipe or a command-line argument.
#[derive(Debug, Clone)]
pub struct Source {
    /// The name shown in front of the line number.
    pub name: String,
    pub text: Arc<str>,
}

/// All texts that were read, so that a problem can show the line it is about.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    list: Vec<Source>,
}

impl Sources {
    /// Adds a text and returns its number, for [`Position::source`].
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<Arc<str>>) -> u32 {
        self.list.push(Source {
            name: name.into(),
            text: text.into(),
        });
        (self.list.len() - 1) as u32
    }

    /// The text that `number` stands for.
    pub fn get(&self, number: u32) -> Option<&Source> {
        self.list.get(number as usize)
    }

    /// The problem with its names and source line filled in.
    pub fn problem(&self, report: &Report) -> Problem {
        let source = self.get(report.position.source);
        let line = report.position.line;
        Problem {
            severity: report.severity,
            file: source.map(|s| s.name.clone()).unwrap_or_default(),
            line,
            column: report.position.column,
            message: report.message.clone(),
            hint: report.hint.clone(),
            excerpt: source
                .filter(|_| line > 0)
                .and_then(|s| s.text.lines().nth(line as usize - 1))
                .map(str::to_owned),
        }
    }
}

/// A problem as it is found: a position and what to say.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Report {
    pub severity: Severity,
    pub position: Position,
    pub message: String,
    pub hint: Option<String>,
}

impl Report {
    /// An error at `position`.
    pub fn error(position: Position, message: impl Into<String>) -> Self {
        Report {
            severity: Severity::Error,
            position,
            message: message.into(),
            hint: None,
        }
    }

    /// A warning at `position`.
    pub fn warning(position: Position, message: impl Into<String>) -> Self {
        Report {
            severity: Severity::Warning,
            ..Report::error(position, message)
        }
    }

    /// The same with advice.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A problem of a file, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    /// Path of the file, or the command-line argument.
    pub file: String,
    /// From 1; 0: the file as a whole.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The line it is about.
    pub excerpt: Option<String>,
}

/// Longest source line that is shown, in characters.
const EXCERPT_WIDTH: usize = 100;

impl fmt::Display for Problem {
    /// `file:line:column: message; hint`, then the line with a caret under the column.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", visible(&self.file))?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": ")?;
        if self.severity == Severity::Warning {
            write!(f, "warning: ")?;
        }
        write!(f, "{}", visible(&self.message))?;
        if let Some(hint) = &self.hint {
            write!(f, "; {}", visible(hint))?;
        }
        let Some(excerpt) = &self.excerpt else {
            return Ok(());
        };
        let column = (self.column as usize).saturating_sub(1);
        let characters: Vec<char> = excerpt.chars().collect();
        let start = column.saturating_sub(EXCERPT_WIDTH * 2 / 3);
        let start = if characters.len() <= EXCERPT_WIDTH {
            0
        } else {
            start
        };
        let shown: String = characters.iter().skip(start).take(EXCERPT_WIDTH).collect();
        if shown.trim().is_empty() {
            return Ok(());
        }
        let number = self.line.to_string();
        let indent = " ".repeat(column.saturating_sub(start).min(EXCERPT_WIDTH));
        write!(f, "\n  {number} | {}", plain(&shown))?;
        write!(f, "\n  {} | {indent}^", " ".repeat(number.len()))
    }
}

/// Whether a character would change how the text around it is shown instead of being shown itself: control and format
/// characters (C0, C1, bidirectional marks, zero-width and other invisible ones, tags).
pub fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{3164}' | '\u{ffa0}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0100}'..='\u{e01ef}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}'..='\u{ffff}'
            | '\u{e0000}'..='\u{e007f}')
}

/// The text with invisible characters written as escapes, so that a hostile file can't steer the
/// terminal or hide what it says.
pub fn visible(text: &str) -> String {
    if !text.chars().any(is_invisible) {
        return text.to_owned();
    }
    text.chars()
        .map(|c| {
            if is_invisible(c) {
                format!("\\u{{{:x}}}", c as u32)
            } else {
                c.to_string()
            }
        })
        .collect()
}

/// One character for each character, so that the caret stays under its column.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' => ' ',
            c if is_invisible(c) => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// Most problems that are shown at once.
const MOST_SHOWN: usize = 100;

/// Problems that stop a command, all of them at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl Problems {
    /// `reports` in the order of files and lines, without repetitions; of very many, the first.
    pub fn new(sources: &Sources, reports: &[Report]) -> Self {
        let mut seen = std::collections::HashSet::new();
        let mut unique: Vec<&Report> = reports.iter().filter(|r| seen.insert(*r)).collect();
        unique.sort_by_key(|report| report.position);
        let more = unique.len().saturating_sub(MOST_SHOWN);
        let mut list: Vec<Problem> = unique
            .iter()
            .take(MOST_SHOWN)
            .map(|report| sources.problem(report))
            .collect();
        if let Some(report) = unique.get(MOST_SHOWN) {
            let severity = unique[MOST_SHOWN..]
                .iter()
                .map(|report| report.severity)
                .min();
            let position = Position {
                line: 0,
                column: 0,
                ..report.position
            };
            let summary = Report {
                severity: severity.unwrap_or(report.severity),
                ..Report::error(position, format!("and {more} more problems"))
            };
            list.push(sources.problem(&summary));
        }
        Problems(list)
    }

    /// Whether there is an error among them (not only warnings).
    pub fn has_errors(&self) -> bool {
        self.0
            .iter()
            .any(|problem| problem.severity == Severity::Error)
    }
}

/// The member of `names` that `name` is most likely meant to be.
pub fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.chars().count() > 100 {
        return None;
    }
    let lower = name.to_lowercase();
    let tail = |path: &'a str| path.rsplit('.').next().unwrap_or(path);
    names
        .into_iter()
        .map(|candidate| {
            let whole = strsim::normalized_damerau_levenshtein(&lower, &candidate.to_lowercase());
            // `lr` is meant to be `optimizer.lr`.
            let last = if lower.contains('.') {
                0.0
            } else {
                0.95 * strsim::normalized_damerau_levenshtein(
                    &lower,
                    &tail(candidate).to_lowercase(),
                )
            };
            (whole.max(last), candidate)
        })
        .filter(|(score, _)| *score >= 0.5)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// The advice for an unknown name: the nearest one, or all of them when there are few.
pub fn suggestion<'a>(
    name: &str,
    names: impl IntoIterator<Item = &'a str> + Clone,
) -> Option<String> {
    if let Some(candidate) = nearest(name, names.clone()) {
        return Some(format!("did you mean `{candidate}`?"));
    }
    let all: Vec<&str> = names.into_iter().collect();
    match all.len() {
        0 => None,
        1..=12 => Some(format!("known: {}", all.join(", "))),
        more => Some(format!(
            "known: {} and {} more",
            all[..12].join(", "),
            more - 12
        )),
    }
}
