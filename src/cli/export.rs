//! `ablate export`: what the store holds, for other programs.

use super::exit::Exit;
use super::planning::say;
use super::report::{ReportError, choose};
use crate::report::export::columnar::{self, Form};
use crate::report::export::{ExportError, Written, tensorboard};
use crate::report::files::folder_name;
use crate::report::load;
use crate::store::{Store, StoreError, View};
use clap::{Args, ValueEnum};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Write runs, results, curves and tables for other programs
///
/// Parquet, Arrow and CSV get one file per kind of rows; TensorBoard gets one log directory per run
/// (`tensorboard --logdir DIR`).
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// Folder to write into; made if it isn't there
    #[arg(value_name = "DIR")]
    pub out: PathBuf,
    /// Names of experiments; all in the store if none is given
    #[arg(value_name = "EXPERIMENT")]
    pub experiments: Vec<String>,
    /// Form of the files
    #[arg(long, value_enum, default_value_t = ExportForm::Parquet)]
    pub format: ExportForm,
    /// What to write, separated by commas; all of it but the published numbers if not given
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    pub what: Vec<What>,
    /// Folder of the store
    #[arg(
        long,
        value_name = "DIR",
        env = "ABLATE_STORE",
        default_value = "ablate-store"
    )]
    pub store: PathBuf,
}

/// Form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportForm {
    /// Apache Parquet, compressed (pandas, polars, DuckDB, Spark)
    Parquet,
    /// Comma-separated values
    Csv,
    /// Apache Arrow IPC, also called Feather
    Arrow,
    /// TensorBoard's event files; curves only
    Tensorboard,
}

/// What can be exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// One row per run (the view `v_runs`)
    Runs,
    /// One row per result of a run (`v_results`)
    Results,
    /// One row per point of a curve (`v_metrics`)
    Metrics,
    /// One row per execution of a stage (`v_attempts`)
    Attempts,
    /// Published numbers (`v_reference`)
    Reference,
    /// The tables of each experiment's report
    Tables,
}

impl What {
    const USUAL: [What; 5] = [
        What::Runs,
        What::Results,
        What::Metrics,
        What::Attempts,
        What::Tables,
    ];

    /// Its view and the stem of its file; `None` for tables.
    fn view(self) -> Option<(View, &'static str)> {
        Some(match self {
            What::Runs => (View::Runs, "runs"),
            What::Results => (View::Results, "results"),
            What::Metrics => (View::Metrics, "metrics"),
            What::Attempts => (View::Attempts, "attempts"),
            What::Reference => (View::Reference, "reference"),
            What::Tables => return None,
        })
    }
}

#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Report(#[from] ReportError),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "TensorBoard shows curves: `--format tensorboard` goes with `--what metrics` or without `--what`"
    )]
    OnlyCurves,
    #[error("can't make the folder {path}: {source}")]
    Folder {
        path: String,
        source: std::io::Error,
    },
}

/// Runs the command: the paths of the written files and their rows to stderr.
pub async fn run(args: &ExportArgs) -> Exit {
    match export(args).await {
        Ok(()) => Exit::Done,
        Err(error) => {
            say(format_args!("error: {error}"));
            match error {
                CommandError::OnlyCurves
                | CommandError::Report(ReportError::Unknown { .. } | ReportError::Empty { .. }) => {
                    Exit::Usage
                }
                _ => Exit::Store,
            }
        }
    }
}

async fn export(args: &ExportArgs) -> Result<(), CommandError> {
    let curves = args.format == ExportForm::Tensorboard;
    if curves && args.what.iter().any(|what| *what != What::Metrics) {
        return Err(CommandError::OnlyCurves);
    }
    let store = Store::open_read_only(&args.store).await?;
    for warning in store.warnings() {
        say(format_args!("warning: {warning}"));
    }
    let chosen = choose(store.experiments().await?, &args.experiments, store.dir())?;
    make(&args.out)?;
    let form = match args.format {
        ExportForm::Parquet => Form::Parquet,
        ExportForm::Csv => Form::Csv,
        ExportForm::Arrow => Form::Arrow,
        ExportForm::Tensorboard => {
            return event_files(&store, &chosen, &args.out).await;
        }
    };
    let what = if args.what.is_empty() {
        &What::USUAL[..]
    } else {
        &args.what[..]
    };
    let names: Vec<String> = chosen
        .iter()
        .map(|experiment| experiment.name.clone())
        .collect();
    for what in what {
        let Some((view, stem)) = what.view() else {
            for experiment in &chosen {
                let (data, warnings) = load::load(&store, experiment.clone(), false).await?;
                for warning in warnings {
                    say(format_args!("warning: {warning}"));
                }
                let folder = args.out.join("tables").join(folder_name(&experiment.name));
                make(&folder)?;
                for written in columnar::report_tables(&data, form, &folder)? {
                    say_written(&written, "row");
                }
            }
            continue;
        };
        let path = args.out.join(format!("{stem}.{}", form.extension()));
        say_written(
            &columnar::view(&store, view, &names, form, &path).await?,
            "row",
        );
    }
    Ok(())
}

async fn event_files(
    store: &Store,
    chosen: &[crate::store::rows::ExperimentRow],
    out: &Path,
) -> Result<(), CommandError> {
    let mut taken = HashMap::new();
    let (mut files, mut points) = (0usize, 0);
    for experiment in chosen {
        for run in store.runs(Some(&experiment.name)).await? {
            for written in tensorboard::run(store, &run, out, &mut taken).await? {
                files += 1;
                points += written.rows;
            }
        }
    }
    say(format_args!(
        "{}: {files} event files, {points} points; `tensorboard --logdir {}` shows them",
        out.display(),
        out.display()
    ));
    Ok(())
}

fn make(folder: &Path) -> Result<(), CommandError> {
    std::fs::create_dir_all(folder).map_err(|source| CommandError::Folder {
        path: folder.display().to_string(),
        source,
    })
}

fn say_written(written: &Written, what: &str) {
    let plural = if written.rows == 1 { "" } else { "s" };
    say(format_args!(
        "{}: {} {what}{plural}",
        written.path.display(),
        written.rows
    ));
}

#[cfg(test)]
mod tests;
