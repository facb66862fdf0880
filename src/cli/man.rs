//! `ablate man`: man pages, generated from the arguments' definitions.

use super::Cli;
use super::exit::Exit;
use super::planning::say;
use clap::CommandFactory;
use std::path::PathBuf;

/// Write the man pages, one per command
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Folder to write them to
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// Runs the command.
pub fn run(args: &ManArgs) -> Exit {
    let write = || {
        std::fs::create_dir_all(&args.directory)?;
        clap_mangen::generate_to(Cli::command(), &args.directory)
    };
    match write() {
        Ok(()) => Exit::Done,
        Err(error) => {
            say(format_args!("error: {}: {error}", args.directory.display()));
            Exit::Usage
        }
    }
}
