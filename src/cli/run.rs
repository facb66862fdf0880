//! `ablate run`: plans, stores the plan, and trains what is not known yet.

use crate::cli::detach::Detached;
use crate::cli::exit::Exit;
use crate::cli::places::Places;
use crate::cli::planning::{Planned, PlanningArgs, say};
use crate::cli::report::ReportError;
use crate::cli::size;
use crate::plan::memory::TooLarge;
use crate::plan::model::Plan;
use crate::report::table::render::{Render, Terminal, may_colour};
use crate::report::{load, summary_table};
use crate::rundir::host;
use crate::schedule::actor::{self, Execution, Input};
use crate::schedule::core::{Closing, End, Limits, Prior};
use crate::schedule::device::cpu::Cpu;
use crate::schedule::device::{self, DeviceChoice, Slot};
use crate::schedule::eta;
use crate::schedule::execution::{JobFiles, ScheduleError, Settings, Summary};
use crate::schedule::executor::limits;
use crate::schedule::executor::local::LocalExecutor;
use crate::schedule::jobs::Jobs;
use crate::schedule::outcome::signal_name;
use crate::schedule::policy::{policy, policy_of};
use crate::schedule::progress::{Progress, Style, sanitise};
use crate::schedule::reconcile::reconcile;
use crate::schedule::signals;
use crate::schedule::space;
use crate::spec::execution::ExecutionRules;
use crate::store::rows::Status;
use crate::store::{Owner, OwnerLock, Provenance, Store, StoreError};
use std::collections::HashMap;
use std::io::Write;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

/// Train every variant that is not known yet, and print the tables
///
/// What is done is skipped, what was interrupted goes on from its last checkpoint. Stages that failed
/// through no fault of their own (killed, device_lost, out_of_memory, timeout, hung, disk_full, io_error)
/// are tried again; others only with --retry-failed.
///
/// Ctrl-C lets the workers write checkpoints and ends; a second one ends at once. Ctrl-Z stops the workers
/// and all limits of time, too.
///
/// Several `ablate run` on one store share the work, whether their experiments are the same or not.
///
/// Exit codes: 0 all done; 1 some stage failed; 2 the command line, a file or a data set is not usable;
/// 3 the store is not usable; 4 the time of --budget is over; 130 (SIGINT), 143 (SIGTERM), 129 (SIGHUP)
/// interrupted, 138 ended by `ablate stop`, 140 by `ablate stop --now`.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub planning: PlanningArgs,
    /// Folder of the store
    #[arg(
        long,
        value_name = "DIR",
        env = "ABLATE_STORE",
        default_value = "ablate-store"
    )]
    pub store: PathBuf,
    /// Number of workers at once [default: one per GPU, else one per core]
    #[arg(long, value_name = "N")]
    pub slots: Option<NonZeroUsize>,
    /// Compute threads of each worker [default: 1 on the CPU]
    #[arg(long, value_name = "N")]
    pub threads_per_slot: Option<NonZeroUsize>,
    /// Workers at once on each GPU [default: 1]
    #[arg(long, value_name = "N")]
    pub slots_per_gpu: Option<NonZeroUsize>,
    /// Memory of a GPU that a worker takes, such as 10GiB; as many share a GPU as fit
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub gpu_memory: Option<u64>,
    /// Work in the background, without this terminal: returns once it has planned and has the store
    /// (`ablate attach` shows its progress, `ablate stop` ends it)
    #[arg(long)]
    pub detach: bool,
    /// The pipe to whoever waits for it to be at work
    #[arg(long, hide = true, value_name = "FD")]
    pub detached_through: Option<i32>,
    /// Where to train
    #[arg(long, value_enum, default_value_t)]
    pub device: DeviceChoice,
    /// Show errors only
    #[arg(long, short)]
    pub quiet: bool,
    /// Try failed stages again, whatever they failed of
    #[arg(long)]
    pub retry_failed: bool,
    /// Start no new stages once N have failed; those that run go on
    #[arg(long, value_name = "N")]
    pub max_fail: Option<NonZeroU32>,
    /// Stop after this time, such as 90s, 45m, 8h, 1d12h: workers write checkpoints and leave
    #[arg(long, value_name = "TIME", value_parser = crate::spec::duration::parse_argument)]
    pub budget: Option<Duration>,
    /// Finish one stage, the cheapest, before any other starts; nothing else starts if it fails
    #[arg(long)]
    pub canary: bool,
    /// Longest wall time of an attempt, such as 90m or 12h: it writes a checkpoint and ends; the next run goes
    /// on [default: the experiment's `execution.timeout`, else any]
    #[arg(long, value_name = "TIME", value_parser = crate::spec::duration::parse_argument)]
    pub timeout: Option<Duration>,
    /// Time that workers have to write a checkpoint and leave, such as 30s or 2m, before they are killed
    /// [default: the experiment's `execution.grace`, else 10s]
    #[arg(long, value_name = "TIME", value_parser = crate::spec::duration::parse_argument)]
    pub grace: Option<Duration>,
    /// Start no stage while less than this is free on the store's disk, such as 500M or 2G
    #[arg(long, value_name = "SIZE", value_parser = space::parse, default_value = "256M")]
    pub min_free: u64,
}

