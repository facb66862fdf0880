//! Files of weights: published formats, names, hostile files, round trips.

use ablate::model::parameter::{self, HostParameter};
use ablate::model::weights::load;
use ablate::model::{Architecture, VisionTransformer};
use ablate::weights::{self, Description, Format, Naming, Weights, WeightsFileError};
use burn::tensor::{Device, Tensor, TensorData, bf16, f16};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[path = "weights_cases/torch_file.rs"]
mod torch_file;
use torch_file::{Elements, TorchTensor, pickle, save_zip, wrap_zip};

/// The fixtures of published formats.
fn folder() -> PathBuf {
    let root = std::env::var_os("ABLATE_PARITY_DIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/parity"));
    root.join("checkpoint")
}

fn manifest() -> serde_json::Value {
    let text = std::fs::read_to_string(folder().join("manifest.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Every file of weights in the fixtures.
fn fixtures() -> Vec<(String, PathBuf)> {
    let files = manifest()["files"].as_object().unwrap().clone();
    files
        .into_iter()
        .map(|(name, _)| (name.clone(), folder().join(name)))
        .filter(|(name, _)| name != "io.safetensors")
        .collect()
}

fn bits(parameters: &[HostParameter]) -> Vec<(String, Vec<usize>, Vec<u32>)> {
    parameters
        .iter()
        .map(|p| {
            let bits = p.values.iter().map(|value| value.to_bits()).collect();
            (p.name.clone(), p.shape.clone(), bits)
        })
        .collect()
}

/// The model of the fixtures with these weights.
fn model(weights: &Weights, heads: usize) -> VisionTransformer {
    let arch = weights.description.architecture(heads);
    let mut model = VisionTransformer::new(arch, 1, &Device::flex());
    load(&mut model, weights.parameters.clone(), false).unwrap();
    model
}

#[test]
fn published_formats_hold_the_same_parameters_and_give_the_same_logits() {
    let manifest = manifest();
    let bytes = std::fs::read(folder().join("io.safetensors")).unwrap();
    let io = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let floats = |name: &str| -> (Vec<f32>, Vec<usize>) {
        let view = io.tensor(name).unwrap();
        let (chunks, _) = view.data().as_chunks::<4>();
        let values = chunks.iter().map(|b| f32::from_le_bytes(*b)).collect();
        (values, view.shape().to_vec())
    };
    let tolerance = manifest["tolerance"]["logits"]["max_abs"].as_f64().unwrap();
    let mut reference: Option<Weights> = None;
    let (whole, half): (Vec<_>, Vec<_>) = fixtures()
        .into_iter()
        .partition(|(name, _)| !name.contains("half"));
    assert!(!whole.is_empty());
    for (name, path) in whole {
        let weights = weights::read(&path).unwrap_or_else(|error| panic!("{error}"));
        let model_facts = &manifest["model"];
        let description = &weights.description;
        for (key, found) in [
            ("img_size", description.resolution()),
            ("patch_size", description.patch_size),
            ("dim", description.embed_dim),
            ("depth", description.depth),
            ("num_classes", description.classes),
        ] {
            assert_eq!(
                model_facts[key].as_u64(),
                Some(found as u64),
                "{name}: {key}"
            );
        }
        let format = match name.as_str() {
            _ if name.ends_with(".safetensors") => Format::Safetensors,
            _ if name.contains("legacy") => Format::TorchLegacy,
            _ => Format::TorchZip,
        };
        assert_eq!(weights.format, format, "{name}");
        let timm = name.contains("timm");
        assert_eq!(weights.naming == Naming::Timm, timm, "{name}");
        if let Some(reference) = &reference {
            assert_eq!(
                bits(&weights.parameters),
                bits(&reference.parameters),
                "{name}"
            );
        }
        let heads = model_facts["heads"].as_u64().unwrap() as usize;
        let (input, shape) = floats("input");
        let images: Tensor<4> = Tensor::from_data(TensorData::new(input, shape), &Device::flex());
        let logits = model(&weights, heads).forward(images, None).into_data();
        let logits = logits.convert::<f32>().try_into_vec::<f32>().unwrap();
        let (expected, _) = floats("logits");
        assert_eq!(logits.len(), expected.len());
        let largest = logits
            .iter()
            .zip(&expected)
            .map(|(a, b)| f64::from((a - b).abs()))
            .fold(0.0, f64::max);
        println!("{name}: logits deviate by {largest:e} (tolerance {tolerance:e})");
        assert!(largest <= tolerance, "{name}: {largest}");
        reference.get_or_insert(weights);
    }
    let reference = reference.unwrap();
    for (name, path) in half {
        let weights = weights::read(&path).unwrap_or_else(|error| panic!("{error}"));
        let mut expected = reference.parameters.clone();
        for value in expected.iter_mut().flat_map(|p| &mut p.values) {
            *value = f16::from_f32(*value).to_f32();
        }
        assert_eq!(bits(&weights.parameters), bits(&expected), "{name}");
    }
}

#[test]
fn shapes_are_those_of_the_models() {
    let base = Architecture {
        resolution: 24,
        channels: 3,
        patch_size: 8,
        embed_dim: 12,
        depth: 2,
        num_heads: 3,
        mlp_ratio: 4.0,
        parallel_branches: 1,
        layer_scale: Some(1e-4),
        drop_path: 0.0,
        drop_path_rule: ablate::spec::recipe::DropPathRule::Constant,
        pos_embed_class: false,
        classes: 5,
    };
    for (branches, layer_scale, pos_embed_class, mlp_ratio) in [
        (1, Some(0.1), false, 4.0),
        (1, None, true, 2.5),
        (2, Some(0.1), false, 4.0),
        (3, None, true, 1.0 / 3.0 + 1e-9),
    ] {
        let arch = Architecture {
            parallel_branches: branches,
            layer_scale,
            pos_embed_class,
            mlp_ratio,
            ..base.clone()
        };
        let mut model = VisionTransformer::new(arch.clone(), 0, &Device::flex());
        let shapes = parameter::shapes(&mut model);
        let found =
            Description::of(shapes.iter().map(|(n, s)| (n.as_str(), s.as_slice()))).unwrap();
        assert_eq!(found.shapes(), shapes);
        let again = found.architecture(3);
        assert_eq!(again.mlp_hidden(), arch.mlp_hidden());
        assert_eq!(again.positions(), arch.positions());
        assert_eq!(again.parallel_branches, branches);
        let names = |naming| -> Vec<String> {
            shapes
                .iter()
                .map(|(name, _)| match naming {
                    Naming::Timm => weights::timm(name, branches),
                    Naming::Official => name.clone(),
                })
                .collect()
        };
        let back: Vec<String> = names(Naming::Timm)
            .iter()
            .map(|name| weights::official(name))
            .collect();
        assert_eq!(back, names(Naming::Official));
    }
    // Every real model, where the fixtures have them.
    let file = folder().join("../shapes/state_dict_shapes.json");
    let Ok(text) = std::fs::read_to_string(file) else {
        return;
    };
    let models: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    for (name, model) in models {
        let shapes: Vec<(String, Vec<usize>)> = model["shapes"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, shape)| {
                let shape = shape.as_array().unwrap();
                let shape = shape.iter().map(|n| n.as_u64().unwrap() as usize).collect();
                (name.clone(), shape)
            })
            .collect();
        let found = Description::of(shapes.iter().map(|(n, s)| (n.as_str(), s.as_slice())))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found.shapes(), shapes, "{name}");
        assert_eq!(
            Some(found.resolution() as u64),
            model["image_size"].as_u64()
        );
    }
}

/// A small model's parameters.
fn parameters(branches: usize) -> Vec<HostParameter> {
    let arch = Architecture {
        resolution: 8,
        channels: 3,
        patch_size: 4,
        embed_dim: 8,
        depth: 2,
        num_heads: 2,
        mlp_ratio: 2.0,
        parallel_branches: branches,
        layer_scale: Some(0.1),
        drop_path: 0.0,
        drop_path_rule: ablate::spec::recipe::DropPathRule::Constant,
        pos_embed_class: false,
        classes: 3,
    };
    parameter::export(&mut VisionTransformer::new(arch, 5, &Device::flex()))
}

#[test]
fn exports_come_back_as_they_went() {
    let folder = tempfile::tempdir().unwrap();
    for branches in [1, 2] {
        let mut own = parameters(branches);
        own[0].values[0] = -0.0;
        own[0].values[1] = f32::MIN_POSITIVE / 2.0;
        for naming in [Naming::Official, Naming::Timm] {
            let path = folder.path().join("deep/er/w.safetensors");
            let notes = BTreeMap::from([("run".to_owned(), "a/b/s0".to_owned())]);
            weights::export(&path, &own, Some(4), naming, &notes).unwrap();
            let back = weights::read(&path).unwrap();
            assert_eq!(bits(&back.parameters), bits(&own));
            assert_eq!(back.naming, naming);
            assert_eq!(back.num_heads(), Some(4), "from the metadata");
            assert_eq!(back.metadata["run"], "a/b/s0");
            // The digest notices any changed value.
            let mut bytes = std::fs::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            let error = weights::read(&path).unwrap_err().to_string();
            assert!(error.contains("checksum"), "{error}");
        }
    }
    // What timm's ParallelThingsBlock and Block call their parameters.
    let names = |branches| -> Vec<String> {
        let path = folder.path().join("names.safetensors");
        let own = parameters(branches);
        weights::export(&path, &own, None, Naming::Timm, &BTreeMap::new()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        file.names().iter().map(|name| (*name).to_owned()).collect()
    };
    for name in [
        "blocks.1.ls1.gamma",
        "blocks.0.ls2.gamma",
        "blocks.0.norm1.weight",
    ] {
        assert!(names(1).iter().any(|known| known == name), "{name}");
    }
    for name in [
        "blocks.1.attns.1.ls.gamma",
        "blocks.0.attns.0.attn.qkv.weight",
        "blocks.0.ffns.1.norm.bias",
        "blocks.0.ffns.0.mlp.fc2.bias",
    ] {
        assert!(names(2).iter().any(|known| known == name), "{name}");
    }
}

/// The parameters as tensors of a file of `torch.save`, each in a storage of its own.
fn as_torch(parameters: &[HostParameter]) -> Vec<TorchTensor> {
    parameters
        .iter()
        .map(|p| TorchTensor::plain(&p.name, &p.shape, Elements::F32(p.values.clone())))
        .collect()
}

#[test]
fn every_element_type_and_layout_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.bin");
    let own = parameters(1);
    for kind in 0..4 {
        let mut tensors = as_torch(&own);
        let mut expected = own.clone();
        for (tensor, expected) in tensors.iter_mut().zip(&mut expected) {
            let values = &mut expected.values;
            tensor.elements = match kind {
                0 => Elements::F64(values.iter().map(|v| f64::from(*v)).collect()),
                1 => {
                    let half: Vec<bf16> = values.iter().map(|v| bf16::from_f32(*v)).collect();
                    *values = half.iter().map(|v| v.to_f32()).collect();
                    Elements::Bf16(half.iter().map(|v| v.to_bits()).collect())
                }
                2 => {
                    let half: Vec<f16> = values.iter().map(|v| f16::from_f32(*v)).collect();
                    *values = half.iter().map(|v| v.to_f32()).collect();
                    Elements::F16(half.iter().map(|v| v.to_bits()).collect())
                }
                // Behind three others, and transposed where there are two axes.
                _ => {
                    let mut moved = vec![9.0; 3];
                    tensor.offset = 3;
                    if let [rows, columns] = tensor.shape[..] {
                        tensor.strides = vec![1, rows];
                        for column in 0..columns {
                            moved.extend((0..rows).map(|row| values[row * columns + column]));
                        }
                    } else {
                        moved.extend(values.iter());
                    }
                    moved.push(8.0);
                    Elements::F32(moved)
                }
            };
        }
        for compressed in [false, true] {
            for part in [None, Some("model"), Some("state_dict")] {
                save_zip(&path, &tensors, part, compressed);
                let found = weights::read(&path).unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(bits(&found.parameters), bits(&expected), "kind {kind}");
                assert_eq!(found.part.as_deref(), part);
            }
        }
    }
    // Data-parallel training's prefix; all tensors in one storage.
    let mut tensors = as_torch(&own);
    let all: Vec<f32> = own.iter().flat_map(|p| p.values.clone()).collect();
    let mut offset = 0;
    for tensor in &mut tensors {
        let count = tensor.shape.iter().product::<usize>();
        tensor.name.insert_str(0, "module.");
        tensor.key = "shared".to_owned();
        tensor.offset = offset;
        tensor.elements = Elements::F32(all.clone());
        offset += count;
    }
    save_zip(&path, &tensors, Some("model"), false);
    assert_eq!(bits(&weights::read(&path).unwrap().parameters), bits(&own));
}

/// The error of a file with these bytes.
fn error_of(bytes: &[u8]) -> WeightsFileError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.pth");
    std::fs::write(&path, bytes).unwrap();
    let error = weights::read(&path).expect_err("refused");
    assert!(error.to_string().contains("hostile.pth"), "{error}");
    error
}

