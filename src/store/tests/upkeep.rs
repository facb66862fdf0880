//! Records, recovery, marks and garbage.

use super::*;
use crate::rundir::layout::RunDir;
use crate::rundir::log::encode;
use std::collections::BTreeSet;
use std::fs;

/// All rows of all views, sorted.
pub(super) async fn views(store: &Store) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    for view in view_docs() {
        let rows = store
            .query_all(&format!("SELECT * FROM {}", view.name))
            .await
            .unwrap();
        let mut lines: Vec<String> = rows.rows.iter().map(|row| format!("{row:?}")).collect();
        lines.sort();
        all.insert(view.name, lines);
    }
    all
}

/// Runs stage `index` to its end, with a run directory as a worker would leave it.
async fn train(store: &Store, sample: &Sample, index: u32, top1: f64) {
    let fingerprint = sample.fingerprint(index);
    let dir = RunDir::in_store(store.dir(), &fingerprint);
    fs::create_dir_all(dir.checkpoints()).unwrap();
    let spec = serde_json::to_vec(&sample.spec(index)).unwrap();
    fs::write(dir.stage(), spec).unwrap();
    // An attempt that is interrupted, and one that finishes.
    let first = store.begin_attempt(&fingerprint, &start()).await.unwrap();
    let mut events = history(top1);
    for event in &mut events {
        event.seq += 4;
        event.attempt = first + 1;
    }
    let deviated = EventKind::Deviated {
        what: "train.accumulation".to_owned(),
        planned: "1".to_owned(),
        actual: "2".to_owned(),
    };
    let lost = [started(0), deviated, step(3, 9.0), step(5, 8.0)];
    let mut log: Vec<Event> = lost
        .into_iter()
        .zip(1..)
        .map(|(kind, seq)| event(seq, first, kind))
        .collect();
    store.record_events(&fingerprint, &log).await.unwrap();
    let killed = AttemptEnd {
        status: Status::Pending,
        failure: Some(FailureClass::Killed),
        message: Some("ended by signal 9 (SIGKILL)".to_owned()),
        exit_code: None,
        signal: Some(9),
        energy_joules: None,
    };
    store
        .end_attempt(&fingerprint, first, &killed)
        .await
        .unwrap();
    fs::write(dir.attempt_log(first), "killed\n").unwrap();
    log.extend(events.clone());
    let bytes: Vec<u8> = log.iter().flat_map(encode).collect();
    fs::write(dir.events(), bytes).unwrap();
    let second = store.begin_attempt(&fingerprint, &start()).await.unwrap();
    store.record_events(&fingerprint, &events).await.unwrap();
    store
        .end_attempt(&fingerprint, second, &end(Status::Done))
        .await
        .unwrap();
    fs::write(dir.attempt_log(second), "fine\n").unwrap();
    fs::write(dir.weights(), vec![1; 1000]).unwrap();
}

/// A store with all that can be in one: plans that changed, stages in every state, tags and notes.
async fn full(dir: &Path) -> (Store, Sample) {
    let store = open(dir).await;
    let former = Sample::new("loss", 3, 2);
    former.save(&store).await;
    train(&store, &former, 0, 50.0).await;
    train(&store, &former, 3, 55.0).await;
    store.tag(&["loss/l2/s0".to_owned()], "kept").await.unwrap();
    let sample = Sample::new("loss", 2, 2);
    sample.save(&store).await;
    train(&store, &sample, 1, 60.0).await;
    let failed = sample.fingerprint(2);
    fs::create_dir_all(RunDir::in_store(dir, &failed).root()).unwrap();
    let attempt = store.begin_attempt(&failed, &start()).await.unwrap();
    let gpu = |uuid: &str| AttemptGpu {
        uuid: uuid.to_owned(),
        name: "A GPU".to_owned(),
        driver: "570".to_owned(),
        memory: 80 << 30,
    };
    let writer = store.writer(crate::store::open::Durability::Full);
    let mut writer = writer.await.unwrap();
    let gpus = [gpu("GPU-1"), gpu("GPU-2")];
    store
        .note_gpus(&mut writer.connection, (&failed, attempt), &gpus)
        .await
        .unwrap();
    drop(writer);
    store
        .end_attempt(&failed, attempt, &end(Status::Failed))
        .await
        .unwrap();
    Sample::new("other", 1, 1).save(&store).await;
    store
        .tag(&["loss/l0/s0".to_owned()], "paper")
        .await
        .unwrap();
    store.tag(&["loss/l0/s0".to_owned()], "best").await.unwrap();
    store
        .tag(&["loss/l1/s0".to_owned()], "wrong")
        .await
        .unwrap();
    store
        .untag(&["loss/l1/s0".to_owned()], "wrong")
        .await
        .unwrap();
    store
        .note("loss/l1/s0", "the loss is NaN; ask Ada")
        .await
        .unwrap();
    (store, sample)
}

