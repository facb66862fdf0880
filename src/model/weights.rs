//! Loading weights into a model, with what changes between stages: the position embedding is
//! interpolated to the model's grid, a head for other classes is left at its initial values.

use super::parameter::{self, HostParameter};
use super::pos_embed;
use super::vit::VisionTransformer;
use burn::tensor::{Tensor, TensorData};
use std::collections::HashMap;

/// Why weights don't fit a model.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum WeightsError {
    #[error("the weights lack {names}")]
    Missing { names: String },
    #[error("the weights have {names}, which the model lacks")]
    Extra { names: String },
    #[error("{name} has shape {found:?} in the weights, {expected:?} in the model")]
    Shape {
        name: String,
        found: Vec<usize>,
        expected: Vec<usize>,
    },
}

impl WeightsError {
    /// These parameters are not there.
    pub fn missing(names: Vec<String>) -> Self {
        WeightsError::Missing { names: list(names) }
    }

    /// These are there, and no parameters of the model.
    pub fn extra(names: Vec<String>) -> Self {
        WeightsError::Extra { names: list(names) }
    }
}

/// What was changed to make weights fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Adapted {
    /// Grid sides before and after, if the position embedding was interpolated.
    pub pos_embed: Option<(usize, usize)>,
    /// The head is for other classes and keeps its initial values.
    pub head: bool,
}

/// Replaces the parameters of `model` by `weights` (official names, any order). On an error the
/// model is unchanged.
pub fn load(
    model: &mut VisionTransformer,
    weights: Vec<HostParameter>,
    train: bool,
) -> Result<Adapted, WeightsError> {
    let mut adapted = Adapted::default();
    let mut by_name: HashMap<String, HostParameter> = weights
        .into_iter()
        .map(|parameter| (parameter.name.clone(), parameter))
        .collect();
    let mut values = Vec::new();
    let mut missing = Vec::new();
    let device = model.cls_token.device().inner();
    let current = parameter::export(model);
    let other_head = by_name.get("head.weight").is_some_and(|head| {
        head.shape.len() == 2
            && head.shape[0] != model.arch.classes
            && head.shape[1] == model.arch.embed_dim
    });
    for own in current {
        let Some(mut new) = by_name.remove(&own.name) else {
            missing.push(own.name);
            continue;
        };
        if other_head && own.name.starts_with("head.") {
            adapted.head = true;
            new = own.clone();
        }
        if own.name == "pos_embed"
            && new.shape != own.shape
            && let Some((resized, old, grid)) = resize(&new, model)
        {
            adapted.pos_embed = Some((old, grid));
            new = resized;
        }
        if new.shape != own.shape {
            return Err(WeightsError::Shape {
                name: own.name,
                found: new.shape,
                expected: own.shape,
            });
        }
        let size = new.values.len();
        values.push(Tensor::from_data(
            TensorData::new(new.values, [size]),
            &device,
        ));
    }
    if !missing.is_empty() {
        return Err(WeightsError::missing(missing));
    }
    if !by_name.is_empty() {
        return Err(WeightsError::extra(by_name.into_keys().collect()));
    }
    parameter::replace(model, values, train);
    Ok(adapted)
}

/// The position embedding on the model's grid, if `found` is a square grid of the same width.
fn resize(
    found: &HostParameter,
    model: &VisionTransformer,
) -> Option<(HostParameter, usize, usize)> {
    let [1, positions, dim] = found.shape[..] else {
        return None;
    };
    let extra = usize::from(model.arch.pos_embed_class);
    let patches = positions.checked_sub(extra)?;
    let old = patches.isqrt();
    if old * old != patches || old == 0 || dim != model.arch.embed_dim {
        return None;
    }
    let new = model.arch.grid();
    let mut values = found.values[..extra * dim].to_vec();
    values.extend(pos_embed::interpolate(
        &found.values[extra * dim..],
        old,
        new,
        dim,
    ));
    let shape = vec![1, extra + new * new, dim];
    Some((
        HostParameter {
            name: found.name.clone(),
            shape,
            values,
        },
        old,
        new,
    ))
}

fn list(mut names: Vec<String>) -> String {
    names.sort();
    let more = names.len().saturating_sub(5);
    names.truncate(5);
    let names = names.join(", ");
    if more > 0 {
        format!("{names} and {more} more")
    } else {
        names
    }
}
