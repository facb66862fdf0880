//! Tests with real processes, real signals and a real store.
//!
//! Workers and schedulers that must be processes of their own are this very test program, started
//! again for one of the two ignored tests below ([`fake_worker`], [`fake_scheduler`]).

use super::actor::{self, Execution, Input};
use super::core::{End, Limits, Prior};
use super::device::Slot;
use super::execution::{Job, JobFiles, ScheduleError, Settings, Summary};
use super::executor::local::LocalExecutor;
use super::jobs::Jobs;
use super::progress::{Progress, Style};
use super::reconcile::reconcile;
use super::signals;
use crate::model::parameter::HostParameter;
use crate::plan::model::{
    Cost, ExperimentInfo, Fingerprint, PlannedRun, PlannedStage, ReportSpec, Variant,
};
use crate::rng::{KeyedRng, Purpose};
use crate::rundir::durable;
use crate::rundir::event::{EventKind, FailureClass};
use crate::rundir::layout::RunDir;
use crate::rundir::log::{self, EventLog};
use crate::rundir::stage::{DataShape, Launch, StageSpec, TRAINER_REVISION, Task};
use crate::spec::execution::{ExecutionRules, OutOfMemory};
use crate::store::rows::Status;
use crate::store::{OwnerLock, Parts, Provenance, Store, StoreError};
use crate::train::checkpoint;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

// ---------------------------------------------------------------------------------------------
// The worker.

static TERMINATED: AtomicBool = AtomicBool::new(false);

extern "C" fn note_termination(_: libc::c_int) {
    TERMINATED.store(true, Ordering::Relaxed);
}

/// A worker that does what the file `behaviour` of its run directory says: line N is for attempt N,
/// the last line for all later ones.
#[test]
#[ignore = "the worker of the other tests"]
fn fake_worker() {
    let Some(dir) = std::env::args()
        .next_back()
        .map(RunDir::new)
        .filter(|dir| dir.launch().exists())
    else {
        return;
    };
    // SAFETY: the handler only stores to an atomic.
    unsafe {
        libc::signal(
            libc::SIGTERM,
            note_termination as *const () as libc::sighandler_t,
        )
    };
    let launch: Launch = serde_json::from_slice(&std::fs::read(dir.launch()).unwrap()).unwrap();
    let spec: StageSpec = serde_json::from_slice(&std::fs::read(dir.stage()).unwrap()).unwrap();
    assert_eq!(
        dir.root().file_name().unwrap().to_str().unwrap(),
        spec.fingerprint
    );
    if let Some(parent) = &launch.parent_dir {
        assert!(
            RunDir::new(parent).weights().exists(),
            "the parent is done first"
        );
    }
    let behaviour = std::fs::read_to_string(dir.root().join("behaviour")).unwrap();
    let lines: Vec<_> = behaviour.lines().collect();
    let line = lines[(launch.attempt as usize).min(lines.len()) - 1];
    let mut log = EventLog::open(&dir.events(), launch.attempt).unwrap();
    let resumed =
        std::fs::read_to_string(dir.root().join("step")).map_or(0, |step| step.parse().unwrap());
    log.append(EventKind::Started {
        host: "here".into(),
        pid: std::process::id(),
        device: launch.device.clone(),
        program: "fake".into(),
        resumed_step: resumed,
        total_steps: 10,
    })
    .unwrap();
    let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
    match what {
        "done" => {
            std::thread::sleep(Duration::from_millis(rest.parse().unwrap_or(0)));
            finish(&dir, &mut log);
        }
        "finish-and-die" => {
            finish(&dir, &mut log);
            std::process::abort();
        }
        "exit" => std::process::exit(rest.parse().unwrap()),
        "fail" => {
            let (class, message) = (FailureClass::Diverged, rest.to_owned());
            log.append(EventKind::Failed { class, message }).unwrap();
            std::process::exit(class.exit_code());
        }
        "panic" => {
            eprintln!(
                "thread 'main' panicked at fake.rs: {rest}\nnote: run with `RUST_BACKTRACE=1`"
            );
            std::process::exit(101);
        }
        // SAFETY: a system call without memory.
        "kill" => unsafe {
            libc::kill(std::process::id() as i32, libc::SIGKILL);
        },
        "silent" => {}
        "wait" => loop {
            if TERMINATED.load(Ordering::Relaxed) {
                std::fs::write(dir.root().join("step"), "5").unwrap();
                log.append(EventKind::Checkpointed {
                    step: 5,
                    file: "step".into(),
                })
                .unwrap();
                std::process::exit(FailureClass::Killed.exit_code());
            }
            std::thread::sleep(Duration::from_millis(2));
        },
        // Meets something else when it is asked to leave.
        "diverge-then" => {
            while !TERMINATED.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(2));
            }
            let (class, message) = (FailureClass::Diverged, "NaN".to_owned());
            log.append(EventKind::Failed { class, message }).unwrap();
            std::process::exit(class.exit_code());
        }
        // Sleeps until it is asked to leave, and then says that it has got further.
        "sleeper" => {
            while !TERMINATED.load(Ordering::Relaxed) {
                // SAFETY: a system call without memory.
                unsafe { libc::pause() };
            }
            let step = resumed + 1;
            std::fs::write(dir.root().join("step"), step.to_string()).unwrap();
            let file = "step".into();
            log.append(EventKind::Checkpointed { step, file }).unwrap();
            std::process::exit(FailureClass::Killed.exit_code());
        }
        // Says that it has a checkpoint where it went on from, and is killed.
        "no-further" => {
            let (step, file) = (resumed.max(5), "step".into());
            log.append(EventKind::Checkpointed { step, file }).unwrap();
            // SAFETY: a system call without memory.
            unsafe { libc::kill(std::process::id() as i32, libc::SIGKILL) };
        }
        // Says a lot, once it may, and finishes.
        "chatty" => {
            while !dir.root().join("go").exists() {
                std::thread::sleep(Duration::from_millis(2));
            }
            for step in 1..=rest.parse().unwrap() {
                log.append(EventKind::Step {
                    step,
                    epoch: 0,
                    loss: 1.0,
                    lr: 0.1,
                    grad_norm: 1.0,
                    images_per_second: 1.0,
                })
                .unwrap();
            }
            finish(&dir, &mut log);
        }
        "stubborn" => loop {
            std::thread::sleep(Duration::from_secs(1));
        },
        "flood" => {
            println!("the first line");
            let block = vec![b'\xff'; 1 << 16];
            for _ in 0..rest.parse::<usize>().unwrap() {
                std::io::stdout().write_all(&block).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
            println!("\nthe last line");
            finish(&dir, &mut log);
        }
        "damage" => {
            drop(log);
            let mut file = std::fs::OpenOptions::new()
                .append(true)
                .open(dir.events())
                .unwrap();
            file.write_all(b"{}\t00000000\n{}\t00000000\n").unwrap();
        }
        other => panic!("unknown behaviour {other}"),
    }
    std::process::exit(0);
}

