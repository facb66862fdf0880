//! `ablate attach`: the progress of a run that works elsewhere, in another terminal or in none.

use super::exit::Exit;
use super::planning::say;
use crate::rundir::host;
use crate::schedule::progress::hub::Reach;
use crate::schedule::progress::news::News;
use crate::schedule::progress::{Style, View};
use crate::store::{Life, Owner, StoreError};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;

/// Show the progress of the `ablate run` that is at work on the store
///
/// It goes on whatever happens here: Ctrl-C only ends the showing.
///
/// Exit codes: that of the run, if it ends meanwhile; 5 nothing is at work on the store, or not on this
/// host; 130 Ctrl-C.
#[derive(Debug, clap::Args)]
pub struct AttachArgs {
    /// Folder of the store
    #[arg(
        long,
        value_name = "DIR",
        env = "ABLATE_STORE",
        default_value = "ablate-store"
    )]
    pub store: PathBuf,
    /// Which of several runs: the process id of its scheduler [default: the oldest]
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
}

/// Those at work on the store at `dir`, or of them the one with `pid`; an exit if there is none.
pub fn owners(dir: &Path, pid: Option<u32>) -> Result<Vec<Owner>, Exit> {
    if !dir.is_dir() {
        let error = StoreError::Missing { dir: dir.into() };
        say(format_args!("error: {error}"));
        return Err(Exit::Store);
    }
    let owners = Owner::at_work(dir);
    match pid {
        Some(pid) if !owners.iter().any(|owner| owner.pid == pid) => {
            let pids: Vec<String> = owners.iter().map(|owner| owner.pid.to_string()).collect();
            say(match pids.is_empty() {
                true => format!("error: no `ablate run` is at work on {}", dir.display()),
                false => format!(
                    "error: no `ablate run` with pid {pid} is at work on {}; there are: {}",
                    dir.display(),
                    pids.join(", ")
                ),
            });
            Err(Exit::Unreachable)
        }
        Some(pid) => Ok(owners
            .into_iter()
            .filter(|owner| owner.pid == pid)
            .collect()),
        None => Ok(owners),
    }
}

/// Whether the owner is a process of this host, as far as can be seen.
pub fn is_here(owner: &Owner, dir: &Path) -> bool {
    owner.life(dir) == Life::Alive && owner.host == host::name()
}

/// Runs the command.
pub async fn run(args: &AttachArgs) -> Exit {
    let owners = match owners(&args.store, args.pid) {
        Ok(owners) => owners,
        Err(exit) => return exit,
    };
    let here = owners.iter().find(|owner| is_here(owner, &args.store));
    let owner = match (here, owners.first()) {
        (Some(owner), _) => owner,
        (None, Some(owner)) => {
            say(format_args!(
                "error: the run is at work on host {}: attach there",
                owner.host
            ));
            return Exit::Unreachable;
        }
        (None, None) => {
            say(format_args!(
                "no `ablate run` is at work on {}; `ablate status` shows how far it is",
                args.store.display()
            ));
            return Exit::Unreachable;
        }
    };
    if owners.len() > 1 {
        let others: Vec<String> = owners
            .iter()
            .filter(|other| other.id != owner.id)
            .map(|other| format!("pid {} on {}", other.pid, other.host))
            .collect();
        say(format_args!(
            "showing pid {}; {} at work, too (--pid)",
            owner.pid,
            others.join(" and ")
        ));
    }
    tokio::select! {
        exit = watch(owner, &args.store) => exit,
        _ = tokio::signal::ctrl_c() => {
            say(format_args!(
                "no longer attached; pid {} goes on (`ablate attach` shows it again, `ablate stop` ends it)",
                owner.pid
            ));
            Exit::Signal(libc::SIGINT as u8)
        }
    }
}

/// How long a scheduler may take to answer: it may stand still (Ctrl-Z).
const PATIENCE: Duration = Duration::from_secs(5);

/// How long one that has just begun may take to open its socket.
const OPENING: Duration = Duration::from_secs(2);

async fn watch(owner: &Owner, dir: &Path) -> Exit {
    let stream = match connect(owner, dir).await {
        Ok(stream) => stream,
        Err(error) => {
            say(format_args!(
                "error: can't attach to pid {}: {error}; `ablate status` shows how far it is",
                owner.pid
            ));
            return Exit::Unreachable;
        }
    };
    let mut lines = BufReader::new(stream).lines();
    let mut view: Option<View> = None;
    loop {
        let line = match view {
            Some(_) => lines.next_line().await,
            None => match tokio::time::timeout(PATIENCE, lines.next_line()).await {
                Ok(line) => line,
                Err(_) => {
                    say(format_args!(
                        "error: pid {} doesn't answer; it may stand still (`fg`, or kill -CONT {})",
                        owner.pid, owner.pid
                    ));
                    return Exit::Unreachable;
                }
            },
        };
        let Ok(Some(line)) = line else {
            break;
        };
        // What a newer program tells and this one doesn't know is passed over.
        match serde_json::from_str(&line) {
            Ok(News::Began(began)) => {
                let style = Style::choose(false);
                let (done, all) = (began.done + began.ended.len(), began.labels.len());
                let begun = view.insert(View::new(style, began));
                if style == Style::Lines {
                    begun.note(&format!("{done} of {all} stages have ended so far"));
                }
            }
            Ok(News::Over { code }) => {
                if let Some(view) = &mut view {
                    view.finish();
                }
                say(match code {
                    0 => "all stages are done".to_owned(),
                    1 => "the run has ended; some stages failed (`ablate status`)".to_owned(),
                    code => format!("the run has ended with exit code {code}"),
                });
                return Exit::Passed(code);
            }
            Ok(news) => {
                if let Some(view) = &mut view {
                    view.apply(news);
                }
            }
            Err(_) => {}
        }
    }
    if let Some(view) = &mut view {
        view.finish();
    }
    say(format_args!(
        "pid {} is gone without a word; the same `ablate run` goes on where it was",
        owner.pid
    ));
    Exit::Failed
}

async fn connect(owner: &Owner, dir: &Path) -> std::io::Result<UnixStream> {
    let reach = Reach::of(dir)?;
    let begun = std::time::Instant::now();
    loop {
        match UnixStream::connect(reach.address(&owner.id)).await {
            Ok(stream) => return Ok(stream),
            Err(_) if begun.elapsed() < OPENING => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(error),
        }
    }
}
