//! `ablate plan`: what a run would do, how long it would take, and what it could show. Changes
//! nothing.

use crate::plan::{Request, Resolver, plan_file};
use crate::rundir::stage::StageSpec;
use crate::spec::experiment::Options;
use crate::spec::problem::Problems;
use clap::{Args, ValueEnum};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
pub use summary::Summary;

pub mod summary;
mod units;

/// Which part of an experiment, and with which changes: shared by all commands that plan.
#[derive(Debug, Clone, Default, Args)]
pub struct SelectArgs {
    /// Profile of the experiment [default: `quick` where there is one]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Set a configuration path, over everything else (repeatable)
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    /// Seeds: a count (`5`) or a list (`0,1,2`)
    #[arg(long, value_name = "SEEDS")]
    pub seeds: Option<String>,
    /// Only variants with this label; labels of one axis are alternatives (repeatable)
    #[arg(long = "only", value_name = "AXIS=LABEL")]
    pub only: Vec<String>,
    /// Largest number of variants x seeds that is planned [default: 100000]
    #[arg(long, value_name = "N")]
    pub max_cells: Option<u64>,
}

impl SelectArgs {
    /// As the planner takes it.
    pub fn request(&self) -> Request {
        Request {
            options: Options {
                profile: self.profile.clone(),
                set: self.set.clone(),
                seeds: self.seeds.clone(),
                only: self.only.clone(),
            },
            max_cells: self.max_cells,
        }
    }
}

/// How the plan is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum PlanFormat {
    #[default]
    Text,
    Json,
}

/// Show what `ablate run` would do; change nothing
#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    /// Experiment files, or names of built-in experiments
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub select: SelectArgs,
    /// Say of every stage why it would run
    #[arg(long)]
    pub explain: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: PlanFormat,
}

/// What is known of earlier runs. Empty where there is no store.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Fingerprints of finished stages.
    pub done: HashSet<String>,
    /// Failure class of failed stages, by fingerprint.
    pub failed: HashMap<String, String>,
    /// Finished stages of the same experiment, to compare with.
    pub finished: Vec<StageSpec>,
}

/// What the plan would run on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capacity {
    /// Stages that run at the same time.
    pub slots: usize,
    /// Floating-point operations per second of one slot, as measured in training.
    pub flops_per_second: f64,
}

/// Plans every file and returns what to print. `known` is asked with the name of each experiment.
pub fn run(
    args: &PlanArgs,
    resolver: &Resolver<'_>,
    known: &dyn Fn(&str) -> Known,
    capacity: Capacity,
) -> Result<String, Problems> {
    let request = args.select.request();
    let mut plans = Vec::new();
    let mut problems = Vec::new();
    for file in &args.files {
        match plan_file(file, &request, resolver) {
            Ok(plan) => plans.push(plan),
            Err(found) => problems.extend(found.0),
        }
    }
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let summaries = plans.iter().map(|plan| {
        let known = known(&plan.experiment.name);
        (plan, Summary::new(plan, &known, capacity, args.explain))
    });
    Ok(match args.format {
        PlanFormat::Text => {
            let texts: Vec<String> = summaries
                .map(|(plan, summary)| summary.text(plan))
                .collect();
            texts.join("\n")
        }
        PlanFormat::Json => {
            let list: Vec<Summary> = summaries.map(|(_, summary)| summary).collect();
            let json = if list.len() == 1 {
                serde_json::to_string_pretty(&list[0])
            } else {
                serde_json::to_string_pretty(&list)
            };
            let mut json = json.unwrap_or_default();
            json.push('\n');
            json
        }
    })
}

#[cfg(test)]
mod tests {
    use super::summary::smallest_effect;
    use super::units::{duration, scaled};
    use super::*;
    use crate::plan::DataDescription;
    use crate::plan::model::Plan;
    use crate::rundir::stage::DataShape;
    use crate::spec::recipe::DataConfig;

    fn data(_: &DataConfig) -> Result<DataDescription, String> {
        let shape = DataShape {
            classes: 9,
            train_images: 3_906,
            val_images: 926,
        };
        Ok(DataDescription {
            hash: "0".repeat(64),
            shape,
        })
    }

    const TEXT: &str = "title: A title
claim: A claim.
recipe: quick
seeds: 3
stages: {pretrain: {}, finetune: {from: pretrain}}
axes: {lr: {values: [1e-3, 2e-3], path: optimizer.lr, stages: [finetune]}}
";
    const CAPACITY: Capacity = Capacity {
        slots: 2,
        flops_per_second: 1e10,
    };

    fn planned(folder: &tempfile::TempDir, text: &str) -> (PlanArgs, Plan) {
        let file = folder.path().join("e.yaml");
        std::fs::write(&file, text).unwrap();
        let plan = plan_file(&file, &Request::default(), &data).unwrap();
        let args = PlanArgs {
            files: vec![file],
            select: SelectArgs::default(),
            explain: false,
            format: PlanFormat::Text,
        };
        (args, plan)
    }

