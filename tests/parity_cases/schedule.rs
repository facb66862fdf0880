//! Learning rate by epoch.

use crate::fixture::{Report, json, number, size};
use ablate::optim::schedule::Schedule;
use ablate::spec::recipe::{ScheduleConfig, ScheduleName};

#[test]
fn cosine() {
    let tolerance = number(&json("schedule", "manifest.json")["tolerance"]["lr"], "rel");
    let mut report = Report::new("schedule");
    for (index, case) in json("schedule", "cosine.json")
        .as_array()
        .expect("cases")
        .iter()
        .enumerate()
    {
        let config = ScheduleConfig {
            name: ScheduleName::Cosine,
            warmup_epochs: size(case, "warmup_epochs"),
            warmup_lr: number(case, "warmup_lr"),
            min_lr: number(case, "min_lr"),
        };
        let schedule = Schedule::new(&config, number(case, "lr"), size(case, "epochs"));
        let worst = |key: &str, value: &dyn Fn(usize) -> f64| {
            let reference = case[key].as_array().expect("rates");
            reference
                .iter()
                .enumerate()
                .map(|(t, reference)| {
                    let reference = reference.as_f64().expect("a rate");
                    (value(t) - reference).abs() / reference.abs().max(f64::MIN_POSITIVE)
                })
                .fold(0.0, f64::max)
        };
        let name = index.to_string();
        report.check(
            &name,
            "curve",
            worst("lr_of_t", &|t| schedule.at(t as f64)),
            tolerance,
        );
        let used = worst("lr_used_in_epoch_official", &|epoch| {
            schedule.lr(epoch, 0.5)
        });
        report.check(&name, "rate of each epoch", used, tolerance);
    }
    report.finish();
}