fn finish(dir: &RunDir, log: &mut EventLog) {
    std::fs::create_dir_all(dir.checkpoints()).unwrap();
    let weight = HostParameter {
        name: "w".into(),
        shape: vec![1],
        values: vec![0.5],
    };
    // Verified where a child fails.
    checkpoint::write_final(&dir.weights(), "fake", &[weight]).unwrap();
    log.append(EventKind::Evaluated {
        epoch: 0,
        step: 10,
        set: "val".into(),
        resolution: 8,
        metrics: BTreeMap::from([("top1".to_owned(), 50.0)]),
        last: true,
    })
    .unwrap();
    log.append(EventKind::Finished { step: 10 }).unwrap();
}

// ---------------------------------------------------------------------------------------------
// The bench.

/// A stage of a test: its parent, and the behaviour of its worker.
type TestStage = (Option<usize>, &'static str);

/// A store in a temporary folder with some stages.
struct Bench {
    folder: tempfile::TempDir,
    store: Store,
    stages: Vec<PlannedStage>,
}

/// Slots of a test in `dir`: on GPUs that nobody tells of, where its rules say so.
fn slots(count: usize, dir: &Path) -> Vec<Slot> {
    let rules = std::fs::read_to_string(dir.join("rules")).unwrap_or_default();
    let device = match rules.lines().any(|line| line == "gpus") {
        true => "cuda",
        false => "cpu",
    };
    (0..count)
        .map(|index| Slot {
            name: format!("{device}:{index}"),
            device: "cpu".into(),
            threads: 1,
            visible_gpu: (device == "cuda").then(|| index.to_string()),
            ..Slot::default()
        })
        .collect()
}

fn planned(list: &[(Option<usize>, String)]) -> Vec<PlannedStage> {
    list.iter()
        .enumerate()
        .map(|(index, (parent, _))| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&(index as u64 + 1).to_be_bytes());
            PlannedStage {
                name: 0,
                fingerprint: Fingerprint(bytes),
                parent: parent.map(|parent| parent as u32),
                cost: Cost {
                    flops: 1.0,
                    ..Cost::default()
                },
            }
        })
        .collect()
}

fn spec(stages: &[PlannedStage], index: usize) -> StageSpec {
    StageSpec {
        version: 1,
        trainer_revision: TRAINER_REVISION,
        fingerprint: stages[index].fingerprint.to_string(),
        task: Task::Train,
        recipe: serde_json::from_str(RECIPE).unwrap(),
        seed: index as u64,
        data_hash: "0".repeat(32),
        data_shape: DataShape {
            classes: 2,
            train_images: 4,
            val_images: 4,
            kept_bytes: 0,
        },
        evaluation_sets: Vec::new(),
        parent: stages[index]
            .parent
            .map(|parent| stages[parent as usize].fingerprint.to_string()),
        init_weights: None,
        command: None,
    }
}

const RECIPE: &str = r#"{
    "model": {"patch_size": 4, "embed_dim": 8, "depth": 1, "num_heads": 1, "mlp_ratio": 4.0,
              "parallel_branches": 1, "layer_scale": null, "drop_path": 0.0, "drop_path_rule": "constant",
              "pos_embed_class": false},
    "data": {"name": "bluemarble-climate", "root": null},
    "train": {"resolution": 8, "epochs": 1, "batch_size": 4, "accumulation": 1, "repeated_augmentation": 1},
    "optimizer": {"name": "lamb", "lr": 0.001, "weight_decay": 0.0, "betas": [0.9, 0.999], "eps": 1e-8,
                  "momentum": 0.9, "nesterov": false, "max_grad_norm": null,
                  "always_adapt": false, "trust_clip": false},
    "schedule": {"name": "constant", "warmup_epochs": 0, "warmup_lr": 0.0, "min_lr": 0.0},
    "loss": {"name": "ce", "label_smoothing": 0.0},
    "mix": {"mixup_alpha": 0.0, "cutmix_alpha": 0.0, "prob": 0.0, "switch_prob": 0.0, "groups": 1},
    "augment": {"crop": "center", "rrc_scale": [0.1, 1.0], "rrc_ratio": [0.75, 1.33], "src_padding": 4,
                "hflip": 0.0, "policy": "none", "three_augment_ops": [], "color_jitter": 0.0,
                "random_erasing": 0.0},
    "ema": {"decay": null, "eval": false},
    "eval": {"resolution": 8, "crop_ratio": 1.0, "every": 1, "resolutions": [], "sets": []}
}"#;

impl Bench {
    async fn new(stages: &[TestStage]) -> Bench {
        let list: Vec<_> = stages
            .iter()
            .map(|(parent, what)| (*parent, (*what).to_owned()))
            .collect();
        Bench::with(list).await
    }

    async fn with(list: Vec<(Option<usize>, String)>) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let stages = planned(&list);
        let store = Store::open(folder.path()).await.unwrap();
        save(&store, &stages).await;
        for (stage, (_, behaviour)) in stages.iter().zip(&list) {
            let dir = RunDir::in_store(folder.path(), &stage.fingerprint.to_string());
            std::fs::create_dir_all(dir.root()).unwrap();
            std::fs::write(dir.root().join("behaviour"), behaviour).unwrap();
        }
        let parents: Vec<Option<usize>> = list.iter().map(|(parent, _)| *parent).collect();
        std::fs::write(
            folder.path().join("parents.json"),
            serde_json::to_string(&parents).unwrap(),
        )
        .unwrap();
        Bench {
            folder,
            store,
            stages,
        }
    }

    fn dir(&self, stage: usize) -> RunDir {
        RunDir::in_store(
            self.folder.path(),
            &self.stages[stage].fingerprint.to_string(),
        )
    }

    async fn states(&self) -> Vec<Status> {
        let names: Vec<String> = self
            .stages
            .iter()
            .map(|stage| stage.fingerprint.to_string())
            .collect();
        let states = self.store.stage_states(&names).await.unwrap();
        names.iter().map(|name| states[name].status).collect()
    }

    /// Attempts of a stage: status, class, message.
    async fn attempts(&self, stage: usize) -> Vec<(Status, Option<String>, String)> {
        let name = self.stages[stage].fingerprint.to_string();
        self.store
            .attempts(&name)
            .await
            .unwrap()
            .into_iter()
            .map(|row| (row.status, row.failure, row.message.unwrap_or_default()))
            .collect()
    }

    /// Runs everything on `count` slots, undisturbed.
    async fn run(&self, count: usize) -> Summary {
        self.disturbed(count, |_| {}).await
    }

    /// Runs everything; `disturb` gets hold of the inputs before it begins.
    async fn disturbed(
        &self,
        count: usize,
        disturb: impl FnOnce(UnboundedSender<Input>),
    ) -> Summary {
        let (sender, inputs) = actor::channel();
        disturb(sender.clone());
        execute(
            &self.store,
            self.folder.path(),
            &self.stages,
            count,
            this_worker(),
            (sender, inputs),
        )
        .await
        .unwrap()
    }
}

