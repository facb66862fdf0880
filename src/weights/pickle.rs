//! A pickle machine that runs nothing.
//!
//! It knows the opcodes that PyTorch writes and builds plain data. A pickle names what it would call
//! (`GLOBAL`) before it calls it; a name outside [`Global::NAMES`] is refused at once. The names on
//! the list are not called either: they become dictionaries, tensors that are yet to be read, and
//! objects that nobody looks into.
//!
//! Objects lie in one list and refer to each other by number, so neither depth nor cycles matter, and
//! every opcode adds a constant amount of memory at most.

use super::dtype::Dtype;
use super::fault::Fault;
use std::collections::HashMap;
use std::io::Read;

/// Most bytes of a pickle; a checkpoint's, with its optimizer, has less than a million.
const MAX_BYTES: u64 = 64 << 20;

/// Most objects, entries of the memo, and objects on the stack.
const MAX_OBJECTS: usize = 1 << 20;

/// Most dimensions of a tensor, and most bytes of a storage's name.
const MAX_DIMENSIONS: usize = 8;
const MAX_KEY: usize = 256;

/// Number of an object.
pub(super) type Ref = usize;

/// What a pickle may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildTensorV2,
    RebuildParameter,
    /// `torch.Size`: a tuple of its argument.
    Size,
    /// A typed storage: bytes of an element, and its type unless weights don't have such elements.
    Storage(usize, Option<Dtype>),
    /// Something that is kept as an object that nobody looks into.
    Inert,
}

impl Global {
    /// The whole list. `argparse.Namespace` holds the arguments in training checkpoints.
    const NAMES: [(&'static str, Global); 32] = {
        use Global::{
            Inert, OrderedDict, RebuildParameter, RebuildTensor, RebuildTensorV2, Size, Storage,
        };
        [
            ("collections.OrderedDict", OrderedDict),
            ("torch._utils._rebuild_tensor", RebuildTensor),
            ("torch._utils._rebuild_tensor_v2", RebuildTensorV2),
            ("torch._utils._rebuild_parameter", RebuildParameter),
            ("torch.Size", Size),
            ("torch.HalfStorage", Storage(2, Some(Dtype::F16))),
            ("torch.BFloat16Storage", Storage(2, Some(Dtype::Bf16))),
            ("torch.FloatStorage", Storage(4, Some(Dtype::F32))),
            ("torch.DoubleStorage", Storage(8, Some(Dtype::F64))),
            ("torch.LongStorage", Storage(8, None)),
            ("torch.IntStorage", Storage(4, None)),
            ("torch.ShortStorage", Storage(2, None)),
            ("torch.CharStorage", Storage(1, None)),
            ("torch.ByteStorage", Storage(1, None)),
            ("torch.BoolStorage", Storage(1, None)),
            ("torch.device", Inert),
            ("torch.float16", Inert),
            ("torch.half", Inert),
            ("torch.bfloat16", Inert),
            ("torch.float32", Inert),
            ("torch.float", Inert),
            ("torch.float64", Inert),
            ("torch.double", Inert),
            ("torch.int8", Inert),
            ("torch.uint8", Inert),
            ("torch.int16", Inert),
            ("torch.int32", Inert),
            ("torch.int64", Inert),
            ("torch.long", Inert),
            ("torch.bool", Inert),
            ("argparse.Namespace", Inert),
            ("collections.defaultdict", Inert),
        ]
    };

    fn named(module: &str, name: &str) -> Result<Global, Fault> {
        let full = format!("{module}.{name}");
        match Self::NAMES.iter().find(|(known, _)| *known == full) {
            Some((_, global)) => Ok(*global),
            None => Err(Fault::Code(clean(&full))),
        }
    }
}

/// A name for a message: printable, and not endless.
pub(super) fn clean(text: &str) -> String {
    let printable = text.chars().map(|c| if c.is_control() { '?' } else { c });
    printable.take(120).collect()
}

/// A storage that a tensor lies in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StorageId {
    pub dtype: Option<Dtype>,
    /// Bytes of one element.
    pub element: usize,
    pub key: String,
    pub elements: usize,
    /// First element and number of elements of a view of the storage `key` (legacy files).
    pub view: Option<(usize, usize)>,
}

/// A tensor as a view of a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TensorId {
    /// Object number of the storage.
    pub storage: Ref,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// An object.
#[derive(Debug, Clone)]
pub(super) enum Object {
    None,
    Bool(bool),
    Int(i64),
    /// Numbers that nobody asks for: floats, and integers beyond 64 bits.
    Number,
    Text(String),
    Bytes,
    List(Vec<Ref>),
    Tuple(Vec<Ref>),
    Dict(Vec<(Ref, Ref)>),
    Global(Global),
    Storage(StorageId),
    Tensor(TensorId),
    Inert,
}

