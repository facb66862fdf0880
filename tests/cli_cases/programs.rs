//! Stages of programs that aren't ours: real shells, a real Python script, real signals.

use crate::lab::{Lab, SMALL, is_alive, wait_for};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// The Python that `python3` stands for, where there is one. (It may stand for a launcher that looks for settings in
/// the user's home.)
fn python() -> Option<String> {
    let found = Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .map(|output| String::from_utf8(output.stdout).unwrap().trim().to_owned());
    if found.is_none() {
        println!("left out: there is no python3");
    }
    found
}

/// A folder with the example, run by `python`, with fewer variants.
fn example(python: &str) -> Lab {
    let lab = Lab::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
    let text = std::fs::read_to_string(source.join("program.yaml")).unwrap();
    assert!(text.contains("- python3\n"));
    lab.write(
        "program.yaml",
        &text.replace("- python3\n", &format!("- {python}\n")),
    );
    let script = std::fs::read_to_string(source.join("programs/mlp.py")).unwrap();
    lab.write("programs/mlp.py", &script);
    lab
}

fn run(store: &str) -> String {
    format!(
        "run program.yaml --store {store} --quiet --seeds 1 --only lr=0.3 --only momentum=0.9 --set params.epochs=120"
    )
}

/// Results and curves of a store, without times.
fn numbers(lab: &Lab, store: &str) -> Vec<Value> {
    let mut rows = lab.ask(
        store,
        "SELECT run, eval_set, metric, value, step, epoch, headline FROM v_results ORDER BY 1, 2, 3",
    );
    rows.extend(lab.ask(
        store,
        "SELECT run, metric, step, epoch, value FROM v_metrics ORDER BY 1, 2, 3",
    ));
    rows
}

fn stage(lab: &Lab, store: &str) -> String {
    let stages = lab.stages(store);
    assert_eq!(stages.len(), 1, "{stages:?}");
    stages[0].clone()
}

/// Waits until attempt `attempt` has said where it can go on from; returns its program's process.
fn checkpointed(lab: &Lab, store: &str, attempt: u64) -> i64 {
    wait_for("a checkpoint", || {
        let stage = lab.stages(store).first()?.clone();
        let events = lab.events(store, &stage);
        let own = || events.iter().filter(|event| event["attempt"] == attempt);
        own().find(|event| event["kind"] == "checkpointed")?;
        own().find(|event| event["kind"] == "started")?["pid"].as_i64()
    })
}

#[test]
fn an_interrupted_script_ends_with_the_same_numbers() {
    let Some(python) = python() else { return };
    let lab = example(&python);
    lab.ablate(&run("calm"), &[])
        .expect(0)
        .shows(&["ccuracy (%)"]);
    let calm = numbers(&lab, "calm");
    assert!(calm.len() > 200, "{}", calm.len());

    let group = lab.start(&run("rough"));
    let program = checkpointed(&lab, "rough", 1);
    assert!(is_alive(program));
    group.signal(libc::SIGKILL);
    drop(group);
    wait_for("the program's end", || (!is_alive(program)).then_some(()));

    let group = lab.start(&run("rough"));
    let program = checkpointed(&lab, "rough", 2);
    group.signal(libc::SIGTERM);
    group.end().expect(143);
    assert!(!is_alive(program));
    let attempts = "SELECT attempt, status, failure, resumed_step FROM v_attempts ORDER BY 1";
    let left = lab.ask("rough", attempts);
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left[1]["resumed_step"].as_i64().unwrap() > 0, "{left:?}");

    lab.ablate(&run("rough"), &[]).expect(0);
    let done = lab.ask("rough", attempts);
    assert_eq!(done[2]["status"], "done", "{done:?}");
    assert!(done[2]["resumed_step"].as_i64() >= left[1]["resumed_step"].as_i64());
    let stage = stage(&lab, "rough");
    assert_eq!(self::stage(&lab, "calm"), stage);
    for file in ["model.json", "metrics.json", "checkpoint.json"] {
        let of = |store: &str| lab.read(&format!("{store}/stages/{stage}/work/{file}"));
        assert!(of("calm") == of("rough"), "{file}");
    }
    assert_eq!(numbers(&lab, "rough"), calm);

    // What is known is not done again; a changed input is.
    lab.ablate(&run("rough"), &[]).expect(0);
    assert_eq!(lab.ask("rough", attempts).len(), 3);
    let script = String::from_utf8(lab.read("programs/mlp.py")).unwrap();
    lab.write("programs/mlp.py", &format!("{script}\n# changed\n"));
    lab.ablate(&run("rough"), &[]).expect(0);
    assert_eq!(lab.stages("rough").len(), 2);
}