impl RunArgs {
    /// Whether another process is to do it.
    pub fn detaches(&self) -> bool {
        self.detach && self.detached_through.is_none()
    }
}

/// Runs the command. `gpu_count` asks the driver for GPUs; it is called only if one may be used.
pub async fn run(args: &RunArgs, gpu_count: impl FnOnce() -> usize) -> Exit {
    let Some(planned) = args.planning.plan() else {
        return Exit::Usage;
    };
    let detached = match args.detached_through.map(Detached::new).transpose() {
        Ok(detached) => detached,
        Err(error) => {
            say(format_args!("error: --detached-through: {error}"));
            return Exit::Usage;
        }
    };
    let places = match Places::find(args, &planned.plans, gpu_count) {
        Ok(places) => places,
        Err(exit) => return exit,
    };
    match run_plans(args, &planned, places, detached).await {
        Ok(exit) => exit,
        Err(error) => {
            say(format_args!("error: {error}"));
            Exit::Store
        }
    }
}

/// Why a run can't go on.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    #[error(transparent)]
    Report(#[from] ReportError),
    #[error("can't listen to signals: {0}")]
    Signals(std::io::Error),
    #[error("can't go into the background: {0}")]
    Detach(std::io::Error),
    #[error("can't find this program to start workers: {0}")]
    Program(std::io::Error),
}

async fn run_plans(
    args: &RunArgs,
    planned: &Planned,
    places: Places,
    detached: Option<Detached>,
) -> Result<Exit, RunError> {
    let plans: Vec<&Plan> = planned.plans.iter().collect();
    let names: Vec<String> = plans
        .iter()
        .map(|plan| plan.experiment.name.clone())
        .collect();
    let (_lock, store) = when_there_is_room(async || Store::enter(&args.store).await).await?;
    // Heard before anybody can know of us and send one.
    let (sender, mut inputs) = actor::channel();
    signals::forward(&sender).map_err(RunError::Signals)?;
    store.warnings().iter().for_each(say);
    store.on_notice(|text| say(text));
    // It may have to wait for a lock or for room.
    let (me, jobs) = tokio::select! {
        prepared = prepare(args, &store, &plans) => prepared?,
        signal = signals::interruption(&mut inputs) => {
            store.give_up();
            say(format_args!("{}: nothing was started", signal_name(signal)));
            return Ok(Exit::Signal(u8::try_from(signal).unwrap_or(u8::MAX)));
        }
    };
    if !places.slots.iter().any(Slot::is_gpu) && refuse_too_large(planned, &jobs) {
        return Ok(Exit::Usage);
    }
    let done_before = jobs.done();
    if !args.quiet {
        say(format_args!(
            "{done_before} of {} stages already done",
            jobs.jobs.len()
        ));
    }
    let open = jobs
        .jobs
        .iter()
        .filter(|job| job.prior == Prior::Pending)
        .count();
    let mut hub = None;
    let summary = if open == 0 {
        // From here on a signal means again what it means to any program.
        drop((sender, inputs));
        Summary::without_work(&jobs.jobs)
    } else {
        if let Some(detached) = detached {
            detached.at_work(&args.store).map_err(RunError::Detach)?;
        }
        if !args.quiet {
            tell_peers(&store, &me, &jobs).await?;
        }
        let progress = progress(args, &jobs, &places.slots);
        let ask = {
            let sender = sender.clone();
            // Nobody listens any more once all is done.
            move |request| drop(sender.send(Input::Asked(request)))
        };
        let socket = progress.hub().serve(&args.store, &me.owner().id, ask);
        if let Err(error) = &socket {
            say(format_args!(
                "warning: `ablate attach` can't show this run: {error}"
            ));
        }
        if let Some(signal) = signals::pending(&mut inputs) {
            say(format_args!("{}: nothing was started", signal_name(signal)));
            return Ok(Exit::Signal(u8::try_from(signal).unwrap_or(u8::MAX)));
        }
        hub = Some((progress.hub(), socket));
        execute(
            args,
            (&store, &me),
            planned,
            &jobs,
            places,
            progress,
            (sender, inputs),
        )
        .await?
    };
    report(args, &jobs, &summary, done_before);
    let left = summary.count(|end| *end == End::Left) > 0;
    let exit = match summary.interrupted {
        Some(signal) if left => Exit::Signal(u8::try_from(signal).unwrap_or(u8::MAX)),
        None if left && summary.closed == Some(Closing::Budget) => Exit::Budget,
        _ if summary.ends.iter().all(|end| *end == End::Done) => Exit::Done,
        _ => Exit::Failed,
    };
    if !matches!(exit, Exit::Signal(_) | Exit::Budget) {
        print_tables(&store, &names).await?;
    }
    store.close().await?;
    if let Some((hub, _socket)) = hub {
        hub.over(exit.code()).await;
    }
    Ok(exit)
}

