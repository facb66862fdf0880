//! Reading fixtures and comparing with them.

use ablate::model::parameter::HostParameter;
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The folder of fixtures `name`.
pub fn folder(name: &str) -> PathBuf {
    let root = std::env::var_os("ABLATE_PARITY_DIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/parity"));
    root.join(name)
}

/// The JSON file `file` in folder `name`.
pub fn json(name: &str, file: &str) -> Value {
    let path = folder(name).join(file);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Number at `key`.
pub fn number(value: &Value, key: &str) -> f64 {
    value[key]
        .as_f64()
        .unwrap_or_else(|| panic!("no number at {key} in {value}"))
}

/// Size at `key`.
pub fn size(value: &Value, key: &str) -> usize {
    number(value, key) as usize
}

/// The tensors of a safetensors file, integers as floats.
pub struct Tensors(pub BTreeMap<String, HostParameter>);

impl Tensors {
    pub fn read(name: &str, file: &str) -> Self {
        let path = folder(name).join(file);
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let read = |name: String, view: safetensors::tensor::TensorView<'_>| {
            let data = view.data();
            let values = match view.dtype() {
                safetensors::Dtype::F32 => data
                    .chunks_exact(4)
                    .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
                    .collect(),
                safetensors::Dtype::I64 => data
                    .chunks_exact(8)
                    .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f32)
                    .collect(),
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
        Tensors(
            tensors
                .tensors()
                .into_iter()
                .map(|(name, view)| read(name, view))
                .collect(),
        )
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn get(&self, name: &str) -> &HostParameter {
        self.0
            .get(name)
            .unwrap_or_else(|| panic!("no tensor {name}"))
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
        self.0
            .iter()
            .filter_map(|(name, host)| {
                let name = name.strip_prefix(prefix)?;
                Some(HostParameter {
                    name: name.to_owned(),
                    ..host.clone()
                })
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

/// Collects what was measured and fails at the end with everything that was too far off.
pub struct Report {
    folder: &'static str,
    failures: Vec<String>,
    checks: usize,
}

impl Report {
    pub fn new(folder: &'static str) -> Self {
        Report {
            folder,
            failures: Vec::new(),
            checks: 0,
        }
    }

    /// One line a case: `measured` must be at most `tolerance`.
    pub fn check(&mut self, case: &str, what: &str, measured: f64, tolerance: f64) {
        self.checks += 1;
        println!(
            "{}/{case} {what}: {measured:.2e} (tolerance {tolerance:.0e})",
            self.folder
        );
        if measured.is_nan() || measured > tolerance {
            self.failures
                .push(format!("{case} {what}: {measured:.3e} > {tolerance:.0e}"));
        }
    }

    /// Fails if a check did, or if there was none.
    pub fn finish(self) {
        assert!(self.checks > 0, "{}: no case was checked", self.folder);
        assert!(
            self.failures.is_empty(),
            "{}:\n{}",
            self.folder,
            self.failures.join("\n")
        );
    }
}
