//! Files of `torch.save`, made by hand.

use std::io::{Cursor, Write};
use std::path::Path;
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

/// Elements of a storage.
#[derive(Clone)]
pub enum Elements {
    F16(Vec<u16>),
    Bf16(Vec<u16>),
    F32(Vec<f32>),
    F64(Vec<f64>),
}

impl Elements {
    fn class(&self) -> &'static str {
        match self {
            Elements::F16(_) => "HalfStorage",
            Elements::Bf16(_) => "BFloat16Storage",
            Elements::F32(_) => "FloatStorage",
            Elements::F64(_) => "DoubleStorage",
        }
    }

    fn len(&self) -> usize {
        match self {
            Elements::F16(v) | Elements::Bf16(v) => v.len(),
            Elements::F32(v) => v.len(),
            Elements::F64(v) => v.len(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Elements::F16(v) | Elements::Bf16(v) => {
                v.iter().flat_map(|x| x.to_le_bytes()).collect()
            }
            Elements::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Elements::F64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }
}

/// A tensor of a state dict.
#[derive(Clone)]
pub struct TorchTensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
    pub offset: usize,
    /// Name of the storage.
    pub key: String,
    pub elements: Elements,
    /// Elements that the pickle claims, if not the right number.
    pub claimed: Option<usize>,
    /// Another class of storage than that of the elements.
    pub storage_class: Option<&'static str>,
}

impl TorchTensor {
    /// Row-major in a storage of its own.
    pub fn plain(name: &str, shape: &[usize], elements: Elements) -> Self {
        let strides = (0..shape.len())
            .map(|axis| shape[axis + 1..].iter().product())
            .collect();
        TorchTensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
            strides,
            offset: 0,
            key: name.to_owned(),
            elements,
            claimed: None,
            storage_class: None,
        }
    }
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(b'X');
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn number(bytes: &mut Vec<u8>, number: usize) {
    bytes.extend([0x8a, 8]);
    bytes.extend((number as u64).to_le_bytes());
}

fn numbers(bytes: &mut Vec<u8>, list: &[usize]) {
    bytes.push(b'(');
    for &item in list {
        number(bytes, item);
    }
    bytes.push(b't');
}

/// The pickle of a state dict, under the key `part` if there is one, with an optimizer beside it.
pub fn pickle(tensors: &[TorchTensor], part: Option<&str>) -> Vec<u8> {
    let mut bytes = vec![0x80, 2];
    if let Some(part) = part {
        bytes.extend(b"}(");
        text(&mut bytes, "epoch");
        bytes.extend(b"K\x07");
        text(&mut bytes, "optimizer");
        bytes.extend(b"}");
        text(&mut bytes, part);
    }
    bytes.extend(b"ccollections\nOrderedDict\n)R(");
    for tensor in tensors {
        text(&mut bytes, &tensor.name);
        bytes.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut bytes, "storage");
        let class = tensor.storage_class.unwrap_or(tensor.elements.class());
        bytes.extend(format!("ctorch\n{class}\n").as_bytes());
        text(&mut bytes, &tensor.key);
        text(&mut bytes, "cpu");
        number(&mut bytes, tensor.claimed.unwrap_or(tensor.elements.len()));
        bytes.extend(b"tQ");
        number(&mut bytes, tensor.offset);
        numbers(&mut bytes, &tensor.shape);
        numbers(&mut bytes, &tensor.strides);
        bytes.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    bytes.push(b'u');
    if part.is_some() {
        bytes.push(b'u');
    }
    bytes.push(b'.');
    bytes
}

fn zip(pickle: &[u8], tensors: &[TorchTensor], compressed: bool) -> Vec<u8> {
    let method = if compressed {
        CompressionMethod::Deflated
    } else {
        CompressionMethod::Stored
    };
    let options = SimpleFileOptions::default().compression_method(method);
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let mut entry = |name: &str, content: &[u8]| {
        writer
            .start_file(format!("archive/{name}"), options)
            .unwrap();
        writer.write_all(content).unwrap();
    };
    entry("data.pkl", pickle);
    entry("byteorder", b"little");
    let mut written: Vec<&str> = Vec::new();
    for tensor in tensors {
        if !written.contains(&tensor.key.as_str()) && !tensor.key.contains("..") {
            entry(&format!("data/{}", tensor.key), &tensor.elements.bytes());
            written.push(&tensor.key);
        }
    }
    entry("version", b"3\n");
    writer.finish().unwrap().into_inner()
}

/// A zip archive of this pickle alone.
pub fn wrap_zip(pickle: &[u8]) -> Vec<u8> {
    zip(pickle, &[], false)
}

/// Writes an archive of this pickle and the tensors' storages.
pub fn write_zip(path: &Path, pickle: &[u8], tensors: &[TorchTensor], compressed: bool) {
    std::fs::write(path, zip(pickle, tensors, compressed)).unwrap();
}

/// Writes what `torch.save` would.
pub fn save_zip(path: &Path, tensors: &[TorchTensor], part: Option<&str>, compressed: bool) {
    write_zip(path, &pickle(tensors, part), tensors, compressed);
}
