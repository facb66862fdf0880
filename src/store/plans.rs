//! Storing a plan: experiment, runs, stages and how they hang together.

use crate::plan::model::{AxisInfo, ExperimentInfo, Plan, PlannedRun, PlannedStage, Variant};
use crate::rundir::log::unix_time;
use crate::rundir::stage::StageSpec;
use crate::store::open::{Durability, Store};
use crate::store::{StoreError, bulk};
use rayon::prelude::*;
use sqlx::{Row, SqliteConnection};
use std::collections::HashMap;

/// Where a plan comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// Program and version (`ablate 0.1.0`).
    pub program: String,
    /// Git revision that the program was built from.
    pub git_revision: Option<String>,
    pub host: String,
    /// The command as typed.
    pub command_line: String,
}

/// Stages whose configurations are in memory at a time.
const CONFIGS: usize = 1024;

/// A plan's parts, without its way to rebuild configurations.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'p> {
    pub experiment: &'p ExperimentInfo,
    pub axes: &'p [AxisInfo],
    pub variants: &'p [Variant],
    pub runs: &'p [PlannedRun],
    pub stages: &'p [PlannedStage],
}

/// A stage that the store doesn't know yet.
struct NewStage {
    id: i64,
    fingerprint: String,
    parent: Option<i64>,
    cost: crate::plan::model::Cost,
    task: &'static str,
    seed: i64,
    data_name: String,
    data_hash: String,
    config: String,
}

struct RunEntry {
    name: String,
    variant: u32,
    seed: i64,
    result: i64,
}

/// One stage of a run: (run, position, stage).
type Link = (i64, i64, i64);

impl Store {
    /// Stores `plan` as the current state of its experiment, in one transaction. Runs that are no longer
    /// in the plan stay, not current; stages that are known keep their state. Storing a plan that has
    /// not changed only notes the time.
    pub async fn save_plan(&self, plan: &Plan, provenance: &Provenance) -> Result<(), StoreError> {
        let parts = Parts {
            experiment: &plan.experiment,
            axes: &plan.axes,
            variants: &plan.variants,
            runs: &plan.runs,
            stages: &plan.stages,
        };
        self.save_parts(parts, |index| plan.stage_spec(index), provenance)
            .await
    }

    /// [`Store::save_plan`], with the stages' configurations from `stage_spec`.
    pub(crate) async fn save_parts(
        &self,
        plan: Parts<'_>,
        stage_spec: impl Fn(u32) -> StageSpec + Sync,
        provenance: &Provenance,
    ) -> Result<(), StoreError> {
        let now = unix_time();
        let digest = digest(plan, provenance);
        let mut writer = self.writer(Durability::Full).await?;
        let mut transaction = self.begin(&mut writer).await?;
        let known = sqlx::query("SELECT id, digest FROM experiments WHERE name = ?")
            .bind(&plan.experiment.name)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(self.sql())?;
        let experiment = match known {
            Some(row) => {
                let id: i64 = row.get(0);
                if row.get::<&str, _>(1) == digest {
                    sqlx::query("UPDATE experiments SET updated = ? WHERE id = ?")
                        .bind(now)
                        .bind(id)
                        .execute(&mut *transaction)
                        .await
                        .map_err(self.sql())?;
                    return self.commit(transaction).await;
                }
                id
            }
            None => {
                self.next_id(
                    &mut transaction,
                    "SELECT COALESCE(MAX(id), 0) + 1 FROM experiments",
                )
                .await?
            }
        };
        let saved = self
            .save_experiment(
                &mut transaction,
                plan,
                provenance,
                (experiment, &digest, now),
            )
            .await?;
        let (stages, new) = self
            .save_stages(&mut transaction, plan, stage_spec, now)
            .await?;
        self.save_runs(&mut transaction, plan, (experiment, saved), &stages)
            .await?;
        self.record_plan(&mut transaction, (experiment, saved), &new)
            .await?;
        self.commit(transaction).await
    }

    async fn next_id(
        &self,
        connection: &mut SqliteConnection,
        sql: &'static str,
    ) -> Result<i64, StoreError> {
        sqlx::query_scalar(sql)
            .fetch_one(connection)
            .await
            .map_err(self.sql())
    }

