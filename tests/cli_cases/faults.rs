//! Real signals to real processes: nothing is lost, nothing is done twice, and the result is the same.

use crate::lab::{Lab, SMALL, is_alive, longer, wait_for};
use serde_json::Value;

/// The stages of a store that are in the middle of training, with their workers.
fn busy(lab: &Lab, store: &str, epochs: usize) -> Option<Vec<(String, i64)>> {
    let workers = lab.stages(store).into_iter().filter_map(|stage| {
        let events = lab.events(store, &stage);
        let of = |kind: &str| events.iter().filter(|event| event["kind"] == kind).count();
        let pid = events
            .iter()
            .rev()
            .find(|event| event["kind"] == "started")?["pid"]
            .as_i64()?;
        (of("epoch") >= epochs && of("finished") == 0).then_some((stage, pid))
    });
    let workers: Vec<_> = workers.collect();
    (!workers.is_empty()).then_some(workers)
}

/// A folder with an experiment and its results when nothing comes in between.
fn undisturbed() -> Lab {
    let lab = Lab::with_pictures(20);
    lab.write("longer.yaml", &longer());
    lab.ablate("run longer.yaml --store calm", &[]).expect(0);
    lab
}

fn kill(pid: i64, signal: i32) {
    // SAFETY: a system call without memory, on a worker that was seen alive.
    unsafe { libc::kill(pid as i32, signal) };
}

fn attempts(lab: &Lab, store: &str) -> Vec<Value> {
    lab.ask(
        store,
        "SELECT fingerprint, attempt, status, failure, signal, resumed_step FROM v_attempts
         ORDER BY fingerprint, attempt",
    )
}

#[test]
fn a_killed_scheduler_takes_its_workers_along_and_loses_nothing() {
    let lab = undisturbed();
    let run = lab.start("run longer.yaml --store cut --slots 2");
    let workers = wait_for("workers in training", || busy(&lab, "cut", 2));
    run.signal(libc::SIGKILL);
    assert_eq!(run.end().code, None);
    for (_, pid) in &workers {
        wait_for("the workers' end", || (!is_alive(*pid)).then_some(()));
    }
    for (stage, _) in &workers {
        let weights = format!("cut/stages/{stage}/checkpoints/final.safetensors");
        assert!(
            !lab.path(&weights).exists(),
            "it was over before it was killed"
        );
    }
    lab.ablate("status --store cut", &[])
        .expect(0)
        .shows(&["longer"]);

    let next = lab.ablate("run longer.yaml --store cut", &[]).expect(0);
    lab.same_results("calm", "cut");
    let calm = lab.ablate("run longer.yaml --store calm", &[]).expect(0);
    assert_eq!(next.stdout, calm.stdout);
    // What both attempts measured stands in the store once.
    let sql = "SELECT run, metric, epoch, value FROM v_metrics WHERE metric NOT LIKE 'step/%'
               AND metric <> 'seconds' ORDER BY run, metric, epoch";
    assert_eq!(lab.ask("calm", sql), lab.ask("cut", sql));
    let attempts = attempts(&lab, "cut");
    for (stage, _) in &workers {
        let of_stage = attempts
            .iter()
            .filter(|attempt| attempt["fingerprint"] == stage.as_str());
        let states: Vec<&str> = of_stage
            .map(|attempt| attempt["status"].as_str().unwrap())
            .collect();
        assert_eq!(states.len(), 2, "{attempts:?}");
        assert_eq!(states[1], "done");
        assert_ne!(states[0], "running");
    }
}

#[test]
fn an_interrupted_run_drains_and_goes_on() {
    let lab = undisturbed();
    let run = lab.start("run longer.yaml --store cut --slots 2");
    let workers = wait_for("workers in training", || busy(&lab, "cut", 2));

    // Meanwhile others may read.
    let status = lab
        .ablate("status --store cut --format json", &[])
        .expect(0)
        .json();
    assert_eq!(status["scheduler"]["pid"].as_i64(), Some(run.pid().into()));
    lab.ask("cut", "SELECT * FROM v_runs");

    run.signal(libc::SIGINT);
    let answer = run
        .end()
        .expect(130)
        .says(&["SIGINT", "the same command goes on"]);
    assert_eq!(answer.stdout, "", "no table of half a run");
    lab.ablate("report --store cut --no-plots", &[])
        .expect(0)
        .shows(&["pending", "0 of 1"]);
    for (stage, pid) in &workers {
        assert!(!is_alive(*pid));
        let left = lab.list(&format!("cut/stages/{stage}/checkpoints"));
        assert!(!left.is_empty(), "no checkpoint of {stage}");
        let events = lab.events("cut", stage);
        assert!(
            events.iter().any(|event| event["kind"] == "checkpointed"),
            "{events:?}"
        );
    }

    lab.ablate("run longer.yaml --store cut", &[]).expect(0);
    lab.same_results("calm", "cut");
    for (stage, _) in &workers {
        let events = lab.events("cut", stage);
        let started: Vec<u64> = events
            .iter()
            .filter(|event| event["kind"] == "started")
            .map(|event| event["resumed_step"].as_u64().unwrap())
            .collect();
        assert!(
            started.len() == 2 && started[0] == 0 && started[1] > 0,
            "{started:?}"
        );
        // Every epoch once, over both attempts.
        let epochs: Vec<u64> = events
            .iter()
            .filter(|event| event["kind"] == "epoch")
            .map(|event| event["epoch"].as_u64().unwrap())
            .collect();
        assert_eq!(epochs, (0..24).collect::<Vec<u64>>());
    }
}

