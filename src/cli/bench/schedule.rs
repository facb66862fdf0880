//! `ablate bench schedule`: what the scheduler and the store cost.
//!
//! Stages that do nothing run through the real scheduler: each is a process that copies an event log with
//! two lines into its run directory, under leases, with everything durable; then as many stages that run
//! `cp` as a program of the user's. The floor is the same number of the same processes, started by the same
//! program in the same session.

use super::BenchFormat;
use crate::cli::exit::Exit;
use crate::cli::planning::say;
use crate::plan::model::Plan;
use crate::plan::{DataDescription, plan};
use crate::rundir::event::{EVENT_VERSION, Event, EventKind};
use crate::rundir::log;
use crate::rundir::stage::DataShape;
use crate::schedule::actor::{self, Execution, Input};
use crate::schedule::core::Limits;
use crate::schedule::device::Slot;
use crate::schedule::execution::{JobFiles, ScheduleError, Settings, Summary};
use crate::schedule::executor::local::LocalExecutor;
use crate::schedule::jobs::Jobs;
use crate::schedule::progress::{Progress, Style};
use crate::spec::execution::ExecutionRules;
use crate::spec::experiment::{self, Options};
use crate::store::{OwnerLock, Provenance, Store, StoreError};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// No-op stages through the scheduler, and the speed of the store
#[derive(Debug, Clone, Args)]
pub struct ScheduleArgs {
    /// No-op stages
    #[arg(long, value_name = "N", default_value = "1000")]
    pub stages: NonZeroUsize,
    /// Workers at once
    #[arg(long, value_name = "N", default_value = "2")]
    pub slots: NonZeroUsize,
    /// Seconds to watch a scheduler whose worker is silent
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub idle: u64,
    /// Runs of the store that is asked for its status
    #[arg(long, value_name = "N", default_value = "100000")]
    pub runs: NonZeroUsize,
    /// Metric rows to be stored
    #[arg(long, value_name = "N", default_value = "500000")]
    pub rows: NonZeroUsize,
    /// Folder for the stores; it must be on the disk that counts [default: the current one]
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Output format
    #[arg(long, value_enum, default_value_t = BenchFormat::Text)]
    pub format: BenchFormat,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
struct Figures {
    stages: usize,
    slots: usize,
    /// Of all stages together.
    wall_seconds: f64,
    floor_wall_seconds: f64,
    /// Per stage, processes of workers included.
    cpu_ms: f64,
    floor_cpu_ms: f64,
    /// Per stage: what the scheduler costs.
    cpu_ms_above_floor: f64,
    /// The same of stages that run a program.
    program_wall_seconds: f64,
    program_cpu_ms_above_floor: f64,
    idle_seconds: u64,
    idle_cpu_ms: f64,
    rows_per_second: f64,
    runs: usize,
    /// Of a store that was just opened, as the command does it.
    status_ms: f64,
    help_ms: f64,
}

#[derive(Debug, thiserror::Error)]
enum BenchError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    #[error("{what}: {source}")]
    Io {
        what: &'static str,
        source: std::io::Error,
    },
    #[error("the benchmark's own experiment can't be planned: {0}")]
    Plan(String),
    #[error("{left} of {all} no-op stages are not done")]
    Left { left: usize, all: usize },
}

fn io(what: &'static str) -> impl Fn(std::io::Error) -> BenchError {
    move |source| BenchError::Io { what, source }
}

/// Runs the command.
pub async fn run(args: &ScheduleArgs) -> Exit {
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
            Exit::Failed
        }
    }
}

