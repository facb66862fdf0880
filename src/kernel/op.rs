//! The fused operations as a backend extension of Burn, with autodiff.
//!
//! Each operation has a forward pass on the CPU backend (`Flex`) and a node in the autodiff graph
//! whose backward pass calls the kernels of its file. An incoming gradient may be a broadcast view,
//! so it is made contiguous first; an input that needs no gradient has no parent node, and the work
//! for it is left out.

use super::parallel::join;
use super::{attention, layer_norm, linear, residual};
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};
use burn::tensor::TensorData;
use std::sync::Arc;

/// The fused operations of a backend.
#[backend_extension(Flex, Autodiff)]
pub trait FusedOps: Backend {
    /// See [`super::linear`].
    fn fused_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
    /// See [`super::linear_gelu`].
    fn fused_linear_gelu(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
    /// See [`super::layer_norm`].
    fn fused_layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f32,
    ) -> FloatTensor<Self>;
    /// See [`super::attention`].
    fn fused_attention(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self>;
    /// See [`super::residual`]; an empty `keep` keeps every sample.
    fn fused_residual(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        keep: Vec<f32>,
    ) -> FloatTensor<Self>;
    /// See [`super::residual`]; an empty `keep` keeps every sample.
    fn fused_residual_scaled(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        keep: Vec<f32>,
    ) -> FloatTensor<Self>;
}

/// `tensor` with its values in row-major order and without gaps.
pub(super) fn contiguous(tensor: &FlexTensor) -> FlexTensor {
    match tensor.as_slice::<f32>() {
        Some(_) => tensor.clone(),
        None => tensor.to_contiguous(),
    }
}

/// The values of a tensor that went through [`contiguous`].
pub(super) fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().expect("a contiguous f32 tensor")
}

fn tensor(values: Vec<f32>, shape: &[usize]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.to_vec()))
}

fn shape_of(tensor: &FlexTensor) -> Vec<usize> {
    tensor.layout().shape().to_vec()
}

/// `shape` with another last dimension.
fn with_last(shape: &[usize], last: usize) -> Vec<usize> {
    let mut shape = shape.to_vec();
    if let Some(end) = shape.last_mut() {
        *end = last;
    }
    shape
}

/// Takes the gradient of the node's output, contiguous.
fn incoming<S, const N: usize>(ops: &Ops<S, N>, grads: &mut Gradients) -> FlexTensor {
    contiguous(&grads.consume::<Flex>(&ops.node))
}

fn attention_shape(qkv: &FlexTensor, heads: usize) -> attention::Shape {
    let shape = shape_of(qkv);
    assert!(
        heads > 0 && shape[2].is_multiple_of(3 * heads),
        "queries, keys and values of {heads} heads don't fill a width of {}",
        shape[2]
    );
    attention::Shape {
        batch: shape[0],
        tokens: shape[1],
        dim: shape[2] / 3,
        heads,
    }
}

/// The width of the input `x` of a linear layer.
///
/// # Panics
/// If weight and bias are not those of such an input.
fn linear_inputs(x: &FlexTensor, weight: &FlexTensor, bias: &FlexTensor) -> usize {
    let inputs = x.layout().shape().to_vec().pop().unwrap_or(0);
    let [w, b] = [shape_of(weight), shape_of(bias)];
    assert!(
        w.len() == 2 && w[1] == inputs && b == [w[0]],
        "a weight of {w:?} and a bias of {b:?} for inputs of width {inputs}"
    );
    inputs
}

/// # Panics
/// If weight and bias of the norm are not as wide as its input.
fn check_norm(x: &FlexTensor, weight: &FlexTensor, bias: &FlexTensor) {
    let (x, w, b) = (shape_of(x), shape_of(weight), shape_of(bias));
    let fits = w == b && w.len() == 1 && x.last() == w.first();
    assert!(fits, "a weight of {w:?} and a bias of {b:?} for {x:?}");
}

