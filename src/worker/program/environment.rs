//! What a program is told: its command line and the variables `ABLATE_…` of its environment.

use crate::rundir::layout::RunDir;
use crate::rundir::stage::{CommandSpec, Launch, StageSpec};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every variable that a program is given, and what it means; `docs/commands.md` has the same table.
pub const VARIABLES: &[(&str, &str)] = &[
    ("ABLATE_SEED", "the run's seed"),
    (
        "ABLATE_DEVICE",
        "`cpu`, or `cuda:0` for the first GPU that `CUDA_VISIBLE_DEVICES` shows",
    ),
    (
        "ABLATE_THREADS",
        "threads that it may use; `OMP_NUM_THREADS` and the like say the same",
    ),
    (
        "ABLATE_RUN_DIR",
        "a folder of its own, the same in every attempt: checkpoints, outputs, `metrics.json`",
    ),
    ("ABLATE_EVENTS", "the file that it appends reports to"),
    (
        "ABLATE_CONFIG",
        "the stage's configuration, a JSON file: `command.params`, `command.fields`, `seed`",
    ),
    ("ABLATE_STAGE", "the stage's fingerprint"),
    ("ABLATE_ATTEMPT", "number of the attempt, from 1"),
    (
        "ABLATE_RESUME",
        "`1` if the folder holds what an earlier attempt left, else `0`",
    ),
    (
        "ABLATE_PARENT_DIR",
        "what the stage in `from` left: the folder of its program, or its run directory",
    ),
    (
        "ABLATE_PARENT_WEIGHTS",
        "the final weights of the stage in `from`, where it has left some",
    ),
];

/// The command of a stage, with its environment, in its folder. The executor adds what it knows of the device.
pub fn command(dir: &RunDir, spec: &StageSpec, launch: &Launch, program: &CommandSpec) -> Command {
    let mut argv = program.argv.iter();
    let mut command = Command::new(argv.next().map_or("", String::as_str));
    command.args(argv);
    if let Some(folder) = &launch.folder {
        command.current_dir(folder);
    }
    let work = absolute(&dir.work());
    let resumes = std::fs::read_dir(&work).is_ok_and(|mut entries| entries.next().is_some());
    let parent = launch.parent_dir.as_deref().map(RunDir::new);
    let parent_dir = parent.as_ref().map(|parent| {
        let own = parent.work();
        absolute(if own.is_dir() { &own } else { parent.root() })
    });
    let weights = parent
        .map(|parent| parent.weights())
        .filter(|weights| weights.exists());
    for (name, value) in &program.environment {
        command.env(name, value);
    }
    command
        .env("ABLATE_SEED", spec.seed.to_string())
        .env("ABLATE_DEVICE", &launch.device)
        .env("ABLATE_THREADS", launch.threads.to_string())
        .env("ABLATE_RUN_DIR", &work)
        .env("ABLATE_EVENTS", absolute(&dir.reports(launch.attempt)))
        .env("ABLATE_CONFIG", absolute(&dir.stage()))
        .env("ABLATE_STAGE", &spec.fingerprint)
        .env("ABLATE_ATTEMPT", launch.attempt.to_string())
        .env("ABLATE_RESUME", if resumes { "1" } else { "0" });
    for (name, path) in [
        ("ABLATE_PARENT_DIR", parent_dir),
        ("ABLATE_PARENT_WEIGHTS", weights.as_deref().map(absolute)),
    ] {
        match path {
            Some(path) => command.env(name, path),
            None => command.env_remove(name),
        };
    }
    command
}

/// The program is started in another folder than ours.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_the_same_table() {
        let page = include_str!("../../../docs/commands.md");
        for (name, meaning) in VARIABLES {
            let row = format!("| `{name}` | {meaning} |");
            assert!(page.contains(&row), "docs/commands.md lacks the row\n{row}");
        }
    }
}