    #[test]
    fn text_says_what_would_run() {
        let folder = tempfile::tempdir().unwrap();
        let (args, plan) = planned(&folder, TEXT);
        let text = run(&args, &data, &|_| Known::default(), CAPACITY).unwrap();
        let flops: f64 = plan.stages.iter().map(|stage| stage.cost.flops).sum();
        let bytes: u64 = plan.stages.iter().map(|stage| stage.cost.disk_bytes).sum();
        let cost = format!(
            "{}, about {} on 2 slots, {} on disk",
            scaled(flops, 1000.0, "FLOP"),
            duration(flops / 2e10),
            scaled(bytes as f64, 1024.0, "B")
        );
        let run: f64 = plan.runs[0]
            .stages
            .iter()
            .map(|&stage| plan.stages[stage as usize].cost.flops)
            .sum();
        let run = scaled(run, 1000.0, "");
        let expected = format!(
            "  A claim.

axes      lr (2)
runs      6 = 2 variants x 3 seeds
stages    9 (3 more are the same as one of these; 3 shared)
          0 done, 9 to run
cost      {cost}
effect    3 seeds show a difference above 3.51 standard deviations between seeds
          (half-width of its 95 % interval: t(0.975, n - 1) x sqrt(2 / n), n = 3)

 variant  parameters  steps    FLOP  stages  done
 1e-3          216 k   1220  {run}       6     0
 2e-3          216 k   1220  {run}       6     0
"
        );
        assert_eq!(text.split_once('\n').unwrap().1, expected);
    }

    #[test]
    fn explanation_names_the_reason_of_every_stage() {
        let folder = tempfile::tempdir().unwrap();
        let (mut args, plan) = planned(&folder, TEXT);
        args.explain = true;
        let run0 = &plan.runs[0].stages;
        let known = Known {
            done: [plan.stages[run0[0] as usize].fingerprint.to_string()].into(),
            failed: [(
                plan.stages[run0[1] as usize].fingerprint.to_string(),
                "diverged".to_owned(),
            )]
            .into(),
            finished: vec![plan.stage_spec(run0[0])],
        };
        let text = run(&args, &data, &|_| known.clone(), CAPACITY).unwrap();
        let short =
            |stage: u32| plan.stages[stage as usize].fingerprint.to_string()[..12].to_owned();
        let pretrain = short(run0[0]);
        for line in [
            "          1 done, 8 to run, 1 failed before".to_owned(),
            format!("{pretrain}  pretrain of 1e-3 s0, for 2 runs: done"),
            format!(
                "{}  finetune of 1e-3 s0: failed before (diverged)",
                short(run0[1])
            ),
            format!(
                "{}  pretrain of 1e-3 s1, for 2 runs: new (differs from {pretrain}: seed: 0 -> 1)",
                short(plan.runs[1].stages[0])
            ),
            format!(
                "{}  finetune of 2e-3 s0: new (differs from {pretrain}: optimizer.lr: 0.004 -> 0.002, parent: none -> {pretrain})",
                short(plan.runs[3].stages[1])
            ),
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
    }

    #[test]
    fn json_holds_the_same_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let (mut args, plan) = planned(&folder, TEXT);
        args.format = PlanFormat::Json;
        let json: serde_json::Value =
            serde_json::from_str(&run(&args, &data, &|_| Known::default(), CAPACITY).unwrap())
                .unwrap();
        assert_eq!(
            (
                json["runs"].as_u64(),
                json["stages"].as_u64(),
                json["stages_shared"].as_u64()
            ),
            (Some(6), Some(9), Some(3))
        );
        assert_eq!(
            json["flops"].as_f64(),
            Some(plan.stages.iter().map(|stage| stage.cost.flops).sum())
        );
        assert_eq!(json["table"][1]["variant"], "2e-3");
    }

    #[test]
    fn problems_of_all_files_are_returned() {
        let folder = tempfile::tempdir().unwrap();
        let (mut args, _) = planned(&folder, TEXT);
        let other = folder.path().join("other.yaml");
        std::fs::write(&other, "recipe: quikc\n").unwrap();
        args.files = vec![other, PathBuf::from("lsos")];
        let problems = run(&args, &data, &|_| Known::default(), CAPACITY)
            .unwrap_err()
            .to_string();
        assert!(
            problems.contains("other.yaml:1:9: unknown recipe `quikc`; did you mean `quick`?"),
            "{problems}"
        );
        assert!(
            problems.contains("lsos: no such file; built-in experiments: did you mean `loss`?"),
            "{problems}"
        );
    }

    #[test]
    fn one_seed_shows_nothing_and_more_show_more() {
        assert_eq!(smallest_effect(1).standard_deviations, None);
        // t(0.975, 1) = 12.706, t(0.975, 4) = 2.776 (tables of Student's t).
        assert!((smallest_effect(2).standard_deviations.unwrap() - 12.706).abs() < 1e-3);
        assert!(
            (smallest_effect(5).standard_deviations.unwrap() - 2.776 * 0.4f64.sqrt()).abs() < 1e-3
        );
    }
}