#[tokio::test]
async fn a_lost_database_is_rebuilt_row_by_row() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let (store, sample) = full(dir).await;
    let before = views(&store).await;
    let states = store.finished().await.unwrap();
    let config = store.stage_config(&sample.fingerprint(4)).await.unwrap();
    assert_eq!(before["v_tags"].len(), 3);
    assert_eq!(before["v_gpus"].len(), 2);
    assert!(before["v_attempts"].len() == 7 && !before["v_metrics"].is_empty());
    let deviated = before["v_attempts"].iter();
    let deviated = deviated.filter(|row| row.contains("train.accumulation: 1 -> 2"));
    assert_eq!(deviated.count(), 3);
    store.close().await.unwrap();
    check(dir).await.unwrap();
    for damage in ["cut", "overwritten", "removed"] {
        let path = dir.join("ablate.db");
        let bytes = fs::read(&path).unwrap();
        match damage {
            "cut" => fs::write(&path, &bytes[..bytes.len() / 2]).unwrap(),
            "overwritten" => {
                let mut bytes = bytes.clone();
                bytes[4096..5 * 4096].fill(0x5a);
                fs::write(&path, bytes).unwrap();
            }
            _ => fs::remove_file(&path).unwrap(),
        }
        let bad = fs::read(&path).ok();
        let error = check(dir).await.unwrap_err();
        assert!(error.to_string().contains("`ablate recover`"), "{error}");
        assert!(Store::open(dir).await.is_err());
        assert_eq!(fs::read(&path).ok(), bad, "{damage}: refused but changed");

        let lock = StoreLock::exclusive(dir).unwrap();
        let recovered = recover(dir, &lock).await.unwrap();
        assert_eq!(recovered.problems, [] as [&str; 0]);
        assert_eq!(
            (recovered.experiments, recovered.runs, recovered.nameless),
            (2, 5, 0)
        );
        assert_eq!((recovered.done, recovered.attempts), (3, 7));
        assert_eq!(recovered.kept.map(|kept| fs::read(kept).unwrap()), bad);
        let store = Store::open_read_only(dir).await.unwrap();
        let after = views(&store).await;
        for (view, rows) in &before {
            assert_eq!(rows, &after[view], "{damage}: {view}");
        }
        assert_eq!(store.finished().await.unwrap(), states);
        assert_eq!(
            store.stage_config(&sample.fingerprint(4)).await.unwrap(),
            config
        );
        store.close().await.unwrap();
        drop(lock);
        // It can be written: the numbers of records go on.
        let store = open(dir).await;
        store.note("loss/l0/s0", damage).await.unwrap();
        store.close().await.unwrap();
        let store = open(dir).await;
        let mut writer = store
            .writer(crate::store::open::Durability::Full)
            .await
            .unwrap();
        sqlx::query("DELETE FROM notes WHERE text = ?")
            .bind(damage)
            .execute(&mut writer.connection)
            .await
            .unwrap();
        let mut transaction = store.begin(&mut writer).await.unwrap();
        store.record_everything(&mut transaction).await.unwrap();
        store.commit(transaction).await.unwrap();
        drop(writer);
        store.close().await.unwrap();
    }
}

/// Every table is recorded, rebuilt from run directories, or known not to matter: a new one must choose.
#[tokio::test]
async fn every_table_is_accounted_for() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let rows = store
        .query_all(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
        )
        .await
        .unwrap();
    let tables: BTreeSet<String> = rows
        .rows
        .into_iter()
        .map(|mut row| match row.remove(0) {
            Cell::Text(name) => name,
            other => panic!("{other:?}"),
        })
        .collect();
    let rebuilt = [
        "steps",
        "epochs",
        "evaluations",
        "results",
        "series",
        "warnings",
    ];
    let passing = [
        "meta",
        "reference_values",
        "reference_curves",
        "_sqlx_migrations",
        "leases",
    ];
    for table in &tables {
        assert!(
            crate::store::records::RECORDED.contains(&table.as_str())
                || rebuilt.contains(&table.as_str())
                || passing.contains(&table.as_str()),
            "`ablate recover` doesn't know what to do with the table {table}"
        );
    }
}

