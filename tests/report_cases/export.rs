//! Exports, read by polars, and by the real TensorBoard, pandas and pyarrow where there are.

use crate::store::{files, trained};
use polars::prelude::*;
use std::fs::File;
use std::path::Path;
use std::process::Command;

#[test]
fn export_in_every_columnar_form() {
    let place = trained();
    let counted = |sql: &str| -> usize {
        let (out, _) = place.done(&["query", sql, "--format", "csv"]);
        out.lines().nth(1).unwrap().parse().unwrap()
    };
    let runs = counted("SELECT count(*) FROM v_runs WHERE experiment = 'tiny'");
    let metrics = counted("SELECT count(*) FROM v_metrics WHERE experiment = 'tiny'");
    assert_eq!(runs, 8);
    let mut frames = Vec::new();
    for form in ["parquet", "csv", "arrow"] {
        let folder = format!("export-{form}");
        let (_, err) = place.done(&["export", &folder, "tiny", "--format", form]);
        assert!(err.contains(&format!("runs.{form}: 8 rows")), "{err}");
        let folder = place.path().join(folder);
        let read = |name: &str| {
            let file = File::open(folder.join(format!("{name}.{form}"))).unwrap();
            match form {
                "parquet" => ParquetReader::new(file).finish(),
                "arrow" => IpcReader::new(file).finish(),
                _ => CsvReader::new(file).finish(),
            }
            .unwrap()
        };
        assert_eq!(read("runs").height(), runs);
        assert_eq!(read("metrics").height(), metrics);
        assert!(read("attempts").height() >= runs);
        assert!(read("tables/tiny/table").height() >= 2);
        let results = read("results");
        let value = results.column("value").unwrap();
        assert_eq!(value.dtype(), &DataType::Float64);
        assert_eq!(
            results.column("resolution").unwrap().dtype(),
            &DataType::Int64
        );
        frames.push((form, results));
    }
    for (form, frame) in &frames[1..] {
        assert!(frame.equals_missing(&frames[0].1), "{form} differs");
    }
    // A second export is the same to the byte.
    let bytes = || std::fs::read(place.path().join("export-parquet/results.parquet")).unwrap();
    let first = bytes();
    place.done(&["export", "export-parquet", "tiny", "--what", "results"]);
    assert_eq!(bytes(), first);
    with_python(
        &["pandas", "pyarrow"],
        "import sys, pandas
parquet = pandas.read_parquet(sys.argv[1] + '/export-parquet/results.parquet')
feather = pandas.read_feather(sys.argv[1] + '/export-arrow/results.arrow')
assert parquet.equals(feather), (parquet.dtypes, feather.dtypes)
assert set(parquet.metric) == {'top1', 'top5', 'loss'}
assert str(parquet.value.dtype) == 'float64' and len(parquet) > 0",
        place.path(),
    );
}

#[test]
fn export_of_curves_for_tensorboard() {
    let place = trained();
    place.done(&["export", "boards", "--format", "tensorboard"]);
    let folder = place.path().join("boards");
    let found = files(&folder);
    // 8 runs of one stage, 2 of two.
    assert_eq!(found.len(), 12, "{found:?}");
    assert!(found.iter().all(|file| {
        let name = file.file_name().unwrap().to_str().unwrap();
        name.starts_with("events.out.tfevents.")
    }));
    assert!(found.iter().any(|file| file.starts_with("tiny/rrc,1/s0")));
    assert!(
        found
            .iter()
            .any(|file| file.starts_with("other/ce/s0/finetune"))
    );
    let contents = || -> Vec<Vec<u8>> {
        let files = found.iter();
        files
            .map(|file| std::fs::read(folder.join(file)).unwrap())
            .collect()
    };
    let first = contents();
    place.done(&["export", "boards", "--format", "tensorboard"]);
    assert!(first == contents());
    let (expected, _) = place.done(&[
        "query",
        "SELECT step, value FROM v_metrics WHERE run = 'tiny/rrc,2/s1' AND metric = 'val/top1' ORDER BY step",
        "--format",
        "csv",
    ]);
    std::fs::write(place.path().join("expected.csv"), expected).unwrap();
    with_python(
        &["tensorboard"],
        "import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
board = EventAccumulator(sys.argv[1] + '/boards/tiny/rrc,2/s1')
board.Reload()
assert {'val/top1', 'train_loss', 'lr'} <= set(board.Tags()['scalars']), board.Tags()
lines = open(sys.argv[1] + '/expected.csv').read().split()[1:]
expected = [(int(step), float(value)) for step, value in (line.split(',') for line in lines)]
read = [(event.step, event.value) for event in board.Scalars('val/top1')]
assert len(read) == 2 and all(a == c and abs(b - d) < 1e-4 for (a, b), (c, d) in zip(read, expected)), (read, expected)",
        place.path(),
    );
}

/// Runs `script` with `folder` as its argument, by the first Python that has `modules`; says so where none has.
fn with_python(modules: &[&str], script: &str, folder: &Path) {
    let imports = format!("import {}", modules.join(", "));
    let named = std::env::var("ABLATE_PYTHON").ok();
    let python = named
        .iter()
        .map(String::as_str)
        .chain(["python3"])
        .find(|python| {
            let probe = Command::new(python).args(["-c", &imports]).output();
            probe.is_ok_and(|output| output.status.success())
        });
    let Some(python) = python else {
        use std::io::Write;
        let text = format!(
            "left out: reading an export with {}, which this machine's python3 has not\n",
            modules.join(" and ")
        );
        let _ = std::io::stderr().write_all(text.as_bytes());
        return;
    };
    let output = Command::new(python)
        .args(["-c", script])
        .arg(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