/// Enters this run and its plans into the store.
async fn prepare(
    args: &RunArgs,
    store: &Store,
    plans: &[&Plan],
) -> Result<(OwnerLock, Jobs), StoreError> {
    let me = when_there_is_room(async || OwnerLock::create(&args.store)).await?;
    let provenance = provenance();
    for plan in plans {
        when_there_is_room(async || store.save_plan(plan, &provenance).await).await?;
    }
    let jobs = when_there_is_room(async || known_jobs(args, store, plans).await).await?;
    Ok((me, jobs))
}

/// Tries again, as long as the file system of the store is full.
async fn when_there_is_room<T>(
    attempt: impl AsyncFn() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut is_told = false;
    loop {
        match attempt().await {
            Err(full @ StoreError::Full { .. }) => {
                if !std::mem::replace(&mut is_told, true) {
                    say(format_args!("{full}: waiting until there is some"));
                }
                tokio::time::sleep(space::LOOK).await;
            }
            done => {
                if is_told && done.is_ok() {
                    say("the store has room again: going on");
                }
                return done;
            }
        }
    }
}

/// The stages of the plans, with what is known of them; first, what a scheduler that died has left is
/// taken in.
async fn known_jobs(args: &RunArgs, store: &Store, plans: &[&Plan]) -> Result<Jobs, StoreError> {
    let mut jobs = Jobs::of(plans);
    let names = jobs.fingerprints();
    let states = store.stage_states(&names).await?;
    let is_done = |name: &str| {
        states
            .get(name)
            .is_some_and(|state| state.status == Status::Done)
    };
    let unfinished: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| !is_done(name))
        .collect();
    let states = if unfinished.is_empty() {
        states
    } else {
        let found = reconcile(store, &args.store, unfinished).await?;
        for error in &found.damaged {
            say(format_args!("warning: {error}"));
        }
        store.stage_states(&names).await?
    };
    jobs.apply(&states, args.retry_failed, &args.store);
    Ok(jobs)
}

