//! `ablate status`: how far the experiments are and what is running.

use crate::cli::lookup::{self, LookupError, duration, ignore_closed_pipe};
use crate::rundir::log::unix_time;
use crate::store::{ExperimentStatus, RunningStage, Store, StoreHolder, StoreLock};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::io::Write;
use std::path::Path;

/// Show how far the experiments are and which stages are running
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// Name of an experiment; all if none is given
    #[arg(value_name = "EXPERIMENT")]
    pub experiment: Option<String>,
    /// Count only runs with this tag
    #[arg(long, value_name = "NAME")]
    pub tag: Option<String>,
    /// Form of the answer
    #[arg(long, value_enum, default_value_t = TextFormat::Text)]
    pub format: TextFormat,
}

/// Form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TextFormat {
    /// For people
    Text,
    /// For programs
    Json,
}

#[derive(Serialize)]
struct Answer<'a> {
    /// Unix time.
    time: f64,
    /// The `ablate run` that is at work longest.
    scheduler: Option<&'a StoreHolder>,
    /// All that are at work, or the command that has the store for itself.
    schedulers: &'a [StoreHolder],
    experiments: &'a [ExperimentStatus],
    running: &'a [RunningStage],
}

/// Bytes of write-ahead log from which on a reader must be keeping it from shrinking.
const LARGE_LOG: u64 = 512 << 20;

/// Runs the command on the store at `store`: the answer to `out`, warnings to `err`.
pub async fn run(
    args: &StatusArgs,
    store: &Path,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), LookupError> {
    ignore_closed_pipe(answer(args, store, out, err).await)
}

async fn answer(
    args: &StatusArgs,
    dir: &Path,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), LookupError> {
    let store = lookup::open(dir, err).await?;
    let only = args.experiment.as_deref();
    let tag = args.tag.as_deref();
    let experiments = match tag {
        None => store.status(only).await?,
        Some(tag) => tagged(&store, only, tag).await?,
    };
    if let (Some(name), true) = (only, experiments.is_empty()) {
        let all = store.experiments().await?;
        let names: Vec<String> = all.into_iter().map(|experiment| experiment.name).collect();
        return Err(lookup::unknown("experiment", name, &names));
    }
    let mut running = store.running(only).await?;
    if let Some(tag) = tag {
        let stages = store.stages_tagged(tag).await?;
        running.retain(|stage| stages.contains(&stage.fingerprint));
    }
    let schedulers = StoreLock::holders(dir);
    if store.wal_bytes() > LARGE_LOG {
        let _ = writeln!(
            err,
            "warning: the store's write-ahead log holds {} MiB: some program keeps it open for reading",
            store.wal_bytes() >> 20
        );
    }
    let time = unix_time();
    if args.format == TextFormat::Json {
        let answer = Answer {
            time,
            scheduler: schedulers.first(),
            schedulers: &schedulers,
            experiments: &experiments,
            running: &running,
        };
        serde_json::to_writer_pretty(&mut *out, &answer).map_err(std::io::Error::from)?;
        return Ok(writeln!(out)?);
    }
    out.write_all(counts(&experiments, time).as_bytes())?;
    if !running.is_empty() {
        writeln!(out)?;
        out.write_all(stages(&running, time).as_bytes())?;
        if schedulers.is_empty() {
            writeln!(
                out,
                "No `ablate run` is at work: these were interrupted. The next one resumes them."
            )?;
        }
    }
    Ok(())
}

/// The counts of runs with a tag; an unknown tag is an error.
async fn tagged(
    store: &Store,
    only: Option<&str>,
    tag: &str,
) -> Result<Vec<ExperimentStatus>, LookupError> {
    let mut names: Vec<String> = store.tags().await?.into_iter().map(|tag| tag.tag).collect();
    names.dedup();
    if names.iter().any(|name| name == tag) {
        return Ok(store.status_tagged(only, tag).await?);
    }
    if names.is_empty() {
        return Err(LookupError::Nothing(format!(
            "there is no tag `{tag}`, nor any other: `ablate tag RUN NAME` sets one"
        )));
    }
    Err(lookup::unknown("tag", tag, &names))
}

fn counts(experiments: &[ExperimentStatus], time: f64) -> String {
    if experiments.is_empty() {
        return "The store holds no experiments yet: `ablate run FILE` plans and runs one.\n"
            .to_owned();
    }
    let head = [
        "experiment",
        "profile",
        "runs",
        "done",
        "running",
        "failed",
        "pending",
        "planned",
    ];
    let rows = experiments
        .iter()
        .map(|e| {
            let mut row = vec![e.name.clone(), e.profile.clone()];
            row.extend(
                [e.runs, e.done, e.running, e.failed, e.pending].map(|count| count.to_string()),
            );
            row.push(format!("{} ago", duration(time - e.updated)));
            row
        })
        .collect();
    lookup::grid(&head.map(str::to_owned), rows, &[2, 3, 4, 5, 6])
}

fn stages(running: &[RunningStage], time: f64) -> String {
    let head = ["run", "stage", "device", "step", "loss", "for", "heard of"];
    let rows = running
        .iter()
        .map(|s| {
            let run = s.run.clone().unwrap_or_else(|| s.fingerprint.clone());
            let others = match s.runs {
                0 | 1 => String::new(),
                runs => format!(" (+{})", runs - 1),
            };
            vec![
                format!("{run}{others}"),
                s.stage.clone().unwrap_or_default(),
                format!("{} on {}", s.device, s.host),
                match (s.step, s.total_steps) {
                    (step, Some(total)) => format!("{}/{total}", step.unwrap_or(0)),
                    (step, None) => step.map_or(String::new(), |step| step.to_string()),
                },
                s.loss.map_or(String::new(), |loss| format!("{loss:.4}")),
                duration(time - s.started),
                s.last_event.map_or("not yet".to_owned(), |last| {
                    format!("{} ago", duration(time - last))
                }),
            ]
        })
        .collect();
    lookup::grid(&head.map(str::to_owned), rows, &[3, 4])
}
