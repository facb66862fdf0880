//! Several `ablate run` on one store: the work is shared, nothing is trained twice.

use crate::lab::{Group, Lab, SMALL, longer, wait_for};
use serde_json::Value;

/// [`longer`] with two seeds: four stages.
fn four() -> String {
    longer().replace("seeds: 1", "seeds: 2")
}

fn attempts(lab: &Lab, store: &str) -> Vec<Value> {
    lab.ask(
        store,
        "SELECT fingerprint, COUNT(*) AS attempts, SUM(status = 'done') AS done FROM v_attempts
         GROUP BY fingerprint",
    )
}

/// Waits until the store has attempts that run.
fn wait_for_workers(lab: &Lab, store: &str, count: i64) {
    wait_for("workers", || {
        let answer = lab.ablate(&format!("status --store {store} --format json"), &[]);
        if answer.code != Some(0) {
            // It is just being made.
            return None;
        }
        let running = answer.json()["running"].as_array()?.len() as i64;
        (running >= count).then_some(())
    });
}

fn start(lab: &Lab, line: &str) -> Group {
    lab.start(&format!("{line} --slots 1"))
}

#[test]
fn two_runs_share_one_store() {
    let lab = Lab::with_pictures(12);
    lab.write("four.yaml", &four());
    lab.write("small.yaml", SMALL);
    lab.ablate("run four.yaml --store calm", &[]).expect(0);

    let first = start(&lab, "run four.yaml --store shared");
    wait_for_workers(&lab, "shared", 1);
    // The same experiment, and another one that has nothing to do with it.
    let second = start(&lab, "run four.yaml small.yaml --store shared");
    let pid = first.pid();
    let first = first.end().expect(0);
    let second = second.end().expect(0).says(&[
        &format!("joined the `ablate run` of pid {pid} on host "),
        "which has ",
        "each is trained once",
    ]);
    assert!(!first.stderr.contains("joined"), "{}", first.stderr);
    for answer in [&first, &second] {
        assert!(answer.stdout.contains("Two losses"), "{}", answer.stdout);
    }
    let attempts = attempts(&lab, "shared");
    assert_eq!(attempts.len(), 8);
    for stage in attempts {
        assert_eq!((&stage["attempts"], &stage["done"]), (&1.into(), &1.into()));
    }
    assert!(lab.list("shared/owners").is_empty());
    lab.ablate("run four.yaml --store shared", &[])
        .expect(0)
        .says(&["4 of 4 stages already done"]);
    lab.ablate("run small.yaml --store calm", &[]).expect(0);
    lab.same_results("calm", "shared");
}

#[test]
fn the_survivor_finishes() {
    let lab = Lab::with_pictures(12);
    lab.write("four.yaml", &four());
    lab.ablate("run four.yaml --store calm", &[]).expect(0);
    let first = start(&lab, "run four.yaml --store shared");
    wait_for_workers(&lab, "shared", 1);
    let second = start(&lab, "run four.yaml --store shared");
    wait_for_workers(&lab, "shared", 2);
    let pid = first.pid();
    first.signal(libc::SIGKILL);
    assert_eq!(first.end().code, None);
    second.end().expect(0).says(&[
        &format!("the `ablate run` of pid {pid} on "),
        "taking over 1",
    ]);
    let attempts = attempts(&lab, "shared");
    assert_eq!(attempts.len(), 4);
    assert!(attempts.iter().all(|stage| stage["done"] == 1));
    let all: i64 = attempts
        .iter()
        .map(|stage| stage["attempts"].as_i64().unwrap())
        .sum();
    assert_eq!(all, 5, "{attempts:?}");
    lab.same_results("calm", "shared");
}

#[test]
fn leases_show_who_is_at_work() {
    let lab = Lab::with_pictures(12);
    lab.write("four.yaml", &four());
    let run = start(&lab, "run four.yaml --store shared");
    wait_for_workers(&lab, "shared", 1);
    let leases = lab.ask("shared", "SELECT * FROM v_leases");
    assert_eq!(leases.len(), 1);
    assert_eq!(leases[0]["pid"], run.pid());
    run.signal(libc::SIGINT);
    run.end().expect(130);
    assert!(lab.ask("shared", "SELECT * FROM v_leases").is_empty());
}

#[test]
fn limits_end_a_run() {
    let lab = Lab::with_pictures(12);
    lab.write("four.yaml", &four());
    // No time at all is no budget.
    lab.ablate("run four.yaml --budget 0s", &[])
        .expect(2)
        .says(&["--budget", "`90s`"]);
    let long = four().replace("epochs: 24", "epochs: 2000");
    lab.write("long.yaml", &long);
    lab.ablate("run long.yaml --budget 2s --store timed", &[])
        .expect(4)
        .says(&["--budget", "the same command goes on"]);
    let left = lab.ask(
        "timed",
        "SELECT message FROM v_attempts WHERE status = 'failed'",
    );
    assert!(!left.is_empty());
    assert!(
        left[0]["message"]
            .as_str()
            .unwrap()
            .contains("the end of --budget"),
        "{left:?}"
    );

    // Every stage of this one diverges.
    let wild = SMALL.replace(
        "train:",
        "schedule.warmup_epochs: 0\n  optimizer: {name: sgd, lr: 1e6, max_grad_norm: null}\n  train:",
    );
    lab.write("wild.yaml", &wild);
    lab.ablate("run wild.yaml --store canary --canary --slots 2", &[])
        .expect(1)
        .says(&["the canary failed", "1 failed", "3 left"]);
    assert_eq!(attempts(&lab, "canary").len(), 1);
    lab.ablate("run wild.yaml --store some --max-fail 2 --slots 1", &[])
        .expect(1)
        .says(&["2 stages have failed (--max-fail)", "2 failed", "2 left"]);
    assert_eq!(attempts(&lab, "some").len(), 2);
}

#[test]
fn what_is_urgent_goes_first() {
    let lab = Lab::new();
    lab.write(
        "urgent.yaml",
        "name: urgent
params: {n: 0}
seeds: 2
stages:
  it:
    command: [sh, -c, 'echo {params.n} >> order; echo \"{{\\\"a\\\": 1}}\" > \"$ABLATE_RUN_DIR/metrics.json\"']
    metrics: [a]
axes: {n: {values: [1, 2, 3], path: params.n}}
priority: {n: {3: 10, 2: 5}}
",
    );
    lab.ablate("run urgent.yaml --quiet --slots 1 --store s", &[])
        .expect(0);
    let order = String::from_utf8(lab.read("order")).unwrap();
    assert_eq!(order.split_whitespace().collect::<String>(), "332211");
}
