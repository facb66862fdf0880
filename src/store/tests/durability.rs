//! Real processes that are killed, and readers beside a writer. A child is this test program, started
//! again with one ignored test and the store's folder in its environment.

use super::*;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

const DIR: &str = "ABLATE_TEST_STORE";

fn child(test: &str, dir: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--ignored",
            "--nocapture",
            &format!("store::tests::durability::{test}"),
        ])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    (child, lines)
}

/// The child's next line that starts with `=`.
fn answer(lines: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    loop {
        line.clear();
        assert_ne!(
            lines.read_line(&mut line).unwrap(),
            0,
            "the child ended early"
        );
        if let Some((_, answer)) = line.split_once('=') {
            return answer.trim().to_owned();
        }
    }
}

/// Begins and ends attempts for ever, and says each that was committed.
#[tokio::test]
#[ignore = "the child of another test"]
async fn child_that_commits() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let dir = Path::new(&dir);
    let _lock = StoreLock::exclusive(dir).unwrap();
    let store = open(dir).await;
    store.abandon_running(&[], |_| false).await.unwrap();
    let sample = Sample::new("loss", 40, 1);
    sample.save(&store).await;
    let fingerprint = sample.fingerprint(0);
    let mut seq = store.last_seq(&fingerprint).await.unwrap();
    loop {
        let attempt = store.begin_attempt(&fingerprint, &start()).await.unwrap();
        println!("={attempt} begun {seq}");
        let events: Vec<Event> = (1..=50)
            .map(|next| event(seq + next, attempt, step(seq + next, 1.0)))
            .collect();
        store.record_events(&fingerprint, &events).await.unwrap();
        seq += 50;
        store
            .end_attempt(&fingerprint, attempt, &end(Status::Failed))
            .await
            .unwrap();
        println!("={attempt} ended {seq}");
    }
}

#[tokio::test]
async fn what_was_committed_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("store");
    for round in 0..6_usize {
        let (mut child, mut lines) = child("child_that_commits", &dir);
        let mut last = String::new();
        for _ in 0..3 + 5 * round {
            last = answer(&mut lines);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // Lines that it still said before it died.
        let mut rest = String::new();
        while lines.read_line(&mut rest).unwrap() > 0 {
            if let (true, Some((_, said))) = (rest.ends_with('\n'), rest.split_once('=')) {
                last = said.trim().to_owned();
            }
            rest.clear();
        }
        let words: Vec<&str> = last.split(' ').collect();
        let (attempt, seq): (usize, u64) = (words[0].parse().unwrap(), words[2].parse().unwrap());

        assert_eq!(
            StoreLock::holders(&dir),
            [],
            "the lock died with its holder"
        );
        let _lock = StoreLock::exclusive(&dir).unwrap();
        let store = open(&dir).await;
        let fingerprint = Sample::new("loss", 40, 1).fingerprint(0);
        let attempts = store.attempts(&fingerprint).await.unwrap();
        assert!(
            attempts.len() == attempt || attempts.len() == attempt + 1,
            "{last}: {}",
            attempts.len()
        );
        if words[1] == "ended" {
            assert_ne!(attempts[attempt - 1].status, Status::Running, "{last}");
        }
        let stored = store.last_seq(&fingerprint).await.unwrap();
        assert!(stored >= seq && stored <= seq + 50, "{last}: {stored}");
        assert_eq!(
            number(&store, "SELECT COUNT(*) FROM steps").await as u64,
            stored
        );
        let check = store
            .query_all("SELECT * FROM pragma_integrity_check")
            .await
            .unwrap();
        assert_eq!(check.rows, [[Cell::Text("ok".to_owned())]]);
        store.abandon_running(&[], |_| false).await.unwrap();
        assert_eq!(
            number(
                &store,
                "SELECT COUNT(*) FROM attempts WHERE status = 'running'"
            )
            .await,
            0
        );
        store.close().await.unwrap();
    }
}

/// Holds the lock until it is killed.
#[test]
#[ignore = "the child of another test"]
fn child_that_locks() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let _lock = StoreLock::exclusive(Path::new(&dir)).unwrap();
    println!("=locked");
    loop {
        std::thread::park();
    }
}

