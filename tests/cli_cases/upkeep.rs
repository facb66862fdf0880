//! Looking after a store: why, recovery, marks, garbage, and other programs that have it open.

use crate::lab::{Lab, SMALL, longer, wait_for};
use crate::terminal::open_terminal;
use serde_json::Value;
use sqlx::{ConnectOptions, Connection, Executor, SqliteConnection};
use std::io::Write;
use std::path::Path;

const VIEWS: [&str; 6] = [
    "v_runs",
    "v_results",
    "v_metrics",
    "v_attempts",
    "v_tags",
    "v_notes",
];

/// All that the views show, sorted.
fn views(lab: &Lab, store: &str) -> Vec<Vec<String>> {
    VIEWS
        .map(|view| {
            let rows = lab.ask(store, &format!("SELECT * FROM {view}"));
            let mut rows: Vec<String> = rows.iter().map(Value::to_string).collect();
            rows.sort();
            rows
        })
        .into()
}

/// [`SMALL`] with one seed, trained.
fn trained() -> Lab {
    let lab = Lab::with_pictures(8);
    lab.write("small.yaml", &SMALL.replace("seeds: 2", "seeds: 1"));
    lab.ablate("run small.yaml --store s", &[]).expect(0);
    lab
}

#[test]
fn a_damaged_store_is_refused_and_recovered() {
    let lab = trained();
    lab.ablate("tag small/ce/s0 paper --store s", &[]).expect(0);
    lab.ablate("note small/bce/s0 --store s", &["worse than expected"])
        .expect(0);
    let before = views(&lab, "s");
    assert!(before.iter().all(|rows| !rows.is_empty()));
    let table = lab.ablate("run small.yaml --store s", &[]).expect(0).stdout;
    let good = lab.read("s/ablate.db");
    let mut overwritten = good.clone();
    let page = overwritten.len() / 8192 * 4096;
    overwritten[page..page + 2 * 4096].fill(0xa5);
    for (damage, bytes) in [
        ("cut", Some(&good[..good.len() / 3])),
        ("overwritten", Some(&overwritten[..])),
        ("removed", None),
    ] {
        let path = lab.path("s/ablate.db");
        match bytes {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        for command in [
            "run small.yaml --store s",
            "report --store s",
            "status --store s",
        ] {
            lab.ablate(command, &[])
                .expect(3)
                .says(&["is damaged", "`ablate recover`"]);
            assert_eq!(
                std::fs::read(&path).ok().as_deref(),
                bytes,
                "{damage}: {command}"
            );
        }
        let answer = lab
            .ablate("recover --store s", &[])
            .expect(0)
            .says(&["is damaged"])
            .shows(&["recovered  1 experiments, 2 runs, 2 stages (2 done), 2 attempts"]);
        assert_eq!(
            answer.stdout.contains("ablate.db.damaged-"),
            bytes.is_some()
        );
        assert_eq!(views(&lab, "s"), before, "{damage}");
        let again = lab
            .ablate("run small.yaml --store s", &[])
            .expect(0)
            .says(&["2 of 2 stages already done"]);
        assert_eq!(again.stdout, table);
    }
    lab.ablate("recover --store s", &[])
        .expect(0)
        .shows(&["there is nothing to recover"]);
    let kept = lab
        .list("s")
        .into_iter()
        .filter(|path| path.contains(".damaged-"));
    assert!(kept.count() >= 2, "the damaged files stay");
    lab.ablate("gc --dry-run --copies --store s", &[])
        .expect(0)
        .shows(&["ablate.db.damaged-", "former copy of the database"]);
    lab.ablate("recover --store none", &[])
        .expect(3)
        .says(&["there is no store"]);
    assert!(!lab.path("none").exists());
}

/// A connection of another program.
async fn other_program(path: &Path) -> SqliteConnection {
    sqlx::sqlite::SqliteConnectOptions::new()
        .filename(path)
        .connect()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_programs_that_have_the_store_open_block_nothing() {
    let lab = trained();
    let path = lab.path("s/ablate.db");
    lab.write("longer.yaml", &longer());
    // A shell that was left open within a read transaction, over a whole run.
    let mut reader = other_program(&path).await;
    let mut old = reader.begin().await.unwrap();
    let count = "SELECT COUNT(*) FROM attempts";
    let before: i64 = sqlx::query_scalar(count)
        .fetch_one(&mut *old)
        .await
        .unwrap();
    lab.ablate("run longer.yaml --store s", &[]).expect(0);
    let same: i64 = sqlx::query_scalar(count)
        .fetch_one(&mut *old)
        .await
        .unwrap();
    assert_eq!((before, same), (2, 2));
    drop(old);

    // One that locks the database for as long as it likes: the run waits, says so, and goes on.
    lab.write(
        "again.yaml",
        &longer().replace("name: longer", "name: again"),
    );
    let mut writer = other_program(&path).await;
    (&mut writer).execute("BEGIN EXCLUSIVE").await.unwrap();
    let run = lab.start("run again.yaml --store s --set train.epochs=3");
    tokio::time::sleep(std::time::Duration::from_millis(4500)).await;
    lab.ablate("status --store s", &[])
        .expect(0)
        .shows(&["longer"]);
    (&mut writer).execute("COMMIT").await.unwrap();
    run.end()
        .expect(0)
        .says(&["waiting: another program holds", "2 of 2 stages done"]);

    // Nor does it keep anybody from ending a run that has yet to begin.
    lab.write("none.yaml", &longer().replace("name: longer", "name: none"));
    (&mut writer).execute("BEGIN IMMEDIATE").await.unwrap();
    let run = lab.start("run none.yaml --store s");
    tokio::time::sleep(std::time::Duration::from_millis(4500)).await;
    run.signal(libc::SIGINT);
    let answer = tokio::task::spawn_blocking(|| run.end()).await.unwrap();
    answer
        .expect(130)
        .says(&["another program holds", "SIGINT: nothing was started"]);
    (&mut writer).execute("ROLLBACK").await.unwrap();
    assert!(
        lab.ask("s", "SELECT 1 FROM v_runs WHERE experiment = 'none'")
            .is_empty()
    );

    // Nor does it keep anybody from ending the run: its workers leave, though nothing can be stored.
    lab.write("last.yaml", &longer().replace("name: longer", "name: last"));
    let run = lab.start("run last.yaml --store s --set train.epochs=40 --slots 1");
    wait_for("a worker", || {
        let running = "SELECT 1 FROM v_attempts WHERE status = 'running' AND pid IS NOT NULL";
        (!lab.ask("s", running).is_empty()).then_some(())
    });
    (&mut writer).execute("BEGIN EXCLUSIVE").await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    run.signal(libc::SIGINT);
    let answer = tokio::task::spawn_blocking(|| run.end()).await.unwrap();
    answer
        .expect(3)
        .says(&["SIGINT: waiting for 1 workers", "another program holds"]);
    (&mut writer).execute("COMMIT").await.unwrap();
    lab.ablate(
        "run last.yaml --store s --set train.epochs=2 --slots 1",
        &[],
    )
    .expect(0);
}

/// SQLite drops what comes after the damage without a word: it is read again from the logs.
#[test]
fn a_damaged_write_ahead_log_costs_nothing() {
    let lab = Lab::with_pictures(20);
    lab.write("longer.yaml", &longer());
    lab.ablate("run longer.yaml --store calm", &[]).expect(0);
    let mut damaged = 0;
    for place in [3, 2] {
        let store = format!("s{place}");
        let run = lab.start(&format!("run longer.yaml --store {store} --slots 2"));
        wait_for("events in the store", || {
            let count = "SELECT COUNT(*) AS n FROM v_metrics WHERE epoch >= 3";
            let line = format!("query --format json --store {store}");
            let answer = lab.ablate(&line, &[count]);
            // At first it is just being made.
            (answer.code == Some(0) && answer.json()[0]["n"] != 0).then_some(())
        });
        run.signal(libc::SIGKILL);
        assert_eq!(run.end().code, None);
        let log = lab.path(&format!("{store}/ablate.db-wal"));
        let mut bytes = std::fs::read(&log).unwrap();
        if bytes.len() > 8192 {
            let middle = bytes.len() / 4 * place;
            bytes[middle] ^= 0xff;
            std::fs::write(&log, bytes).unwrap();
            damaged += 1;
        }
        lab.ablate(&format!("run longer.yaml --store {store}"), &[])
            .expect(0);
        lab.same_results("calm", &store);
        let same = |store: &str| {
            // But for what depends on the time.
            let rows = "SELECT run, metric, epoch, value FROM v_metrics
                WHERE metric <> 'seconds' AND metric NOT LIKE 'step/%' ORDER BY run, metric, epoch";
            lab.ask(store, rows)
        };
        assert_eq!(same("calm"), same(&store));
    }
    assert!(damaged > 0, "no log was damaged");
}

#[test]
fn marks_garbage_and_removal() {
    let lab = trained();
    let first = lab.stages("s");
    lab.ablate("tag small/ce/s0 paper --store s", &[])
        .expect(0)
        .says(&["small/ce/s0 has the tag paper"]);
    lab.ablate("tag small/ce/s0 --store s", &["two words"])
        .expect(2)
        .says(&["can't be a tag"]);
    lab.ablate("status --tag paper --store s", &[])
        .expect(0)
        .shows(&["small"]);
    lab.ablate("status --tag papr --store s", &[])
        .expect(2)
        .says(&["did you mean `paper`?"]);
    lab.ablate("note small/ce/s0 --store s", &["the one in the paper"])
        .expect(0);
    lab.ablate("show small/ce/s0 --store s", &[])
        .expect(0)
        .shows(&["tags     paper", "the one in the paper"]);
    lab.ablate("gc --store s", &[])
        .expect(0)
        .shows(&["There is nothing to remove."]);

    // Another plan: the old runs are garbage, but for the one with a tag.
    lab.ablate("run small.yaml --store s --set train.epochs=3", &[])
        .expect(0);
    // SQLite's own files come and go.
    let list = || {
        let mut files = lab.list("s");
        files.retain(|file| !file.ends_with("-wal") && !file.ends_with("-shm"));
        files
    };
    let before = list();
    lab.ablate("gc --dry-run --store s", &[]).expect(0).shows(&[
        "no current plan and no tag needs it",
        "1 stages and files and 1 run",
    ]);
    lab.ablate("gc --store s", &[]).expect(2).says(&["--yes"]);
    assert_eq!(list(), before, "nothing was removed");
    lab.ablate("gc --yes --store s", &[])
        .expect(0)
        .says(&["removed "]);
    let left = lab.stages("s");
    assert_eq!(left.len(), 3);
    assert_eq!(left.iter().filter(|stage| first.contains(stage)).count(), 1);
    lab.ablate("tag small/ce/s0 paper --remove --store s", &[])
        .expect(0);
    lab.ablate("gc --yes --store s", &[]).expect(0);
    assert_eq!(lab.stages("s").len(), 2);

    lab.ablate("tag small paper --store s", &[])
        .expect(0)
        .says(&["2 runs have the tag paper"]);
    lab.ablate("rm small --yes --store s", &[])
        .expect(2)
        .says(&["has a tag", "--tagged"]);
    lab.ablate("rm small/bce/s0 --yes --tagged --store s", &[])
        .expect(0)
        .shows(&["run small/bce/s0"]);
    assert_eq!(lab.stages("s").len(), 1);
    lab.ablate("rm small --yes --tagged --store s", &[])
        .expect(0);
    assert_eq!(lab.stages("s").len(), 0);
    lab.ablate("status --store s", &[])
        .expect(0)
        .shows(&["holds no experiments"]);
    lab.ablate("run small.yaml --store s", &[]).expect(0);
    assert_eq!(lab.stages("s"), first);
}

#[test]
fn nothing_is_removed_beside_a_run() {
    let lab = trained();
    lab.write("longer.yaml", &longer());
    let run = lab.start("run longer.yaml --store s --set train.epochs=400 --slots 1");
    let busy = wait_for("a stage that runs", || {
        let running = lab.ask(
            "s",
            "SELECT fingerprint FROM v_attempts WHERE status = 'running'",
        );
        running
            .first()
            .map(|row| row["fingerprint"].as_str().unwrap().to_owned())
    });
    let pid = run.pid().to_string();
    for command in [
        "gc --yes --store s",
        "rm small --yes --store s",
        "recover --force --store s",
    ] {
        lab.ablate(command, &[])
            .expect(3)
            .says(&["in use by", &pid]);
    }
    lab.ablate("gc --dry-run --store s", &[]).expect(0);
    let why = lab.ablate("why --store s", &[&busy[..12]]).expect(0);
    assert!(
        why.stdout.contains(": running") && why.stdout.contains("began"),
        "{}",
        why.stdout
    );
    let runs = lab.ask(
        "s",
        "SELECT run FROM v_runs WHERE experiment = 'longer' AND status = 'pending'",
    );
    let waiting = runs[0]["run"].as_str().unwrap();
    lab.ablate("why --store s", &[waiting]).expect(0).shows(&[
        ": waits",
        "for a slot: 1 stage runs",
        &format!("so says `ablate run` (pid {pid} on host "),
        "nearest finished stage",
    ]);
    run.signal(libc::SIGINT);
    run.end().expect(130);
    lab.ablate("why --store s", &[&busy[..12]])
        .expect(0)
        .shows(&[
            ": interrupted",
            "SIGINT",
            "goes on from its last checkpoint",
        ]);
}

#[test]
fn why_names_the_field_that_changed() {
    let lab = trained();
    lab.ablate("why small/ce/s0 --store s", &[])
        .expect(0)
        .shows(&[
            "small/ce/s0",
            ": done",
            "attempt 1 finished",
            "it is not run again",
        ]);
    lab.ablate("why small/ce/s0 --store s --file small.yaml", &[])
        .expect(0)
        .shows(&[": done"]);
    let answer = lab.ablate(
        "why small/ce/s0 --store s --file small.yaml --set optimizer.lr=0.125",
        &[],
    );
    let answer = answer
        .expect(0)
        .shows(&[": new", "`ablate run` would run it"]);
    let changed: Vec<&str> = answer
        .stdout
        .lines()
        .filter(|line| line.contains(" -> "))
        .collect();
    assert_eq!(changed.len(), 1, "{}", answer.stdout);
    assert!(changed[0].trim().starts_with("optimizer.lr: ") && changed[0].ends_with("-> 0.125"));
    let json = lab
        .ablate(
            "why small/ce/s0 --store s --file small.yaml --set optimizer.lr=0.125 --format json",
            &[],
        )
        .expect(0)
        .json();
    assert_eq!(json["stages"][0]["status"], "new");
    assert_eq!(json["stages"][0]["changed"].as_array().unwrap().len(), 1);
    lab.ablate("why small/xe/s0 --store s --file small.yaml", &[])
        .expect(2)
        .says(&["did you mean `small/ce/s0`?"]);
    // Without a store everything is new.
    lab.ablate("why small/ce/s0 --store none --file small.yaml", &[])
        .expect(0)
        .shows(&[": new"]);
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_read_and_not_written() {
    let lab = trained();
    let mut other = other_program(&lab.path("s/ablate.db")).await;
    (&mut other)
        .execute(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (9999, 'future', 1, x'00', 0)",
        )
        .await
        .unwrap();
    other.close().await.unwrap();
    let bytes = lab.read("s/ablate.db");
    for command in [
        "report --no-plots --store s",
        "status --store s",
        "show small/ce/s0 --store s",
    ] {
        lab.ablate(command, &[])
            .expect(0)
            .says(&["warning: ", "newer ablate"])
            .shows(&["small"]);
    }
    lab.ablate("query --store s", &["SELECT run FROM v_runs"])
        .expect(0)
        .shows(&["small/ce/s0"]);
    for command in [
        "run small.yaml --store s",
        "gc --yes --store s",
        "tag small/ce/s0 x --store s",
    ] {
        lab.ablate(command, &[]).expect(3).says(&[
            "newer ablate",
            "it can be read, not written",
            "update ablate",
        ]);
    }
    assert_eq!(lab.read("s/ablate.db"), bytes);
}

#[test]
fn a_removal_asks_on_a_terminal() {
    let lab = trained();
    lab.ablate("run small.yaml --store s --only loss=ce", &[])
        .expect(0);
    let before = lab.stages("s");
    for (answer, left) in [("n\n", 2), ("\n", 2), ("yes\n", 1)] {
        let (mut ours, theirs) = open_terminal();
        let mut command = lab.command(["gc", "--store", "s"]);
        command.stdin(theirs);
        ours.write_all(answer.as_bytes()).unwrap();
        lab.finish(command)
            .expect(0)
            .says(&["Remove all this? [y/N]"])
            .shows(&["1 stages and files and 1 run"]);
        assert_eq!(lab.stages("s").len(), left, "{answer:?} of {before:?}");
    }
}

#[test]
fn a_damaged_event_log_costs_nothing_but_what_it_held() {
    let lab = Lab::with_pictures(20);
    lab.write("longer.yaml", &longer());
    lab.ablate("run longer.yaml --store calm", &[]).expect(0);
    let run = lab.start("run longer.yaml --store s --slots 1 --set train.epochs=24");
    let stage = wait_for("a stage in training", || {
        let stage = lab.stages("s").into_iter().next()?;
        let events = lab.events("s", &stage);
        let epochs = events.iter().filter(|event| event["kind"] == "epoch");
        (epochs.count() > 2).then_some(stage)
    });
    run.signal(libc::SIGTERM);
    run.end().expect(143);
    let path = format!("s/stages/{stage}/events.jsonl");
    let events = lab.events("s", &stage);
    let checkpoint = events
        .iter()
        .rfind(|event| event["kind"] == "checkpointed")
        .unwrap()["step"]
        .clone();
    let mut bad = lab.read(&path);
    // In the second line.
    let second = bad.iter().position(|&byte| byte == b'\n').unwrap() + 10;
    bad[second] ^= 1;
    std::fs::write(lab.path(&path), &bad).unwrap();
    lab.ablate("run longer.yaml --store s", &[])
        .expect(0)
        .says(&["events.jsonl, line 2", "events.jsonl.damaged-1"]);
    lab.same_results("calm", "s");
    assert_eq!(lab.read(&format!("{path}.damaged-1")), bad);
    let events = lab.events("s", &stage);
    let started: Vec<&Value> = events
        .iter()
        .filter(|event| event["kind"] == "started")
        .map(|event| &event["resumed_step"])
        .collect();
    assert_eq!(started, [&Value::from(0), &checkpoint]);
    // The store had taken in what was lost of the log.
    let sql = "SELECT run, eval_set, metric, value, step, epoch, headline FROM v_results ORDER BY 1, 2, 3";
    assert_eq!(lab.ask("calm", sql), lab.ask("s", sql));
    let sql = "SELECT run, metric, epoch, value FROM v_metrics WHERE metric NOT LIKE 'step/%'
               AND metric <> 'seconds' ORDER BY run, metric, epoch";
    assert_eq!(lab.ask("calm", sql), lab.ask("s", sql));
    let failed = lab.ask(
        "s",
        "SELECT failure FROM v_attempts WHERE failure IS NOT NULL",
    );
    assert_eq!(failed.len(), 1, "the interruption: {failed:?}");
    // A database that is made of the repaired logs has the results, too.
    lab.ablate("recover --force --store s", &[]).expect(0);
    lab.ablate("run longer.yaml --store s", &[]).expect(0);
    lab.same_results("calm", "s");
}
