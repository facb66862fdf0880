//! Reading fixtures and comparing with them.

use ablate::data::{Rgb8, decode};
use ablate::model::parameter::HostParameter;
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The folder of all fixtures.
pub fn root() -> PathBuf {
    std::env::var_os("ABLATE_PARITY_DIR")
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity"))
}

/// Tests that run models take turns: one of them switches between fused and plain operations.
pub fn models_in_turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Number at `key`.
pub fn number(value: &Value, key: &str) -> f64 {
    value[key]
        .as_f64()
        .unwrap_or_else(|| panic!("no number at {key}"))
}

/// Size at `key`.
pub fn size(value: &Value, key: &str) -> usize {
    value[key]
        .as_u64()
        .unwrap_or_else(|| panic!("no size at {key}")) as usize
}

/// Text at `key`.
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("no text at {key}"))
}

/// List at `key`.
pub fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key]
        .as_array()
        .unwrap_or_else(|| panic!("no list at {key}"))
}

/// Numbers at `key`.
pub fn numbers(value: &Value, key: &str) -> Vec<f64> {
    list(value, key)
        .iter()
        .map(|v| v.as_f64().unwrap_or_else(|| panic!("{key} holds {v}")))
        .collect()
}

/// Entries of the object `value`.
pub fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value
        .as_object()
        .expect("an object")
        .iter()
        .map(|(key, value)| (key.as_str(), value))
}

/// The tensors of a safetensors file, integers as floats. Remembers which were asked for.
pub struct Tensors {
    tensors: BTreeMap<String, HostParameter>,
    used: RefCell<BTreeSet<String>>,
}

impl Tensors {
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let tensors = safetensors::SafeTensors::deserialize(&bytes)
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let read = |name: String, view: safetensors::tensor::TensorView<'_>| {
            use safetensors::Dtype::{BOOL, F32, F64, I32, I64, U8};
            let data = view.data();
            fn each<const N: usize>(data: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
                data.as_chunks::<N>().0.iter().map(|b| value(*b)).collect()
            }
            let values = match view.dtype() {
                F32 => each(data, f32::from_le_bytes),
                F64 => each(data, |b| f64::from_le_bytes(b) as f32),
                I64 => each(data, |b| i64::from_le_bytes(b) as f32),
                I32 => each(data, |b| i32::from_le_bytes(b) as f32),
                U8 | BOOL => each(data, |[b]| f32::from(b)),
                other => panic!("{name} has type {other:?}"),
            };
            let shape = view.shape().to_vec();
            (
                name.clone(),
                HostParameter {
                    name,
                    shape,
                    values,
                },
            )
        };
        Tensors {
            tensors: tensors
                .tensors()
                .into_iter()
                .map(|(name, view)| read(name, view))
                .collect(),
            used: RefCell::default(),
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub fn get(&self, name: &str) -> &HostParameter {
        self.used.borrow_mut().insert(name.to_owned());
        self.tensors
            .get(name)
            .unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// Values of integers.
    pub fn labels(&self, name: &str) -> Vec<u32> {
        self.get(name).values.iter().map(|v| *v as u32).collect()
    }

    /// On `device`.
    pub fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        let host = self.get(name);
        Tensor::from_data(
            TensorData::new(host.values.clone(), host.shape.clone()),
            device,
        )
    }

    /// All tensors whose name starts with `prefix`, without it.
    pub fn under(&self, prefix: &str) -> Vec<HostParameter> {
        let matching = self.tensors.keys().filter(|name| name.starts_with(prefix));
        matching
            .map(|name| HostParameter {
                name: name[prefix.len()..].to_owned(),
                ..self.get(name).clone()
            })
            .collect()
    }
}

/// Values of a tensor on the host.
pub fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .inner()
        .into_data()
        .try_into_vec::<f32>()
        .expect("f32 values")
}

