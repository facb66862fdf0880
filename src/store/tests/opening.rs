use super::*;
use sqlx::{ConnectOptions, Connection, Executor, SqliteConnection};
use std::fs;

/// Every file of a folder with its bytes.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                fs::read(&path).unwrap(),
            )
        })
        .collect()
}

/// A closed store with results, as bytes of its one file.
async fn sample_bytes(dir: &Path) -> Vec<u8> {
    let store = open(dir).await;
    let sample = Sample::new("loss", 2, 2);
    sample.save(&store).await;
    finish(&store, &sample, 0, 50.0).await;
    store.close().await.unwrap();
    assert!(!dir.join("ablate.db-wal").exists());
    fs::read(dir.join("ablate.db")).unwrap()
}

#[tokio::test]
async fn a_store_is_created_closed_and_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("new/store");
    let error = Store::open_read_only(&dir).await.unwrap_err();
    assert!(
        error.to_string().contains("there is no store at"),
        "{error}"
    );
    assert!(error.to_string().contains("ablate run"), "{error}");
    assert!(!dir.exists(), "looking creates nothing");
    sample_bytes(&dir).await;
    let store = open(&dir).await;
    assert_eq!(store.finished().await.unwrap().len(), 1);
    let reader = Store::open_read_only(&dir).await.unwrap();
    assert_eq!(reader.finished().await.unwrap().len(), 1);
    assert!(matches!(
        reader.begin_attempt("x", &start()).await,
        Err(StoreError::ReadOnly)
    ));
    assert!(reader.warnings().is_empty());
    for pragma in ["journal_mode", "synchronous", "foreign_keys"] {
        let mut writer = store
            .writer(super::super::open::Durability::Full)
            .await
            .unwrap();
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT CAST({pragma} AS TEXT) FROM pragma_{pragma}"
        ));
        let value: String = sqlx::query_scalar(sql)
            .fetch_one(&mut writer.connection)
            .await
            .unwrap();
        assert!(
            ["wal", "2", "1"].contains(&value.as_str()),
            "{pragma} is {value}"
        );
    }
}

#[tokio::test]
async fn what_an_interrupted_creation_leaves_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    fs::write(dir.join("ablate.db"), b"").unwrap();
    open(dir).await.close().await.unwrap();
    // A database that got as far as its journal mode.
    fs::remove_file(dir.join("ablate.db")).unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(dir.join("ablate.db"))
        .create_if_missing(true)
        .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal);
    use sqlx::{ConnectOptions, Connection};
    options.connect().await.unwrap().close().await.unwrap();
    open(dir).await;
}

#[tokio::test]
async fn a_lost_database_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    fs::create_dir_all(dir.join("stages/0123")).unwrap();
    for empty in [false, true] {
        if empty {
            fs::write(dir.join("ablate.db"), b"").unwrap();
        }
        let before = contents(dir);
        for error in [
            Store::open(dir).await.unwrap_err(),
            Store::open_read_only(dir).await.unwrap_err(),
        ] {
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
            assert!(error.to_string().contains("stages"), "{error}");
        }
        assert_eq!(contents(dir), before);
    }
}

#[tokio::test]
async fn a_truncated_database_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = sample_bytes(folder.path()).await;
    let dir = folder.path().join("cut");
    fs::create_dir_all(dir.join("stages/0123")).unwrap();
    for length in [
        1,
        15,
        16,
        99,
        100,
        512,
        4095,
        4096,
        8192,
        bytes.len() / 2,
        bytes.len() - 4096,
        bytes.len() - 1,
    ] {
        fs::write(dir.join("ablate.db"), &bytes[..length]).unwrap();
        let error = Store::open(&dir).await.unwrap_err();
        assert!(
            matches!(error, StoreError::Damaged { .. }),
            "{length}: {error}"
        );
        assert!(
            error.to_string().contains("ablate.db is damaged"),
            "{error}"
        );
        assert!(Store::open_read_only(&dir).await.is_err(), "{length}");
        assert_eq!(
            fs::read(dir.join("ablate.db")).unwrap(),
            &bytes[..length],
            "{length}"
        );
    }
}

#[tokio::test]
async fn flipped_bytes_are_refused_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = sample_bytes(folder.path()).await;
    let dir = folder.path().join("flipped");
    fs::create_dir_all(dir.join("stages/0123")).unwrap();
    let mut refused = 0;
    // The whole header, and the first bytes of every page, which say what the page holds.
    let positions = (0..100)
        .chain((1..bytes.len() / 4096).flat_map(|page| (0..8).map(move |byte| page * 4096 + byte)));
    for position in positions {
        let mut bad = bytes.clone();
        bad[position] ^= 0xa5;
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(dir.join(format!("ablate.db{suffix}")));
        }
        fs::write(dir.join("ablate.db"), &bad).unwrap();
        match Store::open(&dir).await {
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
                assert_eq!(
                    fs::read(dir.join("ablate.db")).unwrap(),
                    bad,
                    "byte {position}: refused but changed"
                );
            }
            Ok(store) => {
                // Counters and reserved space: what was stored is there.
                assert_eq!(
                    store.runs(Some("loss")).await.unwrap().len(),
                    4,
                    "byte {position}"
                );
                assert_eq!(store.finished().await.unwrap().len(), 1, "byte {position}");
                store.close().await.unwrap();
            }
        }
    }
    assert!(refused > 100, "{refused}");
}