async fn measure(args: &ScheduleArgs) -> Result<Figures, BenchError> {
    let count = args.stages.get();
    let plan = plan_of(count, 1)?;
    // Kept to the end: ext4 looks long for a place for a new file where many were deleted a moment ago.
    let folder = folder(args)?;
    let (floor_wall, floor_cpu) = floor(args, folder.path())?;
    let template = no_op_log(folder.path())?;
    let worker = LocalExecutor::program("cp", vec![template.clone().into_os_string()]);
    let (wall, cpu) = no_ops(args, &folder.path().join("store"), &plan, worker).await?;
    let copies = folder.path().join("copies");
    std::fs::create_dir(&copies).map_err(io("can't make a folder for the benchmark"))?;
    let programs = plan_of_programs(count, &template, &copies)?;
    let worker = LocalExecutor::this_program().map_err(io("can't find this program"))?;
    let (program_wall, program_cpu) =
        no_ops(args, &folder.path().join("programs"), &programs, worker).await?;
    let idle_cpu = idle(args).await?;
    let (rows_per_second, status_ms) = store_speed(args).await?;
    let per_stage = |seconds: f64| seconds * 1e3 / count as f64;
    Ok(Figures {
        stages: count,
        slots: args.slots.get(),
        wall_seconds: wall,
        floor_wall_seconds: floor_wall,
        cpu_ms: per_stage(cpu),
        floor_cpu_ms: per_stage(floor_cpu),
        cpu_ms_above_floor: per_stage(cpu - floor_cpu),
        program_wall_seconds: program_wall,
        program_cpu_ms_above_floor: per_stage(program_cpu - floor_cpu),
        idle_seconds: args.idle,
        idle_cpu_ms: idle_cpu * 1e3,
        rows_per_second,
        runs: args.runs.get(),
        status_ms,
        help_ms: help()?,
    })
}

/// User and system time of this process and of its children that have ended, in seconds.
fn cpu_seconds() -> f64 {
    let of = |who| {
        // SAFETY: `rusage` is plain data for which zeroes are valid, and getrusage fills it.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(who, &mut usage);
            usage
        };
        [usage.ru_utime, usage.ru_stime]
            .iter()
            .map(|time| time.tv_sec as f64 + time.tv_usec as f64 * 1e-6)
            .sum::<f64>()
    };
    of(libc::RUSAGE_SELF) + of(libc::RUSAGE_CHILDREN)
}

/// A plan of `variants` times `seeds` runs of one stage.
fn plan_of(variants: usize, seeds: usize) -> Result<Plan, BenchError> {
    let mut text = format!("name: bench\nrecipe: quick\nseeds: {seeds}\naxes:\n  optimizer.lr:\n");
    for variant in 0..variants {
        text += &format!(
            "    v{variant}: {{optimizer.lr: {:e}}}\n",
            1e-3 + variant as f64 * 1e-8
        );
    }
    planned(&text)
}

/// A plan of `count` runs of a program that copies a file into `copies`.
fn plan_of_programs(count: usize, file: &Path, copies: &Path) -> Result<Plan, BenchError> {
    // JSON is YAML, and has an answer to every path.
    let text = |path: &Path| serde_json::Value::from(path.to_string_lossy().into_owned());
    let target = text(&copies.join("{params.copy}"));
    let values: Vec<usize> = (0..count).collect();
    planned(&format!(
        "name: bench\nparams: {{copy: 0}}\nstages:\n  copy:\n    command: [cp, {}, {target}]\n\
         axes:\n  params.copy: {values:?}\n",
        text(file)
    ))
}

fn planned(text: &str) -> Result<Plan, BenchError> {
    let failed = |problems: crate::spec::problem::Problems| BenchError::Plan(problems.to_string());
    let experiment =
        experiment::read("bench.yaml", text, None, &Options::default()).map_err(failed)?;
    let resolver = |_: &_| {
        Ok(DataDescription {
            hash: "0".repeat(32),
            shape: DataShape {
                classes: 9,
                train_images: 1000,
                val_images: 100,
                kept_bytes: 0,
            },
        })
    };
    plan(experiment, Some(u64::MAX), &resolver).map_err(failed)
}

fn folder(args: &ScheduleArgs) -> Result<tempfile::TempDir, BenchError> {
    tempfile::Builder::new()
        .prefix("ablate-bench-")
        .tempdir_in(&args.dir)
        .map_err(io("can't make a folder for the benchmark"))
}

/// Writes the event log of a stage that does nothing; returns its path. A worker that copies it into its
/// run directory has started and finished.
fn no_op_log(folder: &Path) -> Result<PathBuf, BenchError> {
    let path = folder.join("events.jsonl");
    let kinds = [
        EventKind::Started {
            host: "bench".into(),
            pid: 0,
            device: "cpu".into(),
            program: "cp".into(),
            resumed_step: 0,
            total_steps: 0,
        },
        EventKind::Finished { step: 0 },
    ];
    let mut bytes = Vec::new();
    for (kind, seq) in kinds.into_iter().zip(1..) {
        bytes.extend(log::encode(&Event {
            v: EVENT_VERSION,
            seq,
            time: log::unix_time(),
            attempt: 1,
            kind,
        }));
    }
    std::fs::write(&path, bytes).map_err(io("can't write the event log of a no-op stage"))?;
    Ok(path)
}

