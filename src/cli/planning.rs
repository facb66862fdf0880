//! What commands that plan have in common: their arguments, and planning itself.

use crate::data;
use crate::plan::model::Plan;
use crate::plan::{self, DataDescription, Request, Resolvers};
use crate::rundir::stage::{NamedSet, Task};
use crate::spec::experiment::Options;
use crate::spec::problem::Problem;
use crate::spec::recipe::DataConfig;
use crate::weights;
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Which experiments, and how they are changed.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PlanningArgs {
    /// Experiment files, or names of built-in experiments (loss, augmentation, crop, epochs, fixres, in21k)
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Profile of the experiments [default: quick, where there is one]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Change a value in every variant; may be repeated
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    /// Number of seeds (3), or the seeds themselves (0,1,5)
    #[arg(long, value_name = "SEEDS")]
    pub seeds: Option<String>,
    /// Only variants with this label; may be repeated, labels of one axis are alternatives
    #[arg(long, value_name = "AXIS=LABEL")]
    pub only: Vec<String>,
    /// Folder of a data set; may be repeated
    #[arg(long, value_name = "NAME=PATH", value_parser = parse_data)]
    pub data: Vec<(String, PathBuf)>,
    /// Largest number of cells (variants x seeds) of an experiment
    #[arg(long, value_name = "N")]
    pub max_cells: Option<u64>,
}

/// Plans, and where their data sets are.
#[derive(Debug)]
pub struct Planned {
    pub plans: Vec<Plan>,
    /// Root of each image folder by content hash; `None`: the embedded data set.
    pub roots: HashMap<String, Option<PathBuf>>,
    /// The same of the evaluation sets.
    pub set_roots: HashMap<String, Option<PathBuf>>,
}

impl PlanningArgs {
    /// Plans all files. Every problem of every file is printed; `None` if there is one that is more
    /// than a warning.
    pub fn plan(&self) -> Option<Planned> {
        let request = Request {
            options: Options {
                profile: self.profile.clone(),
                set: self.set.clone(),
                seeds: self.seeds.clone(),
                only: self.only.clone(),
            },
            max_cells: self.max_cells,
        };
        let resolvers = Resolvers {
            data: &|config| describe(config, &self.data),
            sets: &|name, data| describe_set(name, data, &self.data),
        };
        let mut planned = Planned {
            plans: Vec::new(),
            roots: HashMap::new(),
            set_roots: HashMap::new(),
        };
        let mut names = HashSet::new();
        let mut usable = true;
        for file in &self.files {
            match plan::plan_file_with(file, &request, &resolvers) {
                Ok(plan) => {
                    plan.warnings.iter().for_each(say);
                    for problem in unusable_weights(&plan) {
                        say(problem);
                        usable = false;
                    }
                    if !names.insert(plan.experiment.name.clone()) {
                        let name = &plan.experiment.name;
                        say(format!(
                            "error: {}: another file has the experiment `{name}` too",
                            file.display()
                        ));
                        usable = false;
                    }
                    planned.plans.push(plan);
                }
                Err(problems) => {
                    say(problems);
                    usable = false;
                }
            }
        }
        if !usable {
            return None;
        }
        for plan in &planned.plans {
            for (config, description) in plan.data() {
                // It was found a moment ago.
                let root = locate(config, &self.data).ok().flatten();
                planned.roots.insert(description.hash.clone(), root);
            }
            for set in plan.evaluation_sets() {
                let root = locate_set(&set.name, &self.data).ok().flatten();
                planned.set_roots.insert(set.hash.clone(), root);
            }
        }
        Some(planned)
    }
}

/// The files that stages start from, and that hold no weights, or those of another model.
fn unusable_weights(plan: &Plan) -> Vec<Problem> {
    let mut known: HashMap<&Path, Result<weights::Description, String>> = HashMap::new();
    for init in plan.init_files() {
        known.entry(&init.path).or_insert_with(|| {
            let weights = weights::read(&init.path).map_err(|error| error.to_string())?;
            Ok(weights.description)
        });
    }
    let mut problems: Vec<Problem> = Vec::new();
    if known.is_empty() {
        return problems;
    }
    for index in 0..plan.stages.len() as u32 {
        let Some(init) = plan.init(index) else {
            continue;
        };
        let message = match &known[init.path.as_path()] {
            Err(error) => error.clone(),
            Ok(description) => {
                let spec = plan.stage_spec(index);
                let mut misfits = description.misfits(&spec.recipe.model);
                let classes = (description.classes, spec.data_shape.classes);
                if spec.task == Task::Evaluate && classes.0 != classes.1 {
                    misfits.push(format!(
                        "the head is for {} classes and the data set has {}",
                        classes.0, classes.1
                    ));
                }
                if misfits.is_empty() {
                    continue;
                }
                format!(
                    "the weights {} are those of another model (variant `{}`): {}",
                    init.path.display(),
                    plan.first_variant(index).name,
                    misfits.join("; ")
                )
            }
        };
        let problem = init.problem(message);
        if !problems.contains(&problem) && problems.len() < SHOWN_PROBLEMS {
            problems.push(problem);
        }
    }
    problems
}

