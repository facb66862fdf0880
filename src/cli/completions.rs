//! `ablate completions`: completions for shells, generated from the arguments' definitions.

use super::Cli;
use super::exit::Exit;
use clap::CommandFactory;
use clap_complete::Shell;

/// Print the completions of a shell
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    pub shell: Shell,
}

/// Runs the command.
pub fn run(args: &CompletionsArgs) -> Exit {
    clap_complete::generate(
        args.shell,
        &mut Cli::command(),
        "ablate",
        &mut std::io::stdout(),
    );
    Exit::Done
}
