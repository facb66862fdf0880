//! Experiment files with mistakes: where, what, and the nearest right word; nothing is touched.

use crate::lab::{Answer, Lab, SMALL};

/// Runs `yaml` and expects that it is refused before anything is created.
#[track_caller]
fn refused(lab: &Lab, yaml: &str, options: &[&str]) -> Answer {
    lab.write("bad.yaml", yaml);
    let answer = lab.ablate("run bad.yaml", options).expect(2);
    assert_eq!(answer.stdout, "");
    assert!(!lab.path("ablate-store").exists(), "something was created");
    let plan = lab.ablate("plan bad.yaml", options).expect(2);
    assert_eq!(
        plan.stderr, answer.stderr,
        "plan and run see the same problems"
    );
    answer
}

#[test]
fn all_problems_are_named_at_once() {
    let lab = Lab::new();
    let yaml = "\
name: bad
recipe: quik
seeds: 0
set:
  optimizer.lrr: 1e-3
  train.epochs: many
  train.batch_size: 3
  train.batch_size: 4
axes:
  loss.name: [ce, bcee]
  empty: []
stage: {}
";
    let answer = refused(&lab, yaml, &[]).says(&[
        "bad.yaml:2:9: ",
        "`quik`",
        "bad.yaml:3:8: `seeds` must be at least 1",
        "bad.yaml:5:3: unknown key `optimizer.lrr` in `set`; did you mean `optimizer.lr`?",
        "  5 |   optimizer.lrr: 1e-3",
        "bad.yaml:6:17: `train.epochs` expects a whole number",
        "bad.yaml:8:3: key `train.batch_size` stands twice",
        "bad.yaml:10:19: ",
        "did you mean `bce`?",
        "bad.yaml:11:10: axis `empty` has no values",
        "bad.yaml:12:1: unknown key `stage` in experiment; did you mean `stages`?",
    ]);
    assert_eq!(
        answer.stderr.matches("quik`").count(),
        1,
        "{}",
        answer.stderr
    );

    // Problems of a plan, all of them, too.
    let yaml = "recipe: quick\nset: {train.batch_size: 99999}\naxes: {model.patch_size: [8, 7]}\nbaseline: {model.patch_size: 9}\n";
    refused(&lab, yaml, &[]).says(&["bad.yaml:"]);

    // Two files: the problems of both.
    lab.write("worse.yaml", "recipe: quick\naxs: {}\n");
    lab.ablate("run bad.yaml worse.yaml", &[])
        .expect(2)
        .says(&["bad.yaml:", "worse.yaml:2:1: unknown key `axs`"]);
}

#[test]
fn mistakes_on_the_command_line_are_named() {
    let lab = Lab::new();
    let yaml = "recipe: quick\naxes: {loss.name: [ce, bce]}\nprofiles: {quick: {seeds: 2}, paper: {seeds: 3}}\n";
    for (options, parts) in [
        (
            ["--profile", "papr"],
            ["no profile `papr`", "did you mean `paper`?"],
        ),
        (
            ["--only", "los.name=ce"],
            ["unknown axis `los.name`", "did you mean `loss.name`?"],
        ),
        (
            ["--only", "loss.name=bcee"],
            ["no label `bcee`", "did you mean `bce`?"],
        ),
        (
            ["--set", "optimizer.lrr=1"],
            [
                "unknown key `optimizer.lrr`",
                "did you mean `optimizer.lr`?",
            ],
        ),
        (
            ["--set", "train.epochs=few"],
            ["--set:", "expects a whole number"],
        ),
        (["--seeds", "x"], ["--seeds x: ", "--seeds 0,1,2"]),
        (["--seeds", "0"], ["--seeds 0: ", "--seeds 5"]),
    ] {
        refused(&lab, yaml, &options).says(&parts);
    }
    lab.ablate("run los", &[])
        .expect(2)
        .says(&["los: no such file", "did you mean `loss`?"]);
    lab.ablate("run", &[])
        .expect(2)
        .says(&["Usage: ", "run <FILE>..."]);
    lab.ablate("rum loss", &[]).expect(2).says(&["run"]);
    lab.ablate("run loss --data pictures", &[])
        .expect(2)
        .says(&["NAME=PATH"]);
    lab.ablate("run loss --slots 0", &[]).expect(2);
    assert!(lab.list(".") == ["bad.yaml"], "{:?}", lab.list("."));
}

