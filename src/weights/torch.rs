//! Files of `torch.save`: a zip archive of a pickle and raw storages, or, before PyTorch 1.6, a row of
//! pickles followed by the storages.

use super::dtype::Dtype;
use super::fault::Fault;
use super::pickle::{self, Object, Pickled, Ref, StorageId, TensorId, clean};
use crate::model::parameter::HostParameter;
use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use zip::ZipArchive;
use zip::result::ZipError;

/// How legacy files begin, after two bytes with the protocol: a pickle of a magic number.
const LEGACY_MAGIC: [u8; 13] = [
    0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.',
];

/// Version of the legacy format.
const LEGACY_PROTOCOL: i64 = 1001;

/// Largest ratio of what tensors hold to the size of their file. Files of `torch.save` are not
/// compressed, and weights that somebody compressed don't shrink much.
const MAX_EXPANSION: u64 = 16;

/// Keys under which training programs keep the state dict, best first.
const PARTS: [&str; 2] = ["model", "state_dict"];

/// An open file, its tensors not yet read.
pub(super) struct TorchFile<R> {
    storages: Storages<R>,
    pickled: Pickled,
    /// Name and object of each tensor, in the file's order.
    tensors: Vec<(String, Ref)>,
    /// The key that the state dict was found under.
    pub part: Option<&'static str>,
    /// Bytes of the file.
    length: u64,
}

/// Where the raw elements are.
enum Storages<R> {
    Zip {
        archive: ZipArchive<R>,
        prefix: String,
    },
    /// Start and bytes by key.
    Legacy {
        reader: R,
        places: HashMap<String, (u64, u64)>,
    },
}

impl<R: Read + Seek> TorchFile<R> {
    /// Opens a zip archive.
    pub fn open_zip(reader: R, length: u64) -> Result<Self, Fault> {
        let mut archive = ZipArchive::new(reader).map_err(zip_fault)?;
        let pickles: Vec<String> = archive
            .file_names()
            .filter(|name| *name == "data.pkl" || name.ends_with("/data.pkl"))
            .map(str::to_owned)
            .collect();
        let [pickle] = pickles.as_slice() else {
            let what = "it is a zip archive, but not one of torch.save";
            return Err(Fault::Unknown(what.to_owned()));
        };
        let prefix = pickle
            .strip_suffix("data.pkl")
            .unwrap_or_default()
            .to_owned();
        let byteorder = format!("{prefix}byteorder");
        if archive.index_for_name(&byteorder).is_some() {
            let order = entry(&mut archive, &byteorder, 16)?;
            if order != b"little" {
                let what = "its numbers are not little-endian";
                return Err(Fault::Unknown(what.to_owned()));
            }
        }
        let mut data = archive.by_name(pickle).map_err(zip_fault)?;
        let pickled = pickle::read(&mut data)?;
        // The checksum is known to be right once the end is reached.
        std::io::copy(&mut data, &mut std::io::sink())?;
        drop(data);
        Self::new(Storages::Zip { archive, prefix }, pickled, length)
    }

    /// Opens a legacy file.
    pub fn open_legacy(mut reader: R, length: u64) -> Result<Self, Fault> {
        let mut start = [0; 15];
        let whole = reader.read_exact(&mut start).is_ok();
        if !whole || start[2..] != LEGACY_MAGIC {
            // A pickle of something else; if it wants to run code, that is what to say of it.
            reader.rewind()?;
            pickle::read(&mut reader)?;
            let what = "it is a pickle, but not one of torch.save";
            return Err(Fault::Unknown(what.to_owned()));
        }
        let protocol = pickle::read(&mut reader)?;
        if !matches!(protocol.root(), Object::Int(LEGACY_PROTOCOL)) {
            let what = "its version of the pre-zip format is not known";
            return Err(Fault::Unknown(what.to_owned()));
        }
        let system = pickle::read(&mut reader)?;
        let little = system.get(system.root, "little_endian");
        if !little.is_some_and(|index| matches!(system.objects[index], Object::Bool(true))) {
            let what = "its numbers are not little-endian";
            return Err(Fault::Unknown(what.to_owned()));
        }
        let pickled = pickle::read(&mut reader)?;
        let keys = pickle::read(&mut reader)?;
        let sizes: HashMap<&str, usize> = pickled
            .objects
            .iter()
            .filter_map(|object| match object {
                Object::Storage(storage) => Some((storage.key.as_str(), storage.element)),
                _ => None,
            })
            .collect();
        let mut places = HashMap::new();
        let Object::List(list) = keys.root() else {
            return Err(Fault::damaged("it lacks the list of its storages"));
        };
        for &key in list {
            let key = keys.text(key).unwrap_or_default();
            let Some(&element) = sizes.get(key) else {
                return Err(Fault::damaged("it has a storage that no tensor uses"));
            };
            let mut count = [0; 8];
            reader.read_exact(&mut count)?;
            let start = reader.stream_position()?;
            let bytes = u64::from_le_bytes(count)
                .checked_mul(element as u64)
                .filter(|bytes| start.checked_add(*bytes).is_some_and(|end| end <= length))
                .ok_or_else(|| Fault::damaged("it ends too early"))?;
            reader.seek(SeekFrom::Start(start + bytes))?;
            places.insert(key.to_owned(), (start, bytes));
        }
        Self::new(Storages::Legacy { reader, places }, pickled, length)
    }

