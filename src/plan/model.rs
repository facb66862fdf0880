//! The plan: plain data that `schedule`, `store` and `report` read.

use super::command::Program;
use super::difference::differences;
use super::fingerprint::STAGE_FORMAT;
use super::init::InitWeights;
use super::layers::StageLayers;
use crate::rundir::stage::{DataShape, NamedSet, StageSpec, TRAINER_REVISION, Task};
use crate::spec::command::Command;
use crate::spec::execution::ExecutionRules;
use crate::spec::priority::Priorities;
use crate::spec::problem::Problem;
use crate::spec::recipe::{DataConfig, Recipe};
pub use crate::spec::report::ReportSpec;
use crate::spec::resolved::{Flat, ValueId, Values, to_recipe};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What an experiment file expands to.
#[derive(Debug, Clone)]
pub struct Plan {
    pub experiment: ExperimentInfo,
    pub axes: Vec<AxisInfo>,
    pub variants: Vec<Variant>,
    pub runs: Vec<PlannedRun>,
    pub stages: Vec<PlannedStage>,
    /// What is trained first.
    pub priorities: Priorities,
    /// How its stages are carried out.
    pub execution: ExecutionRules,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Problem>,
    /// How a stage's full configuration is rebuilt on demand ([`Plan::stage_spec`]).
    pub(in crate::plan) configurations: Configurations,
}

/// A data set as the plan needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct DataDescription {
    /// Hash of the content, part of fingerprints.
    pub hash: String,
    pub shape: DataShape,
}

/// The compact form of every stage's configuration.
#[derive(Debug, Clone)]
pub(in crate::plan) struct Configurations {
    pub values: Values,
    /// By position in `ExperimentInfo::stage_names`.
    pub layers: Vec<StageLayers>,
    pub tasks: Vec<Task>,
    /// Files that stages start from, by position in `ExperimentInfo::stage_names`.
    pub init: Vec<Option<InitWeights>>,
    /// By planned stage: the variant and the seed of the run that it was first planned for.
    pub first: Vec<(u32, u64)>,
    /// By values of `data.name` and `data.root`.
    pub data: Vec<((ValueId, ValueId), DataConfig, DataDescription)>,
    /// Evaluation sets by values of `data.name`, `data.root` and `eval.sets`.
    pub sets: Vec<((ValueId, ValueId, ValueId), Vec<NamedSet>)>,
    /// Stages that run a program, by position in `ExperimentInfo::stage_names`.
    pub programs: Vec<Option<Program>>,
    /// Names of the free parameters, by number.
    pub params: Vec<String>,
    /// The experiment file's folder.
    pub folder: PathBuf,
}

/// What the experiment says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExperimentInfo {
    pub name: String,
    pub title: String,
    pub claim: String,
    pub profile: String,
    /// Text of the file, as read.
    pub source: String,
    pub path: String,
    /// Names of the stages in topological order; the last one is the run's result.
    pub stage_names: Vec<String>,
    /// What deltas are taken against: one entry per axis, its label, or `None` where the run with
    /// the same label is meant.
    pub baseline: Option<Vec<Option<String>>>,
    /// The `report:` section, already validated.
    pub report: ReportSpec,
}

/// An axis and its labels, in the file's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AxisInfo {
    pub name: String,
    pub labels: Vec<String>,
}

/// One combination of axis values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Index into the labels of each axis; designs that leave an axis out (a `path`) use its first.
    pub labels: Vec<u32>,
    /// Display name, unique in the experiment (`bce,ViT-S`; `full`; `- layer_scale`).
    pub name: String,
}

/// A variant with one seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedRun {
    /// Index into [`Plan::variants`].
    pub variant: u32,
    pub seed: u64,
    /// Indices into [`Plan::stages`], one per name in `ExperimentInfo::stage_names`.
    pub stages: Vec<u32>,
}

/// One job: shared by every run that needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedStage {
    /// Index into `ExperimentInfo::stage_names`.
    pub name: u32,
    pub fingerprint: Fingerprint,
    /// Index of the parent stage.
    pub parent: Option<u32>,
    pub cost: Cost,
}

/// 128 bits of BLAKE3.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 16]);

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// What a stage is expected to need.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Floating-point operations of training and evaluation (2 per multiply-add).
    pub flops: f64,
    pub parameters: u64,
    pub steps: u64,
    pub disk_bytes: u64,
    /// Peak memory on a CPU, as estimated (`plan::memory`).
    pub memory_bytes: u64,
}

impl Plan {
    /// Priorities of the stages: of those runs that need a stage, the highest counts.
    pub fn stage_priorities(&self) -> Vec<i32> {
        let mut priorities: Vec<Option<i32>> = vec![None; self.stages.len()];
        for run in &self.runs {
            let of_run = self
                .priorities
                .of(&self.variants[run.variant as usize].labels);
            for &stage in &run.stages {
                let known = &mut priorities[stage as usize];
                *known = Some(known.map_or(of_run, |known| known.max(of_run)));
            }
        }
        priorities
            .into_iter()
            .map(Option::unwrap_or_default)
            .collect()
    }

