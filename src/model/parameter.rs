//! Parameters of a model: their names, shapes and values, in the order of the official state dict.

use burn::tensor::{Tensor, TensorData};

/// Something that is shown every parameter of a model in turn.
pub trait Visitor {
    /// Sees the parameter `name`, and may replace its value.
    fn visit<const D: usize>(&mut self, name: &str, value: &mut Tensor<D>);
}

/// A part of a model that holds parameters.
pub trait Parameters {
    /// Shows every parameter under `prefix` (`""`, or a path that ends in a dot), always in the same
    /// order.
    fn visit(&mut self, prefix: &str, visitor: &mut impl Visitor);
}

/// Values of one parameter outside any device.
#[derive(Debug, Clone, PartialEq)]
pub struct HostParameter {
    pub name: String,
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f32>,
}

impl HostParameter {
    /// From tensor data of any float type.
    pub fn new(name: &str, data: TensorData) -> Self {
        let shape = data.shape().to_vec();
        let values = data
            .convert::<f32>()
            .try_into_vec::<f32>()
            .expect("converted to f32");
        HostParameter {
            name: name.to_owned(),
            shape,
            values,
        }
    }
}

/// Copies of all parameters of `part`.
pub fn export(part: &mut impl Parameters) -> Vec<HostParameter> {
    struct Export(Vec<HostParameter>);
    impl Visitor for Export {
        fn visit<const D: usize>(&mut self, name: &str, value: &mut Tensor<D>) {
            self.0
                .push(HostParameter::new(name, value.clone().inner().into_data()));
        }
    }
    let mut export = Export(Vec::new());
    part.visit("", &mut export);
    export.0
}

/// Names and shapes of all parameters of `part`.
pub fn shapes(part: &mut impl Parameters) -> Vec<(String, Vec<usize>)> {
    struct Shapes(Vec<(String, Vec<usize>)>);
    impl Visitor for Shapes {
        fn visit<const D: usize>(&mut self, name: &str, value: &mut Tensor<D>) {
            self.0.push((name.to_owned(), value.dims().to_vec()));
        }
    }
    let mut shapes = Shapes(Vec::new());
    part.visit("", &mut shapes);
    shapes.0
}

/// Replaces every parameter by `values` in the same order, keeping shapes; each becomes a leaf that
/// requires a gradient if `train`, and leaves autodiff otherwise.
///
/// # Panics
/// If there are fewer values than parameters or a value has another number of elements.
pub fn replace(part: &mut impl Parameters, values: Vec<Tensor<1>>, train: bool) {
    struct Replace {
        values: std::vec::IntoIter<Tensor<1>>,
        train: bool,
    }
    impl Visitor for Replace {
        fn visit<const D: usize>(&mut self, name: &str, value: &mut Tensor<D>) {
            let new = self
                .values
                .next()
                .unwrap_or_else(|| panic!("no value for {name}"));
            let new = new.reshape(value.dims());
            *value = if self.train {
                Tensor::from_inner(new).require_grad()
            } else {
                new
            };
        }
    }
    part.visit(
        "",
        &mut Replace {
            values: values.into_iter(),
            train,
        },
    );
}

/// All parameters as vectors outside autodiff.
pub fn values(part: &mut impl Parameters) -> Vec<Tensor<1>> {
    struct Values(Vec<Tensor<1>>);
    impl Visitor for Values {
        fn visit<const D: usize>(&mut self, _: &str, value: &mut Tensor<D>) {
            let size = value.shape().num_elements();
            self.0.push(value.clone().inner().reshape([size]));
        }
    }
    let mut values = Values(Vec::new());
    part.visit("", &mut values);
    values.0
}

/// Takes the gradients of all parameters, as vectors outside autodiff, out of `gradients`; zeros for
/// a parameter that took no part.
pub fn gradients(
    part: &mut impl Parameters,
    gradients: &mut burn::tensor::Gradients,
) -> Vec<Tensor<1>> {
    struct Take<'a> {
        gradients: &'a mut burn::tensor::Gradients,
        taken: Vec<Tensor<1>>,
    }
    impl Visitor for Take<'_> {
        fn visit<const D: usize>(&mut self, _: &str, value: &mut Tensor<D>) {
            let size = value.shape().num_elements();
            self.taken.push(match value.grad_remove(self.gradients) {
                Some(gradient) => gradient.reshape([size]),
                None => Tensor::zeros([size], &value.device().inner()),
            });
        }
    }
    let mut take = Take {
        gradients,
        taken: Vec::new(),
    };
    part.visit("", &mut take);
    take.taken
}
