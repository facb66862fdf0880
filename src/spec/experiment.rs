//! Experiment files: sections, profiles and the command line's changes, read into one description.

pub use super::arguments::Options;
use super::arguments::{read_only, read_overrides};
use super::axes::{self, Axis, Cell, Design};
use super::document::{self, Content, Entry, Node};
use super::execution::{self, ExecutionRules};
use super::library::{self, Library};
use super::params;
use super::patch::{self, Patch, Setting};
use super::priority::{self, Priorities};
use super::problem::{Position, Problems, Report, Severity, Sources, is_invisible, suggestion};
use super::report::{self, DesignKind, ReportSpec};
pub use super::seeds::Seeds;
use super::seeds::{read_seeds, read_seeds_argument};
use super::stages::{self, Stage, StageParts};
use indexmap::IndexMap;
use std::path::Path;

/// An experiment as its file, a profile and the command line describe it. Recipes are not resolved.
#[derive(Debug)]
pub struct Experiment {
    pub sources: Sources,
    pub library: Library,
    pub name: String,
    pub title: String,
    pub claim: String,
    /// `default` where the file has no profile to use.
    pub profile: String,
    /// Name of the base recipe and where it is named.
    pub recipe: Option<(String, Position)>,
    /// Free parameters with their values; a later one of a name wins.
    pub params: Vec<Setting>,
    pub set: Patch,
    pub axes: Vec<Axis>,
    pub design: Design,
    pub design_position: Position,
    pub exclude: Vec<Cell>,
    pub include: Vec<Cell>,
    pub only: Vec<Cell>,
    pub seeds: Seeds,
    pub stages: Vec<Stage>,
    pub report: ReportSpec,
    /// How stages are carried out; changes no result.
    pub execution: ExecutionRules,
    /// One entry per axis; `None`: the file names no baseline.
    pub baseline: Option<Vec<Option<u32>>>,
    pub priorities: Priorities,
    /// `--set`, the last layer.
    pub overrides: Patch,
    pub warnings: Vec<Report>,
}

const KEYS: &[&str] = &[
    "name",
    "title",
    "claim",
    "recipe",
    "params",
    "set",
    "axes",
    "design",
    "exclude",
    "include",
    "seeds",
    "stages",
    "profiles",
    "report",
    "baseline",
    "execution",
    "priority",
];
const PROFILE_KEYS: &[&str] = &[
    "title",
    "claim",
    "recipe",
    "params",
    "set",
    "axes",
    "design",
    "exclude",
    "include",
    "seeds",
    "stages",
    "report",
    "baseline",
    "execution",
    "priority",
];
/// Most axes, stages and profiles of an experiment, and most cells that `exclude` names.
const MOST: usize = 100;
const MOST_EXCLUDED: usize = 2_000;

/// Reads the experiment file at `path` (or the built-in experiment of that name).
pub fn load(path: &Path, options: &Options) -> Result<Experiment, Problems> {
    match library::open_experiment(path) {
        Ok((name, text, folder)) => read(&name, &text, folder.as_deref(), options),
        Err(message) => {
            let mut sources = Sources::default();
            let source = sources.add(path.display().to_string(), "");
            let report = Report::error(
                Position {
                    source,
                    line: 0,
                    column: 0,
                },
                message,
            );
            Err(Problems::new(&sources, &[report]))
        }
    }
}

/// Reads an experiment from `text`; `folder` is where its `recipes/` lie.
pub fn read(
    name: &str,
    text: &str,
    folder: Option<&Path>,
    options: &Options,
) -> Result<Experiment, Problems> {
    let mut sources = Sources::default();
    let source = sources.add(name, text);
    let mut reports = Vec::new();
    let root = document::parse(&sources, source, &mut reports);
    let experiment = root.and_then(|root| {
        let library = Library::new(folder.map(Path::to_path_buf));
        interpret(
            name,
            source,
            &root,
            &mut sources,
            library,
            options,
            &mut reports,
        )
    });
    match experiment {
        Some(mut experiment) if reports.iter().all(|r| r.severity == Severity::Warning) => {
            experiment.sources = sources;
            experiment.warnings = reports;
            Ok(experiment)
        }
        _ => Err(Problems::new(&sources, &reports)),
    }
}

/// Sections of the file with a profile laid over them.
struct Sections<'a> {
    single: IndexMap<&'a str, &'a Entry>,
    params: Vec<&'a Entry>,
    sets: Vec<&'a Node>,
    axes: IndexMap<&'a str, &'a Entry>,
    stages: IndexMap<&'a str, StageParts<'a>>,
}

