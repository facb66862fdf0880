//! `ablate bench soak`: kills schedulers and workers at random moments, again and again, and compares what
//! is left with what an undisturbed execution leaves.
//!
//! Real processes of this very program, SIGKILL, nothing simulated. A round runs one small experiment in a
//! fresh store until it is done, however often it is killed on the way; then its store is compared with the
//! calm one, file by file and row by row. Everything that may differ (times, speeds, attempts) is left out by
//! name in [`compare`]; all else must be the same to the bit.

mod compare;
mod processes;

use super::BenchFormat;
use crate::cli::exit::Exit;
use crate::cli::planning::say;
use crate::data::{Dataset, Split};
use crate::rng::{KeyedRng, Purpose};
use clap::Args;
use processes::{Scheduler, is_gone};
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Kill schedulers and workers at random moments and compare the results with an undisturbed execution
///
/// Exit code 0: nothing was lost, nothing was done twice, every bit is the same; 1: something differs, and
/// the store of that round is kept.
#[derive(Debug, Clone, Args)]
pub struct SoakArgs {
    /// Number of kills
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub kills: u32,
    /// Seed of the moments
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub seed: u64,
    /// Workers at once
    #[arg(long, value_name = "N", default_value = "2")]
    pub slots: std::num::NonZeroUsize,
    /// Folder to work in [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t = BenchFormat::Text)]
    pub format: BenchFormat,
}

/// Two built-in stages, and every kind of state that a resumed stage must find again: EMA, Mixup and CutMix, drop path,
/// augmentation, repeated augmentation, LAMB's moments. Between them a program with a checkpoint of its own, which has
/// started something in a session of its own and hands the weights on.
const EXPERIMENT: &str = "\
name: soak
title: What kills leave
claim: Nothing is claimed.
recipe: quick
seeds: 1
set:
  model: {arch: vit_nano_patch8, drop_path: 0.1}
  train: {epochs: 6, batch_size: 32, repeated_augmentation: 2}
  data: {name: pictures, root: pictures}
  mix: {mixup_alpha: 0.8, cutmix_alpha: 1.0, prob: 0.9, groups: 4}
  augment: {policy: three_augment, color_jitter: 0.3}
  ema: {decay: 0.9, eval: true}
  eval.every: 2
