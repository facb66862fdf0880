//! The trainer on real pictures: it learns, and a stage's result depends on its configuration only.

use ablate::data::{DataError, Dataset, EvaluationSet, Split};
use ablate::plan::{self, DataDescription, Request, Resolvers};
use ablate::rundir::event::EventKind;
use ablate::rundir::layout::RunDir;
use ablate::rundir::predictions;
use ablate::rundir::stage::{Launch, NamedSet, StageSpec, Task};
use ablate::spec::experiment::Options;
use ablate::train::{self, Observer, TrainError};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[path = "support/small_data.rs"]
mod small_data;

/// Collects events; asks for a stop once `stop_after` steps are done (counted by polls).
#[derive(Default)]
struct Watch {
    events: Vec<EventKind>,
    stop_after: Option<usize>,
    /// Asks for one from the poll of this number on.
    stop_at: Option<usize>,
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
        // The loop asks once a step, and evaluations once a batch.
        let after = self.stop_after.map(|steps| steps + 1);
        let at = after.or(self.stop_at);
        at.is_some_and(|poll| self.polls.get() >= poll)
    }
}

/// An image folder with `per_class` training pictures a class of the embedded data set.
fn small_data(folder: &Path, per_class: usize) -> Dataset {
    small_data::write(folder, [per_class; 2], "png");
    Dataset::open_folder("small", folder).unwrap()
}

/// The stages of an experiment on `dataset`.
fn stages(yaml: &str, dataset: &Dataset, folder: &Path) -> Vec<StageSpec> {
    stages_with(yaml, dataset, folder, &BTreeMap::new())
}