#[tokio::test]
async fn stages_without_records_are_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let (store, sample) = full(dir).await;
    let results = views(&store).await["v_results"].clone();
    store.close().await.unwrap();
    fs::remove_dir_all(dir.join("records")).unwrap();
    fs::remove_file(dir.join("ablate.db")).unwrap();
    fs::write(RunDir::in_store(dir, &sample.fingerprint(2)).stage(), "{}").unwrap();
    let lock = StoreLock::exclusive(dir).unwrap();
    let recovered = recover(dir, &lock).await.unwrap();
    assert_eq!(
        (recovered.experiments, recovered.nameless, recovered.done),
        (0, 3, 3)
    );
    assert_eq!(recovered.problems.len(), 1, "{:?}", recovered.problems);
    assert!(recovered.problems[0].contains("stage.json"));
    // The next run plans again, and finds what is done.
    let store = open(dir).await;
    Sample::new("loss", 3, 2).save(&store).await;
    sample.save(&store).await;
    assert_eq!(views(&store).await["v_results"], results);
}

#[tokio::test]
async fn a_store_of_an_older_version_gets_records() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let (store, _) = full(dir).await;
    let before = views(&store).await;
    store.close().await.unwrap();
    fs::remove_dir_all(dir.join("records")).unwrap();
    open(dir).await.close().await.unwrap();
    fs::remove_file(dir.join("ablate.db")).unwrap();
    let lock = StoreLock::exclusive(dir).unwrap();
    recover(dir, &lock).await.unwrap();
    assert_eq!(views(&open(dir).await).await, before);
}

#[tokio::test]
async fn damaged_records_and_logs_are_named_and_cost_what_they_hold() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let (store, sample) = full(dir).await;
    store.close().await.unwrap();
    fs::remove_file(dir.join("ablate.db")).unwrap();
    let records: Vec<_> = fs::read_dir(dir.join("records")).unwrap().collect();
    let last = records
        .into_iter()
        .map(|entry| entry.unwrap().path())
        .max()
        .unwrap();
    let mut bytes = fs::read(&last).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&last, bytes).unwrap();
    let events = RunDir::in_store(dir, &sample.fingerprint(1)).events();
    let mut bytes = fs::read(&events).unwrap();
    bytes[20] ^= 0xff;
    fs::write(&events, bytes).unwrap();
    let lock = StoreLock::exclusive(dir).unwrap();
    let recovered = recover(dir, &lock).await.unwrap();
    let problems = recovered.problems.join("\n");
    assert!(problems.contains(&last.display().to_string()), "{problems}");
    assert!(problems.contains("events.jsonl, line 1"), "{problems}");
    // The stage is not done without its results, and the note is lost.
    assert_eq!((recovered.done, recovered.runs), (2, 5));
    let store = open(dir).await;
    assert!(views(&store).await["v_notes"].is_empty());
}

