//! What stands on an experiment's page.

use super::{EXPERIMENT, PageError, clean, render, whole, words};
use crate::report::background::VariantCost;
use crate::report::data::{ExperimentData, Variant};
use crate::report::plot::Plot;
use crate::report::table::Table;
use crate::report::table::render::{Html, Render};
use crate::store::rows::Status;
use crate::store::{StageRow, utc};
use minijinja::value::Serde;
use minijinja::{Value, context};
use serde::Serialize;

/// A file beside the page: its name and the words of the link.
pub type File = (String, String);

/// What a page is made from.
pub struct Content<'a> {
    pub data: &'a ExperimentData,
    /// Each under its heading.
    pub tables: &'a [(String, &'a Table)],
    pub plots: &'a [Plot],
    /// Why plots that the experiment file asks for are missing.
    pub missing: &'a [String],
    /// What sets the setting apart from a published one, in a sentence.
    pub setting: Option<&'a str>,
    /// What the seeds can show, in a sentence.
    pub effect: Option<&'a str>,
    /// Data files that the page names at its end.
    pub files: Vec<File>,
}

/// Said where the trainer of this program made the numbers.
pub const FINAL_WEIGHTS: &str = "Every number is of the weights at the end of training: no checkpoint, epoch or seed was chosen by its result.";

/// The page of an experiment as HTML.
pub fn page(content: &Content<'_>) -> Result<String, PageError> {
    let data = content.data;
    let experiment = &data.experiment;
    let title = clean(if experiment.title.is_empty() {
        &experiment.name
    } else {
        &experiment.title
    });
    let variants = data.variants();
    let by_labels = data.named_by_labels(&variants);
    let names: Vec<String> = variants
        .iter()
        .map(|variant| clean(&data.display_name(variant, by_labels)))
        .collect();
    let count = |status| data.runs.iter().filter(|run| run.status == status).count();
    let tables: Vec<Value> = content
        .tables
        .iter()
        .map(|(head, table)| {
            context! { title => clean(head), html => Value::from_safe_string(Html.render(table)) }
        })
        .collect();
    let plots: Vec<Value> = content
        .plots
        .iter()
        .map(|plot| {
            let file = |form: &str| (format!("{}.{form}", plot.name), form.to_uppercase());
            context! {
                name => plot.name.clone(),
                svg => Value::from_safe_string(plot.svg.clone()),
                caption => clean(&plot.caption),
                files => [file("svg"), file("png"), file("pdf"), file("csv")],
            }
        })
        .collect();
    let mut sections = vec![("tables", "Tables")];
    if !(plots.is_empty() && content.missing.is_empty()) {
        sections.push(("plots", "Plots"));
    }
    sections.extend([
        ("configuration", "Configuration"),
        ("cost", "Cost"),
        ("attempts", "Attempts and failures"),
        ("provenance", "Provenance"),
    ]);
    let missing: Vec<String> = content.missing.iter().map(|why| clean(why)).collect();
    let body = render(
        EXPERIMENT,
        &experiment.name,
        context! {
            name => clean(&experiment.name),
            title => title.clone(),
            claim => clean(experiment.claim.trim()),
            profile => clean(&experiment.profile),
            data_set => data.data_set.as_deref().map(clean),
            runs => data.runs.len(),
            done => count(Status::Done),
            failed => count(Status::Failed),
            date => utc(experiment.updated)[..10].to_owned(),
            setting => content.setting.map(clean),
            final_weights => data.trained_here().then_some(FINAL_WEIGHTS),
            missing,
            sections,
            tables,
            effect => content.effect.map(clean),
            plots,
            differences => Value::from(Serde(differences(data, &variants, &names))),
            cost => Value::from(Serde(cost(data, &variants, &names))),
            attempts => Value::from(Serde(attempts(data))),
            provenance => provenance(data),
            source => data.background.plan.as_ref().map(|plan| source(&plan.source)),
            files => content.files.clone(),
        },
    )?;
    whole(&experiment.name, &title, body)
}