/// The same with evaluation sets by name.
fn stages_with(
    yaml: &str,
    dataset: &Dataset,
    folder: &Path,
    sets: &BTreeMap<String, Option<PathBuf>>,
) -> Vec<StageSpec> {
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
    let resolvers = Resolvers {
        data: &|_| Ok(description.clone()),
        sets: &|name, _| {
            let set = EvaluationSet::open(name, sets[name].as_deref(), dataset.classes()).unwrap();
            Ok(NamedSet {
                name: name.to_owned(),
                hash: set.hash().unwrap(),
                images: set.len(),
            })
        },
    };
    let plan = plan::plan_file_with(&path, &request, &resolvers)
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
        evaluation_roots: BTreeMap::new(),
        parent_dir: None,
        init_file: None,
        folder: None,
        log_seconds: 0.0,
        checkpoint_seconds: 1e9,
        checkpoint_epochs: None,
        keep_checkpoints: 2,
        keep_best: false,
        accumulation: None,
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
    // An epoch whose evaluation was left is told of once more.
    let once = |events: &[EventKind]| {
        let mut told = timeless(events);
        told.dedup();
        told
    };
    assert_eq!(once(&events), timeless(&undisturbed.events));
    let left: Vec<_> = std::fs::read_dir(dir.checkpoints())
        .unwrap()
        .flatten()
        .collect();
    assert_eq!(left.len(), 1, "only the final weights stay");

    // Stopped wherever it can be: between steps, after the last one, and in evaluations.
    for stop_at in (1..).step_by(3) {
        let folder = tempfile::tempdir().unwrap();
        let dir = RunDir::new(folder.path());
        let mut stopped = Watch {
            stop_at: Some(stop_at),
            ..Watch::default()
        };
        match train::run(&spec, &launch(data.path()), &dir, &mut stopped) {
            Err(TrainError::Stopped { step }) => {
                let mut watch = Watch::default();
                train::run(&spec, &launch(data.path()), &dir, &mut watch).unwrap();
                let resumed = watch.events.iter().find_map(|event| match event {
                    EventKind::Started { resumed_step, .. } => Some(*resumed_step),
                    _ => None,
                });
                assert_eq!(resumed, Some(step), "poll {stop_at}");
                stopped.events.extend(watch.events);
                assert_eq!(
                    once(&stopped.events),
                    timeless(&undisturbed.events),
                    "poll {stop_at}"
                );
                let same = read(folder.path(), "checkpoints/final.safetensors") == weights
                    && read(folder.path(), "predictions.bin") == predicted;
                assert!(same, "poll {stop_at}");
            }
            result => {
                result.unwrap();
                assert!(stop_at > 10, "it was asked {stop_at} times");
                break;
            }
        }
    }
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

/// Set, resolution and metrics of the evaluations of the final weights.
fn last_evaluations(watch: &Watch) -> Vec<(String, u32, BTreeMap<String, f64>)> {
    watch
        .events
        .iter()
        .filter_map(|event| match event {
            EventKind::Evaluated {
                set,
                resolution,
                metrics,
                last: true,
                ..
            } => Some((set.clone(), *resolution, metrics.clone())),
            _ => None,
        })
        .collect()
}

#[test]
fn further_resolutions_are_evaluations_of_their_own() {
    let data = tempfile::tempdir().unwrap();
    let dataset = small_data(data.path(), 24);
    // The raw weights and their average: what is evaluated is what is kept.
    for ema in [false, true] {
        let yaml = format!(
            "{EXPERIMENT}  ema.eval: {ema}
  train.resolution: 32
stages:
  train: {{set: {{train.epochs: 2, eval.resolutions: [24, 32, 48]}}}}
  alone: {{from: train, task: evaluate}}
  at-24: {{from: train, task: evaluate, set: {{eval.resolution: 24}}}}
  at-48: {{from: train, task: evaluate, set: {{eval.resolution: 48}}}}
  again: {{from: train, task: evaluate, set: {{eval.resolutions: [24, 48]}}}}
"
        );
        let specs = stages(&yaml, &dataset, data.path());
        let mut watch = Watch::default();
        let trained = train(&specs[0], &launch(data.path()), &mut watch);
        let told = last_evaluations(&watch);
        let order: Vec<(&str, u32)> = told.iter().map(|(set, r, _)| (&**set, *r)).collect();
        assert_eq!(
            order,
            [("val", 24), ("val", 48), ("val", 32)],
            "the headline is last"
        );
        let count = watch.events.iter();
        let count = count.filter(|event| matches!(event, EventKind::Evaluated { .. }));
        assert_eq!(count.count(), 3, "every epoch's own has no further ones");
        let child = Launch {
            parent_dir: Some(trained.path().to_owned()),
            ..launch(data.path())
        };
        for (spec, name, resolution) in [
            (&specs[1], "predictions.bin", 32),
            (&specs[2], "predictions-val-24.bin", 24),
            (&specs[3], "predictions-val-48.bin", 48),
        ] {
            let mut watch = Watch::default();
            let alone = train(spec, &child, &mut watch);
            assert!(
                read(alone.path(), "predictions.bin") == read(trained.path(), name),
                "{name}"
            );
            let alone = last_evaluations(&watch);
            assert_eq!(alone.len(), 1);
            assert!(
                alone[0].1 == resolution && told.contains(&alone[0]),
                "{alone:?}"
            );
        }
        let again = train(&specs[4], &child, &mut Watch::default());
        for name in [
            "predictions.bin",
            "predictions-val-24.bin",
            "predictions-val-48.bin",
        ] {
            assert!(
                read(again.path(), name) == read(trained.path(), name),
                "{name}"
            );
        }
    }
}

#[test]
fn further_sets_have_their_own_labels() {
    let data = tempfile::tempdir().unwrap();
    let dataset = small_data(data.path(), 12);
    // The pictures of val, once as they are and once with labels from a file.
    let (plain, real) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut labels = BTreeMap::new();
    for (index, sample) in dataset.samples(Split::Val).iter().enumerate() {
        for root in [plain.path(), real.path()] {
            let to = root.join(sample.path.strip_prefix("val/").unwrap());
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(data.path().join(&sample.path), to).unwrap();
        }
        let own = sample.label;
        labels.insert(
            sample.path.strip_prefix("val/").unwrap().to_owned(),
            match index % 4 {
                0 => vec![],
                1 => vec![own],
                _ => vec![own, (own + 1) % 9, (own + 2) % 9],
            },
        );
    }
    let file = real.path().join("real.json");
    std::fs::write(file, serde_json::to_vec(&labels).unwrap()).unwrap();
    let roots = BTreeMap::from([
        ("plain".to_owned(), Some(plain.path().to_owned())),
        ("real".to_owned(), Some(real.path().to_owned())),
    ]);
    let yaml = EXPERIMENT.replace("epochs: 3", "epochs: 1") + "  eval.sets: [real, plain]\n";
    let spec = stages_with(&yaml, &dataset, data.path(), &roots).remove(0);
    let launch = Launch {
        evaluation_roots: roots.clone(),
        ..launch(data.path())
    };
    let mut watch = Watch::default();
    let trained = train(&spec, &launch, &mut watch);
    let told = last_evaluations(&watch);
    let [(a, 48, on_plain), (b, 48, on_real), (c, 48, on_val)] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!((&**a, &**b, &**c), ("plain", "real", "val"));
    assert_eq!(on_plain, on_val);
    let bytes = |name: &str| read(trained.path(), name);
    assert!(bytes("predictions-plain-48.bin") == bytes("predictions.bin"));

    // Reckoned again from the predictions of the same pictures.
    let own = predictions::read(&trained.path().join("predictions.bin")).unwrap();
    let pairs = own.iter().zip(dataset.samples(Split::Val));
    let with_labels: Vec<_> = pairs
        .map(|(p, sample)| (p, &labels[sample.path.strip_prefix("val/").unwrap()]))
        .filter(|(_, labels)| !labels.is_empty())
        .collect();
    let right = with_labels
        .iter()
        .filter(|(p, labels)| labels.contains(&p.class));
    let top1 = right.count() as f64 * 100.0 / with_labels.len() as f64;
    assert_eq!(*on_real, BTreeMap::from([("top1".to_owned(), top1)]));
    assert!(top1 > on_val["top1"]);
    let theirs = predictions::read(&trained.path().join("predictions-real-48.bin")).unwrap();
    assert_eq!(theirs.len(), with_labels.len());
    for (theirs, (own, labels)) in theirs.iter().zip(with_labels) {
        assert_eq!(theirs.class, own.class);
        assert_eq!(theirs.rank == 0, labels.contains(&own.class));
        assert_eq!(theirs.loss.is_nan(), labels.len() > 1);
    }

    // Whatever is wrong with a set is said before anything is trained.
    let fails = |launch: &Launch| {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::default();
        let result = train::run(&spec, launch, &RunDir::new(folder.path()), &mut watch);
        assert!(watch.events.is_empty(), "{:?}", watch.events);
        result.unwrap_err()
    };
    let mut other = launch.clone();
    other.evaluation_roots.remove("real");
    let error = fails(&other);
    assert!(
        matches!(&error, TrainError::Config(message) if message.contains("`real`")),
        "{error}"
    );
    let gone = data.path().join("gone");
    other.evaluation_roots.insert("real".to_owned(), Some(gone));
    let error = fails(&other);
    assert!(
        matches!(error, TrainError::Data(DataError::NoFolder(_))),
        "{error}"
    );
    std::fs::create_dir(plain.path().join("unheard-of")).unwrap();
    let error = fails(&launch).to_string();
    assert!(
        error.contains("`plain` has the class `unheard-of`"),
        "{error}"
    );
    std::fs::remove_dir(plain.path().join("unheard-of")).unwrap();
    let first = &dataset.samples(Split::Val)[0].path;
    std::fs::remove_file(plain.path().join(first.strip_prefix("val/").unwrap())).unwrap();
    let error = fails(&launch);
    assert!(
        matches!(&error, TrainError::EvaluationSetChanged { name, .. } if name == "plain"),
        "{error}"
    );
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
    let yaml = format!(
        "{EXPERIMENT}  optimizer: {{name: sgd, lr: 1e6, max_grad_norm: null}}\n  schedule.warmup_epochs: 0\n"
    );
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

/// A launch from which a checkpoint is written whenever there may be one.
fn eager(data: &Path) -> Launch {
    Launch {
        checkpoint_seconds: 0.0,
        ..launch(data)
    }
}

#[test]
fn smaller_parts_change_rounding_only_and_are_told() {
    let data = tempfile::tempdir().unwrap();
    let dataset = small_data(data.path(), 8);
    let spec = stages(EXPERIMENT, &dataset, data.path()).remove(0);
    let mut whole = Watch::default();
    let reference = train(&spec, &launch(data.path()), &mut whole);
    let parts = |accumulation| Launch {
        accumulation,
        ..launch(data.path())
    };
    let mut cut = Watch::default();
    let other = train(&spec, &parts(Some(4)), &mut cut);
    let deviations = |watch: &Watch| -> Vec<EventKind> {
        let is_one = |event: &&EventKind| matches!(event, EventKind::Deviated { .. });
        watch.events.iter().filter(is_one).cloned().collect()
    };
    assert_eq!(deviations(&whole), []);
    assert_eq!(
        deviations(&cut),
        [EventKind::Deviated {
            what: "train.accumulation".into(),
            planned: "1".into(),
            actual: "4".into(),
        }]
    );
    // The same draws: the losses of all steps agree to float precision, and so do the weights.
    let losses = |watch: &Watch| -> Vec<f64> {
        let loss = |event: &EventKind| match event {
            EventKind::Step { loss, .. } => Some(*loss),
            _ => None,
        };
        watch.events.iter().filter_map(loss).collect()
    };
    let (one, four) = (losses(&whole), losses(&cut));
    assert_eq!(one.len(), four.len());
    assert!(one.len() >= 12);
    for (step, (a, b)) in one.iter().zip(&four).enumerate() {
        assert!((a - b).abs() < 2e-4 * a.abs(), "step {step}: {a} and {b}");
    }
    let weights = |folder: &Path| {
        let path = folder.join("checkpoints/final.safetensors");
        ablate::weights::read(&path).unwrap().parameters
    };
    let (one, four) = (weights(reference.path()), weights(other.path()));
    let mut differing = 0;
    for (a, b) in one.iter().zip(&four) {
        assert_eq!(a.name, b.name);
        for (x, y) in a.values.iter().zip(&b.values) {
            assert!((x - y).abs() < 2e-3, "{}: {x} and {y}", a.name);
            differing += usize::from(x != y);
        }
    }
    assert!(differing > 0, "equal to the bit is more than is promised");

    let wrong = train::run(
        &spec,
        &parts(Some(5)),
        &RunDir::new(tempfile::tempdir().unwrap().path()),
        &mut Watch::default(),
    );
    assert!(matches!(wrong, Err(TrainError::Config(_))), "{wrong:?}");
}

#[test]
fn checkpoints_by_epoch_last_k_and_best() {
    let data = tempfile::tempdir().unwrap();
    let dataset = small_data(data.path(), 8);
    let yaml = EXPERIMENT
        .replace("epochs: 3", "epochs: 5")
        .replace("eval.every: 2", "eval.every: 1");
    let spec = stages(&yaml, &dataset, data.path()).remove(0);
    let launch = Launch {
        checkpoint_epochs: Some(2),
        keep_best: true,
        ..launch(data.path())
    };
    let mut watch = Watch::default();
    let calm = train(&spec, &launch, &mut watch);
    let per_epoch = dataset.shape().train_images as u64 / 16;
    let written: Vec<u64> = watch
        .events
        .iter()
        .filter_map(|event| match event {
            EventKind::Checkpointed { step, .. } => Some(*step),
            _ => None,
        })
        .collect();
    assert_eq!(written, [2 * per_epoch, 4 * per_epoch]);
    let mut best: Option<(f64, u64)> = None;
    for event in &watch.events {
        if let EventKind::Evaluated { metrics, step, .. } = event
            && best.is_none_or(|(top1, _)| metrics["top1"] > top1)
        {
            best = Some((metrics["top1"], *step));
        }
    }
    let (_, step) = best.unwrap();
    let bytes = read(calm.path(), "checkpoints/best.safetensors");
    let header = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]).into_owned();
    assert!(
        header.contains(&format!("\\\"step\\\":\\\"{step}\\\"")),
        "{header}"
    );

    // Stopped anywhere, with more checkpoints kept: the same best and final weights in the end.
    for (stop, keep) in [(3, 1), (per_epoch as usize + 1, 3)] {
        let folder = tempfile::tempdir().unwrap();
        let dir = RunDir::new(folder.path());
        let mut watch = Watch {
            stop_after: Some(stop),
            ..Watch::default()
        };
        let first = Launch {
            keep_best: true,
            keep_checkpoints: keep,
            ..eager(data.path())
        };
        let stopped = train::run(&spec, &first, &dir, &mut watch);
        assert!(
            matches!(stopped, Err(TrainError::Stopped { .. })),
            "{stopped:?}"
        );
        let kept = std::fs::read_dir(dir.checkpoints())
            .unwrap()
            .filter(|entry| {
                let name = entry.as_ref().unwrap().file_name();
                name.to_string_lossy().starts_with("step-")
            })
            .count();
        assert_eq!(kept, keep);
        train::run(&spec, &launch, &dir, &mut Watch::default()).unwrap();
        for name in [
            "checkpoints/best.safetensors",
            "checkpoints/final.safetensors",
        ] {
            assert!(
                read(folder.path(), name) == read(calm.path(), name),
                "{name}"
            );
        }
    }
}