impl<'a> Sections<'a> {
    fn add(&mut self, entries: &'a [Entry], reports: &mut Vec<Report>) {
        for entry in entries {
            match entry.key.as_str() {
                "set" => self.sets.push(&entry.value),
                "params" => self.params.push(entry),
                "axes" => {
                    for axis in patch::map(&entry.value, "`axes`", reports).unwrap_or_default() {
                        if axis.value.content == Content::Null {
                            if self.axes.shift_remove(axis.key.as_str()).is_none() {
                                let message = format!("axis `{}` has no values", axis.key);
                                reports.push(Report::error(axis.position, message));
                            }
                        } else {
                            self.axes.insert(&axis.key, axis);
                        }
                    }
                }
                "stages" => {
                    for stage in patch::map(&entry.value, "`stages`", reports).unwrap_or_default() {
                        if stage.value.content == Content::Null
                            && self.stages.contains_key(stage.key.as_str())
                        {
                            self.stages.shift_remove(stage.key.as_str());
                            continue;
                        }
                        let parts =
                            self.stages
                                .entry(stage.key.as_str())
                                .or_insert_with(|| StageParts {
                                    name: &stage.key,
                                    position: stage.position,
                                    layers: Vec::new(),
                                });
                        parts.layers.push(&stage.value);
                    }
                }
                "profiles" => {}
                key if entry.value.content == Content::Null => {
                    self.single.shift_remove(key);
                }
                key => {
                    self.single.insert(key, entry);
                }
            }
        }
    }
}

