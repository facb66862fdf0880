//! `ablate show`: all that is known of one run or stage.

use crate::cli::lookup::{self, LookupError, Target, duration, ignore_closed_pipe};
use crate::cli::status::TextFormat;
use crate::report::text::clean;
use crate::store::rows::{AttemptRow, RunRow};
use crate::store::{Marks, Store, StoreError, utc};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// Show a run: labels, stages, results, attempts and configuration
#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    /// Id of a run (`EXPERIMENT/VARIANT/sSEED`), the beginning of one, or of a stage's fingerprint
    #[arg(value_name = "RUN")]
    pub run: String,
    /// Form of the answer
    #[arg(long, value_enum, default_value_t = TextFormat::Text)]
    pub format: TextFormat,
}

#[derive(Serialize)]
struct Answer {
    run: Option<RunRow>,
    /// Axis to label, in the axes' order.
    labels: serde_json::Map<String, Value>,
    /// Tags and notes of the run.
    #[serde(flatten)]
    marks: Marks,
    stages: Vec<Stage>,
}

#[derive(Serialize)]
struct Stage {
    /// Name of the stage; `None` for one that was named by its fingerprint.
    name: Option<String>,
    fingerprint: String,
    status: &'static str,
    /// Ids of the current runs that need it.
    runs: Vec<String>,
    results: Vec<ResultLine>,
    attempts: Vec<AttemptRow>,
    warnings: Vec<String>,
    config: Value,
}

#[derive(Serialize)]
struct ResultLine {
    set: String,
    resolution: u32,
    metric: String,
    /// Null if it is not finite.
    value: f64,
}

/// Runs the command on the store at `store`: the answer to `out`, warnings to `err`.
pub async fn run(
    args: &ShowArgs,
    store: &Path,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), LookupError> {
    let store = lookup::open(store, err).await?;
    let answer = collect(&store, &args.run).await?;
    ignore_closed_pipe(match args.format {
        TextFormat::Json => serde_json::to_writer_pretty(&mut *out, &answer)
            .map_err(std::io::Error::from)
            .and_then(|()| writeln!(out))
            .map_err(LookupError::from),
        TextFormat::Text => out
            .write_all(text(&answer).as_bytes())
            .map_err(LookupError::from),
    })
}

async fn collect(store: &Store, name: &str) -> Result<Answer, LookupError> {
    match lookup::find(store, name).await? {
        Target::Stage(fingerprint) => Ok(Answer {
            run: None,
            labels: serde_json::Map::new(),
            marks: Marks::default(),
            stages: vec![stage(store, None, &fingerprint).await?],
        }),
        Target::Run(run) => {
            let experiment = store
                .experiments()
                .await?
                .into_iter()
                .find(|experiment| experiment.name == run.experiment);
            let (axes, names) =
                experiment.map_or_else(Default::default, |e| (e.axes, e.stage_names));
            let labels = axes
                .iter()
                .zip(&run.labels)
                .map(|(axis, label)| (axis.name.clone(), label.clone().into()))
                .collect();
            let mut stages = Vec::new();
            for (position, fingerprint) in run.stages.iter().enumerate() {
                stages.push(stage(store, names.get(position).cloned(), fingerprint).await?);
            }
            Ok(Answer {
                marks: store.marks(&run.id).await?,
                run: Some(*run),
                labels,
                stages,
            })
        }
    }
}

async fn stage(
    store: &Store,
    name: Option<String>,
    fingerprint: &str,
) -> Result<Stage, StoreError> {
    let states = store.stage_states(&[fingerprint.to_owned()]).await?;
    let config = store.stage_config(fingerprint).await?;
    Ok(Stage {
        name,
        fingerprint: fingerprint.to_owned(),
        status: states
            .get(fingerprint)
            .map_or("pending", |state| state.status.name()),
        runs: store
            .runs_of_stage(fingerprint)
            .await?
            .into_iter()
            .map(|run| run.id)
            .collect(),
        results: store
            .stage_results(fingerprint)
            .await?
            .into_iter()
            .map(|(set, resolution, metric, value)| ResultLine {
                set,
                resolution,
                metric,
                value,
            })
            .collect(),
        attempts: store.attempts(fingerprint).await?,
        warnings: store
            .warnings_of(fingerprint)
            .await?
            .into_iter()
            .map(|(attempt, text)| format!("attempt {attempt}: {text}"))
            .collect(),
        config: config
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or(Value::Null),
    })
}

