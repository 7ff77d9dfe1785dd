//! An inference request and its answer.

use crate::parameters::Parameters;
use crate::tensor::Tensor;

/// The most tensors of a request or an answer, either way.
pub(crate) const MAX_TENSORS: usize = 1024;

/// A tensor with the name that the model's signature gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// The name in the signature.
    pub name: String,
    /// Its datatype, shape and data.
    pub tensor: Tensor,
}

/// An output that the client asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestedOutput {
    /// The name in the signature.
    pub name: String,
    /// What the client says about it.
    pub parameters: Parameters,
}

/// What a client sends to be answered. Names in `inputs` are unique, and so
/// are those in `outputs`, when it came through [`InferRequest::from_json`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InferRequest {
    /// Echoed in the answer.
    pub id: Option<String>,
    /// What the client says about the request.
    pub parameters: Parameters,
    /// The model's inputs, in any order.
    pub inputs: Vec<NamedTensor>,
    /// The outputs asked for; empty means all.
    pub outputs: Vec<RequestedOutput>,
}

/// What the model answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InferResponse {
    /// The model that answered.
    pub model_name: String,
    /// The version of it that answered.
    pub model_version: Option<String>,
    /// The request's own `id`.
    pub id: Option<String>,
    /// What the server says about the answer.
    pub parameters: Parameters,
    /// The model's outputs.
    pub outputs: Vec<NamedTensor>,
}

// === impl NamedTensor ===

impl NamedTensor {
    /// Names a tensor.
    #[must_use]
    pub fn new(name: impl Into<String>, tensor: Tensor) -> Self {
        Self {
            name: name.into(),
            tensor,
        }
    }
}

// === impl InferRequest ===

impl InferRequest {
    /// The input of that name.
    #[must_use]
    pub fn input(&self, name: &str) -> Option<&Tensor> {
        find(&self.inputs, name)
    }
}

// === impl InferResponse ===

impl InferResponse {
    /// The output of that name.
    #[must_use]
    pub fn output(&self, name: &str) -> Option<&Tensor> {
        find(&self.outputs, name)
    }
}

fn find<'a>(tensors: &'a [NamedTensor], name: &str) -> Option<&'a Tensor> {
    tensors
        .iter()
        .find(|named| named.name == name)
        .map(|named| &named.tensor)
}