    fn new(storages: Storages<R>, pickled: Pickled, length: u64) -> Result<Self, Fault> {
        let is_dict = |index: &Ref| matches!(pickled.objects[*index], Object::Dict(_));
        let part = PARTS.into_iter().find(|part| {
            pickled
                .get(pickled.root, part)
                .as_ref()
                .is_some_and(is_dict)
        });
        let dict = part.and_then(|part| pickled.get(pickled.root, part));
        let Object::Dict(entries) = &pickled.objects[dict.unwrap_or(pickled.root)] else {
            let what = format!("it holds {}, not a state dict", pickled.root().noun());
            return Err(Fault::Unknown(what));
        };
        let mut tensors = Vec::new();
        for &(key, value) in entries {
            let Some(name) = pickled.text(key) else {
                let what = format!(
                    "its state dict has {} for a name",
                    pickled.objects[key].noun()
                );
                return Err(Fault::Unknown(what));
            };
            match &pickled.objects[value] {
                Object::Tensor(_) => tensors.push((name.to_owned(), value)),
                other => {
                    let name = clean(name);
                    let what = format!("its state dict has {} at `{name}`", other.noun());
                    return Err(Fault::Unknown(what));
                }
            }
        }
        Ok(TorchFile {
            storages,
            pickled,
            tensors,
            part,
            length,
        })
    }

    fn tensor(&self, index: Ref) -> Option<(&TensorId, &StorageId)> {
        let Object::Tensor(tensor) = &self.pickled.objects[index] else {
            return None;
        };
        match &self.pickled.objects[tensor.storage] {
            Object::Storage(storage) => Some((tensor, storage)),
            _ => None,
        }
    }

    /// Names and shapes, in the file's order.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let shape = |index| self.tensor(index).map(|(tensor, _)| tensor.shape.clone());
        self.tensors
            .iter()
            .map(|(name, index)| (name.clone(), shape(*index).unwrap_or_default()))
            .collect()
    }

    /// Reads all tensors; each storage once.
    pub fn load(mut self) -> Result<(Vec<HostParameter>, Dtype), Fault> {
        let mut widest = Dtype::F16;
        let mut claimed = 0u64;
        let mut by_key: HashMap<String, Vec<usize>> = HashMap::new();
        for (position, (name, index)) in self.tensors.iter().enumerate() {
            let Some((tensor, storage)) = self.tensor(*index) else {
                return Err(Fault::tensor(name, "it is no tensor"));
            };
            let Some(dtype) = storage.dtype else {
                return Err(Fault::tensor(name, "its elements are no floats"));
            };
            if dtype.size() > widest.size() || dtype == Dtype::Bf16 {
                widest = dtype;
            }
            check_extent(tensor, storage).map_err(|what| Fault::tensor(name, what))?;
            claimed = claimed.saturating_add(elements(&tensor.shape) as u64 * dtype.size() as u64);
            by_key
                .entry(storage.key.clone())
                .or_default()
                .push(position);
        }
        if claimed
            > self
                .length
                .saturating_mul(MAX_EXPANSION)
                .saturating_add(1 << 16)
        {
            return Err(Fault::damaged(format!(
                "its tensors claim {claimed} bytes, but it has {}",
                self.length
            )));
        }
        let mut loaded: Vec<Option<HostParameter>> = vec![None; self.tensors.len()];
        let mut keys: Vec<(String, Vec<usize>)> = by_key.into_iter().collect();
        keys.sort_by_key(|(_, positions)| positions[0]);
        for (key, positions) in keys {
            let first = &self.tensors[positions[0]].0.clone();
            let bytes = self.storage(&key, first)?;
            for position in positions {
                let (name, index) = &self.tensors[position];
                let Some((tensor, storage)) = self.tensor(*index) else {
                    continue;
                };
                let values =
                    gather(tensor, storage, &bytes).map_err(|what| Fault::tensor(name, what))?;
                loaded[position] = Some(HostParameter {
                    name: name.clone(),
                    shape: tensor.shape.clone(),
                    values,
                });
            }
        }
        Ok((loaded.into_iter().flatten().collect(), widest))
    }

    /// All bytes of the storage `key`, which `tensor` lies in.
    fn storage(&mut self, key: &str, tensor: &str) -> Result<Vec<u8>, Fault> {
        match &mut self.storages {
            Storages::Zip { archive, prefix } => {
                let name = format!("{prefix}data/{key}");
                if archive.index_for_name(&name).is_none() {
                    return Err(Fault::tensor(tensor, "its elements are not in the file"));
                }
                let most = self
                    .length
                    .saturating_mul(MAX_EXPANSION)
                    .saturating_add(1 << 16);
                entry(archive, &name, most).map_err(|fault| match fault {
                    Fault::Damaged(what) => Fault::tensor(tensor, what),
                    other => other,
                })
            }
            Storages::Legacy { reader, places } => {
                let Some(&(start, bytes)) = places.get(key) else {
                    return Err(Fault::tensor(tensor, "its elements are not in the file"));
                };
                reader.seek(SeekFrom::Start(start))?;
                let mut data = Vec::new();
                reader.by_ref().take(bytes).read_to_end(&mut data)?;
                Ok(data)
            }
        }
    }
}