const SHELLS: &str = r#"
name: shells
params: {script: ""}
stages:
  it:
    command: [sh, -c, "{params.script}"]
    environment: {WORD: "seed {seed}"}
    metrics: [accuracy, {name: nll, better: lower}]
axes:
  what:
    lines:
      params.script: |
        echo '{"kind":"step","step":3,"loss":0.5}' >> "$ABLATE_EVENTS"
        echo '{"kind":"evaluated","metrics":{"accuracy":50,"nll":2}}' >> "$ABLATE_EVENTS"
        printf '{"kind":"evaluated","step":4,"metrics":{"accuracy":61.5}}' >> "$ABLATE_EVENTS"
    file: {params.script: "echo '{\"accuracy\": 70, \"nll\": 1, \"test\": {\"accuracy\": 69}}' > \"$ABLATE_RUN_DIR/metrics.json\""}
    junk:
      params.script: |
        echo junk >> "$ABLATE_EVENTS"
        head -c 200000 /dev/zero >> "$ABLATE_EVENTS"
        printf '\n\377\376\n' >> "$ABLATE_EVENTS"
        echo '{"kind":"evaluated","metrics":{"accuracy":1,"nll":-Infinity}}' >> "$ABLATE_EVENTS"
        echo '{"kind":"evaluated","metrics":{"nll":3}}' >> "$ABLATE_EVENTS"
        (setsid sh -c 'echo $$ > "$ABLATE_RUN_DIR/stray"; sleep 300' &)
        while [ ! -s "$ABLATE_RUN_DIR/stray" ]; do sleep 0.01; done
        env | grep -E '^(WORD|ABLATE_(SEED|DEVICE|THREADS|ATTEMPT|RESUME))=' | sort
        pwd
    nothing: {params.script: "true"}
    half: {params.script: "echo '{\"accuracy\": 70}' > \"$ABLATE_RUN_DIR/metrics.json\""}
    infinite: {params.script: "echo '{\"accuracy\": 70, \"nll\": NaN}' > \"$ABLATE_RUN_DIR/metrics.json\""}
    code: {params.script: "echo the cause >&2; exit 3"}
    crash: {params.script: "kill -SEGV $$"}
    own: {params.script: "echo '{\"kind\":\"failed\",\"class\":\"data\",\"message\":\"no rows\"}' >> \"$ABLATE_EVENTS\"; exit 1"}
"#;

