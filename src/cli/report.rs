//! `ablate report`: tables on stdout, reports as files.

use super::exit::Exit;
use super::planning::say;
use crate::report::frame::FrameError;
use crate::report::table::render::{
    Csv, Html, JsonForm, Latex, Markdown, Render, Terminal, csv_on_screen, may_colour,
};
use crate::report::write::{self, WriteError};
use crate::report::{load, summary_table};
use crate::spec::problem::Problems;
use crate::store::rows::ExperimentRow;
use crate::store::{Store, StoreError};
use clap::{Args, ValueEnum};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Print the comparison table of experiments and write their reports (tables, plots, data)
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// Names of experiments, or experiment files, whose `report` section is taken as it is now; all in the store if
    /// none is given
    #[arg(value_name = "EXPERIMENT")]
    pub experiments: Vec<String>,
    /// Folder of the reports: each experiment gets a folder of its name in it
    #[arg(long, value_name = "DIR", default_value = "reports")]
    pub out: PathBuf,
    /// Form of the table on stdout
    #[arg(long, value_enum, default_value_t = Format::Terminal)]
    pub format: Format,
    /// Folder of the store
    #[arg(
        long,
        value_name = "DIR",
        env = "ABLATE_STORE",
        default_value = "ablate-store"
    )]
    pub store: PathBuf,
    /// Write no plots
    #[arg(long)]
    pub no_plots: bool,
    /// Do it again whenever the store has changed, as long as an `ablate run` is at work
    #[arg(long)]
    pub watch: bool,
    /// With --watch: wait for further runs when none is at work; Ctrl-C ends it
    #[arg(long, requires = "watch")]
    pub forever: bool,
}

/// Form of the table on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people; coloured on a terminal unless `NO_COLOR` is set
    Terminal,
    /// GitHub-flavoured Markdown
    Md,
    /// Comma-separated values in full precision
    Csv,
    /// Every number with its type, in full precision
    Json,
    /// A fragment for a page
    Html,
    /// booktabs and siunitx, for `\input`
    Latex,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("there is no experiment `{name}` in the store at {store}{hint}")]
    Unknown {
        name: String,
        store: String,
        hint: String,
    },
    #[error("the store at {store} has no experiments yet: run one with `ablate run FILE`")]
    Empty { store: String },
    #[error("{0}")]
    Problems(Problems),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("can't watch the store at {store}: {message}")]
    Watch { store: String, message: String },
    #[error("can't write to stdout: {0}")]
    Stdout(#[source] std::io::Error),
}

/// Runs the command: tables to stdout, the paths of the written files to stderr.
pub async fn run(args: &ReportArgs) -> Exit {
    if args.watch {
        return watch::run(args).await;
    }
    let result = match Store::open_read_only(&args.store).await {
        Ok(store) => {
            for warning in store.warnings() {
                say(format_args!("warning: {warning}"));
            }
            once(args, &store).await
        }
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => Exit::Done,
        Err(error) => finish(error),
    }
}

async fn once(args: &ReportArgs, store: &Store) -> Result<(), ReportError> {
    let (text, files) = report(args, store).await?;
    print(&text)?;
    files.iter().for_each(|path| say(path.display()));
    Ok(())
}

/// Says what went wrong; the exit code for it.
fn finish(error: ReportError) -> Exit {
    if let ReportError::Stdout(source) = &error
        && source.kind() == std::io::ErrorKind::BrokenPipe
    {
        return Exit::Done;
    }
    match &error {
        // They have positions, and say that they are errors.
        ReportError::Problems(problems) => say(problems),
        error => say(format_args!("error: {error}")),
    }
    match error {
        ReportError::Unknown { .. } | ReportError::Empty { .. } | ReportError::Problems(_) => {
            Exit::Usage
        }
        _ => Exit::Store,
    }
}

