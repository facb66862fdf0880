//! From the store to [`ExperimentData`].

use super::background::Background;
use super::data::ExperimentData;
use super::plot::MOST_CURVES;
use super::statistics::Bitset;
use crate::rundir::layout::RunDir;
use crate::rundir::predictions::{self, Prediction};
use crate::rundir::stage::StageSpec;
use crate::store::rows::{ExperimentRow, RunRow, Status};
use crate::store::{Store, StoreError};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// Reads everything that the report of `experiment` needs, the training curves only for its plots
/// (`with_plots`). The second value says what had to be left out: a predictions file that is damaged
/// takes its intervals with it, and nothing else.
pub async fn load(
    store: &Store,
    experiment: ExperimentRow,
    with_plots: bool,
) -> Result<(ExperimentData, Vec<String>), StoreError> {
    let runs = store.runs(Some(&experiment.name)).await?;
    let results = store.results(&experiment.name).await?;
    let variants: HashSet<u32> = runs.iter().map(|run| run.variant_index).collect();
    // A million points that no plot would show aren't read.
    let curves = if with_plots && variants.len() <= MOST_CURVES {
        store.curves(&experiment.name).await?
    } else {
        Vec::new()
    };
    let deviations = store.deviations(&experiment.name).await?;
    let data_set = match runs.first().and_then(|run| run.stages.last()) {
        Some(fingerprint) => store
            .stage_config(fingerprint)
            .await?
            .as_deref()
            .and_then(data_set_name),
        None => None,
    };
    let background = Background::load(store, &experiment).await?;
    let all = experiment.report.bootstrap > 0;
    let (predictions, correct, warnings) = images(store.dir(), &runs, all);
    Ok((
        ExperimentData {
            experiment,
            runs,
            results,
            curves,
            predictions,
            correct,
            data_set,
            deviations,
            background,
        },
        warnings,
    ))
}

fn data_set_name(stage: &str) -> Option<String> {
    serde_json::from_str::<StageSpec>(stage)
        .ok()
        .filter(|stage| stage.command.is_none())
        .map(|stage| stage.recipe.data.name)
}

/// What a stage said of every image, by its fingerprint.
type Predictions = BTreeMap<String, Vec<Prediction>>;
/// Which images a stage has right.
type Correct = BTreeMap<String, Bitset>;

/// What was said of every image: of variants with a single finished run after every stage; and whether it was
/// right after the last one, of these and, for a bootstrap, of all (`all`).
fn images(store: &Path, runs: &[RunRow], all: bool) -> (Predictions, Correct, Vec<String>) {
    let mut finished: BTreeMap<u32, Vec<&RunRow>> = BTreeMap::new();
    for run in runs.iter().filter(|run| run.status == Status::Done) {
        finished.entry(run.variant_index).or_default().push(run);
    }
    let (mut found, mut correct, mut warnings) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for variant in finished.into_values() {
        let single = variant.len() == 1;
        if !single && !all {
            continue;
        }
        for run in variant {
            let skipped = if single {
                0
            } else {
                run.stages.len().saturating_sub(1)
            };
            for (position, fingerprint) in run.stages.iter().enumerate().skip(skipped) {
                let path = RunDir::in_store(store, fingerprint).predictions();
                let known = found.contains_key(fingerprint) || correct.contains_key(fingerprint);
                if known || !path.exists() {
                    continue;
                }
                match predictions::read(&path) {
                    Ok(predictions) => {
                        if position + 1 == run.stages.len() {
                            let right = predictions.iter().map(|image| image.rank == 0);
                            correct.insert(fingerprint.clone(), Bitset::new(right));
                        }
                        if single {
                            found.insert(fingerprint.clone(), predictions);
                        }
                    }
                    Err(error) => warnings.push(error.to_string()),
                }
            }
        }
    }
    (found, correct, warnings)
}