async fn save(store: &Store, stages: &[PlannedStage]) {
    let experiment = ExperimentInfo {
        name: "test".into(),
        title: String::new(),
        claim: String::new(),
        profile: "quick".into(),
        source: String::new(),
        path: "test.yaml".into(),
        stage_names: vec!["train".into()],
        baseline: None,
        report: ReportSpec::default(),
    };
    let runs: Vec<_> = (0..stages.len())
        .map(|index| PlannedRun {
            variant: 0,
            seed: index as u64,
            stages: vec![index as u32],
        })
        .collect();
    let variants = [Variant {
        labels: Vec::new(),
        name: "only".into(),
    }];
    let parts = Parts {
        experiment: &experiment,
        axes: &[],
        variants: &variants,
        runs: &runs,
        stages,
    };
    let provenance = Provenance {
        program: "test".into(),
        git_revision: None,
        host: "here".into(),
        command_line: "test".into(),
    };
    store
        .save_parts(parts, |index| spec(stages, index as usize), &provenance)
        .await
        .unwrap();
}

fn this_test(name: &str) -> Vec<OsString> {
    let name = format!("schedule::process_tests::{name}");
    [
        "--exact",
        &name,
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ]
    .map(OsString::from)
    .into()
}

fn this_worker() -> LocalExecutor {
    LocalExecutor::program(std::env::current_exe().unwrap(), this_test("fake_worker"))
}

async fn execute(
    store: &Store,
    dir: &Path,
    stages: &[PlannedStage],
    count: usize,
    executor: LocalExecutor,
    (sender, inputs): (
        UnboundedSender<Input>,
        tokio::sync::mpsc::UnboundedReceiver<Input>,
    ),
) -> Result<Summary, ScheduleError> {
    let job = |(index, stage): (usize, &PlannedStage)| Job {
        fingerprint: stage.fingerprint.to_string(),
        parent: stage.parent.map(|parent| parent as usize),
        flops: stage.cost.flops,
        priority: 0,
        devices: 1,
        memory: 0,
        threads: None,
        label: format!("stage {index}"),
        prior: Prior::Pending,
        attempts: 0,
    };
    let list: Vec<Job> = stages.iter().enumerate().map(job).collect();
    let mut jobs = Jobs {
        origins: vec![(0, 0); list.len()],
        jobs: list,
    };
    let done = store.finished().await?;
    let names = jobs.fingerprints();
    reconcile(
        store,
        dir,
        names
            .iter()
            .map(String::as_str)
            .filter(|name| !done.contains(*name)),
    )
    .await?;
    jobs.apply(&store.stage_states(&names).await?, true, dir);
    let open: Vec<bool> = jobs
        .jobs
        .iter()
        .map(|job| job.prior == Prior::Pending)
        .collect();
    let labels = jobs.jobs.iter().map(|job| job.label.clone()).collect();
    let progress = Progress::new(
        Style::Quiet,
        labels,
        vec![1.0; stages.len()],
        |stage| open[stage],
        0,
        vec![String::new(); count],
    );
    let settings = Settings {
        tick: Duration::from_millis(10),
        log_cap: 1 << 20,
        hurry: std::env::var("ABLATE_TEST_HURRY").map_or(100, |hurry| hurry.parse().unwrap()),
        reserve: rules(dir).1,
        ..Settings::default()
    };
    let files = |index: usize| JobFiles {
        spec: spec(stages, index),
        data_root: None,
        init_file: None,
        evaluation_roots: BTreeMap::new(),
        rules: rules(dir).0,
        folder: None,
    };
    let me = OwnerLock::create(dir).unwrap();
    let execution = Execution {
        store,
        me: &me,
        dir,
        jobs: jobs.jobs,
        slots: slots(count, dir),
        executor: Arc::new(executor),
        gpus: None,
        files: &files,
        progress,
        limits: Limits::default(),
        settings,
    };
    execution.run(sender, inputs).await
}

/// Rules and reserve of a test: what the file `rules` in its folder says.
fn rules(dir: &Path) -> (ExecutionRules, u64) {
    let mut rules = ExecutionRules::default();
    let mut reserve = 0;
    let text = std::fs::read_to_string(dir.join("rules")).unwrap_or_default();
    for line in text.lines() {
        let (what, value) = line.split_once(' ').unwrap_or((line, ""));
        let pause = || Some(Duration::from_millis(value.parse().unwrap()));
        match what {
            "timeout" => rules.timeout = pause(),
            "hung_after" => rules.hung_after = pause(),
            "gpus" => {}
            "smaller_parts" => rules.out_of_memory = OutOfMemory::SmallerParts,
            "reserve" => reserve = value.parse().unwrap(),
            other => panic!("unknown rule {other}"),
        }
    }
    (rules, reserve)
}

/// Waits until `is` holds; what it waits for comes about in milliseconds, or never.
async fn until(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited in vain for {what}");
}

/// Waits until a worker has begun to write the log at `events`.
async fn until_begun(events: &Path) {
    until("the start", || {
        log::read(events).is_ok_and(|events| !events.is_empty())
    })
    .await;
}

fn failure(end: &End) -> (FailureClass, &str) {
    match end {
        End::Failed(failure) => (failure.class, &failure.message),
        other => panic!("{other:?}"),
    }
}

// ---------------------------------------------------------------------------------------------
// One scheduler, undisturbed.

#[tokio::test]
async fn chains_run_in_order() {
    let bench = Bench::new(&[
        (Some(1), "done"),
        (Some(2), "done"),
        (None, "done"),
        (None, "done"),
    ])
    .await;
    let summary = bench.run(2).await;
    assert_eq!(summary.ends, vec![End::Done; 4]);
    assert_eq!(summary.attempts, 4);
    assert_eq!(bench.states().await, [Status::Done; 4]);
    let results = bench.store.results("test").await.unwrap();
    assert_eq!(
        results
            .iter()
            .filter(|row| row.metric == "top1" && row.value == 50.0)
            .count(),
        4
    );
    // All is known now: no worker is started.
    let again = bench.run(2).await;
    assert_eq!((again.ends, again.attempts), (vec![End::Done; 4], 0));
}

