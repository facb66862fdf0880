//! From the store to [`ExperimentData`].

use super::background::Background;
use super::data::ExperimentData;
use super::plot::MOST_CURVES;
use crate::rundir::layout::RunDir;
use crate::rundir::predictions::{self, Prediction};
use crate::rundir::stage::StageSpec;
use crate::store::rows::{ExperimentRow, RunRow, Status};
use crate::store::{Store, StoreError};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// Reads everything that the report of `experiment` needs. The second value says what had to be left
/// out: a predictions file that is damaged takes its intervals with it, and nothing else.
pub async fn load(
    store: &Store,
    experiment: ExperimentRow,
) -> Result<(ExperimentData, Vec<String>), StoreError> {
    let runs = store.runs(Some(&experiment.name)).await?;
    let results = store.results(&experiment.name).await?;
    let variants: HashSet<u32> = runs.iter().map(|run| run.variant_index).collect();
    // A million points that no plot would show aren't read.
    let curves = if variants.len() > MOST_CURVES {
        Vec::new()
    } else {
        store.curves(&experiment.name).await?
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
    let (predictions, warnings) = single_run_predictions(store.dir(), &runs);
    Ok((
        ExperimentData {
            experiment,
            runs,
            results,
            curves,
            predictions,
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

/// Predictions of variants with a single finished run, whose only interval is that over images.
fn single_run_predictions(
    store: &Path,
    runs: &[RunRow],
) -> (BTreeMap<String, Vec<Prediction>>, Vec<String>) {
    let mut finished: BTreeMap<u32, Vec<&RunRow>> = BTreeMap::new();
    for run in runs.iter().filter(|run| run.status == Status::Done) {
        finished.entry(run.variant_index).or_default().push(run);
    }
    let (mut found, mut warnings) = (BTreeMap::new(), Vec::new());
    for run in finished
        .into_values()
        .filter(|runs| runs.len() == 1)
        .flatten()
    {
        for fingerprint in &run.stages {
            let path = RunDir::in_store(store, fingerprint).predictions();
            if found.contains_key(fingerprint) || !path.exists() {
                continue;
            }
            match predictions::read(&path) {
                Ok(predictions) => {
                    found.insert(fingerprint.clone(), predictions);
                }
                Err(error) => warnings.push(error.to_string()),
            }
        }
    }
    (found, warnings)
}