#[test]
fn a_killed_worker_is_started_again() {
    let lab = undisturbed();
    let run = lab.start("run longer.yaml --store cut --slots 1");
    let workers = wait_for("a worker in training", || busy(&lab, "cut", 2));
    kill(workers[0].1, libc::SIGKILL);
    run.end().expect(0).says(&["killed", "2 of 2 stages done"]);
    lab.same_results("calm", "cut");
    let attempts: Vec<Value> = attempts(&lab, "cut")
        .into_iter()
        .filter(|attempt| attempt["fingerprint"] == workers[0].0.as_str())
        .collect();
    assert_eq!(attempts.len(), 2, "{attempts:?}");
    assert_eq!(attempts[0]["failure"], "killed");
    assert_eq!(attempts[0]["signal"], libc::SIGKILL);
    assert_eq!(attempts[1]["status"], "done");
}

#[test]
fn a_failed_stage_does_not_stop_the_others() {
    let lab = Lab::with_pictures(12);
    let yaml = SMALL
        .replace("name: small", "name: fast")
        .replace("seeds: 2", "seeds: 1")
        .replace(
            "train:",
            "schedule.warmup_epochs: 0\n  optimizer: {name: sgd, max_grad_norm: null}\n  train:",
        )
        .replace("{loss: ce}", "{loss: ce, optimizer.lr: 4e-3}")
        .replace("axes:", "axes:\n  optimizer.lr: [4e-3, 1e6]");
    lab.write("fast.yaml", &yaml);
    let answer = lab.ablate("run fast.yaml --slots 1", &[]).expect(1).says(&[
        "2 of 4 stages done, 2 failed",
        "failed: ",
        "diverged",
        "  log: ",
        "attempt-1.log",
        "  hint: the loss is not finite: a lower optimizer.lr",
        "--retry-failed",
    ]);
    let log = answer
        .stderr
        .lines()
        .find_map(|line| line.strip_prefix("  log: "))
        .unwrap();
    let log = std::fs::read_to_string(lab.path(log)).unwrap();
    assert!(log.contains("error: "), "{log}");
    // Both failed cells stand in the table with their cause, and so do their differences.
    let row = answer.stdout.lines().find(|line| line.starts_with(" 1e6 "));
    let cells = row.map_or(0, |row| row.matches("diverged").count());
    assert_eq!(cells, 4, "{}", answer.stdout);
    let states = lab.ask(
        "ablate-store",
        "SELECT status, failure, COUNT(*) AS n FROM v_runs GROUP BY status, failure ORDER BY status",
    );
    assert_eq!(
        states,
        [
            serde_json::json!({"status": "done", "failure": null, "n": 2}),
            serde_json::json!({"status": "failed", "failure": "diverged", "n": 2}),
        ]
    );
    lab.ablate("plan fast.yaml --explain", &[])
        .expect(0)
        .shows(&["2 done", "2 failed before", "failed before (diverged)"]);

    let again =
        lab.ablate("run fast.yaml", &[])
            .expect(1)
            .says(&["diverged", "--retry-failed", "hint: "]);
    assert_eq!(again.stdout, answer.stdout);
    assert_eq!(attempts(&lab, "ablate-store").len(), 4);

    lab.ablate("run fast.yaml --retry-failed", &[])
        .expect(1)
        .says(&["diverged"]);
    assert_eq!(attempts(&lab, "ablate-store").len(), 6);
    lab.ablate("logs fast/1e6,ce/s0", &[])
        .expect(0)
        .shows(&["error: "]);
}

/// What a crash of the machine leaves: a line that was being written, a checkpoint that was not yet.
#[test]
fn torn_logs_and_damaged_checkpoints_cost_steps_only() {
    let lab = undisturbed();
    let run = lab.start("run longer.yaml --store cut --slots 1");
    let workers = wait_for("a worker in training", || busy(&lab, "cut", 2));
    run.signal(libc::SIGTERM);
    run.end()
        .expect(143)
        .says(&["SIGTERM", "the same command goes on"]);
    let stage = &workers[0].0;
    let torn = format!("cut/stages/{stage}/events.jsonl");
    let mut events = lab.read(&torn);
    events.extend_from_slice(b"{\"v\":1,\"seq\":");
    std::fs::write(lab.path(&torn), events).unwrap();
    let checkpoints = lab.list(&format!("cut/stages/{stage}/checkpoints"));
    assert_eq!(checkpoints.len(), 1, "{checkpoints:?}");
    let mut bytes = lab.read(&checkpoints[0]);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(lab.path(&checkpoints[0]), bytes).unwrap();

    lab.ablate("run longer.yaml --store cut", &[])
        .expect(0)
        .says(&["warning", "checkpoint refused: "]);
    lab.same_results("calm", "cut");
    let events = lab.events("cut", stage);
    let resumed: Vec<&Value> = events
        .iter()
        .filter(|event| event["kind"] == "started")
        .map(|event| &event["resumed_step"])
        .collect();
    assert_eq!(resumed, [0, 0], "a damaged checkpoint was used");
}
