//! Evaluation sets: layouts, files of labels, what is refused, content hashes.

use super::datasets::{png, write};
use crate::data::{DataError, Dataset, EvaluationSet, Split};
use std::path::Path;

const CLASSES: [&str; 4] = ["ant", "bee", "cat", "dog"];

fn classes() -> Vec<String> {
    CLASSES.map(str::to_owned).to_vec()
}

/// Pictures of different colours at `paths` below a new folder.
fn folder(paths: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (index, path) in paths.iter().enumerate() {
        write(folder.path(), path, &png(3, 3, [index as u8, 7, 9]));
    }
    folder
}

fn open(root: &Path) -> Result<EvaluationSet, DataError> {
    EvaluationSet::open("other", Some(root), &classes())
}

fn refused(root: &Path) -> String {
    open(root).map(|set| set.len()).unwrap_err().to_string()
}

/// Path and labels of every image.
fn listed(set: &EvaluationSet) -> Vec<(&str, &[u32])> {
    let samples = set.dataset().samples(Split::Val).iter().enumerate();
    samples
        .map(|(index, sample)| (sample.path.as_str(), set.labels(index)))
        .collect()
}

#[test]
fn class_folders_are_labelled_by_the_training_set() {
    // Classes may be missing; other files are no images.
    let paths = ["dog/1.png", "bee/2.PNG", "bee/1.jpeg"];
    let expected = |below: &str| -> Vec<(String, Vec<u32>)> {
        [("bee/1.jpeg", 1), ("bee/2.PNG", 1), ("dog/1.png", 3)]
            .map(|(path, label)| (format!("{below}{path}"), vec![label]))
            .to_vec()
    };
    for below in ["", "val/"] {
        let root = folder(
            &paths
                .map(|path| format!("{below}{path}"))
                .each_ref()
                .map(String::as_str),
        );
        write(root.path(), &format!("{below}bee/notes.txt"), b"no image");
        // Beside `val`, nothing counts.
        if !below.is_empty() {
            write(root.path(), "train/emu/1.png", b"");
        }
        let set = open(root.path()).unwrap();
        let found: Vec<_> = listed(&set)
            .into_iter()
            .map(|(path, labels)| (path.to_owned(), labels.to_vec()))
            .collect();
        assert_eq!(found, expected(below));
        assert!(set.is_single_labelled() && !set.is_empty());
        assert_eq!(set.dataset().classes(), classes());
        assert_eq!(set.dataset().image(Split::Val, 2).unwrap().width(), 3);
        write(
            root.path(),
            &format!("{below}emu/1.png"),
            &png(3, 3, [1; 3]),
        );
        assert_eq!(
            refused(root.path()),
            "evaluation set `other` has the class `emu`, which is not in the training set; \
             its class folders are named as those of the training set, or all by numbers"
        );
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(refused(empty.path()).contains("has no class folders"));
    assert!(refused(&empty.path().join("none")).contains("there is no such folder"));
    std::fs::create_dir(empty.path().join("cat")).unwrap();
    assert!(refused(empty.path()).contains("has no images"));
}

#[test]
fn class_folders_may_be_numbers_as_in_imagenet_v2() {
    let root = folder(&["0/b.png", "3/a.png", "2/a.png"]);
    let set = open(root.path()).unwrap();
    let expected: [(&str, &[u32]); 3] = [("0/b.png", &[0]), ("2/a.png", &[2]), ("3/a.png", &[3])];
    assert_eq!(listed(&set), expected);
    // A number that is no class, or names beside numbers.
    write(root.path(), "4/a.png", &png(3, 3, [1; 3]));
    assert!(refused(root.path()).contains("the class `0`, which is not in the training set"));
    let mixed = folder(&["0/b.png", "dog/a.png"]);
    assert!(refused(mixed.path()).contains("the class `0`"));
    // Where classes are called by numbers, the names count: class `0` is the third one.
    let classes = ["10", "2", "0"].map(str::to_owned);
    let set = EvaluationSet::open("other", Some(folder(&["0/a.png"]).path()), &classes).unwrap();
    assert_eq!(set.labels(0), [2]);
}

#[test]
fn the_embedded_set_is_one_too() {
    let embedded = Dataset::embedded();
    let set = EvaluationSet::open("x", None, embedded.classes()).unwrap();
    assert_eq!(set.len(), embedded.len(Split::Val));
    assert_eq!(
        set.dataset().samples(Split::Val),
        embedded.samples(Split::Val)
    );
    // Labels follow the training set's order.
    let mut reversed = embedded.classes().to_vec();
    reversed.reverse();
    let other = EvaluationSet::open("x", None, &reversed).unwrap();
    assert_eq!(other.labels(0)[0], 8 - set.labels(0)[0]);
    assert!(matches!(
        EvaluationSet::open("x", None, &classes()),
        Err(DataError::UnknownSetClass { .. })
    ));
}

#[test]
fn a_file_gives_several_labels() {
    // By path from the root, by path below `val`, by file name; by name and by index.
    let root = folder(&["val/x/1.png", "val/x/2.png", "val/3.png", "val/y/4.png"]);
    let labels = br#"{"val/x/1.png": ["dog", 0], "x/2.png": [], "3.png": 2, "4.png": ["bee", 1]}"#;
    write(root.path(), "labels.json", labels);
    let set = open(root.path()).unwrap();
    assert_eq!(
        listed(&set),
        [
            ("val/3.png", [2].as_slice()),
            ("val/x/1.png", &[0, 3]),
            ("val/y/4.png", &[1])
        ]
    );
    assert!(!set.is_single_labelled());
    let hash = set.hash().unwrap();
    // Other labels are another set; what isn't evaluated isn't part of it.
    write(root.path(), "val/x/2.png", &png(5, 5, [0; 3]));
    assert_eq!(open(root.path()).unwrap().hash().unwrap(), hash);
    let other = br#"{"val/x/1.png": ["dog"], "x/2.png": [], "3.png": 2, "4.png": ["bee"]}"#;
    write(root.path(), "labels.json", other);
    let single = open(root.path()).unwrap();
    assert!(single.is_single_labelled() && single.hash().unwrap() != hash);

    for (labels, message) in [
        ("{\"3.png\": 2", "EOF"),
        ("3", "a map from files to lists of classes is expected"),
        (
            "{\"3.png\": [\"emu\"]}",
            "`3.png`: class `emu` is not in the training set",
        ),
        (
            "{\"3.png\": [4]}",
            "`3.png`: class 4 is not in the training set, which has 4 classes",
        ),
        ("{\"3.png\": [-1]}", "class -1 is not"),
        (
            "{\"3.png\": null}",
            "`3.png`: a class is a name or an index",
        ),
        ("{\"3.png\": 2}", "it has no entry for val/x/1.png"),
        (
            "{\"1.png\": 0, \"2.png\": 0, \"3.png\": 0, \"4.png\": 0, \"5.png\": 1}",
            "there is no image for its entry `5.png`",
        ),
        ("[[0], [1]]", "val/3.png has none up to 2"),
    ] {
        write(root.path(), "labels.json", labels.as_bytes());
        let error = refused(root.path());
        assert!(
            error.starts_with(&format!("labels in {}", root.path().display()))
                && error.contains(message),
            "{error}"
        );
    }
    write(
        root.path(),
        "labels.json",
        br#"{"1.png": 0, "2.png": [], "3.png": [], "4.png": []}"#,
    );
    write(root.path(), "val/y/1.png", &png(3, 3, [8; 3]));
    assert!(refused(root.path()).contains("`1.png` is the name of several images"));
    std::fs::remove_file(root.path().join("val/y/1.png")).unwrap();
    write(
        root.path(),
        "labels.json",
        br#"{"1.png": [], "2.png": [], "3.png": [], "4.png": []}"#,
    );
    assert!(refused(root.path()).contains("has no images"));
}

#[test]
fn labels_as_they_are_published() {
    let name = |number: usize| format!("ILSVRC2012_val_{number:08}.JPEG");
    let (first, third) = (name(1), format!("n01/{}", name(3)));
    let root = folder(&[&first, &third, "n02/ILSVRC2012_val_00000002.JPEG"]);
    write(root.path(), "real.json", b"[[1, 2], [], [0], [3]]");
    let set = open(root.path()).unwrap();
    assert_eq!(
        listed(&set),
        [(first.as_str(), [1, 2].as_slice()), (&third, &[0])]
    );
}