impl Object {
    /// Its Python type, for messages.
    pub fn noun(&self) -> &'static str {
        match self {
            Object::None => "None",
            Object::Bool(_) => "a bool",
            Object::Int(_) | Object::Number => "a number",
            Object::Text(_) => "a string",
            Object::Bytes => "bytes",
            Object::List(_) => "a list",
            Object::Tuple(_) => "a tuple",
            Object::Dict(_) => "a dict",
            Object::Global(_) => "a name",
            Object::Storage(_) => "a storage",
            Object::Tensor(_) => "a tensor",
            Object::Inert => "an object",
        }
    }
}

/// What a pickle built.
#[derive(Debug)]
pub(super) struct Pickled {
    pub objects: Vec<Object>,
    pub root: Ref,
}

impl Pickled {
    pub fn root(&self) -> &Object {
        &self.objects[self.root]
    }

    /// The text of object `index`.
    pub fn text(&self, index: Ref) -> Option<&str> {
        match &self.objects[index] {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value of `key` in the dict `index`; the last one wins, as in Python.
    pub fn get(&self, index: Ref, key: &str) -> Option<Ref> {
        let Object::Dict(entries) = &self.objects[index] else {
            return None;
        };
        let found = entries
            .iter()
            .rev()
            .find(|(k, _)| self.text(*k) == Some(key));
        found.map(|(_, value)| *value)
    }
}

/// Reads one pickle, and nothing behind it.
pub(super) fn read(source: &mut impl Read) -> Result<Pickled, Fault> {
    let mut machine = Machine {
        source: source.take(MAX_BYTES),
        objects: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        copied: 0,
    };
    loop {
        let opcode = machine.byte()?;
        if opcode == b'.' {
            let root = machine.pop()?;
            return Ok(Pickled {
                objects: machine.objects,
                root,
            });
        }
        machine.step(opcode)?;
    }
}

struct Machine<R> {
    source: std::io::Take<R>,
    objects: Vec<Object>,
    stack: Vec<Ref>,
    /// Heights of the stack at marks.
    marks: Vec<usize>,
    memo: HashMap<usize, Ref>,
    /// Entries that were copied from lists to dicts.
    copied: usize,
}

impl<R: Read> Machine<R> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut bytes = [0; N];
        match self.source.read_exact(&mut bytes) {
            Err(_) if self.source.limit() == 0 => Err(Fault::damaged(format!(
                "its pickle has more than {} MiB",
                MAX_BYTES >> 20
            ))),
            read => Ok(read.map(|()| bytes)?),
        }
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        Ok(self.bytes::<1>()?[0])
    }

    /// `length` bytes; memory grows with what is there, not with what is said.
    fn block(&mut self, length: u64) -> Result<Vec<u8>, Fault> {
        let mut block = Vec::new();
        self.source.by_ref().take(length).read_to_end(&mut block)?;
        if block.len() as u64 == length {
            Ok(block)
        } else {
            Err(Fault::damaged("it ends too early"))
        }
    }

    fn text(&mut self, length: u64) -> Result<String, Fault> {
        String::from_utf8(self.block(length)?)
            .map_err(|_| Fault::damaged("a string in its pickle is not UTF-8"))
    }

