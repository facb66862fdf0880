//! `ablate weights`, `ablate eval`, and stages that start from a file, through the program.

use ablate::plan::{DataDescription, Request, plan_file};
use ablate::rundir::stage::{DataShape, StageSpec};
use ablate::spec::problem::Problems;
use ablate::weights::{self, Naming};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A ViT of 2 blocks, width 32, for 6 classes at 24 px, in a training checkpoint of PyTorch.
fn checkpoint() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/parity/checkpoint/official_training.pth")
}

/// An image folder of `classes` classes of two small pictures in each split.
fn pictures(folder: &Path, classes: u8) {
    for split in ["train", "val"] {
        for class in 0..classes {
            let place = folder.join(split).join(format!("class{class}"));
            std::fs::create_dir_all(&place).unwrap();
            for number in 0..2u8 {
                let picture = image::RgbImage::from_fn(28, 26, |x, y| {
                    let (x, y) = (x as u8, y as u8);
                    image::Rgb([x * 9, y.wrapping_mul(class * 7 + 3), x ^ y ^ (number * 50)])
                });
                picture.save(place.join(format!("{number}.png"))).unwrap();
            }
        }
    }
}

/// An experiment with these stages in `folder`, whose data set `small` lies in its `data`.
fn experiment(folder: &Path, stages: &str) -> PathBuf {
    let text = format!(
        "title: T
claim: C
recipe: quick
seeds: 1
stages:
{stages}
set:
  data.name: small
  model: {{patch_size: 8, embed_dim: 32, depth: 2, num_heads: 2}}
  train: {{resolution: 24, epochs: 1, batch_size: 4}}
  eval.resolution: 24
  mix.prob: 0
"
    );
    let path = folder.join("e.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

fn ablate(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ablate"))
        .current_dir(folder)
        .env_remove("ABLATE_STORE")
        .args(arguments)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap()
}

#[test]
fn import_says_what_a_file_holds_and_converts_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = checkpoint().display().to_string();
    let text = stdout(&ablate(folder.path(), &["weights", "import", &file]));
    for part in [
        "torch.save, float32, official names, under `model`",
        "2 blocks, width 32",
        "24 px (3 x 3 patches of 8",
        "classes     6",
        "with LayerScale",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let arguments = [
        "weights",
        "import",
        &file,
        "--out",
        "w.safetensors",
        "--names",
        "timm",
    ];
    stdout(&ablate(folder.path(), &arguments));
    let written = weights::read(&folder.path().join("w.safetensors")).unwrap();
    assert_eq!(written.naming, Naming::Timm);
    assert_eq!(
        written.parameters,
        weights::read(&checkpoint()).unwrap().parameters
    );

    std::fs::write(folder.path().join("evil.pth"), b"\x80\x02cos\nsystem\n.").unwrap();
    let arguments = ["weights", "import", "evil.pth", "--out", "evil.safetensors"];
    let refused = ablate(folder.path(), &arguments);
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        errors.contains("evil.pth") && errors.contains("`os.system`"),
        "{errors}"
    );
    assert!(!folder.path().join("evil.safetensors").exists());
}

#[test]
fn stages_start_from_files_and_runs_are_exported_and_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    pictures(&at.join("data"), 6);
    std::fs::copy(checkpoint(), at.join("w.pth")).unwrap();
    let stages = "  look: {init: w.pth, task: evaluate}
  larger: {init: w.pth, set: {train.resolution: 32, eval.resolution: 32}}
  tuned: {init: w.pth}";
    experiment(at, stages);
    stdout(&ablate(
        at,
        &[
            "run",
            "e.yaml",
            "--data",
            "small=data",
            "--quiet",
            "--device",
            "cpu",
        ],
    ));
    let shown = json(&ablate(at, &["show", "e/", "--format", "json"]));
    let stage = |name: &str| -> Value {
        let stages = shown["stages"].as_array().unwrap();
        stages
            .iter()
            .find(|stage| stage["name"] == name)
            .unwrap()
            .clone()
    };
    let metric = |stage: &Value, name: &str| -> f64 {
        let results = stage["results"].as_array().unwrap();
        let found = results.iter().find(|result| result["metric"] == name);
        found.unwrap()["value"].as_f64().unwrap()
    };
    let agrees = |answer: &Value, stage: &Value| {
        assert_eq!(answer["n"], 12);
        assert_eq!(answer["top1"].as_f64().unwrap(), metric(stage, "top1"));
        let loss = answer["loss"].as_f64().unwrap();
        assert!((loss - metric(stage, "loss")).abs() < 1e-6, "{loss}");
    };
    // The same weights without a stage.
    let arguments = ["eval", "w.pth", "--data", "small=data", "--format", "json"];
    let unknown = ablate(at, &arguments);
    assert_eq!(
        unknown.status.code(),
        Some(2),
        "32 channels don't tell the heads"
    );
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("--heads"));
    let answer = json(&ablate(at, &[&arguments[..], &["--heads", "2"]].concat()));
    agrees(&answer, &stage("look"));
    // What the run made of them.
    let answer = json(&ablate(
        at,
        &["eval", "e/", "--data", "small=data", "--format", "json"],
    ));
    agrees(&answer, &stage("tuned"));
    assert_ne!(
        metric(&stage("tuned"), "loss"),
        metric(&stage("look"), "loss")
    );
    let warnings = stage("larger")["warnings"].to_string();
    assert!(warnings.contains("from 3x3 to 4x4"), "{warnings}");

    // Out, under timm's names, and in again; the file knows its heads.
    let arguments = ["weights", "export", "e/", "--out", "timm.safetensors"];
    let text = stdout(&ablate(at, &arguments));
    assert!(text.contains("timm names"), "{text}");
    let exported = weights::read(&at.join("timm.safetensors")).unwrap();
    let fingerprint = stage("tuned")["fingerprint"].as_str().unwrap().to_owned();
    let final_weights = at
        .join("ablate-store/stages")
        .join(fingerprint)
        .join("checkpoints/final.safetensors");
    let trained = weights::read(&final_weights).unwrap();
    assert_eq!(exported.parameters, trained.parameters);
    assert_eq!(exported.naming, Naming::Timm);
    let arguments = [
        "eval",
        "timm.safetensors",
        "--data",
        "small=data",
        "--format",
        "json",
    ];
    agrees(&json(&ablate(at, &arguments)), &stage("tuned"));
    let arguments = [
        "weights",
        "export",
        "e/",
        "--stage",
        "tunde",
        "--out",
        "x.safetensors",
    ];
    let refused = ablate(at, &arguments);
    assert_eq!(refused.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert!(errors.contains("did you mean `tuned`"), "{errors}");
    assert!(!at.join("x.safetensors").exists());

    // Other data.
    pictures(&at.join("four"), 4);
    let refused = ablate(at, &["eval", "timm.safetensors", "--data", "small=four"]);
    assert_eq!(refused.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert!(
        errors.contains("6 classes") && errors.contains("has 4"),
        "{errors}"
    );
}

#[test]
fn weights_of_another_shape_are_a_problem_at_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    pictures(&at.join("data"), 6);
    std::fs::copy(checkpoint(), at.join("w.pth")).unwrap();
    experiment(at, "  train: {init: w.pth}");
    for set in ["model.depth=3", "model.layer_scale=null"] {
        let options = [
            "run",
            "e.yaml",
            "--data",
            "small=data",
            "--quiet",
            "--set",
            set,
        ];
        let failed = ablate(at, &options);
        assert_eq!(failed.status.code(), Some(2));
        let errors = String::from_utf8_lossy(&failed.stderr);
        let what = match set {
            "model.depth=3" => "model.depth is 2 in the file and 3 in the stage",
            _ => "the file has LayerScale and the stage lacks it",
        };
        for part in ["e.yaml:6:17: the weights", "w.pth", what] {
            assert!(errors.contains(part), "{part}: {errors}");
        }
        assert!(!at.join("ablate-store").exists(), "nothing is written");
    }
}