#[tokio::test]
async fn failures_keep_their_cause_and_block_descendants() {
    let bench = Bench::new(&[
        (None, "fail the loss is NaN"),
        (Some(0), "done"),
        (Some(1), "done"),
        (None, "exit 71"),
        (None, "silent"),
        (None, "panic index out of bounds"),
        (None, "damage"),
        (None, "finish-and-die"),
        (None, "done"),
    ])
    .await;
    let summary = bench.run(2).await;
    assert_eq!(
        failure(&summary.ends[0]),
        (FailureClass::Diverged, "the loss is NaN")
    );
    assert_eq!(summary.ends[1], End::Blocked { by: 0 });
    assert_eq!(summary.ends[2], End::Blocked { by: 0 });
    assert_eq!(failure(&summary.ends[3]).0, FailureClass::Data);
    let (class, message) = failure(&summary.ends[4]);
    assert_eq!(class, FailureClass::Incomplete);
    assert!(message.starts_with("ended without a result"), "{message}");
    let (class, message) = failure(&summary.ends[5]);
    assert_eq!(class, FailureClass::Bug);
    assert!(
        message.ends_with("thread 'main' panicked at fake.rs: index out of bounds"),
        "{message}"
    );
    // Its log is damaged by every attempt: the second has set the first one's aside.
    let (class, message) = failure(&summary.ends[6]);
    assert_eq!(class, FailureClass::IoError);
    assert!(message.contains("events.jsonl, line "), "{message}");
    assert_eq!(bench.attempts(6).await.len(), 2);
    let aside = bench.dir(6).root().join("events.jsonl.damaged-1");
    assert!(aside.exists());
    assert_eq!(summary.ends[7], End::Done, "its result is on disk");
    assert_eq!(summary.ends[8], End::Done);
    let log = std::fs::read_to_string(&summary.logs[&5]).unwrap();
    assert!(log.contains("index out of bounds"), "{log}");
    assert_eq!(
        bench.attempts(0).await,
        [(
            Status::Failed,
            Some("diverged".to_owned()),
            "the loss is NaN".to_owned()
        )]
    );
    assert_eq!(bench.states().await[1], Status::Pending);
}

#[tokio::test]
async fn a_killed_worker_is_tried_again() {
    let bench = Bench::new(&[(None, "kill\nkill\ndone")]).await;
    let summary = bench.run(1).await;
    assert_eq!((summary.ends, summary.attempts), (vec![End::Done], 3));
    let attempts = bench.attempts(0).await;
    assert_eq!(attempts[1].1.as_deref(), Some("killed"));
    assert_eq!(attempts[1].2, "ended by signal 9 (SIGKILL)");
    assert_eq!(attempts[2].0, Status::Done);
}

#[tokio::test]
async fn a_worker_that_is_always_killed_is_given_up() {
    let bench = Bench::new(&[(None, "kill"), (Some(0), "done")]).await;
    let summary = bench.run(2).await;
    assert_eq!(summary.attempts, 4);
    assert_eq!(failure(&summary.ends[0]).0, FailureClass::Killed);
    assert_eq!(summary.ends[1], End::Blocked { by: 0 });
    assert_eq!(bench.states().await, [Status::Failed, Status::Pending]);
}

#[tokio::test]
async fn a_flood_of_output_is_cut() {
    let bench = Bench::new(&[(None, "flood 200")]).await;
    let summary = bench.run(1).await;
    assert_eq!(summary.ends, [End::Done]);
    let log = std::fs::read(bench.dir(0).attempt_log(1)).unwrap();
    assert!(log.len() < 8 << 20, "{} of 12.5 MiB", log.len());
    let text = String::from_utf8_lossy(&log);
    assert!(text.contains("the first line") && text.contains("bytes cut out here"));
    assert!(text.ends_with("the last line\n"));
}

#[tokio::test]
async fn a_program_that_is_not_there_fails_the_stage() {
    let bench = Bench::new(&[(None, "done"), (Some(0), "done")]).await;
    let executor = LocalExecutor::program("/nonexistent/worker", Vec::new());
    let summary = execute(
        &bench.store,
        bench.folder.path(),
        &bench.stages,
        1,
        executor,
        actor::channel(),
    )
    .await
    .unwrap();
    let (class, message) = failure(&summary.ends[0]);
    assert_eq!(class, FailureClass::Bug);
    assert!(message.contains("/nonexistent/worker"), "{message}");
    assert_eq!(summary.ends[1], End::Blocked { by: 0 });
}

// ---------------------------------------------------------------------------------------------
// Stops.

#[tokio::test]
async fn a_stop_lets_workers_checkpoint_and_the_next_run_goes_on() {
    let bench = Bench::new(&[(None, "wait\ndone"), (Some(0), "done"), (None, "done")]).await;
    let events = bench.dir(0).events();
    let summary = bench
        .disturbed(1, |sender| {
            tokio::spawn(async move {
                until_begun(&events).await;
                sender.send(Input::Interrupt(libc::SIGINT)).unwrap();
            });
        })
        .await;
    assert_eq!(summary.ends, [End::Left, End::Left, End::Left]);
    assert_eq!(summary.interrupted, Some(libc::SIGINT));
    assert_eq!(bench.states().await, [Status::Pending; 3]);
    let attempts = bench.attempts(0).await;
    assert_eq!(attempts[0].1.as_deref(), Some("killed"));
    assert!(
        attempts[0].2.starts_with("interrupted by SIGINT"),
        "{attempts:?}"
    );
    let summary = bench.run(1).await;
    assert_eq!(summary.ends, vec![End::Done; 3]);
    let started: Vec<u64> = log::read(&bench.dir(0).events())
        .unwrap()
        .iter()
        .filter_map(|event| match event.kind {
            EventKind::Started { resumed_step, .. } => Some(resumed_step),
            _ => None,
        })
        .collect();
    assert_eq!(started, [0, 5], "it goes on from its checkpoint");
}

/// However often and however quickly: `ablate stop` and batch systems ask for checkpoints, not for an end at once.
#[tokio::test]
async fn requests_to_drain_in_one_go_kill_nobody() {
    let bench = Bench::new(&[(None, "wait\ndone")]).await;
    let events = bench.dir(0).events();
    let summary = bench
        .disturbed(1, |sender| {
            tokio::spawn(async move {
                until_begun(&events).await;
                for _ in 0..3 {
                    sender.send(Input::Interrupt(signals::DRAIN)).unwrap();
                }
            });
        })
        .await;
    assert_eq!(summary.ends, [End::Left]);
    let events = log::read(&bench.dir(0).events()).unwrap();
    let mut kinds = events.iter().map(|event| &event.kind);
    assert!(
        kinds.any(|kind| matches!(kind, EventKind::Checkpointed { step: 5, .. })),
        "{events:?}"
    );
}

/// A worker's end and three Ctrl-C come in one batch: the stage that would be next ends before it has a device.
#[tokio::test]
async fn stops_that_come_with_the_end_of_a_worker_leave_the_next_stage() {
    let bench = Bench::new(&[(None, "done 200"), (None, "done"), (None, "done")]).await;
    let events = bench.dir(0).events();
    let summary = bench
        .disturbed(1, |sender| {
            tokio::spawn(async move {
                until_begun(&events).await;
                // The loop is on this thread: it is deaf until it finds all of it at once.
                std::thread::sleep(Duration::from_millis(1500));
                for _ in 0..3 {
                    sender.send(Input::Interrupt(libc::SIGINT)).unwrap();
                }
            });
        })
        .await;
    assert_eq!(summary.ends, [End::Done, End::Left, End::Left]);
    assert_eq!(summary.interrupted, Some(libc::SIGINT));
    let summary = bench.run(1).await;
    assert_eq!(summary.ends, vec![End::Done; 3]);
}