/// # Panics
/// If stream, branch, LayerScale and the samples' factors don't belong together.
fn check_residual(x: &FlexTensor, y: &FlexTensor, gamma: Option<&FlexTensor>, keep: &[f32]) {
    let (x, y) = (shape_of(x), shape_of(y));
    let gamma = gamma.map(shape_of);
    let fits = x.len() == 3
        && x == y
        && gamma.as_ref().is_none_or(|gamma| *gamma == [x[2]])
        && (keep.is_empty() || keep.len() == x[0]);
    assert!(
        fits,
        "a branch of {y:?}, LayerScale of {gamma:?} and {} factors for {x:?}",
        keep.len()
    );
}

/// How a residual's branch is scaled.
fn scale<'a>(shape: &[usize], gamma: Option<&'a [f32]>, keep: &'a [f32]) -> residual::Scale<'a> {
    residual::Scale {
        gamma,
        keep: (!keep.is_empty()).then_some(keep),
        tokens: shape[1],
        dim: shape[2],
    }
}

impl FusedOps for Flex {
    fn fused_linear(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
        let [x, weight, bias] = [x, weight, bias].map(|t| contiguous(&t));
        let shape = shape_of(&x);
        let inputs = linear_inputs(&x, &weight, &bias);
        let y = linear::forward(values(&x), values(&weight), values(&bias), inputs);
        tensor(y, &with_last(&shape, values(&bias).len()))
    }

    fn fused_linear_gelu(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
        let [x, weight, bias] = [x, weight, bias].map(|t| contiguous(&t));
        let shape = shape_of(&x);
        let inputs = linear_inputs(&x, &weight, &bias);
        let y = linear::forward_gelu(values(&x), values(&weight), values(&bias), inputs);
        tensor(y, &with_last(&shape, values(&bias).len()))
    }

    fn fused_layer_norm(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        eps: f32,
    ) -> FlexTensor {
        let [x, weight, bias] = [x, weight, bias].map(|t| contiguous(&t));
        check_norm(&x, &weight, &bias);
        let (y, _) = layer_norm::forward(values(&x), values(&weight), values(&bias), eps);
        tensor(y, &shape_of(&x))
    }

    fn fused_attention(qkv: FlexTensor, heads: usize) -> FlexTensor {
        let qkv = contiguous(&qkv);
        let shape = attention_shape(&qkv, heads);
        let y = attention::output(values(&qkv), shape);
        tensor(y, &[shape.batch, shape.tokens, shape.dim])
    }

    fn fused_residual(x: FlexTensor, y: FlexTensor, keep: Vec<f32>) -> FlexTensor {
        let [x, y] = [x, y].map(|t| contiguous(&t));
        check_residual(&x, &y, None, &keep);
        let shape = shape_of(&x);
        tensor(
            residual::forward(values(&x), values(&y), scale(&shape, None, &keep)),
            &shape,
        )
    }

    fn fused_residual_scaled(
        x: FlexTensor,
        y: FlexTensor,
        gamma: FlexTensor,
        keep: Vec<f32>,
    ) -> FlexTensor {
        let [x, y, gamma] = [x, y, gamma].map(|t| contiguous(&t));
        check_residual(&x, &y, Some(&gamma), &keep);
        let shape = shape_of(&x);
        let scale = scale(&shape, Some(values(&gamma)), &keep);
        tensor(residual::forward(values(&x), values(&y), scale), &shape)
    }
}

/// Output and saved derivative of the GELU.
fn linear_gelu_forward(
    x: &FlexTensor,
    weight: &FlexTensor,
    bias: &FlexTensor,
) -> (FlexTensor, Vec<f32>) {
    let shape = shape_of(x);
    let inputs = linear_inputs(x, weight, bias);
    let [x_values, w, b] = [x, weight, bias].map(values);
    let (y, derivative) = linear::forward_gelu_with_derivative(x_values, w, b, inputs);
    (
        tensor(y, &with_last(&shape, values(bias).len())),
        derivative,
    )
}

