//! `ablate worker`: one stage in this process; what `ablate run` starts.

use super::exit::Exit;
use std::path::PathBuf;

/// Run the stage of a run directory (started by `ablate run`)
#[derive(Debug, clap::Args)]
pub struct WorkerArgs {
    /// The run directory, with stage.json and launch.json
    pub directory: PathBuf,
}

/// Runs the command; its exit codes are the failure classes'.
pub fn run(args: &WorkerArgs) -> Exit {
    Exit::Worker(crate::worker::run(&args.directory))
}