/// What a worker ended of is recorded, also where it was asked to leave.
#[tokio::test]
async fn an_attempt_that_fails_while_it_is_asked_to_leave_keeps_its_cause() {
    let bench = Bench::new(&[(None, "diverge-then")]).await;
    let events = bench.dir(0).events();
    let summary = bench
        .disturbed(1, |sender| {
            tokio::spawn(async move {
                until_begun(&events).await;
                sender.send(Input::Interrupt(libc::SIGINT)).unwrap();
            });
        })
        .await;
    assert_eq!(summary.interrupted, Some(libc::SIGINT));
    let attempts = bench.attempts(0).await;
    assert_eq!(attempts[0].1.as_deref(), Some("diverged"), "{attempts:?}");
    assert_eq!(attempts[0].2, "NaN");
}

#[tokio::test]
async fn a_worker_that_does_not_listen_is_killed_after_the_grace() {
    let bench = Bench::new(&[(None, "stubborn")]).await;
    let events = bench.dir(0).events();
    let summary = bench
        .disturbed(1, |sender| {
            tokio::spawn(async move {
                until("the start", || events.exists()).await;
                sender.send(Input::Interrupt(libc::SIGTERM)).unwrap();
            });
        })
        .await;
    assert_eq!(summary.ends, [End::Left]);
    assert_eq!(bench.states().await, [Status::Pending]);
}

// ---------------------------------------------------------------------------------------------
// Schedulers as processes.

/// A scheduler of the store that `ABLATE_TEST_STORE` names, on two slots.
#[test]
#[ignore = "the scheduler of the other tests"]
fn fake_scheduler() {
    let Some(dir) = std::env::var_os("ABLATE_TEST_STORE").map(PathBuf::from) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let code = runtime.block_on(async {
        let (_lock, store) = Store::enter(&dir).await.unwrap();
        let parents: Vec<Option<usize>> =
            serde_json::from_slice(&std::fs::read(dir.join("parents.json")).unwrap()).unwrap();
        let stages = planned(
            &parents
                .into_iter()
                .map(|parent| (parent, String::new()))
                .collect::<Vec<_>>(),
        );
        let (sender, inputs) = actor::channel();
        signals::forward(&sender).unwrap();
        let summary = execute(&store, &dir, &stages, 2, this_worker(), (sender, inputs))
            .await
            .unwrap();
        match summary.interrupted {
            Some(signal) => 128 + signal,
            None => i32::from(summary.ends.iter().any(|end| *end != End::Done)),
        }
    });
    std::process::exit(code);
}

fn start_scheduler(dir: &Path) -> Child {
    scheduler_command(dir).spawn().unwrap()
}

fn scheduler_command(dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(this_test("fake_scheduler"))
        .env("ABLATE_TEST_STORE", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

fn send(child: &Child, signal: i32) {
    // SAFETY: a system call without memory, on a child that isn't reaped yet.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

/// The processes of the workers that say they have started, so far.
fn worker_pids(bench: &Bench) -> Vec<u32> {
    (0..bench.stages.len())
        .flat_map(|stage| log::read(&bench.dir(stage).events()).unwrap())
        .filter_map(|event| match event.kind {
            EventKind::Started { pid, .. } => Some(pid),
            _ => None,
        })
        .collect()
}

fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .trim()
            .starts_with(['Z', 'X'])
    })
}

fn wait(mut child: Child) -> (Option<i32>, Option<i32>, String) {
    let mut text = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    let status = child.wait().unwrap();
    (status.code(), status.signal(), text)
}

#[tokio::test]
async fn real_signals_drain() {
    for (signal, code) in [
        (libc::SIGINT, 130),
        (libc::SIGTERM, 143),
        (libc::SIGHUP, 129),
    ] {
        let bench = Bench::new(&[
            (None, "wait\ndone"),
            (None, "wait\ndone"),
            (Some(0), "done"),
        ])
        .await;
        let child = start_scheduler(bench.folder.path());
        until("two workers", || worker_pids(&bench).len() == 2).await;
        send(&child, signal);
        let (exit, _, text) = wait(child);
        assert_eq!(exit, Some(code), "{text}");
        assert!(!worker_pids(&bench).into_iter().any(is_alive));
        assert_eq!(bench.states().await, [Status::Pending; 3]);
        let (exit, _, text) = wait(start_scheduler(bench.folder.path()));
        assert_eq!(exit, Some(0), "{text}");
    }
}

#[tokio::test]
async fn nohup_is_respected() {
    use std::os::unix::process::CommandExt;
    let bench = Bench::new(&[(None, "wait")]).await;
    let mut command = scheduler_command(bench.folder.path());
    // SAFETY: a system call without memory.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            Ok(())
        });
    }
    let child = command.spawn().unwrap();
    until("the worker", || worker_pids(&bench).len() == 1).await;
    send(&child, libc::SIGHUP);
    send(&child, libc::SIGTERM);
    let (exit, _, text) = wait(child);
    assert_eq!(exit, Some(143), "the SIGHUP was not heard: {text}");
}

#[tokio::test]
async fn a_second_signal_kills_at_once() {
    let bench = Bench::new(&[(None, "stubborn")]).await;
    let child = start_scheduler(bench.folder.path());
    until("the worker", || worker_pids(&bench).len() == 1).await;
    send(&child, libc::SIGINT);
    send(&child, libc::SIGTERM);
    let (exit, _, text) = wait(child);
    // Sent at once, they may arrive in any order.
    assert!(matches!(exit, Some(130 | 143)), "{exit:?}: {text}");
    assert!(!is_alive(worker_pids(&bench)[0]));
}

#[tokio::test]
async fn workers_stand_still_with_their_scheduler() {
    let bench = Bench::new(&[(None, "wait")]).await;
    let child = start_scheduler(bench.folder.path());
    until("the worker", || worker_pids(&bench).len() == 1).await;
    let worker = worker_pids(&bench)[0];
    let state = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(')')
            .next()
            .unwrap()
            .trim()
            .chars()
            .next()
            .unwrap()
    };
    send(&child, libc::SIGTSTP);
    until("both to stand still", || {
        state(worker) == 'T' && state(child.id()) == 'T'
    })
    .await;
    send(&child, libc::SIGCONT);
    until("both to go on", || {
        state(worker) != 'T' && state(child.id()) != 'T'
    })
    .await;
    send(&child, libc::SIGTERM);
    assert_eq!(wait(child).0, Some(143));
}

