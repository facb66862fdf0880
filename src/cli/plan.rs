//! `ablate plan`: what a run would do, how long it would take, and what it could show. Changes
//! nothing.

use super::exit::Exit;
use super::planning::{PlanningArgs, say};
use crate::plan::model::Plan;
use crate::rundir::event::FailureClass;
use crate::rundir::stage::StageSpec;
use crate::schedule::device::{self, Machine, SlotRequest};
use crate::spec::problem::Problem;
use crate::store::rows::Status;
use crate::store::{Store, StoreError};
use crate::train::device::cuda_device_count;
use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};
use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::io::Write as _;
use std::path::{Path, PathBuf};

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
    #[arg(long, value_name = "DIR", env = "ABLATE_STORE", default_value = "ablate-store")]
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
}

/// Operations per second of a slot before anything was trained here: a cautious guess for one core
/// (small models reach some 30 to 60).
const FLOPS_PER_SECOND: f64 = 3e10;

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
    let machine = Machine::discover(cuda_device_count());
    let request = SlotRequest::default();
    let slots = device::slots(&machine, &request).map_or(1, |slots| slots.len());
    let capacity = Capacity {
        slots,
        flops_per_second: known.flops_per_second.unwrap_or(FLOPS_PER_SECOND),
    };
    let text = render(&planned.plans, &known.of_experiments, capacity, args.explain, args.format);
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
        return Ok(StoreKnowledge { of_experiments, flops_per_second: None });
    }
    let store = Store::open_read_only(dir).await?;
    let done = store.finished().await?;
    let mut of_experiments = Vec::new();
    for plan in plans {
        let names: Vec<String> =
            plan.stages.iter().map(|stage| stage.fingerprint.to_string()).collect();
        let states = store.stage_states(&names).await?;
        let failed = states
            .into_iter()
            .filter(|(_, state)| state.status == Status::Failed)
            .map(|(name, state)| {
                (name, state.failure.map_or("unknown", FailureClass::name).to_owned())
            })
            .collect();
        let mut finished = Vec::new();
        for run in store.runs(Some(&plan.experiment.name)).await? {
            for stage in run.stages.iter().filter(|stage| done.contains(*stage)) {
                let config = store.stage_config(stage).await?;
                finished.extend(config.and_then(|json| serde_json::from_str(&json).ok()));
            }
        }
        of_experiments.push(Known { done: done.clone(), failed, finished });
    }
    let flops_per_second = store.throughput().await?;
    Ok(StoreKnowledge { of_experiments, flops_per_second })
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
            let texts: Vec<String> = summaries.map(|(plan, summary)| summary.text(plan)).collect();
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

/// A plan in numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    pub experiment: String,
    pub title: String,
    pub profile: String,
    pub file: String,
    pub variants: usize,
    pub seeds: usize,
    pub runs: usize,
    /// Stages that runs name, before equal ones are merged.
    pub stages_named: usize,
    /// Different stages.
    pub stages: usize,
    /// Stages that more than one run needs.
    pub stages_shared: usize,
    pub stages_done: usize,
    pub stages_failed: usize,
    pub stages_to_run: usize,
    /// Of the stages to run.
    pub flops: f64,
    pub disk_bytes: u64,
    /// Estimated wall time of the stages to run.
    pub seconds: f64,
    pub slots: usize,
    pub smallest_effect: SmallestEffect,
    pub warnings: Vec<String>,
    pub table: Vec<VariantLine>,
    /// Every stage and why it would run; only when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Vec<StageLine>>,
}

/// What the number of seeds can show.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SmallestEffect {
    pub seeds: usize,
    /// Half-width of the 95 % interval of a difference of two variants, in standard deviations of
    /// one variant over seeds; `None`: one seed shows nothing.
    pub standard_deviations: Option<f64>,
}

/// One variant: a row of the table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VariantLine {
    pub variant: String,
    /// Of the model in the last stage.
    pub parameters: u64,
    /// Optimizer steps of one run, over its stages.
    pub steps: u64,
    /// Operations of one run, over its stages.
    pub flops: f64,
    /// Stages of all its runs, and how many of them are done.
    pub stages: usize,
    pub stages_done: usize,
}

/// One stage and why it would run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageLine {
    pub fingerprint: String,
    pub stage: String,
    pub variant: String,
    pub seed: u64,
    /// Runs that need it.
    pub runs: usize,
    /// `done`, `new` or `failed before`.
    pub state: String,
    /// Failure class, or what differs from the nearest finished stage.
    pub detail: Option<String>,
    pub flops: f64,
}