/// One-hot rows, smoothed by `smoothing`: `1 - s + s / classes` at the label, `s / classes` elsewhere.
pub fn one_hot(labels: &[u32], classes: usize, smoothing: f64, device: &Device) -> Tensor<2> {
    let off = smoothing / classes as f64;
    let mut target = vec![off as f32; labels.len() * classes];
    for (row, label) in labels.iter().enumerate() {
        target[row * classes + *label as usize] = (1.0 - smoothing + off) as f32;
    }
    Tensor::from_data(TensorData::new(target, [labels.len(), classes]), device)
}

/// Largest absolute difference; infinite if lengths differ or a value is not finite.
pub fn max_abs(ours: &[f32], reference: &[f32]) -> f64 {
    if ours.len() != reference.len() {
        return f64::INFINITY;
    }
    ours.iter()
        .zip(reference)
        .map(|(a, b)| {
            if a.is_finite() {
                f64::from((a - b).abs())
            } else {
                f64::INFINITY
            }
        })
        .fold(0.0, f64::max)
}

/// |ours - reference| / |reference|, 0 where both are 0.
pub fn rel_l2(ours: &[f32], reference: &[f32]) -> f64 {
    if ours.len() != reference.len() || ours.iter().any(|v| !v.is_finite()) {
        return f64::INFINITY;
    }
    let square = |x: f64| x * x;
    let difference: f64 = ours
        .iter()
        .zip(reference)
        .map(|(a, b)| square(f64::from(*a) - f64::from(*b)))
        .sum();
    let norm: f64 = reference.iter().map(|b| square(f64::from(*b))).sum();
    if difference == 0.0 {
        0.0
    } else {
        (difference / norm).sqrt()
    }
}

/// |ours - reference| / |reference|, 0 where they are equal.
pub fn relative(ours: f64, reference: f64) -> f64 {
    if ours == reference {
        0.0
    } else {
        (ours - reference).abs() / reference.abs()
    }
}

/// Parts of a manifest that explain and hold no cases.
const EXPLANATIONS: [&str; 10] = [
    "what",
    "tolerance",
    "tensors",
    "facts",
    "files",
    "file",
    "fields",
    "formula",
    "image_sources",
    "versions",
];

/// One folder: gives out its fixtures, collects what was measured, and fails at the end with all that
/// was too far off and all that no check has read.
pub struct Report {
    folder: &'static str,
    pub manifest: Value,
    failures: Vec<String>,
    checks: usize,
    read: BTreeSet<String>,
    opened: Vec<(String, Rc<Tensors>)>,
    /// Share of the tolerance, and what it was.
    worst: Option<(f64, String)>,
}

impl Report {
    /// Opens folder `folder`, whose manifest has no other parts than `sections` and explanations.
    pub fn open(folder: &'static str, sections: &[&str]) -> Self {
        let mut report = Report {
            folder,
            manifest: Value::Null,
            failures: Vec::new(),
            checks: 0,
            read: BTreeSet::new(),
            opened: Vec::new(),
            worst: None,
        };
        report.manifest = report.json("manifest.json");
        let manifest = report.manifest.clone();
        for (section, _) in entries(&manifest) {
            if !sections.contains(&section) && !EXPLANATIONS.contains(&section) {
                report.fail("manifest.json", &format!("unknown part {section}"));
            }
        }
        report
    }

    /// Path of `file`, which counts as read.
    pub fn path(&mut self, file: &str) -> PathBuf {
        self.read.insert(file.to_owned());
        root().join(self.folder).join(file)
    }

    pub fn exists(&self, file: &str) -> bool {
        root().join(self.folder).join(file).is_file()
    }

