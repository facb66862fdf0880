//! The index over all reports of a folder.
//!
//! Each report leaves a summary beside its page, so that the index needs no store and shows reports of several
//! stores.

use super::{INDEX, PageError, clean, render, whole, words};
use crate::report::data::ExperimentData;
use crate::report::metric::number;
use crate::report::table::build::headline;
use crate::report::table::cells::Cells;
use crate::store::rows::Status;
use crate::store::utc;
use minijinja::{Value, context};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file that a report leaves for the index.
pub const SUMMARY: &str = "summary.json";

/// What the index says of one report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub name: String,
    pub title: String,
    pub profile: String,
    pub runs: usize,
    pub done: usize,
    pub failed: usize,
    /// Day of the last run.
    pub date: String,
    /// Name of the variant with the best mean of the headline metric, and that mean in words.
    pub best: Option<String>,
    pub value: Option<String>,
    /// File of the plot that the index shows.
    pub plot: Option<String>,
    /// The report's files beside this one.
    #[serde(default)]
    pub files: Vec<String>,
}

impl Summary {
    /// What an earlier report left in `folder`, if it can be read.
    pub fn read(folder: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(folder.join(SUMMARY)).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// The summary of an experiment whose first plot is `plot`.
    pub fn of(data: &ExperimentData, cells: &Cells<'_>, plot: Option<String>) -> Self {
        let experiment = &data.experiment;
        let count = |status| data.runs.iter().filter(|run| run.status == status).count();
        let source = headline(cells);
        let metric = data.metric(&source.metric);
        let best = cells
            .variants
            .iter()
            .filter_map(|variant| Some((variant, cells.sample(variant.index, &source)?)))
            .reduce(|a, b| {
                if metric.better(b.1.mean, a.1.mean) {
                    b
                } else {
                    a
                }
            });
        let decimals = cells.decimals(&source);
        Summary {
            name: experiment.name.clone(),
            title: if experiment.title.is_empty() {
                experiment.name.clone()
            } else {
                experiment.title.clone()
            },
            profile: experiment.profile.clone(),
            runs: data.runs.len(),
            done: count(Status::Done),
            failed: count(Status::Failed),
            date: utc(experiment.updated)[..10].to_owned(),
            best: best
                .as_ref()
                .map(|(variant, _)| cells.display_name(variant)),
            value: best.map(|(_, sample)| {
                let mut text = number(sample.mean, decimals);
                if let Some(sd) = sample.sd {
                    text.push_str(&format!(" ± {}", number(sd, decimals)));
                }
                if let Some(unit) = &metric.unit {
                    text.push_str(&format!(" {unit}"));
                }
                format!("{text} {} (n = {})", metric.short, sample.n)
            }),
            plot,
            files: Vec::new(),
        }
    }
}

/// Whether a name that stands in a summary is one of a report's file, and no path to somewhere else.
pub fn is_own(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\'])
}

/// The index of the reports in the folder `out`, by name; `None` if there are none. A summary that can't be read
/// is left out and named in the second value.
pub fn page(out: &Path) -> Result<Option<(String, Vec<String>)>, PageError> {
    let mut warnings = Vec::new();
    let mut folders: Vec<std::path::PathBuf> = std::fs::read_dir(out)
        .map(|entries| {
            entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .collect()
        })
        .unwrap_or_default();
    folders.sort();
    let mut entries = Vec::new();
    for folder in folders {
        let path = folder.join(SUMMARY);
        let (Ok(text), Some(name)) = (std::fs::read_to_string(&path), folder.file_name()) else {
            continue;
        };
        let summary: Summary = match serde_json::from_str(&text) {
            Ok(summary) => summary,
            Err(error) => {
                warnings.push(format!(
                    "{} is left out of the index: {error}",
                    path.display()
                ));
                continue;
            }
        };
        let plot = summary.plot.as_deref();
        let plot = plot.filter(|plot| plot.ends_with(".svg") && is_own(plot));
        let svg = plot.and_then(|plot| std::fs::read_to_string(folder.join(plot)).ok());
        entries.push(context! {
            href => format!("{}/index.html", link(&name.to_string_lossy())),
            name => clean(&summary.name),
            title => clean(&summary.title),
            profile => clean(&summary.profile),
            runs => summary.runs,
            done => summary.done,
            failed => summary.failed,
            date => clean(&summary.date),
            best => summary.best.as_deref().map_or("—".to_owned(), clean),
            value => summary.value.as_deref().map_or("—".to_owned(), clean),
            svg => svg.map(Value::from_safe_string),
        });
    }
    if entries.is_empty() {
        return Ok(None);
    }
    let body = render(
        INDEX,
        "index.html",
        context! { words => format!("{}, each with its tables, plots and data.", words::count(entries.len(), "experiment")), entries },
    )?;
    Ok(Some((whole("index.html", "Reports", body)?, warnings)))
}

/// A file's name as part of a URL.
fn link(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
