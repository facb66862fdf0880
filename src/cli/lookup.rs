//! What the commands that look into the store share: finding what a user names, and printing.

use super::exit::Exit;
use crate::report::text::clean;
use crate::spec::problem::nearest;
use crate::store::rows::RunRow;
use crate::store::{Store, StoreError};
use comfy_table::{ContentLineStyle, LineStyle, TableStyle};
use std::io::Write;
use std::path::Path;

/// Why a command that looks into the store gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("there is no {what} `{name}`{hint}")]
    Unknown {
        what: &'static str,
        name: String,
        hint: String,
    },
    #[error("`{name}` stands for {count} {what}s: {list}")]
    Ambiguous {
        what: &'static str,
        name: String,
        count: usize,
        list: String,
    },
    #[error("{0}")]
    Nothing(String),
    #[error("can't read {path}: {source}")]
    Read {
        path: String,
        source: std::io::Error,
    },
    #[error("can't write the answer: {0}")]
    Write(#[from] std::io::Error),
}

impl LookupError {
    /// The exit code: a question that can't be answered is the user's, the rest the store's.
    pub fn exit(&self) -> Exit {
        match self {
            LookupError::Unknown { .. }
            | LookupError::Ambiguous { .. }
            | LookupError::Nothing(_)
            | LookupError::Store(StoreError::Sql { .. }) => Exit::Usage,
            _ => Exit::Store,
        }
    }
}

/// A reader that has seen enough (`ablate query … | head`) is no error.
pub fn ignore_closed_pipe(result: Result<(), LookupError>) -> Result<(), LookupError> {
    match result {
        Err(LookupError::Write(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Opens the store at `dir` to read; its warnings go to `err`.
pub async fn open(dir: &Path, err: &mut dyn Write) -> Result<Store, LookupError> {
    let store = Store::open_read_only(dir).await?;
    for warning in store.warnings() {
        // A closed stderr is no reason to give no answer.
        let _ = writeln!(err, "warning: {warning}");
    }
    Ok(store)
}

/// What a user's word stands for.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    Run(Box<RunRow>),
    /// A stage's fingerprint.
    Stage(String),
}

/// Shortest part of a fingerprint that is taken for one.
const FINGERPRINT_PART: usize = 4;

/// Finds a run by its id or the only one that begins with `name`, else a stage by its fingerprint or
/// the beginning of it.
pub async fn find(store: &Store, name: &str) -> Result<Target, LookupError> {
    let mut runs = store.runs_beginning(name).await?;
    if let Some(exact) = runs.iter().position(|run| run.id == name) {
        return Ok(Target::Run(Box::new(runs.swap_remove(exact))));
    }
    let mut stages = Vec::new();
    if name.len() >= FINGERPRINT_PART && name.chars().all(|c| c.is_ascii_hexdigit()) {
        stages = store.stages_beginning(&name.to_ascii_lowercase()).await?;
    }
    match (runs.len(), stages.len()) {
        (1, 0) => Ok(Target::Run(Box::new(runs.remove(0)))),
        (0, 1) => Ok(Target::Stage(stages.remove(0))),
        (0, 0) => Err(unknown("run", name, &store.run_ids().await?)),
        (0, _) => Err(ambiguous("stage", name, stages)),
        _ => Err(ambiguous(
            "run",
            name,
            runs.into_iter().map(|run| run.id).collect(),
        )),
    }
}

/// The error for a name that isn't among `names`.
pub fn unknown(what: &'static str, name: &str, names: &[String]) -> LookupError {
    let hint = if names.is_empty() {
        "; the store is empty: `ablate run FILE` fills it".to_owned()
    } else if let Some(near) = nearest(name, names.iter().map(String::as_str)) {
        format!("; did you mean `{near}`?")
    } else if names.len() <= 12 {
        format!("; there are {}", names.join(", "))
    } else {
        "; `ablate query \"SELECT run FROM v_runs\"` lists them".to_owned()
    };
    LookupError::Unknown {
        what,
        name: name.to_owned(),
        hint,
    }
}

fn ambiguous(what: &'static str, name: &str, names: Vec<String>) -> LookupError {
    const SHOWN: usize = 8;
    let mut list = names
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        list.push_str(", …");
    }
    LookupError::Ambiguous {
        what,
        name: name.to_owned(),
        count: names.len(),
        list,
    }
}

/// A rule below the head, nothing else.
const RULES: TableStyle = TableStyle::new()
    .header_lines(ContentLineStyle::none().junction(' '))
    .header_separator(LineStyle::none().fill('─').junction('─'))
    .content_lines(ContentLineStyle::none().junction(' '));

/// A grid without borders, for a terminal. `right` are the columns of numbers.
pub fn grid(head: &[String], rows: Vec<Vec<String>>, right: &[usize]) -> String {
    use comfy_table::{CellAlignment, ContentArrangement, Table};
    let mut table = Table::new();
    table.load_style(RULES);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head.iter().map(|text| clean(text)));
    for row in rows {
        table.add_row(row.iter().map(|text| clean(text)));
    }
    for &index in right {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A duration for people: `42 s`, `3 min 05 s`, `2 h 07 min`, `3 d 04 h`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    match seconds {
        0..=59 => format!("{seconds} s"),
        60..=3599 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..=86_399 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests;
