//! GPUs: a recording in the driver's stead (workers then compute on the CPU), and a driver library of our
//! own, compiled for the purpose, for the code that talks to the real one.

use crate::lab::{Lab, SMALL, longer, wait_for};
use serde_json::{Value, json};
use std::process::Command;

const GIB: u64 = 1 << 30;

/// A lab with a recording of GPUs whose UUIDs no other test has: claims on GPUs hold on the whole machine.
struct Recorded {
    lab: Lab,
    uuids: Vec<String>,
}

impl Recorded {
    fn new(lab: Lab, name: &str, count: usize) -> Recorded {
        let pid = std::process::id();
        let recorded = Recorded {
            lab,
            uuids: (0..count)
                .map(|gpu| format!("GPU-{name}-{gpu}-{pid}"))
                .collect(),
        };
        recorded.scenes(json!([]));
        recorded
    }

    /// What happens from now on.
    fn scenes(&self, timeline: Value) {
        let gpus: Vec<Value> = self
            .uuids
            .iter()
            .map(|uuid| json!({"uuid": uuid, "name": "NVIDIA H100", "memory": 80 * GIB}))
            .collect();
        let script = json!({"driver": "580.65.06", "cuda": "13.0", "stand_in": "cpu", "gpus": gpus,
                            "timeline": timeline});
        self.lab.write("next.json", &script.to_string());
        // As a whole: the program reads it at any time.
        std::fs::rename(self.lab.path("next.json"), self.lab.path("gpus.json")).unwrap();
    }

    fn command(&self, line: &str) -> Command {
        let mut command = self.lab.command(line.split_whitespace());
        command.env("ABLATE_NVML_RECORDING", self.lab.path("gpus.json"));
        command
    }

    fn attempts(&self) -> Vec<Value> {
        self.lab.ask(
            "ablate-store",
            "SELECT attempt, status, failure, device, uuid, name, driver, memory FROM v_attempts
             LEFT JOIN v_gpus USING (fingerprint, attempt) ORDER BY started, fingerprint",
        )
    }
}

#[test]
fn gpus_are_pinned_by_uuid_and_shared() {
    let lab = Lab::with_pictures(4);
    lab.write("small.yaml", SMALL);
    let gpus = Recorded::new(lab, "pinned", 2);
    let only = "run small.yaml --set train.epochs=1";
    let answer = gpus.lab.finish(gpus.command(only)).expect(0);
    assert!(answer.stderr.contains(" on cuda:1"), "{}", answer.stderr);
    let attempts = gpus.attempts();
    assert_eq!(attempts.len(), 4);
    for attempt in &attempts {
        let place: usize = match attempt["device"].as_str().unwrap() {
            "cuda:0" => 0,
            "cuda:1" => 1,
            other => panic!("{other}"),
        };
        assert_eq!(attempt["uuid"], gpus.uuids[place].as_str());
        assert_eq!(attempt["name"], "NVIDIA H100");
        assert_eq!(attempt["driver"], "580.65.06");
        assert_eq!(attempt["memory"], 80 * GIB);
    }

    // Three workers of 25 GiB share the one GPU that the user has left us.
    let mut shared =
        gpus.command("run small.yaml --store shared --set train.epochs=1 --gpu-memory 25GiB");
    shared.env(
        "CUDA_VISIBLE_DEVICES",
        &gpus.uuids[1][..gpus.uuids[1].len() - 1],
    );
    let answer = gpus.lab.finish(shared).expect(0);
    for slot in ["cuda:0/0", "cuda:0/1", "cuda:0/2"] {
        assert!(
            answer.stderr.contains(&format!(" on {slot}\n")),
            "{}",
            answer.stderr
        );
    }
    let rows = gpus
        .lab
        .ask("shared", "SELECT DISTINCT uuid, memory FROM v_gpus");
    assert_eq!(rows, [json!({"uuid": gpus.uuids[1], "memory": 25 * GIB})]);

    let mut hidden = gpus.command("run small.yaml --device cuda");
    hidden.env("CUDA_VISIBLE_DEVICES", "-1");
    gpus.lab
        .finish(hidden)
        .expect(2)
        .says(&["error: no GPU can be used"]);
    let both = "run small.yaml --gpu-memory 10GiB --slots-per-gpu 2";
    gpus.lab
        .finish(gpus.command(both))
        .expect(2)
        .says(&["give one of them"]);
    let large = "run small.yaml --gpu-memory 100GiB";
    gpus.lab
        .finish(gpus.command(large))
        .expect(2)
        .says(&["the largest has 80.0 GiB"]);
}

