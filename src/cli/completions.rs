//! `ablate completions`: completions for shells, generated from the arguments' definitions.

use super::Cli;
use super::exit::Exit;
use clap::CommandFactory;
use clap_complete::Shell;
use std::io::Write;

/// Print the completions of a shell
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    pub shell: Shell,
}

/// Runs the command.
pub fn run(args: &CompletionsArgs) -> Exit {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "ablate", &mut text);
    // A closed pipe has read what it wanted.
    let _ = std::io::stdout().write_all(&text);
    Exit::Done
}
