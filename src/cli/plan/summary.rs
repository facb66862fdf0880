//! The summary of a plan: numbers first, then text.

use super::units::{duration, many, scaled, wrapped};
use super::{Capacity, Known};
use crate::plan::difference::Nearest;
use crate::plan::memory::TooLarge;
use crate::plan::model::Plan;
use crate::report::statistics;
use crate::rundir::stage::Task;
use crate::spec::problem::Problem;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use std::fmt::Write;

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
    /// Peak memory of the stage to run that needs most, as estimated for a CPU.
    pub memory_bytes: u64,
    /// Memory that stages have together; `None` on GPUs.
    pub memory_available: Option<u64>,
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

/// See [`statistics::smallest_effect`].
pub fn smallest_effect(seeds: usize) -> SmallestEffect {
    let effect = statistics::smallest_effect(seeds);
    SmallestEffect {
        seeds,
        standard_deviations: effect.is_finite().then_some(effect),
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
            memory_bytes: to_run()
                .map(|stage| stage.cost.memory_bytes)
                .max()
                .unwrap_or(0),
            memory_available: capacity.memory,
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
        let programs = (0..plan.stages.len() as u32)
            .filter(|&index| plan.task(index) == Task::Command)
            .count();
        if programs == self.stages {
            writeln!(
                text,
                "cost      not known: the stages are programs of their own"
            )?;
        } else if self.stages_to_run > 0 {
            writeln!(
                text,
                "cost      {}, about {} on {}, {} on disk",
                scaled(self.flops, 1000.0, "FLOP"),
                duration(self.seconds),
                many(self.slots, "slot"),
                scaled(self.disk_bytes as f64, 1024.0, "B"),
            )?;
        }
        if self.memory_bytes > 0 {
            self.write_memory(plan, text)?;
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

    /// What a stage needs of the host's memory, and which one is too large for it.
    fn write_memory(&self, plan: &Plan, text: &mut String) -> std::fmt::Result {
        let bytes = |bytes: u64| scaled(bytes as f64, 1024.0, "B");
        write!(text, "memory    up to {} a stage", bytes(self.memory_bytes))?;
        let Some(available) = self.memory_available else {
            return writeln!(text, " on a CPU");
        };
        let at_once = (available / self.memory_bytes).min(self.slots as u64);
        if available == u64::MAX {
            return writeln!(text);
        }
        let room = match at_once {
            0 => "too much for it".to_owned(),
            count => format!("room for {count} of the largest at once"),
        };
        writeln!(text, ", {} there: {room}", bytes(available))?;
        let largest = (0..plan.stages.len() as u32)
            .find(|&index| plan.stages[index as usize].cost.memory_bytes == self.memory_bytes);
        let too_large = largest.and_then(|index| {
            let why = TooLarge::of(&plan.stage_spec(index), available)?;
            Some((plan.first_variant(index).name.clone(), why))
        });
        match too_large {
            Some((variant, why)) => writeln!(text, "          {variant} {why}"),
            None => Ok(()),
        }
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
    let nearest = Nearest::of(&plan.stage_spec(index), &known.finished)?;
    Some(nearest.text(SHOWN))
}