#[tokio::test]
async fn other_files_are_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let path = dir.join("ablate.db");
    fs::write(&path, "name: loss\n".repeat(100)).unwrap();
    let before = contents(dir);
    assert!(Store::open(dir).await.is_err());
    assert_eq!(contents(dir), before);
    fs::remove_file(&path).unwrap();
    use sqlx::{ConnectOptions, Connection, Executor};
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    (&mut connection)
        .execute("CREATE TABLE songs (name TEXT)")
        .await
        .unwrap();
    connection.close().await.unwrap();
    let before = contents(dir);
    let error = Store::open(dir).await.unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    assert_eq!(contents(dir), before);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(
        Store::open(dir).await,
        Err(StoreError::Foreign { .. })
    ));
}

#[tokio::test]
async fn a_newer_schema_is_read_with_a_warning_and_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    sample_bytes(dir).await;
    let store = open(dir).await;
    let mut writer = store
        .writer(super::super::open::Durability::Full)
        .await
        .unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'future', 1, x'00', 0)",
    )
    .execute(&mut writer.connection)
    .await
    .unwrap();
    drop(writer);
    store.close().await.unwrap();
    let bytes = fs::read(dir.join("ablate.db")).unwrap();
    let error = Store::open(dir).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Newer { found: 9999, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("newer"), "{error}");
    let reader = Store::open_read_only(dir).await.unwrap();
    assert_eq!(reader.runs(None).await.unwrap().len(), 4);
    assert!(
        reader.warnings()[0].contains("newer ablate"),
        "{:?}",
        reader.warnings()
    );
    assert_eq!(fs::read(dir.join("ablate.db")).unwrap(), bytes);
}

#[tokio::test]
async fn a_migration_keeps_a_copy() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    sample_bytes(dir).await;
    let store = open(dir).await;
    let copy = dir.join("ablate.db.schema-1");
    fs::write(&copy, "left by a migration that was interrupted").unwrap();
    let mut writer = store
        .writer(super::super::open::Durability::Full)
        .await
        .unwrap();
    super::super::open::back_up(&mut writer.connection, &store.path, 1)
        .await
        .unwrap();
    drop(writer);
    let other = dir.join("other");
    fs::create_dir(&other).unwrap();
    fs::copy(&copy, other.join("ablate.db")).unwrap();
    let back = open(&other).await;
    assert_eq!(
        back.runs(None).await.unwrap(),
        store.runs(None).await.unwrap()
    );
    assert_eq!(
        back.finished().await.unwrap(),
        store.finished().await.unwrap()
    );
}

#[tokio::test]
async fn one_process_at_a_time_holds_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("store");
    assert_eq!(StoreLock::holders(&dir), []);
    let lock = StoreLock::exclusive(&dir).unwrap();
    let error = StoreLock::exclusive(&dir).unwrap_err().to_string();
    let pid = std::process::id();
    assert!(
        error.contains(&format!("is in use by pid {pid} on host ")),
        "{error}"
    );
    assert!(
        error.contains(" since 20") && error.ends_with(" UTC"),
        "{error}"
    );
    assert_eq!(StoreLock::holders(&dir)[0].pid, pid);
    drop(lock);
    // What the file says doesn't matter, only the lock does.
    assert!(
        fs::read_to_string(dir.join("lock"))
            .unwrap()
            .contains(&pid.to_string())
    );
    assert_eq!(StoreLock::holders(&dir), []);
    StoreLock::exclusive(&dir).unwrap();
}

#[test]
fn schedulers_share_the_lock_and_keep_others_out() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let alone = StoreLock::exclusive(dir).unwrap();
    let first = alone.share().unwrap();
    let second = StoreLock::shared(dir).unwrap();
    let owner = crate::store::OwnerLock::create(dir).unwrap();
    let error = StoreLock::exclusive(dir).unwrap_err().to_string();
    assert!(
        error.contains(&format!("by pid {} on host", owner.owner().pid)),
        "{error}"
    );
    assert_eq!(StoreLock::holders(dir), [owner.owner().holder()]);
    drop((first, second));
    StoreLock::exclusive(dir).unwrap();
}

#[test]
fn times_are_shown_as_dates() {
    assert_eq!(super::super::lock::utc(0.0), "1970-01-01 00:00:00 UTC");
    assert_eq!(
        super::super::lock::utc(951_782_400.5),
        "2000-02-29 00:00:00 UTC"
    );
    assert_eq!(
        super::super::lock::utc(1_795_530_363.0),
        "2026-11-24 14:26:03 UTC"
    );
}

