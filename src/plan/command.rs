//! Stages that run a program: their inputs, and the command line of every variant.

use super::inputs;
use super::layers::StageLayers;
use super::model::Variant;
use crate::rundir::stage::{CommandSpec, InputFile};
use crate::spec::command::Command;
use crate::spec::experiment::Experiment;
use crate::spec::fields::{self, FIELDS};
use crate::spec::problem::{Position, Report, nearest};
use crate::spec::resolved::{UNSET, ValueId, Values};
use crate::spec::template::Template;
use crate::spec::value::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A program's stage, with what is the same in all variants.
#[derive(Debug, Clone)]
pub(in crate::plan) struct Program {
    command: Command,
    inputs: Vec<InputFile>,
    /// Numbers and names of the parameters that it is told.
    params: Vec<(usize, String)>,
    /// Fields of the recipe that placeholders name.
    fields: Vec<usize>,
}

/// Where a placeholder's value comes from.
enum Place {
    Seed,
    Field(usize),
    Param(usize),
}

const SEED: &str = "seed";

fn place(name: &str, params: &[String]) -> Option<Place> {
    if name == SEED {
        return Some(Place::Seed);
    }
    if let Some(param) = crate::spec::params::name_of(name) {
        let number = params.iter().position(|known| known == param)?;
        return Some(Place::Param(number));
    }
    fields::find(name).map(Place::Field)
}

/// The experiment file's folder, absolute; the current one where the experiment is built in.
pub(in crate::plan) fn folder(experiment: &Experiment) -> PathBuf {
    let folder = experiment.library.folder().unwrap_or(Path::new(""));
    // An empty path is the current folder.
    let path = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    path.canonicalize()
        .or_else(|_| std::path::absolute(path))
        .unwrap_or_else(|_| path.to_owned())
}

/// The programs of an experiment, by stage: placeholders looked up, input files hashed.
pub(in crate::plan) fn find(
    experiment: &Experiment,
    params: &[String],
    reports: &mut Vec<Report>,
) -> Vec<Option<Program>> {
    let folder = folder(experiment);
    let mut programs = Vec::with_capacity(experiment.stages.len());
    for stage in &experiment.stages {
        programs.push(
            stage
                .command
                .as_ref()
                .map(|command| program(command, &folder, params, reports)),
        );
    }
    programs
}