    /// Writes the rows of `experiments` and `plans`; returns the plan's id.
    async fn save_experiment(
        &self,
        connection: &mut SqliteConnection,
        plan: Parts<'_>,
        provenance: &Provenance,
        (id, digest, now): (i64, &str, f64),
    ) -> Result<i64, StoreError> {
        let info = plan.experiment;
        let saved: i64 = sqlx::query_scalar(
            "INSERT INTO plans (experiment, saved, profile, path, source, program, git_revision, host, command_line)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        )
        .bind(id)
        .bind(now)
        .bind(&info.profile)
        .bind(&info.path)
        .bind(&info.source)
        .bind(&provenance.program)
        .bind(&provenance.git_revision)
        .bind(&provenance.host)
        .bind(&provenance.command_line)
        .fetch_one(&mut *connection)
        .await
        .map_err(self.sql())?;
        sqlx::query(
            "INSERT INTO experiments
                 (id, name, title, claim, profile, axes, stage_names, baseline, report, digest, plan, created, updated)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET
                 title = excluded.title, claim = excluded.claim, profile = excluded.profile, axes = excluded.axes,
                 stage_names = excluded.stage_names, baseline = excluded.baseline, report = excluded.report,
                 digest = excluded.digest, plan = excluded.plan, updated = excluded.updated",
        )
        .bind(id)
        .bind(&info.name)
        .bind(&info.title)
        .bind(&info.claim)
        .bind(&info.profile)
        .bind(json(plan.axes))
        .bind(json(&info.stage_names))
        .bind(info.baseline.as_ref().map(json))
        .bind(json(&info.report))
        .bind(digest)
        .bind(saved)
        .bind(now)
        .bind(now)
        .execute(&mut *connection)
        .await
        .map_err(self.sql())?;
        Ok(saved)
    }

    /// Makes sure that every stage has a row; returns their ids in the plan's order, and those that are new.
    async fn save_stages(
        &self,
        connection: &mut SqliteConnection,
        plan: Parts<'_>,
        stage_spec: impl Fn(u32) -> StageSpec + Sync,
        now: f64,
    ) -> Result<(Vec<i64>, Vec<i64>), StoreError> {
        let fingerprints: Vec<String> = plan
            .stages
            .iter()
            .map(|stage| stage.fingerprint.to_string())
            .collect();
        let known = self.stage_ids(connection, &fingerprints).await?;
        let mut next = self
            .next_id(connection, "SELECT COALESCE(MAX(id), 0) + 1 FROM stages")
            .await?;
        let mut new = Vec::new();
        let mut ids = Vec::with_capacity(plan.stages.len());
        let mut fresh: HashMap<&str, i64> = HashMap::new();
        for (index, fingerprint) in fingerprints.iter().enumerate() {
            let id = known
                .get(fingerprint)
                .or_else(|| fresh.get(fingerprint.as_str()))
                .copied();
            ids.push(id.unwrap_or_else(|| {
                fresh.insert(fingerprint, next);
                new.push(index);
                next += 1;
                next - 1
            }));
        }
        for chunk in new.chunks(CONFIGS) {
            let rows: Vec<NewStage> = chunk
                .par_iter()
                .map(|&index| {
                    let spec = stage_spec(index as u32);
                    let stage = &plan.stages[index];
                    NewStage {
                        id: ids[index],
                        fingerprint: fingerprints[index].clone(),
                        parent: stage.parent.map(|parent| ids[parent as usize]),
                        cost: stage.cost,
                        task: spec.task.name(),
                        seed: spec.seed as i64,
                        data_name: match spec.command {
                            None => spec.recipe.data.name.clone(),
                            Some(_) => String::new(),
                        },
                        data_hash: spec.data_hash.clone(),
                        config: json(&spec),
                    }
                })
                .collect();
            let head = "INSERT INTO stages
                (id, fingerprint, task, parent, seed, data_name, data_hash, flops, parameters, steps, disk_bytes, created)";
            bulk::insert(
                connection,
                &self.path,
                (head, 12, ""),
                &rows,
                |query, row| {
                    query
                        .bind(row.id)
                        .bind(&row.fingerprint)
                        .bind(row.task)
                        .bind(row.parent)
                        .bind(row.seed)
                        .bind(&row.data_name)
                        .bind(&row.data_hash)
                        .bind(row.cost.flops)
                        .bind(row.cost.parameters as i64)
                        .bind(row.cost.steps as i64)
                        .bind(row.cost.disk_bytes as i64)
                        .bind(now)
                },
            )
            .await?;
            let head = "INSERT INTO stage_configs (stage, config)";
            bulk::insert(
                connection,
                &self.path,
                (head, 2, ""),
                &rows,
                |query, row| query.bind(row.id).bind(&row.config),
            )
            .await?;
        }
        let new = new.into_iter().map(|index| ids[index]).collect();
        Ok((ids, new))
    }

    /// Ids of those of `fingerprints` that are stored.
    pub(super) async fn stage_ids(
        &self,
        connection: &mut SqliteConnection,
        fingerprints: &[String],
    ) -> Result<HashMap<String, i64>, StoreError> {
        let rows = sqlx::query("SELECT s.fingerprint, s.id FROM json_each(?) j JOIN stages s ON s.fingerprint = j.value")
            .bind(json(fingerprints))
            .fetch_all(connection)
            .await
            .map_err(self.sql())?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Makes the plan's runs the experiment's current ones.
    async fn save_runs(
        &self,
        connection: &mut SqliteConnection,
        plan: Parts<'_>,
        (experiment, saved): (i64, i64),
        stages: &[i64],
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE runs SET current = 0 WHERE experiment = ? AND current = 1")
            .bind(experiment)
            .execute(&mut *connection)
            .await
            .map_err(self.sql())?;
        let labels: Vec<String> = plan
            .variants
            .iter()
            .map(|variant| label_object(plan.axes, variant))
            .collect();
        let mut links: Vec<(usize, Link)> = Vec::new();
        let rows: Vec<RunEntry> = plan
            .runs
            .iter()
            .enumerate()
            .map(|(index, run)| {
                let mut ids = run.stages.iter().map(|&stage| stages[stage as usize]);
                links.extend(
                    ids.clone()
                        .enumerate()
                        .map(|(position, stage)| (index, (0, position as i64, stage))),
                );
                let variant = &plan.variants[run.variant as usize].name;
                RunEntry {
                    name: format!("{}/{variant}/s{}", plan.experiment.name, run.seed),
                    variant: run.variant,
                    seed: run.seed as i64,
                    result: ids.next_back().unwrap_or(0),
                }
            })
            .collect();
        let head = "INSERT INTO runs
            (experiment, name, variant, variant_index, labels, seed, result, plan, current)";
        let tail = "ON CONFLICT (experiment, variant, seed, result) DO UPDATE SET
            variant_index = excluded.variant_index, labels = excluded.labels, plan = excluded.plan, current = 1";
        bulk::insert(
            connection,
            &self.path,
            (head, 9, tail),
            &rows,
            |query, run| {
                query
                    .bind(experiment)
                    .bind(&run.name)
                    .bind(&plan.variants[run.variant as usize].name)
                    .bind(run.variant)
                    .bind(&labels[run.variant as usize])
                    .bind(run.seed)
                    .bind(run.result)
                    .bind(saved)
                    .bind(1)
            },
        )
        .await?;
        let ids: HashMap<(u32, i64), i64> = sqlx::query(
            "SELECT variant_index, seed, id FROM runs WHERE experiment = ? AND current = 1",
        )
        .bind(experiment)
        .fetch_all(&mut *connection)
        .await
        .map_err(self.sql())?
        .iter()
        .map(|row| ((row.get(0), row.get(1)), row.get(2)))
        .collect();
        for (index, link) in &mut links {
            let run = &rows[*index];
            link.0 = ids.get(&(run.variant, run.seed)).copied().unwrap_or(0);
        }
        sqlx::query("DELETE FROM run_stages WHERE run IN (SELECT id FROM runs WHERE experiment = ? AND current = 1)")
            .bind(experiment)
            .execute(&mut *connection)
            .await
            .map_err(self.sql())?;
        let head = "INSERT INTO run_stages (run, position, name, stage)";
        let names = &plan.experiment.stage_names;
        bulk::insert(
            connection,
            &self.path,
            (head, 4, ""),
            &links,
            |query, (_, (run, position, stage))| {
                let name = names.get(*position as usize).map_or("", String::as_str);
                query.bind(run).bind(position).bind(name).bind(stage)
            },
        )
        .await?;
        self.refresh_experiment(connection, experiment).await
    }
}

/// `{axis: label}` in the axes' order.
fn label_object(axes: &[AxisInfo], variant: &Variant) -> String {
    let labels: serde_json::Map<String, serde_json::Value> = axes
        .iter()
        .zip(&variant.labels)
        .map(|(axis, &label)| {
            let label = axis.labels.get(label as usize).cloned().unwrap_or_default();
            (axis.name.clone(), label.into())
        })
        .collect();
    json(&labels)
}

/// Identity of everything that [`Store::save_plan`] writes.
fn digest(plan: Parts<'_>, provenance: &Provenance) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut field = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    field(json(plan.experiment).as_bytes());
    field(json(plan.axes).as_bytes());
    for text in [
        &provenance.program,
        &provenance.host,
        &provenance.command_line,
    ] {
        field(text.as_bytes());
    }
    field(json(&provenance.git_revision).as_bytes());
    for variant in plan.variants {
        field(variant.name.as_bytes());
        field(
            &variant
                .labels
                .iter()
                .flat_map(|label| label.to_le_bytes())
                .collect::<Vec<_>>(),
        );
    }
    for run in plan.runs {
        field(&run.seed.to_le_bytes());
        field(&run.variant.to_le_bytes());
        for &stage in &run.stages {
            field(&plan.stages[stage as usize].fingerprint.0);
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// JSON of plain data.
pub(super) fn json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data with string keys")
}