/// Says which stages to run need more memory than the machine has; whether there are any.
fn refuse_too_large(planned: &Planned, jobs: &Jobs) -> bool {
    let limit = device::memory_for_stages(Cpu::discover().memory);
    let too_large =
        |job: &usize| jobs.jobs[*job].prior == Prior::Pending && jobs.jobs[*job].memory > limit;
    let found: Vec<usize> = (0..jobs.jobs.len()).filter(too_large).collect();
    for &job in found.iter().take(LISTED) {
        let (plan, stage) = jobs.origins[job];
        if let Some(why) = TooLarge::of(&planned.plans[plan].stage_spec(stage), limit) {
            let label = sanitise(&jobs.jobs[job].label, 80);
            say(format_args!("error: {label} {why}"));
        }
    }
    if found.len() > LISTED {
        say(format_args!(
            "error: and {} more stages",
            found.len() - LISTED
        ));
    }
    !found.is_empty()
}

fn progress(args: &RunArgs, jobs: &Jobs, slots: &[Slot]) -> Progress {
    Progress::new(
        Style::choose(args.quiet),
        jobs.jobs.iter().map(|job| job.label.clone()).collect(),
        jobs.jobs.iter().map(|job| job.flops),
        |index| jobs.jobs[index].prior == Prior::Pending,
        jobs.done(),
        slots.iter().map(|slot| slot.name.clone()),
    )
}

async fn execute(
    args: &RunArgs,
    (store, me): (&Store, &OwnerLock),
    planned: &Planned,
    jobs: &Jobs,
    places: Places,
    progress: Progress,
    (sender, inputs): (UnboundedSender<Input>, UnboundedReceiver<Input>),
) -> Result<Summary, RunError> {
    if let Some(warning) = limits::check(places.slots.len()) {
        say(format_args!("warning: {warning}"));
    }
    let executor = LocalExecutor::this_program().map_err(RunError::Program)?;
    let files = |index: usize| {
        let (plan, stage) = jobs.origins[index];
        let spec = planned.plans[plan].stage_spec(stage);
        let data_root = planned.roots.get(&spec.data_hash).cloned().flatten();
        let init = planned.plans[plan].init(stage);
        let evaluation_roots = spec
            .evaluation_sets
            .iter()
            .map(|set| {
                let root = planned.set_roots.get(&set.hash).cloned().flatten();
                (set.name.clone(), root)
            })
            .collect();
        JobFiles {
            folder: spec
                .command
                .is_some()
                .then(|| planned.plans[plan].folder().to_owned()),
            spec,
            data_root,
            evaluation_roots,
            init_file: init.map(|init| init.path.clone()),
            rules: ExecutionRules {
                timeout: args.timeout.or(planned.plans[plan].execution.timeout),
                grace: args.grace.unwrap_or(planned.plans[plan].execution.grace),
                ..planned.plans[plan].execution.clone()
            },
        }
    };
    let execution = Execution {
        store,
        me,
        dir: &args.store,
        jobs: jobs.jobs.clone(),
        slots: places.slots.clone(),
        gpus: places.gpus.clone(),
        executor: Arc::new(executor),
        files: &files,
        progress,
        limits: Limits {
            max_fail: args.max_fail.map(NonZeroU32::get),
            budget: args.budget,
            canary: args.canary,
            // All leave together: whoever may take longest has the time.
            grace: args.grace.or_else(|| {
                let plans = planned.plans.iter();
                plans.map(|plan| plan.execution.grace).max()
            }),
        },
        settings: Settings {
            reserve: args.min_free,
            ..Settings::default()
        },
    };
    Ok(execution.run(sender, inputs).await?)
}

/// Labels of a peer's stages that are listed.
const PEER_STAGES: usize = 4;

/// Tells which other schedulers are at work on the store: the stages are shared with them.
async fn tell_peers(store: &Store, me: &OwnerLock, jobs: &Jobs) -> Result<(), StoreError> {
    let mut peers = Owner::at_work(store.dir());
    peers.retain(|owner| owner.id != me.owner().id);
    if peers.is_empty() {
        return Ok(());
    }
    let labels: HashMap<&str, &str> = jobs
        .jobs
        .iter()
        .map(|job| (job.fingerprint.as_str(), job.label.as_str()))
        .collect();
    let leases = store.leases().await?;
    for peer in &peers {
        let stages: Vec<&str> = leases
            .iter()
            .filter(|lease| lease.owner.id == peer.id)
            .map(|lease| {
                let name = lease.fingerprint.as_str();
                labels.get(name).copied().unwrap_or(name)
            })
            .collect();
        let mut text = format!("joined the `ablate run` of {}", peer.holder());
        for (index, stage) in stages.iter().take(PEER_STAGES).enumerate() {
            text += if index == 0 { ", which has " } else { ", " };
            text += &sanitise(stage, 80);
        }
        if stages.len() > PEER_STAGES {
            text += &format!(" and {} more", stages.len() - PEER_STAGES);
        }
        say(text);
    }
    say("the stages are shared: each is trained once");
    Ok(())
}

