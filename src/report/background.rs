//! What lies behind an experiment's numbers: cost, attempts, configurations, provenance.

use super::data::{ExperimentData, Variant};
use crate::rundir::stage::StageSpec;
use crate::store::rows::ExperimentRow;
use crate::store::{MachineRow, PlanRow, StageRow, Store, StoreError, TroubledAttempt};
use std::collections::{BTreeMap, HashMap};

/// Configurations are kilobytes each: those of further variants are left out.
pub const MOST_CONFIGS: u32 = 256;
/// More failed attempts than this fill a page without saying more.
pub const MOST_ATTEMPTS: u32 = 200;

/// Everything about an experiment that isn't a result.
#[derive(Debug, Clone, Default)]
pub struct Background {
    pub plan: Option<PlanRow>,
    /// By fingerprint.
    pub stages: HashMap<String, StageRow>,
    /// Of the first run of each variant, by fingerprint.
    pub configs: BTreeMap<String, StageSpec>,
    /// Attempts that failed, and those of stages with several.
    pub attempts: Vec<TroubledAttempt>,
    pub machines: Vec<MachineRow>,
    /// Model and driver.
    pub gpus: Vec<(String, String)>,
    /// The file whose `report` section was read for this report, where it isn't the stored one.
    pub report_section: Option<String>,
}

/// What a variant costs, over all stages of a run and the mean over its runs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct VariantCost {
    /// Floating-point operations of training and evaluation, as planned.
    pub flops: f64,
    /// Of the last stage's model.
    pub parameters: u64,
    /// Training epochs of all stages; `None` where the configuration isn't known.
    pub epochs: Option<f64>,
    /// Training images per second of wall time, evaluations included; finished stages only.
    pub throughput: Option<f64>,
    /// Wall seconds of a run; `None` before one is done.
    pub wall_seconds: Option<f64>,
    pub cpu_seconds: Option<f64>,
    /// Joules, where the machine counts them.
    pub energy_joules: Option<f64>,
}

impl Background {
    /// Reads the background of `experiment`.
    pub async fn load(store: &Store, experiment: &ExperimentRow) -> Result<Self, StoreError> {
        let name = &experiment.name;
        let stages = store.stage_rows(name).await?;
        let configs = store.variant_configs(name, MOST_CONFIGS).await?;
        Ok(Background {
            plan: store.plan_of(name).await?,
            stages: stages
                .into_iter()
                .map(|stage| (stage.fingerprint.clone(), stage))
                .collect(),
            configs: configs
                .into_iter()
                .filter_map(|(fingerprint, text)| {
                    // One of another version, or of another engine, is not compared.
                    Some((fingerprint, serde_json::from_str(&text).ok()?))
                })
                .collect(),
            attempts: store.troubled_attempts(name, MOST_ATTEMPTS).await?,
            machines: store.machines(name).await?,
            gpus: store.gpus_of(name).await?,
            report_section: None,
        })
    }

    /// The configuration of stage `position` of `variant`'s runs, which differ in nothing but the seed. Only one of
    /// them is in memory.
    pub fn config(&self, variant: &Variant<'_>, position: usize) -> Option<&StageSpec> {
        variant
            .runs
            .iter()
            .find_map(|run| self.configs.get(run.stages.get(position)?))
    }

    /// The cost of `variant`; `None` where its stages aren't known.
    pub fn cost(&self, variant: &Variant<'_>) -> Option<VariantCost> {
        let first = variant.runs.first()?;
        let stages = |run: &crate::store::rows::RunRow| -> Option<Vec<&StageRow>> {
            run.stages
                .iter()
                .map(|stage| self.stages.get(stage))
                .collect()
        };
        let of_first = stages(first)?;
        let epochs = (0..first.stages.len())
            .map(|position| {
                let spec = self.config(variant, position)?;
                // Nobody knows what a program calls an epoch.
                (spec.command.is_none()).then_some(spec.recipe.train.epochs as f64)
            })
            .sum::<Option<f64>>();
        let (mut images, mut seconds) = (0.0, 0.0);
        let mut sums: [(f64, usize); 3] = [(0.0, 0); 3];
        for run in &variant.runs {
            let Some(stages) = stages(run) else { continue };
            if stages
                .iter()
                .any(|stage| stage.status != crate::store::rows::Status::Done)
            {
                continue;
            }
            for stage in &stages {
                if let (Some(count), Some(time)) = (stage.images, stage.images_seconds) {
                    images += count as f64;
                    seconds += time;
                }
            }
            let total = |get: fn(&StageRow) -> Option<f64>| {
                stages.iter().map(|s| get(s)).sum::<Option<f64>>()
            };
            let totals = [
                total(|stage| stage.wall_seconds),
                total(|stage| stage.cpu_seconds),
                total(|stage| stage.energy_joules),
            ];
            for (sum, total) in sums.iter_mut().zip(totals) {
                if let Some(total) = total {
                    *sum = (sum.0 + total, sum.1 + 1);
                }
            }
        }
        let mean = |(sum, n): (f64, usize)| (n > 0).then(|| sum / n as f64);
        Some(VariantCost {
            flops: of_first.iter().map(|stage| stage.flops).sum(),
            parameters: of_first.last()?.parameters,
            epochs,
            throughput: (images > 0.0 && seconds > 0.0).then(|| images / seconds),
            wall_seconds: mean(sums[0]),
            cpu_seconds: mean(sums[1]),
            energy_joules: mean(sums[2]),
        })
    }
}