/// Half-width of the 95 % interval of a difference of two means over the same `seeds`, in standard
/// deviations of one run: t(0.975, n - 1) * sqrt(2 / n). Variants are compared seed by seed; the square
/// root of 2 holds where seeds do not correlate between variants, the least favourable usual case.
pub fn smallest_effect(seeds: usize) -> SmallestEffect {
    let half_width = |n: f64| {
        let t = StudentsT::new(0.0, 1.0, n - 1.0).ok()?;
        Some(t.inverse_cdf(0.975) * (2.0 / n).sqrt())
    };
    let standard_deviations = if seeds < 2 {
        None
    } else {
        half_width(seeds as f64)
    };
    SmallestEffect {
        seeds,
        standard_deviations,
    }
}

impl Summary {
    /// Counts what `plan` needs, given what is known.
    pub fn new(plan: &Plan, known: &Known, capacity: Capacity, explain: bool) -> Self {
        let names: Vec<String> = plan
            .stages
            .iter()
            .map(|stage| stage.fingerprint.to_string())
            .collect();
        let done: Vec<bool> = names.iter().map(|name| known.done.contains(name)).collect();
        let mut users = vec![0usize; plan.stages.len()];
        for &stage in plan.runs.iter().flat_map(|run| &run.stages) {
            users[stage as usize] += 1;
        }
        let to_run = || {
            plan.stages
                .iter()
                .zip(&done)
                .filter(|(_, done)| !**done)
                .map(|(stage, _)| stage)
        };
        let flops: f64 = to_run().map(|stage| stage.cost.flops).sum();
        let seeds = plan
            .runs
            .iter()
            .take_while(|run| run.variant == plan.runs[0].variant)
            .count();
        let explanation = explain.then(|| {
            (0..plan.stages.len())
                .map(|index| stage_line(plan, known, &names[index], index, users[index]))
                .collect()
        });
        Summary {
            experiment: plan.experiment.name.clone(),
            title: plan.experiment.title.clone(),
            profile: plan.experiment.profile.clone(),
            file: plan.experiment.path.clone(),
            variants: plan.variants.len(),
            seeds,
            runs: plan.runs.len(),
            stages_named: plan.runs.iter().map(|run| run.stages.len()).sum(),
            stages: plan.stages.len(),
            stages_shared: users.iter().filter(|users| **users > 1).count(),
            stages_done: done.iter().filter(|done| **done).count(),
            stages_failed: names
                .iter()
                .filter(|name| known.failed.contains_key(*name))
                .count(),
            stages_to_run: to_run().count(),
            flops,
            disk_bytes: to_run().map(|stage| stage.cost.disk_bytes).sum(),
            seconds: seconds(plan, &done, flops, capacity),
            slots: capacity.slots,
            smallest_effect: smallest_effect(seeds),
            warnings: plan.warnings.iter().map(Problem::to_string).collect(),
            table: variant_lines(plan, &done),
            explanation,
        }
    }

