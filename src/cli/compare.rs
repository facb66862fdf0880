//! `ablate compare`: two runs, variants or experiments side by side.

use super::lookup::{self, LookupError, grid, ignore_closed_pipe};
use super::status::TextFormat;
use crate::report::ExperimentData;
use crate::report::compare::{self, Effect, Field, Side};
use crate::report::load;
use crate::report::metric::{decimals_for, number, signed};
use crate::report::text::clean;
use crate::rundir::layout::RunDir;
use crate::rundir::predictions;
use crate::store::Store;
use clap::Args;
use serde::Serialize;
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

/// Compare two runs, variants or experiments: configuration and effect
///
/// A and B are ids of runs (`crop/src,20/s0`), variants (`crop/src,20`) or names of experiments (their variants
/// are matched by name). Differences are B - A, with their 95 % interval: over seeds, paired where both sides
/// share some, and over seeds and images of the evaluation set where both sides saw the same.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// Run, variant or experiment
    #[arg(value_name = "A")]
    pub a: String,
    /// Run, variant or experiment
    #[arg(value_name = "B")]
    pub b: String,
    /// Form of the answer
    #[arg(long, value_enum, default_value_t = TextFormat::Text)]
    pub format: TextFormat,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq)]
enum Meant {
    Experiment(String),
    /// Experiment, index of the variant, seed of the one run that is meant.
    Variant(String, u32, Option<u64>),
}

#[derive(Serialize)]
struct Answer {
    a: String,
    b: String,
    pairs: Vec<Pair>,
    /// Variants of two experiments that have no counterpart.
    only_a: Vec<String>,
    only_b: Vec<String>,
}

#[derive(Serialize)]
struct Pair {
    /// Name of the variant, where experiments are compared.
    variant: Option<String>,
    configuration: Vec<Field>,
    effects: Vec<Effect>,
}