#[test]
fn code_is_refused_and_named() {
    let calls: [(&str, &[u8]); 8] = [
        (
            "posix.system",
            b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00id\x85R.",
        ),
        (
            "os.system",
            b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.",
        ),
        (
            "builtins.eval",
            b"\x80\x02}cbuiltins\neval\nX\x01\x00\x00\x001\x85Rb.",
        ),
        ("subprocess.Popen", b"\x80\x02csubprocess\nPopen\n)\x81."),
        ("os.system", b"(X\x02\x00\x00\x00idios\nsystem\n."),
        ("torch.load", b"\x80\x02ctorch\nload\n)R."),
        (
            "torch._utils.__builtins__",
            b"\x80\x02ctorch._utils\n__builtins__\n.",
        ),
        (
            "numpy.core.multiarray._reconstruct",
            b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n.",
        ),
    ];
    for (name, pickle) in calls {
        let named = |error: WeightsFileError| match error {
            WeightsFileError::Code { name: found, .. } => assert_eq!(found, name),
            other => panic!("{name}: {other}"),
        };
        named(error_of(&wrap_zip(pickle)));
        if pickle[0] == 0x80 {
            named(error_of(pickle));
        }
        // Beside real weights, where nobody would look at it.
        let with_weights = pickle_with(&as_torch(&parameters(1)), pickle);
        named(error_of(&wrap_zip(&with_weights)));
    }
    let error = error_of(&wrap_zip(b"\x80\x02cposix\nsystem\n.")).to_string();
    assert!(
        error.contains("`posix.system`") && error.contains("refused"),
        "{error}"
    );
}