    /// The plan as text.
    pub fn text(&self, plan: &Plan) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = self.write(plan, &mut text);
        text
    }

    fn write(&self, plan: &Plan, text: &mut String) -> std::fmt::Result {
        writeln!(
            text,
            "{} ({}, profile {}): {}",
            self.experiment, self.file, self.profile, self.title
        )?;
        if !plan.experiment.claim.is_empty() {
            for line in wrapped(&plan.experiment.claim, 96) {
                writeln!(text, "  {line}")?;
            }
        }
        writeln!(text)?;
        let axes: Vec<String> = plan
            .axes
            .iter()
            .map(|axis| format!("{} ({})", axis.name, axis.labels.len()))
            .collect();
        let axes = if axes.is_empty() {
            "none".to_owned()
        } else {
            axes.join(" x ")
        };
        writeln!(text, "axes      {axes}")?;
        writeln!(
            text,
            "runs      {} = {} x {}",
            self.runs,
            many(self.variants, "variant"),
            many(self.seeds, "seed")
        )?;
        let merged = self.stages_named - self.stages;
        let shared = if merged == 0 {
            String::new()
        } else {
            format!(
                " ({merged} more are the same as one of these; {} shared)",
                self.stages_shared
            )
        };
        writeln!(text, "stages    {}{shared}", self.stages)?;
        let failed = if self.stages_failed > 0 {
            format!(", {} failed before", self.stages_failed)
        } else {
            String::new()
        };
        writeln!(
            text,
            "          {} done, {} to run{failed}",
            self.stages_done, self.stages_to_run
        )?;
        if self.stages_to_run > 0 {
            writeln!(
                text,
                "cost      {}, about {} on {}, {} on disk",
                scaled(self.flops, 1000.0, "FLOP"),
                duration(self.seconds),
                many(self.slots, "slot"),
                scaled(self.disk_bytes as f64, 1024.0, "B"),
            )?;
        }
        match self.smallest_effect.standard_deviations {
            Some(width) => writeln!(
                text,
                "effect    {} show a difference above {width:.2} standard deviations between seeds\n          (half-width of its 95 % interval: t(0.975, n - 1) x sqrt(2 / n), n = {})",
                many(self.seeds, "seed"),
                self.seeds
            )?,
            None => writeln!(text, "effect    none: n = 1, a difference could be chance")?,
        }
        for warning in &self.warnings {
            writeln!(text, "\n{warning}")?;
        }
        writeln!(text)?;
        for line in self.variant_table().to_string().lines() {
            writeln!(text, "{}", line.trim_end())?;
        }
        if self.table.len() > TABLE_ROWS {
            writeln!(
                text,
                "... and {} more variants",
                self.table.len() - TABLE_ROWS
            )?;
        }
        for (index, line) in self.explanation.iter().flatten().enumerate() {
            if index == 0 {
                writeln!(text)?;
            }
            let shared = if line.runs > 1 {
                format!(", for {} runs", line.runs)
            } else {
                String::new()
            };
            let detail = line
                .detail
                .as_ref()
                .map(|detail| format!(" ({detail})"))
                .unwrap_or_default();
            writeln!(
                text,
                "{}  {} of {} s{}{shared}: {}{detail}",
                &line.fingerprint[..12],
                line.stage,
                line.variant,
                line.seed,
                line.state
            )?;
        }
        Ok(())
    }

    fn variant_table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["variant", "parameters", "steps", "FLOP", "stages", "done"]);
        for line in self.table.iter().take(TABLE_ROWS) {
            table.add_row([
                line.variant.clone(),
                scaled(line.parameters as f64, 1000.0, "")
                    .trim_end()
                    .to_owned(),
                line.steps.to_string(),
                scaled(line.flops, 1000.0, "").trim_end().to_owned(),
                line.stages.to_string(),
                line.stages_done.to_string(),
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

/// Rows of the table that are shown.
const TABLE_ROWS: usize = 50;

fn variant_lines(plan: &Plan, done: &[bool]) -> Vec<VariantLine> {
    let mut lines: Vec<VariantLine> = Vec::with_capacity(plan.variants.len());
    for runs in plan.runs.chunk_by(|a, b| a.variant == b.variant) {
        let stages = |run: &crate::plan::model::PlannedRun| run.stages.clone();
        let first: Vec<_> = runs[0]
            .stages
            .iter()
            .map(|&stage| &plan.stages[stage as usize].cost)
            .collect();
        let all: Vec<u32> = runs.iter().flat_map(stages).collect();
        lines.push(VariantLine {
            variant: plan.variants[runs[0].variant as usize].name.clone(),
            parameters: first.last().map_or(0, |cost| cost.parameters),
            steps: first.iter().map(|cost| cost.steps).sum(),
            flops: first.iter().map(|cost| cost.flops).sum(),
            stages: all.len(),
            stages_done: all.iter().filter(|stage| done[**stage as usize]).count(),
        });
    }
    lines
}

/// Wall time: all work spread over the slots, but never less than the longest chain of stages.
fn seconds(plan: &Plan, done: &[bool], flops: f64, capacity: Capacity) -> f64 {
    let mut chain = vec![0.0f64; plan.stages.len()];
    // Parents stand before their children.
    for (index, stage) in plan.stages.iter().enumerate() {
        let own = if done[index] { 0.0 } else { stage.cost.flops };
        chain[index] = own + stage.parent.map_or(0.0, |parent| chain[parent as usize]);
    }
    let longest = chain.into_iter().fold(0.0, f64::max);
    let rate = capacity.flops_per_second.max(1.0);
    (flops / capacity.slots.max(1) as f64).max(longest) / rate
}

fn stage_line(
    plan: &Plan,
    known: &Known,
    fingerprint: &str,
    index: usize,
    runs: usize,
) -> StageLine {
    let number = index as u32;
    let stage = &plan.stages[index];
    let (state, detail) = if known.done.contains(fingerprint) {
        ("done", None)
    } else if let Some(class) = known.failed.get(fingerprint) {
        ("failed before", Some(class.clone()))
    } else {
        ("new", nearest(plan, known, number))
    };
    StageLine {
        fingerprint: fingerprint.to_owned(),
        stage: plan.experiment.stage_names[stage.name as usize].clone(),
        variant: plan.first_variant(number).name.clone(),
        seed: plan.seed(number),
        runs,
        state: state.to_owned(),
        detail,
        flops: stage.cost.flops,
    }
}

/// What differs from the finished stage that is most like this one.
fn nearest(plan: &Plan, known: &Known, index: u32) -> Option<String> {
    const SHOWN: usize = 4;
    let task = plan.task(index);
    let candidates = known.finished.iter().filter(|spec| spec.task == task);
    let (differences, spec) = candidates
        .map(|spec| (plan.differences(index, spec), spec))
        .min_by_key(|(differences, _)| differences.len())?;
    let short: String = spec.fingerprint.chars().take(12).collect();
    let more = differences.len().saturating_sub(SHOWN);
    let mut list = differences
        .into_iter()
        .take(SHOWN)
        .collect::<Vec<_>>()
        .join(", ");
    if more > 0 {
        let _ = write!(list, " and {more} more");
    }
    Some(format!("differs from {short}: {list}"))
}

/// Lines of at most `width` characters, broken between words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn many(count: usize, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{count} {noun}s")
    }
}

/// A number with three digits and a prefix: `4.2 TFLOP`, `12.0 MiB`.
fn scaled(value: f64, base: f64, unit: &str) -> String {
    const PREFIXES: [&str; 9] = ["", "k", "M", "G", "T", "P", "E", "Z", "Y"];
    let mut value = value;
    let mut prefix = 0;
    while value >= base && prefix + 1 < PREFIXES.len() {
        value /= base;
        prefix += 1;
    }
    let digits = if prefix == 0 {
        0
    } else if value < 10.0 {
        2
    } else if value < 100.0 {
        1
    } else {
        0
    };
    let binary = if base == 1024.0 && prefix > 0 {
        "i"
    } else {
        ""
    };
    let name = if base == 1024.0 && prefix == 1 {
        "K"
    } else {
        PREFIXES[prefix]
    };
    format!("{value:.digits$} {name}{binary}{unit}")
}

/// `40 s`, `12 min`, `3 h 20 min`, `5 d 2 h`, `12 years`.
fn duration(seconds: f64) -> String {
    if seconds < 90.0 {
        return format!("{} s", seconds.ceil());
    }
    let minutes = (seconds / 60.0).round();
    if minutes < 90.0 {
        return format!("{minutes} min");
    }
    if minutes < 48.0 * 60.0 {
        return format!("{} h {} min", (minutes / 60.0).floor(), minutes % 60.0);
    }
    let hours = (seconds / 3600.0).round();
    if hours < 1000.0 * 24.0 {
        return format!("{} d {} h", (hours / 24.0).floor(), hours % 24.0);
    }
    format!("{:.0} years", hours / (365.25 * 24.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{DataDescription, Request, plan_file};
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

    fn planned(text: &str) -> Plan {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("e.yaml");
        std::fs::write(&file, text).unwrap();
        plan_file(&file, &Request::default(), &data).unwrap()
    }

    fn render_one(plan: &Plan, known: Known, explain: bool, format: PlanFormat) -> String {
        render(std::slice::from_ref(plan), &[known], CAPACITY, explain, format)
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
                "{}  finetune of 2e-3 s0: new (differs from {pretrain}: optimizer.lr: 0.004 -> 0.002, parent: none -> {pretrain})",
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

    #[test]
    fn numbers_for_people() {
        assert_eq!(scaled(999.0, 1000.0, "FLOP"), "999 FLOP");
        assert_eq!(scaled(4.2e12, 1000.0, "FLOP"), "4.20 TFLOP");
        assert_eq!(scaled(1536.0, 1024.0, "B"), "1.50 KiB");
        assert_eq!(scaled(123_456_789.0, 1000.0, ""), "123 M");
        assert_eq!(
            [
                duration(0.2),
                duration(300.0),
                duration(7300.0),
                duration(3e5),
                duration(1e9)
            ],
            ["1 s", "5 min", "2 h 2 min", "3 d 11 h", "32 years"]
        );
    }
}
