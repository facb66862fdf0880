//! Learning rate by epoch.

use crate::fixture::{Report, number, numbers, relative, size};
use ablate::optim::schedule::Schedule;
use ablate::spec::recipe::{ScheduleConfig, ScheduleName};

#[test]
fn schedule() {
    let mut report = Report::open("schedule", &[]);
    let tolerance = report.tolerance(&["lr", "rel"]);
    let cases = report.json("cosine.json");
    for (index, case) in cases.as_array().expect("cases").iter().enumerate() {
        let name = format!("cosine {index}");
        let known = [
            "epochs",
            "lr",
            "warmup_epochs",
            "warmup_lr",
            "min_lr",
            "lr_of_t",
            "lr_used_in_epoch_official",
        ];
        report.settings(&name, case, &known);
        report.case(&name, |report| {
            let config = ScheduleConfig {
                name: ScheduleName::Cosine,
                warmup_epochs: size(case, "warmup_epochs"),
                warmup_lr: number(case, "warmup_lr"),
                min_lr: number(case, "min_lr"),
            };
            let schedule = Schedule::new(&config, number(case, "lr"), size(case, "epochs"));
            let worst = |key: &str, value: &dyn Fn(usize) -> f64| {
                let reference = numbers(case, key);
                let deviations = reference.iter().enumerate();
                deviations
                    .map(|(t, reference)| relative(value(t), *reference))
                    .fold(0.0, f64::max)
            };
            let curve = worst("lr_of_t", &|t| schedule.at(t as f64));
            report.check(&name, "curve", curve, tolerance);
            let used = worst("lr_used_in_epoch_official", &|epoch| {
                schedule.lr(epoch, 0.5)
            });
            report.check(&name, "rate of each epoch", used, tolerance);
        });
    }
    report.finish();
}