/// A checkpoint's pickle with `payload` (a whole pickle) as a further entry.
fn pickle_with(tensors: &[TorchTensor], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80, 2, b'}', b'('];
    let key = |bytes: &mut Vec<u8>, key: &str| {
        bytes.push(b'X');
        bytes.extend((key.len() as u32).to_le_bytes());
        bytes.extend(key.as_bytes());
    };
    key(&mut bytes, "model");
    let inner = pickle(tensors, None);
    bytes.extend(&inner[2..inner.len() - 1]);
    key(&mut bytes, "args");
    let start = if payload[0] == 0x80 { 2 } else { 0 };
    bytes.extend(&payload[start..payload.len() - 1]);
    bytes.extend(b"u.");
    bytes
}

#[test]
fn a_namespace_of_arguments_is_no_code() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.pth");
    let own = parameters(1);
    let arguments = b"\x80\x02cargparse\nNamespace\n)\x81}X\x02\x00\x00\x00lrG\x3f\x50\x62\x4d\xd2\xf1\xa9\xfcsb.";
    let tensors = as_torch(&own);
    torch_file::write_zip(&path, &pickle_with(&tensors, arguments), &tensors, false);
    assert_eq!(bits(&weights::read(&path).unwrap().parameters), bits(&own));
}

#[test]
fn bombs_are_defused() {
    let repeated = |start: &[u8], body: &[u8], times: usize, end: &[u8]| -> Vec<u8> {
        let mut bytes = start.to_vec();
        for _ in 0..times {
            bytes.extend(body);
        }
        bytes.extend(end);
        bytes
    };
    let deep_lists = repeated(
        b"\x80\x02",
        b"]",
        500_000,
        &repeated(b"", b"a", 499_999, b"."),
    );
    let deep_tuples = repeated(b"\x80\x02)", b"\x85", 900_000, b".");
    let endless = repeated(b"\x80\x02", b"]", 3_000_000, b".");
    let marks = repeated(b"\x80\x02", b"(", 3_000_000, b".");
    let duplicates = repeated(b"\x80\x02]", b"2", 3_000_000, b".");
    let memo = repeated(b"\x80\x04]", b"\x94", 3_000_000, b".");
    // A list that holds itself a million times, and dicts made of it.
    let cycle = repeated(b"\x80\x02]q\x00(", b"h\x00", 500_000, b"e.");
    let pairs = repeated(b"\x80\x02]q\x00(", b"))\x86", 100_000, b"e0");
    let dicts = repeated(
        &pairs,
        b"ccollections\nOrderedDict\nh\x00\x85R0",
        100_000,
        b"N.",
    );
    let sizes: [&[u8]; 6] = [
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
        b"\x80\x02X\xff\xff\xff\xffabc.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xffabc.",
        b"\x80\x02\x8b\xff\xff\xff\xff1.",
        b"\x80\x02",
        b"\x80\x02.",
    ];
    let all = [
        deep_lists,
        deep_tuples,
        endless,
        marks,
        duplicates,
        memo,
        cycle,
        dicts,
    ];
    for bytes in all.iter().map(Vec::as_slice).chain(sizes) {
        for file in [wrap_zip(bytes), bytes.to_vec()] {
            match error_of(&file) {
                WeightsFileError::Damaged { .. } | WeightsFileError::Unknown { .. } => {}
                other => panic!("{other}"),
            }
        }
    }
}