/// The experiment file, with its line breaks and without what is invisible.
fn source(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

#[derive(Serialize)]
struct Differences {
    variants: Vec<String>,
    /// Whether there are several stages.
    several: bool,
    rows: Vec<DifferenceRow>,
    /// What to say where there are no rows.
    none: &'static str,
}

#[derive(Serialize)]
struct DifferenceRow {
    stage: String,
    path: String,
    cells: Vec<DifferenceCell>,
}

#[derive(Serialize)]
struct DifferenceCell {
    text: String,
    class: &'static str,
}

/// More columns than this are no longer read.
const MOST_VARIANTS: usize = 64;

fn differences(data: &ExperimentData, variants: &[Variant<'_>], names: &[String]) -> Differences {
    let none = |words| Differences {
        variants: Vec::new(),
        several: false,
        rows: Vec::new(),
        none: words,
    };
    if data.background.configs.is_empty() {
        return none("The configurations of these runs aren't in the store.");
    }
    if variants.len() > MOST_VARIANTS {
        return none(
            "There are too many variants for a table: `ablate compare` lays two side by side.",
        );
    }
    let found = data.configuration_differences(variants);
    if found.is_empty() {
        return none("The variants have the same configuration.");
    }
    // What differs from the baseline's value, or from the first variant's.
    let baselines = data.baselines(variants);
    let place_of = |index: u32| variants.iter().position(|variant| variant.index == index);
    let compared: Vec<usize> = baselines
        .iter()
        .map(|baseline| baseline.and_then(place_of).unwrap_or(0))
        .collect();
    let rows = found
        .into_iter()
        .map(|field| DifferenceRow {
            cells: field
                .values
                .iter()
                .zip(&compared)
                .map(|(value, baseline)| DifferenceCell {
                    text: value.as_deref().map_or("unknown".to_owned(), clean),
                    class: if *value == field.values[*baseline] {
                        ""
                    } else {
                        "differs"
                    },
                })
                .collect(),
            stage: clean(&field.stage),
            path: clean(&field.path),
        })
        .collect();
    Differences {
        variants: names.to_vec(),
        several: data.stages().len() > 1,
        rows,
        none: "",
    }
}

#[derive(Serialize, Default)]
struct CostTable {
    heads: Vec<&'static str>,
    rows: Vec<Vec<CostCell>>,
    total: Vec<CostCell>,
    note: String,
    shared: bool,
}

#[derive(Serialize, Clone)]
struct CostCell {
    text: String,
    sort: String,
}

impl CostCell {
    fn new(value: Option<f64>, words: impl Fn(f64) -> String) -> Self {
        match value {
            Some(value) => CostCell {
                text: words(value),
                sort: value.to_string(),
            },
            None => CostCell::words("—"),
        }
    }

    fn words(text: &str) -> Self {
        CostCell {
            text: text.to_owned(),
            sort: String::new(),
        }
    }
}

fn cost(data: &ExperimentData, variants: &[Variant<'_>], names: &[String]) -> CostTable {
    let stages: Vec<&StageRow> = data.background.stages.values().collect();
    if stages.is_empty() {
        return CostTable::default();
    }
    let costs: Vec<VariantCost> = variants
        .iter()
        .map(|variant| data.background.cost(variant).unwrap_or_default())
        .collect();
    let known_energy = stages.iter().any(|stage| stage.energy_joules.is_some());
    let mut heads = vec![
        "variant",
        "parameters",
        "epochs",
        "FLOPs",
        "wall time",
        "CPU time",
        "images/s",
    ];
    heads.extend(known_energy.then_some("energy"));
    let row = |cost: &VariantCost, name: String| {
        let mut cells = vec![
            CostCell {
                sort: name.clone(),
                text: name,
            },
            CostCell::new(
                (cost.parameters > 0).then_some(cost.parameters as f64),
                words::si,
            ),
            CostCell::new(cost.epochs, |epochs| format!("{epochs:.0}")),
            CostCell::new((cost.flops > 0.0).then_some(cost.flops), words::si),
            CostCell::new(cost.wall_seconds, words::duration),
            CostCell::new(cost.cpu_seconds, words::duration),
            CostCell::new(cost.throughput, |speed| format!("{speed:.0}")),
        ];
        if known_energy {
            let joules = |joules| format!("{}J", words::si(joules));
            cells.push(CostCell::new(cost.energy_joules, joules));
        }
        cells
    };
    let rows = costs
        .iter()
        .zip(names)
        .map(|(cost, name)| row(cost, name.clone()))
        .collect();
    let sum = |get: fn(&StageRow) -> Option<f64>| -> Option<f64> {
        let known: Vec<f64> = stages.iter().filter_map(|stage| get(stage)).collect();
        (!known.is_empty()).then(|| known.iter().sum())
    };
    let total = VariantCost {
        flops: stages.iter().map(|stage| stage.flops).sum(),
        parameters: 0,
        epochs: None,
        throughput: None,
        wall_seconds: sum(|stage| stage.wall_seconds),
        cpu_seconds: sum(|stage| stage.cpu_seconds),
        energy_joules: sum(|stage| stage.energy_joules),
    };
    let needed: usize = data.runs.iter().map(|run| run.stages.len()).sum();
    let mut notes = vec![
        "FLOPs are planned, training and evaluation, two per multiply-add; images/s are training images over a \
         worker's wall time, evaluations included."
            .to_owned(),
    ];
    if let Some(peak) = stages.iter().filter_map(|stage| stage.peak_rss_bytes).max() {
        notes.push(format!(
            "The largest worker took {} of memory.",
            words::bytes(peak)
        ));
    }
    if known_energy {
        notes.push(
            "Energy is an attempt's share of what the processor's packages, or its GPUs, took while it ran; what \
             else ran on the machine is in it."
                .to_owned(),
        );
    }
    CostTable {
        heads,
        rows,
        total: row(
            &total,
            format!("all {}", words::count(stages.len(), "stage")),
        ),
        note: notes.join(" "),
        shared: needed > stages.len(),
    }
}

#[derive(Serialize)]
struct Attempts {
    words: String,
    rows: Vec<AttemptLine>,
}

#[derive(Serialize)]
struct AttemptLine {
    run: String,
    others: Option<u64>,
    stage: String,
    attempt: u32,
    end: String,
    class: &'static str,
    began: String,
    began_sort: f64,
    time: String,
    time_sort: String,
    device: String,
    cause: String,
}

fn attempts(data: &ExperimentData) -> Attempts {
    let stages = data.background.stages.values();
    let (mut done, mut failed, mut waiting, mut running, mut tried) = (0, 0, 0, 0, 0);
    for stage in stages {
        tried += stage.attempts as usize;
        match stage.status {
            Status::Done => done += 1,
            Status::Failed => failed += 1,
            Status::Running => running += 1,
            Status::Pending => waiting += 1,
        }
    }
    let total = done + failed + waiting + running;
    let rows: Vec<AttemptLine> = data.background.attempts.iter().map(attempt_line).collect();
    let mut words = format!(
        "{} in {}: {done} done, {failed} failed, {running} running, {waiting} waiting.",
        words::count(total, "stage"),
        words::count(tried, "attempt")
    );
    if rows.is_empty() && tried > 0 {
        words.push_str(" Every attempt that has ended went well.");
    } else if rows.len() >= crate::report::background::MOST_ATTEMPTS as usize {
        words.push_str(&format!(
            " The first {} of those that failed, or that share a stage with one:",
            rows.len()
        ));
    } else if !rows.is_empty() {
        words.push_str(" Those that failed, and the others at the same stages:");
    }
    Attempts { words, rows }
}

fn attempt_line(attempt: &crate::store::TroubledAttempt) -> AttemptLine {
    let time = attempt.ended.map(|ended| ended - attempt.started);
    let (end, class) = match (attempt.status, &attempt.failure) {
        (Status::Failed, Some(class)) => (class.replace('_', " "), "bad"),
        (Status::Failed, None) => ("failed".to_owned(), "bad"),
        (status, _) => (status.name().to_owned(), ""),
    };
    let mut cause = attempt.message.as_deref().map(clean).unwrap_or_default();
    let mut add = |text: String| {
        if !cause.is_empty() {
            cause.push_str("; ");
        }
        cause.push_str(&text);
    };
    if let Some(signal) = attempt.signal {
        add(format!("ended by signal {signal}"));
    } else if let Some(code) = attempt.exit_code.filter(|code| *code != 0) {
        add(format!("exit code {code}"));
    }
    if let Some(step) = attempt.resumed_step.filter(|step| *step > 0) {
        add(format!("went on from step {step}"));
    }
    AttemptLine {
        run: clean(&attempt.run),
        others: attempt.runs.checked_sub(1).filter(|others| *others > 0),
        stage: clean(&attempt.stage),
        attempt: attempt.attempt,
        end,
        class,
        began: utc(attempt.started).replace(" UTC", ""),
        began_sort: attempt.started,
        time: time.map_or("—".to_owned(), words::duration),
        time_sort: time.map_or(String::new(), |time| time.to_string()),
        device: format!("{} on {}", clean(&attempt.device), clean(&attempt.host)),
        cause,
    }
}

/// (what, its value, whether it is code).
type Fact = (String, String, bool);

fn provenance(data: &ExperimentData) -> Vec<Fact> {
    let mut facts: Vec<Fact> = Vec::new();
    let mut fact = |what: &str, value: &str, code| {
        facts.push((what.to_owned(), clean(value), code));
    };
    if let Some(plan) = &data.background.plan {
        fact("experiment file", &plan.path, true);
        if let Some(path) = &data.background.report_section {
            let words = format!(
                "of {path} as it was when this page was made; it has changed since the runs"
            );
            fact("report section", &words, false);
        }
        fact("profile", &plan.profile, false);
        fact("command", &plan.command_line, true);
        fact("planned", &utc(plan.saved), false);
        let revision = plan.git_revision.as_deref().unwrap_or("unknown");
        fact("program", &plan.program, false);
        fact("git revision", revision, true);
        fact("host", &plan.host, false);
    }
    let mut sets: Vec<(&str, &str)> = data
        .background
        .stages
        .values()
        .map(|stage| (stage.data_name.as_str(), stage.data_hash.as_str()))
        .collect();
    sets.sort_unstable();
    sets.dedup();
    for (name, hash) in sets {
        fact("data set", name, false);
        fact("its content", &format!("BLAKE3 {hash}"), true);
    }
    let mut revisions: Vec<u32> = data
        .background
        .configs
        .values()
        .map(|spec| spec.trainer_revision)
        .collect();
    revisions.sort_unstable();
    revisions.dedup();
    if !revisions.is_empty() {
        let revisions: Vec<String> = revisions.iter().map(u32::to_string).collect();
        fact("trainer revision", &revisions.join(", "), false);
    }
    for machine in &data.background.machines {
        let program = machine.program.as_deref().unwrap_or("unknown program");
        fact(
            "attempts",
            &format!(
                "{} on {} of {}, {program}",
                machine.attempts, machine.device, machine.host
            ),
            false,
        );
    }
    for (model, driver) in &data.background.gpus {
        fact("GPU", &format!("{model}, driver {driver}"), false);
    }
    let seeds: Vec<String> = data.seeds().iter().map(u64::to_string).collect();
    const SHOWN: usize = 20;
    let mut shown = seeds[..seeds.len().min(SHOWN)].join(", ");
    if seeds.len() > SHOWN {
        shown.push_str(&format!(", … ({} in all)", seeds.len()));
    }
    fact("seeds", &shown, false);
    facts
}