/// All files of a store.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Later records refer to rows that only a damaged one holds: nothing else may get the numbers of those. A second
/// recovery comes to the same, also once the damaged record can be read again.
#[tokio::test]
async fn a_damaged_record_gives_no_result_to_another_run() {
    let original = tempfile::tempdir().unwrap();
    let (store, sample) = full(original.path()).await;
    let stages = "SELECT r.name, s.fingerprint FROM runs r JOIN run_stages rs ON rs.run = r.id
        JOIN stages s ON s.id = rs.stage ORDER BY r.name, rs.position";
    let of = async |store: &Store| {
        let rows: Vec<(String, String)> = sqlx::query_as(stages)
            .fetch_all(&store.readers)
            .await
            .unwrap();
        rows
    };
    let before = of(&store).await;
    store.close().await.unwrap();
    let records = |dir: &Path| {
        let entries = fs::read_dir(dir.join("records")).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    };
    let count = records(original.path()).len();
    assert!(count > 1);
    for index in 0..count {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        copy(original.path(), dir);
        let damaged = records(dir).remove(index);
        let whole = fs::read(&damaged).unwrap();
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        fs::write(&damaged, &bytes).unwrap();
        let lock = StoreLock::exclusive(dir).unwrap();
        let recovered = recover(dir, &lock).await.unwrap();
        assert!(!recovered.problems.is_empty());
        drop(lock);
        let store = open(dir).await;
        all_keys_exist(&store).await;
        for (run, stage) in of(&store).await {
            assert!(before.contains(&(run.clone(), stage)), "{damaged:?}: {run}");
        }
        let kept = damaged.with_file_name(format!(
            "{}.damaged",
            damaged.file_name().unwrap().to_str().unwrap()
        ));
        assert_eq!(fs::read(&kept).unwrap(), bytes);
        // The next run stores the plan anew.
        sample.save(&store).await;
        let name = "loss/l1/s0".to_owned();
        store
            .tag(std::slice::from_ref(&name), "after")
            .await
            .unwrap();
        let now = of(&store).await;
        store.close().await.unwrap();
        for again in ["still damaged", "whole again"] {
            if again == "whole again" {
                fs::write(&damaged, &whole).unwrap();
            }
            fs::remove_file(dir.join("ablate.db")).unwrap();
            let lock = StoreLock::exclusive(dir).unwrap();
            let recovered = recover(dir, &lock).await.unwrap();
            assert_eq!(recovered.problems, [] as [&str; 0], "{damaged:?}, {again}");
            drop(lock);
            let store = open(dir).await;
            assert_eq!(of(&store).await, now, "{damaged:?}, {again}");
            let marks = store.marks(&name).await.unwrap();
            assert!(marks.tags.contains(&"after".to_owned()), "{again}");
            store.close().await.unwrap();
        }
    }
}

/// Marks of lost runs are named, for only people can set them again.
#[tokio::test]
async fn lost_marks_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let store = open(dir).await;
    let sample = Sample::new("loss", 2, 1);
    sample.save(&store).await;
    let runs = ["loss/l0/s0".to_owned()];
    store.tag(&runs, "paper").await.unwrap();
    store.note(&runs[0], "ask Ada").await.unwrap();
    store.close().await.unwrap();
    fs::remove_file(dir.join("ablate.db")).unwrap();
    fs::write(dir.join("records/0000001.jsonl.gz"), "damaged").unwrap();
    let lock = StoreLock::exclusive(dir).unwrap();
    let problems = recover(dir, &lock).await.unwrap().problems.join("\n");
    assert!(
        problems.contains("tag paper: the run is in a damaged record"),
        "{problems}"
    );
    assert!(
        problems.contains("note \u{201c}ask Ada\u{201d}"),
        "{problems}"
    );
}

/// A record that can't be read for the moment isn't damaged: nothing is done without it.
#[tokio::test]
async fn records_that_can_not_be_read_are_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let store = open(dir).await;
    Sample::new("loss", 2, 1).save(&store).await;
    store
        .tag(&["loss/l0/s0".to_owned()], "paper")
        .await
        .unwrap();
    let before = views(&store).await;
    store.close().await.unwrap();
    fs::remove_file(dir.join("ablate.db")).unwrap();
    let (record, aside) = (dir.join("records/0000001.jsonl.gz"), dir.join("aside"));
    fs::rename(&record, &aside).unwrap();
    // Reading a folder is an error that no file system keeps to itself.
    fs::create_dir(&record).unwrap();
    let lock = StoreLock::exclusive(dir).unwrap();
    let error = recover(dir, &lock).await.unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    fs::remove_dir(&record).unwrap();
    fs::rename(&aside, &record).unwrap();
    let recovered = recover(dir, &lock).await.unwrap();
    assert_eq!(recovered.problems, [] as [&str; 0]);
    drop(lock);
    assert_eq!(views(&open(dir).await).await, before);
}

