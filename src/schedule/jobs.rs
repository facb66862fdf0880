//! Jobs: the stages of one or more plans, each once, with what earlier executions made of them.

use crate::plan::model::{Plan, PlannedRun};
use crate::rundir::event::FailureClass;
use crate::rundir::layout::RunDir;
use crate::schedule::core::{Failure, Prior};
use crate::schedule::execution::Job;
use crate::schedule::policy::policy;
use crate::store::StageState;
use crate::store::rows::Status;
use std::collections::HashMap;
use std::path::Path;

/// The stages of several plans as jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct Jobs {
    pub jobs: Vec<Job>,
    /// Where each job's configuration is: plan, and stage in it.
    pub origins: Vec<(usize, u32)>,
}

impl Jobs {
    /// Gathers the stages of `plans`. A stage that several plans share is one job, named after the first
    /// run that needs it.
    pub fn of(plans: &[&Plan]) -> Jobs {
        let mut jobs: Vec<Job> = Vec::new();
        let mut origins = Vec::new();
        let mut known: HashMap<_, usize> = HashMap::new();
        for (plan_index, plan) in plans.iter().enumerate() {
            let runs = first_runs(plan);
            let priorities = plan.stage_priorities();
            let indices: Vec<usize> = plan
                .stages
                .iter()
                .enumerate()
                .map(|(index, stage)| {
                    *known.entry(stage.fingerprint).or_insert_with(|| {
                        let command = plan.command(index as u32);
                        let number = |number: u32| number.max(1) as usize;
                        jobs.push(Job {
                            fingerprint: stage.fingerprint.to_string(),
                            parent: None,
                            // Nobody knows what a program costs: all the same.
                            flops: stage.cost.flops.max(1.0),
                            priority: priorities[index],
                            devices: command.and_then(|command| command.gpus).map_or(1, number),
                            threads: command.and_then(|command| command.threads).map(number),
                            memory: stage.cost.memory_bytes,
                            label: label(plan, stage.name, runs[index], plans.len() > 1),
                            prior: Prior::Pending,
                            attempts: 0,
                        });
                        origins.push((plan_index, index as u32));
                        jobs.len() - 1
                    })
                })
                .collect();
            for (&job, &priority) in indices.iter().zip(&priorities) {
                jobs[job].priority = jobs[job].priority.max(priority);
            }
            for (index, stage) in plan.stages.iter().enumerate() {
                jobs[indices[index]].parent = stage.parent.map(|parent| indices[parent as usize]);
            }
        }
        Jobs { jobs, origins }
    }

    /// Fingerprints, in order.
    pub fn fingerprints(&self) -> Vec<String> {
        self.jobs
            .iter()
            .map(|job| job.fingerprint.clone())
            .collect()
    }

    /// Notes what the store at `dir` knows of the jobs. A failure is tried again if the circumstances
    /// were to blame, or if `retry_failed` says so. What is done is believed, unless a job that is to
    /// be run needs weights of it that are no longer there.
    pub fn apply(&mut self, states: &HashMap<String, StageState>, retry_failed: bool, dir: &Path) {
        for job in &mut self.jobs {
            let state = states.get(&job.fingerprint);
            job.prior = state.map_or(Prior::Pending, |state| prior(state, retry_failed));
            // One that another scheduler is at counts when it has ended: how it ended is news.
            job.attempts = state.map_or(0, |state| {
                state.attempts - u32::from(state.status == Status::Running && state.attempts > 0)
            });
        }
        let needed: Vec<usize> = self
            .jobs
            .iter()
            .filter(|job| job.prior == Prior::Pending)
            .filter_map(|job| job.parent)
            .collect();
        for mut job in needed {
            // Up the chain as long as one is missing.
            while self.jobs[job].prior == Prior::Done
                && RunDir::in_store(dir, &self.jobs[job].fingerprint)
                    .missing_output()
                    .is_some()
            {
                self.jobs[job].prior = Prior::Pending;
                match self.jobs[job].parent {
                    Some(parent) => job = parent,
                    None => break,
                }
            }
        }
    }

    /// Number of jobs that are done.
    pub fn done(&self) -> usize {
        self.jobs
            .iter()
            .filter(|job| job.prior == Prior::Done)
            .count()
    }
}

