use super::plans::Parts;
use super::rows::Status;
use super::*;
use crate::plan::model::{
    AxisInfo, Cost, ExperimentInfo, Fingerprint, PlannedRun, PlannedStage, ReportSpec, Variant,
};
use crate::rundir::event::{EVENT_VERSION, Event, EventKind, FailureClass};
use crate::rundir::stage::{DataShape, StageSpec, Task};
use crate::spec::recipe::*;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

mod durability;
mod figures;
mod ingest;
mod leases;
mod opening;
mod plans;
mod query;
mod released;
mod upkeep;

impl Store {
    /// Lets the database have no more than so many pages: as a full disk does it, it can't grow any more.
    pub(crate) async fn limit_pages(&self, pages: u32) {
        let writer = self.writer(open::Durability::Full);
        let mut writer = writer.await.unwrap();
        let sql = format!("PRAGMA max_page_count = {pages}");
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .execute(&mut writer.connection)
            .await
            .unwrap();
    }
}

/// An experiment with two axes and two stages: the first stage is shared by all variants.
pub(crate) struct Sample {
    experiment: ExperimentInfo,
    axes: Vec<AxisInfo>,
    variants: Vec<Variant>,
    runs: Vec<PlannedRun>,
    stages: Vec<PlannedStage>,
}

impl Sample {
    pub(crate) fn new(name: &str, variants: u32, seeds: u64) -> Sample {
        let mut sample = Sample {
            experiment: ExperimentInfo {
                name: name.to_owned(),
                title: format!("Title of {name}"),
                claim: "a claim".to_owned(),
                profile: "quick".to_owned(),
                source: format!("name: {name}\n"),
                path: format!("experiments/{name}.yaml"),
                stage_names: vec!["pretrain".to_owned(), "finetune".to_owned()],
                baseline: None,
                report: ReportSpec::default(),
            },
            axes: vec![
                AxisInfo {
                    name: "loss.name".to_owned(),
                    labels: (0..variants).map(|index| format!("l{index}")).collect(),
                },
                AxisInfo {
                    name: "model".to_owned(),
                    labels: vec!["ViT \"S\"".to_owned()],
                },
            ],
            variants: (0..variants)
                .map(|index| Variant {
                    labels: vec![index, 0],
                    name: format!("l{index}"),
                })
                .collect(),
            runs: Vec::new(),
            stages: Vec::new(),
        };
        for seed in 0..seeds {
            let shared = sample.stages.len() as u32;
            sample.stages.push(stage(0, (name, 0, seed), None));
            for variant in 0..variants {
                sample.runs.push(PlannedRun {
                    variant,
                    seed,
                    stages: vec![shared, sample.stages.len() as u32],
                });
                sample
                    .stages
                    .push(stage(1, (name, variant, seed), Some(shared)));
            }
        }
        sample
    }

    fn parts(&self) -> Parts<'_> {
        Parts {
            experiment: &self.experiment,
            axes: &self.axes,
            variants: &self.variants,
            runs: &self.runs,
            stages: &self.stages,
        }
    }

    fn spec(&self, index: u32) -> StageSpec {
        let stage = &self.stages[index as usize];
        StageSpec {
            version: 1,
            trainer_revision: 1,
            fingerprint: stage.fingerprint.to_string(),
            task: Task::Train,
            recipe: recipe(),
            seed: 3,
            data_hash: "d".repeat(32),
            data_shape: DataShape {
                classes: 9,
                train_images: 90,
                val_images: 9,
                kept_bytes: 0,
            },
            evaluation_sets: Vec::new(),
            parent: stage.parent.map(|parent| self.fingerprint(parent)),
            init_weights: None,
            command: None,
        }
    }

    pub(crate) fn fingerprint(&self, index: u32) -> String {
        self.stages[index as usize].fingerprint.to_string()
    }

    pub(crate) async fn save(&self, store: &Store) {
        store
            .save_parts(
                self.parts(),
                |index| self.spec(index),
                &provenance("ablate run x.yaml"),
            )
            .await
            .unwrap();
    }
}