/// Runs the command on the store at `store`: the answer to `out`, warnings to `err`.
pub async fn run(
    args: &CompareArgs,
    store: &Path,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), LookupError> {
    let store = lookup::open(store, err).await?;
    let answer = collect(&store, args).await?;
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

async fn collect(store: &Store, args: &CompareArgs) -> Result<Answer, LookupError> {
    let (a, b) = (meant(store, &args.a).await?, meant(store, &args.b).await?);
    let experiment = |meant: &Meant| match meant {
        Meant::Experiment(name) | Meant::Variant(name, ..) => name.clone(),
    };
    let one = experiment_data(store, &experiment(&a)).await?;
    // Two variants of an experiment share it.
    let other = if experiment(&a) == experiment(&b) {
        None
    } else {
        Some(experiment_data(store, &experiment(&b)).await?)
    };
    let other = other.as_ref().unwrap_or(&one);
    let mut answer = Answer {
        a: args.a.clone(),
        b: args.b.clone(),
        pairs: Vec::new(),
        only_a: Vec::new(),
        only_b: Vec::new(),
    };
    let pairs = match (a, b) {
        (Meant::Variant(_, a, a_seed), Meant::Variant(_, b, b_seed)) => {
            let side = |data, variant, seed| Side {
                data,
                variant,
                seed,
            };
            vec![(None, side(&one, a, a_seed), side(other, b, b_seed))]
        }
        (Meant::Experiment(_), Meant::Experiment(_)) => {
            let found = compare::matching(&one, other);
            let names: Vec<&str> = found.iter().map(|(name, ..)| name.as_str()).collect();
            let alone = |data: &ExperimentData| -> Vec<String> {
                data.variants()
                    .iter()
                    .filter(|variant| !names.contains(&variant.name))
                    .map(|variant| variant.name.to_owned())
                    .collect()
            };
            (answer.only_a, answer.only_b) = (alone(&one), alone(other));
            if found.is_empty() {
                return Err(LookupError::Nothing(format!(
                    "`{}` and `{}` have no variant of the same name: compare two variants, as EXPERIMENT/VARIANT",
                    args.a, args.b
                )));
            }
            found
                .into_iter()
                .map(|(name, a, b)| (Some(name), a, b))
                .collect()
        }
        _ => {
            return Err(LookupError::Nothing(format!(
                "`{}` and `{}` are an experiment and a part of one: compare like with like",
                args.a, args.b
            )));
        }
    };
    let mut read = |fingerprint: &str| {
        predictions::read(&RunDir::in_store(store.dir(), fingerprint).predictions()).ok()
    };
    for (variant, a, b) in pairs {
        let effects = compare::effects(&a, &b, &mut read)
            .map_err(|error| LookupError::Nothing(error.to_string()))?;
        answer.pairs.push(Pair {
            variant,
            configuration: compare::fields(&a, &b),
            effects,
        });
    }
    Ok(answer)
}

async fn experiment_data(store: &Store, name: &str) -> Result<ExperimentData, LookupError> {
    let all = store.experiments().await?;
    match all.into_iter().find(|experiment| experiment.name == name) {
        Some(experiment) => Ok(load::load(store, experiment, false).await?.0),
        None => Err(LookupError::Nothing(format!(
            "there is no experiment `{name}`"
        ))),
    }
}

/// What `name` stands for: a run by its id, an experiment, a variant as `EXPERIMENT/VARIANT` or by its name where only
/// one experiment has it, or the only run whose id begins so.
async fn meant(store: &Store, name: &str) -> Result<Meant, LookupError> {
    let runs = store.runs(None).await?;
    if let Some(run) = runs.iter().find(|run| run.id == name) {
        return Ok(Meant::Variant(
            run.experiment.clone(),
            run.variant_index,
            Some(run.seed),
        ));
    }
    let mut experiments: Vec<&str> = runs.iter().map(|run| run.experiment.as_str()).collect();
    experiments.dedup();
    if experiments.contains(&name) {
        return Ok(Meant::Experiment(name.to_owned()));
    }
    let mut variants: HashMap<(&str, u32), String> = HashMap::new();
    for run in &runs {
        variants
            .entry((&run.experiment, run.variant_index))
            .or_insert_with(|| format!("{}/{}", run.experiment, run.variant));
    }
    let named = |wanted: &dyn Fn(&str, &str) -> bool| -> Vec<(&str, u32)> {
        let found = variants.iter().filter(|((experiment, _), full)| {
            wanted(
                full,
                full.strip_prefix(experiment).map_or("", |rest| &rest[1..]),
            )
        });
        found.map(|(key, _)| *key).collect()
    };
    for found in [
        named(&|full, _| full == name),
        named(&|_, variant| variant == name),
    ] {
        match found[..] {
            [(experiment, variant)] => {
                return Ok(Meant::Variant(experiment.to_owned(), variant, None));
            }
            [] => {}
            _ => {
                let mut list: Vec<String> = found.iter().map(|key| variants[key].clone()).collect();
                list.sort();
                return Err(LookupError::Ambiguous {
                    what: "variant",
                    name: name.to_owned(),
                    count: list.len(),
                    list: list.join(", "),
                });
            }
        }
    }
    let begun: Vec<_> = runs.iter().filter(|run| run.id.starts_with(name)).collect();
    if let [run] = begun[..] {
        return Ok(Meant::Variant(
            run.experiment.clone(),
            run.variant_index,
            Some(run.seed),
        ));
    }
    let mut names: Vec<String> = experiments.iter().map(|name| (*name).to_owned()).collect();
    let mut full: Vec<String> = variants.into_values().collect();
    full.sort();
    names.extend(full);
    names.extend(runs.iter().map(|run| run.id.clone()));
    Err(lookup::unknown("run, variant or experiment", name, &names))
}

fn text(answer: &Answer) -> String {
    let mut out = format!("A  {}\nB  {}\n", clean(&answer.a), clean(&answer.b));
    for pair in &answer.pairs {
        out.push('\n');
        if let Some(variant) = &pair.variant {
            out.push_str(&format!("variant {}\n", clean(variant)));
        }
        out.push_str(&configuration_text(&pair.configuration));
        out.push('\n');
        out.push_str(&effects_text(&pair.effects));
    }
    for (side, names) in [("A", &answer.only_a), ("B", &answer.only_b)] {
        if !names.is_empty() {
            let names: Vec<String> = names.iter().map(|name| clean(name)).collect();
            out.push_str(&format!("\nonly in {side}: {}\n", names.join(", ")));
        }
    }
    out
}

fn configuration_text(fields: &[Field]) -> String {
    if fields.is_empty() {
        return "The configurations are the same.\n".to_owned();
    }
    let several = fields.iter().any(|field| !field.stage.is_empty());
    let mut head: Vec<String> = ["field", "A", "B"].map(str::to_owned).to_vec();
    if several {
        head.insert(0, "stage".to_owned());
    }
    let unknown = || "unknown".to_owned();
    let rows = fields
        .iter()
        .map(|field| {
            let mut row = vec![
                field.path.clone(),
                field.a.clone().unwrap_or_else(unknown),
                field.b.clone().unwrap_or_else(unknown),
            ];
            if several {
                row.insert(0, field.stage.clone());
            }
            row
        })
        .collect();
    grid(&head, rows, &[])
}

/// `= 0.0312`, `< 0.0001`.
fn probability(p: f64) -> String {
    match p < 0.0001 {
        true => "< 0.0001".to_owned(),
        false => format!("= {p:.4}"),
    }
}

fn effects_text(effects: &[Effect]) -> String {
    if effects.is_empty() {
        return "Neither side has a result yet.\n".to_owned();
    }
    let several_sets = effects.iter().any(|effect| effect.set != effects[0].set);
    let head: Vec<String> = ["metric", "A", "B", "B − A", "95 % interval", "over"]
        .map(str::to_owned)
        .to_vec();
    let mut rows = Vec::new();
    let mut notes = Vec::new();
    for effect in effects {
        let metric = &effect.spoken;
        let uncertainty = effect
            .interval
            .or(effect.images.map(|images| images.interval))
            .map(|[low, high]| (high - low) / 4.0);
        let decimals = uncertainty
            .and_then(decimals_for)
            .unwrap_or(metric.decimals);
        let arm = |arm: &Option<compare::Arm>| match arm {
            Some(arm) => match arm.sd {
                Some(sd) => format!(
                    "{} ± {} (n = {})",
                    number(arm.mean, decimals),
                    number(sd, decimals),
                    arm.n
                ),
                None => format!("{} (n = 1)", number(arm.mean, decimals)),
            },
            None => "—".to_owned(),
        };
        let bounds = |[low, high]: [f64; 2]| {
            format!("[{}, {}]", signed(low, decimals), signed(high, decimals))
        };
        let name = if several_sets {
            format!("{} on {}", metric.head, effect.set)
        } else {
            metric.head.clone()
        };
        let difference = effect
            .difference
            .map_or("—".to_owned(), |mean| signed(mean, decimals));
        let (interval, over) = match (effect.interval, effect.method) {
            (Some(interval), Some(method)) => (
                bounds(interval),
                match effect.pairs {
                    Some(pairs) => {
                        format!(
                            "seeds, {method} ({pairs} {})",
                            if pairs == 1 { "pair" } else { "pairs" }
                        )
                    }
                    None => format!("seeds, {method}"),
                },
            ),
            _ => ("—".to_owned(), String::new()),
        };
        rows.push(vec![
            name,
            arm(&effect.a),
            arm(&effect.b),
            difference,
            interval,
            over,
        ]);
        if let Some(images) = effect.images {
            rows.push(vec![
                String::new(),
                String::new(),
                String::new(),
                signed(images.difference, decimals),
                bounds(images.interval),
                format!("{}, bootstrap", images.over),
            ]);
            let mut note = format!("{}: {} images", metric.short, images.images);
            if let (Some(only_a), Some(only_b)) = (images.only_a, images.only_b) {
                note.push_str(&format!(
                    ", of which only A is right on {only_a}, only B on {only_b}"
                ));
            }
            match images.pairs {
                Some(1) => {}
                Some(pairs) => note.push_str(&format!(
                    " (summed over {pairs} pairs of runs with the same seed)"
                )),
                None => note.push_str(
                    "; too few seeds are shared for pairs, so all runs of both are compared",
                ),
            }
            if let (Some(exact), Some(mid)) = (images.exact_p, images.mid_p) {
                note.push_str(&format!(
                    "; McNemar's test: p {}, mid-p {}",
                    probability(exact),
                    probability(mid)
                ));
            }
            note.push_str(match images.over {
                "images" => ". The interval over images is about these trained models, not about other seeds.",
                _ => {
                    ". The interval over seeds and images takes both as samples (two-way bootstrap, widened for few \
                     seeds)."
                }
            });
            notes.push(note);
        }
        if let Some(detectable) = effect.detectable {
            notes.push(format!(
                "{}: with this spread over seeds a true difference of {} would be told from zero with a probability of \
                 80 %.",
                metric.short,
                metric.amount(&number(detectable, decimals))
            ));
        }
    }
    // Metrics share their runs: one note for all that say the same.
    let mut by_seeds: Vec<(&[u64], Vec<&str>)> = Vec::new();
    for effect in effects.iter().filter(|effect| !effect.left_out.is_empty()) {
        let short = effect.spoken.short.as_str();
        match by_seeds
            .iter_mut()
            .find(|(seeds, _)| *seeds == effect.left_out)
        {
            Some((_, metrics)) if metrics.contains(&short) => {}
            Some((_, metrics)) => metrics.push(short),
            None => by_seeds.push((&effect.left_out, vec![short])),
        }
    }
    for (seeds, metrics) in by_seeds {
        let list: Vec<String> = seeds.iter().map(u64::to_string).collect();
        notes.push(format!(
            "{}: B − A is over the seeds that both sides have, without {} {} that only one of them has.",
            metrics.join(", "),
            if seeds.len() == 1 { "seed" } else { "seeds" },
            list.join(", ")
        ));
    }
    let mut text = grid(&head, rows, &[1, 2, 3, 4]);
    for note in notes {
        text.push_str(&note);
        text.push('\n');
    }
    text
}
