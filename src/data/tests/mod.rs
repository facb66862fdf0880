//! Tests of the data room against fixtures that PyTorch, torchvision, timm and Pillow computed
//! (`tests/parity/`), and of whole data sets and loaders.

mod datasets;
mod evaluation_sets;
mod loading;
mod mixing;
mod ops_parity;
mod sampling;
mod statistics;
mod transforms;

use serde_json::Value;
use std::path::{Path, PathBuf};

/// The folders of fixtures: the project's subset, and the one that `ABLATE_PARITY_DIR` names.
fn parity_dirs() -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity");
    let given = std::env::var_os("ABLATE_PARITY_DIR").filter(|dir| !dir.is_empty());
    std::iter::once(own)
        .chain(given.map(PathBuf::from))
        .collect()
}

fn read_json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn read_image(path: &Path) -> super::Rgb8 {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    super::decode::decode(&bytes, &path.display().to_string()).unwrap()
}

/// The float tensors of a safetensors file.
struct Tensors(Vec<u8>);

impl Tensors {
    fn open(path: &Path) -> Tensors {
        Tensors(std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let tensors = safetensors::SafeTensors::deserialize(&self.0).unwrap();
        tensors
            .tensor(name)
            .unwrap_or_else(|e| panic!("{name}: {e}"))
            .data()
            .to_vec()
    }

    fn f32(&self, name: &str) -> Vec<f32> {
        self.bytes(name)
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect()
    }

    fn i64(&self, name: &str) -> Vec<i64> {
        self.bytes(name)
            .as_chunks::<8>()
            .0
            .iter()
            .map(|b| i64::from_le_bytes(*b))
            .collect()
    }
}

fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}
