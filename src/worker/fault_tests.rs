//! The worker when the disk fails: at every step that can fail, one after the other.

use super::process;
use crate::data::Dataset;
use crate::plan::{DataDescription, Request, plan_file};
use crate::rng::{KeyedRng, Purpose};
use crate::rundir::durable::{Step, fault};
use crate::rundir::event::{EventKind, FailureClass};
use crate::rundir::layout::RunDir;
use crate::rundir::log;
use crate::rundir::stage::{Launch, StageSpec};
use std::collections::BTreeMap;
use std::path::Path;

const YAML: &str = "
name: fault
recipe: quick
set:
  model: {arch: vit_nano_patch8, drop_path: 0.1}
  train: {epochs: 2, batch_size: 6, resolution: 16}
  eval.resolution: 16
  mix.prob: 0.8
  ema: {decay: 0.9, eval: true}
";

/// Two classes of noise: nobody asks what is learnt.
fn pictures(folder: &Path) {
    let mut rng = KeyedRng::new(1, Purpose::Test, 0, 0);
    for (split, count) in [("train", 6), ("val", 2)] {
        for class in ["ice", "sea"] {
            let folder = folder.join(split).join(class);
            std::fs::create_dir_all(&folder).unwrap();
            for index in 0..count {
                let pixels = (0..16 * 16 * 3).map(|_| rng.below(256) as u8).collect();
                let picture = image::RgbImage::from_raw(16, 16, pixels).unwrap();
                picture.save(folder.join(format!("{index}.png"))).unwrap();
            }
        }
    }
}

fn stage(data: &Path) -> StageSpec {
    let dataset = Dataset::open_folder("noise", data).unwrap();
    let path = data.join("fault.yaml");
    std::fs::write(&path, YAML).unwrap();
    let resolver = |_: &_| {
        Ok(DataDescription {
            hash: dataset.hash().unwrap(),
            shape: dataset.shape(),
        })
    };
    let plan = plan_file(&path, &Request::default(), &resolver).unwrap();
    plan.stage_spec(0)
}

/// Runs attempt `attempt` of the stage in `dir`; its exit code.
fn attempt(dir: &RunDir, data: &Path, attempt: u32) -> i32 {
    let launch = Launch {
        attempt,
        data_root: Some(data.to_owned()),
        ..serde_json::from_value(serde_json::json!({
            "attempt": 0, "device": "cpu", "threads": 1, "loader_threads": 0, "data_root": null,
            "parent_dir": null, "log_seconds": 0.0, "checkpoint_seconds": 0.0, "keep_best": true,
        }))
        .unwrap()
    };
    std::fs::write(dir.launch(), serde_json::to_vec(&launch).unwrap()).unwrap();
    process::run(dir.root())
}

/// Everything that a finished stage leaves but its log.
fn results(dir: &RunDir) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for folder in [dir.root().to_owned(), dir.checkpoints()] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.path().is_file() && !name.ends_with(".json") && !name.ends_with(".jsonl") {
                found.insert(name, std::fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}

#[test]
fn every_step_of_the_disk_may_fail_and_the_result_is_the_same() {
    let data = tempfile::tempdir().unwrap();
    pictures(data.path());
    let spec = serde_json::to_vec(&stage(data.path())).unwrap();
    let fresh = || {
        let folder = tempfile::tempdir().unwrap();
        let dir = RunDir::new(folder.path());
        std::fs::write(dir.stage(), &spec).unwrap();
        (folder, dir)
    };
    let (_calm, dir) = fresh();
    assert_eq!(attempt(&dir, data.path(), 1), 0);
    let calm = results(&dir);
    let names: Vec<&str> = calm.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["best.safetensors", "final.safetensors", "predictions.bin"]
    );

    let (mut seen, mut resumes) = (BTreeMap::new(), 0);
    for n in 1.. {
        let errno = if n % 2 == 0 { libc::ENOSPC } else { libc::EIO };
        let (folder, dir) = fresh();
        fault::fail_at(folder.path(), n, errno);
        let code = attempt(&dir, data.path(), 1);
        let Some(step) = fault::take(folder.path()) else {
            assert_eq!(code, 0);
            break;
        };
        *seen.entry(format!("{step:?}")).or_insert(0) += 1;
        let class = FailureClass::from_exit_code(code);
        let expected = match errno {
            libc::ENOSPC => FailureClass::DiskFull,
            _ => FailureClass::IoError,
        };
        assert_eq!(class, Some(expected), "step {n}, {step:?}");
        // After a failed sync nothing is written behind what may be lost.
        let events = log::read(&dir.events()).unwrap();
        let told = events.iter().rev().find_map(|event| match &event.kind {
            EventKind::Failed { class, .. } => Some(*class),
            _ => None,
        });
        assert!(told.is_none() || told == class, "{told:?}");
        if step == Step::Create || step == Step::Rename {
            assert_eq!(told, class, "the log itself is well");
        }
        let last = events.iter().rev().find_map(|event| match event.kind {
            EventKind::Checkpointed { step, .. } => Some(step),
            _ => None,
        });
        assert_eq!(attempt(&dir, data.path(), 2), 0, "step {n}, {step:?}");
        // What was written is gone on from, also where only the end of the stage could not be told.
        let again = log::read(&dir.events()).unwrap();
        let resumed = again.iter().rev().find_map(|event| match event.kind {
            EventKind::Started { resumed_step, .. } => Some(resumed_step),
            _ => None,
        });
        assert!(
            resumed >= last,
            "step {n}, {step:?}: {resumed:?} after {last:?}"
        );
        resumes += usize::from(last.is_some());
        let again = results(&dir);
        for (name, bytes) in &calm {
            assert!(
                again.get(name) == Some(bytes),
                "{name} after step {n}, {step:?}"
            );
        }
        assert_eq!(again.len(), calm.len(), "{:?}", again.keys());
    }
    assert!(resumes > 5, "{resumes} attempts had a checkpoint");
    for step in ["Create", "Write", "Sync", "Rename", "SyncFolder"] {
        assert!(seen.get(step).is_some_and(|count| *count >= 2), "{seen:?}");
    }
}