#[test]
fn a_gpu_in_use_is_waited_for() {
    let lab = Lab::with_pictures(4);
    lab.write("small.yaml", SMALL);
    let gpus = Recorded::new(lab, "busy", 1);
    // This test's process is the stranger.
    let stranger = std::process::id();
    gpus.scenes(json!([{"at": 0, "gpu": gpus.uuids[0], "used": 3 * GIB,
                        "processes": [{"pid": stranger, "memory": 3 * GIB}]}]));
    gpus.lab.finish(gpus.command("devices")).expect(0).shows(&[
        &gpus.uuids[0],
        "77.0 GiB of 80.0 GiB free",
        &format!("(pid {stranger}, 3.0 GiB)"),
    ]);
    let mut command = gpus.command("run small.yaml --only loss=ce --seeds 1 --set train.epochs=1");
    let log = std::fs::File::create(gpus.lab.path("stderr")).unwrap();
    command.stderr(log);
    let mut run = command.spawn().unwrap();
    let said = || String::from_utf8(gpus.lab.read("stderr")).unwrap();
    wait_for("the reason to wait", || {
        said()
            .contains("cuda:0 waits: it is in use by ")
            .then_some(())
    });
    assert!(
        gpus.lab.stages("ablate-store").is_empty(),
        "nothing was started"
    );
    let stages = gpus.lab.ask("ablate-store", "SELECT run FROM v_runs");
    let name = stages[0]["run"].as_str().unwrap();
    let why = gpus.lab.ablate("why --format json", &[name]).expect(0);
    let why = why.json();
    let stage = &why["stages"][0];
    assert_eq!(
        (&stage["status"], &stage["reason"]),
        (&json!("waits"), &json!("device_in_use"))
    );
    let because = stage["because"][0].as_str().unwrap();
    assert!(
        because.starts_with("cuda:0 waits: it is in use by "),
        "{because}"
    );
    assert!(because.contains(&format!("pid {stranger}")), "{because}");
    gpus.scenes(json!([]));
    let status = wait_for("the end", || run.try_wait().unwrap());
    assert_eq!(status.code(), Some(0), "{}", said());
    assert_eq!(
        said().matches(" waits: ").count(),
        1,
        "said once: {}",
        said()
    );
}

#[test]
fn a_lost_gpu_is_left_and_given_back_by_a_check() {
    let lab = Lab::with_pictures(20);
    lab.write("longer.yaml", &longer().replace("epochs: 24", "epochs: 60"));
    let gpus = Recorded::new(lab, "lost", 2);
    let mut command = gpus.command("run longer.yaml --slots 2 --threads-per-slot 1");
    let log = std::fs::File::create(gpus.lab.path("stderr")).unwrap();
    command.stderr(log);
    let mut run = command.spawn().unwrap();
    let said = || String::from_utf8(gpus.lab.read("stderr")).unwrap();
    let epochs = || {
        let stages = gpus.lab.stages("ablate-store");
        let trains = |stage: &String| {
            let events = gpus.lab.events("ablate-store", stage);
            events.iter().any(|event| event["kind"] == "epoch")
        };
        stages.iter().filter(|stage| trains(stage)).count()
    };
    wait_for("two workers in training", || (epochs() == 2).then_some(()));
    let [_, second] = &gpus.uuids[..] else {
        panic!("two GPUs");
    };
    let lost = json!({"at": 0, "gpu": second, "lost": true, "xid": 79});
    // What is a program's fault is none of the GPU.
    gpus.scenes(json!([{"at": 0, "gpu": gpus.uuids[0], "xid": 31}, lost]));
    wait_for("the loss", || {
        said()
            .contains(&format!("cuda:1 ({second}) is not used any more: XID 79"))
            .then_some(())
    });
    wait_for("the move", || said().contains("again  ").then_some(()));
    gpus.lab
        .finish(gpus.command("devices --check"))
        .expect(1)
        .shows(&["health: well", "health: it has fallen off the bus"])
        .says(&["looks at the GPUs that it had lost"]);
    wait_for("the answer", || {
        said()
            .contains(&format!("{second} stays out of use"))
            .then_some(())
    });
    gpus.scenes(json!([]));
    gpus.lab.finish(gpus.command("devices --check")).expect(0);
    wait_for("the GPU's return", || {
        said()
            .contains(&format!("{second} is well and used again"))
            .then_some(())
    });
    let status = wait_for("the end", || run.try_wait().unwrap());
    assert_eq!(status.code(), Some(0), "{}", said());
    let attempts = gpus.attempts();
    assert_eq!(attempts.len(), 3, "{attempts:?}");
    let failed: Vec<&Value> = attempts
        .iter()
        .filter(|attempt| attempt["status"] == "failed")
        .collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["failure"], "device_lost");
    assert_eq!(failed[0]["uuid"], second.as_str());
}