fn stage(name: u32, key: (&str, u32, u64), parent: Option<u32>) -> PlannedStage {
    let hash = blake3::hash(format!("{name} {key:?}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    PlannedStage {
        name,
        fingerprint: Fingerprint(bytes),
        parent,
        cost: Cost {
            flops: 1e12,
            parameters: 1000,
            steps: 100,
            disk_bytes: 4000,
            memory_bytes: 0,
        },
    }
}

fn provenance(command: &str) -> Provenance {
    Provenance {
        program: "ablate 0.1.0".to_owned(),
        git_revision: Some("0123456789ab".to_owned()),
        host: "bench".to_owned(),
        command_line: command.to_owned(),
    }
}

fn recipe() -> Recipe {
    Recipe {
        model: ModelConfig {
            patch_size: 8,
            embed_dim: 64,
            depth: 4,
            num_heads: 2,
            mlp_ratio: 4.0,
            parallel_branches: 1,
            layer_scale: Some(1e-4),
            drop_path: 0.0,
            drop_path_rule: DropPathRule::Constant,
            pos_embed_class: false,
        },
        data: DataConfig {
            name: "bluemarble-climate".to_owned(),
            root: None,
        },
        train: TrainConfig {
            resolution: 48,
            epochs: 10,
            batch_size: 64,
            accumulation: 1,
            repeated_augmentation: 1,
            gradient_checkpointing: false,
        },
        optimizer: OptimizerConfig {
            name: OptimizerName::Lamb,
            lr: 3e-3,
            weight_decay: 0.02,
            betas: [0.9, 0.999],
            eps: 1e-8,
            momentum: 0.9,
            nesterov: false,
            max_grad_norm: Some(1.0),
            always_adapt: false,
            trust_clip: false,
        },
        schedule: ScheduleConfig {
            name: ScheduleName::Cosine,
            warmup_epochs: 1,
            warmup_lr: 1e-6,
            min_lr: 1e-6,
        },
        loss: LossConfig {
            name: LossName::Bce,
            label_smoothing: 0.0,
        },
        mix: MixConfig {
            mixup_alpha: 0.8,
            cutmix_alpha: 1.0,
            prob: 1.0,
            switch_prob: 0.5,
            groups: 8,
        },
        augment: AugmentConfig {
            crop: CropName::Rrc,
            rrc_scale: [0.08, 1.0],
            rrc_ratio: [0.75, 4.0 / 3.0],
            src_padding: 4,
            hflip: 0.5,
            policy: "three_augment".to_owned(),
            three_augment_ops: vec![ThreeAugmentOp::Grayscale],
            color_jitter: 0.3,
            random_erasing: 0.0,
        },
        ema: EmaConfig {
            decay: None,
            eval: false,
        },
        eval: EvalConfig {
            resolution: 48,
            crop_ratio: 1.0,
            every: 1,
            resolutions: Vec::new(),
            sets: Vec::new(),
        },
    }
}

pub(crate) fn start() -> AttemptStart {
    AttemptStart {
        device: "cpu".to_owned(),
        host: "bench".to_owned(),
        pid: None,
        log: "attempt-1.log".to_owned(),
    }
}

pub(crate) fn end(status: Status) -> AttemptEnd {
    AttemptEnd {
        status,
        failure: (status == Status::Failed).then_some(FailureClass::Diverged),
        message: (status == Status::Failed).then(|| "the loss is NaN".to_owned()),
        exit_code: Some(if status == Status::Done { 0 } else { 73 }),
        signal: None,
        energy_joules: None,
    }
}

fn event(seq: u64, attempt: u32, kind: EventKind) -> Event {
    Event {
        v: EVENT_VERSION,
        seq,
        time: 1000.0 + seq as f64,
        attempt,
        kind,
    }
}

fn started(resumed_step: u64) -> EventKind {
    EventKind::Started {
        host: "bench".to_owned(),
        pid: 77,
        device: "cpu".to_owned(),
        program: "ablate 0.1.0 (0123456789ab)".to_owned(),
        resumed_step,
        total_steps: 100,
    }
}

fn step(step: u64, loss: f64) -> EventKind {
    EventKind::Step {
        step,
        epoch: (step / 10) as u32,
        loss,
        lr: 1e-3,
        grad_norm: 1.0,
        images_per_second: 100.0,
    }
}

fn epoch(epoch: u32, train_loss: f64) -> EventKind {
    EventKind::Epoch {
        epoch,
        step: u64::from(epoch + 1) * 10,
        train_loss,
        lr: 1e-3,
        seconds: 2.0,
    }
}

fn evaluated(epoch: u32, top1: f64, last: bool) -> EventKind {
    EventKind::Evaluated {
        epoch,
        step: u64::from(epoch + 1) * 10,
        set: "val".to_owned(),
        resolution: 48,
        metrics: BTreeMap::from([("top1".to_owned(), top1), ("loss".to_owned(), 1.5)]),
        last,
    }
}

/// The events of a stage that goes well.
fn history(top1: f64) -> Vec<Event> {
    [
        started(0),
        step(3, 2.0),
        epoch(0, 1.9),
        evaluated(0, top1 - 1.0, false),
        EventKind::Checkpointed {
            step: 10,
            file: "step-10".to_owned(),
        },
        step(13, 1.8),
        epoch(1, 1.7),
        evaluated(1, top1, true),
        EventKind::Warning {
            message: "slow disk".to_owned(),
        },
        EventKind::Resources {
            peak_rss_bytes: 5_000_000_000,
            cpu_seconds: 4.0,
            wall_seconds: 4.5,
            images: 180,
        },
        EventKind::Finished { step: 20 },
    ]
    .into_iter()
    .zip(1..)
    .map(|(kind, seq)| event(seq, 1, kind))
    .collect()
}

/// Runs stage `index` to its end.
pub(crate) async fn finish(store: &Store, sample: &Sample, index: u32, top1: f64) {
    let fingerprint = sample.fingerprint(index);
    let attempt = store.begin_attempt(&fingerprint, &start()).await.unwrap();
    store
        .record_events(&fingerprint, &history(top1))
        .await
        .unwrap();
    store
        .end_attempt(&fingerprint, attempt, &end(Status::Done))
        .await
        .unwrap();
}

async fn run_statuses(store: &Store, experiment: &str) -> HashMap<String, Status> {
    let runs = store.runs(Some(experiment)).await.unwrap();
    runs.into_iter().map(|run| (run.id, run.status)).collect()
}

/// One number out of the database.
async fn number(store: &Store, sql: &str) -> i64 {
    match store.query_all(sql).await.unwrap().rows[0][0] {
        Cell::Integer(number) => number,
        ref other => panic!("{other:?}"),
    }
}

async fn open(dir: &Path) -> Store {
    Store::open(dir).await.unwrap()
}