fn prior(state: &StageState, retry_failed: bool) -> Prior {
    match state.status {
        Status::Done => Prior::Done,
        Status::Pending | Status::Running => Prior::Pending,
        Status::Failed => {
            let class = state.failure.unwrap_or(FailureClass::Bug);
            if retry_failed || policy(class).transient {
                Prior::Pending
            } else {
                Prior::Failed(Failure {
                    class,
                    message: state.message.clone().unwrap_or_default(),
                })
            }
        }
    }
}

/// The first run that needs each stage.
fn first_runs(plan: &Plan) -> Vec<Option<&PlannedRun>> {
    let mut runs = vec![None; plan.stages.len()];
    for run in &plan.runs {
        for &stage in &run.stages {
            runs[stage as usize].get_or_insert(run);
        }
    }
    runs
}

/// `pretrain bce,ViT-S s0`, after the experiment's name where there are several.
fn label(plan: &Plan, stage: u32, run: Option<&PlannedRun>, with_experiment: bool) -> String {
    let mut words = Vec::new();
    if with_experiment {
        words.push(plan.experiment.name.clone());
    }
    words.extend(plan.experiment.stage_names.get(stage as usize).cloned());
    if let Some(run) = run {
        words.extend(
            plan.variants
                .get(run.variant as usize)
                .map(|variant| variant.name.clone()),
        );
        words.push(format!("s{}", run.seed));
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(parent: Option<usize>, name: &str) -> Job {
        Job {
            fingerprint: name.into(),
            parent,
            flops: 1.0,
            priority: 0,
            devices: 1,
            threads: None,
            memory: 0,
            label: name.into(),
            prior: Prior::Pending,
            attempts: 0,
        }
    }

    fn state(status: Status, failure: Option<FailureClass>) -> StageState {
        StageState {
            status,
            attempts: 1,
            failure,
            message: Some("why".into()),
            log: None,
        }
    }

    #[test]
    fn only_the_circumstances_are_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        for class in FailureClass::ALL {
            for retry_failed in [false, true] {
                let mut jobs = Jobs {
                    jobs: vec![job(None, "a")],
                    origins: vec![(0, 0)],
                };
                let states = HashMap::from([("a".to_owned(), state(Status::Failed, Some(class)))]);
                jobs.apply(&states, retry_failed, folder.path());
                let pending = jobs.jobs[0].prior == Prior::Pending;
                assert_eq!(
                    pending,
                    retry_failed || policy(class).transient,
                    "{class:?}"
                );
            }
        }
    }

    #[test]
    fn an_attempt_under_way_is_none_that_is_known() {
        let folder = tempfile::tempdir().unwrap();
        for (status, known) in [
            (Status::Running, 0),
            (Status::Pending, 1),
            (Status::Failed, 1),
            (Status::Done, 1),
        ] {
            let mut jobs = Jobs {
                jobs: vec![job(None, "a")],
                origins: vec![(0, 0)],
            };
            let states = HashMap::from([("a".to_owned(), state(status, None))]);
            jobs.apply(&states, false, folder.path());
            assert_eq!(jobs.jobs[0].attempts, known, "{status:?}");
        }
    }

    #[test]
    fn a_parent_without_weights_runs_again() {
        let folder = tempfile::tempdir().unwrap();
        let list = vec![
            job(None, "a"),
            job(Some(0), "b"),
            job(Some(1), "c"),
            job(None, "d"),
        ];
        let states: HashMap<_, _> = ["a", "b", "d"]
            .map(|name| (name.to_owned(), state(Status::Done, None)))
            .into();
        let mut jobs = Jobs {
            jobs: list,
            origins: vec![(0, 0); 4],
        };
        jobs.apply(&states, false, folder.path());
        assert_eq!(jobs.done(), 1, "d is believed: nothing needs its weights");
        let weights = RunDir::in_store(folder.path(), "b").weights();
        std::fs::create_dir_all(weights.parent().unwrap()).unwrap();
        std::fs::write(weights, "x").unwrap();
        jobs.apply(&states, false, folder.path());
        assert_eq!(jobs.done(), 3);
    }

    #[test]
    fn priorities_are_those_of_the_most_urgent_run() {
        use crate::plan::{DataDescription, plan};
        use crate::rundir::stage::DataShape;
        use crate::spec::experiment;
        let resolver = |_: &_| {
            Ok(DataDescription {
                hash: "0".repeat(32),
                shape: DataShape {
                    classes: 9,
                    train_images: 100,
                    val_images: 10,
                    kept_bytes: 0,
                },
            })
        };
        let plan = |name: &str, priority: &str| {
            let text = format!(
                "name: {name}\nrecipe: quick\nset: {{loss.label_smoothing: 0}}\nstages: {{first: {{}}, second: {{from: first, recipe: quick_finetune}}}}\n\
                 axes:\n  lr: {{path: optimizer.lr, stages: [second], values: [1e-3, 2e-3]}}\n  loss.name: [ce, bce]\n\
                 priority: {priority}\n"
            );
            let read = experiment::read("x.yaml", &text, None, &Default::default());
            plan(read.unwrap(), None, &resolver).unwrap()
        };
        let named = plan("a", "{lr: {2e-3: 5}, loss.name: {bce: 10, ce: -1}}");
        let jobs = Jobs::of(&[&named]);
        let of = |label: &str| {
            let job = jobs.jobs.iter().find(|job| job.label.contains(label));
            job.unwrap_or_else(|| panic!("{label}: {:?}", jobs.jobs))
                .priority
        };
        assert_eq!(of("second 1e-3,ce"), -1);
        assert_eq!(of("second 2e-3,ce"), 4);
        assert_eq!(of("second 2e-3,bce"), 15);
        assert_eq!(of("first 1e-3,ce"), 4, "shared by both rates");
        let whole = plan("b", "-7");
        assert_eq!(Jobs::of(&[&whole]).jobs[0].priority, -7);
        // No part of what a stage is: both experiments have the same stages.
        let both = Jobs::of(&[&whole, &named]);
        assert_eq!(both.fingerprints(), Jobs::of(&[&whole]).fingerprints());
        assert_eq!(both.jobs.iter().map(|job| job.priority).max(), Some(15));
        for wrong in [
            "1.5",
            "2000",
            "[1]",
            "{loss.name: {mse: 1}}",
            "{los: {ce: 1}}",
            "{loss.name: 3}",
        ] {
            let text =
                format!("recipe: quick\naxes: {{loss.name: [ce, bce]}}\npriority: {wrong}\n");
            let problems = experiment::read("x.yaml", &text, None, &Default::default());
            assert!(problems.is_err(), "{wrong}");
        }
    }

    #[test]
    fn stages_that_plans_share_are_one_job() {
        use crate::plan::{DataDescription, Request, plan_file};
        use crate::rundir::stage::DataShape;
        let resolver = |_: &_| {
            Ok(DataDescription {
                hash: "0".repeat(32),
                shape: DataShape {
                    classes: 9,
                    train_images: 100,
                    val_images: 10,
                    kept_bytes: 0,
                },
            })
        };
        let plan = |name: &str| plan_file(Path::new(name), &Request::default(), &resolver).unwrap();
        let (fixres, loss) = (plan("fixres"), plan("loss"));
        let alone = Jobs::of(&[&fixres]);
        assert_eq!(alone.jobs.len(), fixres.stages.len());
        for (job, stage) in alone.jobs.iter().zip(&fixres.stages) {
            assert_eq!(job.fingerprint, stage.fingerprint.to_string());
            assert_eq!(job.parent, stage.parent.map(|parent| parent as usize));
            assert!(!job.label.contains("fixres"), "{}", job.label);
        }
        assert!(alone.jobs.iter().any(|job| job.parent.is_some()));
        let twice = Jobs::of(&[&fixres, &loss, &fixres]);
        let different: std::collections::HashSet<_> = fixres
            .stages
            .iter()
            .chain(&loss.stages)
            .map(|stage| stage.fingerprint)
            .collect();
        assert_eq!(twice.jobs.len(), different.len());
        assert!(twice.origins.iter().all(|&(plan, _)| plan < 2));
        assert!(
            twice.jobs[0].label.starts_with("fixres "),
            "{}",
            twice.jobs[0].label
        );
        for (job, known) in twice.jobs.iter().zip(&alone.jobs) {
            assert_eq!(job.parent, known.parent);
        }
    }
}
