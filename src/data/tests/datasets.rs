//! The embedded data set, image folders, content hashes.

use crate::data::content_hash::{Purpose, folder_hash};
use crate::data::{DataError, Dataset, Split, embedded};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A PNG of one colour.
pub(super) fn png(width: u32, height: u32, color: [u8; 3]) -> Vec<u8> {
    let image = image::RgbImage::from_pixel(width, height, image::Rgb(color));
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

pub(super) fn write(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Writes the embedded data set's files below `root`.
fn unpack(root: &Path) {
    let set = Dataset::embedded();
    for sample in Split::ALL.iter().flat_map(|split| set.samples(*split)) {
        write(root, &sample.path, embedded::file(&sample.path).unwrap());
    }
}

#[test]
fn the_embedded_set() {
    let set = Dataset::embedded();
    let shape = set.shape();
    assert_eq!(
        (shape.classes, shape.train_images, shape.val_images),
        (9, 3915, 935)
    );
    assert_eq!(set.classes()[0], "boreal");
    assert_eq!(set.classes()[8], "tundra");
    assert!(set.classes().is_sorted());
    assert!(
        set.samples(Split::Train)
            .is_sorted_by_key(|sample| sample.label)
    );
    assert!(embedded::NOTICE.contains("Blue Marble"));
    for split in Split::ALL {
        for index in (0..set.len(split)).step_by(97) {
            let image = set.image(split, index).unwrap();
            assert_eq!((image.width(), image.height()), (48, 48));
        }
    }
    // Cached: the same allocation twice.
    let [a, b] = [0; 2].map(|i| set.image(Split::Val, i).unwrap());
    assert!(std::sync::Arc::ptr_eq(&a, &b));
}

#[test]
fn a_folder_of_the_same_files_is_the_same_set() {
    let folder = tempfile::tempdir().unwrap();
    unpack(folder.path());
    let embedded = Dataset::embedded();
    let opened = Dataset::open_folder("copy", folder.path()).unwrap();
    assert_eq!(opened.classes(), embedded.classes());
    for split in Split::ALL {
        assert_eq!(opened.samples(split), embedded.samples(split));
    }
    let paths = || {
        Split::ALL
            .iter()
            .flat_map(|s| opened.samples(*s))
            .map(|s| s.path.as_str())
    };
    let hash = folder_hash(folder.path(), paths().collect(), Purpose::Training, None).unwrap();
    assert_eq!(hash, embedded.hash().unwrap());
    assert_eq!(hash.len(), 32);
    assert_eq!(
        *opened.image(Split::Train, 5).unwrap(),
        *embedded.image(Split::Train, 5).unwrap()
    );
}

#[test]
fn labels_names_and_extensions() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let image = png(3, 2, [1, 2, 3]);
    for path in [
        "train/b/2.JPEG",
        "train/b/10.png",
        "train/Z/x.jpg",
        "train/b/notes.txt",
        "train/b/.hidden.png",
        "train/.DS_Store",
        "train/b/deeper/y.png",
        "val/b/v.PNG",
    ] {
        write(root, path, &image);
    }
    let set = Dataset::open_folder("toy", root).unwrap();
    // Byte order: capitals first, "10" before "2".
    assert_eq!(set.classes(), ["Z", "b"]);
    let paths: Vec<_> = set
        .samples(Split::Train)
        .iter()
        .map(|s| s.path.as_str())
        .collect();
    assert_eq!(paths, ["train/Z/x.jpg", "train/b/10.png", "train/b/2.JPEG"]);
    assert_eq!([0, 1, 2].map(|i| set.label(Split::Train, i)), [0, 1, 1]);
    // `val` may lack a class; labels are those of `train`.
    assert_eq!((set.len(Split::Val), set.label(Split::Val, 0)), (1, 1));
    assert_eq!(
        set.image(Split::Train, 2).unwrap().data(),
        [1, 2, 3].repeat(6)
    );
}

#[test]
fn mistakes_are_named() {
    let image = png(1, 1, [0; 3]);
    let open = |files: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            write(folder.path(), file, &image);
        }
        let message = Dataset::open_folder("x", folder.path())
            .unwrap_err()
            .to_string();
        assert!(
            message.contains(folder.path().to_str().unwrap()),
            "{message}"
        );
        message
    };
    let missing = Dataset::open_folder("x", Path::new("/nowhere/at/all")).unwrap_err();
    assert!(matches!(missing, DataError::NoFolder(_)));
    assert!(missing.to_string().contains("/nowhere/at/all"));
    assert!(open(&["val/a/1.png"]).contains("no folder `train`"));
    assert!(open(&["train/a/1.png"]).contains("no folder `val`"));
    assert!(open(&["train/1.png", "val/a/1.png"]).contains("no class folders"));
    assert!(open(&["train/a/1.txt", "val/a/1.png"]).contains("train/a has no images"));
    assert!(open(&["train/a/1.png", "val/a/1.txt"]).contains("val has no images"));
    let message = open(&["train/a/1.png", "val/a/1.png", "val/b/1.png"]);
    assert!(message.contains("class `b`"), "{message}");
}

