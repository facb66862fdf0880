//! Stages of a run: the jobs that its variants go through, in topological order.

use super::command::{self, Command, WEIGHTS};
use super::document::{Content, Entry, Node};
use super::patch::{self, Setting};
use super::problem::{Position, Report, suggestion};
use super::task::Task;

/// One stage of every run.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    pub name: String,
    pub position: Position,
    /// Index of the stage whose weights it starts from.
    pub from: Option<usize>,
    /// Path of a file of weights that it starts from, and where it is named.
    pub init: Option<(String, Position)>,
    /// Its own recipe and where it is named; `None`: the experiment's.
    pub recipe: Option<(String, Position)>,
    pub set: Vec<Setting>,
    pub task: Task,
    /// The program that it runs, where it runs one.
    pub command: Option<Command>,
}

/// The parts of one stage, from the experiment and from its profile, in this order.
pub struct StageParts<'a> {
    pub name: &'a str,
    pub position: Position,
    pub layers: Vec<&'a Node>,
}

const KEYS: &[&str] = &["from", "init", "recipe", "set", "task"];

/// The stages in topological order: parents first, otherwise the file's order, but the last leaf of
/// the file (the run's result) last.
pub fn read(parts: &[StageParts<'_>], reports: &mut Vec<Report>) -> Vec<Stage> {
    if parts.is_empty() {
        return vec![Stage {
            name: "train".to_owned(),
            position: Position::default(),
            from: None,
            init: None,
            recipe: None,
            set: Vec::new(),
            task: Task::Train,
            command: None,
        }];
    }
    let mut stages = Vec::with_capacity(parts.len());
    let mut parents: Vec<Option<(String, Position)>> = Vec::with_capacity(parts.len());
    for part in parts {
        let (stage, parent) = read_stage(part, reports);
        stages.push(stage);
        parents.push(parent);
    }
    let names: Vec<String> = stages.iter().map(|stage| stage.name.clone()).collect();
    for (index, parent) in parents.iter().enumerate() {
        let Some((name, position)) = parent else {
            if stages[index].task == Task::Evaluate && stages[index].init.is_none() {
                let message = format!(
                    "stage `{}` evaluates, but has no weights to evaluate",
                    names[index]
                );
                reports.push(
                    Report::error(stages[index].position, message)
                        .hint("name a stage in `from`, or a file in `init`"),
                );
            }
            continue;
        };
        if let Some((_, position)) = &stages[index].init {
            let message = format!(
                "stage `{}` starts from both a stage (`from`) and a file (`init`)",
                names[index]
            );
            reports.push(Report::error(*position, message).hint("remove one of them"));
        }
        stages[index].from = names.iter().position(|known| known == name);
        if stages[index].from.is_none() {
            let report = Report::error(*position, format!("unknown stage `{name}`"));
            reports.push(match suggestion(name, names.iter().map(String::as_str)) {
                Some(hint) => report.hint(hint),
                None => report,
            });
        }
    }
    for stage in &stages {
        let parent = stage.from.map(|parent| &stages[parent]);
        if let (None, Some((parent, program))) = (
            &stage.command,
            parent.and_then(|parent| Some((parent, parent.command.as_ref()?))),
        ) && !program.outputs.iter().any(|output| output == WEIGHTS)
        {
            let message = format!(
                "stage `{}` starts from the weights of stage `{}`, whose program promises none",
                stage.name, parent.name
            );
            reports.push(Report::error(stage.position, message).hint(format!(
                "a program that leaves `{WEIGHTS}` in ABLATE_RUN_DIR says `outputs: [{WEIGHTS}]`"
            )));
        }
    }
    order(stages, reports)
}

fn order(stages: Vec<Stage>, reports: &mut Vec<Report>) -> Vec<Stage> {
    let leaf = (0..stages.len())
        .rev()
        .find(|&index| stages.iter().all(|stage| stage.from != Some(index)));
    let mut sorted: Vec<usize> = Vec::with_capacity(stages.len());
    while sorted.len() < stages.len() {
        let ready = |&index: &usize| {
            !sorted.contains(&index)
                && stages[index]
                    .from
                    .is_none_or(|parent| sorted.contains(&parent))
                && (Some(index) != leaf || sorted.len() + 1 == stages.len())
        };
        match (0..stages.len()).find(ready) {
            Some(index) => sorted.push(index),
            None => {
                report_cycle(&stages, &sorted, reports);
                return stages
                    .into_iter()
                    .map(|stage| Stage {
                        from: None,
                        ..stage
                    })
                    .collect();
            }
        }
    }
    let place = |index: usize| sorted.iter().position(|&sorted| sorted == index);
    sorted
        .iter()
        .map(|&index| Stage {
            from: stages[index].from.and_then(place),
            ..stages[index].clone()
        })
        .collect()
}

fn report_cycle(stages: &[Stage], sorted: &[usize], reports: &mut Vec<Report>) {
    // Going from parent to parent from any stage that could not be sorted ends in the cycle.
    let Some(mut at) =
        (0..stages.len()).find(|index| !sorted.contains(index) && stages[*index].from.is_some())
    else {
        return;
    };
    for _ in 0..stages.len() {
        at = stages[at].from.unwrap_or(at);
    }
    let mut names = vec![stages[at].name.as_str()];
    let mut next = stages[at].from;
    while let Some(index) = next {
        names.push(&stages[index].name);
        if index == at {
            break;
        }
        next = stages[index].from;
    }
    let message = format!(
        "stages start from each other in a circle: {}",
        names.join(" -> ")
    );
    reports.push(Report::error(stages[at].position, message));
}

fn read_stage(
    part: &StageParts<'_>,
    reports: &mut Vec<Report>,
) -> (Stage, Option<(String, Position)>) {
    let mut stage = Stage {
        name: part.name.to_owned(),
        position: part.position,
        from: None,
        init: None,
        recipe: None,
        set: Vec::new(),
        task: Task::Train,
        command: None,
    };
    let mut commands: Vec<&Entry> = Vec::new();
    let mut task: Option<(Task, Position)> = None;
    let mut parent = None;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if part.name.is_empty() || part.name.len() > 40 || !part.name.chars().all(plain) {
        let message = format!("`{}` is no name for a stage", part.name);
        reports
            .push(Report::error(part.position, message).hint("use letters, digits, `_` and `-`"));
    }
    let place = format!("stage `{}`", part.name);
    for node in &part.layers {
        for entry in patch::map(node, &place, reports).unwrap_or_default() {
            match entry.key.as_str() {
                "from" => parent = text(entry, reports),
                "init" => stage.init = text(entry, reports),
                "recipe" => stage.recipe = text(entry, reports),
                "set" => stage
                    .set
                    .extend(patch::read_settings(&entry.value, "`set`", reports)),
                "task" => match entry.value.text() {
                    Some("train") => task = Some((Task::Train, entry.value.position)),
                    Some("evaluate") => task = Some((Task::Evaluate, entry.value.position)),
                    Some("command") => task = Some((Task::Command, entry.value.position)),
                    _ => {
                        let message = format!(
                            "`task` must be train, evaluate or command, not {}",
                            entry.value.brief()
                        );
                        reports.push(Report::error(entry.value.position, message));
                    }
                },
                key if command::KEYS.contains(&key) => commands.push(entry),
                unknown => {
                    let report = Report::error(
                        entry.position,
                        format!("unknown key `{unknown}` in {place}"),
                    );
                    let keys = KEYS.iter().chain(command::KEYS).copied();
                    reports.push(match suggestion(unknown, keys) {
                        Some(hint) => report.hint(hint),
                        None => report,
                    });
                }
            }
        }
    }
    stage.command = command::read(part.name, &commands, reports);
    match (&stage.command, task) {
        (Some(_), None) => stage.task = Task::Command,
        (Some(_), Some((own @ Task::Command, _)))
        | (None, Some((own @ (Task::Train | Task::Evaluate), _))) => {
            stage.task = own;
        }
        (Some(command), Some(_)) => {
            let message = format!("{place} has both a `task` and a `command`");
            reports.push(Report::error(command.position, message).hint("remove one of them"));
        }
        (None, Some((Task::Command, position))) => {
            let message = format!("{place} has no `command`");
            reports
                .push(Report::error(position, message).hint("write `command: [python, train.py]`"));
        }
        (None, None) => {}
    }
    if let (Some(_), Some((_, position))) = (&stage.command, &stage.init) {
        let message = format!("{place} runs a program, which `init` means nothing to");
        reports.push(Report::error(*position, message).hint("name the file in `inputs`"));
    }
    (stage, parent)
}

/// The name in an entry; null takes a name away again.
fn text(entry: &Entry, reports: &mut Vec<Report>) -> Option<(String, Position)> {
    match (entry.value.text(), &entry.value.content) {
        (Some(text), _) => Some((text.to_owned(), entry.value.position)),
        (None, Content::Null) => None,
        _ => {
            let message = format!("`{}` expects a name, not {}", entry.key, entry.value.noun());
            reports.push(Report::error(entry.value.position, message));
            None
        }
    }
}
