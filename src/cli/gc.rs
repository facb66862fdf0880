//! `ablate gc`: lists what no kept result needs, then removes it.

use crate::cli::confirm::confirmed;
use crate::cli::lookup::{self, LookupError, ignore_closed_pipe};
use crate::cli::status::TextFormat;
use crate::store::{Garbage, GarbagePolicy, KeepWeights, KeepWork, Store, StoreError, StoreLock};
use clap::{Args, ValueEnum};
use std::io::Write;
use std::path::Path;

/// Remove what no kept result needs
///
/// Kept are the runs of each experiment's current plan, runs with a tag, and the stages that they stand on. Garbage is:
/// other stages, checkpoints of stages that are done, logs of failed attempts at stages that are done, and what was left by
/// something that was cut off. It is listed first; nothing is removed before you say so.
#[derive(Debug, Clone, Args)]
pub struct GcArgs {
    /// Only list
    #[arg(long)]
    pub dry_run: bool,
    /// Remove without asking
    #[arg(long, conflicts_with = "dry_run")]
    pub yes: bool,
    /// Which final weights of finished stages stay
    #[arg(long, value_enum, default_value_t = Weights::All)]
    pub weights: Weights,
    /// What stays in the folders of finished stages' own programs
    #[arg(long, value_enum, default_value_t = Work::All)]
    pub work: Work,
    /// Also remove copies of the database from before a migration or a recovery
    #[arg(long)]
    pub copies: bool,
    /// Form of the list
    #[arg(long, value_enum, default_value_t = TextFormat::Text)]
    pub format: TextFormat,
}

/// Which final weights stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Weights {
    /// All
    All,
    /// Those of the last stage of each run
    Results,
    /// None; `ablate eval` and `ablate weights export` then have nothing to work with
    None,
}

/// What stays in the folder of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// All
    All,
    /// What it has promised (`outputs`) and metrics.json; checkpoints of its own go
    Outputs,
}

/// Runs the command on the store at `dir`: the list to `out`, questions and notes to `err`.
pub async fn run(
    args: &GcArgs,
    dir: &Path,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), LookupError> {
    ignore_closed_pipe(collect(args, dir, out, err).await)
}

async fn collect(
    args: &GcArgs,
    dir: &Path,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), LookupError> {
    let policy = GarbagePolicy {
        weights: match args.weights {
            Weights::All => KeepWeights::All,
            Weights::Results => KeepWeights::Results,
            Weights::None => KeepWeights::None,
        },
        work: match args.work {
            Work::All => KeepWork::All,
            Work::Outputs => KeepWork::Outputs,
        },
        copies: args.copies,
    };
    if args.dry_run {
        let store = lookup::open(dir, err).await?;
        let garbage = store.garbage(policy).await?;
        return list(&garbage, args.format, out);
    }
    let (store, lock) = open_alone(dir, err).await?;
    let garbage = store.garbage(policy).await?;
    list(&garbage, args.format, out)?;
    if !garbage.is_empty() && confirmed(args.yes, "Remove all this?", err)? {
        store.discard(&garbage, &lock).await?;
        writeln!(err, "removed {}", bytes(garbage.bytes()))?;
    }
    Ok(store.close().await?)
}

/// Opens the store at `dir`, alone; an error if there is none or somebody is at work.
pub async fn open_alone(
    dir: &Path,
    err: &mut dyn Write,
) -> Result<(Store, StoreLock), LookupError> {
    if !dir.is_dir() {
        return Err(StoreError::Missing {
            dir: dir.to_owned(),
        }
        .into());
    }
    // Looks before the lock creates anything.
    drop(lookup::open(dir, err).await?);
    let lock = StoreLock::exclusive(dir)?;
    let store = Store::open(dir).await?;
    Ok((store, lock))
}

/// Prints what is to be removed.
pub fn list(garbage: &Garbage, format: TextFormat, out: &mut dyn Write) -> Result<(), LookupError> {
    if format == TextFormat::Json {
        serde_json::to_writer_pretty(&mut *out, garbage).map_err(std::io::Error::from)?;
        return Ok(writeln!(out)?);
    }
    if garbage.is_empty() {
        return Ok(writeln!(out, "There is nothing to remove.")?);
    }
    let head = ["what", "size", "why"];
    let rows = garbage
        .items
        .iter()
        .map(|item| {
            vec![
                item.path.display().to_string(),
                bytes(item.bytes),
                item.reason.text().to_owned(),
            ]
        })
        .collect();
    if !garbage.items.is_empty() {
        let grid = lookup::grid(&head.map(str::to_owned), rows, &[1]);
        out.write_all(grid.as_bytes())?;
        writeln!(out)?;
    }
    let runs = match garbage.runs.len() {
        0 => String::new(),
        1 => " and 1 run".to_owned(),
        runs => format!(" and {runs} runs"),
    };
    writeln!(
        out,
        "{} stages and files{runs}, {}",
        garbage.items.len(),
        bytes(garbage.bytes())
    )?;
    Ok(())
}

/// A size for people.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count} B"),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
    }
}
