//! Patches: maps from configuration paths to values.
//!
//! Paths are dotted (`optimizer.lr: 1e-3`), nested (`optimizer: {lr: 1e-3}`) or both. `model.arch`
//! expands where it stands; fields that the same patch names win over it. The key `stages` holds
//! patches that apply to one stage only. `params.NAME` is a free parameter (`spec::params`).

use super::arch;
use super::document::{Content, Entry, Node};
use super::fields::{self, ARCH, FIELDS};
use super::params;
use super::problem::{Position, Report, suggestion};
use super::value::{Value, coerce};

/// What a setting sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Index into [`FIELDS`].
    Field(usize),
    /// Name of a free parameter, without `params.`.
    Param(String),
}

/// One field or parameter set to one value.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    pub target: Target,
    pub value: Value,
    /// Where the value stands.
    pub position: Position,
}

impl Setting {
    /// The field that it sets, as an index into [`FIELDS`].
    pub fn field(&self) -> Option<usize> {
        match self.target {
            Target::Field(field) => Some(field),
            Target::Param(_) => None,
        }
    }
}

/// The settings of one stage.
#[derive(Debug, Clone, PartialEq)]
pub struct StagePatch {
    pub stage: String,
    /// Where the stage is named.
    pub position: Position,
    pub settings: Vec<Setting>,
}

/// A patch: settings for every stage, and for some stages only. A later setting of a field wins.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Patch {
    pub settings: Vec<Setting>,
    pub stages: Vec<StagePatch>,
}

impl Patch {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.stages.iter().all(|stage| stage.settings.is_empty())
    }

    /// Adds `later`, which wins.
    pub fn extend(&mut self, later: Patch) {
        self.settings.extend(later.settings);
        self.stages.extend(later.stages);
    }
}

/// Reads a patch. `place` says what the map is (`recipe`, `set`) in messages.
pub fn read(node: &Node, place: &str, reports: &mut Vec<Report>) -> Patch {
    let mut patch = Patch::default();
    let Some(entries) = map(node, place, reports) else {
        return patch;
    };
    patch.settings = settings(
        entries.iter().filter(|entry| entry.key != "stages"),
        place,
        reports,
    );
    for entry in entries.iter().filter(|entry| entry.key == "stages") {
        for stage in map(&entry.value, "`stages`", reports).unwrap_or_default() {
            let place = format!("`stages.{}`", stage.key);
            let settings = read_settings(&stage.value, &place, reports);
            patch.stages.push(StagePatch {
                stage: stage.key.clone(),
                position: stage.position,
                settings,
            });
        }
    }
    patch
}

/// Reads a patch without a `stages` part.
pub fn read_settings(node: &Node, place: &str, reports: &mut Vec<Report>) -> Vec<Setting> {
    map(node, place, reports)
        .map_or_else(Vec::new, |entries| settings(entries.iter(), place, reports))
}

/// The entries of a map; null is an empty one.
pub fn map<'a>(node: &'a Node, place: &str, reports: &mut Vec<Report>) -> Option<&'a [Entry]> {
    match &node.content {
        Content::Map(entries) => Some(entries),
        Content::Null => Some(&[]),
        _ => {
            let message = format!("{place} expects a map, not {}", node.noun());
            reports.push(Report::error(node.position, message));
            None
        }
    }
}

/// Settings of the given entries, which stand at the top of a patch or recipe.
pub fn settings<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    place: &str,
    reports: &mut Vec<Report>,
) -> Vec<Setting> {
    let mut reader = Reader {
        place,
        shorthand: Vec::new(),
        explicit: Vec::new(),
        reports,
    };
    for entry in entries {
        reader.entry("", entry);
    }
    let mut all = reader.shorthand;
    all.extend(reader.explicit);
    all
}

/// The settings of one section, key included: what `params: {...}` at the top of an experiment says.
pub fn section(entry: &Entry, place: &str, reports: &mut Vec<Report>) -> Vec<Setting> {
    settings(std::iter::once(entry), place, reports)
}

/// One path and its value, as on the command line or on an axis.
pub fn setting(
    path: &str,
    position: Position,
    value: &Node,
    reports: &mut Vec<Report>,
) -> Vec<Setting> {
    let entry = Entry {
        key: path.to_owned(),
        position,
        value: value.clone(),
    };
    section(&entry, "recipe", reports)
}

struct Reader<'a> {
    place: &'a str,
    shorthand: Vec<Setting>,
    explicit: Vec<Setting>,
    reports: &'a mut Vec<Report>,
}

