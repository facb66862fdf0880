//! What a supervisor takes in of those before it.

use super::*;

/// The steps of evaluations that attempt `attempt` takes in of those before it.
fn missed(dir: &RunDir, attempt: u32) -> Vec<u64> {
    let spec: StageSpec = serde_json::from_str(
        r#"{"version": 1, "trainer_revision": 1, "fingerprint": "f", "task": "command", "seed": 0, "data_hash": "",
            "data_shape": {"classes": 0, "train_images": 0, "val_images": 0}, "evaluation_sets": [], "parent": null,
            "command": {"argv": ["true"], "params": {}, "fields": {}, "inputs": [], "metrics": [], "outputs": [],
                        "environment": {}}}"#,
    )
    .unwrap();
    let launch = Launch {
        attempt,
        device: "cpu".into(),
        threads: 1,
        loader_threads: 0,
        data_root: None,
        evaluation_roots: Default::default(),
        parent_dir: None,
        init_file: None,
        folder: None,
        log_seconds: 1.0,
        checkpoint_seconds: 1.0,
        checkpoint_epochs: None,
        keep_checkpoints: 1,
        keep_best: false,
        accumulation: None,
    };
    let program = Program::of(dir.clone(), spec, launch).unwrap();
    let (missed, _) = program.earlier().unwrap();
    let step = |kind: &EventKind| match kind {
        EventKind::Evaluated { step, .. } => *step,
        other => panic!("{other:?}"),
    };
    missed.iter().map(step).collect()
}

fn evaluated(step: u64) -> EventKind {
    let line = format!("{{\"kind\":\"evaluated\",\"step\":{step},\"metrics\":{{\"m\":1}}}}\n");
    Reports::default().read(line.as_bytes()).remove(0)
}

#[test]
fn what_a_dead_scheduler_has_not_taken_in_is_taken_in_once() {
    let folder = tempfile::tempdir().unwrap();
    let dir = RunDir::new(folder.path());
    let text: String = std::iter::once("{\"kind\":\"started\"}\n".to_owned())
        .chain((1..=4).map(|step| {
            format!("{{\"kind\":\"evaluated\",\"step\":{step},\"metrics\":{{\"m\":1}}}}\n")
        }))
        .collect();
    assert_eq!(missed(&dir, 1), [0; 0]);
    std::fs::write(dir.reports(1), text).unwrap();
    // It died before it had said that the program runs.
    assert_eq!(missed(&dir, 2), [1, 2, 3, 4]);
    let start = EventKind::Started {
        host: "here".into(),
        pid: 1,
        device: "cpu".into(),
        program: "true".into(),
        resumed_step: 0,
        total_steps: 0,
    };
    let mut log = EventLog::open(&dir.events(), 1).unwrap();
    for kind in [start.clone(), start, evaluated(1)] {
        log.append(kind).unwrap();
    }
    drop(log);
    assert_eq!(missed(&dir, 2), [2, 3, 4]);
    // The second died while it took that in.
    let mut log = EventLog::open(&dir.events(), 2).unwrap();
    log.append(evaluated(2)).unwrap();
    drop(log);
    assert_eq!(missed(&dir, 3), [3, 4]);
}
