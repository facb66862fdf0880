//! `ablate recover`: a damaged database is rebuilt, and kept beside.

use crate::cli::lookup::LookupError;
use crate::store::{self, StoreError, StoreLock};
use clap::Args;
use std::io::Write;
use std::path::Path;

/// Rebuild a damaged store from its run directories
///
/// Runs, results, attempts, tags and notes are read from the folders `stages` and `records` of the store. The damaged
/// database is renamed to `ablate.db.damaged-<time>`, never removed. Nothing is trained again.
#[derive(Debug, Clone, Args)]
pub struct RecoverArgs {
    /// Rebuild the database although it is whole
    #[arg(long)]
    pub force: bool,
}

/// Runs the command on the store at `dir`: what was rebuilt to `out`, what could not be read to `err`.
pub async fn run(
    args: &RecoverArgs,
    dir: &Path,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), LookupError> {
    // Without this a mistyped name would become a folder.
    if !dir.is_dir() {
        return Err(StoreError::Missing {
            dir: dir.to_owned(),
        }
        .into());
    }
    let lock = StoreLock::exclusive(dir)?;
    match store::check(dir).await {
        Ok(()) if !args.force => {
            writeln!(
                out,
                "The database of {} is whole: there is nothing to recover.",
                dir.display()
            )?;
            return Ok(());
        }
        Ok(()) => {}
        Err(error @ (StoreError::Damaged { .. } | StoreError::Foreign { .. })) => {
            writeln!(err, "found: {error}")?;
        }
        Err(error) => return Err(error.into()),
    }
    let recovered = store::recover(dir, &lock).await?;
    for problem in &recovered.problems {
        writeln!(err, "warning: {problem}")?;
    }
    writeln!(
        out,
        "recovered  {} experiments, {} runs, {} stages ({} done), {} attempts",
        recovered.experiments, recovered.runs, recovered.stages, recovered.done, recovered.attempts
    )?;
    if let Some(kept) = &recovered.kept {
        writeln!(out, "kept       {} (the former database)", kept.display())?;
    }
    if recovered.nameless > 0 {
        writeln!(
            out,
            "           {} stages are in no record, which older versions didn't write: `ablate run FILE` of their\n           experiments finds them, and trains nothing again",
            recovered.nameless
        )?;
    }
    Ok(())
}