/// Writes the reports. What belongs on stdout, and the files that were written.
async fn report(args: &ReportArgs, store: &Store) -> Result<(String, Vec<PathBuf>), ReportError> {
    let chosen = choose(store.experiments().await?, &args.experiments, store.dir())?;
    let (mut text, mut files) = (String::new(), Vec::new());
    for (position, mut experiment) in chosen.into_iter().enumerate() {
        let path = args
            .experiments
            .iter()
            .find(|name| file::is_file(name) && stored(&[&experiment], name).is_some());
        let changed = match path {
            Some(path) => file::apply(&mut experiment, path)?,
            None => false,
        };
        let (mut data, warnings) = load::load(store, experiment, !args.no_plots).await?;
        for warning in warnings {
            say(format_args!("warning: {warning}"));
        }
        match path {
            Some(path) if changed => data.background.report_section = Some(path.clone()),
            Some(_) => {}
            None => file::warn_of_changes(&data),
        }
        let table = summary_table(&data)?;
        if position > 0 {
            text.push('\n');
        }
        text.push_str(&match args.format {
            Format::Terminal => Terminal {
                colour: may_colour(),
            }
            .render(&table),
            Format::Md => Markdown.render(&table),
            // A file or a program gets every label as it is.
            Format::Csv if std::io::stdout().is_terminal() => csv_on_screen(&Csv.render(&table)),
            Format::Csv => Csv.render(&table),
            Format::Json => JsonForm.render(&table),
            Format::Html => Html.render(&table),
            Format::Latex => Latex.render(&table),
        });
        let written = write::write(&data, &args.out, !args.no_plots)?;
        for sentence in written.missing {
            say(format_args!("note: {sentence}"));
        }
        files.extend(written.paths);
    }
    if let Some((path, warnings)) = write::write_index(&args.out)? {
        for warning in warnings {
            say(format_args!("warning: {warning}"));
        }
        files.push(path);
    }
    Ok((text, files))
}

/// The named experiments, or all. An experiment's file (`experiments/loss.yaml`) stands for the
/// experiment of that name.
pub(super) fn choose(
    all: Vec<ExperimentRow>,
    names: &[String],
    store: &Path,
) -> Result<Vec<ExperimentRow>, ReportError> {
    if all.is_empty() {
        return Err(ReportError::Empty {
            store: store.display().to_string(),
        });
    }
    if names.is_empty() {
        return Ok(all);
    }
    let mut chosen: Vec<ExperimentRow> = Vec::new();
    for name in names {
        let found = stored(&all.iter().collect::<Vec<_>>(), name);
        match found {
            Some(found) if chosen.iter().any(|known| known.name == found.name) => {}
            Some(found) => chosen.push(found.clone()),
            None => {
                if let Some(problems) = file::problems(name) {
                    return Err(ReportError::Problems(problems));
                }
                return Err(ReportError::Unknown {
                    name: name.clone(),
                    store: store.display().to_string(),
                    hint: hint(stem(name).unwrap_or(name), &all),
                });
            }
        }
    }
    Ok(chosen)
}

/// The name that a path of an experiment file ends in.
fn stem(name: &str) -> Option<&str> {
    let path = Path::new(name);
    let extension = path.extension()?;
    (extension == "yaml" || extension == "yml").then_some(path.file_stem()?.to_str()?)
}

/// The experiment that an argument stands for: by its name, or by a file of that name, or one that names it.
fn stored<'a>(all: &[&'a ExperimentRow], argument: &str) -> Option<&'a ExperimentRow> {
    let called = |name: &str| {
        all.iter()
            .find(|experiment| experiment.name == name)
            .copied()
    };
    called(argument)
        .or_else(|| called(stem(argument)?))
        .or_else(|| called(&file::is_file(argument).then(|| file::name(Path::new(argument)))??))
}

/// The nearest name if one is near, else the names there are.
fn hint(name: &str, all: &[ExperimentRow]) -> String {
    let nearest = all
        .iter()
        .map(|experiment| {
            (
                strsim::jaro_winkler(name, &experiment.name),
                experiment.name.as_str(),
            )
        })
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((similarity, nearest)) if similarity > 0.75 => format!("; did you mean `{nearest}`?"),
        _ => {
            let names: Vec<String> = all
                .iter()
                .take(10)
                .map(|experiment| format!("`{}`", experiment.name))
                .collect();
            let more = if all.len() > names.len() { ", …" } else { "" };
            format!("; it has {}{more}", names.join(", "))
        }
    }
}

/// Prints to stdout; a reader that has gone away (`| head`) is no error.
fn print(text: &str) -> Result<(), ReportError> {
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(ReportError::Stdout(error))
        }
        _ => Ok(()),
    }
}

mod file;
mod watch;

#[cfg(test)]
mod tests;