#[tokio::test]
async fn time_stood_still_is_no_part_of_a_pause() {
    // The device is lost: five seconds until the retry.
    let bench = Bench::new(&[(None, "exit 74\ndone")]).await;
    let mut command = scheduler_command(bench.folder.path());
    let child = command.env("ABLATE_TEST_HURRY", "1").spawn().unwrap();
    let starts = || -> Vec<f64> {
        log::read(&bench.dir(0).events())
            .unwrap()
            .into_iter()
            .filter(|event| matches!(event.kind, EventKind::Started { .. }))
            .map(|event| event.time)
            .collect()
    };
    until("the first attempt's end", || {
        worker_pids(&bench)
            .first()
            .is_some_and(|&pid| !is_alive(pid))
    })
    .await;
    send(&child, libc::SIGTSTP);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let stopped = starts().len();
    send(&child, libc::SIGCONT);
    let (exit, _, text) = wait(child);
    assert_eq!(exit, Some(0), "{text}");
    let starts = starts();
    assert_eq!((stopped, starts.len()), (1, 2));
    let between = starts[1] - starts[0];
    assert!(between >= 6.9, "{between} s: the pause ran on");
}

#[tokio::test]
async fn workers_die_with_their_scheduler() {
    let bench = Bench::new(&[(None, "stubborn\ndone"), (None, "stubborn\ndone")]).await;
    let child = start_scheduler(bench.folder.path());
    until("two workers", || worker_pids(&bench).len() == 2).await;
    send(&child, libc::SIGKILL);
    assert_eq!(wait(child).1, Some(libc::SIGKILL));
    until("no worker", || {
        !worker_pids(&bench).into_iter().any(is_alive)
    })
    .await;
    // The next scheduler finds two attempts that nobody ended, and goes on.
    let (exit, _, text) = wait(start_scheduler(bench.folder.path()));
    assert_eq!(exit, Some(0), "{text}");
    for stage in 0..2 {
        let attempts = bench.attempts(stage).await;
        assert_eq!(attempts.len(), 2);
        assert_eq!(attempts[0].1.as_deref(), Some("killed"));
        assert_eq!(attempts[1].0, Status::Done);
    }
}

#[tokio::test]
async fn a_stage_that_finished_unwatched_is_done() {
    let bench = Bench::new(&[(None, "exit 77"), (Some(0), "done")]).await;
    let name = bench.stages[0].fingerprint.to_string();
    let start = crate::store::AttemptStart {
        device: "cpu".into(),
        host: "here".into(),
        pid: None,
        log: String::new(),
    };
    let attempt = bench.store.begin_attempt(&name, &start).await.unwrap();
    let mut log = EventLog::open(&bench.dir(0).events(), attempt).unwrap();
    finish(&bench.dir(0), &mut log);
    drop(log);
    let summary = bench.run(1).await;
    assert_eq!((summary.ends, summary.attempts), (vec![End::Done; 2], 1));
    assert_eq!(bench.states().await, [Status::Done; 2]);
}

#[tokio::test]
async fn kills_at_random_moments_lose_nothing_and_repeat_nothing() {
    let list: Vec<_> = (0..24)
        .map(|stage| {
            (
                (stage % 3 != 0).then(|| stage - 1),
                format!("done {}", 5 + stage % 7 * 5),
            )
        })
        .collect();
    let bench = Bench::with(list).await;
    let mut rng = KeyedRng::new(7, Purpose::Test, 0, 0);
    let mut kills = 0;
    loop {
        let child = start_scheduler(bench.folder.path());
        // Later and later, so that it comes to an end on a slow machine too.
        let patience = 40 + 15 * kills;
        tokio::time::sleep(Duration::from_millis(rng.below(patience) + 20)).await;
        send(&child, libc::SIGKILL);
        let (exit, signal, text) = wait(child);
        if signal.is_none() {
            assert_eq!(exit, Some(0), "{text}");
            break;
        }
        kills += 1;
        assert!(kills < 500, "it doesn't come to an end");
    }
    assert!(kills > 0);
    assert_eq!(bench.states().await, [Status::Done; 24]);
    for stage in 0..24 {
        let events = log::read(&bench.dir(stage).events()).unwrap();
        let finished = events
            .iter()
            .filter(|event| matches!(event.kind, EventKind::Finished { .. }))
            .count();
        assert_eq!(finished, 1, "stage {stage} was trained {finished} times");
        assert!(
            !bench
                .attempts(stage)
                .await
                .iter()
                .any(|attempt| attempt.0 == Status::Running)
        );
    }
}

// ---------------------------------------------------------------------------------------------
// Several schedulers.

/// How often each stage says that it finished.
fn finishes(bench: &Bench) -> Vec<usize> {
    (0..bench.stages.len())
        .map(|stage| {
            log::read(&bench.dir(stage).events())
                .unwrap()
                .iter()
                .filter(|event| matches!(event.kind, EventKind::Finished { .. }))
                .count()
        })
        .collect()
}

/// Number of attempts of each stage.
async fn attempts_of_all(bench: &Bench) -> Vec<usize> {
    let mut counts = Vec::new();
    for stage in 0..bench.stages.len() {
        counts.push(bench.attempts(stage).await.len());
    }
    counts
}

#[tokio::test]
async fn two_schedulers_share_the_work() {
    let list: Vec<_> = (0..16)
        .map(|stage| {
            (
                (stage % 4 == 3).then(|| stage - 3),
                format!("done {}", 20 + stage % 3 * 10),
            )
        })
        .collect();
    let bench = Bench::with(list).await;
    let dir = bench.folder.path();
    let first = start_scheduler(dir);
    let second = start_scheduler(dir);
    for child in [first, second] {
        let (exit, _, text) = wait(child);
        assert_eq!(exit, Some(0), "{text}");
    }
    assert_eq!(bench.states().await, [Status::Done; 16]);
    assert_eq!(finishes(&bench), [1; 16]);
    assert_eq!(attempts_of_all(&bench).await, [1; 16]);
    assert!(bench.store.leases().await.unwrap().is_empty());
    assert!(crate::store::Owner::at_work(dir).is_empty());
}