/// The library of `tests/support/nvml.c` in a folder of the lab.
fn driver(lab: &Lab) -> std::path::PathBuf {
    let folder = lab.path("driver");
    std::fs::create_dir(&folder).unwrap();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/nvml.c");
    // Whatever links Rust programs has a C compiler.
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(folder.join("libnvidia-ml.so.1"))
        .arg(source)
        .status()
        .unwrap();
    assert!(status.success());
    folder
}

#[test]
fn the_drivers_library_is_understood() {
    let lab = Lab::new();
    let folder = driver(&lab);
    let devices = |line: &str, more: &[(&str, &str)]| {
        let mut command = lab.command(line.split_whitespace());
        command.env("LD_LIBRARY_PATH", &folder);
        command.envs(more.iter().copied());
        lab.finish(command)
    };
    let pid = std::process::id().to_string();
    let answer = devices("devices --json", &[("NVML_STUB_PID", &pid)])
        .expect(0)
        .json();
    assert_eq!(
        answer["driver"],
        json!({"version": "580.65.06", "cuda": "13.0"})
    );
    let gpus = answer["gpus"].as_array().unwrap();
    let of = |name: &str| -> Vec<Value> { gpus.iter().map(|gpu| gpu[name].clone()).collect() };
    assert_eq!(
        of("uuid"),
        [
            "GPU-stub-0",
            "GPU-stub-1",
            "GPU-stub-2",
            "MIG-stub-a",
            "MIG-stub-b"
        ]
    );
    assert_eq!(of("index"), [0, 1, 2, 2, 2]);
    assert_eq!(gpus[0]["pci"], "00000000:01:00.0");
    assert_eq!(of("divided"), [false, false, true, false, false]);
    assert_eq!(gpus[4]["parent"], "GPU-stub-2");
    assert_eq!(gpus[4]["memory"], 40 * GIB);
    assert_eq!(gpus[2]["slot"], Value::Null);
    assert_eq!(gpus[4]["slot"], "cuda:3");
    let state = &gpus[0]["state"];
    assert_eq!(
        (&state["used"], &state["free"]),
        (&json!(3 * GIB), &json!(77 * GIB))
    );
    assert_eq!(
        state["processes"],
        json!([{"pid": std::process::id(), "memory": 3 * GIB, "graphics": false}])
    );

    // The user's choice, and a GPU that fell off its bus.
    let xid = lab.path("xid");
    std::fs::write(&xid, "79").unwrap();
    let broken = [
        ("CUDA_VISIBLE_DEVICES", "1,MIG-stub-b,nonsense,0"),
        ("NVML_STUB", xid.to_str().unwrap()),
    ];
    devices("devices --check", &broken)
        .expect(1)
        .shows(&[
            "driver   580.65.06, CUDA 13.0",
            "gpu 0    NVIDIA Stub GPU-stub-0; hidden by CUDA_VISIBLE_DEVICES",
            "health: device fell off the bus",
            "gpu 1    NVIDIA Stub GPU-stub-1, 00000000:02:00.0; cuda:0",
            "80.0 GiB of 80.0 GiB free; nobody uses it",
            "gpu 2    NVIDIA Stub GPU-stub-2, 00000000:03:00.0; divided into instances",
            "gpu 2    NVIDIA Stub MIG 3g.40gb MIG-stub-b, a part of GPU-stub-2; cuda:1",
        ])
        .says(&["warning: CUDA_VISIBLE_DEVICES: `nonsense` is no GPU of this machine"]);

    // No driver is no error.
    devices("devices", &[("NVML_STUB_BROKEN", "1")])
        .expect(0)
        .shows(&[
            "gpus     none: the NVIDIA driver is not loaded",
            "slot 0: cpu:0",
        ]);
    lab.ablate("devices", &[])
        .expect(0)
        .shows(&["of memory", "slot 0: cpu:0"]);
}

