//! Why a stage could not be finished, each with its failure class.

use crate::data::DataError;
use crate::model::weights::WeightsError;
use crate::rundir::durable;
use crate::rundir::event::FailureClass;
use crate::rundir::log::LogError;
use crate::weights::WeightsFileError;

#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error("{0}")]
    Config(String),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(
        "the data set has changed since the stage was planned: its hash was {planned}, is {found}"
    )]
    DataChanged { planned: String, found: String },
    #[error(
        "the evaluation set `{name}` has changed since the stage was planned: its hash was {planned}, is {found}"
    )]
    EvaluationSetChanged {
        name: String,
        planned: String,
        found: String,
    },
    #[error("the parent's weights don't fit: {0}")]
    Weights(#[from] WeightsError),
    #[error("the weights in {path} don't fit: {source}")]
    Init { path: String, source: WeightsError },
    #[error(transparent)]
    InitFile(#[from] WeightsFileError),
    #[error("{path} has changed since the stage was planned: its hash was {planned}, is {found}")]
    InitChanged {
        path: String,
        planned: String,
        found: String,
    },
    #[error("the loss is {loss} at step {step} (epoch {epoch}, learning rate {lr:e})")]
    Diverged {
        loss: f64,
        step: u64,
        epoch: usize,
        lr: f64,
    },
    #[error("stopped on request after step {step}; a checkpoint is written")]
    Stopped { step: u64 },
    #[error("{path}: {source}")]
    Io {
        path: String,
        source: std::io::Error,
    },
    #[error("{path} is damaged: {what}")]
    Damaged { path: String, what: String },
    #[error("{path} has version {version}, this program reads {known}")]
    Version {
        path: String,
        version: String,
        known: &'static str,
    },
    #[error(transparent)]
    Log(#[from] LogError),
}

impl TrainError {
    /// The class that decides whether the attempt is repeated.
    pub fn class(&self) -> FailureClass {
        match self {
            TrainError::Config(_)
            | TrainError::Weights(_)
            | TrainError::Init { .. }
            | TrainError::InitFile(_)
            | TrainError::InitChanged { .. } => FailureClass::Config,
            TrainError::Data(_)
            | TrainError::DataChanged { .. }
            | TrainError::EvaluationSetChanged { .. } => FailureClass::Data,
            TrainError::Diverged { .. } => FailureClass::Diverged,
            TrainError::Stopped { .. } => FailureClass::Killed,
            TrainError::Io { source, .. } if durable::is_full(source) => FailureClass::DiskFull,
            TrainError::Io { .. } => FailureClass::IoError,
            TrainError::Damaged { .. } | TrainError::Version { .. } => FailureClass::Bug,
            TrainError::Log(error) => error.class(),
        }
    }

    /// An I/O error at `path`.
    pub fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> TrainError {
        let path = path.display().to_string();
        move |source| TrainError::Io { path, source }
    }
}
