//! The trainer on real pictures: it learns, and a stage's result depends on its configuration only.

use ablate::data::{Dataset, Split};
use ablate::plan::{self, DataDescription, Request};
use ablate::rundir::event::EventKind;
use ablate::rundir::layout::RunDir;
use ablate::rundir::predictions;
use ablate::rundir::stage::{Launch, StageSpec, Task};
use ablate::spec::experiment::Options;
use ablate::train::{self, Observer, TrainError};
use std::cell::Cell;
use std::path::Path;

/// Collects events; asks for a stop once `stop_after` steps are done (counted by polls).
#[derive(Default)]
struct Watch {
    events: Vec<EventKind>,
    stop_after: Option<usize>,
    polls: Cell<usize>,
}

impl Observer for Watch {
    fn event(&mut self, event: EventKind) -> Result<(), TrainError> {
        self.events.push(event);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), TrainError> {
        Ok(())
    }

    fn stop_requested(&self) -> bool {
        self.polls.set(self.polls.get() + 1);
        // The loop asks twice a step.
        self.stop_after
            .is_some_and(|steps| self.polls.get() > 2 * steps)
    }
}

/// An image folder with `per_class` training pictures a class of the embedded data set.
fn small_data(folder: &Path, per_class: usize) -> Dataset {
    let embedded = Dataset::embedded();
    for (split, name) in [(Split::Train, "train"), (Split::Val, "val")] {
        let mut taken = vec![0; embedded.classes().len()];
        for index in 0..embedded.len(split) {
            let label = embedded.label(split, index) as usize;
            if taken[label] == per_class {
                continue;
            }
            taken[label] += 1;
            let class = folder.join(name).join(&embedded.classes()[label]);
            std::fs::create_dir_all(&class).unwrap();
            let picture = embedded.image(split, index).unwrap();
            let path = class.join(format!("{index:05}.png"));
            let pixels = picture.data().to_vec();
            image::RgbImage::from_raw(picture.width() as u32, picture.height() as u32, pixels)
                .unwrap()
                .save(path)
                .unwrap();
        }
    }
    Dataset::open_folder("small", folder).unwrap()
}

/// The stages of an experiment on `dataset`.
fn stages(yaml: &str, dataset: &Dataset, folder: &Path) -> Vec<StageSpec> {
    let path = folder.join("experiment.yaml");
    std::fs::write(&path, yaml).unwrap();
    let description = DataDescription {
        hash: dataset.hash().unwrap(),
        shape: dataset.shape(),
    };
    let request = Request {
        options: Options::default(),
        max_cells: None,
    };
    let plan = plan::plan_file(&path, &request, &|_| Ok(description.clone()))
        .unwrap_or_else(|problems| panic!("{problems}"));
    (0..plan.stages.len() as u32)
        .map(|index| plan.stage_spec(index))
        .collect()
}

fn launch(data: &Path) -> Launch {
    Launch {
        attempt: 1,
        device: "cpu".into(),
        threads: 1,
        loader_threads: 0,
        data_root: Some(data.to_owned()),
        parent_dir: None,
        init_file: None,
        log_seconds: 0.0,
        checkpoint_seconds: 1e9,
    }
}

const EXPERIMENT: &str = "
name: test
title: A test
claim: None
recipe: quick
set:
  model.arch: vit_nano_patch8
  model.drop_path: 0.1
  train: {epochs: 3, batch_size: 16}
  augment: {policy: three_augment, color_jitter: 0.3}
  mix.prob: 0.8
  ema.decay: 0.9
  eval.every: 2
";

/// Trains in a new folder and returns it.
fn train(spec: &StageSpec, launch: &Launch, watch: &mut Watch) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    train::run(spec, launch, &RunDir::new(folder.path()), watch).unwrap();
    folder
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Events without times and speeds.
fn timeless(events: &[EventKind]) -> Vec<String> {
    events
        .iter()
        .filter_map(|event| match event {
            EventKind::Epoch {
                epoch,
                step,
                train_loss,
                lr,
                ..
            } => Some(format!("{epoch} {step} {train_loss:?} {lr:?}")),
            EventKind::Evaluated { .. } => Some(format!("{event:?}")),
            _ => None,
        })
        .collect()
}

