//! The command on a real store: a built-in experiment, planned, stored, and run by a make-believe worker.

use super::*;
use crate::plan::model::Plan;
use crate::report::table::fixture::planned;
use crate::rundir::event::{EVENT_VERSION, Event, EventKind, FailureClass};
use crate::rundir::layout::RunDir;
use crate::rundir::predictions::{Prediction, encode};
use crate::store::rows::Status;
use crate::store::{AttemptEnd, AttemptStart, Provenance};
use std::collections::{BTreeMap, BTreeSet};

async fn save(store: &Store, plan: &Plan) {
    let provenance = Provenance {
        program: "ablate 0.0.0".to_owned(),
        git_revision: None,
        host: "here".to_owned(),
        command_line: "ablate run".to_owned(),
    };
    store.save_plan(plan, &provenance).await.unwrap();
}

/// Trains stage `index` in make-believe: `right` of 926 images at the end, or a failure.
async fn work(store: &Store, plan: &Plan, index: usize, right: Result<usize, FailureClass>) {
    let fingerprint = plan.stages[index].fingerprint.to_string();
    let start = AttemptStart {
        device: "cpu".to_owned(),
        host: "here".to_owned(),
        pid: None,
        log: "log".to_owned(),
    };
    let attempt = store.begin_attempt(&fingerprint, &start).await.unwrap();
    let mut kinds = Vec::new();
    let mut end = AttemptEnd {
        status: Status::Done,
        failure: None,
        message: None,
        exit_code: Some(0),
        signal: None,
        energy_joules: None,
    };
    match right {
        Ok(right) => {
            for epoch in 0..4u32 {
                let share = f64::from(epoch + 1) / 4.0;
                kinds.push(EventKind::Epoch {
                    epoch,
                    step: u64::from(epoch),
                    train_loss: 2.0 - share + 0.01 * index as f64,
                    lr: 0.001,
                    seconds: 1.0,
                });
                let top1 = 100.0 * right as f64 / 926.0 * share;
                let metrics = [("top1", top1), ("top5", 95.0), ("loss", 2.5 - share)];
                kinds.push(EventKind::Evaluated {
                    epoch,
                    step: u64::from(epoch),
                    set: "val".to_owned(),
                    resolution: 48,
                    metrics: metrics
                        .into_iter()
                        .map(|(name, value)| (name.to_owned(), value))
                        .collect(),
                    last: epoch == 3,
                });
            }
            kinds.push(EventKind::Finished { step: 4 });
            let directory = RunDir::in_store(store.dir(), &fingerprint);
            std::fs::create_dir_all(directory.root()).unwrap();
            let predictions: Vec<Prediction> = (0..926)
                .map(|image| Prediction {
                    label: 0,
                    class: 0,
                    rank: u32::from(image >= right),
                    loss: 0.5,
                })
                .collect();
            std::fs::write(directory.predictions(), encode(&predictions)).unwrap();
        }
        Err(class) => {
            kinds.push(EventKind::Failed {
                class,
                message: "no".to_owned(),
            });
            end = AttemptEnd {
                status: Status::Failed,
                failure: Some(class),
                message: Some("no".to_owned()),
                exit_code: Some(class.exit_code()),
                signal: None,
                energy_joules: None,
            };
        }
    }
    let events: Vec<Event> = kinds
        .into_iter()
        .zip(1..)
        .map(|(kind, seq)| Event {
            v: EVENT_VERSION,
            seq,
            time: 0.0,
            attempt,
            kind,
        })
        .collect();
    store.record_events(&fingerprint, &events).await.unwrap();
    store
        .end_attempt(&fingerprint, attempt, &end)
        .await
        .unwrap();
}

/// Images that the model of a stage gets right: by variant and seed, better after later stages.
fn right(plan: &Plan, stage: usize) -> usize {
    let run = plan
        .runs
        .iter()
        .find(|run| run.stages.contains(&(stage as u32)))
        .expect("a run has the stage");
    let wobble = [3, 11, 5, 8, 2][(run.seed as usize * 3 + run.variant as usize) % 5];
    420 + 25 * run.variant as usize + 40 * plan.stages[stage].name as usize + wobble
}