/// An older program would leave out what it doesn't know of.
#[tokio::test]
async fn records_of_a_newer_schema_are_refused() {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let store = open(dir).await;
    Sample::new("loss", 2, 1).save(&store).await;
    store.close().await.unwrap();
    let path = dir.join("ablate.db");
    fs::write(&path, "damaged").unwrap();
    let record = fs::File::create(dir.join("records/0000009.jsonl.gz")).unwrap();
    let mut record = flate2::write::GzEncoder::new(record, flate2::Compression::fast());
    writeln!(
        record,
        r#"{{"version":1,"number":9,"schema":99,"kind":"snapshot"}}"#
    )
    .unwrap();
    record.finish().unwrap();
    let lock = StoreLock::exclusive(dir).unwrap();
    let error = recover(dir, &lock).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Newer { found: 99, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("update ablate"));
    let names = || -> BTreeSet<_> {
        let entries = fs::read_dir(dir.join("records")).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    };
    let before = names();
    // Nor in a form that it doesn't know.
    let record = fs::File::create(dir.join("records/0000009.jsonl.gz")).unwrap();
    let mut record = flate2::write::GzEncoder::new(record, flate2::Compression::fast());
    writeln!(record, r#"{{"version":2,"number":9,"kind":"snapshot"}}"#).unwrap();
    record.finish().unwrap();
    let error = recover(dir, &lock).await.unwrap_err();
    assert!(matches!(error, StoreError::Newer { .. }), "{error}");
    assert_eq!(names(), before);
    assert_eq!(fs::read(&path).unwrap(), b"damaged");
    assert!(dir.join("records/0000001.jsonl.gz").exists());
}

/// Every row refers to rows that are there.
async fn all_keys_exist(store: &Store) {
    let broken: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM pragma_foreign_key_check")
        .fetch_one(&store.readers)
        .await
        .unwrap();
    assert_eq!(broken, 0);
}

fn folders(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir.join("stages"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[tokio::test]
async fn garbage_is_what_no_kept_run_needs() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let (store, sample) = full(dir).await;
    let former = Sample::new("loss", 3, 2);
    // Stage 3 of the former plan is kept by a tag, with the stage that it starts from.
    let kept = store.garbage(GarbagePolicy::default()).await.unwrap();
    assert_eq!(kept.runs, ["loss/l2/s1"]);
    let unneeded: Vec<&Item> = kept
        .items
        .iter()
        .filter(|item| item.reason == Reason::Unneeded)
        .collect();
    assert_eq!(unneeded.len(), 1, "{kept:?}");
    assert!(
        unneeded[0].path.ends_with(former.fingerprint(7)),
        "never begun"
    );
    let logs = |garbage: &Garbage| {
        let logs = garbage.items.iter();
        logs.filter(|item| item.reason == Reason::FailedAttempt)
            .count()
    };
    assert_eq!(logs(&kept), 3, "{kept:?}");

    store
        .untag(&["loss/l2/s0".to_owned()], "kept")
        .await
        .unwrap();
    let stage = RunDir::in_store(dir, &sample.fingerprint(1));
    fs::write(
        stage.checkpoints().join("step-0000000010.safetensors"),
        [0; 64],
    )
    .unwrap();
    fs::write(stage.checkpoints().join(".tmpAbCdEf"), [0; 32]).unwrap();
    let unknown = dir.join("stages").join("ab".repeat(16));
    fs::create_dir_all(&unknown).unwrap();
    fs::write(unknown.join("events.jsonl"), [0; 16]).unwrap();
    fs::create_dir_all(dir.join("stages/mine")).unwrap();
    fs::create_dir_all(dir.join("trash/old")).unwrap();
    fs::write(dir.join("ablate.db.schema-2"), [0; 8]).unwrap();
    fs::create_dir_all(dir.join("logs")).unwrap();
    for log in [
        "run-20261124-101500-7.log",
        "run-20261125-080000-3.log",
        "mine.log",
    ] {
        fs::write(dir.join("logs").join(log), [0; 8]).unwrap();
    }
    let garbage = store.garbage(GarbagePolicy::default()).await.unwrap();
    let reasons: Vec<Reason> = garbage.items.iter().map(|item| item.reason).collect();
    use Reason::*;
    assert_eq!(
        reasons,
        [
            Unneeded,
            Unneeded,
            Unknown,
            Checkpoint,
            FailedAttempt,
            FailedAttempt,
            RunLog,
            Leftover,
            Leftover
        ]
    );
    let all = GarbagePolicy {
        weights: KeepWeights::Results,
        copies: true,
        ..GarbagePolicy::default()
    };
    let more = store.garbage(all).await.unwrap();
    // Stage 0 is the parent of stages that are not done: its weights stay.
    assert!(
        more.items.iter().all(|item| item.reason != Weights),
        "{more:?}"
    );
    assert_eq!(
        more.items.iter().filter(|item| item.reason == Copy).count(),
        1
    );
    let none = GarbagePolicy {
        weights: KeepWeights::None,
        ..GarbagePolicy::default()
    };
    let none = store.garbage(none).await.unwrap();
    let weights: Vec<&Item> = none
        .items
        .iter()
        .filter(|item| item.reason == Weights)
        .collect();
    assert_eq!(weights.len(), 1);
    assert_eq!(weights[0].bytes, 1000);

    let before = views(&store).await;
    let lock = StoreLock::exclusive(dir).unwrap();
    store.discard(&garbage, &lock).await.unwrap();
    assert!(
        store
            .garbage(GarbagePolicy::default())
            .await
            .unwrap()
            .is_empty()
    );
    let after = views(&store).await;
    for view in ["v_runs", "v_results", "v_metrics", "v_notes"] {
        assert_eq!(before[view], after[view], "{view}");
    }
    assert!(stage.weights().exists() && !unknown.exists() && !dir.join("trash").exists());
    assert!(dir.join("stages/mine").exists(), "not ours to judge");
    assert!(dir.join("ablate.db.schema-2").exists());
    assert!(!folders(dir).contains(&former.fingerprint(3)));
    all_keys_exist(&store).await;
    store.close().await.unwrap();
    // What is gone stays gone.
    fs::remove_file(dir.join("ablate.db")).unwrap();
    recover(dir, &lock).await.unwrap();
    assert_eq!(views(&open(dir).await).await, after);
}

#[tokio::test]
async fn removal_keeps_what_others_need() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let (store, sample) = full(dir).await;
    let lock = StoreLock::exclusive(dir).unwrap();
    let one = store.removal(&Named::Run("loss/l0/s0")).await.unwrap();
    assert_eq!(
        (one.runs.as_slice(), one.tagged.len(), one.shared),
        (&["loss/l0/s0".to_owned()][..], 1, 1)
    );
    assert_eq!(one.items.len(), 1);
    assert!(one.items[0].path.ends_with(sample.fingerprint(1)) && one.bytes() > 1000);
    store.discard(&one, &lock).await.unwrap();
    let stages = folders(dir);
    assert!(stages.contains(&sample.fingerprint(0)) && !stages.contains(&sample.fingerprint(1)));
    assert_eq!(store.runs(Some("loss")).await.unwrap().len(), 3);
    assert!(
        store
            .removal(&Named::Run("loss/l0/s0"))
            .await
            .unwrap()
            .runs
            .is_empty()
    );
    // The same plan brings the run back, to be trained.
    sample.save(&store).await;
    let statuses = run_statuses(&store, "loss").await;
    assert_eq!(statuses["loss/l0/s0"], Status::Pending);

    let all = store.removal(&Named::Experiment("loss")).await.unwrap();
    assert_eq!(all.tagged, ["loss/l2/s0"]);
    store.discard(&all, &lock).await.unwrap();
    assert!(folders(dir).is_empty());
    let names: Vec<String> = store
        .experiments()
        .await
        .unwrap()
        .into_iter()
        .map(|e| e.name)
        .collect();
    assert_eq!(names, ["other"]);
    assert_eq!(number(&store, "SELECT COUNT(*) FROM plans").await, 1);
    all_keys_exist(&store).await;
    let left = "SELECT (SELECT COUNT(*) FROM steps) + (SELECT COUNT(*) FROM tags) + (SELECT COUNT(*) FROM attempts)";
    assert_eq!(number(&store, left).await, 0);
}

#[tokio::test]
async fn marks_are_of_the_run_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let sample = Sample::new("loss", 2, 1);
    sample.save(&store).await;
    let runs = ["loss/l0/s0".to_owned(), "loss/l1/s0".to_owned()];
    assert_eq!(store.tag(&runs, "paper").await.unwrap(), 2);
    assert_eq!(store.tag(&runs[..1], "paper").await.unwrap(), 0);
    assert!(store.note("loss/none/s0", "x").await.is_err());
    store.note(&runs[0], "one").await.unwrap();
    store.note(&runs[0], "two").await.unwrap();
    let marks = store.marks(&runs[0]).await.unwrap();
    assert_eq!(marks.tags, ["paper"]);
    let notes: Vec<&str> = marks.notes.iter().map(|note| note.text.as_str()).collect();
    assert_eq!(notes, ["one", "two"]);
    let tagged = "SELECT COUNT(*) FROM v_runs WHERE EXISTS (SELECT 1 FROM json_each(tags) WHERE value = 'paper')";
    assert_eq!(number(&store, tagged).await, 2);
    assert_eq!(store.status_tagged(None, "paper").await.unwrap()[0].runs, 2);
    assert_eq!(store.stages_tagged("paper").await.unwrap().len(), 3);
    Sample::new("loss", 1, 1).save(&store).await;
    assert_eq!(number(&store, tagged).await, 1);
    let former: Vec<bool> = store
        .tags()
        .await
        .unwrap()
        .iter()
        .map(|tag| tag.current)
        .collect();
    assert_eq!(former, [true, false]);
    assert_eq!(store.untag(&runs, "paper").await.unwrap(), 2);
    assert!(store.tags().await.unwrap().is_empty());
}

