//! `ablate plan`: what a run would do, how long it would take, and what it could show. Changes
//! nothing.

use super::exit::Exit;
use super::planning::{PlanningArgs, say};
use crate::plan::model::Plan;
use crate::rundir::event::FailureClass;
use crate::rundir::stage::StageSpec;
use crate::schedule::device::gpus::{self, Found};
use crate::schedule::device::{self, Machine, SlotRequest};
use crate::store::rows::Status;
use crate::store::{Store, StoreError};
use crate::train::device::cuda_device_count;
use clap::{Args, ValueEnum};
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};
pub use summary::Summary;

pub mod summary;
mod units;

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
    #[command(flatten)]
    pub planning: PlanningArgs,
    /// Folder of the store, for what is done already; it may be missing
    #[arg(
        long,
        value_name = "DIR",
        env = "ABLATE_STORE",
        default_value = "ablate-store"
    )]
    pub store: PathBuf,
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
    /// Bytes of memory that stages have together, where they run on the CPU.
    pub memory: Option<u64>,
}

/// Operations per second of a slot before anything was trained here: a cautious guess for one core
/// (small models reach 50 to 140, by the processor).
const FLOPS_PER_SECOND: f64 = 5e10;

/// Runs the command.
pub async fn run(args: &PlanArgs) -> Exit {
    let Some(planned) = args.planning.plan() else {
        return Exit::Usage;
    };
    let known = match known(&args.store, &planned.plans).await {
        Ok(known) => known,
        Err(error) => {
            say(format_args!("error: {error}"));
            return Exit::Store;
        }
    };
    // A recording that can't be read is `ablate run`'s to complain about.
    let found = gpus::find().unwrap_or_else(|error| Found::Nothing(error.to_string()));
    let machine = Machine::discover(&found, cuda_device_count);
    let request = SlotRequest {
        cpu_only: cfg!(not(feature = "cuda")),
        ..SlotRequest::default()
    };
    let slots = device::slots(&machine, &request).unwrap_or_default();
    let on_cpu = !slots.iter().any(device::Slot::is_gpu);
    let capacity = Capacity {
        slots: slots.len().max(1),
        memory: on_cpu.then(|| device::memory_for_stages(machine.cpu.memory)),
        flops_per_second: known.flops_per_second.unwrap_or(FLOPS_PER_SECOND),
    };
    let text = render(
        &planned.plans,
        &known.of_experiments,
        capacity,
        args.explain,
        args.format,
    );
    // A closed pipe has read what it wanted.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Exit::Done
}

/// What a store knows.
#[derive(Default)]
struct StoreKnowledge {
    /// One per plan.
    of_experiments: Vec<Known>,
    flops_per_second: Option<f64>,
}

/// Asks the store at `dir`, if there is one.
async fn known(dir: &Path, plans: &[Plan]) -> Result<StoreKnowledge, StoreError> {
    if !dir.join("ablate.db").exists() {
        let of_experiments = vec![Known::default(); plans.len()];
        return Ok(StoreKnowledge {
            of_experiments,
            flops_per_second: None,
        });
    }
    let store = Store::open_read_only(dir).await?;
    let done = store.finished().await?;
    let mut of_experiments = Vec::new();
    for plan in plans {
        let names: Vec<String> = plan
            .stages
            .iter()
            .map(|stage| stage.fingerprint.to_string())
            .collect();
        let states = store.stage_states(&names).await?;
        let failed = states
            .into_iter()
            .filter(|(_, state)| state.status == Status::Failed)
            .map(|(name, state)| {
                (
                    name,
                    state
                        .failure
                        .map_or("unknown", FailureClass::name)
                        .to_owned(),
                )
            })
            .collect();
        let mut finished = Vec::new();
        for run in store.runs(Some(&plan.experiment.name)).await? {
            for stage in run.stages.iter().filter(|stage| done.contains(*stage)) {
                let config = store.stage_config(stage).await?;
                finished.extend(config.and_then(|json| serde_json::from_str(&json).ok()));
            }
        }
        of_experiments.push(Known {
            done: done.clone(),
            failed,
            finished,
        });
    }
    let flops_per_second = store.throughput().await?;
    Ok(StoreKnowledge {
        of_experiments,
        flops_per_second,
    })
}

