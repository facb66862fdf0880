//! `ablate plan`: what would run, and that nothing is changed by asking.

use crate::lab::{Lab, SMALL};
use serde_json::Value;

/// Everything below `name` with its bytes, but for what SQLite needs while somebody reads: its shared
/// memory, and a log with nothing in it.
fn bytes(lab: &Lab, name: &str) -> Vec<(String, Vec<u8>)> {
    let read = |file: String| match lab.path(&file).is_dir() {
        true => (file, Vec::new()),
        false => (file.clone(), lab.read(&file)),
    };
    let of_readers = |file: &str, bytes: &[u8]| {
        file.ends_with(".db-shm") || file.ends_with(".db-wal") && bytes.is_empty()
    };
    lab.list(name)
        .into_iter()
        .map(read)
        .filter(|(file, bytes)| !of_readers(file, bytes))
        .collect()
}

/// Asserts that the folder is as it was `before`.
#[track_caller]
fn unchanged(lab: &Lab, before: &[(String, Vec<u8>)]) {
    let after = bytes(lab, ".");
    let only = |these: &[(String, Vec<u8>)], those: &[(String, Vec<u8>)]| -> Vec<String> {
        let missing = these.iter().filter(|file| !those.contains(file));
        missing
            .map(|(name, bytes)| format!("{name}: {} bytes", bytes.len()))
            .collect()
    };
    let (gone, new) = (only(before, &after), only(&after, before));
    assert!(
        gone.is_empty() && new.is_empty(),
        "before: {gone:?}, after: {new:?}"
    );
}

#[test]
fn planning_changes_nothing() {
    let lab = Lab::with_pictures(8);
    lab.write("small.yaml", SMALL);
    lab.write("one.yaml", &SMALL.replace("epochs: 2", "epochs: 1"));
    let before = bytes(&lab, ".");
    lab.ablate("plan small.yaml --explain", &[])
        .expect(0)
        .shows(&[
            "Two losses of a small model",
            "Nothing is claimed.",
            "runs      4 = 2 variants x 2 seeds",
            "0 done, 4 to run",
            "FLOP",
            "on disk",
            "2 seeds show a difference above",
            "train of ce s0: new",
        ]);
    unchanged(&lab, &before);

    lab.ablate("run one.yaml --only loss=ce --seeds 1", &[])
        .expect(0);
    let before = bytes(&lab, ".");
    lab.ablate("plan one.yaml --explain", &[])
        .expect(0)
        .shows(&[
            "1 done, 3 to run",
            "train of ce s0: done",
            "train of ce s1: new (differs from",
            "seed: 0 -> 1",
            "loss.name: \"ce\" -> \"bce\"",
        ]);
    let json = lab
        .ablate("plan one.yaml --format json --explain", &[])
        .expect(0)
        .json();
    for (key, value) in [
        ("variants", 2),
        ("seeds", 2),
        ("runs", 4),
        ("stages", 4),
        ("stages_done", 1),
        ("stages_to_run", 3),
        ("stages_failed", 0),
    ] {
        assert_eq!(json[key], value, "{key}");
    }
    assert!(json["flops"].as_f64().unwrap() > 1e9);
    assert!(json["seconds"].as_f64().unwrap() > 0.0);
    assert!(json["disk_bytes"].as_u64().unwrap() > 0);
    assert!(
        json["smallest_effect"]["standard_deviations"]
            .as_f64()
            .unwrap()
            > 1.0
    );
    let done: Vec<&Value> = json["explanation"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|stage| stage["state"] == "done")
        .collect();
    assert_eq!(done.len(), 1);
    assert_eq!(done[0]["variant"], "ce");
    unchanged(&lab, &before);
}