/// A configuration difference: one field, with its value in every variant.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldDifference {
    /// Stage that it is about; empty where there is only one.
    pub stage: String,
    /// Path in YAML (`augment.crop`).
    pub path: String,
    /// By variant, in the plan's order; `None` where the configuration isn't known.
    pub values: Vec<Option<String>>,
}

impl ExperimentData {
    /// The fields in which the configurations of `variants` differ, by stage and in the order of the
    /// recipe. Seeds are left out: they differ within a variant.
    pub fn configuration_differences(&self, variants: &[Variant<'_>]) -> Vec<FieldDifference> {
        let several = self.stages().len() > 1;
        let mut all = Vec::new();
        for (position, stage) in self.stages().iter().enumerate() {
            let specs: Vec<Option<&StageSpec>> = variants
                .iter()
                .map(|variant| self.background.config(variant, position))
                .collect();
            let fields = differing_fields(&specs);
            all.extend(fields.into_iter().map(|(path, values)| FieldDifference {
                stage: if several {
                    stage.clone()
                } else {
                    String::new()
                },
                path,
                values,
            }));
        }
        all
    }
}

/// The fields (by path, with the value of each configuration) in which `specs` differ: the recipe's that
/// can change a result, then data, evaluation sets, initial weights and the trainer's revision.
pub fn differing_fields(specs: &[Option<&StageSpec>]) -> Vec<(String, Vec<Option<String>>)> {
    let rows: Vec<Option<Vec<(String, String)>>> =
        specs.iter().map(|spec| spec.map(facts)).collect();
    // Two programs, or a program and the trainer, have different facts.
    let mut names: Vec<&str> = Vec::new();
    for row in rows.iter().flatten() {
        let own = row.iter().map(|(path, _)| path.as_str());
        // Most have the same ones, and there may be many.
        if !own.clone().eq(names.iter().copied()) {
            let new: Vec<&str> = own.filter(|path| !names.contains(path)).collect();
            names.extend(new);
        }
    }
    let mut differing = Vec::new();
    for (index, path) in names.into_iter().enumerate() {
        let values: Vec<Option<String>> = rows
            .iter()
            .map(|row| {
                let row = row.as_ref()?;
                let is_it = |(known, _): &&(String, String)| known == path;
                let found = row.get(index).filter(is_it);
                let found = found.or_else(|| row.iter().find(is_it));
                Some(found.map_or_else(|| "none".to_owned(), |(_, value)| value.clone()))
            })
            .collect();
        let mut known = values.iter().flatten();
        if let Some(first) = known.next()
            && known.any(|value| value != first)
        {
            differing.push((path.to_owned(), values));
        }
    }
    differing
}

/// Paths and values of all that makes a stage what it is, but its seed and parent.
fn facts(spec: &StageSpec) -> Vec<(String, String)> {
    let short = |hash: &str| hash.chars().take(12).collect::<String>();
    if let Some(command) = &spec.command {
        let mut facts = vec![("command".to_owned(), command.argv.join(" "))];
        let values = command.params.iter().map(|(name, value)| {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            (format!("params.{name}"), value)
        });
        facts.extend(values);
        let fields = command.fields.iter();
        facts.extend(fields.map(|(path, value)| (path.clone(), value.to_string())));
        let inputs = command.inputs.iter();
        facts.extend(inputs.map(|file| (format!("input {}", file.path), short(&file.hash))));
        let environment = command.environment.iter();
        facts.extend(environment.map(|(name, value)| (name.clone(), value.clone())));
        return facts;
    }
    let mut facts: Vec<(String, String)> = crate::spec::fields::FIELDS
        .iter()
        .zip(crate::spec::resolved::from_recipe(&spec.recipe))
        .filter(|(field, _)| field.identity)
        .map(|(field, value)| {
            let text = value.canonical();
            // A word is shown without its quotation marks.
            let word = text
                .strip_prefix('"')
                .and_then(|rest| rest.strip_suffix('"'))
                .filter(|word| !word.contains(['"', '\\']));
            (field.path.to_owned(), word.unwrap_or(&text).to_owned())
        })
        .collect();
    let sets: Vec<String> = spec
        .evaluation_sets
        .iter()
        .map(|set| format!("{} {}", set.name, short(&set.hash)))
        .collect();
    facts.push(("data (hash)".to_owned(), short(&spec.data_hash)));
    facts.push(("evaluation sets".to_owned(), sets.join(", ")));
    facts.push((
        "initial weights (hash)".to_owned(),
        spec.init_weights
            .as_deref()
            .map_or("none".to_owned(), short),
    ));
    facts.push((
        "trainer revision".to_owned(),
        spec.trainer_revision.to_string(),
    ));
    facts
}