fn text(answer: &Answer) -> String {
    let mut lines: Vec<String> = Vec::new();
    if let Some(run) = &answer.run {
        lines.push(format!("run      {}", clean(&run.id)));
        let failure = run
            .failure
            .as_ref()
            .map_or(String::new(), |class| format!(" ({class})"));
        lines.push(format!("status   {}{failure}", run.status.name()));
        for (axis, label) in &answer.labels {
            lines.push(format!(
                "axis     {}: {}",
                clean(axis),
                clean(label.as_str().unwrap_or(""))
            ));
        }
        lines.push(format!("seed     {}", run.seed));
        if !answer.marks.tags.is_empty() {
            lines.push(format!("tags     {}", clean(&answer.marks.tags.join(", "))));
        }
        for note in &answer.marks.notes {
            lines.push(format!(
                "note     {}  {}",
                utc(note.time),
                clean(&note.text)
            ));
        }
        if let Some(seconds) = run.wall_seconds {
            lines.push(format!("time     {}", duration(seconds)));
        }
        lines.push(String::new());
    }
    let mut before: Option<BTreeMap<String, String>> = None;
    for stage in &answer.stages {
        let name = stage
            .name
            .as_deref()
            .map_or(String::new(), |name| format!("{} ", clean(name)));
        lines.push(format!(
            "stage    {name}{}  {}",
            stage.fingerprint, stage.status
        ));
        let here = answer.run.as_ref().map(|run| run.id.as_str());
        let others: Vec<&String> = stage
            .runs
            .iter()
            .filter(|run| Some(run.as_str()) != here)
            .collect();
        match others.as_slice() {
            [] => {}
            [one] => lines.push(format!("  needed by {}", clean(one))),
            [first, rest @ ..] => {
                lines.push(format!(
                    "  needed by {} and {} more",
                    clean(first),
                    rest.len()
                ));
            }
        }
        for r in &stage.results {
            let unit = if r.metric.starts_with("top") {
                " %"
            } else {
                ""
            };
            // A program's results have no resolution.
            let at = match r.resolution {
                0 => String::new(),
                side => format!(" at {side} px"),
            };
            lines.push(format!(
                "  result   {}{at}  {} {:.4}{unit}",
                clean(&r.set),
                clean(&r.metric),
                r.value
            ));
        }
        for attempt in &stage.attempts {
            lines.extend(attempt_lines(attempt));
        }
        for warning in &stage.warnings {
            lines.push(format!("  warning  {}", clean(warning)));
        }
        let config = flatten(&stage.config);
        match &before {
            None => {
                lines.push("  configuration".to_owned());
                lines.extend(
                    config
                        .iter()
                        .map(|(path, value)| format!("    {path} = {}", clean(value))),
                );
            }
            Some(before) => {
                lines.push("  configuration as above, except".to_owned());
                let changed = config
                    .iter()
                    .filter(|(path, value)| before.get(*path) != Some(*value));
                lines.extend(changed.map(|(path, value)| format!("    {path} = {}", clean(value))));
            }
        }
        before.get_or_insert(config);
        lines.push(String::new());
    }
    lines.pop();
    lines.join("\n") + "\n"
}

fn attempt_lines(attempt: &AttemptRow) -> Vec<String> {
    let time = match attempt.ended {
        Some(ended) => format!(" after {}", duration(ended - attempt.started)),
        None => String::new(),
    };
    let failure = attempt
        .failure
        .as_ref()
        .map_or(String::new(), |class| format!(" ({class})"));
    let mut lines = vec![format!(
        "  attempt  {} {}{failure}{time}, {} on {}, log {}",
        attempt.attempt,
        attempt.status.name(),
        clean(&attempt.device),
        clean(&attempt.host),
        clean(&attempt.log)
    )];
    if let Some(message) = &attempt.message {
        lines.push(format!("           {}", clean(message)));
    }
    lines
}

/// The configuration as field paths and values; the recipe's fields go by their paths in YAML.
fn flatten(config: &Value) -> BTreeMap<String, String> {
    fn walk(path: String, value: &Value, out: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                for (name, value) in fields {
                    let path = match path.as_str() {
                        "" | "recipe" => name.clone(),
                        path => format!("{path}.{name}"),
                    };
                    walk(path, value, out);
                }
            }
            Value::Null if path.is_empty() => {}
            Value::String(text) => {
                out.insert(path, text.clone());
            }
            other => {
                out.insert(path, other.to_string());
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(String::new(), config, &mut out);
    out.remove("fingerprint");
    out
}