    pub fn json(&mut self, file: &str) -> Value {
        let path = self.path(file);
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub fn tensors(&mut self, file: &str) -> Rc<Tensors> {
        let tensors = Rc::new(Tensors::read(&self.path(file)));
        self.opened.push((file.to_owned(), Rc::clone(&tensors)));
        tensors
    }

    pub fn image(&mut self, file: &str) -> Rgb8 {
        let path = self.path(file);
        let name = path.display().to_string();
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        decode::decode(&bytes, &name).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The number at `path` of the manifest's tolerances.
    pub fn tolerance(&self, path: &[&str]) -> f64 {
        let value = path
            .iter()
            .fold(&self.manifest["tolerance"], |value, key| &value[*key]);
        value
            .as_f64()
            .unwrap_or_else(|| panic!("no tolerance {}", path.join(".")))
    }

    /// The text at `key` of the manifest's tolerances.
    pub fn tolerance_text(&self, key: &str) -> String {
        text(&self.manifest["tolerance"], key).to_owned()
    }

    /// Insists that the tolerance at `key` says exact, and gives 0.
    pub fn exact(&self, key: &str) -> f64 {
        let text = self.tolerance_text(key);
        assert!(text.starts_with("exact"), "tolerance {key}: {text}");
        0.0
    }

    /// Runs one case; what it panics with is its failure.
    pub fn case(&mut self, name: &str, run: impl FnOnce(&mut Report)) {
        let checks = self.checks;
        match catch_unwind(AssertUnwindSafe(|| run(self))) {
            Ok(()) if self.checks == checks => self.fail(name, "nothing was checked"),
            Ok(()) => {}
            Err(panic) => {
                let message = panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                    .unwrap_or_default();
                self.fail(name, &message);
            }
        }
    }

    /// Fails if `case` has a setting that is not `known`: it would be ignored.
    pub fn settings(&mut self, name: &str, case: &Value, known: &[&str]) {
        for (key, _) in entries(case) {
            if !known.contains(&key) {
                self.fail(name, &format!("unknown setting {key}"));
            }
        }
    }

    /// One line: `measured` must be at most `tolerance`.
    pub fn check(&mut self, case: &str, what: &str, measured: f64, tolerance: f64) {
        self.checks += 1;
        let folder = self.folder;
        println!("{folder}/{case} {what}: {measured:.2e} (tolerance {tolerance:.1e})");
        if measured.is_nan() || measured > tolerance {
            self.fail(
                case,
                &format!("{what}: {measured:.3e}, tolerance {tolerance:.1e}"),
            );
        }
        let share = if measured == 0.0 {
            0.0
        } else {
            measured / tolerance
        };
        if self.worst.as_ref().is_none_or(|(worst, _)| share > *worst) {
            let line = format!("{case} {what}: {measured:.2e} of {tolerance:.1e}");
            self.worst = Some((share, line));
        }
    }

    /// One line for what must hold exactly.
    pub fn holds(&mut self, case: &str, what: &str, holds: bool) {
        self.check(case, what, if holds { 0.0 } else { f64::INFINITY }, 0.0);
    }

    pub fn fail(&mut self, case: &str, message: &str) {
        self.failures.push(format!("{case}: {message}"));
    }

    /// Fails if a check did, if there was none, or if a file or tensor was left unread.
    pub fn finish(mut self) {
        let root = root().join(self.folder);
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("a folder of fixtures") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.strip_prefix(&root).expect("below the folder");
                let name = name.to_string_lossy().into_owned();
                // An image that no operation takes in is no case.
                if !self.read.contains(&name) && !name.starts_with("in/") {
                    self.fail(&name, "no case reads this file");
                }
            }
        }
        for (file, tensors) in std::mem::take(&mut self.opened) {
            let elsewhere = tensors.used.borrow();
            let unread: Vec<&str> = tensors
                .names()
                .filter(|n| !elsewhere.contains(*n))
                .collect();
            if !unread.is_empty() {
                self.fail(&file, &format!("no case reads {}", unread.join(", ")));
            }
        }
        if let Some((share, line)) = &self.worst {
            println!(
                "worst of {}: {line} ({:.1} % of the tolerance, {} checks)",
                self.folder,
                share * 100.0,
                self.checks
            );
        }
        assert!(self.checks > 0, "{}: no case was checked", self.folder);
        assert!(
            self.failures.is_empty(),
            "{}:\n{}",
            self.folder,
            self.failures.join("\n")
        );
    }
}