#[test]
fn absurd_tensors_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.pth");
    let own = parameters(1);
    const TARGET: &str = "blocks.0.attn.proj.weight";
    let spoil = |change: &dyn Fn(&mut TorchTensor)| -> String {
        let mut tensors = as_torch(&own);
        let head = tensors
            .iter_mut()
            .find(|t| t.name == TARGET)
            .unwrap();
        change(head);
        save_zip(&path, &tensors, Some("model"), false);
        let error = weights::read(&path).expect_err("refused").to_string();
        assert!(
            error.contains("w.pth") && error.contains(TARGET),
            "{error}"
        );
        error
    };
    // Larger than its storage, by an expanded axis.
    spoil(&|t| {
        t.shape = vec![1 << 40, 8];
        t.strides = vec![0, 1];
    });
    spoil(&|t| t.offset = 1);
    spoil(&|t| t.offset = usize::MAX >> 1);
    spoil(&|t| t.strides = vec![usize::MAX >> 1, 1]);
    spoil(&|t| t.claimed = Some(1 << 40));
    spoil(&|t| t.claimed = Some(1));
    spoil(&|t| t.key = "../../etc/passwd".to_owned());
    let error = spoil(&|t| t.storage_class = Some("LongStorage"));
    assert!(error.contains("no floats"), "{error}");
    let error = spoil(&|t| t.shape = vec![8, 3]);
    assert!(
        error.contains("[8, 8]"),
        "{error}"
    );
    let error = spoil(&|t| t.name = format!("{TARGET}.old"));
    assert!(error.contains("lack"), "{error}");
}

