//! One file per command.
//!
//! Data goes to stdout, everything else to stderr. Exit codes are those of [`exit::Exit`].

pub mod attach;
pub mod bench;
pub mod compare;
pub mod completions;
pub mod confirm;
pub mod detach;
pub mod devices;
pub mod eval;
pub mod exit;
pub mod export;
pub mod gc;
pub mod logs;
pub mod lookup;
pub mod man;
pub mod note;
pub mod places;
pub mod plan;
pub mod planning;
pub mod query;
pub mod recover;
pub mod report;
pub mod rm;
pub mod run;
pub mod schema;
pub mod show;
pub mod size;
pub mod status;
pub mod stop;
pub mod tag;
pub mod weights;
pub mod why;
pub mod worker;

use crate::train::device::cuda_device_count;
use clap::{Args, Parser, Subcommand};
use exit::Exit;
use lookup::LookupError;
use std::io::Write;
use std::path::PathBuf;

/// Version and git revision.
pub const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("ABLATE_GIT_REVISION"),
    ")"
);

/// Which training choices matter, and by how much: declarative ablations for Vision Transformers
///
/// An experiment is one YAML file. `ablate run` trains every variant of it on the GPUs or cores at hand,
/// `ablate report` renders tables and plots, and everything lies in SQLite for SQL.
#[derive(Debug, Parser)]
#[command(name = "ablate", version = VERSION, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Attach(attach::AttachArgs),
    Stop(stop::StopArgs),
    Plan(plan::PlanArgs),
    Report(report::ReportArgs),
    /// Two runs, variants or experiments side by side: configuration and effect
    Compare(InStore<compare::CompareArgs>),
    Export(export::ExportArgs),
    Eval(eval::EvalArgs),
    Weights(weights::WeightsArgs),
    /// How far every experiment is
    Status(InStore<status::StatusArgs>),
    /// One run: labels, stages, configuration, attempts, results
    Show(InStore<show::ShowArgs>),
    /// Say why a run waits, runs, failed, was retried, or would run again
    ///
    /// From the store: what each stage of the run is at, and of one that isn't known yet, which fields distinguish it from
    /// the nearest finished one. With --file: what `ablate run FILE` would do with the run, and why.
    Why(InStore<why::WhyArgs>),
    /// What a stage printed
    Logs(InStore<logs::LogsArgs>),
    /// Ask the store in SQL (it can only be read)
    Query(InStore<query::QueryArgs>),
    /// Mark runs with tags, which also protect them from `ablate gc`
    ///
    /// Without NAME: shows the tags of a run, or all. A tag stays with the run as it was planned when it was tagged.
    /// `ablate query "SELECT run FROM v_tags WHERE tag = 'paper'"` and `ablate status --tag paper` choose by it.
    Tag(InStore<tag::TagArgs>),
    /// Write a note on a run
    ///
    /// Without TEXT: shows the notes of the run. `ablate show` shows them too, and the view `v_notes` has all.
    Note(InStore<note::NoteArgs>),
    /// Remove a run or an experiment from the store
    ///
    /// Its stages go with it, with weights, metrics and logs, unless another run of a current plan, or one with a tag, needs
    /// them.
    Rm(InStore<rm::RmArgs>),
    /// Remove what no kept result needs
    ///
    /// Kept are the runs of each experiment's current plan, runs with a tag, and the stages that they stand on. Garbage is:
    /// other stages, checkpoints of stages that are done, logs of failed attempts at stages that are done, and what was left by
    /// something that was cut off. It is listed first; nothing is removed before you say so.
    Gc(InStore<gc::GcArgs>),
    /// Rebuild a damaged store from its run directories
    ///
    /// Runs, results, attempts, tags and notes are read from the folders `stages` and `records` of the store. The damaged
    /// database is renamed to `ablate.db.damaged-<time>`, never removed. Nothing is trained again.
    Recover(InStore<recover::RecoverArgs>),
    Devices(devices::DevicesArgs),
    Bench(bench::BenchArgs),
    Schema(schema::SchemaArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
    #[command(hide = true)]
    Worker(worker::WorkerArgs),
}

/// A command about the store.
#[derive(Debug, Args)]
struct InStore<T: Args> {
    #[command(flatten)]
    args: T,
    /// Folder of the store
    #[arg(
        long,
        value_name = "DIR",
        env = "ABLATE_STORE",
        default_value = "ablate-store"
    )]
    store: PathBuf,
}

/// Runs the command of the command line.
pub fn run(cli: Cli) -> Exit {
    match cli.command {
        Command::Run(args) if args.detaches() => detach::start(&args.store),
        Command::Run(args) => asynchronous(run::run(&args, cuda_device_count)),
        Command::Attach(args) => asynchronous(attach::run(&args)),
        Command::Stop(args) => stop::run(&args),
        Command::Plan(args) => asynchronous(plan::run(&args)),
        Command::Report(args) => asynchronous(report::run(&args)),
        Command::Compare(args) => {
            look_up(async |out, err| compare::run(&args.args, &args.store, out, err).await)
        }
        Command::Export(args) => asynchronous(export::run(&args)),
        Command::Eval(args) => asynchronous(eval::run(&args)),
        Command::Weights(args) => asynchronous(weights::run(&args)),
        Command::Status(args) => {
            look_up(async |out, err| status::run(&args.args, &args.store, out, err).await)
        }
        Command::Show(args) => {
            look_up(async |out, err| show::run(&args.args, &args.store, out, err).await)
        }
        Command::Logs(args) => {
            look_up(async |out, err| logs::run(&args.args, &args.store, out, err).await)
        }
        Command::Query(args) => {
            look_up(async |out, err| query::run(&args.args, &args.store, out, err).await)
        }
        Command::Why(args) => {
            look_up(async |out, err| why::run(&args.args, &args.store, out, err).await)
        }
        Command::Tag(args) => {
            look_up(async |out, err| tag::run(&args.args, &args.store, out, err).await)
        }
        Command::Note(args) => {
            look_up(async |out, err| note::run(&args.args, &args.store, out, err).await)
        }
        Command::Rm(args) => {
            look_up(async |out, err| rm::run(&args.args, &args.store, out, err).await)
        }
        Command::Gc(args) => {
            look_up(async |out, err| gc::run(&args.args, &args.store, out, err).await)
        }
        Command::Recover(args) => {
            look_up(async |out, err| recover::run(&args.args, &args.store, out, err).await)
        }
        Command::Devices(args) => devices::run(&args),
        Command::Bench(args) => asynchronous(bench::run(&args)),
        Command::Schema(args) => schema::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Worker(args) => worker::run(&args),
    }
}

/// Runs a command about the store, from it to stdout.
fn look_up(
    command: impl AsyncFnOnce(&mut dyn Write, &mut dyn Write) -> Result<(), LookupError>,
) -> Exit {
    asynchronous(async {
        match command(&mut std::io::stdout(), &mut std::io::stderr()).await {
            Ok(()) => Exit::Done,
            Err(error) => {
                planning::say(format_args!("error: {error}"));
                error.exit()
            }
        }
    })
}

/// Runs a command that talks to the store or to processes.
fn asynchronous(command: impl Future<Output = Exit>) -> Exit {
    match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => {
            planning::say(format_args!("error: can't start the runtime: {error}"));
            Exit::Store
        }
    }
}
