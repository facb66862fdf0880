//! Stages: trained once however many runs need them, and the same wherever they are trained.

use crate::lab::{Lab, SMALL};

const TWO_STAGES: &str = "\
name: tuned
title: Learning rate of the fine-tune
claim: None
recipe: quick
seeds: 1
set:
  model.arch: vit_nano_patch8
  train: {epochs: 1, batch_size: 16}
  data: {name: pictures, root: pictures}
stages:
  pretrain: {set: {train.resolution: 24}}
  finetune: {from: pretrain, recipe: quick_finetune, set: {train.epochs: 1, train.resolution: 48}}
axes:
  lr: {values: [1e-5, 1e-4], path: optimizer.lr, stages: [finetune]}
";

#[test]
fn a_shared_pretraining_is_trained_once() {
    let lab = Lab::with_pictures(10);
    lab.write("tuned.yaml", TWO_STAGES);
    let plan = lab
        .ablate("plan tuned.yaml --format json", &[])
        .expect(0)
        .json();
    assert_eq!(plan["runs"], 2);
    assert_eq!(plan["stages_named"], 4);
    assert_eq!(plan["stages"], 3);
    assert_eq!(plan["stages_shared"], 1);

    lab.ablate("run tuned.yaml", &[])
        .expect(0)
        .says(&["3 of 3 stages done"]);
    assert_eq!(lab.stages("ablate-store").len(), 3);
    let shared = lab.ask(
        "ablate-store",
        "SELECT fingerprint, COUNT(*) AS runs FROM v_results WHERE stage = 'pretrain' AND metric = 'top1'
         GROUP BY fingerprint",
    );
    assert_eq!((shared.len(), &shared[0]["runs"]), (1, &2.into()));
    let orders = lab.ask(
        "ablate-store",
        "SELECT stage, started, ended FROM v_attempts ORDER BY started",
    );
    assert_eq!(orders.len(), 3);
    assert_eq!(orders[0]["stage"], "pretrain");
    assert!(orders[0]["ended"].as_f64() <= orders[1]["started"].as_f64());

    // Another experiment that needs the same stage finds it done; two files in one command share, too.
    lab.write(
        "wider.yaml",
        &TWO_STAGES
            .replace("name: tuned", "name: wider")
            .replace("[1e-5, 1e-4]", "[1e-4, 1e-3]"),
    );
    lab.ablate("run tuned.yaml wider.yaml", &[])
        .expect(0)
        .says(&["3 of 4 stages already done", "4 of 4 stages done (1 now)"])
        .shows(&["1e-5", "1e-3"]);
    assert_eq!(lab.stages("ablate-store").len(), 4);
}

#[test]
fn results_do_not_depend_on_slots_and_threads() {
    let lab = Lab::with_pictures(16);
    lab.write(
        "small.yaml",
        &SMALL.replace(
            "axes:",
            "  augment: {policy: three_augment, color_jitter: 0.3}\n  model.drop_path: 0.1\naxes:",
        ),
    );
    lab.ablate("run small.yaml --store one --slots 1", &[])
        .expect(0);
    lab.ablate("run small.yaml --store two --slots 2", &[])
        .expect(0);
    lab.ablate(
        "run small.yaml --store threads --slots 1 --threads-per-slot 2",
        &[],
    )
    .expect(0);
    assert_eq!(lab.stages("one").len(), 4);
    lab.same_results("one", "two");
    lab.same_results("one", "threads");
    // A store of its own trained each of them.
    for store in ["one", "two", "threads"] {
        let attempts = lab.ask(store, "SELECT COUNT(*) AS n FROM v_attempts");
        assert_eq!(attempts[0]["n"], 4, "{store}");
    }
    // Seeds and losses make a difference, or nothing above would mean anything.
    let results = lab.results("one");
    for (index, one) in results.iter().enumerate() {
        assert!(results[index + 1..].iter().all(|other| other.1 != one.1));
    }
}

#[test]
fn an_evaluation_is_a_stage_of_its_own() {
    let lab = Lab::with_pictures(8);
    let yaml = TWO_STAGES
        .replace("name: tuned", "name: tested")
        .replace("  finetune:", "  large: {from: pretrain, task: evaluate, set: {train.resolution: 24, eval.resolution: 48}}\n  finetune:")
        .replace("[1e-5, 1e-4]", "[1e-4]");
    lab.write("tested.yaml", &yaml);
    lab.ablate("run tested.yaml", &[]).expect(0);
    let rows = lab.ask(
        "ablate-store",
        "SELECT stage, resolution FROM v_results WHERE metric = 'top1' ORDER BY stage",
    );
    let found: Vec<(&str, i64)> = rows
        .iter()
        .map(|row| {
            (
                row["stage"].as_str().unwrap(),
                row["resolution"].as_i64().unwrap(),
            )
        })
        .collect();
    assert_eq!(found, [("finetune", 48), ("large", 48), ("pretrain", 24)]);

    // One stage's value from the command line leaves the other stages as they are.
    lab.ablate("plan tested.yaml --set stages.finetune.train.epochs=2", &[])
        .expect(0)
        .shows(&["2 done, 1 to run"]);
    lab.ablate("plan tested.yaml --set stages.finetun.train.epochs=2", &[])
        .expect(2)
        .says(&["did you mean `finetune`?"]);
}

#[test]
fn the_longest_stage_starts_first() {
    let lab = Lab::with_pictures(8);
    let yaml = SMALL
        .replace("seeds: 2", "seeds: 1")
        .replace("    ce: {loss.name: ce}", "    ce: {train.epochs: 1}")
        .replace("    bce: {loss.name: bce}", "    bce: {train.epochs: 3}");
    lab.write("lengths.yaml", &yaml);
    lab.ablate("run lengths.yaml --slots 1", &[]).expect(0);
    let order = lab.ask(
        "ablate-store",
        "SELECT run FROM v_attempts ORDER BY started",
    );
    assert_eq!(order[0]["run"], "small/bce/s0");
    assert_eq!(order[1]["run"], "small/ce/s0");
}

/// A softmax over 40,000 tokens has more numbers than any machine has bytes.
#[test]
fn a_stage_too_large_for_the_machine_is_refused() {
    let lab = Lab::with_pictures(8);
    let text = SMALL
        .replace("vit_nano_patch8", "vit_giant_patch8")
        .replace("epochs: 2,", "epochs: 2, resolution: 1600,");
    lab.write("large.yaml", &text);
    lab.ablate("plan large.yaml", &[]).expect(0).shows(&[
        "memory    up to",
        "too much for it",
        "needs about",
    ]);
    lab.ablate("run large.yaml --device cpu", &[])
        .expect(2)
        .says(&["needs about", "GiB of memory", "too large for this machine"]);
    assert!(
        lab.list("ablate-store/stages").is_empty(),
        "nothing was started"
    );
}