impl Reader<'_> {
    fn entry(&mut self, prefix: &str, entry: &Entry) {
        let path = if prefix.is_empty() {
            entry.key.clone()
        } else {
            format!("{prefix}.{}", entry.key)
        };
        if path == ARCH {
            self.arch(entry);
        } else if path == params::SECTION || params::is_path(&path) {
            self.param(&path, entry);
        } else if let Some(field) = fields::find(&path) {
            self.field(field, entry);
        } else if fields::is_section(&path) {
            match &entry.value.content {
                Content::Map(entries) => {
                    for entry in entries {
                        self.entry(&path, entry);
                    }
                }
                _ => {
                    let message = format!(
                        "`{path}` is a section and expects a map, not {}",
                        entry.value.noun()
                    );
                    self.reports
                        .push(Report::error(entry.value.position, message));
                }
            }
        } else {
            self.unknown(prefix, &path, entry);
        }
    }

    fn field(&mut self, field: usize, entry: &Entry) {
        let value = coerce(&FIELDS[field], &entry.value);
        self.explicit(Target::Field(field), FIELDS[field].path, value, entry);
    }

    /// A parameter, or a map of some.
    fn param(&mut self, path: &str, entry: &Entry) {
        if let Content::Map(entries) = &entry.value.content {
            for entry in entries {
                self.entry(path, entry);
            }
            return;
        }
        let Some(name) = params::name_of(path) else {
            let message = format!(
                "`{path}` is a section and expects a map, not {}",
                entry.value.noun()
            );
            self.reports
                .push(Report::error(entry.value.position, message));
            return;
        };
        if let Err(report) = params::check_name(name, entry.position) {
            self.reports.push(report);
            return;
        }
        let value = params::read(name, &entry.value);
        self.explicit(Target::Param(name.to_owned()), path, value, entry);
    }

    fn explicit(
        &mut self,
        target: Target,
        path: &str,
        value: Result<Value, Report>,
        entry: &Entry,
    ) {
        if self.explicit.iter().any(|setting| setting.target == target) {
            let message = format!("`{path}` is set twice here");
            self.reports.push(Report::error(entry.position, message));
            return;
        }
        match value {
            Ok(value) => self.explicit.push(Setting {
                target,
                value,
                position: entry.value.position,
            }),
            Err(report) => self.reports.push(report),
        }
    }

    fn arch(&mut self, entry: &Entry) {
        let position = entry.value.position;
        if !self.shorthand.is_empty() {
            self.reports.push(Report::error(
                entry.position,
                format!("`{ARCH}` is set twice here"),
            ));
            return;
        }
        let Some(name) = entry.value.text() else {
            let message = format!("`{ARCH}` expects a name, not {}", entry.value.noun());
            self.reports.push(Report::error(position, message));
            return;
        };
        match arch::expand(name) {
            Ok(arch) => {
                for (path, value) in [
                    ("model.patch_size", arch.patch_size),
                    ("model.embed_dim", arch.embed_dim),
                    ("model.depth", arch.depth),
                    ("model.num_heads", arch.num_heads),
                    ("model.parallel_branches", arch.parallel_branches),
                ] {
                    if let Some(field) = fields::find(path) {
                        self.shorthand.push(Setting {
                            target: Target::Field(field),
                            value: Value::Integer(value),
                            position,
                        });
                    }
                }
            }
            Err(hint) => {
                let message = format!("unknown architecture `{name}`");
                self.reports
                    .push(Report::error(position, message).hint(hint));
            }
        }
    }

    fn unknown(&mut self, prefix: &str, path: &str, entry: &Entry) {
        let place = if prefix.is_empty() {
            self.place.to_owned()
        } else {
            format!("`{prefix}`")
        };
        let report = Report::error(
            entry.position,
            format!("unknown key `{}` in {place}", entry.key),
        );
        let inside = format!("{prefix}.");
        let hint = if prefix.is_empty() {
            let short = !path.contains('.') && matches!(entry.value.content, Content::Map(_));
            let section = short
                .then(|| super::problem::nearest(path, fields::sections()))
                .flatten();
            section
                .or_else(|| fields::nearest_path(path))
                .map(|name| format!("did you mean `{name}`?"))
        } else {
            let names: Vec<&str> = fields::paths()
                .filter_map(|p| p.strip_prefix(&inside))
                .collect();
            suggestion(&entry.key, names)
        };
        self.reports.push(match hint {
            Some(hint) => report.hint(hint),
            None => report.hint(format!(
                "sections: {}",
                fields::sections().collect::<Vec<_>>().join(", ")
            )),
        });
    }
}