#[test]
fn missing_extra_and_misshapen_tensors_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let write = |parameters: &[HostParameter]| -> String {
        let data: Vec<Vec<u8>> = parameters
            .iter()
            .map(|p| p.values.iter().flat_map(|v| v.to_le_bytes()).collect())
            .collect();
        let views = parameters.iter().zip(&data).map(|(p, data)| {
            let view = safetensors::tensor::TensorView::new(
                safetensors::Dtype::F32,
                p.shape.clone(),
                data,
            );
            (p.name.as_str(), view.unwrap())
        });
        std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
        weights::read(&path).expect_err("refused").to_string()
    };
    let own = parameters(1);
    for index in 0..own.len() {
        let name = own[index].name.clone();
        let mut missing = own.clone();
        missing.remove(index);
        let error = write(&missing);
        assert!(error.contains("w.safetensors: "), "{error}");
        // Without its first gamma the model has no LayerScale, and the others are too many.
        let extra = name == "blocks.0.gamma_1";
        assert!(extra || error.contains(&name), "{name}: {error}");
        let mut misshapen = own.clone();
        misshapen[index].shape.push(1);
        let error = write(&misshapen);
        assert!(error.contains("shape"), "{name}: {error}");
    }
    let mut more = own.clone();
    let mut extra = own[0].clone();
    extra.name = "dist_token".to_owned();
    more.push(extra);
    assert!(write(&more).contains("dist_token"));
    let mut twice = own.clone();
    let mut gamma = own
        .iter()
        .find(|p| p.name == "blocks.0.gamma_1")
        .unwrap()
        .clone();
    gamma.name = "blocks.0.ls1.gamma".to_owned();
    twice.push(gamma);
    let error = write(&twice);
    assert!(
        error.contains("blocks.0.gamma_1") && error.contains("twice"),
        "{error}"
    );
    let mut gap = own;
    for p in &mut gap {
        p.name = p.name.replace("blocks.1.", "blocks.999999999.");
    }
    assert!(write(&gap).contains("blocks.999999999."));
}

#[test]
fn damaged_files_are_refused_without_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.pth");
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        weights::read(&path).is_err()
    };
    for (name, file) in fixtures() {
        let bytes = std::fs::read(&file).unwrap();
        for length in (0..bytes.len()).step_by(97) {
            assert!(refused(&bytes[..length]), "{name} cut at {length}");
        }
        for position in (0..bytes.len()).step_by(97) {
            let mut bad = bytes.clone();
            bad[position] ^= 0x55;
            // A changed value in a format without checksums can't be noticed.
            let _ = refused(&bad);
        }
    }
    for (content, what) in [
        (&b""[..], "empty"),
        (b"<!DOCTYPE html><html>", "web page"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid",
            "git lfs pull",
        ),
        (b"hello", "neither"),
        (b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "zip"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f{\"a\": 1}", "damaged"),
    ] {
        std::fs::write(&path, content).unwrap();
        let error = weights::read(&path).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    let error = weights::read(folder.path()).unwrap_err().to_string();
    assert!(error.contains("folder"), "{error}");
    let error = weights::read(Path::new("/no/such/file"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("/no/such/file"), "{error}");
}
