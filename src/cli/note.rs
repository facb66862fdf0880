//! `ablate note`: remarks on runs.

use crate::cli::lookup::{self, LookupError, Target, ignore_closed_pipe};
use crate::report::text::clean;
use crate::store::{Store, utc};
use clap::Args;
use std::io::Write;
use std::path::Path;

/// Write a note on a run
///
/// Without TEXT: shows the notes of the run. `ablate show` shows them too, and the view `v_notes` has all.
#[derive(Debug, Clone, Args)]
pub struct NoteArgs {
    /// Id of a run (`EXPERIMENT/VARIANT/sSEED`) or the beginning of one
    #[arg(value_name = "RUN")]
    pub run: String,
    /// What to remember
    #[arg(value_name = "TEXT")]
    pub text: Option<String>,
}

/// Longest note in bytes.
const LONGEST: usize = 16 << 10;

/// Runs the command on the store at `dir`: notes to `out`.
pub async fn run(
    args: &NoteArgs,
    dir: &Path,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), LookupError> {
    ignore_closed_pipe(note(args, dir, out, err).await)
}

async fn note(
    args: &NoteArgs,
    dir: &Path,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), LookupError> {
    let reader = lookup::open(dir, err).await?;
    let Target::Run(run) = lookup::find(&reader, &args.run).await? else {
        return Err(LookupError::Nothing(format!(
            "`{}` is a stage: notes are for runs",
            args.run
        )));
    };
    let Some(text) = args.text.as_deref().map(str::trim) else {
        let notes = reader.marks(&run.id).await?.notes;
        if notes.is_empty() {
            writeln!(out, "There are no notes on {}.", clean(&run.id))?;
        }
        for note in notes {
            writeln!(out, "{}  {}", utc(note.time), clean(&note.text))?;
        }
        return Ok(());
    };
    if text.is_empty() || text.len() > LONGEST {
        return Err(LookupError::Nothing(format!(
            "a note has 1 to {LONGEST} bytes, this one {}",
            text.len()
        )));
    }
    drop(reader);
    let (store, _lock) = Store::open_beside(dir).await?;
    store.note(&run.id, text).await?;
    store.close().await?;
    Ok(())
}