#[tokio::test]
async fn marks_are_set_beside_schedulers() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let error = Store::open_beside(dir).await.unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }), "{error}");
    let store = open(dir).await;
    let sample = Sample::new("loss", 1, 1);
    sample.save(&store).await;
    let _scheduler = StoreLock::shared(dir).unwrap();
    let attempt = store
        .begin_attempt(&sample.fingerprint(0), &start())
        .await
        .unwrap();
    let (beside, lock) = Store::open_beside(dir).await.unwrap();
    beside.tag(&["loss/l0/s0".to_owned()], "x").await.unwrap();
    beside.close().await.unwrap();
    drop(lock);
    assert!(
        StoreLock::exclusive(dir).is_err(),
        "a removal needs the store alone"
    );
    store
        .end_attempt(&sample.fingerprint(0), attempt, &end(Status::Done))
        .await
        .unwrap();
    assert_eq!(store.marks("loss/l0/s0").await.unwrap().tags, ["x"]);
}

/// Removes all garbage of the store in the environment.
#[tokio::test]
#[ignore = "the child of another test"]
async fn child_that_discards() {
    let Some(dir) = std::env::var_os("ABLATE_TEST_STORE") else {
        return;
    };
    let dir = Path::new(&dir);
    let lock = StoreLock::exclusive(dir).unwrap();
    let store = open(dir).await;
    let garbage = store.garbage(GarbagePolicy::default()).await.unwrap();
    println!("=begun");
    store.discard(&garbage, &lock).await.unwrap();
    println!("=done");
}