fn args(out: &Path, experiments: &[&str]) -> ReportArgs {
    ReportArgs {
        experiments: experiments.iter().map(|name| (*name).to_owned()).collect(),
        out: out.to_owned(),
        format: Format::Terminal,
        store: PathBuf::from("ablate-store"),
        no_plots: false,
        watch: false,
        forever: false,
    }
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                std::fs::read(entry.path()).unwrap(),
            )
        })
        .collect()
}

#[tokio::test]
async fn all_five_experiments_are_reported_twice_alike() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).await.unwrap();
    let names = ["augmentation", "crop", "epochs", "fixres", "loss"];
    let mut done = BTreeSet::new();
    for name in names {
        let plan = planned(name);
        save(&store, &plan).await;
        for stage in 0..plan.stages.len() {
            if done.insert(plan.stages[stage].fingerprint.to_string()) {
                work(&store, &plan, stage, Ok(right(&plan, stage))).await;
            }
        }
    }
    let out = folder.path().join("reports");
    report(&args(&out, &[]), &store).await.unwrap();
    let first: Vec<_> = names.iter().map(|name| contents(&out.join(name))).collect();
    report(&args(&out, &[]), &store).await.unwrap();
    let second: Vec<_> = names.iter().map(|name| contents(&out.join(name))).collect();
    assert!(first == second);

    if let Some(gallery) = std::env::var_os("ABLATE_PLOT_GALLERY").map(PathBuf::from) {
        for (name, files) in names.iter().zip(&first) {
            let folder = gallery.join(name);
            std::fs::create_dir_all(&folder).unwrap();
            files
                .iter()
                .for_each(|(file, bytes)| std::fs::write(folder.join(file), bytes).unwrap());
        }
    }
    let text =
        |experiment: usize, file: &str| String::from_utf8(first[experiment][file].clone()).unwrap();
    for (experiment, files) in [
        (0, &["result.svg", "curves-val-top1.png"][..]),
        (1, &["variants.csv", "by-epochs.svg"][..]),
        (2, &["by-epochs.svg"][..]),
        (
            3,
            &["by-resolution.svg", "curves-finetune-val-top1.svg"][..],
        ),
        (4, &["variants.md", "table.csv"][..]),
    ] {
        for file in files {
            assert!(
                first[experiment].contains_key(*file),
                "{file} of {}",
                names[experiment]
            );
        }
    }
    assert!(text(4, "report.md").contains("`bluemarble-climate`"));
    assert!(
        text(4, "table.md").starts_with("| model | top-1 (%) ce | top-1 (%) bce | top-1 (%) Δ bce | val loss ce | val loss bce |"),
        "{}",
        text(4, "table.md")
    );
    assert!(
        text(3, "table.md").contains(
            "| resolution | pretrain top-1 (%) | finetune top-1 (%) | finetune val loss |"
        )
    );
}

#[tokio::test]
async fn failures_single_runs_and_damaged_predictions() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).await.unwrap();
    let plan = planned("loss");
    save(&store, &plan).await;
    // Variant 0: one run done, two failed. Variant 1: one run done, its predictions damaged.
    let stages = |variant: u32| -> Vec<usize> {
        plan.runs
            .iter()
            .filter(|run| run.variant == variant)
            .map(|run| run.stages[0] as usize)
            .collect()
    };
    work(&store, &plan, stages(0)[0], Ok(500)).await;
    work(&store, &plan, stages(0)[1], Err(FailureClass::Diverged)).await;
    work(&store, &plan, stages(0)[2], Err(FailureClass::OutOfMemory)).await;
    work(&store, &plan, stages(1)[0], Ok(510)).await;
    let damaged = RunDir::in_store(
        store.dir(),
        &plan.stages[stages(1)[0]].fingerprint.to_string(),
    )
    .predictions();
    std::fs::write(&damaged, b"ABLPRED1").unwrap();

    let experiment = store.experiments().await.unwrap().remove(0);
    let (data, warnings) = load::load(&store, experiment, true).await.unwrap();
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains("predictions.bin is damaged"),
        "{warnings:?}"
    );
    assert_eq!(data.data_set.as_deref(), Some("bluemarble-climate"));
    // What lies behind: two attempts that failed, the plan, the configurations of each variant's first run.
    let background = &data.background;
    let failed: Vec<_> = background
        .attempts
        .iter()
        .map(|attempt| (attempt.failure.as_deref(), attempt.runs, attempt.attempt))
        .collect();
    assert_eq!(
        failed,
        [(Some("diverged"), 1, 1), (Some("out_of_memory"), 1, 1)]
    );
    assert_eq!(background.plan.as_ref().unwrap().program, "ablate 0.0.0");
    assert_eq!(background.stages.len(), plan.stages.len());
    assert_eq!(background.configs.len(), plan.variants.len());
    assert_eq!(background.machines[0].attempts, 4);
    let differences = data.configuration_differences(&data.variants());
    let paths: Vec<&str> = differences
        .iter()
        .map(|field| field.path.as_str())
        .collect();
    assert!(paths.contains(&"loss.name") && paths.contains(&"model.embed_dim"));
    assert!(!paths.contains(&"optimizer.lr"));
    let text = Terminal { colour: false }.render(&summary_table(&data).unwrap());
    // 500 of 926 are 54.0 %, Wilson 50.8 to 57.2.
    assert!(text.contains("54.0 [50.8, 57.2] (n = 1)"), "{text}");
    assert!(text.contains("55.1 (n = 1)"), "{text}");
    assert!(text.contains("pending"), "{text}");
    assert!(
        text.contains("2 of 3 runs failed (diverged, out of memory)"),
        "{text}"
    );
}

