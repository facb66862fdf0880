//! From an experiment file to its table, its numbers in SQL and its report.

use crate::lab::{Lab, SMALL};
use std::collections::BTreeMap;

/// What a user does on the first day, in order.
#[test]
fn run_report_and_query() {
    let lab = Lab::with_pictures(20);
    lab.write("small.yaml", SMALL);

    // Without a terminal: plain lines, and only on stderr.
    let first = lab.ablate("run small.yaml", &[]).expect(0).says(&[
        "0 of 4 stages already done",
        "start  train ce s0 on cpu:",
        "(4 of 4)",
        "4 of 4 stages done",
    ]);
    assert!(!first.stderr.contains('\u{1b}') && !first.stdout.contains('\u{1b}'));
    let table = first.stdout;
    for part in [
        "Two losses of a small model",
        "loss",
        "top-1 (%)",
        "±",
        "baseline",
        "failed",
    ] {
        assert!(table.contains(part), "{table}");
    }
    let row = |label: &str| -> Vec<String> {
        let line = table
            .lines()
            .find(|line| line.trim_start().starts_with(label));
        let line = line.unwrap_or_else(|| panic!("no {label} in:\n{table}"));
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(row("ce ")[2], "±");
    assert_eq!(row("ce ")[4..], ["2", "baseline", "0"]);
    assert_eq!(row("bce ")[4], "2");

    // Each stage left a whole run directory.
    let stages = lab.stages("ablate-store");
    assert_eq!(stages.len(), 4);
    for stage in &stages {
        for file in [
            "stage.json",
            "events.jsonl",
            "attempt-1.log",
            "checkpoints/final.safetensors",
        ] {
            lab.read(&format!("ablate-store/stages/{stage}/{file}"));
        }
    }

    // The second run starts nobody and says the same.
    let logs = |lab: &Lab| -> Vec<Vec<u8>> {
        let path = |stage| format!("ablate-store/stages/{stage}/events.jsonl");
        stages.iter().map(|stage| lab.read(&path(stage))).collect()
    };
    let events = logs(&lab);
    let second = lab.ablate("run small.yaml", &[]).expect(0);
    assert_eq!(second.stderr, "4 of 4 stages already done\n");
    assert_eq!(second.stdout, table);
    assert!(events == logs(&lab), "a worker was started");
    let attempts = lab.ask("ablate-store", "SELECT COUNT(*) AS n FROM v_attempts");
    assert_eq!(attempts[0]["n"], 4);
    let quiet = lab.ablate("run small.yaml --quiet", &[]).expect(0);
    assert_eq!((quiet.stdout, quiet.stderr), (table.clone(), String::new()));

    results_in_sql(&lab);
    queries(&lab);
    status_show_and_logs(&lab, &stages);
    report(&lab, &table);
}

/// `v_results` has what the workers measured, and leads back to where it comes from.
fn results_in_sql(lab: &Lab) {
    let rows = lab.ask(
        "ablate-store",
        "SELECT run, seed, labels ->> 'loss' AS loss, fingerprint, metric, value, epoch FROM v_results",
    );
    assert_eq!(rows.len(), 4 * 3, "three metrics a run");
    for row in &rows {
        let run = format!(
            "small/{}/s{}",
            row["loss"].as_str().unwrap(),
            row["seed"].as_i64().unwrap()
        );
        assert_eq!(row["run"], run.as_str());
        assert_eq!(row["epoch"], 1);
        let events = lab.events("ablate-store", row["fingerprint"].as_str().unwrap());
        let last = events
            .iter()
            .find(|event| event["kind"] == "evaluated" && event["last"] == true)
            .unwrap();
        let metric = row["metric"].as_str().unwrap();
        assert_eq!(
            row["value"].as_f64(),
            last["metrics"][metric].as_f64(),
            "{run} {metric}"
        );
    }
    // The table's mean is theirs.
    let means = lab.ask(
        "ablate-store",
        "SELECT variant, AVG(value) AS mean FROM v_results WHERE metric = 'top1' GROUP BY variant",
    );
    let csv = lab.ablate("report --no-plots --format csv --out elsewhere", &[]);
    let csv = csv.expect(0).stdout;
    let means: BTreeMap<&str, f64> = means
        .iter()
        .map(|row| {
            (
                row["variant"].as_str().unwrap(),
                row["mean"].as_f64().unwrap(),
            )
        })
        .collect();
    assert_eq!(means.len(), 2);
    for (variant, mean) in means {
        let line = csv.lines().find(|line| line.starts_with(variant)).unwrap();
        let found = line
            .split(',')
            .filter_map(|field| field.parse::<f64>().ok())
            .any(|number| (number - mean).abs() < 1e-9);
        assert!(found, "{variant} {mean}:\n{csv}");
    }
    let traced = lab.ask(
        "ablate-store",
        "SELECT r.git_revision, r.profile, a.host, a.device, a.program, a.wall_seconds, a.peak_rss_bytes
         FROM v_runs r JOIN v_attempts a USING (fingerprint)",
    );
    assert_eq!(traced.len(), 4);
    for row in traced {
        assert!(
            row.as_object().unwrap().values().all(|v| !v.is_null()),
            "{row}"
        );
    }
}

fn queries(lab: &Lab) {
    let sql = "SELECT run, status, NULL AS gap FROM v_runs WHERE seed = 1 ORDER BY variant_index";
    let query = |format: &str| {
        lab.ablate("query --format", &[format, sql])
            .expect(0)
            .stdout
    };
    assert_eq!(
        query("csv"),
        "run,status,gap\nsmall/ce/s1,done,\nsmall/bce/s1,done,\n"
    );
    assert_eq!(
        query("md"),
        "| run | status | gap |\n| --- | --- | --- |\n| small/ce/s1 | done |  |\n| small/bce/s1 | done |  |\n"
    );
    let json: serde_json::Value = serde_json::from_str(&query("json")).unwrap();
    assert_eq!(
        json,
        serde_json::json!([
            {"run": "small/ce/s1", "status": "done", "gap": null},
            {"run": "small/bce/s1", "status": "done", "gap": null},
        ])
    );
    let table = query("table");
    for part in ["run", "status", "small/ce/s1", "small/bce/s1"] {
        assert!(table.contains(part), "{table}");
    }

    // It can only be read.
    let database = lab.read("ablate-store/ablate.db");
    assert!(
        database.starts_with(b"SQLite format 3\0"),
        "any SQLite can read it"
    );
    for sql in [
        "DELETE FROM runs",
        "INSERT INTO experiments (name) VALUES ('x')",
        "DROP VIEW v_runs",
        "CREATE TABLE mine (a)",
        "ATTACH 'other.db' AS other",
        "PRAGMA journal_mode = DELETE",
        "SELECT 1; DELETE FROM runs",
        "WITH x AS (SELECT 1) DELETE FROM runs",
        "VACUUM INTO 'copy.db'",
    ] {
        lab.ablate("query", &[sql]).expect(2).says(&["error: "]);
    }
    assert!(database == lab.read("ablate-store/ablate.db"));
    assert!(!lab.path("other.db").exists() && !lab.path("copy.db").exists());

    lab.ablate("query", &["SELECT * FROM v_run"])
        .expect(2)
        .says(&["did you mean `v_runs`?"]);
    let schema = lab.ablate("query --schema", &[]).expect(0);
    schema.shows(&[
        "v_runs",
        "v_results",
        "v_metrics",
        "v_attempts",
        "v_reference",
        "variant_index",
    ]);
}

fn status_show_and_logs(lab: &Lab, stages: &[String]) {
    let status = lab.ablate("status", &[]).expect(0).shows(&["small"]);
    let line = status.stdout.lines().find(|line| line.contains("small"));
    let words: Vec<&str> = line.unwrap().split_whitespace().collect();
    assert_eq!(words[..4], ["small", "default", "4", "4"], "{status:?}");
    let json = lab.ablate("status --format json", &[]).expect(0).json();
    assert_eq!(json["scheduler"], serde_json::Value::Null);

    let show = lab.ablate("show small/bce/s1", &[]).expect(0).shows(&[
        "small/bce/s1",
        "done",
        "loss: bce",
        "top1",
        "loss.name = bce",
        "train.epochs = 2",
        "optimizer.name = lamb",
        "attempt",
    ]);
    let stage = stages.iter().find(|stage| show.stdout.contains(*stage));
    // A stage by the beginning of its fingerprint.
    lab.ablate("logs", &[&stage.unwrap()[..10]]).expect(0);
    lab.ablate("logs small/bce/s1", &[]).expect(0);

    for command in ["show", "logs"] {
        lab.ablate(command, &["small/bec/s1"])
            .expect(2)
            .says(&["there is no run `small/bec/s1`; did you mean `small/bce/s1`?"]);
    }
    lab.ablate("status smal", &[])
        .expect(2)
        .says(&["did you mean `small`?"]);
    lab.ablate("report smal", &[])
        .expect(2)
        .says(&["did you mean `small`?"]);
    lab.ablate("status --store nowhere", &[])
        .expect(3)
        .says(&["nowhere"]);
    assert!(!lab.path("nowhere").exists());
}

fn report(lab: &Lab, table: &str) {
    let printed = lab.ablate("report small", &[]).expect(0);
    assert_eq!(printed.stdout, table);
    let files = lab.list("reports/small");
    for extension in ["md", "csv", "svg", "png"] {
        assert!(
            files.iter().any(|file| file.ends_with(extension)),
            "{extension}: {files:?}"
        );
    }
    for file in &files {
        assert!(printed.stderr.contains(file), "{file} is not named");
        let bytes = lab.read(file);
        let starts = |magic: &[u8]| assert!(bytes.starts_with(magic), "{file}");
        match file.rsplit('.').next().unwrap() {
            "png" => {
                starts(b"\x89PNG");
                let picture = image::load_from_memory(&bytes).unwrap();
                assert!(picture.width() > 200 && picture.height() > 100, "{file}");
            }
            "svg" => starts(b"<svg"),
            _ => assert!(!bytes.is_empty(), "{file}"),
        }
    }
    let markdown = String::from_utf8(lab.read("reports/small/report.md")).unwrap();
    for part in [
        "# Two losses of a small model",
        "Nothing is claimed.",
        "| ce |",
        ".svg",
    ] {
        assert!(markdown.contains(part), "{markdown}");
    }
    // Every file that the report shows is there.
    for link in markdown.split("](").skip(1) {
        let file = link.split(')').next().unwrap();
        assert!(lab.path("reports/small").join(file).exists(), "{file}");
    }

    let before: Vec<Vec<u8>> = files.iter().map(|file| lab.read(file)).collect();
    lab.ablate("report experiments/small.yaml", &[]).expect(0);
    assert_eq!(files, lab.list("reports/small"));
    for (file, before) in files.iter().zip(&before) {
        assert!(lab.read(file) == *before, "{file} changed");
    }
    lab.ablate("report --format md --no-plots --out other", &[])
        .expect(0)
        .shows(&["| loss |", "| ce |"]);
}

/// The program needs no files of its own: a built-in experiment on the embedded data, from an empty
/// folder.
#[test]
fn the_embedded_data_set_from_any_folder() {
    let lab = Lab::new();
    let answer = lab
        .ablate(
            "run loss --only loss=ce --only model=ViT-nano --seeds 1 --set train.epochs=1 --set augment.crop=src",
            &[],
        )
        .expect(0)
        .says(&["1 of 1 stages done"]);
    assert!(answer.stdout.contains("ViT-nano"), "{}", answer.stdout);
    assert_eq!(lab.list("."), {
        let mut all = lab.list("ablate-store");
        all.insert(0, "ablate-store".to_owned());
        all
    });
    let rows = lab.ask(
        "ablate-store",
        "SELECT value FROM v_results WHERE metric = 'top1'",
    );
    // Nine classes of which the largest has 13 %: after one epoch it has seen something.
    assert!(rows[0]["value"].as_f64().unwrap() > 15.0, "{rows:?}");
    let memory = lab.ask(
        "ablate-store",
        "SELECT peak_rss_bytes AS peak FROM v_attempts",
    );
    assert!(memory[0]["peak"].as_f64().unwrap() < 1.5 * 1024.0 * 1024.0 * 1024.0);
}

#[test]
fn a_store_is_a_folder_of_ones_choice() {
    let lab = Lab::with_pictures(4);
    lab.write(
        "small.yaml",
        &SMALL.replace("batch_size: 16", "batch_size: 8"),
    );
    let run = |store: &str| {
        let mut command = lab.command(["run", "small.yaml", "--only", "loss=ce", "--seeds", "1"]);
        command.env("ABLATE_STORE", store);
        lab.finish(command)
    };
    run("deep/mine").expect(0);
    assert!(lab.path("deep/mine/ablate.db").exists() && !lab.path("ablate-store").exists());
    lab.ablate("status --store deep/mine", &[])
        .expect(0)
        .shows(&["small"]);

    // What is no store is left as it is.
    lab.write("taken", "a file");
    lab.write("foreign/ablate.db", "not a database");
    for store in ["taken", "foreign"] {
        run(store).expect(3).says(&["error: ", store]);
        lab.ablate("query --store", &[store, "SELECT 1"])
            .expect(3)
            .says(&["error: "]);
    }
    assert_eq!(lab.read("taken"), b"a file");
    assert_eq!(lab.read("foreign/ablate.db"), b"not a database");
    // A database that was lost does not make its trained stages look new.
    std::fs::remove_file(lab.path("deep/mine/ablate.db")).unwrap();
    run("deep/mine")
        .expect(3)
        .says(&["there are trained stages in"]);
}
