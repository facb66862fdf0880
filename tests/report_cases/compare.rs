//! `ablate compare`.

use crate::store::trained;
use serde_json::Value;

fn answer(arguments: &[&str]) -> Value {
    let (out, _) = trained().done(&[&["compare"], arguments, &["--format", "json"]].concat());
    serde_json::from_str(&out).unwrap()
}

#[test]
fn report_compare_two_variants() {
    let place = trained();
    let (text, _) = place.done(&["compare", "tiny/rrc,1", "tiny/src,1"]);
    assert!(text.contains("augment.crop"), "{text}");
    assert!(
        text.contains("top-1 (%)") && text.contains("seeds, paired t"),
        "{text}"
    );
    assert!(!text.contains("train.epochs"), "{text}");
    let answer = answer(&["rrc,1", "src,1"]);
    let pair = &answer["pairs"][0];
    assert_eq!(pair["configuration"][0]["path"], "augment.crop");
    assert_eq!(pair["configuration"][0]["a"], "rrc");
    let effect = &pair["effects"][0];
    assert_eq!(effect["a"]["n"], 2);
    let difference = effect["b"]["mean"].as_f64().unwrap() - effect["a"]["mean"].as_f64().unwrap();
    assert!((effect["difference"].as_f64().unwrap() - difference).abs() < 1e-9);
    assert_eq!(effect["images"]["pairs"], 2);
    assert_eq!(effect["images"]["images"], 27);
    assert_eq!(effect["images"]["over"], "seeds and images");
    assert_eq!(effect["pairs"], 2);
}

#[test]
fn report_compare_two_runs() {
    let answer = answer(&["tiny/rrc,1/s0", "tiny/rrc,2/s1"]);
    let fields = answer["pairs"][0]["configuration"].as_array().unwrap();
    let paths: Vec<&str> = fields
        .iter()
        .map(|field| field["path"].as_str().unwrap())
        .collect();
    assert_eq!(paths, ["seed", "train.epochs"]);
    let effect = &answer["pairs"][0]["effects"][0];
    assert!(effect["interval"].is_null());
    assert!(effect["images"]["exact_p"].is_f64());
}

#[test]
fn report_compare_experiments_and_wrong_names() {
    let place = trained();
    let itself = answer(&["tiny", "tiny"]);
    assert_eq!(itself["pairs"].as_array().unwrap().len(), 4);
    assert_eq!(
        itself["pairs"][0]["configuration"],
        Value::Array(Vec::new())
    );
    for (a, b, expected) in [
        ("tiny", "other", "no variant of the same name"),
        ("tiny", "rrc,1", "compare like with like"),
        ("tiny/rrc,1", "tiny/rrc,11", "did you mean `tiny/rrc,1`?"),
    ] {
        let output = place.ablate(&["compare", a, b]);
        assert_eq!(output.status.code(), Some(2));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains(expected), "{error}");
    }
}
