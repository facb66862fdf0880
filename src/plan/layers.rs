//! Layers: which value of a field wins in a stage of a variant.
//!
//! Later wins: defaults < recipe (the stage's own, or the experiment's) < `set` < values of axes, in
//! the order of the axes < the stage's `set` < the `stages` part of axis values < `--set`. Everything
//! but the axes is laid down once; of the axes, only what no later layer hides is kept.

use super::model::Variant;
use crate::spec::experiment::Experiment;
use crate::spec::fields::COUNT;
use crate::spec::patch::{Patch, Setting};
use crate::spec::problem::{Position, Report};
use crate::spec::resolved::{Flat, UNSET, ValueId, Values, complete, defaults};

/// One field that an axis value sets.
#[derive(Debug, Clone, Copy)]
pub(in crate::plan) struct Override {
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
                    flat[set.field as usize] = set.value;
                }
            }
        }
        complete(&mut flat, values);
        flat
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

/// The layers of every stage. `None`: a recipe can't be used, as reported.
pub(in crate::plan) fn build(
    experiment: &mut Experiment,
    values: &mut Values,
    reports: &mut Vec<Report>,
) -> Option<Vec<StageLayers>> {
    let defaults = defaults();
    let mut layers = Vec::with_capacity(experiment.stages.len());
    let mut usable = true;
    for stage in &experiment.stages {
        let named = stage.recipe.as_ref().or(experiment.recipe.as_ref());
        let recipe = named.and_then(|(name, position)| {
            experiment
                .library
                .recipe(name, *position, &mut experiment.sources, reports)
        });
        let Some(recipe) = recipe else {
            usable = false;
            continue;
        };
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
        let mut origins = vec![Origin::default(); COUNT];
        let mut lay = |layer: u8, settings: &[Setting]| {
            for setting in settings {
                base[setting.field] = values.intern(&setting.value);
                origins[setting.field] = Origin {
                    layer,
                    position: setting.position,
                };
            }
        };
        lay(1, &recipe);
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
                    .filter(|setting| origins[setting.field].layer < hidden_from)
                    .map(|setting| Override {
                        field: setting.field as u16,
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
            origins,
            general,
            own,
        });
    }
    if usable {
        dead_axes(experiment, &layers, reports);
    }
    usable.then_some(layers)
}

/// Reports axes that change nothing, because every stage hides what they set.
fn dead_axes(experiment: &Experiment, layers: &[StageLayers], reports: &mut Vec<Report>) {
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
                    .map(|stage| stage.origins[setting.field])
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
