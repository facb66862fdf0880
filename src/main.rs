//! The `ablate` command: parse, dispatch, exit code.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().collect();
    std::process::exit(ablate::worker::run(std::path::Path::new(&args[2])))
}
