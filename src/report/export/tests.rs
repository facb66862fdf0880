use super::columnar::{self, Form};
use super::tensorboard::{Scalar, encode};
use crate::report::table::fixture;
use polars::prelude::*;

/// Written by TensorBoard's own library: `fixture/make.py`.
const TENSORBOARD: &[u8] = include_bytes!("fixture/scalars.tfevents");

#[test]
fn event_files_are_those_of_tensorboards_own_writer() {
    let scalar = |tag: &str, step, time, value| Scalar {
        tag: tag.to_owned(),
        step,
        time,
        value,
    };
    let scalars = [
        scalar("train_loss", 0, 1_764_000_000.5, 2.25),
        scalar("val/top1", 0, 1_764_000_001.25, 0.1),
        scalar("val/top1@64px", 300, 1_764_000_002.0, f32::NAN),
        scalar("größe/模型", 5_000_000_000, 1_764_000_003.0, f32::INFINITY),
        scalar("lr", 127, 1_764_000_004.0, 0.0),
    ];
    assert_eq!(encode(1_764_000_000.5, &scalars), TENSORBOARD);
}

#[test]
fn tables_are_the_same_in_every_form() {
    let folder = tempfile::tempdir().unwrap();
    let data = fixture::loss().data;
    let mut all: Vec<Vec<(String, DataFrame)>> = Vec::new();
    for form in [Form::Csv, Form::Parquet, Form::Arrow] {
        let written = columnar::report_tables(&data, form, folder.path()).unwrap();
        let frames = written.iter().map(|written| {
            let file = std::fs::File::open(&written.path).unwrap();
            let frame = match form {
                Form::Csv => CsvReader::new(file).finish(),
                Form::Parquet => ParquetReader::new(file).finish(),
                Form::Arrow => IpcReader::new(file).finish(),
            }
            .unwrap();
            assert_eq!(frame.height() as u64, written.rows);
            let stem = written.path.file_stem().unwrap().to_str().unwrap();
            (stem.to_owned(), frame)
        });
        all.push(frames.collect());
    }
    let variants = all[0].iter().find(|(name, _)| name == "variants").unwrap();
    assert_eq!(variants.1.height(), 4);
    for other in &all[1..] {
        assert_eq!(other.len(), all[0].len());
        for ((name, frame), (_, csv)) in other.iter().zip(&all[0]) {
            assert!(frame.equals_missing(csv), "{name}: {frame:?} {csv:?}");
        }
    }
}

/// Labels stay what they are, of axes that end in the same word, too.
#[test]
fn labels_that_look_like_numbers_stay_words() {
    let folder = tempfile::tempdir().unwrap();
    let labels = ["1e-3", "007"];
    let data = fixture::Fixture::product(
        "sizes",
        &[("encoder.depth", &labels), ("decoder.depth", &labels)],
        2,
        &["train"],
    )
    .finish(0.4, |variant, _| 50.0 + variant as f64)
    .data;
    let mut seen = 0;
    for written in columnar::report_tables(&data, Form::Parquet, folder.path()).unwrap() {
        let file = std::fs::File::open(&written.path).unwrap();
        let frame = ParquetReader::new(file).finish().unwrap();
        for name in ["encoder.depth", "decoder.depth"] {
            let Ok(column) = frame.column(name) else {
                continue;
            };
            let column = column.str().unwrap();
            assert!(column.iter().flatten().all(|label| labels.contains(&label)));
            seen += 1;
        }
    }
    assert!(seen >= 2, "{seen}");
}
