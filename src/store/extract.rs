//! Whole views, for exports.

use crate::store::open::Store;
use crate::store::{Query, StoreError};

/// A documented view that can be extracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    Runs,
    Results,
    Metrics,
    Attempts,
    Reference,
}

impl View {
    /// Its name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            View::Runs => "v_runs",
            View::Results => "v_results",
            View::Metrics => "v_metrics",
            View::Attempts => "v_attempts",
            View::Reference => "v_reference",
        }
    }
}

impl Store {
    /// All rows of `view` that belong to `experiments`; published numbers belong to none and come whole.
    pub async fn extract(
        &self,
        view: View,
        experiments: &[String],
    ) -> Result<Query<'_>, StoreError> {
        let names = list(experiments);
        let condition = match view {
            View::Runs | View::Results | View::Metrics => format!("WHERE experiment IN ({names})"),
            View::Attempts => format!(
                "WHERE fingerprint IN (SELECT fingerprint FROM run_stage_names WHERE experiment IN ({names}))"
            ),
            View::Reference => String::new(),
        };
        let order = match view {
            View::Runs => "ORDER BY experiment, variant_index, seed, run",
            View::Results => {
                "ORDER BY experiment, variant_index, seed, run, stage, eval_set, resolution, metric"
            }
            // In the order of the tables' keys: a million rows aren't sorted for an export.
            View::Metrics => "",
            View::Attempts => "ORDER BY started, fingerprint, attempt",
            View::Reference => "ORDER BY id",
        };
        self.query(&format!(
            "SELECT * FROM {} {condition} {order}",
            view.name()
        ))
        .await
    }

    /// The curves of one run: stage, step, metric, resolution, value, time.
    pub async fn extract_curves(&self, run: &str) -> Result<Query<'_>, StoreError> {
        let run = list(&[run.to_owned()]);
        self.query(&format!(
            "SELECT stage, step, metric, resolution, value, time FROM v_metrics WHERE run = {run}"
        ))
        .await
    }
}

/// Names as SQL literals.
fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names
        .iter()
        // A literal can't hold NUL, and no name does.
        .map(|name| format!("'{}'", name.replace('\0', "").replace('\'', "''")))
        .collect();
    quoted.join(", ")
}
