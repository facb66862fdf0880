//! `ablate bench report`: how fast a report over many runs is made.
//!
//! Builds a store through the same calls that a scheduler makes, then times what a user waits for: reading
//! it, the tables, the files, a query grouped over all metric rows, and the bootstrap over seeds and images.
//! `benches/compare_report.py` does the same with MLflow and pandas, on the rows that `--csv` writes.

use super::BenchFormat;
use crate::cli::exit::Exit;
use crate::cli::planning::say;
use crate::plan::build::plan;
use crate::plan::model::{DataDescription, Plan};
use crate::report::statistics::{Bitset, bootstrap};
use crate::report::{load, summary_table, write};
use crate::rng::{KeyedRng, Purpose};
use crate::rundir::event::{Event, EventKind};
use crate::spec::experiment::{self, Options};
use crate::spec::task::DataShape;
use crate::store::rows::Status;
use crate::store::{AttemptEnd, AttemptStart, Provenance, Store, StoreLock};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Reports, queries and the bootstrap over a store of many runs, which it builds first
#[derive(Debug, Clone, Args)]
pub struct ReportBenchArgs {
    /// Runs
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub runs: u64,
    /// Seeds of a variant
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// Metric rows a run: three of training and one of evaluation an epoch
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub rows: u32,
    /// Draws of the bootstrap over 50,000 images of 10 runs
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub draws: u32,
    /// Threads of the bootstrap
    #[arg(long, value_name = "N", default_value = "2")]
    pub threads: NonZeroUsize,
    /// Folder of the store; one that was built before is used again [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Write the store's metric rows to this file, for other programs
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t = BenchFormat::Text)]
    pub format: BenchFormat,
}