fn program(
    command: &Command,
    folder: &Path,
    params: &[String],
    reports: &mut Vec<Report>,
) -> Program {
    let told = told(command, params, reports);
    let mut used = Vec::new();
    for template in templates(command) {
        for name in template.places() {
            match place(name, params) {
                Some(Place::Field(field)) => {
                    if !used.contains(&field) {
                        used.push(field);
                    }
                }
                Some(Place::Param(number)) if told.iter().all(|(known, _)| *known != number) => {
                    let message = format!("`{{{name}}}` is not among the stage's `params`");
                    reports.push(Report::error(template.position, message));
                }
                Some(_) => {}
                None => reports.push(unknown(name, template.position, params)),
            }
        }
    }
    used.sort_unstable();
    let mut files: Vec<InputFile> = Vec::new();
    for (pattern, position) in &command.inputs {
        match inputs::find(folder, pattern) {
            Ok(found) => files.extend(found),
            Err(error) => reports.push(
                Report::error(*position, error.to_string())
                    .hint("inputs start at the experiment file's folder"),
            ),
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files.dedup();
    Program {
        command: command.clone(),
        inputs: files,
        params: told,
        fields: used,
    }
}

/// The parameters that a program is told.
fn told(command: &Command, params: &[String], reports: &mut Vec<Report>) -> Vec<(usize, String)> {
    let Some(named) = &command.params else {
        return params.iter().cloned().enumerate().collect();
    };
    let mut told = Vec::new();
    for (name, position) in named {
        match params.iter().position(|known| known == name) {
            Some(number) => told.push((number, name.clone())),
            None => {
                let report = Report::error(*position, format!("unknown parameter `{name}`"));
                reports.push(match nearest(name, params.iter().map(String::as_str)) {
                    Some(near) => report.hint(format!("did you mean `{near}`?")),
                    None => report.hint("declare it in the section `params`"),
                });
            }
        }
    }
    told
}

fn unknown(name: &str, position: Position, params: &[String]) -> Report {
    let report = Report::error(position, format!("unknown placeholder `{{{name}}}`"));
    let names: Vec<String> = params
        .iter()
        .map(|name| format!("params.{name}"))
        .chain([SEED.to_owned()])
        .collect();
    // `{width}` is meant to be `{params.width}`.
    let param = params.iter().find(|known| *known == name);
    let near = param
        .map(|param| format!("params.{param}"))
        .or_else(|| nearest(name, names.iter().map(String::as_str)).map(str::to_owned))
        .or_else(|| fields::nearest_path(name).map(str::to_owned));
    report.hint(match near {
        Some(near) => format!("did you mean `{{{near}}}`?"),
        None => "placeholders are fields of the recipe, `{params.NAME}` and `{seed}`; `{{` is the brace itself".to_owned(),
    })
}

fn templates(command: &Command) -> impl Iterator<Item = &Template> {
    let environment = command.environment.iter().map(|(_, template)| template);
    command.argv.iter().chain(environment)
}

/// A value as an argument: texts as they are, everything else as JSON.
fn argument(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        value => value.canonical(),
    }
}

impl Program {
    /// The command as the experiment says it.
    pub fn command(&self) -> &Command {
        &self.command
    }

    /// A field that a placeholder names and that nothing sets, in this variant.
    pub fn missing(
        &self,
        layers: &StageLayers,
        variant: &Variant,
        values: &Values,
    ) -> Option<usize> {
        let flat = layers.resolve(variant, values);
        self.fields
            .iter()
            .copied()
            .find(|&field| flat[field] == UNSET)
    }

    /// The problem with a field that nothing sets.
    pub fn report_missing(&self, field: usize) -> Report {
        let path = FIELDS[field].path;
        let mut named = templates(&self.command);
        let at = named.find(|template| template.places().any(|name| name == path));
        Report::error(
            at.map_or(self.command.position, |template| template.position),
            format!("`{{{path}}}` has no value"),
        )
        .hint("name a `recipe`, set the field in `set`, or declare a parameter of your own in `params`")
    }

    /// The program of a run.
    pub fn spec(
        &self,
        layers: &StageLayers,
        variant: &Variant,
        values: &Values,
        names: &[String],
        seed: u64,
    ) -> CommandSpec {
        let flat = layers.resolve(variant, values);
        let params: Vec<ValueId> = layers.resolve_params(variant);
        let fill = |template: &Template| {
            template.fill(|name| match place(name, names) {
                Some(Place::Seed) => seed.to_string(),
                Some(Place::Field(field)) => argument(values.get(flat[field])),
                Some(Place::Param(number)) => argument(values.get(params[number])),
                // Was reported: no plan is made.
                None => String::new(),
            })
        };
        let mut metrics: Vec<String> = self
            .command
            .metrics
            .iter()
            .map(|metric| metric.name.clone())
            .collect();
        metrics.sort();
        CommandSpec {
            argv: self.command.argv.iter().map(fill).collect(),
            environment: self
                .command
                .environment
                .iter()
                .map(|(name, template)| (name.clone(), fill(template)))
                .collect(),
            params: self
                .params
                .iter()
                .map(|(number, name)| (name.clone(), values.get(params[*number]).to_json()))
                .collect(),
            fields: self
                .fields
                .iter()
                .map(|&field| {
                    let value = values.get(flat[field]).to_json();
                    (FIELDS[field].path.to_owned(), value)
                })
                .collect::<BTreeMap<_, _>>(),
            inputs: self.inputs.clone(),
            metrics,
            outputs: self.command.outputs.clone(),
        }
    }
}