stages:
  pretrain: {set: {train.resolution: 24}}
  walk:
    from: pretrain
    command:
      - sh
      - -c
      - |
        cd \"$ABLATE_RUN_DIR\" || exit 1
        say() {{ echo \"$1\" >> \"$ABLATE_EVENTS\"; }}
        setsid sleep 60 &
        step=0; value=$ABLATE_SEED
        if [ -s state ]; then read step value < state; fi
        say '{{\"kind\":\"started\",\"resumed_step\":'$step',\"total_steps\":30}}'
        while [ $step -lt 30 ]; do
          step=$((step + 1)); value=$(((value * 1103515245 + 12345) % 2147483648))
          sleep 0.005
          say '{{\"kind\":\"evaluated\",\"step\":'$step',\"epoch\":'$step',\"metrics\":{{\"walk\":'$value'}}}}'
          if [ $((step % 5)) = 0 ]; then
            echo $step $value > state.new && mv state.new state
            say '{{\"kind\":\"checkpointed\",\"step\":'$step'}}'
          fi
        done
        cp \"$ABLATE_PARENT_WEIGHTS\" weights.new && mv weights.new final.safetensors
        echo '{{\"walk\": '$value'}}' > metrics.json
    outputs: [final.safetensors]
    metrics: [{name: walk, better: lower}]
  finetune: {from: walk, recipe: quick_finetune, set: {train: {epochs: 3, resolution: 32}}}
axes:
  loss:
    ce: {loss.name: ce}
    bce_soft: {loss.name: bce_soft}
baseline: {loss: ce}
execution:
  checkpoints: {every: 0.1s, every_epochs: 2, keep: 2, best: true}
";

/// Pictures per class of the train and val split.
const PICTURES: [usize; 2] = [32, 8];

/// Why a soak can't be made, or what it found.
#[derive(Debug, thiserror::Error)]
enum SoakError {
    #[error("can't {action} {path}: {source}")]
    Io {
        action: &'static str,
        path: String,
        source: std::io::Error,
    },
    #[error("can't write the pictures: {0}")]
    Pictures(String),
    #[error("`ablate {line}` ended with {code:?}: {stderr}")]
    Command {
        line: String,
        code: Option<i32>,
        stderr: String,
    },
    #[error("{0}")]
    Broken(String),
}

/// What was done.
#[derive(Debug, Clone, Default, Serialize)]
struct Figures {
    kills: u32,
    of_schedulers: u32,
    of_workers: u32,
    of_both: u32,
    rounds: u32,
    /// Schedulers that were started.
    starts: u32,
    stages_per_round: usize,
    /// Stages that went on from a checkpoint, over all rounds.
    resumed: u64,
    seconds: f64,
    seed: u64,
}

/// Runs the command.
pub fn run(args: &SoakArgs) -> Exit {
    let temporary;
    let folder = match &args.folder {
        Some(folder) => folder.clone(),
        None => match tempfile::tempdir() {
            Ok(folder) => {
                temporary = folder;
                temporary.path().to_owned()
            }
            Err(error) => {
                say(format_args!("error: can't make a folder: {error}"));
                return Exit::Usage;
            }
        },
    };
    match soak(args, &folder) {
        Ok(figures) => {
            let text = match args.format {
                BenchFormat::Text => text(&figures),
                BenchFormat::Json => {
                    serde_json::to_string_pretty(&figures).unwrap_or_default() + "\n"
                }
            };
            // A closed pipe has read what it wanted.
            let _ = std::io::stdout().write_all(text.as_bytes());
            Exit::Done
        }
        Err(SoakError::Broken(message)) => {
            say(format_args!("broken: {message}"));
            let kept = std::path::absolute("ablate-soak-broken").unwrap_or_default();
            if args.folder.is_none() && std::fs::rename(&folder, &kept).is_ok() {
                say(format_args!("kept in {}", kept.display()));
            }
            Exit::Failed
        }
        Err(error) => {
            say(format_args!("error: {error}"));
            Exit::Usage
        }
    }
}

fn soak(args: &SoakArgs, folder: &Path) -> Result<Figures, SoakError> {
    prepare(folder)?;
    let lab = Lab { folder, args };
    lab.ablate("run soak.yaml --quiet --store calm")?;
    let mut rng = KeyedRng::new(args.seed, Purpose::Test, 0, 0);
    let mut figures = Figures {
        seed: args.seed,
        ..Figures::default()
    };
    let began = Instant::now();
    while figures.kills < args.kills {
        figures.rounds += 1;
        let store = format!("round-{}", figures.rounds);
        lab.round(&store, &mut rng, &mut figures)?;
        let found = compare::stores(&lab, "calm", &store)?;
        figures.stages_per_round = found.stages;
        figures.resumed += found.resumed;
        std::fs::remove_dir_all(folder.join(&store)).map_err(io("remove", &folder.join(&store)))?;
        if figures.rounds.is_multiple_of(20) {
            say(format_args!(
                "{} of {} kills, {} rounds",
                figures.kills, args.kills, figures.rounds
            ));
        }
    }
    figures.seconds = began.elapsed().as_secs_f64();
    Ok(figures)
}

fn io<'p>(action: &'static str, path: &'p Path) -> impl FnOnce(std::io::Error) -> SoakError + 'p {
    move |source| SoakError::Io {
        action,
        path: path.display().to_string(),
        source,
    }
}

/// Writes the experiment and its pictures, some of the embedded data set.
fn prepare(folder: &Path) -> Result<(), SoakError> {
    let pictures = |error: &dyn std::fmt::Display| SoakError::Pictures(error.to_string());
    let embedded = Dataset::embedded();
    for ((split, name), per_class) in [(Split::Train, "train"), (Split::Val, "val")]
        .into_iter()
        .zip(PICTURES)
    {
        let mut taken = vec![0; embedded.classes().len()];
        for index in 0..embedded.len(split) {
            let label = embedded.label(split, index) as usize;
            if taken[label] == per_class {
                continue;
            }
            taken[label] += 1;
            let class = folder
                .join("pictures")
                .join(name)
                .join(&embedded.classes()[label]);
            std::fs::create_dir_all(&class).map_err(io("make", &class))?;
            let picture = embedded
                .image(split, index)
                .map_err(|error| pictures(&error))?;
            image::RgbImage::from_raw(
                picture.width() as u32,
                picture.height() as u32,
                picture.data().to_vec(),
            )
            .ok_or_else(|| pictures(&"a picture has the wrong size"))?
            .save(class.join(format!("{index:05}.png")))
            .map_err(|error| pictures(&error))?;
        }
    }
    let path = folder.join("soak.yaml");
    std::fs::write(&path, EXPERIMENT).map_err(io("write", &path))
}

/// Where it happens.
struct Lab<'l> {
    folder: &'l Path,
    args: &'l SoakArgs,
}

impl Lab<'_> {
    /// This program with the words of `line`, on the soak's slots.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0_ablate()
            .args(line.split_whitespace())
            .current_dir(self.folder)
            .env("XDG_CACHE_HOME", self.folder.join("cache"))
            .env_remove("ABLATE_STORE")
            .stdin(std::process::Stdio::null());
        if line.starts_with("run ") {
            command.args(["--device", "cpu", "--slots", &self.args.slots.to_string()]);
        }
        command
    }

    /// Runs `ablate` to its end; its stdout.
    fn ablate(&self, line: &str) -> Result<String, SoakError> {
        self.finish(line, self.command(line))
    }

    /// The answer to an SQL query of a store, as JSON text: floats with all their digits.
    fn ask(&self, store: &str, sql: &str) -> Result<String, SoakError> {
        let line = format!("query --format json --store {store}");
        let mut command = self.command(&line);
        command.arg(sql);
        self.finish(&line, command)
    }

    fn finish(&self, line: &str, mut command: Command) -> Result<String, SoakError> {
        let output = command
            .output()
            .map_err(io("start", Path::new("/proc/self/exe")))?;
        if !output.status.success() {
            return Err(SoakError::Command {
                line: line.to_owned(),
                code: output.status.code(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs the experiment in `store` until it is done, with kills on the way.
    fn round(
        &self,
        store: &str,
        rng: &mut KeyedRng,
        figures: &mut Figures,
    ) -> Result<(), SoakError> {
        let mut kills_here = 0;
        let line = format!("run soak.yaml --quiet --store {store}");
        loop {
            figures.starts += 1;
            let mut scheduler = Scheduler::start(self.command(&line), &self.folder.join("stderr"))
                .map_err(io("start", Path::new("/proc/self/exe")))?;
            loop {
                // Often soon after the start, where schedulers read what others left; else anywhere, and
                // later and later, so that a round comes to an end on a slow machine too.
                let most = if rng.chance(0.25) {
                    80
                } else {
                    700 + 20 * kills_here
                };
                let wait = Duration::from_micros(rng.below(most * 1000));
                if let Some(code) = scheduler.wait(wait) {
                    match code {
                        Some(0) => return Ok(()),
                        // A stage whose worker was killed too often: the next one tries it again.
                        Some(1) if scheduler.stderr().contains("killed") => {}
                        _ => {
                            return Err(SoakError::Broken(format!(
                                "{store}: after {} kills `ablate run` ended with {code:?}: {}",
                                figures.kills,
                                scheduler.stderr()
                            )));
                        }
                    }
                    break;
                }
                if figures.kills >= self.args.kills {
                    // Enough: this round ends in peace.
                    continue;
                }
                let workers = scheduler.workers();
                let draw = rng.below(10);
                let worker = (draw < 6 && !workers.is_empty())
                    .then(|| workers[rng.below(workers.len() as u64) as usize])
                    // Who kills the guard of a program and its scheduler at once leaves what has left the
                    // program's group to the next scheduler.
                    .filter(|&worker| draw < 3 || !processes::is_guard(worker));
                match worker {
                    Some(worker) => {
                        processes::kill(worker);
                        if draw < 3 {
                            figures.of_workers += 1;
                        } else {
                            figures.of_both += 1;
                        }
                    }
                    None => figures.of_schedulers += 1,
                }
                figures.kills += 1;
                kills_here += 1;
                if worker.is_some() && draw < 3 {
                    continue;
                }
                scheduler.kill();
                if let Some(orphan) = scheduler.orphan(Duration::from_secs(20)) {
                    return Err(SoakError::Broken(format!(
                        "{store}: process {orphan} outlived its scheduler"
                    )));
                }
                debug_assert!(workers.iter().all(|&worker| is_gone(worker)));
                break;
            }
        }
    }
}

/// What the process calls itself: `/proc/self/exe` says nothing in a list of processes.
trait Named {
    fn arg0_ablate(&mut self) -> &mut Self;
}

impl Named for Command {
    fn arg0_ablate(&mut self) -> &mut Command {
        std::os::unix::process::CommandExt::arg0(self, "ablate")
    }
}

fn text(figures: &Figures) -> String {
    format!(
        "{} kills in {} rounds of {} stages: {} of schedulers, {} of workers, {} of both at once\n\
         {} schedulers started, {} attempts went on from a checkpoint, {:.0} s, seed {}\n\
         every store is the same as the undisturbed one: final and best weights, predictions, metrics, tables\n\
         every stage was done exactly once; no process outlived its scheduler; every database is whole\n",
        figures.kills,
        figures.rounds,
        figures.stages_per_round,
        figures.of_schedulers,
        figures.of_workers,
        figures.of_both,
        figures.starts,
        figures.resumed,
        figures.seconds,
        figures.seed,
    )
}
