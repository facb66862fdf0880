//! Tests of planning stages of programs: placeholders, parameters, identity.

use super::model::Plan;
use super::{DataDescription, plan};
use crate::rundir::stage::{StageSpec, Task};
use crate::spec::command::Better;
use crate::spec::experiment::{self, Options};
use crate::spec::problem::Problems;
use std::collections::HashSet;
use std::path::Path;

fn plan_in(folder: Option<&Path>, text: &str, set: &[&str]) -> Result<Plan, Problems> {
    let options = Options {
        set: set.iter().map(|set| (*set).to_owned()).collect(),
        ..Options::default()
    };
    let data =
        |_: &_| -> Result<DataDescription, String> { Err("no data set is asked for".into()) };
    plan(
        experiment::read("e.yaml", text, folder, &options)?,
        None,
        &data,
    )
}

fn planned(text: &str) -> Plan {
    plan_in(None, text, &[]).unwrap_or_else(|problems| panic!("{problems}"))
}

fn problems(text: &str) -> String {
    plan_in(None, text, &[])
        .map(|plan| plan.variants.len())
        .unwrap_err()
        .to_string()
}

fn argv(plan: &Plan, index: u32) -> Vec<String> {
    plan.stage_spec(index).command.unwrap().argv
}

const SWEEP: &str = "\
name: sweep
params: {lr: 0.1, layers: [64, 32], deep: {rate: 1e-7}, flag: true, note: \"a b\", none: null}
stages:
  train:
    command: [python, train.py, \"--lr={params.lr}\", \"{params.layers}\", \"{params.deep.rate}\", \"{params.flag}\", \"{params.note}\", \"{params.none}\", \"{seed}\", \"{{}}\"]
    environment: {RATE: \"r{params.lr}\", PLAIN: 1}
    metrics: [accuracy, {name: nll, better: lower, unit: nats}]
    outputs: [b.json, a/model.bin]
axes: {params.lr: [0.1, 1, 1.0]}
seeds: 2
";

#[test]
fn placeholders_are_filled_by_variant_and_seed() {
    let plan = planned(SWEEP);
    assert_eq!((plan.variants.len(), plan.stages.len()), (3, 6));
    assert_eq!(
        argv(&plan, 0),
        [
            "python", "train.py", "--lr=0.1", "[64,32]", "1e-7", "true", "a b", "null", "0", "{}"
        ]
    );
    assert_eq!(argv(&plan, 1)[8], "1");
    // An integer is passed on as one, so it is another value.
    assert_eq!(
        (argv(&plan, 2)[2].as_str(), argv(&plan, 4)[2].as_str()),
        ("--lr=1", "--lr=1.0")
    );
    let spec = plan.stage_spec(0);
    assert_eq!(spec.task, Task::Command);
    let command = spec.command.as_ref().unwrap();
    assert_eq!(command.environment["RATE"], "r0.1");
    assert_eq!(command.params["deep.rate"], serde_json::json!(1e-7));
    assert_eq!(command.outputs, ["a/model.bin", "b.json"]);
    assert!(command.fields.is_empty());
    let report = &plan.experiment.report;
    assert_eq!(report.metrics, ["accuracy", "nll"]);
    assert_eq!(report.described[1].better, Some(Better::Lower));
}

#[test]
fn what_is_written_is_read_back_with_its_identity() {
    let plan = planned(SWEEP);
    let mut known = HashSet::new();
    for index in 0..plan.stages.len() as u32 {
        let spec = plan.stage_spec(index);
        assert_eq!(spec.compute_fingerprint().to_string(), spec.fingerprint);
        assert!(known.insert(spec.fingerprint.clone()));
        let json = serde_json::to_string(&spec).unwrap();
        assert!(!json.contains("recipe"), "{json}");
        assert_eq!(serde_json::from_str::<StageSpec>(&json).unwrap(), spec);
    }
}

/// Only what the program is told can change its stage.
#[test]
fn fields_count_where_a_placeholder_names_them() {
    let text = |argument: &str, field: &str| {
        format!("recipe: quick\nset: {{{field}}}\nstages:\n  a: {{command: [x, \"{argument}\"]}}\n")
    };
    let fingerprint = |text: &str| planned(text).stages[0].fingerprint;
    let lr = "{optimizer.lr}";
    let plain = fingerprint(&text("y", "train.epochs: 1"));
    assert_eq!(plain, fingerprint(&text("y", "train.epochs: 2")));
    assert_ne!(
        fingerprint(&text(lr, "optimizer.lr: 0.1")),
        fingerprint(&text(lr, "optimizer.lr: 0.2"))
    );
    let spec = planned(&text(lr, "optimizer.lr: 0.25"))
        .stage_spec(0)
        .command
        .unwrap();
    assert_eq!(spec.argv[1], "0.25");
    assert_eq!(spec.fields["optimizer.lr"], serde_json::json!(0.25));
    // No recipe is needed where a default will do.
    assert_eq!(
        argv(&planned("stages: {a: {command: [x, \"{mix.prob}\"]}}"), 0)[1],
        "1.0"
    );
}

#[test]
fn a_stage_may_be_told_some_parameters_only() {
    let plan = planned(
        "params: {data: small, lr: 1}\n\
         stages:\n\
         \x20 prepare: {command: [prepare, \"{params.data}\"], params: [data]}\n\
         \x20 train: {from: prepare, command: [train]}\n\
         axes: {params.lr: [1, 2, 3]}\n",
    );
    // One preparation for three trainings.
    assert_eq!(plan.stages.len(), 4);
    let spec = plan.stage_spec(1);
    assert_eq!(spec.parent.unwrap(), plan.stages[0].fingerprint.to_string());
    assert_eq!(spec.command.unwrap().params.len(), 2);
}

#[test]
fn set_reaches_parameters() {
    let plan = plan_in(
        None,
        SWEEP,
        &["params.note=c", "stages.train.params.flag=false"],
    )
    .unwrap();
    assert_eq!(argv(&plan, 0)[5..7], ["false", "c"]);
    let problem = plan_in(None, SWEEP, &["params.nots=c"])
        .unwrap_err()
        .to_string();
    assert!(
        problem.starts_with(
            "--set:1:13: unknown parameter `params.nots`; did you mean `params.note`?"
        ),
        "{problem}"
    );
}

#[test]
fn inputs_are_part_of_the_identity_and_their_place_is_not() {
    let text = "stages: {a: {command: [x], inputs: [train.py, \"data/*.csv\"]}}";
    let folder = || {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        std::fs::write(folder.path().join("train.py"), "1").unwrap();
        std::fs::write(folder.path().join("data/a.csv"), "2").unwrap();
        folder
    };
    let (one, other) = (folder(), folder());
    let fingerprint = |folder: &tempfile::TempDir| {
        plan_in(Some(folder.path()), text, &[]).unwrap().stages[0].fingerprint
    };
    let first = fingerprint(&one);
    assert_eq!(first, fingerprint(&other));
    std::fs::write(other.path().join("data/b.csv"), "").unwrap();
    let second = fingerprint(&other);
    assert_ne!(first, second);
    std::fs::write(other.path().join("train.py"), "2").unwrap();
    assert_ne!(second, fingerprint(&other));
    std::fs::remove_file(one.path().join("train.py")).unwrap();
    let problem = plan_in(Some(one.path()), text, &[])
        .unwrap_err()
        .to_string();
    assert!(
        problem.starts_with("e.yaml:1:37: no file matches `train.py`"),
        "{problem}"
    );
}

#[test]
fn a_plan_says_what_differs() {
    let plan = planned(SWEEP);
    let other = plan.stage_spec(0);
    assert_eq!(plan.differences(2, &other)[0], "params.lr: 0.1 -> 1");
}

#[test]
fn problems_have_places_and_the_nearest_name() {
    for (text, expected) in [
        (
            "stages: {a: {command: [x, \"{optimizer.l}\"]}}",
            "e.yaml:1:27: unknown placeholder `{optimizer.l}`; did you mean `{optimizer.lr}`?",
        ),
        (
            "params: {width: 1}\nstages: {a: {command: [x, \"{width}\"]}}",
            "e.yaml:2:27: unknown placeholder `{width}`; did you mean `{params.width}`?",
        ),
        (
            "params: {width: 1}\nstages: {a: {command: [x, \"{params.wdth}\"]}}",
            "did you mean `{params.width}`?",
        ),
        (
            "stages: {a: {command: [x, \"{optimizer.lr}\"]}}",
            "e.yaml:1:27: `{optimizer.lr}` has no value; name a `recipe`",
        ),
        (
            "stages: {a: {command: [x, \"{oops\"]}}",
            "e.yaml:1:27: `{oops` doesn't close a placeholder",
        ),
        (
            "stages: {a: {command: [x, {optimizer.lr: null}]}}",
            "expects words, not a map; quote an argument with a placeholder",
        ),
        (
            "stages: {a: {command: python train.py}}",
            "e.yaml:1:23: `command` expects a list of words",
        ),
        ("stages: {a: {command: []}}", "`command` names no program"),
        (
            "stages: {a: {command: [x], metrcs: [a]}}",
            "unknown key `metrcs` in stage `a`; did you mean `metrics`?",
        ),
        (
            "stages: {a: {command: [x], metrics: [a/b]}}",
            "`a/b` is no name for a metric",
        ),
        (
            "stages: {a: {command: [x], metrics: [{name: a, better: more}]}}",
            "`better` is higher or lower, not more",
        ),
        (
            "stages: {a: {command: [x], outputs: [../y]}}",
            "leaves the stage's folder",
        ),
        (
            "stages: {a: {command: [x], outputs: [/y]}}",
            "leaves the stage's folder",
        ),
        (
            "stages: {a: {command: [x], environment: {ABLATE_SEED: 1}}}",
            "no variable that `environment` can set",
        ),
        (
            "stages: {a: {command: [x], params: [lr]}}",
            "unknown parameter `lr`",
        ),
        (
            "stages: {a: {command: [x], task: train}}",
            "stage `a` has both a `task` and a `command`",
        ),
        (
            "stages: {a: {command: [x], init: w.pth}}",
            "which `init` means nothing to",
        ),
        (
            "stages: {a: {task: command}}\nrecipe: quick",
            "stage `a` has no `command`",
        ),
        (
            "recipe: quick\nstages: {a: {inputs: [x]}}",
            "`inputs` of stage `a` is for stages with a `command`",
        ),
        (
            "recipe: quick\nparams: {a: 1}",
            "e.yaml:2:1: `params` is for stages with a `command`",
        ),
        (
            "params: {width: 1}\nstages: {a: {command: [x]}}\naxes: {params.widht: [1, 2]}",
            "unknown parameter `params.widht`; did you mean `params.width`?",
        ),
        (
            "params: {a: 1}\nstages: {a: {command: [x]}}\naxes: {params.a: [1, two]}",
            "e.yaml:3:22: `params.a` is declared as a number, not a string",
        ),
        (
            "params: {a: 1}\nstages: {a: {command: [x]}}\nreport: {metrics: [top1]}",
            "unknown metric `top1`",
        ),
        (
            "recipe: quick\nstages:\n  a: {command: [x]}\n  b: {from: a}\n",
            "stage `b` starts from the weights of stage `a`, whose program promises none",
        ),
    ] {
        let shown = problems(text);
        assert!(shown.contains(expected), "{text}\n{shown}");
        assert!(shown.starts_with("e.yaml:"), "{shown}");
    }
}