#[test]
fn results_do_not_depend_on_threads_or_interruptions() {
    let data = tempfile::tempdir().unwrap();
    let dataset = small_data(data.path(), 24);
    let spec = stages(EXPERIMENT, &dataset, data.path()).remove(0);
    let mut undisturbed = Watch::default();
    let reference = train(&spec, &launch(data.path()), &mut undisturbed);
    let weights = read(reference.path(), "checkpoints/final.safetensors");
    let predicted = read(reference.path(), "predictions.bin");

    for (threads, loader_threads) in [(1, 3), (2, 1)] {
        let other = Launch {
            threads,
            loader_threads,
            ..launch(data.path())
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let mut watch = Watch::default();
        let folder = pool.install(|| train(&spec, &other, &mut watch));
        let same = read(folder.path(), "checkpoints/final.safetensors") == weights;
        assert!(
            same,
            "weights with {threads} threads and {loader_threads} for the loader"
        );
        assert_eq!(timeless(&watch.events), timeless(&undisturbed.events));
    }

    // Stopped in the middle of epochs, at their ends, and right at the start.
    let folder = tempfile::tempdir().unwrap();
    let dir = RunDir::new(folder.path());
    let mut events = Vec::new();
    for stop_after in [1, 5, 7, 9] {
        let mut watch = Watch {
            stop_after: Some(stop_after),
            ..Watch::default()
        };
        let stopped = train::run(&spec, &launch(data.path()), &dir, &mut watch);
        assert!(
            matches!(stopped, Err(TrainError::Stopped { .. })),
            "{stopped:?}"
        );
        events.extend(watch.events);
    }
    let mut watch = Watch::default();
    train::run(&spec, &launch(data.path()), &dir, &mut watch).unwrap();
    events.extend(watch.events);
    assert!(
        read(folder.path(), "checkpoints/final.safetensors") == weights,
        "resumed weights"
    );
    assert!(
        read(folder.path(), "predictions.bin") == predicted,
        "resumed predictions"
    );
    assert_eq!(timeless(&events), timeless(&undisturbed.events));
    let left: Vec<_> = std::fs::read_dir(dir.checkpoints())
        .unwrap()
        .flatten()
        .collect();
    assert_eq!(left.len(), 1, "only the final weights stay");
}

#[test]
fn accumulation_gives_the_step_of_the_large_batch() {
    let data = tempfile::tempdir().unwrap();
    let dataset = small_data(data.path(), 24);
    let yaml = EXPERIMENT.replace("epochs: 3", "epochs: 1");
    let losses = |accumulation: usize| {
        let yaml = yaml.replace(
            "batch_size: 16",
            &format!("batch_size: 16, accumulation: {accumulation}"),
        );
        let spec = stages(&yaml, &dataset, data.path()).remove(0);
        let mut watch = Watch::default();
        train(&spec, &launch(data.path()), &mut watch);
        let loss = |event: &EventKind| match event {
            EventKind::Step { loss, .. } => Some(*loss),
            _ => None,
        };
        watch.events.iter().filter_map(loss).collect::<Vec<_>>()
    };
    let (whole, parts) = (losses(1), losses(4));
    assert_eq!(whole.len(), 13);
    for (a, b) in whole.iter().zip(&parts) {
        assert!((a - b).abs() < 1e-5 * a.abs(), "{whole:?} {parts:?}");
    }
}

#[test]
fn stages_hand_weights_on_and_change_the_resolution() {
    let data = tempfile::tempdir().unwrap();
    let dataset = small_data(data.path(), 24);
    let yaml = format!(
        "{EXPERIMENT}
stages:
  pretrain: {{set: {{train.resolution: 24}}}}
  finetune: {{from: pretrain, set: {{train.resolution: 48, train.epochs: 1, optimizer.lr: 1e-6, schedule.warmup_epochs: 0}}}}
  check: {{from: pretrain, task: evaluate, set: {{train.resolution: 24}}}}
"
    );
    let specs = stages(&yaml, &dataset, data.path());
    let by_task = |task: Task, resolution: usize| {
        specs
            .iter()
            .find(|s| s.task == task && s.recipe.train.resolution == resolution)
            .unwrap()
    };
    let mut watch = Watch::default();
    let pretrained = train(by_task(Task::Train, 24), &launch(data.path()), &mut watch);
    let child = Launch {
        parent_dir: Some(pretrained.path().to_owned()),
        ..launch(data.path())
    };

    let mut watch = Watch::default();
    train(by_task(Task::Train, 48), &child, &mut watch);
    let warned = watch.events.iter().any(|event| {
        matches!(event, EventKind::Warning { message } if message.contains("from 3x3 to 6x6"))
    });
    assert!(warned, "{:?}", watch.events);

    // An evaluation of the same weights says the same of every image.
    let checked = train(by_task(Task::Evaluate, 24), &child, &mut Watch::default());
    assert_eq!(
        predictions::read(&checked.path().join("predictions.bin")).unwrap(),
        predictions::read(&pretrained.path().join("predictions.bin")).unwrap(),
    );

    let orphan = train::run(
        by_task(Task::Train, 48),
        &launch(data.path()),
        &RunDir::new(tempfile::tempdir().unwrap().path()),
        &mut Watch::default(),
    );
    assert!(matches!(orphan, Err(TrainError::Config(_))), "{orphan:?}");
}

#[test]
fn it_learns() {
    let data = tempfile::tempdir().unwrap();
    let dataset = small_data(data.path(), 60);
    let yaml = "
name: test
title: A test
claim: None
recipe: quick
set:
  model.arch: vit_nano_patch8
  train: {epochs: 12, batch_size: 20}
  optimizer.lr: 1e-2
  mix.prob: 0
  eval.every: 100
";
    let spec = stages(yaml, &dataset, data.path()).remove(0);
    let mut watch = Watch::default();
    let folder = train(&spec, &launch(data.path()), &mut watch);
    let top1 = watch
        .events
        .iter()
        .find_map(|event| match event {
            EventKind::Evaluated {
                metrics,
                last: true,
                ..
            } => Some(metrics["top1"]),
            _ => None,
        })
        .unwrap();
    // Nine classes: chance is 11 %.
    assert!(top1 > 25.0, "top-1 {top1}");
    let predictions = predictions::read(&folder.path().join("predictions.bin")).unwrap();
    let correct = predictions.iter().filter(|p| p.label == p.class).count();
    assert!((100.0 * correct as f64 / predictions.len() as f64 - top1).abs() < 1e-9);
}

#[test]
fn a_changed_data_set_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let dataset = small_data(data.path(), 10);
    let spec = stages(EXPERIMENT, &dataset, data.path()).remove(0);
    let class = data.path().join("train").join("ice");
    let picture = std::fs::read_dir(&class)
        .unwrap()
        .flatten()
        .next()
        .unwrap()
        .path();
    std::fs::remove_file(picture).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let result = train::run(
        &spec,
        &launch(data.path()),
        &RunDir::new(folder.path()),
        &mut Watch::default(),
    );
    assert!(
        matches!(result, Err(TrainError::DataChanged { .. })),
        "{result:?}"
    );
}

#[test]
fn a_loss_that_is_not_finite_ends_the_stage() {
    let data = tempfile::tempdir().unwrap();
    let dataset = small_data(data.path(), 10);
    let yaml = format!("{EXPERIMENT}  optimizer.lr: 1e30\n  schedule.warmup_epochs: 0\n");
    let spec = stages(&yaml, &dataset, data.path()).remove(0);
    let folder = tempfile::tempdir().unwrap();
    let result = train::run(
        &spec,
        &launch(data.path()),
        &RunDir::new(folder.path()),
        &mut Watch::default(),
    );
    assert!(
        matches!(result, Err(TrainError::Diverged { .. })),
        "{result:?}"
    );
}
