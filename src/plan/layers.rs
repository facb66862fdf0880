//! Layers: which value of a field wins in a stage of a variant.
//!
//! Later wins: defaults < recipe (the stage's own, or the experiment's) < `set` < values of axes, in
//! the order of the axes < the stage's `set` < the `stages` part of axis values < `--set`. Everything
//! but the axes is laid down once; of the axes, only what no later layer hides is kept.
//!
//! Free parameters go through the same layers (their section stands between recipe and `set`). A slot is the number
//! of a field, or [`COUNT`] and the number of a parameter.

use super::model::Variant;
use crate::spec::experiment::Experiment;
use crate::spec::fields::COUNT;
use crate::spec::params;
use crate::spec::patch::{Patch, Setting, Target};
use crate::spec::problem::{Position, Report, nearest};
use crate::spec::resolved::{Flat, UNSET, ValueId, Values, complete, defaults};
use crate::spec::value::Value;
use indexmap::IndexMap;

/// One field or parameter that an axis value sets.
#[derive(Debug, Clone, Copy)]
pub(in crate::plan) struct Override {
    /// A slot.
    pub field: u16,
    pub value: ValueId,
    pub position: Position,
}

/// Where a field's value comes from: its place, and the number of its layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::plan) struct Origin {
    pub layer: u8,
    pub position: Position,
}

/// The layers of one stage.
#[derive(Debug, Clone)]
pub(in crate::plan) struct StageLayers {
    pub base: Flat,
    /// Parameters, by number.
    pub params: Vec<ValueId>,
    /// By slot.
    pub origins: Vec<Origin>,
    /// By axis, then label: what the value sets in every stage.
    pub general: Vec<Vec<Vec<Override>>>,
    /// By axis, then label: what the value sets in this stage only.
    pub own: Vec<Vec<Vec<Override>>>,
}

impl StageLayers {
    /// The recipe of a variant in this stage. Fields that nothing sets are [`UNSET`].
    pub fn resolve(&self, variant: &Variant, values: &Values) -> Flat {
        let mut flat = self.base;
        for part in [&self.general, &self.own] {
            for (axis, &label) in part.iter().zip(&variant.labels) {
                for set in &axis[label as usize] {
                    if let Some(value) = flat.get_mut(set.field as usize) {
                        *value = set.value;
                    }
                }
            }
        }
        complete(&mut flat, values);
        flat
    }

    /// The parameters of a variant in this stage, by number.
    pub fn resolve_params(&self, variant: &Variant) -> Vec<ValueId> {
        let mut params = self.params.clone();
        for part in [&self.general, &self.own] {
            for (axis, &label) in part.iter().zip(&variant.labels) {
                for set in &axis[label as usize] {
                    if let Some(number) = (set.field as usize).checked_sub(COUNT) {
                        params[number] = set.value;
                    }
                }
            }
        }
        params
    }

    /// Where the values of a variant in this stage come from.
    pub fn origins(&self, variant: &Variant) -> Vec<Origin> {
        let mut origins = self.origins.clone();
        for (layer, part) in [(4, &self.general), (6, &self.own)] {
            for (axis, &label) in part.iter().zip(&variant.labels) {
                for set in &axis[label as usize] {
                    origins[set.field as usize] = Origin {
                        layer,
                        position: set.position,
                    };
                }
            }
        }
        origins
    }
}

/// The declared parameters in order, with the values that the declarations give them.
pub(in crate::plan) type Declared = IndexMap<String, Value>;

/// The layers of every stage, and the names of the parameters in their order. `None`: a recipe can't be used, or a
/// parameter is not declared, as reported.
pub(in crate::plan) fn build(
    experiment: &mut Experiment,
    values: &mut Values,
    reports: &mut Vec<Report>,
) -> Option<(Vec<StageLayers>, Vec<String>)> {
    let defaults = defaults();
    let mut layers = Vec::with_capacity(experiment.stages.len());
    let recipes = recipes(experiment, reports)?;
    let declared = declare(experiment, &recipes, reports)?;
    let slot = |setting: &Setting| match &setting.target {
        Target::Field(field) => *field,
        // Every parameter was looked for among the declared ones.
        Target::Param(name) => COUNT + declared.get_index_of(name).unwrap_or(usize::MAX - COUNT),
    };
    for (stage, recipe) in experiment.stages.iter().zip(&recipes) {
        let of_stage = |patch: &Patch| -> Vec<Setting> {
            let parts = patch.stages.iter().filter(|part| part.stage == stage.name);
            parts
                .flat_map(|part| part.settings.iter().cloned())
                .collect()
        };
        let mut base = [UNSET; COUNT];
        for (slot, default) in base.iter_mut().zip(&defaults) {
            if let Some(value) = default {
                *slot = values.intern(value);
            }
        }
        let mut params = vec![UNSET; declared.len()];
        for (slot, value) in params.iter_mut().zip(declared.values()) {
            *slot = values.intern(value);
        }
        let mut origins = vec![Origin::default(); COUNT + declared.len()];
        let mut lay = |layer: u8, settings: &[Setting]| {
            for setting in settings {
                let slot = slot(setting);
                let value = values.intern(&setting.value);
                match slot.checked_sub(COUNT) {
                    Some(number) => params[number] = value,
                    None => base[slot] = value,
                }
                origins[slot] = Origin {
                    layer,
                    position: setting.position,
                };
            }
        };
        lay(1, recipe);
        lay(1, &experiment.params);
        lay(2, &experiment.set.settings);
        lay(5, &stage.set);
        lay(5, &of_stage(&experiment.set));
        lay(7, &experiment.overrides.settings);
        lay(7, &of_stage(&experiment.overrides));
        let mut part = |hidden_from: u8,
                        settings: &dyn Fn(&Patch) -> Vec<Setting>|
         -> Vec<Vec<Vec<Override>>> {
            let keep = |settings: Vec<Setting>, values: &mut Values| {
                settings
                    .into_iter()
                    .filter(|setting| origins[slot(setting)].layer < hidden_from)
                    .map(|setting| Override {
                        field: slot(&setting) as u16,
                        value: values.intern(&setting.value),
                        position: setting.position,
                    })
                    .collect()
            };
            experiment
                .axes
                .iter()
                .map(|axis| {
                    axis.values
                        .iter()
                        .map(|value| keep(settings(&value.patch), values))
                        .collect()
                })
                .collect()
        };
        let general = part(5, &|patch| patch.settings.clone());
        let own = part(7, &of_stage);
        layers.push(StageLayers {
            base,
            params,
            origins,
            general,
            own,
        });
    }
    dead_axes(experiment, &layers, slot, reports);
    Some((layers, declared.into_keys().collect()))
}

