use super::*;
use crate::store::AttemptGpu;

async fn sample_store(dir: &Path) -> Store {
    let store = open(dir).await;
    let sample = Sample::new("loss", 2, 2);
    sample.save(&store).await;
    for index in 0..6 {
        finish(&store, &sample, index, 50.0 + f64::from(index)).await;
    }
    store
}

#[tokio::test]
async fn hostile_statements_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = sample_store(folder.path()).await;
    let other = folder.path().join("other.db");
    let attach = format!("ATTACH '{}' AS other", other.display());
    let vacuum = format!("VACUUM INTO '{}'", other.display());
    let statements = [
        "INSERT INTO meta VALUES ('a', 'b')",
        "REPLACE INTO meta VALUES ('a', 'b')",
        "UPDATE stages SET status = 'done'",
        "DELETE FROM runs",
        "DROP TABLE runs",
        "DROP VIEW v_runs",
        "CREATE TABLE t (a)",
        "CREATE TEMP TABLE t (a)",
        "CREATE TEMP VIEW v AS SELECT 1",
        "CREATE TEMP TRIGGER t AFTER INSERT ON runs BEGIN DELETE FROM runs; END",
        "ALTER TABLE runs RENAME TO gone",
        "SELECT 1; DELETE FROM runs",
        "SELECT 1; SELECT 2",
        "/* SELECT */ DELETE FROM runs",
        "WITH x AS (SELECT 1) DELETE FROM runs",
        "WITH x AS (SELECT 1) INSERT INTO meta SELECT 'a', 'b'",
        "DELETE FROM runs RETURNING id",
        "EXPLAIN DELETE FROM runs",
        "BEGIN",
        "BEGIN IMMEDIATE",
        "COMMIT",
        "SAVEPOINT s",
        attach.as_str(),
        "ATTACH ':memory:' AS m",
        "DETACH main",
        "VACUUM",
        vacuum.as_str(),
        "REINDEX",
        "ANALYZE",
        "PRAGMA query_only = OFF",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA writable_schema = ON",
        "PRAGMA user_version = 9",
        "PRAGMA application_id = 9",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "PRAGMA optimize",
        "PRAGMA temp_store_directory = '/'",
        "SELECT load_extension('x')",
        "SELECT * FROM pragma_wal_checkpoint",
        "SELECT writefile('x', 'y')",
        "SELECT 1\0; DELETE FROM runs",
        "",
        " -- nothing",
        ";",
    ];
    let dump = "SELECT (SELECT COUNT(*) FROM runs), (SELECT COUNT(*) FROM sqlite_schema),
        (SELECT COUNT(*) FROM stages WHERE status = 'done'), (SELECT COUNT(*) FROM meta)";
    let before = store.query_all(dump).await.unwrap();
    for statement in statements {
        match store.query_all(statement).await {
            Err(StoreError::Sql { message }) => assert!(!message.is_empty()),
            other => panic!("{statement}: {other:?}"),
        }
    }
    assert_eq!(store.query_all(dump).await.unwrap(), before);
    assert!(!other.exists());
    assert_eq!(
        number(
            &store,
            "SELECT COUNT(*) FROM pragma_table_list WHERE schema = 'temp' AND name = 't'"
        )
        .await,
        0
    );
}

#[tokio::test]
async fn readers_may_ask_what_they_like() {
    let folder = tempfile::tempdir().unwrap();
    let store = sample_store(folder.path()).await;
    for statement in [
        "VALUES (1), (2)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 5) SELECT i FROM n;",
        "EXPLAIN QUERY PLAN SELECT * FROM v_results",
        "SELECT experiment, variant, AVG(value), COUNT(*) FROM v_results WHERE metric = 'top1' GROUP BY 1, 2 -- mean",
        "SELECT run, ROW_NUMBER() OVER (ORDER BY value DESC) FROM v_results",
        "PRAGMA table_info(v_runs)",
        "SELECT name FROM pragma_table_info('v_runs')",
    ] {
        let rows = store
            .query_all(statement)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
        assert!(
            !rows.rows.is_empty() && rows.rows.iter().all(|row| row.len() == rows.columns.len())
        );
    }
    let kinds = "SELECT NULL AS a, 1 AS b, 1.5, 'é', x'00ff', CAST(x'ff41' AS TEXT), 9223372036854775807, 1e999 AS h";
    let rows = store.query_all(kinds).await.unwrap();
    let expected = [
        Cell::Null,
        Cell::Integer(1),
        Cell::Real(1.5),
        Cell::Text("é".to_owned()),
        Cell::Blob(vec![0, 255]),
        Cell::Text("\u{fffd}A".to_owned()),
        Cell::Integer(i64::MAX),
        Cell::Real(f64::INFINITY),
    ];
    assert_eq!(rows.rows, [expected]);
    assert_eq!(rows.columns[0..2], ["a", "b"]);
    let none = store
        .query_all("SELECT run, seed FROM v_runs WHERE 0")
        .await
        .unwrap();
    assert_eq!((none.columns.len(), none.rows.len()), (2, 0));
}

