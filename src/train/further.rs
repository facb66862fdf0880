//! Further evaluations of a stage's final weights: other test resolutions on `val`, other sets at the
//! recipe's own resolution. They say more about the weights; the stage's result is the evaluation on
//! [`VAL`] at `eval.resolution`, the headline.

use super::TrainError;
use crate::data::{Dataset, EvaluationSet};
use crate::rundir::stage::{Launch, StageSpec};

/// Name of the data set's own evaluation set.
pub const VAL: &str = "val";

/// One evaluation.
#[derive(Debug, Clone)]
pub struct Evaluated {
    /// Name of the set, which its event bears.
    pub name: String,
    pub set: EvaluationSet,
    /// Side of the square test images in pixels.
    pub resolution: usize,
}

/// The headline's.
pub fn headline(spec: &StageSpec, dataset: &Dataset) -> Evaluated {
    Evaluated {
        name: VAL.to_owned(),
        set: EvaluationSet::val(dataset),
        resolution: spec.recipe.eval.resolution,
    }
}

/// The further evaluations of a stage on `dataset`, in the order in which they are made. Every set is
/// opened and compared with its hash, so that what is missing is missed before anything is trained.
///
/// # Errors
/// A set can't be found or read, or has changed since the stage was planned.
pub fn open(
    spec: &StageSpec,
    launch: &Launch,
    dataset: &Dataset,
) -> Result<Vec<Evaluated>, TrainError> {
    let eval = &spec.recipe.eval;
    let mut further: Vec<Evaluated> = eval
        .resolutions
        .iter()
        .filter(|&&resolution| resolution != eval.resolution)
        .map(|&resolution| Evaluated {
            resolution,
            ..headline(spec, dataset)
        })
        .collect();
    for planned in &spec.evaluation_sets {
        let Some(root) = launch.evaluation_roots.get(&planned.name) else {
            return Err(TrainError::Config(format!(
                "the launch says nothing of where the evaluation set `{}` is",
                planned.name
            )));
        };
        let set = EvaluationSet::open(&planned.name, root.as_deref(), dataset.classes())?;
        let found = set.hash()?;
        if found != planned.hash {
            return Err(TrainError::EvaluationSetChanged {
                name: planned.name.clone(),
                planned: planned.hash.clone(),
                found,
            });
        }
        further.push(Evaluated {
            name: planned.name.clone(),
            set,
            resolution: eval.resolution,
        });
    }
    Ok(further)
}
