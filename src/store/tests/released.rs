//! Every schema that was ever released, as a database that such a version has stored (`tests/stores`).

use super::*;
use serde_json::Value;
use sqlx::{ConnectOptions, Connection, Executor};
use std::fs;
use std::path::PathBuf;

/// The stored databases: (schema, database, what its own version showed).
fn stored() -> Vec<(i64, PathBuf, BTreeMap<String, Vec<Value>>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stores");
    let mut all: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "db"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap();
            let version = name.strip_prefix('v').unwrap().parse().unwrap();
            let rows = fs::read_to_string(path.with_extension("json")).unwrap();
            (version, path, serde_json::from_str(&rows).unwrap())
        })
        .collect();
    all.sort_by_key(|(version, ..)| *version);
    all
}

/// A copy of a stored database in a store of its own.
fn copy(path: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(path, folder.path().join("ablate.db")).unwrap();
    folder
}

/// Asserts that the views show the rows that they once showed; columns that were added since don't count.
async fn shows(store: &Store, expected: &BTreeMap<String, Vec<Value>>) {
    for (view, rows) in expected {
        let found = store
            .query_all(&format!("SELECT * FROM {view}"))
            .await
            .unwrap();
        let json = |cell: &Cell| match cell {
            Cell::Null => Value::Null,
            Cell::Integer(number) => (*number).into(),
            Cell::Real(number) => (*number).into(),
            Cell::Text(text) => text.as_str().into(),
            Cell::Blob(bytes) => panic!("{bytes:?}"),
        };
        if rows.is_empty() {
            assert!(found.rows.is_empty(), "{view}");
            continue;
        }
        let columns: Vec<&String> = rows[0].as_object().unwrap().keys().collect();
        let mut ours: Vec<String> = found
            .rows
            .iter()
            .map(|row| {
                let value = |name: &&String| {
                    let at = found.columns.iter().position(|column| column == *name);
                    json(&row[at.unwrap_or_else(|| panic!("{view} has lost {name}"))])
                };
                format!("{:?}", columns.iter().map(value).collect::<Vec<_>>())
            })
            .collect();
        let mut theirs: Vec<String> = rows
            .iter()
            .map(|row| {
                let value = |name: &&String| row[name.as_str()].clone();
                format!("{:?}", columns.iter().map(value).collect::<Vec<_>>())
            })
            .collect();
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs, "{view}");
    }
}

async fn schema(path: &Path) -> (i64, i64) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut connection = options.connect().await.unwrap();
    let row = sqlx::query_as("SELECT MAX(version), COUNT(*) FROM _sqlx_migrations")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    row
}

#[tokio::test]
async fn every_released_schema_is_read_migrated_and_kept_as_a_copy() {
    let stored = stored();
    assert!(stored.iter().any(|(version, ..)| *version == 2));
    for (version, path, rows) in stored {
        let folder = copy(&path);
        let dir = folder.path();
        let bytes = fs::read(dir.join("ablate.db")).unwrap();
        let reader = Store::open_read_only(dir).await.unwrap();
        let older = reader
            .warnings()
            .iter()
            .any(|text| text.contains("older ablate"));
        shows(&reader, &rows).await;
        assert!(!reader.experiments().await.unwrap().is_empty());
        reader.status(None).await.unwrap();
        reader.running(None).await.unwrap();
        let tags = rows.get("v_tags").map_or(0, Vec::len);
        assert_eq!(reader.tags().await.unwrap().len(), tags);
        let garbage = reader.garbage(GarbagePolicy::default()).await.unwrap();
        assert!(!garbage.runs.is_empty(), "its plan shrank");
        let run = reader.run_ids().await.unwrap().remove(0);
        assert_eq!(reader.removal(&Named::Run(&run)).await.unwrap().runs, [run]);
        reader.close().await.unwrap();
        assert_eq!(
            fs::read(dir.join("ablate.db")).unwrap(),
            bytes,
            "reading changes nothing"
        );

        let store = open(dir).await;
        shows(&store, &rows).await;
        let names = store.experiments().await.unwrap();
        for experiment in &names {
            store.results(&experiment.name).await.unwrap();
            store.curves(&experiment.name).await.unwrap();
        }
        let run = store.run_ids().await.unwrap().remove(0);
        assert_eq!(
            store.tag(std::slice::from_ref(&run), "old").await.unwrap(),
            1
        );
        store.untag(&[run], "old").await.unwrap();
        store.close().await.unwrap();
        let backup = dir.join(format!("ablate.db.schema-{version}"));
        assert_eq!(backup.exists(), older);
        if older {
            assert_eq!(schema(&backup).await.0, version);
            let other = copy(&backup);
            let copy = Store::open_read_only(other.path()).await.unwrap();
            shows(&copy, &rows).await;
        }
        // A second opening changes nothing any more.
        let store = open(dir).await;
        shows(&store, &rows).await;
    }
}

#[tokio::test]
async fn a_migration_that_fails_leaves_the_old_version() {
    let (version, path, rows) = stored().remove(0);
    let folder = copy(&path);
    let dir = folder.path();
    // The last step so far makes this table: it fails, and those before it must not stay either.
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(dir.join("ablate.db"));
    let mut connection = options.connect().await.unwrap();
    (&mut connection)
        .execute("CREATE TABLE notes (in_the_way TEXT)")
        .await
        .unwrap();
    connection.close().await.unwrap();
    let before = schema(&dir.join("ablate.db")).await;
    assert_eq!(before.0, version);
    let error = Store::open(dir).await.unwrap_err().to_string();
    assert!(error.contains("notes"), "{error}");
    assert_eq!(schema(&dir.join("ablate.db")).await, before);
    let reader = Store::open_read_only(dir).await.unwrap();
    shows(&reader, &rows).await;
    assert!(reader.query("SELECT * FROM v_tags").await.is_err());
    reader.close().await.unwrap();
    let mut connection = options.connect().await.unwrap();
    (&mut connection).execute("DROP TABLE notes").await.unwrap();
    connection.close().await.unwrap();
    shows(&open(dir).await, &rows).await;
}

#[tokio::test]
async fn what_a_newer_version_has_changed_is_named() {
    let folder = copy(&stored().remove(0).1);
    let dir = folder.path();
    let store = open(dir).await;
    let mut writer = store
        .writer(super::super::open::Durability::Full)
        .await
        .unwrap();
    for sql in [
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'future', 1, x'00', 0)",
        "DROP VIEW v_metrics",
        "ALTER TABLE results RENAME TO outcomes",
    ] {
        (&mut writer.connection).execute(sql).await.unwrap();
    }
    drop(writer);
    store.close().await.unwrap();
    let reader = Store::open_read_only(dir).await.unwrap();
    assert!(reader.warnings()[0].contains("newer ablate"));
    assert!(
        !reader.status(None).await.unwrap().is_empty(),
        "what is as it was is read"
    );
    let name = reader.experiments().await.unwrap().remove(0).name;
    let error = reader.results(&name).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Incompatible { found: 9999, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("update ablate"), "{error}");
    assert!(matches!(
        Store::open(dir).await,
        Err(StoreError::Newer { .. })
    ));
    assert!(matches!(
        Store::open_beside(dir).await,
        Err(StoreError::Newer { .. })
    ));
}