/// What to print of `plans`; `known` has one entry per plan.
pub fn render(
    plans: &[Plan],
    known: &[Known],
    capacity: Capacity,
    explain: bool,
    format: PlanFormat,
) -> String {
    let summaries = plans
        .iter()
        .zip(known)
        .map(|(plan, known)| (plan, Summary::new(plan, known, capacity, explain)));
    match format {
        PlanFormat::Text => {
            let texts: Vec<String> = summaries
                .map(|(plan, summary)| summary.text(plan))
                .collect();
            texts.join("\n")
        }
        PlanFormat::Json => {
            let list: Vec<Summary> = summaries.map(|(_, summary)| summary).collect();
            let json = match &list[..] {
                [one] => serde_json::to_string_pretty(one),
                list => serde_json::to_string_pretty(list),
            };
            json.unwrap_or_default() + "\n"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::summary::smallest_effect;
    use super::units::{duration, scaled};
    use super::*;
    use crate::plan::{DataDescription, Request, plan_file};
    use crate::rundir::stage::DataShape;
    use crate::spec::recipe::DataConfig;

    fn data(_: &DataConfig) -> Result<DataDescription, String> {
        let shape = DataShape {
            classes: 9,
            train_images: 3_906,
            val_images: 926,
            kept_bytes: 0,
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
        memory: Some(1 << 30),
    };

    fn planned(text: &str) -> Plan {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("e.yaml");
        std::fs::write(&file, text).unwrap();
        plan_file(&file, &Request::default(), &data).unwrap()
    }

    fn render_one(plan: &Plan, known: Known, explain: bool, format: PlanFormat) -> String {
        render(
            std::slice::from_ref(plan),
            &[known],
            CAPACITY,
            explain,
            format,
        )
    }

    #[test]
    fn text_says_what_would_run() {
        let plan = planned(TEXT);
        let text = render_one(&plan, Known::default(), false, PlanFormat::Text);
        let flops: f64 = plan.stages.iter().map(|stage| stage.cost.flops).sum();
        let bytes: u64 = plan.stages.iter().map(|stage| stage.cost.disk_bytes).sum();
        let cost = format!(
            "{}, about {} on 2 slots, {} on disk",
            scaled(flops, 1000.0, "FLOP"),
            duration(flops / 2e10),
            scaled(bytes as f64, 1024.0, "B")
        );
        let needs = plan
            .stages
            .iter()
            .map(|stage| stage.cost.memory_bytes)
            .max()
            .unwrap();
        let memory = format!(
            "up to {} a stage, 1.00 GiB there: room for 2 of the largest at once",
            scaled(needs as f64, 1024.0, "B")
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
memory    {memory}
effect    3 seeds show a difference above 3.51 standard deviations between seeds
          (half-width of its 95 % interval: t(0.975, n - 1) x sqrt(2 / n), n = 3)

 variant  parameters  steps    FLOP  stages  done
 1e-3          216 k   2440  {run}       6     0
 2e-3          216 k   2440  {run}       6     0
"
        );
        assert_eq!(text.split_once('\n').unwrap().1, expected);
    }

    #[test]
    fn explanation_names_the_reason_of_every_stage() {
        let plan = planned(TEXT);
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
        let text = render_one(&plan, known, true, PlanFormat::Text);
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
                "{}  finetune of 2e-3 s0: new (differs from {pretrain}: optimizer.lr: 0.01 -> 0.002, parent: none -> {pretrain})",
                short(plan.runs[3].stages[1])
            ),
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
    }

    #[test]
    fn json_holds_the_same_numbers() {
        let plan = planned(TEXT);
        let json = render_one(&plan, Known::default(), false, PlanFormat::Json);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
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
    fn one_seed_shows_nothing_and_more_show_more() {
        assert_eq!(smallest_effect(1).standard_deviations, None);
        // t(0.975, 1) = 12.706, t(0.975, 4) = 2.776 (tables of Student's t).
        assert!((smallest_effect(2).standard_deviations.unwrap() - 12.706).abs() < 1e-3);
        assert!(
            (smallest_effect(5).standard_deviations.unwrap() - 2.776 * 0.4f64.sqrt()).abs() < 1e-3
        );
    }
}
