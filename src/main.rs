//! The `ablate` command: parse, dispatch, exit code.

use clap::Parser;

// Training allocates and frees large blocks all the time; glibc gives them back to the system and
// takes them again, page by page.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    ablate::cli::run(ablate::cli::Cli::parse()).into()
}