/// Most problems of files that are shown.
const SHOWN_PROBLEMS: usize = 10;

/// Finds and describes a data set.
fn describe(
    config: &DataConfig,
    overrides: &[(String, PathBuf)],
) -> Result<DataDescription, String> {
    let root = locate(config, overrides)?;
    let set =
        data::Dataset::open(&config.name, root.as_deref()).map_err(|error| error.to_string())?;
    let hash = set.hash().map_err(|error| error.to_string())?;
    Ok(DataDescription {
        hash,
        shape: set.shape(),
    })
}

/// Finds and describes an evaluation set of models that were trained on `data`.
fn describe_set(
    name: &str,
    data: &DataConfig,
    overrides: &[(String, PathBuf)],
) -> Result<NamedSet, String> {
    let root = locate_set(name, overrides)?;
    let trained = data::Dataset::open(&data.name, locate(data, overrides)?.as_deref())
        .map_err(|error| error.to_string())?;
    let set = data::EvaluationSet::open(name, root.as_deref(), trained.classes())
        .map_err(|error| error.to_string())?;
    Ok(NamedSet {
        name: name.to_owned(),
        hash: set.hash().map_err(|error| error.to_string())?,
        images: set.len(),
    })
}

/// The root of an evaluation set, found like a data set by its name.
fn locate_set(name: &str, overrides: &[(String, PathBuf)]) -> Result<Option<PathBuf>, String> {
    let config = DataConfig {
        name: name.to_owned(),
        root: None,
    };
    locate(&config, overrides)
}

/// The root of a data set's image folder, absolute; `None`: it is embedded.
fn locate(config: &DataConfig, overrides: &[(String, PathBuf)]) -> Result<Option<PathBuf>, String> {
    let location = data::locate::resolve(&config.name, config.root.as_deref(), overrides)
        .map_err(|error| error.to_string())?;
    Ok(location
        .root()
        .map(|root| std::path::absolute(root).unwrap_or_else(|_| root.to_owned())))
}

pub(super) fn parse_data(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), Path::new(path).to_owned()))
        }
        _ => Err("write NAME=PATH, for example imagenet-1k=/data/imagenet".to_owned()),
    }
}

/// A line on stderr; one that can't be written is lost.
pub fn say(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_evaluation_set_is_found_and_described_like_a_data_set() {
        let data = DataConfig {
            name: data::embedded::NAME.to_owned(),
            root: None,
        };
        let folder = tempfile::tempdir().unwrap();
        let class = folder.path().join("val/ice");
        std::fs::create_dir_all(&class).unwrap();
        std::fs::write(class.join("1.png"), b"opened when it is evaluated").unwrap();
        let overrides = [("imagenet-v2".to_owned(), folder.path().to_owned())];
        let set = describe_set("imagenet-v2", &data, &overrides).unwrap();
        assert_eq!(
            (set.name.as_str(), set.images, set.hash.len()),
            ("imagenet-v2", 1, 32)
        );
        assert_eq!(
            locate_set("imagenet-v2", &overrides).unwrap().as_deref(),
            Some(folder.path())
        );
        let error = describe_set("imagenet-v3", &data, &overrides).unwrap_err();
        assert!(
            error.contains("`imagenet-v3` is not known (did you mean `imagenet-v2`?)")
                && error.contains("--data imagenet-v3="),
            "{error}"
        );
        std::fs::rename(&class, folder.path().join("val/lava")).unwrap();
        let error = describe_set("imagenet-v2", &data, &overrides).unwrap_err();
        assert!(
            error.contains("`imagenet-v2` has the class `lava`"),
            "{error}"
        );
    }

    #[test]
    fn data_sets_are_named_with_their_paths() {
        assert_eq!(parse_data("a=b=c"), Ok(("a".into(), "b=c".into())));
        for bad in ["a", "=b", "a=", ""] {
            assert!(parse_data(bad).is_err(), "{bad}");
        }
    }
}