/// Seconds, each the median of five.
#[derive(Debug, Clone, Serialize)]
struct Figures {
    runs: u64,
    metric_rows: i64,
    /// Reading the experiment from the store, as a report without plots does.
    load: f64,
    /// The same with the points of the curves.
    load_with_plots: f64,
    /// The table on the terminal.
    table: f64,
    /// All tables and the page as files, without plots.
    files: f64,
    /// The same with all plots, as SVG, PNG and PDF.
    files_with_plots: f64,
    plots: usize,
    /// A query grouped over all metric rows.
    query: f64,
    /// 10,000 draws unless asked otherwise, 50,000 images, 10 runs.
    bootstrap: f64,
    bootstrap_draws: u32,
    bootstrap_threads: usize,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
enum BenchError {
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    #[error(transparent)]
    Frame(#[from] crate::report::frame::FrameError),
    #[error(transparent)]
    Write(#[from] crate::report::write::WriteError),
    #[error("can't plan the benchmark's experiment: {0}")]
    Plan(String),
    #[error("can't write {path}: {source}")]
    Io {
        path: String,
        source: std::io::Error,
    },
}

const NAME: &str = "bench";
const QUERY: &str = "SELECT metric, COUNT(*), AVG(value) FROM v_metrics GROUP BY metric";

/// Runs the command.
pub async fn run(args: &ReportBenchArgs) -> Exit {
    match measure(args).await {
        Ok(figures) => {
            let text = match args.format {
                BenchFormat::Text => text(&figures),
                BenchFormat::Json => {
                    serde_json::to_string_pretty(&figures).unwrap_or_default() + "\n"
                }
            };
            // A closed pipe has read what it wanted.
            let _ = std::io::stdout().write_all(text.as_bytes());
            Exit::Done
        }
        Err(error) => {
            say(format_args!("error: {error}"));
            Exit::Store
        }
    }
}

async fn measure(args: &ReportBenchArgs) -> Result<Figures, BenchError> {
    let temporary = tempfile::tempdir().map_err(|source| BenchError::Io {
        path: "a temporary folder".to_owned(),
        source,
    })?;
    let dir = args
        .dir
        .clone()
        .unwrap_or_else(|| temporary.path().join("store"));
    if !dir.join("ablate.db").exists() {
        say(format_args!(
            "building a store of {} runs with {} metric rows each in {}",
            args.runs,
            args.rows,
            dir.display()
        ));
        build(args, &dir).await?;
    }
    let store = Store::open_read_only(&dir).await?;
    let experiment = store
        .experiments()
        .await?
        .into_iter()
        .find(|experiment| experiment.name == NAME)
        .ok_or_else(|| BenchError::Plan(format!("{} holds another store", dir.display())))?;
    let (mut loads, mut loads_with_plots, mut tables) = (Vec::new(), Vec::new(), Vec::new());
    let (mut files, mut files_with_plots) = (Vec::new(), Vec::new());
    let (mut runs, mut plots) = (0, 0);
    for repetition in 0..5 {
        let clock = Instant::now();
        let (data, _) = load::load(&store, experiment.clone(), false).await?;
        loads.push(clock.elapsed().as_secs_f64());
        runs = data.runs.len() as u64;
        let clock = Instant::now();
        summary_table(&data)?;
        tables.push(clock.elapsed().as_secs_f64());
        let out = temporary.path().join(format!("reports-{repetition}"));
        let clock = Instant::now();
        write::write(&data, &out, false)?;
        files.push(clock.elapsed().as_secs_f64());
        // A folder of its own: a file that has its bytes already isn't written.
        let out = temporary.path().join(format!("plots-{repetition}"));
        let clock = Instant::now();
        let (data, _) = load::load(&store, experiment.clone(), true).await?;
        loads_with_plots.push(clock.elapsed().as_secs_f64());
        let clock = Instant::now();
        let written = write::write(&data, &out, true)?;
        files_with_plots.push(clock.elapsed().as_secs_f64());
        let is_svg = |path: &&PathBuf| path.extension().is_some_and(|form| form == "svg");
        plots = written.paths.iter().filter(is_svg).count();
    }
    let mut queries = Vec::new();
    let mut metric_rows = 0;
    for _ in 0..5 {
        let clock = Instant::now();
        let found = store.query_all(QUERY).await?;
        queries.push(clock.elapsed().as_secs_f64());
        let count = |cell: Option<&crate::store::Cell>| match cell {
            Some(crate::store::Cell::Integer(count)) => *count,
            _ => 0,
        };
        metric_rows = found.rows.iter().map(|row| count(row.get(1))).sum();
    }
    if let Some(path) = &args.csv {
        export(&store, path).await?;
    }
    Ok(Figures {
        runs,
        metric_rows,
        load: median(loads),
        load_with_plots: median(loads_with_plots),
        table: median(tables),
        files: median(files),
        files_with_plots: median(files_with_plots),
        plots,
        query: median(queries),
        bootstrap: bootstrap_seconds(args.draws, args.threads.get()),
        bootstrap_draws: args.draws,
        bootstrap_threads: args.threads.get(),
    })
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// The experiment: one axis, `seeds` runs a label.
fn experiment(runs: u64, seeds: u64) -> Result<Plan, BenchError> {
    let labels: Vec<String> = (1..=runs.div_ceil(seeds).max(1))
        .map(|label| format!("{label}e-6"))
        .collect();
    let text = format!(
        "name: {NAME}\nrecipe: quick\nseeds: {seeds}\naxes: {{optimizer.lr: [{}]}}\nbaseline: {{optimizer.lr: 1e-6}}\n",
        labels.join(", ")
    );
    let problems =
        |problems: crate::spec::problem::Problems| BenchError::Plan(problems.to_string());
    let experiment =
        experiment::read("bench.yaml", &text, None, &Options::default()).map_err(problems)?;
    let data = DataDescription {
        hash: "0".repeat(32),
        shape: DataShape {
            classes: 9,
            train_images: 9000,
            val_images: 1800,
            kept_bytes: 0,
        },
    };
    plan(experiment, Some(10_000_000), &|_| Ok(data.clone())).map_err(problems)
}

/// Fills a store as a scheduler does: the plan, then for every stage an attempt, its events, and its end.
async fn build(args: &ReportBenchArgs, dir: &Path) -> Result<(), BenchError> {
    let plan = experiment(args.runs, args.seeds)?;
    let lock = StoreLock::exclusive(dir)?;
    let store = Store::open(dir).await?;
    let provenance = Provenance {
        program: format!("ablate {}", env!("CARGO_PKG_VERSION")),
        git_revision: None,
        host: "bench".to_owned(),
        command_line: "ablate bench report".to_owned(),
    };
    store.save_plan(&plan, &provenance).await?;
    let epochs = (args.rows / 4).max(1);
    for (index, stage) in plan.stages.iter().enumerate() {
        let fingerprint = stage.fingerprint.to_string();
        let start = AttemptStart {
            device: "cpu".to_owned(),
            host: "bench".to_owned(),
            pid: None,
            log: String::new(),
        };
        let attempt = store.begin_attempt(&fingerprint, &start).await?;
        let mut rng = KeyedRng::new(0, Purpose::Test, 0, index as u64);
        let skill = 50.0 + 0.1 * (index as u64 / args.seeds) as f64 + 0.7 * rng.normal();
        let mut kinds = Vec::new();
        for epoch in 0..epochs {
            let done = f64::from(epoch + 1) / f64::from(epochs);
            kinds.push(EventKind::Epoch {
                epoch,
                step: u64::from(epoch + 1) * 100,
                train_loss: 2.0 * (-2.0 * done).exp() + 0.05 * rng.normal().abs(),
                lr: 1e-3 * (1.0 - done),
                seconds: 1.0,
            });
            kinds.push(EventKind::Evaluated {
                epoch,
                step: u64::from(epoch + 1) * 100,
                set: "val".to_owned(),
                resolution: 48,
                metrics: BTreeMap::from([("top1".to_owned(), skill * done.sqrt())]),
                last: epoch + 1 == epochs,
            });
        }
        let events: Vec<Event> = kinds
            .into_iter()
            .zip(1..)
            .map(|(kind, seq)| Event {
                v: crate::rundir::event::EVENT_VERSION,
                seq,
                time: 1.7e9 + seq as f64,
                attempt,
                kind,
            })
            .collect();
        store.record_events(&fingerprint, &events).await?;
        let end = AttemptEnd {
            status: Status::Done,
            failure: None,
            message: None,
            exit_code: Some(0),
            signal: None,
            energy_joules: None,
        };
        store.end_attempt(&fingerprint, attempt, &end).await?;
    }
    store.close().await?;
    drop(lock);
    Ok(())
}

/// The metric rows as CSV: run, variant, seed, metric, epoch, value.
async fn export(store: &Store, path: &Path) -> Result<(), BenchError> {
    let failed = |source| BenchError::Io {
        path: path.display().to_string(),
        source,
    };
    let file = std::fs::File::create(path).map_err(failed)?;
    let mut out = std::io::BufWriter::new(file);
    writeln!(out, "run,variant,seed,metric,epoch,value").map_err(failed)?;
    let rows = store
        .query_all("SELECT run, variant, seed, metric, epoch, value FROM v_metrics")
        .await?;
    for row in rows.rows {
        let fields: Vec<String> = row
            .iter()
            .map(|cell| match cell {
                crate::store::Cell::Integer(number) => number.to_string(),
                crate::store::Cell::Real(number) => number.to_string(),
                crate::store::Cell::Text(text) => text.clone(),
                _ => String::new(),
            })
            .collect();
        writeln!(out, "{}", fields.join(",")).map_err(failed)?;
    }
    out.flush().map_err(failed)
}

/// Five runs an arm over 50,000 images, as alike as trained models are: four of five images are judged by
/// their difficulty, the others by chance.
fn bootstrap_seconds(draws: u32, threads: usize) -> f64 {
    let arm = |which: u32, accuracy: f64| -> Vec<Bitset> {
        (0..5)
            .map(|run| {
                Bitset::new((0..50_000).map(|image| {
                    let hard = KeyedRng::new(0, Purpose::Test, 1, image).unit();
                    let own = KeyedRng::new(0, Purpose::Test, 10 * which + run + 2, image).unit();
                    0.8 * hard + 0.2 * own < accuracy
                }))
            })
            .collect()
    };
    let (ours, theirs) = (arm(1, 0.82), arm(2, 0.81));
    let ours: Vec<&Bitset> = ours.iter().collect();
    let theirs: Vec<&Bitset> = theirs.iter().collect();
    let Ok(pool) = rayon::ThreadPoolBuilder::new().num_threads(threads).build() else {
        return f64::NAN;
    };
    pool.install(|| {
        let seconds = (0..5)
            .map(|_| {
                let clock = Instant::now();
                std::hint::black_box(bootstrap(&ours, &theirs, true, draws, 0));
                clock.elapsed().as_secs_f64()
            })
            .collect();
        median(seconds)
    })
}

fn text(figures: &Figures) -> String {
    let ms = |seconds: f64| seconds * 1e3;
    format!(
        "{} runs, {} metric rows; medians of five\n\
         report without plots {:.0} ms: reading {:.0}, table {:.0}, files {:.0}\n\
         report with {} plot(s) {:.0} ms: reading {:.0}\n\
         query grouped over all metric rows {:.0} ms\n\
         bootstrap of {} draws over 50,000 images x 10 runs, {} thread(s), {:.0} ms\n",
        figures.runs,
        figures.metric_rows,
        ms(figures.load + figures.table + figures.files),
        ms(figures.load),
        ms(figures.table),
        ms(figures.files),
        figures.plots,
        ms(figures.load_with_plots + figures.table + figures.files_with_plots),
        ms(figures.load_with_plots),
        ms(figures.query),
        figures.bootstrap_draws,
        figures.bootstrap_threads,
        ms(figures.bootstrap),
    )
}