/// Faults come from the driver's event queue. The trainer of a build without `cuda` can't use these GPUs, so
/// what is tested is that it says so and trains on the CPU.
#[test]
#[cfg(not(feature = "cuda"))]
fn gpus_that_this_build_cannot_use_are_left_alone() {
    let lab = Lab::with_pictures(4);
    lab.write("small.yaml", SMALL);
    let folder = driver(&lab);
    let run = |more: &[&str]| {
        let mut command = lab.command(["run", "small.yaml", "--only", "loss=ce", "--seeds", "1"]);
        command.args(["--set", "train.epochs=1"]).args(more);
        command.env("LD_LIBRARY_PATH", &folder);
        lab.finish(command)
    };
    run(&["--device", "cuda"])
        .expect(2)
        .says(&["error: the built-in trainer can't use a GPU"]);
    run(&[])
        .expect(0)
        .says(&["the GPUs of this machine are not used", "on cpu:0"]);
}

/// A program on two GPUs at once; then one of them fails, which the driver tells in its own way.
#[test]
fn a_program_gets_several_gpus_and_moves_on_when_one_is_lost() {
    let lab = Lab::new();
    let folder = driver(&lab);
    let yaml = |gpus: usize| {
        format!(
            "name: pair\ntitle: Two GPUs\nclaim: None.\nseeds: 1\nparams: {{lr: 1}}\n\
             stages:\n  train:\n    command: [sh, work.sh]\n    metrics: [accuracy]\n    gpus: {gpus}\n\
             axes:\n  lr: {{values: [1], path: params.lr}}\n"
        )
    };
    lab.write("nine.yaml", &yaml(9));
    lab.write("pair.yaml", &yaml(2));
    lab.write(
        "work.sh",
        "echo $CUDA_VISIBLE_DEVICES > $ABLATE_RUN_DIR/seen-$ABLATE_ATTEMPT\n\
         [ $ABLATE_ATTEMPT = 1 ] && sleep 1000\n\
         echo '{\"accuracy\": 1}' > $ABLATE_RUN_DIR/metrics.json\n",
    );
    let xid = lab.path("xid");
    let command = |file: &str| {
        let mut command = lab.command(["run", file]);
        command.env("LD_LIBRARY_PATH", &folder);
        command.env("NVML_STUB", &xid);
        command
    };
    lab.finish(command("nine.yaml"))
        .expect(2)
        .says(&["error: stage `train` asks for 9 GPUs, and there are 4 to be used"]);
    let log = std::fs::File::create(lab.path("stderr")).unwrap();
    let mut run = command("pair.yaml").stderr(log).spawn().unwrap();
    let said = || String::from_utf8(lab.read("stderr")).unwrap();
    let seen = |attempt: usize| {
        let name = format!("seen-{attempt}");
        let files = lab.list("ablate-store/stages");
        let file = files.iter().find(|file| file.ends_with(&name))?;
        let text = String::from_utf8(lab.read(file)).unwrap();
        text.ends_with('\n').then(|| text.trim().to_owned())
    };
    let first = wait_for("the first attempt", || seen(1));
    assert_eq!(first, "GPU-stub-0,GPU-stub-1", "{}", said());
    // What a program did wrong.
    std::fs::write(&xid, "13").unwrap();
    std::fs::write(&xid, "48").unwrap();
    let status = wait_for("the end", || run.try_wait().unwrap());
    assert_eq!(status.code(), Some(0), "{}", said());
    assert!(
        said().contains(
            "cuda:0 (GPU-stub-0) is not used any more: XID 48: an uncorrectable memory error"
        ),
        "{}",
        said()
    );
    assert_eq!(seen(2).unwrap(), "GPU-stub-1,MIG-stub-a");
    let rows = lab.ask(
        "ablate-store",
        "SELECT attempt, status, failure, device, group_concat(uuid) AS uuids FROM v_attempts
         JOIN (SELECT * FROM v_gpus ORDER BY attempt, place) USING (fingerprint, attempt)
         GROUP BY attempt ORDER BY attempt",
    );
    assert_eq!(
        rows,
        [
            json!({"attempt": 1, "status": "failed", "failure": "device_lost", "device": "cuda:0+cuda:1",
                   "uuids": "GPU-stub-0,GPU-stub-1"}),
            json!({"attempt": 2, "status": "done", "failure": null, "device": "cuda:1+cuda:2",
                   "uuids": "GPU-stub-1,MIG-stub-a"}),
        ]
    );
}
