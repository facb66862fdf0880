//! Attempts that are ended, and memory that is full, through the program as a user starts it.

use crate::control_group::ControlGroup;
use crate::lab::{Lab, SMALL, wait_for};
use serde_json::Value;
use std::process::{Child, Stdio};

/// An experiment of one stage that runs `script`, with `execution` as its section.
fn script(lab: &Lab, execution: &str, script: &str) {
    let lines: String = script
        .lines()
        .map(|line| format!("        {line}\n"))
        .collect();
    lab.write(
        "limits.yaml",
        &format!(
            "name: limits
params: {{script: \"\"}}
seeds: 1
execution: {execution}
stages:
  it:
    command: [sh, -c, \"{{params.script}}\"]
    metrics: [accuracy]
axes:
  it:
    only:
      params.script: |
{lines}"
        ),
    );
}

const DONE: &str =
    r#"echo '{"kind":"evaluated","metrics":{"accuracy":50}}' >> "$ABLATE_EVENTS"; exit"#;

/// Status, class, message and signal of every attempt.
fn attempts(lab: &Lab, store: &str) -> Vec<Value> {
    lab.ask(
        store,
        "SELECT status, failure, message, signal FROM v_attempts ORDER BY attempt",
    )
}

#[track_caller]
fn classes(lab: &Lab, store: &str, expected: &[Option<&str>]) -> Vec<Value> {
    let found = attempts(lab, store);
    let classes: Vec<Option<&str>> = found.iter().map(|row| row["failure"].as_str()).collect();
    assert_eq!(classes, expected, "{found:?}");
    found
}

/// A file of the only stage's program.
fn has(lab: &Lab, store: &str, name: &str) -> bool {
    let stages = lab.stages(store);
    assert_eq!(stages.len(), 1);
    lab.path(&format!("{store}/stages/{}/work/{name}", stages[0]))
        .exists()
}

#[test]
fn what_takes_too_long_goes_on_next_time() {
    let lab = Lab::new();
    let text = format!(
        "cd \"$ABLATE_RUN_DIR\"; if [ -e half ]; then {DONE}; fi
trap 'touch half; exit 0' TERM
while :; do sleep 0.05; done"
    );
    // Of the file, and of the command line, which wins.
    for (store, execution, line) in [
        ("file", "{timeout: 1s}", ""),
        ("line", "{timeout: 1h}", "--timeout 1s"),
    ] {
        script(&lab, execution, &text);
        let run = format!("run limits.yaml --quiet --slots 1 --store {store}");
        lab.ablate(&format!("{run} {line}"), &[]).expect(1);
        let found = classes(&lab, store, &[Some("timeout")]);
        let message = found[0]["message"].as_str().unwrap();
        assert!(message.contains("timeout 1s"), "{message}");
        assert!(has(&lab, store, "half"), "it was asked first");
        lab.ablate(&run, &[]).expect(0);
        classes(&lab, store, &[Some("timeout"), None]);
    }
}

/// Three seconds would be there without the short grace, whose default is ten.
#[test]
fn who_does_not_leave_in_time_is_killed() {
    let lab = Lab::new();
    let text = "cd \"$ABLATE_RUN_DIR\"
trap 'touch asked; sleep 3; touch left; exit 0' TERM
touch ready
while :; do sleep 0.05; done";
    script(&lab, "{timeout: 1s, grace: 0.3s}", text);
    lab.ablate("run limits.yaml --quiet --slots 1 --store file", &[])
        .expect(1);
    let found = classes(&lab, "file", &[Some("timeout")]);
    assert_eq!(found[0]["signal"], libc::SIGKILL);
    assert!(has(&lab, "file", "asked") && !has(&lab, "file", "left"));

    script(&lab, "{}", text);
    let line = "run limits.yaml --quiet --slots 1 --store line --grace 0.3s";
    let run = lab.start(line);
    wait_for("the program", || {
        (lab.stages("line").len() == 1 && has(&lab, "line", "ready")).then_some(())
    });
    run.signal(libc::SIGTERM);
    run.end().expect(143);
    assert!(has(&lab, "line", "asked") && !has(&lab, "line", "left"));
}

#[test]
fn what_stands_still_is_ended_and_tried_again() {
    let lab = Lab::new();
    let text = format!(
        "cd \"$ABLATE_RUN_DIR\"; if [ -e again ]; then {DONE}; fi
touch again
sleep 600"
    );
    script(&lab, "{hung_after: 1s}", &text);
    lab.ablate("run limits.yaml --quiet --slots 1 --store s", &[])
        .expect(0);
    classes(&lab, "s", &[Some("hung"), None]);
    let stage = &lab.stages("s")[0];
    let log = lab.read(&format!("s/stages/{stage}/attempt-1.log"));
    let log = String::from_utf8(log).unwrap();
    assert!(
        log.contains("stands still") && log.contains("sleep 600"),
        "{log}"
    );
}

#[test]
fn programs_that_are_short_of_memory_say_whose() {
    let lab = Lab::new();
    let text = format!(
        "cd \"$ABLATE_RUN_DIR\"; if [ -e again ]; then {DONE}; fi
touch again
echo MemoryError >&2
exit 1"
    );
    script(&lab, "{}", &text);
    lab.ablate("run limits.yaml --quiet --slots 1 --store host", &[])
        .expect(0);
    let found = classes(&lab, "host", &[Some("out_of_memory"), None]);
    let message = found[0]["message"].as_str().unwrap();
    assert!(message.starts_with("the machine's memory is full"));

    // The same step on the same GPU would need as much again.
    let text =
        "echo 'torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.' >&2; exit 1";
    script(&lab, "{}", text);
    lab.ablate("run limits.yaml --quiet --slots 1 --store gpu", &[])
        .expect(1);
    let found = classes(&lab, "gpu", &[Some("out_of_memory")]);
    let message = found[0]["message"].as_str().unwrap();
    assert!(message.starts_with("the memory of a GPU is full"));
}

#[test]
fn what_the_kernel_ends_for_want_of_memory_is_told_as_that() {
    let Some(group) = ControlGroup::of_memory(400 << 20) else {
        return;
    };
    let lab = Lab::new();
    // A line of a gigabyte, which `tail` keeps whole.
    let text = format!(
        "cd \"$ABLATE_RUN_DIR\"; if [ -e again ]; then {DONE}; fi
touch again
head -c 1000000000 /dev/zero | tail -n 1 >/dev/null
exit $?"
    );
    script(&lab, "{}", &text);
    let mut command = lab.command([
        "run",
        "limits.yaml",
        "--quiet",
        "--slots",
        "1",
        "--store",
        "s",
    ]);
    group.hold(&mut command);
    lab.finish(command).expect(0);
    let found = classes(&lab, "s", &[Some("out_of_memory"), None]);
    let message = found[0]["message"].as_str().unwrap();
    assert!(
        message.starts_with("the machine's memory is full"),
        "{message}"
    );
}

/// Starts the program in `group`; what it says is in the file `said`.
fn start(lab: &Lab, group: &ControlGroup, line: &str) -> Child {
    let mut command = lab.command(line.split_whitespace());
    group.hold(&mut command);
    command
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(lab.path("said")).unwrap())
        .spawn()
        .unwrap()
}

/// The second half of a batch comes after the first where both don't fit at once: the same batches, and a note of it
/// wherever the result is shown.
#[test]
fn a_stage_that_memory_is_too_short_for_goes_on_in_smaller_parts() {
    let Some(group) = ControlGroup::of_memory(64 << 30) else {
        return;
    };
    let lab = Lab::with_pictures(40);
    let yaml = SMALL
        .replace("seeds: 2", "seeds: 1")
        .replace("vit_nano_patch8", "vit_micro_patch8")
        .replace("epochs: 2", "epochs: 3")
        .replace("batch_size: 16", "batch_size: 256, resolution: 64")
        .replace("axes:\n  loss:\n    ce: {loss.name: ce}\n    bce: {loss.name: bce}\nbaseline: {loss: ce}\n", "")
        + "execution: {out_of_memory: smaller_parts}\n";
    lab.write("small.yaml", &yaml);
    let line = "run small.yaml --slots 1 --store s";
    let mut run = start(&lab, &group, line);
    // Between what the whole batch needs and what its half does.
    let started = "SELECT 1 FROM v_attempts WHERE status = 'running' AND pid IS NOT NULL";
    wait_for("the worker", || {
        let answer = lab.ablate("query --format json --store s", &[started]);
        (answer.code == Some(0) && answer.stdout.contains('1')).then_some(())
    });
    group.limit(&(400u64 << 20).to_string());
    let status = run.wait().unwrap();
    let said = String::from_utf8(lab.read("said")).unwrap();
    assert_eq!(status.code(), Some(0), "{said}");
    let found = lab.ask(
        "s",
        "SELECT failure, deviation FROM v_attempts ORDER BY attempt",
    );
    assert!(found.len() >= 2, "it had room enough: {found:?}");
    assert_eq!(found[0]["failure"], "out_of_memory", "{found:?}");
    let deviation = found[found.len() - 1]["deviation"].as_str().unwrap();
    assert!(
        deviation.starts_with("train.accumulation: 1 -> "),
        "{deviation}"
    );
    lab.ablate("report small --store s --out reports --no-plots", &[])
        .expect(0)
        .shows(&["Deviation, for memory was short: train.accumulation: 1 -> "]);
}

/// No process can be started for a while: the attempt is made again, and the run goes on.
#[test]
fn a_machine_without_room_for_processes_is_waited_for() {
    let Some(group) = ControlGroup::of_processes() else {
        return;
    };
    let lab = Lab::new();
    lab.write(
        "two.yaml",
        "name: two\nseeds: 2\nstages:\n  it: {command: [sh, -c, \"sleep 1\"]}\n",
    );
    let mut run = start(&lab, &group, "run two.yaml --slots 1 --store s");
    let log = |stage: &String| lab.events("s", stage);
    wait_for("the first program", || {
        let stages = lab.stages("s");
        stages
            .iter()
            .any(|stage| !log(stage).is_empty())
            .then_some(())
    });
    // The program and its guard go, and there is no room for the next ones.
    group.limit(&(group.number("pids.current") - 4).to_string());
    let failed = "SELECT failure, message FROM v_attempts WHERE status = 'failed'";
    let found = wait_for("an attempt that can't begin", || {
        let found = lab.ask("s", failed);
        (!found.is_empty()).then_some(found)
    });
    group.limit("max");
    let status = run.wait().unwrap();
    let said = String::from_utf8(lab.read("said")).unwrap();
    assert_eq!(status.code(), Some(0), "{said}");
    assert_eq!(found[0]["failure"], "killed", "{found:?}");
    let message = found[0]["message"].as_str().unwrap();
    assert!(message.contains("can't start"), "{message}");
}