/// The recipe of every stage; that of a program's stage may be none at all.
fn recipes(experiment: &mut Experiment, reports: &mut Vec<Report>) -> Option<Vec<Vec<Setting>>> {
    let mut found = Vec::with_capacity(experiment.stages.len());
    let mut usable = true;
    for stage in &experiment.stages {
        let named = stage.recipe.as_ref().or(experiment.recipe.as_ref());
        let recipe = match named {
            None if stage.command.is_some() => Some(Vec::new()),
            None => None,
            Some((name, position)) => {
                experiment
                    .library
                    .recipe(name, *position, &mut experiment.sources, reports)
            }
        };
        usable &= recipe.is_some();
        found.push(recipe.unwrap_or_default());
    }
    usable.then_some(found)
}

/// The parameters that recipes and the experiment declare; everything else that sets one is held against them.
fn declare(
    experiment: &Experiment,
    recipes: &[Vec<Setting>],
    reports: &mut Vec<Report>,
) -> Option<Declared> {
    let before = reports.len();
    let mut declared = Declared::new();
    for setting in recipes.iter().flatten().chain(&experiment.params) {
        let Target::Param(name) = &setting.target else {
            continue;
        };
        if let Some(known) = declared.get(name) {
            check_kind(name, known, setting, reports);
        }
        let value = declared.entry(name.clone()).or_insert(Value::Null);
        if *value == Value::Null {
            *value = setting.value.clone();
        }
    }
    let of_patch = |patch: &Patch| -> Vec<Setting> {
        let stages = patch.stages.iter().flat_map(|stage| &stage.settings);
        patch.settings.iter().chain(stages).cloned().collect()
    };
    let mut set = of_patch(&experiment.set);
    for value in experiment.axes.iter().flat_map(|axis| &axis.values) {
        set.extend(of_patch(&value.patch));
    }
    set.extend(experiment.stages.iter().flat_map(|stage| stage.set.clone()));
    set.extend(of_patch(&experiment.overrides));
    for setting in &set {
        let Target::Param(name) = &setting.target else {
            continue;
        };
        match declared.get(name) {
            Some(known) => check_kind(name, known, setting, reports),
            None => {
                let message = format!("unknown parameter `params.{name}`");
                let report = Report::error(setting.position, message);
                reports.push(match nearest(name, declared.keys().map(String::as_str)) {
                    Some(near) => report.hint(format!("did you mean `params.{near}`?")),
                    None => report
                        .hint("declare it in the section `params` of the experiment or its recipe"),
                });
            }
        }
    }
    (reports.len() == before).then_some(declared)
}

fn check_kind(name: &str, declared: &Value, setting: &Setting, reports: &mut Vec<Report>) {
    if !params::fits(declared, &setting.value) {
        let message = format!(
            "`params.{name}` is declared as {}, not {}",
            params::kind(declared),
            params::kind(&setting.value)
        );
        reports.push(Report::error(setting.position, message));
    }
}

/// Reports axes that change nothing, because every stage hides what they set.
fn dead_axes(
    experiment: &Experiment,
    layers: &[StageLayers],
    slot: impl Fn(&Setting) -> usize,
    reports: &mut Vec<Report>,
) {
    for (index, axis) in experiment.axes.iter().enumerate() {
        let alive =
            |part: &Vec<Vec<Vec<Override>>>| part[index].iter().any(|sets| !sets.is_empty());
        if layers
            .iter()
            .any(|stage| alive(&stage.general) || alive(&stage.own))
        {
            continue;
        }
        let message = format!("axis `{}` has no effect", axis.name);
        let report = Report::error(axis.position, message);
        let hider = axis
            .values
            .iter()
            .flat_map(|value| &value.patch.settings)
            .find_map(|setting| {
                layers
                    .iter()
                    .map(|stage| stage.origins[slot(setting)])
                    .find(|origin| origin.layer >= 5)
            });
        reports.push(match hider {
            Some(origin) if origin.layer == 7 => report.hint("`--set` overrides what it sets"),
            Some(origin) => report.hint(format!(
                "every stage overrides what it sets (line {}); put it under the key `stages` of the axis value",
                origin.position.line
            )),
            None => report.hint("none of its values sets anything"),
        });
    }
}