#[test]
fn every_end_of_a_program_is_judged() {
    let lab = Lab::new();
    lab.write("sub/shells.yaml", SHELLS);
    let line = "run sub/shells.yaml --store store --quiet --slots 2";
    let answer = lab.ablate(line, &[]).expect(1);
    let answer = answer.shows(&["61.5", "70", "nll"]);
    answer.says(&[
        "without the promised `accuracy`, `nll`",
        "the cause",
        "no rows",
    ]);
    let ends = lab.ask(
        "store",
        "SELECT variant, status, failure FROM v_runs ORDER BY variant_index",
    );
    let ends: Vec<(&str, &str, Option<&str>)> = ends
        .iter()
        .map(|row| {
            let text = |key: &str| row[key].as_str();
            (
                text("variant").unwrap(),
                text("status").unwrap(),
                text("failure"),
            )
        })
        .collect();
    assert_eq!(
        ends,
        [
            ("lines", "done", None),
            ("file", "done", None),
            ("junk", "done", None),
            ("nothing", "failed", Some("incomplete")),
            ("half", "failed", Some("incomplete")),
            ("infinite", "failed", Some("diverged")),
            ("code", "failed", Some("bug")),
            ("crash", "failed", Some("bug")),
            ("own", "failed", Some("data")),
        ]
    );
    let results = lab.ask(
        "store",
        "SELECT variant, eval_set, metric, value, headline FROM v_results
         WHERE variant IN ('lines', 'file') ORDER BY variant_index, eval_set, metric",
    );
    let results: Vec<String> = results
        .iter()
        .map(|row| {
            format!(
                "{} {} {} {} {}",
                row["variant"].as_str().unwrap(),
                row["eval_set"].as_str().unwrap(),
                row["metric"].as_str().unwrap(),
                row["value"].as_f64().unwrap(),
                row["headline"]
            )
        })
        .collect();
    assert_eq!(
        results,
        [
            "lines val accuracy 61.5 1",
            "lines val nll 2 1",
            "file test accuracy 69 0",
            "file val accuracy 70 1",
            "file val nll 1 1",
        ]
    );
    // Garbage is told with its line, and harms nothing; what the program has left behind is gone.
    let junk = lab.ask(
        "store",
        "SELECT fingerprint FROM v_runs WHERE variant = 'junk'",
    );
    let junk = junk[0]["fingerprint"].as_str().unwrap().to_owned();
    let warnings: Vec<String> = lab
        .events("store", &junk)
        .iter()
        .filter(|event| event["kind"] == "warning")
        .map(|event| event["message"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    for (warning, part) in
        warnings
            .iter()
            .zip(["line 1: not JSON", "line 2: longer", "line 3: not UTF-8"])
    {
        assert!(warning.contains(part), "{warning}");
    }
    let stray = lab.read(&format!("store/stages/{junk}/work/stray"));
    let stray: i64 = String::from_utf8(stray).unwrap().trim().parse().unwrap();
    assert!(!is_alive(stray));
    let log = String::from_utf8(lab.read(&format!("store/stages/{junk}/attempt-1.log"))).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(
        lines[..6],
        [
            "ABLATE_ATTEMPT=1",
            "ABLATE_DEVICE=cpu",
            "ABLATE_RESUME=0",
            "ABLATE_SEED=0",
            "ABLATE_THREADS=1",
            "WORD=seed 0"
        ]
    );
    assert!(lines[6].ends_with("/sub"), "{log}");
    // Nothing of it is tried again, and what is done stays done.
    lab.ablate(line, &[]).expect(1);
    let attempts = lab.ask("store", "SELECT COUNT(*) AS n FROM v_attempts");
    assert_eq!(attempts[0]["n"], 9);
}

#[test]
fn a_program_that_is_not_there_is_a_fault_of_the_file() {
    let lab = Lab::new();
    lab.write(
        "x.yaml",
        "name: x\nstages: {a: {command: [no-such-program]}}\n",
    );
    lab.ablate("run x.yaml --store store --quiet", &[])
        .expect(1)
        .says(&["config", "can't start `no-such-program`"]);
    // No program of this machine: it is tried once.
    lab.write("noshebang", "exit 0\n");
    let script = lab.path("noshebang");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).unwrap();
    lab.write(
        "z.yaml",
        &format!(
            "name: z\nstages: {{a: {{command: [{}]}}}}\n",
            script.display()
        ),
    );
    lab.ablate("run z.yaml --store z --quiet", &[])
        .expect(1)
        .says(&["config", "can't start", "format error"]);
    let attempts = lab.ask("z", "SELECT COUNT(*) AS n FROM v_attempts");
    assert_eq!(attempts[0]["n"], 1);
    lab.write(
        "y.yaml",
        "name: y\nstages: {a: {command: [sh], inputs: [gone.csv]}}\n",
    );
    lab.ablate("run y.yaml --store store --quiet", &[])
        .expect(2)
        .says(&["y.yaml:2:38: no file matches `gone.csv`"]);
}

const CHAIN: &str = r#"
name: chain
params: {text: one, lr: 1}
stages:
  prepare:
    command: [sh, -c, "cat source.txt > \"$ABLATE_RUN_DIR/data.txt\"; echo {params.text} >> \"$ABLATE_RUN_DIR/data.txt\""]
    inputs: [source.txt]
    outputs: [data.txt]
    params: [text]
  count:
    from: prepare
    command: [sh, -c, "echo \"{{\\\"lines\\\": $(wc -l < \"$ABLATE_PARENT_DIR/data.txt\")}}\" > \"$ABLATE_RUN_DIR/metrics.json\""]
    metrics: [lines]
axes: {params.lr: [1, 2]}
"#;

#[test]
fn programs_go_on_from_programs() {
    let lab = Lab::new();
    lab.write("chain.yaml", CHAIN);
    lab.write("source.txt", "a\nb\n");
    let line = "run chain.yaml --store store --quiet";
    lab.ablate(line, &[]).expect(0);
    assert_eq!(lab.stages("store").len(), 3, "one preparation for both");
    let lines = "SELECT value FROM v_results WHERE metric = 'lines' AND headline";
    assert_eq!(lab.ask("store", lines)[0]["value"], 3.0);
    // A child that is to be run finds its parent's folder, and the parent isn't run again.
    lab.write("chain.yaml", &CHAIN.replace("[1, 2]", "[1, 2, 3]"));
    lab.ablate(line, &[]).expect(0);
    let attempts = "SELECT COUNT(*) AS n FROM v_attempts";
    assert_eq!(lab.ask("store", attempts)[0]["n"], 4);
    lab.write("source.txt", "a\nb\nc\n");
    lab.ablate(line, &[]).expect(0);
    assert_eq!(lab.ask("store", lines)[0]["value"], 4.0);
    assert_eq!(lab.ask("store", attempts)[0]["n"], 8);
}

#[test]
fn programs_and_the_trainer_hand_weights_on() {
    let lab = Lab::with_pictures(8);
    let text = format!(
        "{}stages:
  train: {{}}
  copy:
    from: train
    command: [sh, -c, 'cp \"$ABLATE_PARENT_WEIGHTS\" \"$ABLATE_RUN_DIR/final.safetensors\"']
    outputs: [final.safetensors]
  check: {{from: copy, task: evaluate}}
",
        SMALL.replace("seeds: 2", "seeds: 1")
    );
    lab.write("mixed.yaml", &text);
    lab.ablate("run mixed.yaml --store store --quiet", &[])
        .expect(0);
    let results = lab.ask(
        "store",
        "SELECT stage, value FROM v_results WHERE metric = 'loss' AND variant = 'ce' ORDER BY stage",
    );
    assert_eq!(results.len(), 2, "{results:?}");
    assert_eq!(results[0]["value"], results[1]["value"]);
}

#[test]
fn a_parent_that_has_lost_its_output_is_done_again() {
    let lab = Lab::with_pictures(8);
    let text = |epochs: u32| {
        format!(
            "{}stages:
  train: {{}}
  copy:
    from: train
    command: [sh, -c, 'cp \"$ABLATE_PARENT_WEIGHTS\" \"$ABLATE_RUN_DIR/final.safetensors\"; echo x > \"$ABLATE_RUN_DIR/note\"']
    outputs: [final.safetensors, note]
  tune: {{from: copy, set: {{train.epochs: {epochs}}}}}
",
            SMALL
                .replace("seeds: 2", "seeds: 1")
                .replace("[ce, bce]", "[ce]")
        )
    };
    let run = |store: &str, epochs: u32| {
        lab.write("chain.yaml", &text(epochs));
        lab.ablate(&format!("run chain.yaml --store {store}"), &[])
            .expect(0)
    };
    run("calm", 1);
    for epochs in 2..=4 {
        run("calm", epochs);
    }
    run("s", 1);
    let of = |name: &str| -> Vec<String> {
        lab.ask(
            "s",
            "SELECT DISTINCT stage, fingerprint FROM v_attempts ORDER BY 1",
        )
        .iter()
        .filter(|row| row["stage"] == name)
        .map(|row| row["fingerprint"].as_str().unwrap().to_owned())
        .collect()
    };
    let (train, copy) = (of("train")[0].clone(), of("copy")[0].clone());
    let attempts = |stage: &str| -> usize {
        let sql = format!("SELECT attempt FROM v_attempts WHERE fingerprint = '{stage}'");
        lab.ask("s", &sql).len()
    };

    // What a program has promised is gone: it is done again before its child. So is the stage before it, where that
    // has nothing left either.
    let copied = lab.path(&format!("s/stages/{copy}/checkpoints/final.safetensors"));
    std::fs::remove_file(copied).unwrap();
    run("s", 2);
    assert_eq!((attempts(&train), attempts(&copy)), (1, 2));
    std::fs::remove_file(lab.path(&format!("s/stages/{copy}/work/note"))).unwrap();
    let weights = lab.path(&format!("s/stages/{train}/checkpoints/final.safetensors"));
    std::fs::remove_file(&weights).unwrap();
    run("s", 3);
    assert_eq!((attempts(&train), attempts(&copy)), (2, 3));

    // Damaged weights are there, and found out by the child.
    let changed = text(4).replace("from: copy", "from: train");
    lab.write("chain.yaml", &changed);
    lab.ablate("run chain.yaml --store calm", &[]).expect(0);
    let mut bytes = std::fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&weights, &bytes).unwrap();
    lab.ablate("run chain.yaml --store s", &[])
        .expect(0)
        .says(&["renew  train", "its checksum doesn't match"]);
    assert_eq!(attempts(&train), 3);
    run("s", 4);
    let finals = |store: &str| -> Vec<(String, Vec<u8>)> {
        lab.stages(store)
            .into_iter()
            .map(|stage| {
                let path = format!("{store}/stages/{stage}/checkpoints/final.safetensors");
                (stage, lab.read(&path))
            })
            .collect()
    };
    assert!(finals("calm") == finals("s"));
}