#[tokio::test]
async fn nothing_has_run_yet() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).await.unwrap();
    let out = folder.path().join("reports");
    let error = report(&args(&out, &[]), &store).await.unwrap_err();
    assert!(
        error.to_string().contains("has no experiments yet"),
        "{error}"
    );
    save(&store, &planned("crop")).await;
    report(&args(&out, &["experiments/crop.yaml"]), &store)
        .await
        .unwrap();
    let table = std::fs::read_to_string(out.join("crop/table.md")).unwrap();
    assert!(table.contains("| pending | pending |"), "{table}");
    let error = report(&args(&out, &["cropp"]), &store).await.unwrap_err();
    assert!(
        error.to_string().ends_with("did you mean `crop`?"),
        "{error}"
    );
    // An output folder that can't be made is named.
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = report(&args(&file, &[]), &store).await.unwrap_err();
    assert!(error.to_string().contains("file/crop"), "{error}");
}

fn rows(names: &[&str]) -> Vec<ExperimentRow> {
    names
        .iter()
        .map(|name| ExperimentRow {
            name: (*name).to_owned(),
            title: String::new(),
            claim: String::new(),
            profile: "quick".to_owned(),
            axes: Vec::new(),
            stage_names: vec!["train".to_owned()],
            baseline: None,
            report: crate::plan::model::ReportSpec::default(),
            updated: 0.0,
        })
        .collect()
}

fn chosen(all: &[&str], names: &[&str]) -> Result<Vec<String>, String> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    choose(rows(all), &names, Path::new("store"))
        .map(|rows| rows.into_iter().map(|row| row.name).collect())
        .map_err(|error| error.to_string())
}

#[test]
fn experiments_are_chosen_by_name_or_file() {
    let all = ["augmentation", "crop", "loss"];
    assert_eq!(chosen(&all, &[]).unwrap(), all);
    assert_eq!(
        chosen(&all, &["loss", "crop", "loss"]).unwrap(),
        ["loss", "crop"]
    );
    assert_eq!(chosen(&all, &["experiments/crop.yaml"]).unwrap(), ["crop"]);
}

#[test]
fn an_unknown_one_names_the_nearest() {
    let all = ["augmentation", "crop", "loss"];
    assert_eq!(
        chosen(&all, &["augmentaton"]).unwrap_err(),
        "there is no experiment `augmentaton` in the store at store; did you mean `augmentation`?"
    );
    assert_eq!(
        chosen(&all, &["zzz"]).unwrap_err(),
        "there is no experiment `zzz` in the store at store; it has `augmentation`, `crop`, `loss`"
    );
    assert_eq!(
        chosen(&[], &[]).unwrap_err(),
        "the store at store has no experiments yet: run one with `ablate run FILE`"
    );
}

#[test]
fn the_command_line_is_sound() {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        report: ReportArgs,
    }
    use clap::{CommandFactory, Parser};
    Line::command().debug_assert();
    let line = Line::parse_from([
        "report",
        "loss",
        "--format",
        "md",
        "--out",
        "x",
        "--no-plots",
    ]);
    assert_eq!(line.report.experiments, ["loss"]);
    assert_eq!(
        (line.report.format, line.report.no_plots),
        (Format::Md, true)
    );
}