#[test]
fn traps_of_yaml_are_explained() {
    let lab = Lab::new();
    let with =
        |rest: &str| format!("recipe: quick\nset: {{model.arch: vit_nano_patch8}}\n{rest}\n");
    for (rest, parts) in [
        (
            "axes: {augment.policy: [no, three_augment]}",
            vec!["bad.yaml:3:25: ", "`no`", "did you mean `none`?"],
        ),
        (
            "axes: {train.epochs: [010, 2]}",
            vec!["bad.yaml:3:23: ", "leading zero", "write `10`"],
        ),
        (
            "axes: {ema.eval: [yes, no]}",
            vec!["bad.yaml:3:19: ", "YAML 1.2", "write `true`"],
        ),
        (
            "axes: {train.epochs: [1.5, 2]}",
            vec!["bad.yaml:3:23: ", "whole number"],
        ),
        (
            "axes: {train.epochs: []}",
            vec!["bad.yaml:3:22: ", "has no values"],
        ),
        ("axes: {loss.name: [ce, ce]}", vec!["bad.yaml:3:24: "]),
        (
            "stages: {a: {from: b}, b: {from: a}}",
            vec!["bad.yaml:3:10: ", "circle: a -> b -> a"],
        ),
        (
            "stages: {a: {}, b: {from: c}}",
            vec!["bad.yaml:3:27: ", "unknown stage `c`"],
        ),
        ("x-a: &a [*a]", vec!["bad.yaml:3:"]),
        ("axes: {a: 'x", vec!["bad.yaml:"]),
        ("axes: {optimizer.lr: [.nan]}", vec!["bad.yaml:3:"]),
    ] {
        refused(&lab, &with(rest), &[]).says(&parts);
    }
    refused(&lab, "", &[]).says(&["bad.yaml: the file is empty"]);
    refused(&lab, "- a\n", &[]).says(&["bad.yaml:1:1: ", "expects a map, not a list"]);

    // A recipe of one's own that inherits from itself by way of another.
    lab.write("recipes/mine.yaml", "inherits: yours\n");
    lab.write("recipes/yours.yaml", "inherits: mine\n");
    refused(&lab, "recipe: mine\n", &[]).says(&["circle: mine -> yours -> mine"]);

    // 1e3 is a number, and its label is as written.
    lab.write("fine.yaml", &with("axes: {train.epochs: [1e1, 2]}"));
    let json = lab
        .ablate("plan fine.yaml --format json", &[])
        .expect(0)
        .json();
    assert_eq!(json["table"][0]["variant"], "1e1");
}

#[test]
fn hostile_files_end_in_a_message() {
    let lab = Lab::new();
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..10 {
        let below = vec![format!("*a{}", level - 1); 10].join(",");
        bomb += &format!("a{level}: &a{level} [{below}]\n");
    }
    refused(&lab, &bomb, &[]).says(&["bad.yaml:", "aliases"]);
    for deep in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        "? ".repeat(50_000),
    ] {
        let answer = refused(&lab, &deep, &[]).says(&["bad.yaml:"]);
        assert!(
            answer.stderr.len() < 4096,
            "{} bytes of message",
            answer.stderr.len()
        );
    }
    let wide: String = (0..60_000).map(|n| format!("k{n}: 1\n")).collect();
    refused(&lab, &wide, &[]).says(&["bad.yaml:1:1: unknown key `k0`"]);
    lab.write("huge.yaml", &"# nothing\n".repeat(2_000_000));
    lab.ablate("plan huge.yaml", &[])
        .expect(2)
        .says(&["huge.yaml: ", "bytes"]);
    std::fs::write(lab.path("binary.yaml"), b"recipe: quick\n\xff\xfe").unwrap();
    lab.ablate("plan binary.yaml", &[])
        .expect(2)
        .says(&["binary.yaml: not UTF-8"]);
    std::fs::create_dir(lab.path("folder.yaml")).unwrap();
    lab.ablate("plan folder.yaml", &[])
        .expect(2)
        .says(&["folder.yaml: not a file"]);
    // A name can't steer a terminal or leave the reports' folder.
    refused(&lab, "name: ../../x\nrecipe: quick\n", &[]).says(&["is no name for an experiment"]);
    let steer = refused(&lab, "recipe: quick\n\"a\\e[2Jb\": 1\n", &[]);
    assert!(!steer.stderr.contains('\u{1b}'), "{:?}", steer.stderr);
}

#[test]
fn a_recipe_of_ones_own_inherits() {
    let lab = Lab::with_pictures(8);
    lab.write(
        "recipes/mine.yaml",
        "inherits: quick\ntrain: {epochs: 3, batch_size: 8}\n",
    );
    lab.write(
        "mine.yaml",
        &SMALL
            .replace("recipe: quick", "recipe: mine")
            .replace("  train: {epochs: 2, batch_size: 16}\n", "")
            .replace("name: small", "name: mine"),
    );
    let json = lab
        .ablate("plan mine.yaml --format json", &[])
        .expect(0)
        .json();
    // 72 pictures in batches of 8 for 3 epochs.
    assert_eq!(json["table"][0]["steps"], 27);
}