/// Starts as many processes as there are stages, `slots` at a time; seconds of wall and CPU.
fn floor(args: &ScheduleArgs, folder: &Path) -> Result<(f64, f64), BenchError> {
    let template = no_op_log(folder)?;
    let (cpu, clock) = (cpu_seconds(), Instant::now());
    let slots = args.slots.get();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..slots)
            .map(|slot| {
                let template = &template;
                scope.spawn(move || -> std::io::Result<()> {
                    for stage in (slot..args.stages.get()).step_by(slots) {
                        let dir = folder.join(stage.to_string());
                        std::fs::create_dir(&dir)?;
                        Command::new("cp")
                            .arg(template)
                            .arg(&dir)
                            .stdin(Stdio::null())
                            .status()?;
                    }
                    Ok(())
                })
            })
            .collect();
        for thread in threads {
            match thread.join() {
                Ok(result) => result?,
                Err(_) => return Err(std::io::Error::other("a thread of the floor ended early")),
            }
        }
        Ok(())
    })
    .map_err(io("can't start a process"))?;
    Ok((clock.elapsed().as_secs_f64(), cpu_seconds() - cpu))
}

/// Runs the plan's stages, each of which does nothing, in a store in `dir`; seconds of wall and CPU.
async fn no_ops(
    args: &ScheduleArgs,
    dir: &Path,
    plan: &Plan,
    executor: LocalExecutor,
) -> Result<(f64, f64), BenchError> {
    let (_lock, store) = Store::enter(dir).await?;
    store.save_plan(plan, &provenance()).await?;
    let (cpu, clock) = (cpu_seconds(), Instant::now());
    let summary = execute(&store, dir, plan, (args.slots.get(), executor), |_| {}).await?;
    let measured = (clock.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let done = summary.count(|end| *end == crate::schedule::core::End::Done);
    if done < summary.ends.len() {
        return Err(BenchError::Left {
            left: summary.ends.len() - done,
            all: summary.ends.len(),
        });
    }
    store.close().await?;
    Ok(measured)
}

/// CPU seconds of a scheduler while its worker says nothing.
async fn idle(args: &ScheduleArgs) -> Result<f64, BenchError> {
    let folder = folder(args)?;
    let dir = folder.path().join("store");
    let (_lock, store) = Store::enter(&dir).await?;
    let plan = plan_of(2, 1)?;
    store.save_plan(&plan, &provenance()).await?;
    let arguments = ["-c".into(), "exec sleep 1000".into(), "worker".into()];
    let executor = LocalExecutor::program("sh", arguments.into());
    let (sender, receiver) = std::sync::mpsc::channel();
    let seconds = Duration::from_secs(args.idle);
    execute(&store, &dir, &plan, (1, executor), |inputs| {
        std::thread::spawn(move || {
            // Once all is up.
            std::thread::sleep(Duration::from_secs(1));
            let before = cpu_seconds();
            std::thread::sleep(seconds);
            let _ = sender.send(cpu_seconds() - before);
            for _ in 0..2 {
                let _ = inputs.send(Input::Interrupt(libc::SIGINT));
            }
        });
    })
    .await?;
    Ok(receiver.try_recv().unwrap_or(f64::NAN))
}

async fn execute(
    store: &Store,
    dir: &Path,
    plan: &Plan,
    (slots, executor): (usize, LocalExecutor),
    watch: impl FnOnce(tokio::sync::mpsc::UnboundedSender<Input>),
) -> Result<Summary, BenchError> {
    let jobs = Jobs::of(&[plan]);
    let me = OwnerLock::create(dir)?;
    let (sender, inputs) = actor::channel();
    watch(sender.clone());
    let slots: Vec<Slot> = (0..slots)
        .map(|index| Slot {
            name: format!("cpu:{index}"),
            device: "cpu".into(),
            threads: 1,
            ..Slot::default()
        })
        .collect();
    let progress = Progress::new(
        Style::Quiet,
        jobs.jobs.iter().map(|job| job.label.clone()).collect(),
        jobs.jobs.iter().map(|job| job.flops),
        |_| true,
        0,
        slots.iter().map(|slot| slot.name.clone()),
    );
    let files = |index: usize| JobFiles {
        spec: plan.stage_spec(jobs.origins[index].1),
        data_root: None,
        init_file: None,
        evaluation_roots: BTreeMap::new(),
        rules: ExecutionRules::default(),
        folder: Some(dir.into()),
    };
    let execution = Execution {
        store,
        me: &me,
        dir,
        jobs: jobs.jobs.clone(),
        slots,
        gpus: None,
        executor: Arc::new(executor),
        files: &files,
        progress,
        limits: Limits::default(),
        settings: Settings::default(),
    };
    Ok(execution.run(sender, inputs).await?)
}

/// Rows a second that are stored in batches, and milliseconds of `status`.
async fn store_speed(args: &ScheduleArgs) -> Result<(f64, f64), BenchError> {
    const BATCH: usize = 1000;
    let folder = folder(args)?;
    let dir = folder.path().join("store");
    let (_lock, store) = Store::enter(&dir).await?;
    let variants = args.runs.get().isqrt().clamp(1, 1000);
    let plan = plan_of(variants, args.runs.get().div_ceil(variants))?;
    store.save_plan(&plan, &provenance()).await?;
    let batches = args.rows.get().div_ceil(BATCH);
    let events: Vec<Event> = (1..=BATCH as u64)
        .map(|step| Event {
            v: EVENT_VERSION,
            seq: step,
            time: log::unix_time(),
            attempt: 1,
            kind: EventKind::Step {
                step,
                epoch: 0,
                loss: 1.0,
                lr: 1e-3,
                grad_norm: 1.0,
                images_per_second: 1.0,
            },
        })
        .collect();
    let clock = Instant::now();
    for stage in plan.stages.iter().cycle().take(batches) {
        let name = stage.fingerprint.to_string();
        store.record_events(&name, &events).await?;
    }
    let rows = (batches.min(plan.stages.len()) * BATCH) as f64 / clock.elapsed().as_secs_f64();
    store.close().await?;
    let mut times = Vec::new();
    for _ in 0..5 {
        let clock = Instant::now();
        let store = Store::open_read_only(&dir).await?;
        store.status(None).await?;
        store.running(None).await?;
        times.push(clock.elapsed().as_secs_f64() * 1e3);
    }
    Ok((rows, median(times)))
}

/// Milliseconds from the start to the end of `ablate --help`.
fn help() -> Result<f64, BenchError> {
    let program = std::env::current_exe().map_err(io("can't find this program"))?;
    let mut times = Vec::new();
    for _ in 0..21 {
        let clock = Instant::now();
        Command::new(&program)
            .arg("--help")
            .stdout(Stdio::null())
            .status()
            .map_err(io("can't start this program"))?;
        times.push(clock.elapsed().as_secs_f64() * 1e3);
    }
    Ok(median(times))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn provenance() -> Provenance {
    Provenance {
        program: concat!("ablate ", env!("CARGO_PKG_VERSION")).to_owned(),
        git_revision: None,
        host: crate::rundir::host::name(),
        command_line: "ablate bench schedule".to_owned(),
    }
}

fn text(figures: &Figures) -> String {
    format!(
        "{} no-op stages on {} slots: {:.2} s (the processes alone: {:.2} s)\n\
         CPU a stage: {:.2} ms, of that the process {:.2} ms: {:.2} ms above the floor\n\
         as many stages that run a program: {:.2} s, {:.2} ms above the floor\n\
         idle scheduler: {:.1} ms of CPU in {} s\n\
         metric rows stored a second: {:.0}\n\
         status over {} runs: {:.1} ms\n\
         ablate --help: {:.1} ms\n",
        figures.stages,
        figures.slots,
        figures.wall_seconds,
        figures.floor_wall_seconds,
        figures.cpu_ms,
        figures.floor_cpu_ms,
        figures.cpu_ms_above_floor,
        figures.program_wall_seconds,
        figures.program_cpu_ms_above_floor,
        figures.idle_cpu_ms,
        figures.idle_seconds,
        figures.rows_per_second,
        figures.runs,
        figures.status_ms,
        figures.help_ms,
    )
}
