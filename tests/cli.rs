//! The program as a user meets it: the real binary, started in temporary folders, with real workers,
//! real signals and real pictures.
//!
//! Pictures are those of the embedded data set, written as files where a small set will do. Nothing
//! here depends on how fast the machine is: what has to have happened is waited for.

#[path = "support/small_data.rs"]
mod small_data;

#[path = "cli_cases/lab.rs"]
mod lab;

#[path = "cli_cases/control_group.rs"]
mod control_group;

#[path = "cli_cases/clock.rs"]
mod clock;
#[path = "cli_cases/data.rs"]
mod data;
#[path = "cli_cases/disk.rs"]
mod disk;
#[path = "cli_cases/faults.rs"]
mod faults;
#[path = "cli_cases/files.rs"]
mod files;
#[path = "cli_cases/first_run.rs"]
mod first_run;
#[path = "cli_cases/fsync.rs"]
mod fsync;
#[path = "cli_cases/gpus.rs"]
mod gpus;
#[path = "cli_cases/kill.rs"]
mod kill;
#[path = "cli_cases/limits.rs"]
mod limits;
#[path = "cli_cases/measures.rs"]
mod measures;
#[path = "cli_cases/plan.rs"]
mod plan;
#[path = "cli_cases/pretraining.rs"]
mod pretraining;
#[path = "cli_cases/program.rs"]
mod program;
#[path = "cli_cases/programs.rs"]
mod programs;
#[path = "cli_cases/sessions.rs"]
mod sessions;
#[path = "cli_cases/sharing.rs"]
mod sharing;
#[path = "cli_cases/stages.rs"]
mod stages;
#[path = "cli_cases/terminal.rs"]
mod terminal;
#[path = "cli_cases/upkeep.rs"]
mod upkeep;
#[path = "cli_cases/waiting.rs"]
mod waiting;