    /// A line of text, without its end.
    fn line(&mut self) -> Result<String, Fault> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => break,
                byte => line.push(byte),
            }
        }
        String::from_utf8(line).map_err(|_| Fault::damaged("a name in its pickle is not UTF-8"))
    }

    fn push(&mut self, object: Object) -> Result<(), Fault> {
        if self.objects.len() >= MAX_OBJECTS {
            return Err(Fault::damaged("its pickle has too many objects"));
        }
        self.objects.push(object);
        self.push_ref(self.objects.len() - 1)
    }

    fn push_ref(&mut self, index: Ref) -> Result<(), Fault> {
        if self.stack.len() >= MAX_OBJECTS {
            return Err(Fault::damaged("its pickle needs too large a stack"));
        }
        self.stack.push(index);
        Ok(())
    }

    fn pop(&mut self) -> Result<Ref, Fault> {
        if self.stack.len() <= self.marks.last().copied().unwrap_or(0) {
            return Err(Fault::damaged("its pickle takes more than it gave"));
        }
        Ok(self.stack.pop().unwrap_or_default())
    }

    fn top(&self) -> Result<Ref, Fault> {
        self.stack
            .last()
            .copied()
            .ok_or_else(|| Fault::damaged("its pickle takes more than it gave"))
    }

    /// Everything above the last mark.
    fn pop_mark(&mut self) -> Result<Vec<Ref>, Fault> {
        let height = self
            .marks
            .pop()
            .filter(|height| *height <= self.stack.len())
            .ok_or_else(|| Fault::damaged("its pickle lacks a mark"))?;
        Ok(self.stack.split_off(height))
    }

    fn remember(&mut self, place: usize) -> Result<(), Fault> {
        if self.memo.len() >= MAX_OBJECTS {
            return Err(Fault::damaged("its pickle remembers too much"));
        }
        let top = self.top()?;
        self.memo.insert(place, top);
        Ok(())
    }

    fn recall(&mut self, place: usize) -> Result<(), Fault> {
        match self.memo.get(&place) {
            Some(&index) => self.push_ref(index),
            None => Err(Fault::damaged("its pickle recalls what it never built")),
        }
    }

    fn step(&mut self, opcode: u8) -> Result<(), Fault> {
        match opcode {
            // PROTO, FRAME: how it is laid out, not what it says.
            0x80 => self.byte().map(drop),
            0x95 => self.bytes::<8>().map(drop),
            b'(' if self.marks.len() >= MAX_OBJECTS => {
                Err(Fault::damaged("its pickle needs too large a stack"))
            }
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.pop().map(drop),
            b'1' => self.pop_mark().map(drop),
            b'2' => self.top().and_then(|top| self.push_ref(top)),
            b'N' => self.push(Object::None),
            0x88 | 0x89 => self.push(Object::Bool(opcode == 0x88)),
            b'J' => {
                let number = i32::from_le_bytes(self.bytes()?);
                self.push(Object::Int(number.into()))
            }
            b'K' => {
                let number = self.byte()?;
                self.push(Object::Int(number.into()))
            }
            b'M' => {
                let number = u16::from_le_bytes(self.bytes()?);
                self.push(Object::Int(number.into()))
            }
            b'I' | b'L' => {
                let line = self.line()?;
                let number = line.trim_end_matches('L').parse();
                self.push(number.map_or(Object::Number, Object::Int))
            }
            0x8a => {
                let length = self.byte()?;
                self.long(length.into())
            }
            0x8b => {
                let length = u32::from_le_bytes(self.bytes()?);
                self.long(length.into())
            }
            b'G' => {
                self.bytes::<8>()?;
                self.push(Object::Number)
            }
            b'F' => {
                self.line()?;
                self.push(Object::Number)
            }
            0x8c => {
                let length = self.byte()?;
                let text = self.text(length.into())?;
                self.push(Object::Text(text))
            }
            // BINUNICODE; BINSTRING, Python 2's.
            b'X' | b'T' => {
                let length = u32::from_le_bytes(self.bytes()?);
                let text = self.text(length.into())?;
                self.push(Object::Text(text))
            }
            b'U' => {
                let length = self.byte()?;
                let text = self.text(length.into())?;
                self.push(Object::Text(text))
            }
            0x8d => {
                let length = u64::from_le_bytes(self.bytes()?);
                let text = self.text(length)?;
                self.push(Object::Text(text))
            }
            b'V' => {
                let text = self.line()?;
                self.push(Object::Text(text))
            }
            b'C' => {
                let length = self.byte()?;
                self.skip(length.into())
            }
            b'B' => {
                let length = u32::from_le_bytes(self.bytes()?);
                self.skip(length.into())
            }
            0x8e | 0x96 => {
                let length = u64::from_le_bytes(self.bytes()?);
                self.skip(length)
            }
            b'}' => self.push(Object::Dict(Vec::new())),
            b']' => self.push(Object::List(Vec::new())),
            b')' => self.push(Object::Tuple(Vec::new())),
            0x8f => self.push(Object::Inert),
            0x90 => self.pop_mark().map(drop),
            0x91 => {
                self.pop_mark()?;
                self.push(Object::Inert)
            }
            b't' => {
                let items = self.pop_mark()?;
                self.push(Object::Tuple(items))
            }
            0x85..=0x87 => {
                let mut items = Vec::new();
                for _ in 0..opcode - 0x84 {
                    items.push(self.pop()?);
                }
                items.reverse();
                self.push(Object::Tuple(items))
            }
            b'l' => {
                let items = self.pop_mark()?;
                self.push(Object::List(items))
            }
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Object::Dict(pairs(&items)?))
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(items)
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set(vec![(key, value)])
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set(pairs(&items)?)
            }
            b'q' => {
                let place = self.byte()?;
                self.remember(place.into())
            }
            b'r' => {
                let place = u32::from_le_bytes(self.bytes()?);
                self.remember(place as usize)
            }
            0x94 => self.remember(self.memo.len()),
            b'h' => {
                let place = self.byte()?;
                self.recall(place.into())
            }
            b'j' => {
                let place = u32::from_le_bytes(self.bytes()?);
                self.recall(place as usize)
            }
            b'p' | b'g' => {
                let place = self.line()?.parse();
                let place = place.map_err(|_| Fault::damaged("its pickle has a bad memo"))?;
                if opcode == b'p' {
                    self.remember(place)
                } else {
                    self.recall(place)
                }
            }
            b'c' | b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                let global = Global::named(&module, &name)?;
                if opcode == b'i' {
                    self.pop_mark()?;
                    return self.push(Object::Inert);
                }
                self.push(Object::Global(global))
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Object::Text(module), Object::Text(name)) =
                    (&self.objects[module], &self.objects[name])
                else {
                    return Err(Fault::damaged("its pickle names something without a name"));
                };
                let global = Global::named(module, name)?;
                self.push(Object::Global(global))
            }
            b'R' => {
                let arguments = self.pop()?;
                let function = self.pop()?;
                self.call(function, arguments)
            }
            0x81 => {
                let _arguments = self.pop()?;
                let class = self.pop()?;
                self.instance(class)
            }
            0x92 => {
                let _keywords = self.pop()?;
                let _arguments = self.pop()?;
                let class = self.pop()?;
                self.instance(class)
            }
            // BUILD: attributes of an object, such as the `_metadata` of a state dict.
            b'b' => {
                self.pop()?;
                match self.objects[self.top()?] {
                    Object::Dict(_) | Object::Inert | Object::Tensor(_) => Ok(()),
                    _ => Err(Fault::damaged("its pickle sets attributes of plain data")),
                }
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(Object::Storage(storage))
            }
            unknown => Err(Fault::damaged(format!(
                "its pickle has the opcode {unknown:#04x}, which PyTorch doesn't write"
            ))),
        }
    }

    fn long(&mut self, length: u64) -> Result<(), Fault> {
        let bytes = self.block(length)?;
        let object = if bytes.len() <= 8 {
            let sign = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
            let mut all = [if sign { 0xff } else { 0 }; 8];
            all[..bytes.len()].copy_from_slice(&bytes);
            Object::Int(i64::from_le_bytes(all))
        } else {
            Object::Number
        };
        self.push(object)
    }

    fn skip(&mut self, length: u64) -> Result<(), Fault> {
        self.block(length)?;
        self.push(Object::Bytes)
    }

    fn append(&mut self, items: Vec<Ref>) -> Result<(), Fault> {
        let top = self.top()?;
        match &mut self.objects[top] {
            Object::List(list) => {
                list.extend(items);
                Ok(())
            }
            Object::Inert => Ok(()),
            other => Err(Fault::damaged(format!(
                "its pickle appends to {}",
                other.noun()
            ))),
        }
    }

    fn set(&mut self, items: Vec<(Ref, Ref)>) -> Result<(), Fault> {
        let top = self.top()?;
        match &mut self.objects[top] {
            Object::Dict(entries) => {
                entries.extend(items);
                Ok(())
            }
            Object::Inert => Ok(()),
            other => Err(Fault::damaged(format!(
                "its pickle sets an item of {}",
                other.noun()
            ))),
        }
    }

    /// `REDUCE`: what the call would give.
    fn call(&mut self, function: Ref, arguments: Ref) -> Result<(), Fault> {
        let Object::Global(function) = self.objects[function] else {
            return Err(Fault::damaged("its pickle calls plain data"));
        };
        let Object::Tuple(arguments) = &self.objects[arguments] else {
            return Err(Fault::damaged("its pickle calls without arguments"));
        };
        // The longest call on the list has seven.
        let arguments: Vec<Ref> = arguments.iter().take(8).copied().collect();
        let object = match (function, arguments.as_slice()) {
            (Global::OrderedDict, []) => Object::Dict(Vec::new()),
            (Global::OrderedDict, &[items]) => Object::Dict(self.items(items)?),
            (Global::RebuildTensor, &[storage, offset, shape, strides])
            | (Global::RebuildTensorV2, &[storage, offset, shape, strides, ..]) => {
                Object::Tensor(self.tensor(storage, offset, shape, strides)?)
            }
            (Global::RebuildParameter, &[data, ..]) => {
                return match self.objects[data] {
                    Object::Tensor(_) => self.push_ref(data),
                    _ => Err(Fault::damaged("a parameter in its pickle is no tensor")),
                };
            }
            (Global::Size, &[items]) => return self.push_ref(items),
            (Global::Inert, _) => Object::Inert,
            _ => {
                return Err(Fault::damaged(
                    "its pickle has a call that PyTorch doesn't write",
                ));
            }
        };
        self.push(object)
    }

    fn instance(&mut self, class: Ref) -> Result<(), Fault> {
        match self.objects[class] {
            Object::Global(Global::OrderedDict) => self.push(Object::Dict(Vec::new())),
            Object::Global(Global::Inert) => self.push(Object::Inert),
            _ => Err(Fault::damaged("its pickle makes an object of no class")),
        }
    }

    /// The argument of `OrderedDict`: a list of pairs.
    fn items(&mut self, items: Ref) -> Result<Vec<(Ref, Ref)>, Fault> {
        let bad = || Fault::damaged("its pickle fills a dict with something else than pairs");
        let (Object::List(list) | Object::Tuple(list)) = &self.objects[items] else {
            return Err(bad());
        };
        self.copied += list.len();
        if self.copied > MAX_OBJECTS {
            return Err(Fault::damaged("its pickle has too many objects"));
        }
        list.iter()
            .map(|pair| match &self.objects[*pair] {
                Object::List(pair) | Object::Tuple(pair) => match pair[..] {
                    [key, value] => Ok((key, value)),
                    _ => Err(bad()),
                },
                _ => Err(bad()),
            })
            .collect()
    }

    fn count(&self, index: Ref) -> Result<usize, Fault> {
        match self.objects[index] {
            Object::Int(number) => usize::try_from(number).ok(),
            _ => None,
        }
        .ok_or_else(|| Fault::damaged("a size in its pickle is no whole number from 0"))
    }

    fn counts(&self, index: Ref) -> Result<Vec<usize>, Fault> {
        match &self.objects[index] {
            Object::Tuple(list) | Object::List(list) if list.len() <= MAX_DIMENSIONS => {
                list.iter().map(|item| self.count(*item)).collect()
            }
            _ => Err(Fault::damaged("a shape in its pickle is no short tuple")),
        }
    }

    fn tensor(
        &self,
        storage: Ref,
        offset: Ref,
        shape: Ref,
        strides: Ref,
    ) -> Result<TensorId, Fault> {
        let Object::Storage(_) = self.objects[storage] else {
            return Err(Fault::damaged("a tensor in its pickle has no storage"));
        };
        let tensor = TensorId {
            storage,
            offset: self.count(offset)?,
            shape: self.counts(shape)?,
            strides: self.counts(strides)?,
        };
        if tensor.shape.len() == tensor.strides.len() {
            Ok(tensor)
        } else {
            Err(Fault::damaged(
                "a tensor in its pickle has other strides than sizes",
            ))
        }
    }

    /// A persistent id: `("storage", type, key, device, elements)`, in legacy files with a sixth part,
    /// None or a view of another storage.
    fn storage(&self, id: Ref) -> Result<StorageId, Fault> {
        let bad = || Fault::damaged("a storage in its pickle is none of PyTorch's");
        let Object::Tuple(parts) = &self.objects[id] else {
            return Err(bad());
        };
        let &[tag, class, key, _device, elements, ref view @ ..] = parts.as_slice() else {
            return Err(bad());
        };
        let (Object::Text(tag), Object::Global(Global::Storage(element, dtype)), Object::Text(key)) =
            (&self.objects[tag], &self.objects[class], &self.objects[key])
        else {
            return Err(bad());
        };
        if tag != "storage" || key.len() > MAX_KEY {
            return Err(bad());
        }
        let view = match view {
            [] => None,
            &[view] => match &self.objects[view] {
                Object::None => None,
                Object::Tuple(view) => match view[..] {
                    [_key, offset, length] => Some((self.count(offset)?, self.count(length)?)),
                    _ => return Err(bad()),
                },
                _ => return Err(bad()),
            },
            _ => return Err(bad()),
        };
        Ok(StorageId {
            dtype: *dtype,
            element: *element,
            key: key.clone(),
            elements: self.count(elements)?,
            view,
        })
    }
}

fn pairs(items: &[Ref]) -> Result<Vec<(Ref, Ref)>, Fault> {
    let (pairs, rest) = items.as_chunks::<2>();
    if rest.is_empty() {
        Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
    } else {
        Err(Fault::damaged("its pickle has a key without a value"))
    }
}