#[test]
fn an_unreadable_image_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let good = png(4, 4, [9; 3]);
    write(folder.path(), "train/a/1.png", &good[..good.len() / 2]);
    write(folder.path(), "train/a/2.png", b"no image at all");
    write(folder.path(), "train/a/3.png", b"");
    write(folder.path(), "train/a/4.png", &good);
    write(folder.path(), "val/a/1.png", &good);
    let set = Dataset::open_folder("x", folder.path()).unwrap();
    fs::remove_file(folder.path().join("train/a/4.png")).unwrap();
    for index in 0..4 {
        let message = set.image(Split::Train, index).unwrap_err().to_string();
        assert!(
            message.contains(&format!("train/a/{}.png", index + 1)),
            "{message}"
        );
    }
}

#[test]
fn damaged_files_never_panic() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/decode");
    for file in ["rgb_q75_420_progressive.jpg", "palette.png", "cmyk_q95.jpg"] {
        let bytes = fs::read(folder.join(file)).unwrap();
        for position in (0..bytes.len()).step_by(bytes.len() / 60) {
            let mut bad = bytes.clone();
            bad[position] ^= 0x55;
            let _ = crate::data::decode::decode(&bad, file);
            let _ = crate::data::decode::decode(&bytes[..position], file);
        }
    }
}

/// Sets the time of change of every file below `root` to an hour ago.
fn settle(root: &Path) {
    for split in fs::read_dir(root).unwrap() {
        for class in fs::read_dir(split.unwrap().path()).unwrap() {
            for file in fs::read_dir(class.unwrap().path()).unwrap() {
                let file = fs::File::options()
                    .write(true)
                    .open(file.unwrap().path())
                    .unwrap();
                file.set_modified(SystemTime::now() - Duration::from_secs(3600))
                    .unwrap();
            }
        }
    }
}

#[test]
fn the_hash_is_remembered_and_never_trusted_blindly() {
    let folder = tempfile::tempdir().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let root = folder.path();
    let paths = vec!["train/a/1.png", "val/a/1.png"];
    write(root, paths[0], b"one");
    write(root, paths[1], b"two");
    let cached =
        || folder_hash(root, paths.clone(), Purpose::Training, Some(cache.path())).unwrap();
    let entry = || {
        fs::read_dir(cache.path())
            .unwrap()
            .next()
            .map(|entry| entry.unwrap().path())
    };

    // Just written files may still change within the resolution of their time stamp.
    let first = cached();
    assert!(entry().is_none());
    settle(root);
    assert_eq!(cached(), first);
    let entry = entry().unwrap();

    // A forged but well-formed memory shows that it is read at all.
    let memory = fs::read_to_string(&entry).unwrap();
    let body = memory
        .lines()
        .take(3)
        .map(|line| format!("{line}\n"))
        .collect::<String>();
    let forged = body.replace(&first, &"f".repeat(32));
    let check = blake3::hash(forged.as_bytes()).to_hex();
    fs::write(&entry, format!("{forged}{check}\n")).unwrap();
    assert_eq!(cached(), "f".repeat(32));

    // Any damage is ignored.
    for damaged in [
        &memory[..memory.len() - 2],
        "",
        "\u{0}\u{0}",
        &memory.replace('a', "b"),
    ] {
        fs::write(&entry, damaged).unwrap();
        assert_eq!(cached(), first);
    }
    fs::remove_file(&entry).unwrap();
    fs::create_dir(&entry).unwrap();
    assert_eq!(cached(), first);
    fs::remove_dir(&entry).unwrap();

    // A change of content, a change of name.
    assert_eq!(cached(), first);
    write(root, paths[1], b"owt");
    let changed = cached();
    assert_ne!(changed, first);
    write(root, paths[1], b"two");
    fs::rename(root.join("val/a/1.png"), root.join("val/a/2.png")).unwrap();
    let renamed = folder_hash(
        root,
        vec![paths[0], "val/a/2.png"],
        Purpose::Training,
        Some(cache.path()),
    )
    .unwrap();
    assert_ne!(renamed, first);
    assert!(folder_hash(root, paths.clone(), Purpose::Training, Some(cache.path())).is_err());
}

#[test]
fn unusual_pixel_formats() {
    use image::{ImageBuffer, ImageFormat, Luma, LumaA, Rgb, Rgba};
    let encode = |image: image::DynamicImage| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        crate::data::decode::decode(&bytes.into_inner(), "x").unwrap()
    };
    // Alpha is dropped, 16 bits keep their high byte.
    let image = encode(ImageBuffer::from_pixel(2, 1, LumaA([7u8, 0])).into());
    assert_eq!(image.data(), [7; 6]);
    let image = encode(ImageBuffer::from_pixel(1, 1, Rgba([1u8, 2, 3, 0])).into());
    assert_eq!(image.data(), [1, 2, 3]);
    let image = encode(ImageBuffer::from_pixel(1, 1, Luma([0x12ffu16])).into());
    assert_eq!(image.data(), [0x12; 3]);
    let image = encode(ImageBuffer::from_pixel(1, 1, Rgb([0x01ffu16, 0x02ff, 0x0300])).into());
    assert_eq!(image.data(), [1, 2, 3]);
    let image = encode(ImageBuffer::from_pixel(1, 1, Rgba([0x01ffu16, 0x02ff, 0x0300, 9])).into());
    assert_eq!(image.data(), [1, 2, 3]);
}