/// The stages of an experiment file.
fn stages(path: &Path) -> Result<Vec<StageSpec>, Problems> {
    let description = DataDescription {
        hash: "0".repeat(64),
        shape: DataShape {
            classes: 6,
            train_images: 12,
            val_images: 12,
            kept_bytes: 0,
        },
    };
    let plan = plan_file(path, &Request::default(), &|_| Ok(description.clone()))?;
    Ok((0..plan.stages.len() as u32)
        .map(|index| plan.stage_spec(index))
        .collect())
}

#[test]
fn content_of_the_file_is_part_of_the_identity() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::copy(checkpoint(), at.join("a.pth")).unwrap();
    std::fs::create_dir(at.join("deep")).unwrap();
    std::fs::copy(checkpoint(), at.join("deep/b.pth")).unwrap();
    let one = |stage: &str| stages(&experiment(at, stage)).unwrap().remove(0);
    let first = one("  train: {init: a.pth}");
    assert_eq!(first.fingerprint, first.compute_fingerprint().to_string());
    assert_eq!(first.parent, None);
    let hash = blake3::hash(&std::fs::read(checkpoint()).unwrap());
    assert_eq!(first.init_weights, Some(hash.to_hex().to_string()));
    // Another path is the same stage, another content is not, and neither is none.
    assert_eq!(one("  train: {init: deep/b.pth}"), first);
    std::fs::write(at.join("a.pth"), "other").unwrap();
    let other = one("  train: {init: a.pth}");
    assert_ne!(other.fingerprint, first.fingerprint);
    let none = one("  train: {}");
    assert!(none.fingerprint != first.fingerprint && none.fingerprint != other.fingerprint);
    assert!(!serde_json::to_string(&none).unwrap().contains("init"));
    let text = serde_json::to_string(&first).unwrap();
    assert_eq!(serde_json::from_str::<StageSpec>(&text).unwrap(), first);
}

#[test]
fn bad_files_are_problems_at_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::write(at.join("readme.txt"), "no weights").unwrap();
    std::fs::create_dir(at.join("dir")).unwrap();
    for (stages, parts) in [
        (
            "  train: {init: gone.pth}",
            vec!["e.yaml:6:17", "gone.pth", "No such file"],
        ),
        ("  train: {init: dir}", vec!["e.yaml:6:17", "dir"]),
        (
            "  train: {init: [a]}",
            vec!["e.yaml:6:17", "`init` expects a name"],
        ),
        (
            "  train: {init: readme.txt}",
            vec!["e.yaml:6:17", "readme.txt holds no weights"],
        ),
        (
            "  a: {}\n  b: {from: a, init: readme.txt}",
            vec!["e.yaml:7:22", "both a stage (`from`) and a file (`init`)"],
        ),
        (
            "  a: {task: evaluate}",
            vec!["e.yaml:6:3", "or a file in `init`"],
        ),
    ] {
        pictures(&at.join("data"), 6);
        experiment(at, stages);
        for command in ["plan", "run"] {
            let refused = ablate(at, &[command, "e.yaml", "--data", "small=data"]);
            let errors = String::from_utf8_lossy(&refused.stderr);
            assert_eq!(refused.status.code(), Some(2), "{stages}: {errors}");
            for part in &parts {
                assert!(errors.contains(part), "{part}: {errors}");
            }
        }
        assert!(!at.join("ablate-store").exists());
    }
}