/// Failures that are listed one by one.
const LISTED: usize = 20;

/// Tells how it ended, on stderr.
fn report(args: &RunArgs, jobs: &Jobs, summary: &Summary, done_before: usize) {
    let failed: Vec<usize> = (0..jobs.jobs.len())
        .filter(|&job| matches!(summary.ends[job], End::Failed(_)))
        .collect();
    let blocked = summary.count(|end| matches!(end, End::Blocked { .. }));
    let left = summary.count(|end| *end == End::Left);
    for &job in failed.iter().take(LISTED) {
        let End::Failed(failure) = &summary.ends[job] else {
            continue;
        };
        let label = sanitise(&jobs.jobs[job].label, 80);
        say(format_args!(
            "failed: {label}: {}: {}",
            failure.class.name(),
            sanitise(&failure.message, 600)
        ));
        let policy = policy_of(failure.class, &failure.message);
        match summary.logs.get(&job) {
            Some(log) => say(format_args!("  log: {}", log.display())),
            None if policy.transient => {
                say("  it failed in another `ablate run`: run again, and it is tried again")
            }
            None => say("  it failed before and was not tried again: --retry-failed does that"),
        }
        say(format_args!("  hint: {}", policy.hint));
    }
    if failed.len() > LISTED {
        say(format_args!(
            "and {} more: `ablate status` lists them",
            failed.len() - LISTED
        ));
    }
    let tried: Vec<_> = failed
        .iter()
        .filter(|job| summary.logs.contains_key(job))
        .collect();
    if !tried.is_empty() {
        let transient = tried.iter().all(|&&job| match &summary.ends[job] {
            End::Failed(failure) => policy(failure.class).transient,
            _ => false,
        });
        say(if transient {
            "the next `ablate run` tries them again"
        } else {
            "the next `ablate run` tries those again that circumstances were to blame for (killed, out of memory, \
             time or space, ...); the others with --retry-failed"
        });
    }
    let done = summary.count(|end| *end == End::Done);
    if args.quiet || done_before == jobs.jobs.len() {
        return;
    }
    let mut text = format!("{done} of {} stages done", jobs.jobs.len());
    if done > done_before && done_before > 0 {
        text += &match summary.elsewhere {
            0 => format!(" ({} now)", done - done_before),
            others => format!(" ({} now, {others} of them by others)", done - done_before),
        };
    }
    for (count, what) in [
        (failed.len(), "failed"),
        (blocked, "blocked by them"),
        (left, "left"),
    ] {
        if count > 0 {
            text += &format!(", {count} {what}");
        }
    }
    if summary.attempts > 0 {
        text += &format!("; {}", eta::show(summary.wall));
    }
    say(text);
    if left > 0 {
        say("the same command goes on where this one stopped");
    }
}

fn provenance() -> Provenance {
    Provenance {
        program: concat!("ablate ", env!("CARGO_PKG_VERSION")).to_owned(),
        git_revision: option_env!("ABLATE_GIT_REVISION").map(str::to_owned),
        host: host::name(),
        command_line: std::env::args().collect::<Vec<_>>().join(" "),
    }
}

/// Prints the comparison table of each experiment on stdout.
pub async fn print_tables(store: &Store, experiments: &[String]) -> Result<(), ReportError> {
    let mut text = String::new();
    for experiment in store.experiments().await? {
        if !experiments.contains(&experiment.name) {
            continue;
        }
        let (data, warnings) = load::load(store, experiment, false).await?;
        for warning in warnings {
            say(format_args!("warning: {warning}"));
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(
            &Terminal {
                colour: may_colour(),
            }
            .render(&summary_table(&data)?),
        );
    }
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        // Whoever reads it has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(ReportError::Stdout),
    }
}