#[tokio::test]
async fn errors_point_and_suggest() {
    let folder = tempfile::tempdir().unwrap();
    let store = sample_store(folder.path()).await;
    for (statement, parts) in [
        (
            "SELECT * FROM v_result",
            &[
                "no such table: v_result",
                "did you mean `v_results`?",
                "--schema",
            ][..],
        ),
        (
            "SELECT varient FROM v_runs",
            &[
                "no such column: varient",
                "did you mean `variant`?",
                "       ^",
            ],
        ),
        ("SELECT r.sead FROM v_runs r", &["did you mean `seed`?"]),
        ("SELECT zzzzzzzz FROM v_runs", &["no such column: zzzzzzzz"]),
        (
            "SELEC 1",
            &["near \"SELEC\": syntax error", "  SELEC 1\n  ^"],
        ),
        ("SELECT abs(-9223372036854775808)", &["integer overflow"]),
        ("DELETE FROM runs", &["a query only reads"]),
    ] {
        let error = store.query_all(statement).await.unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{statement}: {error}");
        }
    }
}

#[tokio::test]
async fn the_views_are_as_documented() {
    let folder = tempfile::tempdir().unwrap();
    let store = sample_store(folder.path()).await;
    let run = store.run_ids().await.unwrap().remove(0);
    store
        .tag(std::slice::from_ref(&run), "paper")
        .await
        .unwrap();
    store.note(&run, "a remark").await.unwrap();
    let gpu = AttemptGpu {
        uuid: "GPU-1".into(),
        name: "H100".into(),
        driver: "580".into(),
        memory: 80 << 30,
    };
    let attempts = store
        .query_all("SELECT fingerprint FROM v_attempts")
        .await
        .unwrap();
    let Cell::Text(fingerprint) = &attempts.rows[0][0] else {
        panic!("{:?}", attempts.rows);
    };
    let claim = Change::Claim {
        fingerprint: fingerprint.clone(),
        device: "cpu".to_owned(),
        gpus: vec![gpu],
        seen: u32::MAX,
    };
    store
        .transition(&leases::owner("me"), &[claim])
        .await
        .unwrap();
    let docs = view_docs();
    let views = store
        .query_all("SELECT name FROM sqlite_schema WHERE type = 'view' AND name LIKE 'v\\_%' ESCAPE '\\' ORDER BY name")
        .await
        .unwrap();
    let mut names: Vec<&str> = docs.iter().map(|view| view.name.as_str()).collect();
    names.sort_unstable();
    let names: Vec<Cell> = names
        .into_iter()
        .map(|name| Cell::Text(name.to_owned()))
        .collect();
    assert_eq!(views.rows.concat(), names);
    for view in docs {
        let rows = store
            .query_all(&format!("SELECT * FROM {}", view.name))
            .await
            .unwrap();
        let documented: Vec<&str> = view
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .collect();
        assert_eq!(rows.columns, documented, "{}", view.name);
        assert!(!view.text.is_empty() && !rows.rows.is_empty());
        for row in &rows.rows {
            for (cell, column) in row.iter().zip(&view.columns) {
                let kind = match cell {
                    Cell::Null => continue,
                    Cell::Integer(_) => "integer",
                    Cell::Real(_) => "real",
                    Cell::Text(_) => "text",
                    Cell::Blob(_) => "blob",
                };
                assert_eq!(kind, column.kind, "{}.{}", view.name, column.name);
                assert!(!column.text.is_empty());
            }
        }
    }
}

#[tokio::test]
async fn published_numbers_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let sql = "SELECT value, source FROM v_reference WHERE model = 'ViT-S' AND dataset = 'IN-1k val' AND metric = 'top1'
        AND epochs = '800' AND test_res = 224 AND id = 'R0001'";
    let rows = store.query_all(sql).await.unwrap();
    assert_eq!(rows.rows[0][0], Cell::Real(81.4));
    assert_eq!(
        number(
            &store,
            "SELECT COUNT(*) FROM v_reference WHERE source IS NULL"
        )
        .await,
        0
    );
    // A program that carries another file replaces the table.
    let mut writer = store
        .writer(super::super::open::Durability::Full)
        .await
        .unwrap();
    for sql in [
        "DELETE FROM reference_values",
        "UPDATE meta SET value = 'old' WHERE key = 'reference'",
    ] {
        sqlx::query(sql)
            .execute(&mut writer.connection)
            .await
            .unwrap();
    }
    drop(writer);
    store.close().await.unwrap();
    let store = open(folder.path()).await;
    let count = number(&store, "SELECT COUNT(*) FROM v_reference").await;
    assert_eq!(count as usize, super::super::reference::rows().len());
}
