//! What can be wrong with a body, and with what should become one.

use crate::shape::Shape;
use crate::tensor::TensorError;

/// Says what is wrong with a body, naming the field, what was expected and
/// what was there.
///
/// The fault is always the sender's (status 400), and sending the same again
/// does not help. Text quoted from the body is cut to 64 characters.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// There is no body.
    #[error("body: expected a JSON object, got an empty body")]
    Empty,
    /// The text is no JSON, or a member is there twice.
    #[error("{field}: {problem}")]
    Malformed {
        /// The member that was being read.
        field: String,
        /// The parser's words, with line and column.
        problem: String,
    },
    /// A member is not what it should be.
    #[error("{field}: expected {expected}, got {got}")]
    Mismatch {
        /// The member.
        field: String,
        /// What it should be.
        expected: String,
        /// What is there.
        got: String,
    },
    /// A number is NaN or infinite, or becomes infinite in its datatype.
    #[error("{field}: expected {expected}, got {got}")]
    NonFinite {
        /// The element.
        field: String,
        /// What it should be.
        expected: String,
        /// What is there.
        got: String,
    },
    /// `data` has more or fewer elements than `shape` says.
    #[error("{field}: expected {expected} elements for shape {shape}, got {got}")]
    ElementCount {
        /// The `data` member.
        field: String,
        /// The `shape` beside it.
        shape: Shape,
        /// The product of the shape.
        expected: usize,
        /// Elements that are there.
        got: usize,
    },
    /// Two tensors have the same name.
    #[error("{field}: expected a name that is used once, got `{name}` again")]
    Duplicate {
        /// The second `name` member.
        field: String,
        /// The name, cut.
        name: String,
    },
    /// Shape and datatype make no tensor.
    #[error("{field}: {fault}")]
    Tensor {
        /// The tensor.
        field: String,
        /// Why they do not: part of the message, and so no `source` that would be shown again.
        fault: TensorError,
    },
}

/// Says why a request or an answer cannot be written as JSON. The fault lies
/// with whoever made the tensor: for an answer, the model.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// JSON has no NaN and no infinity.
    #[error("{tensor}[{index}]: expected a finite number, got {value}")]
    NonFinite {
        /// The tensor's name, cut.
        tensor: String,
        /// Index of the element, in row-major order.
        index: usize,
        /// The value.
        value: f64,
    },
    /// JSON's strings are Unicode, the bytes are not.
    #[error("{tensor}[{index}]: expected UTF-8, got other bytes")]
    NotText {
        /// The tensor's name, cut.
        tensor: String,
        /// Index of the element, in row-major order.
        index: usize,
    },
    /// A parameter is NaN or infinite.
    #[error("parameters.{name}: expected a finite number, got {value}")]
    NonFiniteParameter {
        /// The parameter's name, cut.
        name: String,
        /// The value.
        value: f64,
    },
}

// === impl DecodeError ===

impl DecodeError {
    /// Whether the fault is a NaN, an infinity, or a number too large for its
    /// datatype: what a safety check on input values wants to count.
    #[must_use]
    pub fn is_non_finite(&self) -> bool {
        matches!(self, Self::NonFinite { .. })
    }
}