/// Registers the three gradients of a linear layer.
fn linear_backward(
    parents: [Option<burn::backend::autodiff::NodeId>; 3],
    grads: &mut Gradients,
    g: &[f32],
    x: &FlexTensor,
    weight: &FlexTensor,
) {
    let [outputs, inputs] = [shape_of(weight)[0], shape_of(weight)[1]];
    // Together, so that threads without a block of one product find blocks of another.
    let (dx, (dw, db)) = join(
        || parents[0].map(|_| linear::backward_input(g, values(weight), inputs)),
        || {
            join(
                || parents[1].map(|_| linear::backward_weight(g, values(x), outputs, inputs)),
                || parents[2].map(|_| linear::backward_bias(g, outputs)),
            )
        },
    );
    let [x_shape, w_shape, b_shape] = [shape_of(x), vec![outputs, inputs], vec![outputs]];
    let found = [(dx, x_shape), (dw, w_shape), (db, b_shape)];
    for (parent, (values, shape)) in parents.into_iter().zip(found) {
        if let (Some(node), Some(values)) = (parent, values) {
            grads.register::<Flex>(node, tensor(values, &shape));
        }
    }
}

#[derive(Debug)]
struct LinearBackward;

impl Backward<Flex, 3> for LinearBackward {
    /// Input and weight.
    type State = (FlexTensor, FlexTensor);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = incoming(&ops, grads);
        let parents = ops.parents.map(|parent| parent.map(|node| node.id));
        let (x, weight) = ops.state;
        linear_backward(parents, grads, values(&g), &x, &weight);
    }
}

#[derive(Debug)]
struct LinearGeluBackward;

impl Backward<Flex, 3> for LinearGeluBackward {
    /// Input, weight, derivative of the GELU.
    type State = (FlexTensor, FlexTensor, Arc<Vec<f32>>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = incoming(&ops, grads);
        let parents = ops.parents.map(|parent| parent.map(|node| node.id));
        let (x, weight, derivative) = ops.state;
        let g = linear::backward_gelu(values(&g), &derivative);
        linear_backward(parents, grads, &g, &x, &weight);
    }
}

#[derive(Debug)]
struct LayerNormBackward;

impl Backward<Flex, 3> for LayerNormBackward {
    /// Input, weight, moments.
    type State = (FlexTensor, FlexTensor, Arc<layer_norm::Moments>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = incoming(&ops, grads);
        let (x, weight, moments) = ops.state;
        let (dx, dw, db) = layer_norm::backward(values(&g), values(&x), &moments, values(&weight));
        let width = dw.len();
        let [node_x, node_w, node_b] = ops.parents;
        if let Some(node) = node_x {
            grads.register::<Flex>(node.id, tensor(dx, &shape_of(&x)));
        }
        if let Some(node) = node_w {
            grads.register::<Flex>(node.id, tensor(dw, &[width]));
        }
        if let Some(node) = node_b {
            grads.register::<Flex>(node.id, tensor(db, &[width]));
        }
    }
}

#[derive(Debug)]
struct AttentionBackward;

impl Backward<Flex, 1> for AttentionBackward {
    /// Packed input, softmax, heads.
    type State = (FlexTensor, Arc<Vec<f32>>, usize);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = incoming(&ops, grads);
        let (qkv, softmax, heads) = ops.state;
        let [parent] = ops.parents;
        if let Some(node) = parent {
            let shape = attention_shape(&qkv, heads);
            let dqkv = attention::backward(values(&g), values(&qkv), &softmax, shape);
            grads.register::<Flex>(node.id, tensor(dqkv, &shape_of(&qkv)));
        }
    }
}

#[derive(Debug)]
struct ResidualBackward;

impl Backward<Flex, 2> for ResidualBackward {
    /// Factors of the samples.
    type State = Arc<Vec<f32>>;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = incoming(&ops, grads);
        let shape = shape_of(&g);
        let [node_x, node_y] = ops.parents;
        if let Some(node) = node_y {
            let dy = residual::backward_branch(values(&g), scale(&shape, None, &ops.state));
            grads.register::<Flex>(node.id, tensor(dy, &shape));
        }
        if let Some(node) = node_x {
            grads.register::<Flex>(node.id, g);
        }
    }
}

