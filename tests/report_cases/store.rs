//! The store that the tests look at: two experiments, trained once by the program.

use crate::small_data;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

const TINY: &str = "\
name: tiny
title: Crop and length <of> training & more
claim: A \"claim\" of two axes.
recipe: quick
seeds: 2
axes:
  augment.crop: [rrc, src]
  train.epochs: [1, 2]
baseline: {augment.crop: rrc}
report: {metrics: [top1, loss], rows: [train.epochs], columns: [augment.crop]}
set:
  data.name: small
  model: {patch_size: 8, embed_dim: 32, depth: 1, num_heads: 2}
  train: {resolution: 24, batch_size: 9}
  eval.resolution: 24
  mix.prob: 0
";

/// `tiny` with a `report` section that asks for every table, long sources and a plot that can't be made.
pub fn wide() -> String {
    let section = "\
report:
  metrics: [top1, loss]
  rows: [train.epochs]
  columns: [augment.crop]
  margin: 0.5
  correction: dunnett
  bootstrap: 100
  tables: [auto, variants, comparisons, effects, published]
  plots: [forest, {kind: resolution, name: sides}]
  reference:
    - {at: {augment.crop: src, train.epochs: 2}, id: R0156}
    - {at: {augment.crop: src}, id: R0168, direction: better}
    - {at: {augment.crop: rrc}, value: 41.5, std: 0.4, source: 'a source of many words, as they are, which says in full where \
the number stands and how it came there & who typed it_in (100 % sure)', confidence: typed}
";
    TINY.lines()
        .filter(|line| !line.starts_with("report:"))
        .map(|line| format!("{line}\n"))
        .chain([section.to_owned()])
        .collect()
}

const OTHER: &str = "\
name: other
title: Another one
claim: Two stages.
recipe: quick
seeds: 1
axes:
  loss.name: [ce, bce]
stages:
  pretrain: {}
  finetune: {from: pretrain}
set:
  data.name: small
  model: {patch_size: 8, embed_dim: 32, depth: 1, num_heads: 2}
  train: {resolution: 24, epochs: 2, batch_size: 9}
  eval.resolution: 24
  mix.prob: 0
";

/// A folder with `tiny.yaml`, `other.yaml`, their data, and `store`.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs the program in the folder.
    pub fn ablate(&self, arguments: &[&str]) -> Output {
        command(self.path()).args(arguments).output().unwrap()
    }

    /// Runs the program, which has to succeed: stdout and stderr.
    pub fn done(&self, arguments: &[&str]) -> (String, String) {
        let output = self.ablate(arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {out}{err}");
        (out, err)
    }
}

/// The program in `folder`, whose store is `store` and whose data set is `small`.
pub fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ablate"));
    command
        .current_dir(folder)
        .env("ABLATE_STORE", "store")
        .env("ABLATE_DATA_SMALL", folder.join("data"))
        .env("NO_COLOR", "1");
    command
}

/// A folder as above, without the store.
pub fn untrained() -> Place {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tiny.yaml"), TINY).unwrap();
    std::fs::write(folder.path().join("other.yaml"), OTHER).unwrap();
    small_data::write(&folder.path().join("data"), [4, 3], "png");
    Place { folder }
}

/// The trained store, made by the first test that asks. Tests only read it and write beside it.
pub fn trained() -> &'static Place {
    static PLACE: OnceLock<Place> = OnceLock::new();
    PLACE.get_or_init(|| {
        let place = untrained();
        place.done(&["run", "tiny.yaml", "--quiet"]);
        place.done(&["run", "other.yaml", "--quiet"]);
        place
    })
}

/// All files below `folder`, by their path in it.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}
