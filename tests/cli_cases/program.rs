//! What the program brings along: experiments, schema, completions, man pages.

use crate::lab::{Lab, program};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

const BUILT_IN: [&str; 5] = ["loss", "augmentation", "crop", "epochs", "fixres"];

#[test]
fn the_five_experiments_plan_in_both_profiles_from_any_folder() {
    let lab = Lab::new();
    // Planning counts and hashes files; what is in them is the trainer's business.
    for split in ["train", "val"] {
        for class in 0..2 {
            let folder = lab.path("imagenet").join(split).join(format!("n0{class}"));
            std::fs::create_dir_all(&folder).unwrap();
            for image in 0..if split == "train" { 1100 } else { 1 } {
                std::fs::write(folder.join(format!("{image:04}.JPEG")), [class, 0, 1]).unwrap();
            }
        }
    }
    for name in BUILT_IN {
        let quick = lab.ablate("plan --format json", &[name]).expect(0).json();
        assert_eq!(quick["profile"], "quick");
        assert!(quick["seeds"].as_u64().unwrap() >= 3, "{quick}");
        assert!(quick["variants"].as_u64().unwrap() >= 2, "{quick}");
        assert_eq!(quick["warnings"], Value::Array(Vec::new()));

        for command in ["plan", "run"] {
            lab.ablate(command, &[name, "--profile", "paper"])
                .expect(2)
                .says(&[
                    "data set `imagenet-",
                    "--data imagenet-",
                    "ABLATE_DATA_IMAGENET_",
                ]);
        }
        let options = [
            name,
            "--profile",
            "paper",
            "--data",
            "imagenet-1k=imagenet",
            "--data",
            "imagenet-21k=imagenet",
            "--data",
            "imagenet-v2=imagenet",
            "--data",
            "imagenet-real=imagenet",
        ];
        let paper = lab.ablate("plan --format json", &options).expect(0).json();
        assert_eq!(paper["profile"], "paper");
        assert!(paper["runs"].as_u64().unwrap() >= 2, "{paper}");
        assert!(paper["flops"].as_f64() > quick["flops"].as_f64());
    }
    let fixres = lab.ablate("plan fixres", &[]).expect(0);
    assert!(fixres.stdout.contains("stages    24"), "{}", fixres.stdout);
    assert_eq!(
        lab.list(".")
            .iter()
            .filter(|file| !file.starts_with("imagenet"))
            .count(),
        0
    );
}

#[test]
fn schema_completions_man_pages_and_version() {
    let lab = Lab::new();
    let experiment = lab.ablate("schema", &[]).expect(0).json();
    assert!(
        experiment["$schema"]
            .as_str()
            .unwrap()
            .starts_with("https://json-schema.org/")
    );
    for key in [
        "name", "title", "claim", "recipe", "axes", "seeds", "stages", "profiles", "report",
        "design",
    ] {
        assert!(experiment["properties"][key].is_object(), "{key}");
    }
    let recipe = lab.ablate("schema recipe", &[]).expect(0).json();
    for section in [
        "model",
        "data",
        "train",
        "optimizer",
        "schedule",
        "loss",
        "mix",
        "augment",
        "ema",
        "eval",
    ] {
        assert!(recipe["properties"][section].is_object(), "{section}");
    }

    let commands = [
        "run",
        "plan",
        "report",
        "compare",
        "export",
        "status",
        "show",
        "logs",
        "query",
        "schema",
        "completions",
    ];
    for shell in ["bash", "zsh", "fish"] {
        lab.ablate("completions", &[shell])
            .expect(0)
            .shows(&commands)
            .shows(&["retry-failed"]);
    }
    let script = lab.ablate("completions bash", &[]).expect(0).stdout;
    lab.write("completions.bash", &script);
    let bash = std::process::Command::new("bash")
        .arg("-n")
        .arg(lab.path("completions.bash"))
        .status();
    assert!(
        bash.is_ok_and(|status| status.success()),
        "bash can't read its completions"
    );

    lab.ablate("man pages", &[]).expect(0);
    for command in commands {
        let page = String::from_utf8(lab.read(&format!("pages/ablate-{command}.1"))).unwrap();
        assert!(
            page.contains(".TH") && page.contains(&format!("ablate\\-{command}")),
            "{page}"
        );
    }
    assert!(
        !lab.path("pages/ablate-worker.1").exists(),
        "it is no command for people"
    );

    let version = lab.ablate("--version", &[]).expect(0).stdout;
    let words: Vec<&str> = version.split_whitespace().collect();
    assert_eq!(words[..2], ["ablate", env!("CARGO_PKG_VERSION")]);
    let revision = words[2].trim_matches(['(', ')']);
    let digits = revision.trim_end_matches("-dirty").trim_end_matches('+');
    assert!(
        digits == "unknown" || digits.len() >= 7 && digits.chars().all(|c| c.is_ascii_hexdigit()),
        "{version}"
    );

    let help = lab.ablate("--help", &[]).expect(0);
    assert!(commands.iter().all(|command| help.stdout.contains(command)));
    lab.ablate("run --help", &[]).expect(0).shows(&[
        "Exit codes:",
        "--retry-failed",
        "--data <NAME=PATH>",
    ]);
    lab.ablate("devices", &[]).expect(0).shows(&["slot 0: "]);
}

/// `ablate … | head -1`: who has read enough goes away, and that is no error.
#[test]
fn a_reader_may_leave_early() {
    let lab = Lab::with_pictures(4);
    lab.write("small.yaml", crate::lab::SMALL);
    lab.ablate(
        "run small.yaml --only loss=ce --seeds 1 --set train.epochs=1 --set train.batch_size=4",
        &[],
    )
    .expect(0);
    // Far more than a pipe holds.
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) SELECT i FROM n";
    for arguments in [
        &["query", "--format", "csv", sql][..],
        &["query", "--format", "json", sql],
        &["query", "--format", "md", sql],
        &["query", "--format", "table", sql],
        &["query", "--schema"],
        &["report", "--no-plots"],
        &["plan", "small.yaml"],
        &["run", "small.yaml", "--only", "loss=ce", "--seeds", "1"],
        &["status"],
        &["show", "small/ce/s0"],
        &["schema"],
        &["completions", "bash"],
        &["devices"],
    ] {
        let mut child = lab
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        if arguments[0] == "query" {
            reader.read_line(&mut String::new()).unwrap();
        }
        drop(reader);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
    }
    assert!(program().exists());
}

#[test]
#[cfg(not(feature = "cuda"))]
fn a_gpu_that_is_not_there_is_refused_before_anything_runs() {
    let lab = Lab::new();
    lab.ablate("run loss --device cuda", &[])
        .expect(2)
        .says(&["error: ", "cuda"]);
    assert!(lab.list(".").is_empty());
}