#[test]
fn the_lock_names_its_holder_and_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, mut lines) = child("child_that_locks", folder.path());
    assert_eq!(answer(&mut lines), "locked");
    let error = StoreLock::exclusive(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains(&format!("pid {} on host", child.id())),
        "{error}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    StoreLock::exclusive(folder.path()).unwrap();
}

#[tokio::test]
async fn a_reader_with_an_open_transaction_blocks_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let sample = Sample::new("loss", 2, 1);
    sample.save(&store).await;
    let reader = Store::open_read_only(folder.path()).await.unwrap();
    let mut old = reader.readers.begin().await.unwrap();
    let count = "SELECT COUNT(*) FROM attempts";
    let before: i64 = sqlx::query_scalar(count)
        .fetch_one(&mut *old)
        .await
        .unwrap();
    for _ in 0..20 {
        finish(&store, &sample, 0, 50.0).await;
    }
    let seen: i64 = sqlx::query_scalar(count)
        .fetch_one(&mut *old)
        .await
        .unwrap();
    assert_eq!((before, seen), (0, 0), "one transaction, one state");
    drop(old);
    assert_eq!(number(&reader, count).await, 20);
    assert!(reader.wal_bytes() > 0);
}

#[tokio::test]
async fn a_full_disk_is_told_and_the_same_store_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let sample = Sample::new("loss", 4, 1);
    sample.save(&store).await;
    let fingerprint = sample.fingerprint(0);
    let attempt = store.begin_attempt(&fingerprint, &start()).await.unwrap();
    // As a full disk does it: the database can't grow any more.
    store.limit_pages(1).await;
    let mut seq = 0;
    let mut more = || -> Vec<Event> {
        seq += 500;
        (seq - 499..=seq)
            .map(|seq| event(seq, attempt, step(seq, 1.0)))
            .collect()
    };
    let full = loop {
        let events = more();
        match store.record_events(&fingerprint, &events).await {
            Ok(_) => {}
            Err(error) => break (error, events),
        }
    };
    assert!(matches!(full.0, StoreError::Full { .. }), "{}", full.0);
    // Nothing of the batch is there, and the very same call works once there is room.
    let before = store.last_seq(&fingerprint).await.unwrap();
    assert_eq!(before, full.1[0].seq - 1);
    store.limit_pages(1_000_000).await;
    assert_eq!(
        store.record_events(&fingerprint, &full.1).await.unwrap(),
        500
    );
    store
        .end_attempt(&fingerprint, attempt, &end(Status::Done))
        .await
        .unwrap();
    store.verify().await.unwrap();
}

/// A process that was killed while it made the database leaves a journal that only a writer may roll back.
#[tokio::test]
async fn a_creation_that_was_cut_off_is_rolled_back() {
    use sqlx::{ConnectOptions, Connection};
    let folder = tempfile::tempdir().unwrap();
    let (made, left) = (folder.path().join("made"), folder.path().join("left"));
    for dir in [&made, &left] {
        std::fs::create_dir(dir).unwrap();
    }
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(made.join("ablate.db"))
        .create_if_missing(true)
        .pragma("cache_size", "4")
        .connect()
        .await
        .unwrap();
    // The journal, not yet the write-ahead log; a cache so small that half of it is in the file already.
    let mut transaction = connection.begin().await.unwrap();
    for sql in [
        "CREATE TABLE half (x)",
        "INSERT INTO half WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
         SELECT randomblob(500) FROM n",
    ] {
        sqlx::query(sql).execute(&mut *transaction).await.unwrap();
    }
    for name in ["ablate.db", "ablate.db-journal"] {
        std::fs::copy(made.join(name), left.join(name)).unwrap();
    }
    assert!(std::fs::metadata(left.join("ablate.db")).unwrap().len() > 100_000);
    drop(transaction);
    let store = open(&left).await;
    store.verify().await.unwrap();
    assert!(store.finished().await.unwrap().is_empty());
}