#[test]
fn what_a_program_leaves_besides_its_outputs_can_go() {
    let lab = Lab::new();
    lab.write(
        "left.yaml",
        r#"
name: left
stages:
  it:
    command:
      - sh
      - -c
      - |
        cd "$ABLATE_RUN_DIR"; mkdir -p deep more; echo c > ckpt; echo o > deep/out; echo t > deep/tmp; echo m > more/m
        echo weights > final.safetensors; echo '{{"accuracy": 1}}' > metrics.json
    outputs: [deep/out, final.safetensors]
    metrics: [accuracy]
seeds: 1
"#,
    );
    lab.ablate("run left.yaml --store s --quiet", &[]).expect(0);
    let stage = stage(&lab, "s");
    let items = |more: &str| -> Vec<(String, u64)> {
        let answer = lab.ablate(&format!("gc --dry-run --format json --store s {more}"), &[]);
        answer.expect(0).json()["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| {
                let path = item["path"].as_str().unwrap();
                let name = path.strip_prefix(&format!("stages/{stage}/")).unwrap();
                (name.to_owned(), item["bytes"].as_u64().unwrap())
            })
            .collect()
    };
    let item = |name: &str, bytes: u64| (name.to_owned(), bytes);
    assert_eq!(items(""), []);
    lab.write(&format!("s/stages/{stage}/reports-1.jsonl"), "report\n");
    lab.write(&format!("s/stages/{stage}/events.jsonl.damaged-1"), "bad\n");
    let logs = [
        item("reports-1.jsonl", 7),
        item("events.jsonl.damaged-1", 4),
    ];
    assert_eq!(items(""), logs);
    let weights = [
        item("checkpoints/final.safetensors", 8),
        item("work/final.safetensors", 0),
    ];
    assert_eq!(items("--weights none"), [&weights[..], &logs].concat());
    let work = [
        item("work/ckpt", 2),
        item("work/deep/tmp", 2),
        item("work/more", 2),
    ];
    assert_eq!(items("--work outputs"), [&work[..], &logs].concat());
    lab.ablate("gc --yes --work outputs --store s", &[])
        .expect(0)
        .says(&["removed 17 B"]);
    assert_eq!(items("--work outputs"), []);
    assert_eq!(
        lab.list(&format!("s/stages/{stage}/work")).len(),
        4,
        "deep, deep/out, final.safetensors, metrics.json"
    );
    lab.ablate("gc --yes --weights none --store s", &[])
        .expect(0)
        .says(&["removed 8 B"]);
}