#[derive(Debug)]
struct ResidualScaledBackward;

impl Backward<Flex, 3> for ResidualScaledBackward {
    /// Branch, LayerScale, factors of the samples.
    type State = (FlexTensor, FlexTensor, Arc<Vec<f32>>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = incoming(&ops, grads);
        let shape = shape_of(&g);
        let (y, gamma, keep) = ops.state;
        let scale = scale(&shape, Some(values(&gamma)), &keep);
        let [node_x, node_y, node_gamma] = ops.parents;
        if let Some(node) = node_y {
            let dy = residual::backward_branch(values(&g), scale);
            grads.register::<Flex>(node.id, tensor(dy, &shape));
        }
        if let Some(node) = node_gamma {
            let dgamma = residual::backward_gamma(values(&g), values(&y), scale);
            grads.register::<Flex>(node.id, tensor(dgamma, &[shape[2]]));
        }
        if let Some(node) = node_x {
            grads.register::<Flex>(node.id, g);
        }
    }
}

impl<C: CheckpointStrategy> FusedOps for Autodiff<Flex, C> {
    fn fused_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let [(x, nx), (weight, nw), (bias, nb)] = [x, weight, bias].map(|t| t.into_parts());
        let [x, weight] = [x, weight].map(|t| contiguous(&t));
        let y = Flex::fused_linear(x.clone(), weight.clone(), bias);
        match LinearBackward
            .prepare::<C>([nx, nw, nb])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((x, weight), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn fused_linear_gelu(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let [(x, nx), (weight, nw), (bias, nb)] = [x, weight, bias].map(|t| t.into_parts());
        let [x, weight, bias] = [x, weight, bias].map(|t| contiguous(&t));
        let (y, derivative) = linear_gelu_forward(&x, &weight, &bias);
        match LinearGeluBackward
            .prepare::<C>([nx, nw, nb])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((x, weight, Arc::new(derivative)), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn fused_layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f32,
    ) -> FloatTensor<Self> {
        let [(x, nx), (weight, nw), (bias, nb)] = [x, weight, bias].map(|t| t.into_parts());
        let [x, weight, bias] = [x, weight, bias].map(|t| contiguous(&t));
        check_norm(&x, &weight, &bias);
        let (y, moments) = layer_norm::forward(values(&x), values(&weight), values(&bias), eps);
        let y = tensor(y, &shape_of(&x));
        match LayerNormBackward
            .prepare::<C>([nx, nw, nb])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((x, weight, Arc::new(moments)), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn fused_attention(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        let (qkv, node) = qkv.into_parts();
        let qkv = contiguous(&qkv);
        let shape = attention_shape(&qkv, heads);
        let (y, softmax) = attention::forward(values(&qkv), shape);
        let y = tensor(y, &[shape.batch, shape.tokens, shape.dim]);
        match AttentionBackward
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((qkv, Arc::new(softmax), heads), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn fused_residual(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        keep: Vec<f32>,
    ) -> FloatTensor<Self> {
        let [(x, nx), (y, ny)] = [x, y].map(|t| t.into_parts());
        let out = Flex::fused_residual(x, y, keep.clone());
        match ResidualBackward
            .prepare::<C>([nx, ny])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(Arc::new(keep), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn fused_residual_scaled(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        keep: Vec<f32>,
    ) -> FloatTensor<Self> {
        let [(x, nx), (y, ny), (gamma, ng)] = [x, y, gamma].map(|t| t.into_parts());
        let [y, gamma] = [y, gamma].map(|t| contiguous(&t));
        let out = Flex::fused_residual_scaled(x, y.clone(), gamma.clone(), keep.clone());
        match ResidualScaledBackward
            .prepare::<C>([nx, ny, ng])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((y, gamma, Arc::new(keep)), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}