/// A kill at any moment of a removal leaves a whole store; the next removal does the rest.
#[tokio::test]
async fn a_removal_can_be_killed_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let store = open(dir).await;
    let wide = Sample::new("loss", 60, 2);
    wide.save(&store).await;
    for index in 0..122 {
        let stage = RunDir::in_store(dir, &wide.fingerprint(index));
        fs::create_dir_all(stage.checkpoints()).unwrap();
        let spec = serde_json::to_vec(&wide.spec(index)).unwrap();
        fs::write(stage.stage(), spec).unwrap();
        for file in 0..10 {
            fs::write(stage.root().join(format!("file-{file}")), [0; 100]).unwrap();
        }
    }
    let sample = Sample::new("loss", 1, 2);
    sample.save(&store).await;
    train(&store, &sample, 0, 50.0).await;
    let expected = views(&store).await;
    store.close().await.unwrap();
    let mut rounds = 0;
    loop {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--ignored",
                "--nocapture",
                "store::tests::upkeep::child_that_discards",
            ])
            .env("ABLATE_TEST_STORE", dir)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        while !said.contains("=begun") {
            assert_ne!(
                std::io::BufRead::read_line(&mut lines, &mut said).unwrap(),
                0,
                "{said}"
            );
        }
        // A little later in every round: before, within and after the transaction, among renames and removals.
        std::thread::sleep(std::time::Duration::from_micros(700 * rounds));
        child.kill().unwrap();
        child.wait().unwrap();
        std::io::Read::read_to_string(&mut lines, &mut said).unwrap();
        rounds += 1;
        check(dir).await.unwrap();
        let reader = Store::open_read_only(dir).await.unwrap();
        let now = views(&reader).await;
        for view in ["v_runs", "v_results", "v_metrics"] {
            assert_eq!(expected[view], now[view], "round {rounds}: {view}");
        }
        for index in 0..4 {
            let stage = RunDir::in_store(dir, &sample.fingerprint(index));
            assert!(stage.root().exists(), "round {rounds}");
        }
        all_keys_exist(&reader).await;
        let left = reader.garbage(GarbagePolicy::default()).await.unwrap();
        reader.close().await.unwrap();
        if said.contains("=done") {
            assert!(left.is_empty(), "{left:?}");
            break;
        }
        assert!(rounds < 500, "it never ends");
    }
    assert!(rounds > 1, "it was never killed");
    assert_eq!(folders(dir).len(), 4);
    assert!(!dir.join("trash").exists());
}
