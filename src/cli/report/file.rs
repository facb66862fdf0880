//! An experiment file on the command line: its `report` section counts as it is now, not as it was when the runs
//! were planned, for a table is corrected without training anything again.

use super::ReportError;
use crate::cli::planning::say;
use crate::plan::build::describe;
use crate::plan::model::AxisInfo;
use crate::report::ExperimentData;
use crate::spec::experiment::{self, Options};
use crate::spec::problem::Problems;
use crate::store::rows::ExperimentRow;
use std::path::Path;

/// The name that the experiment file at `path` gives its experiment.
pub fn name(path: &Path) -> Option<String> {
    Some(experiment::load(path, &Options::default()).ok()?.name)
}

/// What is wrong with the file that an argument names, where it is one.
pub fn problems(argument: &str) -> Option<Problems> {
    let read = || experiment::load(Path::new(argument), &Options::default());
    is_file(argument).then(read)?.err()
}

/// Whether an argument is the path of a file that is there.
pub fn is_file(argument: &str) -> bool {
    let path = Path::new(argument);
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("yaml" | "yml")) && path.is_file()
}

/// Takes title, claim, baseline and `report` of the file at `path`, read with the profile that was run. True if it
/// says otherwise than what is stored. A file whose axes have changed describes other runs: it is left alone.
pub fn apply(row: &mut ExperimentRow, path: &str) -> Result<bool, ReportError> {
    // A file without profiles was run with none.
    let profile = (row.profile != "default").then(|| row.profile.clone());
    let options = Options {
        profile,
        ..Options::default()
    };
    let read = experiment::load(Path::new(path), &options).map_err(ReportError::Problems)?;
    if read.name != row.name {
        return Ok(false);
    }
    let names = |axes: &[AxisInfo]| {
        axes.iter()
            .map(|axis| axis.name.clone())
            .collect::<Vec<_>>()
    };
    let own: Vec<String> = read.axes.iter().map(|axis| axis.name.clone()).collect();
    if own != names(&row.axes) {
        say(format_args!(
            "warning: {path} has other axes ({}) than the runs in the store ({}): their report is that of the file as \
             it was run",
            own.join(", "),
            names(&row.axes).join(", ")
        ));
        return Ok(false);
    }
    let now = describe(&read);
    let changed = now.report != row.report
        || now.baseline != row.baseline
        || now.title != row.title
        || now.claim != row.claim;
    row.baseline = now.baseline;
    row.report = now.report;
    row.title = now.title;
    row.claim = now.claim;
    Ok(changed)
}

/// Says where the file of an experiment isn't any more what was run, and its report is that of what was run.
pub fn warn_of_changes(data: &ExperimentData) {
    let Some(plan) = &data.background.plan else {
        return;
    };
    let now = std::fs::read_to_string(&plan.path);
    if now.is_ok_and(|now| now != plan.source) {
        say(format_args!(
            "note: {0} has changed since it was run, and this report is that of the file as it was; `ablate report {0}` \
             takes the `report` section that it has now",
            plan.path
        ));
    }
}
