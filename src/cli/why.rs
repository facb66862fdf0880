//! `ablate why`: why a run waits, runs, failed, was retried, or would run again.

use crate::cli::lookup::{self, LookupError, Target, duration, ignore_closed_pipe};
use crate::cli::planning::{Planned, PlanningArgs};
use crate::cli::status::TextFormat;
use crate::plan::difference::Nearest;
use crate::report::text::clean;
use crate::rundir::log::unix_time;
use crate::rundir::stage::StageSpec;
use crate::store::{Store, StoreLock};
use ask::Answers;
use clap::Args;
use reason::{Facts, Reasons};
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};

mod ask;
mod history;
mod reason;

/// Say why a run waits, runs, failed, was retried, or would run again
///
/// From the store, and from the `ablate run` at work on it: what each stage of the run is at or waits for, and of one
/// that isn't known yet, which fields distinguish it from the nearest finished one. With --file: what `ablate run FILE` would do with the run, and why.
#[derive(Debug, Clone, Args)]
pub struct WhyArgs {
    /// Id of a run (`EXPERIMENT/VARIANT/sSEED`), the beginning of one, or of a stage's fingerprint
    #[arg(value_name = "RUN")]
    pub run: String,
    /// Ask about the run as this experiment plans it now
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Profile of the experiment
    #[arg(long, value_name = "NAME", requires = "file")]
    pub profile: Option<String>,
    /// Change a value in every variant; may be repeated
    #[arg(long, value_name = "PATH=VALUE", requires = "file")]
    pub set: Vec<String>,
    /// Number of seeds (3), or the seeds themselves (0,1,5)
    #[arg(long, value_name = "SEEDS", requires = "file")]
    pub seeds: Option<String>,
    /// Folder of a data set; may be repeated
    #[arg(long, value_name = "NAME=PATH", value_parser = super::planning::parse_data, requires = "file")]
    pub data: Vec<(String, PathBuf)>,
    /// Form of the answer
    #[arg(long, value_enum, default_value_t = TextFormat::Text)]
    pub format: TextFormat,
}

#[derive(Serialize)]
struct Answer {
    /// The run's id; `None` for a stage that was named by its fingerprint.
    run: Option<String>,
    stages: Vec<Explained>,
}

#[derive(Serialize)]
struct Explained {
    /// Name of the stage.
    stage: Option<String>,
    fingerprint: String,
    #[serde(flatten)]
    reasons: Reasons,
}

/// A stage that is asked about.
struct Asked {
    name: Option<String>,
    fingerprint: String,
    /// Fingerprints and names of the stages it comes from, nearest first.
    ancestors: Vec<(String, Option<String>)>,
    spec: Option<StageSpec>,
}