/// State of a process: `T` stands still; `X`: there is none.
fn state(pid: i64) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    fields.chars().next().unwrap_or('X')
}

#[test]
fn sessions_of_their_own_are_no_escape() {
    let lab = Lab::new();
    lab.write(
        "stray.yaml",
        r#"
name: stray
stages:
  it:
    command:
      - sh
      - -c
      - |
        cd "$ABLATE_RUN_DIR"
        setsid sh -c 'echo $$ > stray.new; mv stray.new stray; while :; do sleep 0.01; done' &
        wait
    metrics: [accuracy]
seeds: 1
"#,
    );
    let number = |lab: &Lab, name: &str| -> Option<i64> {
        let stage = lab.stages("s").first()?.clone();
        let path = lab.path(&format!("s/stages/{stage}/{name}"));
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    let run = lab.start("run stray.yaml --store s");
    let stray = wait_for("the stray", || number(&lab, "work/stray"));
    run.signal(libc::SIGTSTP);
    let own = i64::from(run.pid());
    wait_for("the stop", || (state(own) == 'T').then_some(()));
    wait_for("the stray to stand still", || {
        (state(stray) == 'T').then_some(())
    });
    run.signal(libc::SIGCONT);
    wait_for("the stray to go on", || (state(stray) != 'T').then_some(()));

    // Its guard is killed: nobody is left to end it but the scheduler.
    let program = first_program(&lab);
    let guard = parent(program);
    // SAFETY: a system call without memory, on the guard of a program that was seen alive.
    unsafe { libc::kill(guard as i32, libc::SIGKILL) };
    wait_for("the stray's end", || (!is_alive(stray)).then_some(()));
    let again = wait_for("the next one", || {
        number(&lab, "work/stray").filter(|&pid| pid != stray)
    });
    run.signal(libc::SIGTERM);
    run.end().expect(143);
    assert!(!is_alive(again));
}

/// The program of the first attempt of the only stage of the store `s`.
fn first_program(lab: &Lab) -> i64 {
    let stage = stage(lab, "s");
    let events = lab.events("s", &stage);
    let started = events.iter().find(|event| event["kind"] == "started");
    started.unwrap()["pid"].as_i64().unwrap()
}

fn parent(pid: i64) -> i64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit(") ").next().unwrap();
    fields.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_checkpoint_that_was_not_reported_loses_no_curve() {
    let lab = Lab::new();
    lab.write(
        "late.yaml",
        r#"
name: late
params: {says: true}
stages:
  it:
    command:
      - sh
      - -c
      - |
        cd "$ABLATE_RUN_DIR"
        say() {{ echo "$1" >> "$ABLATE_EVENTS"; }}
        at() {{ say '{{"kind":"evaluated","step":'$1',"epoch":'$1',"metrics":{{"accuracy":'$2'}}}}'; }}
        if [ "$ABLATE_ATTEMPT" = 1 ]; then
          at 5 50; say '{{"kind":"checkpointed","step":5}}'; at 10 60; at 15 65
          kill -9 $$
        fi
        if [ {params.says} = true ]; then say '{{"kind":"started","resumed_step":10}}'; fi
        at 20 70
    metrics: [accuracy]
axes: {params.says: [true, false]}
seeds: 1
"#,
    );
    lab.ablate("run late.yaml --store s --quiet", &[]).expect(0);
    let curve = |says: &str| -> Vec<i64> {
        let sql = format!(
            "SELECT step FROM v_metrics WHERE variant = '{says}' AND metric = 'val/accuracy' ORDER BY step"
        );
        let rows = lab.ask("s", &sql);
        rows.iter()
            .map(|row| row["step"].as_i64().unwrap())
            .collect()
    };
    // It knows best where it went on from; what was reported last counts where it doesn't say.
    assert_eq!(curve("true"), [5, 10, 20]);
    assert_eq!(curve("false"), [5, 20]);
}

/// Reports every half second, and leaves well when it is asked to.
const POLITE: &str = r#"
name: polite
params: {last: ""}
stages:
  it:
    command:
      - sh
      - -c
      - |
        cd "$ABLATE_RUN_DIR"
        leave() {{ {params.last} exit 0; }}
        trap leave TERM
        step=$(cat step 2>/dev/null || echo 0)
        while [ $step -lt 8 ]; do
          step=$((step + 1)); echo $step > step
          echo '{{"kind":"evaluated","step":'$step',"metrics":{{"accuracy":'$step'}}}}' >> "$ABLATE_EVENTS"
          echo '{{"kind":"checkpointed","step":'$step'}}' >> "$ABLATE_EVENTS"
          sleep 0.3
        done
    metrics: [accuracy]
seeds: 1
axes:
  end:
    silent: {}
    file: {params.last: "echo '{\"accuracy\": 3}' > metrics.json;"}
"#;

#[test]
fn who_leaves_well_when_asked_to_is_done_only_if_it_says_so() {
    let lab = Lab::new();
    lab.write("polite.yaml", POLITE);
    let values = "SELECT variant, value FROM v_results ORDER BY 1";
    let of = |end: &str| {
        let line = format!("run polite.yaml --store {end} --slots 1 --only end={end} --quiet");
        let run = lab.start(&line);
        // Notices come though the store's path is relative: long before anybody looks by himself.
        wait_for("evaluations in the store", || {
            let steps = "SELECT COUNT(*) AS n FROM v_metrics WHERE metric = 'val/accuracy'";
            // There is no store before there is a plan.
            lab.stages(end).first()?;
            (lab.ask(end, steps)[0]["n"].as_i64()? > 1).then_some(())
        });
        assert_eq!(
            lab.ask(end, "SELECT 1 FROM v_runs WHERE status = 'done'")
                .len(),
            0
        );
        run.signal(libc::SIGTERM);
        run.end()
    };
    of("silent").expect(143);
    assert!(lab.ask("silent", values).is_empty());
    let attempts = lab.ask("silent", "SELECT failure, message FROM v_attempts");
    assert_eq!(attempts[0]["failure"], "killed", "{attempts:?}");
    lab.ablate(
        "run polite.yaml --store silent --slots 1 --only end=silent --quiet",
        &[],
    )
    .expect(0);
    assert_eq!(lab.ask("silent", values)[0]["value"], 8.0);
    // Without epochs every step is a point of its own.
    let points = "SELECT step FROM v_metrics WHERE metric = 'val/accuracy' ORDER BY step";
    assert_eq!(lab.ask("silent", points).len(), 8);

    of("file");
    assert_eq!(lab.ask("file", values)[0]["value"], 3.0);
}
