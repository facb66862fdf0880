//! `ablate logs`: what a stage's program printed, byte for byte.

use crate::cli::lookup::{self, LookupError, Target, ignore_closed_pipe};
use crate::rundir::layout::RunDir;
use crate::store::Store;
use crate::store::rows::{AttemptRow, Status};
use clap::Args;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Print what a run's program wrote to stdout and stderr
#[derive(Debug, Clone, Args)]
pub struct LogsArgs {
    /// Id of a run (`EXPERIMENT/VARIANT/sSEED`), the beginning of one, or of a stage's fingerprint
    #[arg(value_name = "RUN")]
    pub run: String,
    /// Name of the stage; the last one that was started if none is given
    #[arg(long, value_name = "NAME")]
    pub stage: Option<String>,
    /// Number of the attempt; the last one if none is given
    #[arg(long, value_name = "N")]
    pub attempt: Option<u32>,
    /// Go on printing until the attempt ends
    #[arg(long, short)]
    pub follow: bool,
}

/// Time between two looks at a log that is followed. A file on any file system can be looked at; not
/// every one tells of changes.
const LOOK: Duration = Duration::from_millis(200);

/// Runs the command on the store at `store`: the log to `out`, notes to `err`.
pub async fn run(
    args: &LogsArgs,
    store: &Path,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), LookupError> {
    ignore_closed_pipe(print(args, store, out, err).await)
}

async fn print(
    args: &LogsArgs,
    dir: &Path,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), LookupError> {
    let store = lookup::open(dir, err).await?;
    let attempts = choose_stage(&store, args).await?;
    let attempt = match args.attempt {
        None => attempts.last(),
        Some(number) => attempts.iter().find(|attempt| attempt.attempt == number),
    };
    let Some(attempt) = attempt else {
        return Err(LookupError::Nothing(match args.attempt {
            Some(number) => format!(
                "there is no attempt {number}: there were {}",
                attempts.len()
            ),
            None => format!("`{}` has not been started: there is no log", args.run),
        }));
    };
    let path = log_path(dir, attempt);
    let read = |source| LookupError::Read {
        path: path.display().to_string(),
        source,
    };
    let mut file = File::open(&path).map_err(read)?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        // Before the file is read: what the attempt wrote until it ended is then read below.
        let ended = !args.follow || ended(&store, attempt).await?;
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => out.write_all(&buffer[..count])?,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(read(error)),
            }
        }
        out.flush()?;
        if ended {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn ended(store: &Store, attempt: &AttemptRow) -> Result<bool, LookupError> {
    let attempts = store.attempts(&attempt.stage).await?;
    let now = attempts.iter().find(|now| now.attempt == attempt.attempt);
    Ok(now.is_none_or(|now| now.status != Status::Running))
}

/// The attempts at the stage that `args` mean.
async fn choose_stage(store: &Store, args: &LogsArgs) -> Result<Vec<AttemptRow>, LookupError> {
    let run = match lookup::find(store, &args.run).await? {
        Target::Stage(fingerprint) => return Ok(store.attempts(&fingerprint).await?),
        Target::Run(run) => run,
    };
    if let Some(wanted) = &args.stage {
        let experiments = store.experiments().await?;
        let names = experiments
            .into_iter()
            .find(|experiment| experiment.name == run.experiment)
            .map_or_else(Vec::new, |experiment| experiment.stage_names);
        let position = names.iter().position(|name| name == wanted);
        return match position.and_then(|position| run.stages.get(position)) {
            Some(fingerprint) => Ok(store.attempts(fingerprint).await?),
            None => Err(lookup::unknown("stage", wanted, &names)),
        };
    }
    let mut last: Vec<AttemptRow> = Vec::new();
    for fingerprint in &run.stages {
        let attempts = store.attempts(fingerprint).await?;
        let begun =
            |attempts: &[AttemptRow]| attempts.last().map_or(f64::NEG_INFINITY, |a| a.started);
        if begun(&attempts) >= begun(&last) {
            last = attempts;
        }
    }
    Ok(last)
}

/// The log's path: as the store says, which may be within it, else where the run directory has it.
fn log_path(dir: &Path, attempt: &AttemptRow) -> PathBuf {
    let usual = RunDir::in_store(dir, &attempt.stage).attempt_log(attempt.attempt);
    let said = dir.join(&attempt.log);
    if usual.is_file() || attempt.log.is_empty() || !said.is_file() {
        usual
    } else {
        said
    }
}