#[tokio::test]
async fn a_survivor_takes_over_at_once() {
    // The first scheduler gets stuck at two stages; the second waits for them, until it has to do them.
    let bench = Bench::new(&[
        (None, "stubborn\ndone"),
        (None, "stubborn\ndone"),
        (Some(0), "done"),
        (Some(1), "done"),
    ])
    .await;
    let first = start_scheduler(bench.folder.path());
    until("two workers", || worker_pids(&bench).len() == 2).await;
    let second = start_scheduler(bench.folder.path());
    let dir = bench.folder.path();
    until("the second", || {
        crate::store::Owner::at_work(dir).len() == 2
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(
        worker_pids(&bench).len(),
        2,
        "what the first has is not run"
    );
    send(&first, libc::SIGKILL);
    assert_eq!(wait(first).1, Some(libc::SIGKILL));
    let begun = std::time::Instant::now();
    let (exit, _, text) = wait(second);
    assert_eq!(exit, Some(0), "{text}");
    // Far less than the time after which somebody would look by itself.
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(bench.states().await, [Status::Done; 4]);
    assert_eq!(attempts_of_all(&bench).await, [2, 2, 1, 1]);
    let attempts = bench.attempts(0).await;
    assert_eq!(attempts[0].1.as_deref(), Some("killed"));
    assert_eq!(finishes(&bench), [1; 4]);
}

#[tokio::test]
async fn kills_of_either_scheduler_lose_nothing_and_repeat_nothing() {
    let list: Vec<_> = (0..24)
        .map(|stage| {
            (
                (stage % 3 != 0).then(|| stage - 1),
                format!("done {}", 5 + stage % 7 * 5),
            )
        })
        .collect();
    let bench = Bench::with(list).await;
    let dir = bench.folder.path();
    let mut rng = KeyedRng::new(11, Purpose::Test, 0, 0);
    let mut running = vec![start_scheduler(dir), start_scheduler(dir)];
    let mut kills = 0;
    // One of the two is killed and replaced, again and again, later and later.
    while bench
        .states()
        .await
        .iter()
        .any(|&state| state != Status::Done)
    {
        tokio::time::sleep(Duration::from_millis(rng.below(40 + 15 * kills) + 20)).await;
        let victim = running.remove(rng.below(2) as usize);
        send(&victim, libc::SIGKILL);
        wait(victim);
        running.push(start_scheduler(dir));
        kills += 1;
        assert!(kills < 500, "it doesn't come to an end");
    }
    for child in running {
        let (exit, _, text) = wait(child);
        assert_eq!(exit, Some(0), "{text}");
    }
    assert!(kills > 0);
    assert_eq!(finishes(&bench), [1; 24]);
    for stage in 0..24 {
        let attempts = bench.attempts(stage).await;
        let done = attempts.iter().filter(|attempt| attempt.0 == Status::Done);
        assert_eq!(done.count(), 1, "{attempts:?}");
        assert!(attempts.iter().all(|attempt| attempt.0 != Status::Running));
    }
    assert!(bench.store.leases().await.unwrap().is_empty());
}

// ---------------------------------------------------------------------------------------------
// Limits, memory, disk.

#[tokio::test]
async fn an_attempt_that_stands_still_is_ended_and_tried_again() {
    // The first worker ignores SIGTERM and sleeps.
    let bench = Bench::new(&[(None, "stubborn\ndone")]).await;
    std::fs::write(bench.folder.path().join("rules"), "hung_after 3000").unwrap();
    let summary = bench.run(1).await;
    assert_eq!((summary.ends, summary.attempts), (vec![End::Done], 2));
    let attempts = bench.attempts(0).await;
    assert_eq!(attempts[0].1.as_deref(), Some("hung"));
    assert!(attempts[0].2.contains("stood still"), "{attempts:?}");
    let log = std::fs::read_to_string(bench.dir(0).attempt_log(1)).unwrap();
    assert!(
        log.contains("stands still") && log.contains("  thread "),
        "{log}"
    );
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_checkpoints_and_waits_for_the_next_execution() {
    let bench = Bench::new(&[(None, "wait\ndone"), (None, "done")]).await;
    std::fs::write(bench.folder.path().join("rules"), "timeout 3000").unwrap();
    let summary = bench.run(1).await;
    let (class, message) = failure(&summary.ends[0]);
    assert_eq!(class, FailureClass::Timeout);
    assert!(message.contains("longer than allowed"), "{message}");
    assert_eq!(summary.ends[1], End::Done);
    let again = bench.run(1).await;
    assert_eq!((again.ends[0].clone(), again.attempts), (End::Done, 1));
    let resumed = log::read(&bench.dir(0).events()).unwrap();
    assert!(
        resumed.iter().any(|event| matches!(
            event.kind,
            EventKind::Started {
                resumed_step: 5,
                ..
            }
        )),
        "{resumed:?}"
    );
}

#[tokio::test]
async fn out_of_memory_takes_smaller_parts_where_that_is_allowed() {
    let told = |bench: &Bench| {
        let launch = std::fs::read(bench.dir(0).launch()).unwrap();
        serde_json::from_slice::<Launch>(&launch)
            .unwrap()
            .accumulation
    };
    let bench = Bench::new(&[(None, "exit 72\nexit 72\ndone")]).await;
    std::fs::write(bench.folder.path().join("rules"), "smaller_parts").unwrap();
    let summary = bench.run(1).await;
    assert_eq!((summary.ends, summary.attempts), (vec![End::Done], 3));
    assert_eq!(told(&bench), Some(4), "a batch of 4: 1, 2, 4 parts");

    // The next execution remembers; single samples can't be cut.
    let bench = Bench::new(&[(None, "exit 72\nkill\nexit 72\nexit 72\nexit 72")]).await;
    std::fs::write(bench.folder.path().join("rules"), "smaller_parts").unwrap();
    let summary = bench.run(1).await;
    assert_eq!(failure(&summary.ends[0]).0, FailureClass::OutOfMemory);
    assert_eq!(told(&bench), Some(4));

    let bench = Bench::new(&[(None, "exit 72\ndone")]).await;
    assert_eq!(bench.run(1).await.ends, [End::Done]);
    assert_eq!(told(&bench), None, "only where it is allowed");
    let message = &bench.attempts(0).await[0].2;
    assert!(
        message.starts_with("the machine's memory is full"),
        "{message}"
    );
}

#[tokio::test]
async fn the_same_step_on_the_same_gpu_is_not_tried_again() {
    let bench = Bench::new(&[(None, "exit 72\ndone")]).await;
    std::fs::write(bench.folder.path().join("rules"), "gpus").unwrap();
    let summary = bench.run(1).await;
    let (class, message) = failure(&summary.ends[0]);
    assert_eq!((class, summary.attempts), (FailureClass::OutOfMemory, 1));
    assert!(
        message.starts_with("the memory of cuda:0 is full"),
        "{message}"
    );
    // The next execution may have another GPU for it.
    assert_eq!(bench.run(1).await.ends, [End::Done]);

    let bench = Bench::new(&[(None, "exit 72\ndone")]).await;
    std::fs::write(bench.folder.path().join("rules"), "gpus\nsmaller_parts").unwrap();
    let summary = bench.run(1).await;
    assert_eq!((summary.ends, summary.attempts), (vec![End::Done], 2));
}

#[tokio::test]
async fn retries_are_given_back_by_progress_only() {
    // Each attempt stands still, and says on its way out that it got further.
    let bench = Bench::new(&[(None, "sleeper")]).await;
    std::fs::write(bench.folder.path().join("rules"), "hung_after 2000").unwrap();
    let summary = bench.run(1).await;
    assert_eq!(failure(&summary.ends[0]).0, FailureClass::Hung);
    assert_eq!(summary.attempts, 2);
    // Each says that it has a checkpoint, where the first one had it, too.
    let bench = Bench::new(&[(None, "no-further")]).await;
    let summary = bench.run(1).await;
    assert_eq!(failure(&summary.ends[0]).0, FailureClass::Killed);
    assert_eq!(summary.attempts, 4);
}

// ---------------------------------------------------------------------------------------------
// A store that can't grow.

/// A bench on which a worker has said more than the store can hold, and another one waits. Ends with the result of
/// the execution; `meanwhile` gets the bench, and the inputs.
async fn without_room(
    bench: &Bench,
    meanwhile: impl AsyncFnOnce(UnboundedSender<Input>),
) -> Result<Summary, ScheduleError> {
    let (sender, inputs) = actor::channel();
    let execution = execute(
        &bench.store,
        bench.folder.path(),
        &bench.stages,
        2,
        this_worker(),
        (sender.clone(), inputs),
    );
    let disturbance = async {
        until("two workers", || worker_pids(bench).len() == 2).await;
        bench.store.limit_pages(1).await;
        std::fs::write(bench.dir(0).root().join("go"), "").unwrap();
        let events = bench.dir(0).events();
        let is_last = |kind: &EventKind| matches!(kind, EventKind::Finished { .. });
        until("the end of the first", || {
            let events = log::read(&events).unwrap();
            events.last().is_some_and(|event| is_last(&event.kind))
        })
        .await;
        meanwhile(sender).await;
    };
    tokio::join!(execution, disturbance).0
}

/// Whether the log of the second stage has a checkpoint.
fn has_left(bench: &Bench) -> bool {
    let events = log::read(&bench.dir(1).events()).unwrap();
    let mut kinds = events.iter().map(|event| &event.kind);
    kinds.any(|kind| matches!(kind, EventKind::Checkpointed { .. }))
}

#[tokio::test]
async fn a_store_without_room_makes_all_wait_but_limits_of_time() {
    let bench = Bench::new(&[
        (None, "chatty 5000"),
        (None, "wait\ndone"),
        (Some(0), "done"),
    ])
    .await;
    std::fs::write(bench.folder.path().join("rules"), "timeout 6000").unwrap();
    let summary = without_room(&bench, async |_| {
        until("the time to be over", || has_left(&bench)).await;
        let states = bench.states().await;
        assert_eq!(states, [Status::Running, Status::Running, Status::Pending]);
        bench.store.limit_pages(1_000_000).await;
    })
    .await
    .unwrap();
    assert_eq!(summary.ends[0], End::Done);
    assert_eq!(failure(&summary.ends[1]).0, FailureClass::Timeout);
    assert_eq!((&summary.ends[2], summary.attempts), (&End::Done, 3));
    let name = bench.stages[0].fingerprint.to_string();
    assert_eq!(bench.store.last_seq(&name).await.unwrap(), 5_003);
}

#[tokio::test]
async fn a_stop_drains_though_the_store_has_no_room() {
    let bench = Bench::new(&[
        (None, "chatty 5000"),
        (None, "wait\ndone"),
        (Some(0), "done"),
    ])
    .await;
    let result = without_room(&bench, async |sender| {
        sender.send(Input::Interrupt(libc::SIGINT)).unwrap();
    })
    .await;
    let error = result.unwrap_err();
    let full = ScheduleError::Store(StoreError::Full {
        path: bench.folder.path().join("ablate.db"),
    });
    assert_eq!(error.to_string(), full.to_string());
    assert!(has_left(&bench), "it was asked to leave");
    bench.store.limit_pages(1_000_000).await;
    let summary = bench.run(2).await;
    assert_eq!(summary.ends, vec![End::Done; 3]);
    assert_eq!(summary.attempts, 2, "what the first had done was taken in");
    let resumed = log::read(&bench.dir(1).events()).unwrap();
    let goes_on = |kind: &EventKind| {
        matches!(
            kind,
            EventKind::Started {
                resumed_step: 5,
                ..
            }
        )
    };
    assert!(
        resumed.iter().any(|event| goes_on(&event.kind)),
        "{resumed:?}"
    );
}

#[tokio::test]
async fn a_second_stop_does_not_wait_for_room_or_workers() {
    let bench = Bench::new(&[(None, "chatty 5000"), (None, "stubborn")]).await;
    let begun = std::time::Instant::now();
    let result = without_room(&bench, async |sender| {
        sender.send(Input::Interrupt(libc::SIGINT)).unwrap();
        sender.send(Input::Interrupt(libc::SIGINT)).unwrap();
    })
    .await;
    assert!(result.is_err());
    let worker = worker_pids(&bench)[1];
    until("no worker", || !is_alive(worker)).await;
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn without_room_nothing_starts() {
    let bench = Bench::new(&[(None, "done")]).await;
    let behaviour = "reserve 1000000000000000";
    std::fs::write(bench.folder.path().join("rules"), behaviour).unwrap();
    let summary = bench
        .disturbed(1, |sender| {
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(200)).await;
                sender.send(Input::Interrupt(libc::SIGTERM)).unwrap();
            });
        })
        .await;
    assert_eq!((summary.ends, summary.attempts), (vec![End::Left], 0));
    std::fs::remove_file(bench.folder.path().join("rules")).unwrap();
    assert_eq!(bench.run(1).await.ends, [End::Done]);
}

/// Every step of the disk that the scheduler itself takes may fail: the attempt fails of it, and is made again.
#[tokio::test]
async fn every_step_of_the_schedulers_disk_may_fail() {
    let mut failed = 0;
    for n in 1.. {
        let bench = Bench::new(&[(None, "done"), (Some(0), "done")]).await;
        let folder = bench.folder.path().join("stages");
        let errno = if n % 2 == 0 { libc::EIO } else { libc::ENOSPC };
        durable::fault::fail_at(&folder, n, errno);
        let summary = bench.run(1).await;
        assert_eq!(summary.ends, [End::Done, End::Done], "step {n}");
        let Some(step) = durable::fault::take(&folder) else {
            break;
        };
        failed += 1;
        let attempts = [bench.attempts(0).await, bench.attempts(1).await].concat();
        let classes: Vec<&str> = attempts
            .iter()
            .filter_map(|attempt| attempt.1.as_deref())
            .collect();
        let expected = if errno == libc::EIO {
            "io_error"
        } else {
            "disk_full"
        };
        assert_eq!(classes, [expected], "step {n}, {step:?}");
        for stage in 0..2 {
            let events = log::read(&bench.dir(stage).events()).unwrap();
            let finished = events
                .iter()
                .filter(|event| matches!(event.kind, EventKind::Finished { .. }));
            assert_eq!(finished.count(), 1, "step {n}");
        }
    }
    assert!(failed >= 10, "{failed}");
}