/// The whole of a zip entry, of at most `most` bytes, its checksum verified.
fn entry<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
    name: &str,
    most: u64,
) -> Result<Vec<u8>, Fault> {
    let file = archive.by_name(name).map_err(zip_fault)?;
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let what = format!("`{}` expands to more than {most} bytes", clean(name));
        return Err(Fault::Damaged(what));
    }
    Ok(bytes)
}

fn zip_fault(error: ZipError) -> Fault {
    match error {
        ZipError::Io(error) => error.into(),
        other => Fault::Damaged(format!("as a zip archive: {other}")),
    }
}

/// Number of elements, at most `usize::MAX`.
fn elements(shape: &[usize]) -> usize {
    if shape.contains(&0) {
        return 0;
    }
    shape
        .iter()
        .fold(1, |product, side| product.saturating_mul(*side))
}

/// First element of the storage's bytes that is the view's, and the view's length.
fn view(storage: &StorageId) -> (usize, usize) {
    storage.view.unwrap_or((0, storage.elements))
}

/// Checks that the tensor lies within its storage, and isn't larger than it.
fn check_extent(tensor: &TensorId, storage: &StorageId) -> Result<(), String> {
    let (_, length) = view(storage);
    let count = elements(&tensor.shape);
    if count == 0 {
        return Err(format!("its shape {:?} has no elements", tensor.shape));
    }
    let last = tensor
        .shape
        .iter()
        .zip(&tensor.strides)
        .try_fold(tensor.offset, |last, (side, stride)| {
            last.checked_add((side - 1).checked_mul(*stride)?)
        });
    if count > length || last.is_none_or(|last| last >= length) {
        return Err(format!(
            "its shape {:?} reaches beyond its storage of {length} elements",
            tensor.shape
        ));
    }
    Ok(())
}

/// The tensor's elements in row-major order; [`check_extent`] has passed.
fn gather(tensor: &TensorId, storage: &StorageId, bytes: &[u8]) -> Result<Vec<f32>, String> {
    let dtype = storage.dtype.ok_or("its elements are no floats")?;
    let (start, length) = view(storage);
    let size = dtype.size();
    let span = start
        .checked_mul(size)
        .zip(
            start
                .checked_add(length)
                .and_then(|end| end.checked_mul(size)),
        )
        .and_then(|(start, end)| bytes.get(start..end));
    let whole = storage.view.is_some() || storage.elements.checked_mul(size) == Some(bytes.len());
    let Some(span) = span.filter(|_| whole) else {
        return Err(format!(
            "its storage should have {} elements of {}, but has {} bytes",
            storage.elements,
            dtype.name(),
            bytes.len()
        ));
    };
    let count = elements(&tensor.shape);
    let mut expected = 1;
    let contiguous = tensor
        .shape
        .iter()
        .zip(&tensor.strides)
        .rev()
        .all(|(&side, &stride)| {
            let matches = side == 1 || stride == expected;
            expected *= side;
            matches
        });
    if contiguous {
        return Ok(dtype.decode(&span[tensor.offset * size..(tensor.offset + count) * size]));
    }
    let mut picked = Vec::with_capacity(count * size);
    let mut index = vec![0; tensor.shape.len()];
    let mut place = tensor.offset;
    for _ in 0..count {
        picked.extend_from_slice(&span[place * size..(place + 1) * size]);
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            place += tensor.strides[axis];
            if index[axis] < tensor.shape[axis] {
                break;
            }
            place -= tensor.strides[axis] * tensor.shape[axis];
            index[axis] = 0;
        }
    }
    Ok(dtype.decode(&picked))
}