fn unknown_keys(entries: &[Entry], known: &[&'static str], place: &str, reports: &mut Vec<Report>) {
    for entry in entries {
        if known.contains(&entry.key.as_str()) || entry.key.starts_with("x-") {
            continue;
        }
        let report = Report::error(
            entry.position,
            format!("unknown key `{}` in {place}", entry.key),
        );
        let is_path = entry.key.contains('.') || super::fields::is_section(&entry.key);
        reports.push(match suggestion(&entry.key, known.iter().copied()) {
            _ if is_path => report.hint("configuration paths belong in `set`"),
            Some(hint) => report.hint(hint),
            None => report.hint(format!("known: {}", known.join(", "))),
        });
    }
}

fn interpret(
    file: &str,
    source: u32,
    root: &Node,
    sources: &mut Sources,
    mut library: Library,
    options: &Options,
    reports: &mut Vec<Report>,
) -> Option<Experiment> {
    if root.content == Content::Null {
        let position = Position {
            source,
            line: 0,
            column: 0,
        };
        reports.push(
            Report::error(position, "the file is empty")
                .hint("an experiment names at least `recipe`"),
        );
        return None;
    }
    let entries = patch::map(root, "an experiment", reports)?;
    unknown_keys(entries, KEYS, "experiment", reports);
    let profiles: IndexMap<&str, &Entry> = entries
        .iter()
        .filter(|entry| entry.key == "profiles")
        .flat_map(|entry| patch::map(&entry.value, "`profiles`", reports).unwrap_or_default())
        .map(|entry| (entry.key.as_str(), entry))
        .collect();
    if let Some((_, entry)) = profiles.get_index(MOST) {
        reports.push(Report::error(
            entry.position,
            format!("more than {MOST} profiles"),
        ));
        return None;
    }
    let mut unknown = false;
    let chosen = match &options.profile {
        None => profiles.get_key_value("quick").map(|(name, _)| *name),
        Some(name) => match profiles.get_key_value(name.as_str()) {
            Some((name, _)) => Some(*name),
            None if name == "default" => None,
            None => {
                let argument = sources.add(format!("--profile {name}"), "");
                let position = Position {
                    source: argument,
                    line: 0,
                    column: 0,
                };
                let report = Report::error(position, format!("{file} has no profile `{name}`"));
                reports.push(match suggestion(name, profiles.keys().copied()) {
                    Some(hint) => report.hint(hint),
                    None => report.hint("it has no profiles"),
                });
                unknown = true;
                None
            }
        },
    };
    let overrides = read_overrides(&options.set, sources, reports);
    // Every profile is read, so that a file's problems show whichever profile is used.
    let mut result = None;
    let names = profiles
        .keys()
        .copied()
        .map(Some)
        .chain((chosen.is_none() && !unknown).then_some(None));
    for profile in names {
        let mut sections = Sections {
            single: IndexMap::new(),
            params: Vec::new(),
            sets: Vec::new(),
            axes: IndexMap::new(),
            stages: IndexMap::new(),
        };
        sections.add(entries, reports);
        if let Some(entry) = profile.and_then(|name| profiles.get(name)) {
            let place = format!("profile `{}`", entry.key);
            let patch = patch::map(&entry.value, &place, reports).unwrap_or_default();
            unknown_keys(patch, PROFILE_KEYS, &place, reports);
            sections.add(patch, reports);
        }
        let used = profile == chosen;
        let experiment = describe(
            file,
            source,
            &sections,
            used.then_some(options),
            sources,
            reports,
        );
        if used {
            result = experiment.map(|experiment| Experiment {
                profile: profile.unwrap_or("default").to_owned(),
                library: Library::new(None),
                overrides: overrides.clone(),
                ..experiment
            });
        }
    }
    if let Some(experiment) = &mut result {
        let known: Vec<&str> = experiment
            .stages
            .iter()
            .map(|stage| stage.name.as_str())
            .collect();
        for stage in &experiment.overrides.stages {
            check_stage(&stage.stage, stage.position, &known, reports);
        }
        // With problems no plan is made: those of recipes have to show now.
        if reports.iter().any(|r| r.severity == Severity::Error) {
            let recipes = experiment.stages.iter().map(|stage| stage.recipe.as_ref());
            for (name, position) in recipes.filter_map(|own| own.or(experiment.recipe.as_ref())) {
                library.recipe(name, *position, sources, reports);
            }
        }
        experiment.library = library;
    }
    result
}

fn check_stage(name: &str, position: Position, known: &[&str], reports: &mut Vec<Report>) {
    if !known.contains(&name) {
        let report = Report::error(position, format!("unknown stage `{name}`"));
        reports.push(match suggestion(name, known.iter().copied()) {
            Some(hint) => report.hint(hint),
            None => report,
        });
    }
}

fn string(
    sections: &Sections<'_>,
    key: &str,
    reports: &mut Vec<Report>,
) -> Option<(String, Position)> {
    let entry = sections.single.get(key)?;
    match entry.value.text() {
        Some(text) if text.chars().any(|c| is_invisible(c) && c != '\n') => {
            let message = format!("`{key}` contains an invisible character");
            reports.push(Report::error(entry.value.position, message));
            None
        }
        Some(text) => Some((text.trim().to_owned(), entry.value.position)),
        None => {
            let message = format!("`{key}` expects a string, not {}", entry.value.noun());
            reports.push(Report::error(entry.value.position, message));
            None
        }
    }
}

fn describe(
    file: &str,
    source: u32,
    sections: &Sections<'_>,
    options: Option<&Options>,
    sources: &mut Sources,
    reports: &mut Vec<Report>,
) -> Option<Experiment> {
    let stem = Path::new(file)
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or("experiment")
        .to_owned();
    let (name, position) = string(sections, "name", reports).unwrap_or((
        stem,
        Position {
            source,
            line: 0,
            column: 0,
        },
    ));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(plain) {
        let message = format!("`{name}` is no name for an experiment");
        reports
            .push(Report::error(position, message).hint("use letters, digits, `_`, `-` and `.`"));
    }
    let title = string(sections, "title", reports).map_or_else(|| name.clone(), |(text, _)| text);
    let claim = string(sections, "claim", reports).map_or_else(String::new, |(text, _)| text);
    let recipe = string(sections, "recipe", reports);

    if let Some((_, stage)) = sections.stages.get_index(MOST) {
        reports.push(Report::error(
            stage.position,
            format!("more than {MOST} stages"),
        ));
        return None;
    }
    if let Some((_, axis)) = sections.axes.get_index(MOST) {
        reports.push(Report::error(
            axis.position,
            format!("more than {MOST} axes"),
        ));
        return None;
    }
    let parts: Vec<StageParts<'_>> = sections
        .stages
        .values()
        .map(|part| StageParts {
            name: part.name,
            position: part.position,
            layers: part.layers.clone(),
        })
        .collect();
    let stages = stages::read(&parts, reports);
    let built_in = |stage: &Stage| stage.command.is_none();
    if recipe.is_none()
        && stages
            .iter()
            .any(|stage| stage.recipe.is_none() && built_in(stage))
    {
        let position = Position {
            source,
            line: 0,
            column: 0,
        };
        reports
            .push(Report::error(position, "`recipe` is missing").hint(library::recipe_overview()));
    }
    let known: Vec<&str> = stages.iter().map(|stage| stage.name.as_str()).collect();

    let mut params = Vec::new();
    for entry in &sections.params {
        params.extend(patch::section(entry, "an experiment", reports));
    }
    if let (Some(entry), true) = (sections.params.first(), stages.iter().all(built_in)) {
        let message = "`params` is for stages with a `command`, and there is none";
        reports.push(Report::error(entry.position, message));
    }
    if params.len() > params::MOST {
        let message = format!("more than {} parameters", params::MOST);
        reports.push(Report::error(params[params::MOST].position, message));
        return None;
    }
    let mut set = Patch::default();
    for node in &sections.sets {
        set.extend(patch::read(node, "`set`", reports));
    }
    let axes: Vec<Axis> = sections
        .axes
        .values()
        .filter_map(|entry| axes::read_axis(entry, reports))
        .collect();
    let patches = axes
        .iter()
        .flat_map(|axis| axis.values.iter().map(|value| &value.patch));
    for stage in patches.chain([&set]).flat_map(|patch| &patch.stages) {
        check_stage(&stage.stage, stage.position, &known, reports);
    }
    let execution = sections
        .single
        .get("execution")
        .map_or_else(ExecutionRules::default, |entry| {
            execution::read(&entry.value, reports)
        });
    // An axis that could not be read must not make every mention of it a problem, too.
    let whole = axes.len() == sections.axes.len();
    let mut unused = Vec::new();
    let mut design = Design::Product;
    let mut design_position = sections
        .axes
        .first()
        .map_or(Position::default(), |(_, axis)| axis.position);
    let (mut exclude, mut include, mut only) = (Vec::new(), Vec::new(), Vec::new());
    let mut baseline = None;
    let mut report = ReportSpec::default();
    let sink = if whole { &mut *reports } else { &mut unused };
    if let Some(entry) = sections.single.get("design") {
        design = axes::read_design(&entry.value, &axes, sink);
        design_position = entry.value.position;
    }
    if let Some(entry) = sections.single.get("exclude") {
        exclude = axes::read_cells(&entry.value, "`exclude`", &axes, sink);
        if exclude.len() > MOST_EXCLUDED {
            let message = format!("`exclude` has more than {MOST_EXCLUDED} entries");
            sink.push(
                Report::error(entry.position, message)
                    .hint("lists of labels (`{axis: [a, b]}`) say more with less"),
            );
        }
    }
    if let Some(entry) = sections.single.get("include") {
        include = axes::read_cells(&entry.value, "`include`", &axes, sink);
    }
    if let Some(entry) = sections.single.get("baseline") {
        baseline = read_baseline(&entry.value, &axes, sink);
    }
    let mut priorities = Priorities::default();
    if let Some(entry) = sections.single.get("priority") {
        priorities = priority::read(&entry.value, &axes, sink);
    }
    if let Some(entry) = sections.single.get("report") {
        report = report::read(&entry.value, &axes, &known, &known_metrics(&stages), sink);
    }
    if let Some(options) = options {
        only = read_only(&options.only, &axes, sources, sink);
    }
    report.design = match design {
        Design::Product => DesignKind::Product,
        Design::Zip => DesignKind::Zip,
        Design::List(_) => DesignKind::List,
        Design::OneAtATime => DesignKind::OneAtATime,
        Design::LeaveOneOut => DesignKind::LeaveOneOut,
        Design::Path => DesignKind::Path,
    };
    let seeds = match options.and_then(|options| options.seeds.as_deref()) {
        Some(text) => read_seeds_argument(text, sources, reports),
        None => sections
            .single
            .get("seeds")
            .map_or(Seeds::Count(1), |entry| read_seeds(&entry.value, reports)),
    };
    Some(Experiment {
        sources: Sources::default(),
        library: Library::new(None),
        name,
        title,
        claim,
        profile: String::new(),
        recipe,
        params,
        set,
        axes,
        design,
        design_position,
        exclude,
        include,
        only,
        seeds,
        stages,
        report,
        execution,
        baseline,
        priorities,
        overrides: Patch::default(),
        warnings: Vec::new(),
    })
}

fn read_baseline(
    node: &Node,
    axes: &[Axis],
    reports: &mut Vec<Report>,
) -> Option<Vec<Option<u32>>> {
    let cell = axes::read_cell(node, "`baseline`", axes, reports)?;
    let mut baseline = Vec::with_capacity(axes.len());
    for (axis, named) in axes.iter().zip(cell.labels) {
        match named.as_deref() {
            None => baseline.push(None),
            Some([label]) => baseline.push(Some(*label)),
            Some(labels) => {
                if labels.len() > 1 {
                    let message =
                        format!("`baseline` names several labels of axis `{}`", axis.name);
                    reports.push(Report::error(cell.position, message));
                }
                baseline.push(None);
            }
        }
    }
    baseline.iter().any(Option::is_some).then_some(baseline)
}

/// Metrics that a report can show: the trainer's, and those that programs promise.
fn known_metrics(stages: &[Stage]) -> Vec<&str> {
    let mut known = Vec::new();
    if stages.iter().any(|stage| stage.command.is_none()) {
        known.extend(report::METRICS);
    }
    let commands = stages.iter().filter_map(|stage| stage.command.as_ref());
    for metric in commands.flat_map(|command| &command.metrics) {
        if !known.contains(&metric.name.as_str()) {
            known.push(&metric.name);
        }
    }
    known
}