/// Runs the command on the store at `dir`: the answer to `out`, warnings to `err`.
pub async fn run(
    args: &WhyArgs,
    dir: &Path,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), LookupError> {
    let answer = match &args.file {
        None => {
            let store = lookup::open(dir, err).await?;
            from_store(&store, &args.run, dir).await?
        }
        Some(file) => from_file(args, file, dir, err).await?,
    };
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

async fn from_store(store: &Store, name: &str, dir: &Path) -> Result<Answer, LookupError> {
    let (run, named) = match lookup::find(store, name).await? {
        Target::Run(run) => {
            let experiments = store.experiments().await?;
            let names = experiments
                .into_iter()
                .find(|experiment| experiment.name == run.experiment)
                .map_or_else(Vec::new, |experiment| experiment.stage_names);
            let stages: Vec<(Option<String>, String)> = run
                .stages
                .iter()
                .enumerate()
                .map(|(at, fingerprint)| (names.get(at).cloned(), fingerprint.clone()))
                .collect();
            (Some(*run), stages)
        }
        Target::Stage(fingerprint) => {
            let first = store.runs_of_stage(&fingerprint).await?.into_iter().next();
            (first, vec![(None, fingerprint)])
        }
    };
    let of_run = |fingerprint: &str| {
        named
            .iter()
            .find(|(_, known)| known == fingerprint)
            .and_then(|(name, _)| name.clone())
    };
    let names: Vec<String> = named.iter().map(|(_, name)| name.clone()).collect();
    let answers = ask::ask(dir, &names).await;
    let mut stages = Vec::new();
    for (name, fingerprint) in &named {
        let ancestors = store.ancestors(fingerprint).await?;
        let config = store.stage_config(fingerprint).await?;
        let asked = Asked {
            name: name.clone(),
            fingerprint: fingerprint.clone(),
            ancestors: ancestors
                .into_iter()
                .map(|ancestor| {
                    let name = of_run(&ancestor);
                    (ancestor, name)
                })
                .collect(),
            spec: config.and_then(|text| serde_json::from_str(&text).ok()),
        };
        let kin = run
            .as_ref()
            .map(|run| (run.experiment.as_str(), run.id.as_str()));
        let kin = kin.unwrap_or_default();
        stages.push(explain(Some(store), dir, asked, kin, Some(&answers)).await?);
    }
    Ok(Answer {
        run: run
            .filter(|_| named.iter().any(|(name, _)| name.is_some()))
            .map(|run| run.id),
        stages,
    })
}

async fn from_file(
    args: &WhyArgs,
    file: &Path,
    dir: &Path,
    err: &mut dyn Write,
) -> Result<Answer, LookupError> {
    let planning = PlanningArgs {
        files: vec![file.to_owned()],
        profile: args.profile.clone(),
        set: args.set.clone(),
        seeds: args.seeds.clone(),
        data: args.data.clone(),
        ..PlanningArgs::default()
    };
    let Some(Planned { plans, .. }) = planning.plan() else {
        return Err(LookupError::Nothing(format!(
            "{} can't be planned",
            file.display()
        )));
    };
    let Some(plan) = plans.first() else {
        return Err(LookupError::Nothing(format!(
            "{} plans nothing",
            file.display()
        )));
    };
    let store = match dir.join("ablate.db").exists() {
        true => Some(lookup::open(dir, err).await?),
        false => None,
    };
    let ids: Vec<String> = plan.runs.iter().map(|run| plan.run_id(run)).collect();
    let exact = ids.iter().position(|id| *id == args.run);
    let mut beginning = (0..ids.len()).filter(|&at| ids[at].starts_with(&args.run));
    let at = match (exact, beginning.next(), beginning.next()) {
        (Some(at), ..) | (None, Some(at), None) => at,
        (None, None, _) => return Err(lookup::unknown("run", &args.run, &ids)),
        (None, Some(first), Some(second)) => {
            return Err(LookupError::Nothing(format!(
                "`{}` stands for several runs, `{}` and `{}` among them",
                args.run, ids[first], ids[second]
            )));
        }
    };
    let run = &plan.runs[at];
    let name = |stage: u32| {
        let name = plan.stages[stage as usize].name as usize;
        plan.experiment.stage_names.get(name).cloned()
    };
    let mut stages = Vec::new();
    for &index in &run.stages {
        let mut ancestors = Vec::new();
        let mut up = plan.stages[index as usize].parent;
        while let Some(parent) = up {
            let stage = &plan.stages[parent as usize];
            ancestors.push((stage.fingerprint.to_string(), name(parent)));
            up = stage.parent;
        }
        let asked = Asked {
            name: name(index),
            fingerprint: plan.stages[index as usize].fingerprint.to_string(),
            ancestors,
            spec: Some(plan.stage_spec(index)),
        };
        let kin = (plan.experiment.name.as_str(), ids[at].as_str());
        stages.push(explain(store.as_ref(), dir, asked, kin, None).await?);
    }
    Ok(Answer {
        run: Some(ids[at].clone()),
        stages,
    })
}

/// Gathers what is known of a stage and says what follows. `answers` is what those at work have said; `None`: the
/// question is what a run would do.
async fn explain(
    store: Option<&Store>,
    dir: &Path,
    asked: Asked,
    kin: (&str, &str),
    answers: Option<&Answers>,
) -> Result<Explained, LookupError> {
    let mut facts = Facts {
        now: unix_time(),
        planned: answers.is_none(),
        schedulers: StoreLock::holders(dir),
        told: answers.and_then(|answers| {
            let (holder, told) = answers.of(&asked.fingerprint)?;
            Some((holder.clone(), told.clone()))
        }),
        silent: answers.map_or_else(Vec::new, |answers| answers.silent.clone()),
        plans: Vec::new(),
        state: None,
        lease: None,
        attempts: Vec::new(),
        ancestors: Vec::new(),
        running: Vec::new(),
        nearest: None,
        log_folder: dir.to_owned(),
        stage: asked.fingerprint.clone(),
    };
    if let Some(store) = store {
        let mut names: Vec<String> = vec![asked.fingerprint.clone()];
        names.extend(asked.ancestors.iter().map(|(name, _)| name.clone()));
        let mut states = store.stage_states(&names).await?;
        facts.state = states.remove(&asked.fingerprint);
        facts.attempts = store.attempts(&asked.fingerprint).await?;
        facts.plans = store.plans_saved().await?;
        facts.lease = store.leaseholder(&asked.fingerprint).await?;
        facts.ancestors = asked
            .ancestors
            .into_iter()
            .map(|(fingerprint, name)| {
                let state = states.remove(&fingerprint);
                (fingerprint, name, state)
            })
            .collect();
        facts.running = store.running(None).await?;
        if let Some(spec) = asked.spec.as_ref().filter(|_| facts.is_new()) {
            let candidates: Vec<StageSpec> = store
                .kin(kin, spec.seed, &asked.fingerprint)
                .await?
                .iter()
                .filter_map(|text| serde_json::from_str(text).ok())
                .collect();
            facts.nearest = Nearest::of(spec, &candidates);
        }
    }
    Ok(Explained {
        stage: asked.name,
        fingerprint: asked.fingerprint,
        reasons: facts.reasons(),
    })
}

fn text(answer: &Answer) -> String {
    let mut lines = Vec::new();
    if let Some(run) = &answer.run {
        lines.push(clean(run));
    }
    for stage in &answer.stages {
        let name = stage
            .stage
            .as_deref()
            .map_or(String::new(), |name| format!("{} ", clean(name)));
        lines.push(format!(
            "{name}{}: {}",
            &stage.fingerprint.get(..12).unwrap_or(&stage.fingerprint),
            clean(&stage.reasons.status)
        ));
        lines.extend(
            stage
                .reasons
                .because
                .iter()
                .map(|reason| format!("  {}", clean(reason))),
        );
        for change in &stage.reasons.changed {
            lines.push(format!("    {}", clean(change)));
        }
    }
    lines.join("\n") + "\n"
}

/// `3 min 05 s ago`.
fn ago(now: f64, time: f64) -> String {
    format!("{} ago", duration(now - time))
}
