//! The README shows what `reports/` holds.

use std::path::Path;

#[test]
fn report_in_the_readme_is_that_of_the_program() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let readme = read("README.md");
    let block = readme
        .split("<!-- begin reports/loss/table.md -->")
        .nth(1)
        .and_then(|rest| rest.split("<!-- end reports/loss/table.md -->").next())
        .expect("the README has the block");
    assert_eq!(
        block.trim(),
        read("reports/loss/table.md").trim(),
        "`reports/make loss` brings the README up to date"
    );
    assert!(readme.contains("](reports/loss/result.svg)"));
    for name in ["augmentation", "crop", "epochs", "fixres", "loss"] {
        assert!(
            root.join(format!("reports/{name}/report.md")).is_file(),
            "{name}"
        );
        // Results of another trainer may have other digits.
        let revision = format!(
            "<dt>trainer revision</dt><dd>{}</dd>",
            ablate::rundir::stage::TRAINER_REVISION
        );
        assert!(
            read(&format!("reports/{name}/index.html")).contains(&revision),
            "`reports/make {name}` trains it by the trainer as it is now"
        );
    }
}
