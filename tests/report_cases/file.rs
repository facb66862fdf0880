//! `ablate report FILE`: the file's `report` section as it is now.

use crate::store::{trained, untrained, wide};

#[test]
fn a_files_report_section_counts_as_it_is_now() {
    let place = trained();
    let read = |folder: &str, file: &str| {
        std::fs::read_to_string(place.path().join(folder).join("tiny").join(file)).unwrap()
    };
    place.done(&["report", "tiny", "--out", "as-run", "--no-plots"]);
    assert!(!place.path().join("as-run/tiny/published.md").exists());

    // Another file that describes the same experiment: its tables, references and plots.
    std::fs::write(place.path().join("edited.yaml"), wide()).unwrap();
    let (_, notes) = place.done(&["report", "edited.yaml", "--out", "as-is"]);
    assert!(read("as-is", "published.md").contains("SRC better than RRC"));
    assert!(read("as-is", "comparisons.md").contains("equivalent"));
    // What was asked for and isn't there is said, wherever one looks.
    let sentence = "Asked for and not drawn: resolution (`sides`), because no axis is a resolution";
    assert!(notes.contains(sentence), "{notes}");
    let plain = |text: String| text.replace("\\`", "`");
    assert!(plain(read("as-is", "report.md")).contains(sentence));
    let page = read("as-is", "index.html").replace("&#x60;", "`");
    assert!(
        page.contains(sentence)
            && page.contains("of edited.yaml as it was when this page was made")
    );
    assert!(place.path().join("as-is/tiny/forest.svg").exists());
    assert!(!place.path().join("as-is/tiny/result.svg").exists());
    assert!(page.contains("no checkpoint, epoch or seed was chosen by its result"));

    // A mistake in it is one, with its place and the nearest name.
    let broken = wide().replace("rows: [train.epochs]", "rows: [train.epoch]");
    std::fs::write(place.path().join("broken.yaml"), &broken).unwrap();
    let output = place.ablate(&["report", "broken.yaml", "--out", "broken"]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{message}");
    let line = 1 + broken
        .lines()
        .position(|line| line.contains("train.epoch]"))
        .unwrap();
    assert!(
        message.contains(&format!("broken.yaml:{line}:"))
            && message.contains("unknown axis `train.epoch`; did you mean `train.epochs`?"),
        "{message}"
    );

    // Other axes are other runs: the stored section, and a warning.
    let other = wide()
        .replace("augment.crop", "augment.hflip")
        .replace("[rrc, src]", "[0, 0.5]");
    let other = other.replace("rrc", "0").replace("src", "0.5");
    std::fs::write(place.path().join("axes.yaml"), other).unwrap();
    let (_, warning) = place.done(&["report", "axes.yaml", "--out", "axes", "--no-plots"]);
    assert!(
        warning.contains("warning: axes.yaml has other axes (augment.hflip, train.epochs)"),
        "{warning}"
    );
    assert_eq!(read("axes", "table.csv"), read("as-run", "table.csv"));
}

/// A design with a baseline of its own, and a program that says which values of its metric are the better ones.
const PROGRAMS: &str = r#"name: programs
params: {a: 1, b: 1}
design: one_at_a_time
axes:
  a: {values: [1, 2], path: params.a}
  b: {values: [1, 3], path: params.b}
seeds: 2
stages:
  train:
    command: [sh, -c, 'echo "{{\"perplexity\": {params.a}{params.b}.$(({params.a} * $ABLATE_SEED))}}" > "$ABLATE_RUN_DIR/metrics.json"']
    metrics: [{name: perplexity, better: lower, unit: nats}]
"#;

#[test]
fn a_file_stands_for_what_was_run_of_it() {
    let place = untrained();
    std::fs::write(place.path().join("programs.yaml"), PROGRAMS).unwrap();
    place.done(&["run", "programs.yaml", "--quiet"]);
    place.done(&["report", "programs", "--out", "name"]);
    place.done(&["report", "programs.yaml", "--out", "file"]);
    let read = |folder: &str, file: &str| {
        let path = place.path().join(folder).join("programs").join(file);
        std::fs::read_to_string(path).unwrap()
    };
    let table = read("name", "table.md");
    assert!(table.contains("nats") && table.contains("**"), "{table}");
    for file in ["table.json", "comparisons.json", "forest.csv", "index.html"] {
        assert_eq!(read("name", file), read("file", file), "{file}");
    }
}
