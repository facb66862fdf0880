//! Gradient checkpointing: a part of the model whose intermediate tensors are not kept for the backward
//! pass, which runs the part again instead (Chen et al. 2016).
//!
//! Burn's own checkpointing recomputes cheap element-wise operations only. Here a whole block is one node
//! of the graph, with its input as the only tensor that is kept. Its backward pass builds the block's own
//! small graph, goes back through it, and hands the gradients of the block's parameters to their leaves.
//! The same operations run on the same values in the same order, so results are the same bit for bit.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, Flex};
use burn::tensor::Tensor;
use std::fmt;
use std::sync::Arc;

/// A parameter that the part reads: a leaf of the graph.
#[derive(Debug, Clone, Copy)]
pub struct Leaf(NodeId);

impl Leaf {
    /// The leaf behind `parameter`; `None` outside autodiff and on devices without this form.
    pub fn of<const D: usize>(parameter: &Tensor<D>) -> Option<Leaf> {
        let tensor = parameter.clone().try_into_primitive::<Autodiff<Flex>>();
        tensor.ok().map(|tensor| Leaf(tensor.id()))
    }
}

/// A gradient of any shape on its way to a [`Leaf`].
#[derive(Debug)]
pub struct Gradient(FlexTensor);

impl Gradient {
    /// From a tensor on the CPU, outside autodiff.
    pub fn of<const D: usize>(gradient: Tensor<D>) -> Option<Gradient> {
        gradient.try_into_primitive::<Flex>().ok().map(Gradient)
    }
}

/// Gradients of a part: its input's, and one per leaf, in the leaves' order.
pub struct PartGradients {
    pub input: Tensor<3>,
    pub leaves: Vec<Option<Gradient>>,
}

/// Runs the part again on its input, and back from the gradient of its output; both outside autodiff.
type Again = dyn Fn(Tensor<3>, Tensor<3>) -> PartGradients + Send + Sync;

#[derive(Clone)]
struct Part {
    input: FlexTensor,
    leaves: Vec<Leaf>,
    again: Arc<Again>,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part")
            .field("leaves", &self.leaves)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct RecomputeBackward;

impl Backward<Flex, 1> for RecomputeBackward {
    type State = Part;

    fn backward(self, ops: Ops<Part, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = grads.consume::<Flex>(&ops.node);
        let Part {
            input,
            leaves,
            again,
        } = ops.state;
        let found = again(
            Tensor::from_primitive::<Flex>(input),
            Tensor::from_primitive::<Flex>(g),
        );
        for (leaf, gradient) in leaves.into_iter().zip(found.leaves) {
            if let Some(Gradient(gradient)) = gradient {
                grads.register::<Flex>(leaf.0, gradient);
            }
        }
        let [parent] = ops.parents;
        if let (Some(node), Ok(dx)) = (parent, found.input.try_into_primitive::<Flex>()) {
            grads.register::<Flex>(node.id, dx);
        }
    }
}

/// Whether a part with input `x` can be recomputed: on the CPU, inside autodiff.
pub fn is_possible(x: &Tensor<3>) -> bool {
    x.clone().try_into_primitive::<Autodiff<Flex>>().is_ok()
}

/// The output of a part as a node of the graph of its input `x`. `forward` computes it outside autodiff;
/// `again` computes the gradients when they are asked for.
///
/// # Panics
/// If `x` is not what [`is_possible`] asks for.
pub fn recompute(
    x: Tensor<3>,
    leaves: Vec<Leaf>,
    forward: impl FnOnce(Tensor<3>) -> Tensor<3>,
    again: impl Fn(Tensor<3>, Tensor<3>) -> PartGradients + Send + Sync + 'static,
) -> Tensor<3> {
    let x = x
        .try_into_primitive::<Autodiff<Flex>>()
        .expect("the caller has asked whether this is possible");
    let (input, node) = x.into_parts();
    let y = forward(Tensor::from_primitive::<Flex>(input.clone()));
    let y = y
        .try_into_primitive::<Flex>()
        .expect("a part stays on its device and outside autodiff");
    let prepared = RecomputeBackward
        .prepare::<NoCheckpointing>([node])
        .compute_bound()
        .stateful();
    let output = match prepared {
        OpsKind::Tracked(prep) => {
            let part = Part {
                input,
                leaves,
                again: Arc::new(again),
            };
            prep.finish(part, y)
        }
        OpsKind::UnTracked(prep) => prep.finish(y),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(output)
}