#[test]
fn network_file_systems_are_known() {
    assert_eq!(super::super::network::network_name(0x6969), Some("nfs"));
    for (magic, name) in [
        (0x6573_5546, Some("fuse")),
        (0x0102_1997, Some("9p")),
        (0x0bd0_0bd0, Some("lustre")),
        (0xef53, None),
        (0x0102_1994, None),
        (0x5846_5342, None),
    ] {
        assert_eq!(network::network_name(magic), name, "{magic:x}");
    }
}

/// A connection as any other program makes one.
async fn other_program(path: &Path) -> SqliteConnection {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    options.connect().await.unwrap()
}

/// The journal mode that the file at `path` is in.
async fn mode(path: &Path) -> String {
    let mut connection = other_program(path).await;
    let mode = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    mode
}

#[tokio::test]
async fn a_store_on_a_network_file_system_has_a_rollback_journal() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("store");
    network::pretence::set(folder.path(), "nfs");
    let store = Store::open(&dir).await.unwrap();
    assert!(
        store.warnings()[0].contains("(nfs)"),
        "{:?}",
        store.warnings()
    );
    let sample = Sample::new("loss", 2, 1);
    sample.save(&store).await;
    assert!(!dir.join("ablate.db-wal").exists());
    let journal = dir.join("ablate.db-journal");
    assert_eq!(fs::metadata(&journal).unwrap().len(), 0, "it stays, empty");
    let reader = Store::open_read_only(&dir).await.unwrap();
    assert!(reader.warnings()[0].contains("(nfs)"));
    assert_eq!(reader.results("loss").await.unwrap(), []);
    store.close().await.unwrap();

    // What a kill in the middle of a transaction leaves: half of it in the database, and the journal to undo it.
    let path = dir.join("ablate.db");
    let before = fs::read(&path).unwrap();
    let mut writer = other_program(&path).await;
    for sql in [
        "PRAGMA cache_size = 1",
        "PRAGMA cache_spill = 1",
        "BEGIN",
        "UPDATE stages SET data_name = hex(zeroblob(20000))",
    ] {
        (&mut writer).execute(sql).await.unwrap();
    }
    let copy = folder.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for name in ["ablate.db", "ablate.db-journal"] {
        fs::copy(dir.join(name), copy.join(name)).unwrap();
    }
    drop(writer);
    assert!(fs::metadata(copy.join("ablate.db-journal")).unwrap().len() > 0);
    assert!(fs::read(copy.join("ablate.db")).unwrap() != before);
    let reader = Store::open_read_only(&copy).await.unwrap();
    let names: Vec<String> = sqlx::query_scalar("SELECT DISTINCT data_name FROM stages")
        .fetch_all(&reader.readers)
        .await
        .unwrap();
    assert!(names.iter().all(|name| name.len() < 1000), "{names:?}");
    assert_eq!(fs::read(copy.join("ablate.db")).unwrap(), before);
}

#[tokio::test]
async fn a_store_that_moves_changes_its_journal() {
    let folder = tempfile::tempdir().unwrap();
    let (local, far) = (folder.path().join("local"), folder.path().join("far"));
    let store = Store::open(&local).await.unwrap();
    Sample::new("loss", 2, 1).save(&store).await;
    store.close().await.unwrap();
    assert_eq!(mode(&local.join("ablate.db")).await, "wal");
    fs::rename(&local, &far).unwrap();
    network::pretence::set(&far, "fuse");
    drop(Store::open_read_only(&far).await.unwrap());
    Store::open(&far).await.unwrap().close().await.unwrap();
    // Only WAL is written into the file: any other mode is each connection's own.
    assert_eq!(mode(&far.join("ablate.db")).await, "delete");
    fs::rename(&far, &local).unwrap();
    Store::open(&local).await.unwrap().close().await.unwrap();
    assert_eq!(mode(&local.join("ablate.db")).await, "wal");
}

/// One view that an SQLite can't read makes the whole store unreadable for it. The oldest that is meant is 3.37 (tables
/// that are `STRICT`), of 2021; 3.44 brought `ORDER BY` within an aggregate.
#[tokio::test]
async fn the_schema_is_readable_by_older_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let found = store
        .query_all("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
        .await
        .unwrap();
    let text = format!("{found:?}");
    assert!(text.contains("v_runs"), "{text}");
    for aggregate in [
        "json_group_array(",
        "json_group_object(",
        "group_concat(",
        "string_agg(",
    ] {
        for (at, _) in text.match_indices(aggregate) {
            let rest = &text[at + aggregate.len()..];
            let arguments = rest
                .split_once(')')
                .map_or(rest, |(arguments, _)| arguments);
            assert!(
                !arguments.to_uppercase().contains("ORDER BY"),
                "{arguments}"
            );
        }
    }
}
