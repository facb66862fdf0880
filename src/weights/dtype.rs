//! Element types of stored tensors, and their conversion to f32.

use burn::tensor::{bf16, f16};

/// Element type of a stored tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    F16,
    Bf16,
    F32,
    F64,
}

impl Dtype {
    /// PyTorch's name.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F16 => "float16",
            Dtype::Bf16 => "bfloat16",
            Dtype::F32 => "float32",
            Dtype::F64 => "float64",
        }
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::F32 => 4,
            Dtype::F64 => 8,
        }
    }

    /// Little-endian elements as f32: exact but for f64, which is rounded to the nearest.
    pub(super) fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Dtype::F16 => chunks(bytes, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::Bf16 => chunks(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            Dtype::F32 => chunks(bytes, f32::from_le_bytes),
            Dtype::F64 => chunks(bytes, |b| f64::from_le_bytes(b) as f32),
        }
    }
}

fn chunks<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (whole, _) = bytes.as_chunks::<N>();
    whole.iter().map(|&chunk| convert(chunk)).collect()
}
