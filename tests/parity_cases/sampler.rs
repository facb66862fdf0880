//! Repeated augmentation with given permutations.

use crate::fixture::{Report, list, numbers, size};
use ablate::data::sampler::{reference_selected, repeated_augmentation};

#[test]
fn sampler() {
    let mut report = Report::open("sampler", &[]);
    let bound = report.manifest["tolerance"] == "exact";
    assert!(bound, "the tolerance is not exact");
    let cases = report.json("repeated_aug.json");
    for (index, case) in cases.as_array().expect("cases").iter().enumerate() {
        let world = size(case, "num_replicas");
        let name = format!("{index} ({} on {world})", size(case, "dataset_len"));
        let known = [
            "dataset_len",
            "num_replicas",
            "num_repeats",
            "epoch",
            "permutation",
            "selected_per_rank",
            "indices_per_rank",
        ];
        report.settings(&name, case, &known);
        report.case(&name, |report| {
            let integers = |list: Vec<f64>| list.iter().map(|v| *v as u32).collect::<Vec<_>>();
            let permutation = integers(numbers(case, "permutation"));
            assert_eq!(permutation.len(), size(case, "dataset_len"));
            let selected = reference_selected(permutation.len(), world);
            report.holds(
                &name,
                "selected",
                selected == size(case, "selected_per_rank"),
            );
            let ranks = list(case, "indices_per_rank");
            assert_eq!(ranks.len(), world);
            let wrong = (0..world)
                .filter(|&rank| {
                    let repeats = size(case, "num_repeats");
                    let ours = repeated_augmentation(&permutation, repeats, world, rank, selected);
                    let theirs = ranks[rank].as_array().expect("indices").iter();
                    !ours
                        .iter()
                        .map(|i| u64::from(*i))
                        .eq(theirs.map(|v| v.as_u64().expect("an index")))
                })
                .count();
            report.check(&name, "ranks that differ", wrong as f64, 0.0);
        });
    }
    report.finish();
}
