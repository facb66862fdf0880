//! Stages that wait, and the scheduler that is asked for what.

use crate::lab::{Group, Lab, wait_for};
use serde_json::Value;

/// One stage for each script, in this order of priority.
fn scripts(lab: &Lab, scripts: &[(&str, &str)]) {
    let mut text = "name: waiting
params: {script: \"\"}
seeds: 1
stages:
  it:
    command: [sh, -c, \"{params.script}\"]
    metrics: [accuracy]
axes:
  it:
"
    .to_owned();
    for (name, script) in scripts {
        text += &format!("    {name}: {{params.script: '{script}'}}\n");
    }
    let priorities: Vec<String> = (scripts.iter().rev().enumerate())
        .map(|(priority, (name, _))| format!("{name}: {priority}"))
        .collect();
    text += &format!("priority: {{it: {{{}}}}}\n", priorities.join(", "));
    lab.write("waiting.yaml", &text);
}

/// What is said of the only stage of the run, once its reason is this.
fn because(lab: &Lab, run: &str, reason: &str) -> String {
    let name = format!("waiting/{run}/s0");
    let stage = wait_for(reason, || {
        let answer = lab.ablate("why --store s --format json", &[&name]);
        if answer.code != Some(0) {
            return None;
        }
        let stage = answer.json()["stages"][0].clone();
        (stage["reason"] == reason).then_some(stage)
    });
    assert_eq!(stage["status"], "waits");
    let lines = stage["because"].as_array().unwrap();
    let lines: Vec<&str> = lines.iter().filter_map(Value::as_str).collect();
    lines.join("\n")
}

fn stop(lab: &Lab, run: Group) {
    lab.ablate("stop --now --store s", &[]).expect(0);
    run.end();
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

#[test]
fn a_scheduler_says_for_what_its_stages_wait() {
    let lab = Lab::new();
    scripts(
        &lab,
        &[
            ("fails", "exit 74"),
            ("sleeps", "sleep 600"),
            ("last", "true"),
        ],
    );
    let run = lab.start("run waiting.yaml --store s --slots 1");
    // It is tried again in some seconds; meanwhile the next one has the slot.
    let text = because(&lab, "fails", "pause");
    has(
        &text,
        &["tried again in ", " of 2): device_lost", "attempt 1 on cpu"],
    );
    let text = because(&lab, "last", "slots");
    has(
        &text,
        &[
            "for a slot: 1 stage runs",
            "sleeps",
            " on cpu:0",
            "so says `ablate run` (pid ",
        ],
    );
    stop(&lab, run);
    lab.ablate("why waiting/last/s0 --store s", &[])
        .expect(0)
        .shows(&["no `ablate run` is at work on this store"]);
    // With a canary; the first one is the next one's cause to wait, though it is in its pause.
    let run = lab.start("run waiting.yaml --store s --slots 2 --canary");
    let text = because(&lab, "last", "canary");
    has(
        &text,
        &["the canary, has to be done before the others", "fails"],
    );
    stop(&lab, run);
}

#[test]
fn a_disk_without_room_is_a_reason() {
    let lab = Lab::new();
    scripts(&lab, &[("only", "true")]);
    let run = lab.start("run waiting.yaml --store s --min-free 900T");
    let text = because(&lab, "only", "disk");
    has(&text, &["less than the reserve of 900.0 TiB (--min-free)"]);
    stop(&lab, run);
}

#[test]
fn why_a_failure_was_followed_by_another_attempt_is_told_as_it_was() {
    let lab = Lab::new();
    scripts(&lab, &[("fails", "exit 71")]);
    lab.ablate("run waiting.yaml --store s", &[]).expect(1);
    lab.ablate("run waiting.yaml --store s --retry-failed", &[])
        .expect(1);
    lab.ablate("why waiting/fails/s0 --store s", &[])
        .expect(0)
        .shows(&[
            "data: ",
            "; tried again by a later `ablate run --retry-failed`",
        ]);
}
