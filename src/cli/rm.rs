//! `ablate rm`: removes a run or an experiment; what others need stays.

use crate::cli::confirm::confirmed;
use crate::cli::gc::{bytes, list, open_alone};
use crate::cli::lookup::{self, LookupError, Target, ignore_closed_pipe};
use crate::cli::status::TextFormat;
use crate::store::{Garbage, Named, Store};
use clap::Args;
use std::io::Write;
use std::path::Path;

/// Remove a run or an experiment from the store
///
/// Its stages go with it, with weights, metrics and logs, unless another run of a current plan, or one with a tag, needs
/// them.
#[derive(Debug, Clone, Args)]
pub struct RmArgs {
    /// Id of a run (`EXPERIMENT/VARIANT/sSEED`), the beginning of one, or the name of an experiment
    #[arg(value_name = "RUN|EXPERIMENT")]
    pub name: String,
    /// Only list what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// Remove without asking
    #[arg(long, conflicts_with = "dry_run")]
    pub yes: bool,
    /// Also remove runs that have a tag
    #[arg(long)]
    pub tagged: bool,
}

/// Runs the command on the store at `dir`: the list to `out`, questions and notes to `err`.
pub async fn run(
    args: &RmArgs,
    dir: &Path,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), LookupError> {
    ignore_closed_pipe(remove(args, dir, out, err).await)
}

async fn remove(
    args: &RmArgs,
    dir: &Path,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), LookupError> {
    if args.dry_run {
        let store = lookup::open(dir, err).await?;
        let garbage = chosen(&store, args).await?;
        return show(&garbage, out);
    }
    let (store, lock) = open_alone(dir, err).await?;
    let garbage = chosen(&store, args).await?;
    show(&garbage, out)?;
    if confirmed(args.yes, "Remove all this?", err)? {
        store.discard(&garbage, &lock).await?;
        writeln!(err, "removed {}", bytes(garbage.bytes()))?;
    }
    Ok(store.close().await?)
}

async fn chosen(store: &Store, args: &RmArgs) -> Result<Garbage, LookupError> {
    let experiments = store.experiments().await?;
    let garbage = if experiments.iter().any(|e| e.name == args.name) {
        store.removal(&Named::Experiment(&args.name)).await?
    } else {
        match lookup::find(store, &args.name).await? {
            Target::Run(run) => store.removal(&Named::Run(&run.id)).await?,
            Target::Stage(_) => {
                return Err(LookupError::Nothing(format!(
                    "`{}` is a stage: stages go with their runs, or with `ablate gc` when no run needs them",
                    args.name
                )));
            }
        }
    };
    if let (Some(first), false) = (garbage.tagged.first(), args.tagged) {
        return Err(LookupError::Nothing(format!(
            "nothing was removed: `{first}` has a tag{}; --tagged removes tagged runs too",
            match garbage.tagged.len() {
                1 => String::new(),
                more => format!(", and so have {} more", more - 1),
            }
        )));
    }
    Ok(garbage)
}

fn show(garbage: &Garbage, out: &mut dyn Write) -> Result<(), LookupError> {
    for run in &garbage.runs {
        writeln!(out, "run {}", crate::report::text::clean(run))?;
    }
    list(garbage, TextFormat::Text, out)?;
    if garbage.shared > 0 {
        writeln!(out, "{} stages stay: other runs need them", garbage.shared)?;
    }
    Ok(())
}
