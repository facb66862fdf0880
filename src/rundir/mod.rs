//! The run directory: `<store>/stages/<fingerprint>/`.
//!
//! It is the whole interface between a worker and the rest of the program; a worker on another
//! machine, started by another engine, writes the same directory:
//!
//! | entry | written by | holds |
//! | --- | --- | --- |
//! | `stage.json` | scheduler | [`stage::StageSpec`]: everything that can change the result |
//! | `launch.json` | scheduler | [`stage::Launch`]: what can't (device, threads, paths, cadence) |
//! | `events.jsonl` | worker | [`event::Event`]s, append-only, checksummed |
//! | `attempts.jsonl` | scheduler | how attempts began and ended, checksummed |
//! | `checkpoints/` | worker | weights, optimizer state, position |
//! | `predictions.bin` | worker | per-image results of the final evaluation |
//! | `predictions-<set>-<resolution>.bin` | worker | those of the final weights' further evaluations |
//! | `attempt-N.log` | scheduler | stdout and stderr of attempt N |
//! | `work/` | program | the folder of a stage's own program: its checkpoints and outputs |
//! | `reports-N.jsonl` | program | what the program of attempt N reported; the scheduler makes events of it |

pub mod command;
pub mod durable;
pub mod event;
pub mod host;
pub mod layout;
pub mod log;
pub mod predictions;
pub mod stage;
pub mod standstill;