    fn flat(&self, index: u32) -> Flat {
        let (variant, _) = self.configurations.first[index as usize];
        let layers = &self.configurations.layers[self.stages[index as usize].name as usize];
        layers.resolve(
            &self.variants[variant as usize],
            &self.configurations.values,
        )
    }

    fn description(&self, flat: &Flat) -> Option<&DataDescription> {
        let key = super::identify::data_key(flat);
        let found = self
            .configurations
            .data
            .iter()
            .find(|(known, ..)| *known == key);
        found.map(|(_, _, description)| description)
    }

    /// The data sets that the plan reads.
    pub fn data(&self) -> impl Iterator<Item = (&DataConfig, &DataDescription)> {
        self.configurations
            .data
            .iter()
            .map(|(_, config, description)| (config, description))
    }

    /// The evaluation sets that the plan reads besides `val`.
    pub fn evaluation_sets(&self) -> impl Iterator<Item = &NamedSet> {
        self.configurations.sets.iter().flat_map(|(_, sets)| sets)
    }

    /// The complete configuration of stage `index` (an index into [`Plan::stages`]).
    pub fn stage_spec(&self, index: u32) -> StageSpec {
        let stage = &self.stages[index as usize];
        if let Some(program) = &self.configurations.programs[stage.name as usize] {
            return self.program_spec(index, program);
        }
        let flat = self.flat(index);
        let values = flat.iter().map(|&id| self.configurations.values.get(id));
        let recipe = to_recipe(values).expect("the table of fields matches the recipe (tested)");
        let data = self
            .description(&flat)
            .cloned()
            .expect("every data set was described while planning");
        StageSpec {
            version: STAGE_FORMAT,
            trainer_revision: TRAINER_REVISION,
            fingerprint: stage.fingerprint.to_string(),
            task: self.configurations.tasks[stage.name as usize],
            recipe,
            seed: self.configurations.first[index as usize].1,
            data_hash: data.hash,
            data_shape: data.shape,
            evaluation_sets: super::identify::sets_of(&self.configurations.sets, &flat).to_vec(),
            parent: stage
                .parent
                .map(|parent| self.stages[parent as usize].fingerprint.to_string()),
            init_weights: self.init(index).map(|init| init.hash.clone()),
            command: None,
        }
    }

    fn program_spec(&self, index: u32, program: &Program) -> StageSpec {
        let stage = &self.stages[index as usize];
        let configurations = &self.configurations;
        let seed = self.seed(index);
        let command = program.spec(
            &configurations.layers[stage.name as usize],
            self.first_variant(index),
            &configurations.values,
            &configurations.params,
            seed,
        );
        StageSpec {
            version: STAGE_FORMAT,
            trainer_revision: TRAINER_REVISION,
            fingerprint: stage.fingerprint.to_string(),
            task: Task::Command,
            recipe: Recipe::none(),
            seed,
            data_hash: String::new(),
            data_shape: DataShape {
                classes: 0,
                train_images: 0,
                val_images: 0,
                kept_bytes: 0,
            },
            evaluation_sets: Vec::new(),
            parent: stage
                .parent
                .map(|parent| self.stages[parent as usize].fingerprint.to_string()),
            init_weights: None,
            command: Some(command),
        }
    }

    /// The program of stage `index` as the experiment says it, where it runs one.
    pub fn command(&self, index: u32) -> Option<&Command> {
        let name = self.stages[index as usize].name as usize;
        self.configurations.programs[name]
            .as_ref()
            .map(Program::command)
    }

    /// The experiment file's folder, which programs are started in.
    pub fn folder(&self) -> &Path {
        &self.configurations.folder
    }

    /// The file of weights that stage `index` starts from.
    pub fn init(&self, index: u32) -> Option<&InitWeights> {
        let name = self.stages[index as usize].name as usize;
        self.configurations.init.get(name)?.as_ref()
    }

    /// All files of weights that stages start from.
    pub fn init_files(&self) -> impl Iterator<Item = &InitWeights> {
        self.configurations.init.iter().flatten()
    }

    /// What a stage does.
    pub fn task(&self, index: u32) -> Task {
        self.configurations.tasks[self.stages[index as usize].name as usize]
    }

    /// The seed of stage `index`.
    pub fn seed(&self, index: u32) -> u64 {
        self.configurations.first[index as usize].1
    }

    /// A run that needs stage `index` (the first one).
    pub fn first_variant(&self, index: u32) -> &Variant {
        &self.variants[self.configurations.first[index as usize].0 as usize]
    }

    /// `<experiment>/<variant>/s<seed>`: the name of a run.
    pub fn run_id(&self, run: &PlannedRun) -> String {
        format!(
            "{}/{}/s{}",
            self.experiment.name, self.variants[run.variant as usize].name, run.seed
        )
    }

    /// Fields in which stage `index` differs from another stage's configuration: [`differences`].
    pub fn differences(&self, index: u32, other: &StageSpec) -> Vec<String> {
        differences(other, &self.stage_spec(index))
    }
}