/// Variants' names of an experiment, in order.
fn variants(lab: &Lab, rest: &str, options: &[&str]) -> Vec<String> {
    let yaml = format!("name: e\nrecipe: quick\nset: {{model.arch: vit_nano_patch8}}\n{rest}");
    lab.write("e.yaml", &yaml);
    let json = lab
        .ablate("plan e.yaml --format json", options)
        .expect(0)
        .json();
    json["table"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["variant"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn every_design_expands_as_its_name_says() {
    let lab = Lab::new();
    let axes = "\
axes:
  optimizer.lr: [2e-3, 4e-3]
  loss:
    ce: {loss.name: ce}
    bce: {loss.name: bce}
baseline: {optimizer.lr: 2e-3, loss: ce}
";
    let with = |more: &str| variants(&lab, &format!("{axes}{more}\n"), &[]);
    assert_eq!(with(""), ["2e-3,ce", "2e-3,bce", "4e-3,ce", "4e-3,bce"]);
    assert_eq!(with("design: product"), with(""));
    assert_eq!(with("design: zip"), ["2e-3,ce", "4e-3,bce"]);
    assert_eq!(
        with("design: {list: [{optimizer.lr: 4e-3, loss: ce}]}"),
        ["4e-3,ce"]
    );
    assert_eq!(
        with("exclude: [{optimizer.lr: 4e-3, loss: bce}]"),
        ["2e-3,ce", "2e-3,bce", "4e-3,ce"]
    );
    assert_eq!(
        with("design: one_at_a_time"),
        ["baseline", "optimizer.lr=4e-3", "loss=bce"]
    );
    assert_eq!(with("design: path"), ["baseline", "+ 4e-3", "+ bce"]);
    let ingredients = "\
design: leave_one_out
axes:
  layer_scale: {on: {}, off: {model.layer_scale: null}}
  mixing: {on: {}, off: {mix.prob: 0}}
";
    assert_eq!(
        variants(&lab, ingredients, &[]),
        ["full", "- layer_scale", "- mixing"]
    );

    // Seeds are replicates: they add runs, not variants.
    let seeds = variants(&lab, &format!("{axes}seeds: [1, 5, 9]\n"), &[]);
    assert_eq!(seeds.len(), 4);
    let json = lab
        .ablate("plan e.yaml --format json --seeds 0,7", &[])
        .expect(0)
        .json();
    assert_eq!(
        (&json["runs"], &json["variants"], &json["seeds"]),
        (&8.into(), &4.into(), &2.into())
    );

    // From the command line.
    let only = |options: &[&str]| variants(&lab, axes, options);
    assert_eq!(only(&["--only", "loss=ce"]), ["2e-3,ce", "4e-3,ce"]);
    assert_eq!(
        only(&["--only", "loss=ce", "--only", "optimizer.lr=4e-3"]),
        ["4e-3,ce"]
    );
    assert_eq!(only(&["--only", "loss=ce", "--only", "loss=bce"]).len(), 4);
    let flops = |options: &[&str]| {
        let json = lab
            .ablate("plan e.yaml --format json", options)
            .expect(0)
            .json();
        json["flops"].as_f64().unwrap()
    };
    let epochs = |count: &str| flops(&["--set", &format!("train.epochs={count}")]);
    let (ten, five) = (epochs("10"), epochs("5"));
    assert!((1.9..2.1).contains(&(ten / five)), "{ten} {five}");
}

#[test]
fn large_grids_are_planned_and_absurd_ones_are_counted() {
    let lab = Lab::new();
    let numbers = |count: usize| -> String {
        let all: Vec<String> = (1..=count).map(|n| format!("{n}e-6")).collect();
        all.join(", ")
    };
    let grid = |count: usize| {
        format!(
            "name: grid\nrecipe: quick\naxes:\n  optimizer.lr: [{0}]\n  optimizer.weight_decay: [{0}]\n  schedule.min_lr: [{0}]\n",
            numbers(count)
        )
    };
    lab.write("grid.yaml", &grid(20));
    let json = lab
        .ablate("plan grid.yaml --format json", &[])
        .expect(0)
        .json();
    assert_eq!(
        (&json["runs"], &json["stages"]),
        (&8000.into(), &8000.into())
    );

    lab.write("grid.yaml", &grid(1000));
    for command in ["plan", "run"] {
        lab.ablate(command, &["grid.yaml"]).expect(2).says(&[
            "grid.yaml:4:3: ",
            "1.000e9 cells",
            "--max-cells",
        ]);
    }
    lab.write("grid.yaml", &grid(20));
    lab.ablate("plan grid.yaml --seeds 100", &[])
        .expect(2)
        .says(&["800000 cells (8000 variants x 100 seeds)"]);
    lab.ablate("plan grid.yaml --max-cells 100", &[])
        .expect(2)
        .says(&["more than 100"]);
    assert!(!lab.path("ablate-store").exists());
}
