//! Why something is no tensor.

use crate::datatype::Datatype;
use crate::shape::Shape;

/// Says why bytes, a datatype and a shape make no tensor, or why tensors do
/// not fit together. The fault lies with whoever built them; a retry does not
/// help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The shape's product, or its bytes, do not fit into memory's addresses.
    #[error("shape {shape} has more elements than can be counted")]
    TooManyElements {
        /// The shape in question.
        shape: Shape,
    },
    /// The data is shorter or longer than the shape and datatype need.
    #[error("expected {expected} bytes for {datatype} of shape {shape}, got {got}")]
    Length {
        /// The datatype given.
        datatype: Datatype,
        /// The shape given.
        shape: Shape,
        /// Bytes that they need.
        expected: usize,
        /// Bytes that were there.
        got: usize,
    },
    /// The count of values differs from what the shape needs.
    #[error("expected {expected} elements for shape {shape}, got {got}")]
    ElementCount {
        /// The shape given.
        shape: Shape,
        /// Elements that it needs.
        expected: usize,
        /// Elements that were there.
        got: usize,
    },
    /// A `BYTES` element's length points past the end of the data.
    #[error("BYTES element {index} reaches past the end of the data")]
    Truncated {
        /// Index of the element, in row-major order.
        index: usize,
    },
    /// A `BYTES` element is longer than its length can say.
    #[error("expected BYTES elements whose length fits a u32, got one of {length} bytes")]
    ElementTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A boolean's byte is neither 0 nor 1.
    #[error("expected 0 or 1 for BOOL element {index}, got {got}")]
    NotBool {
        /// Index of the element, in row-major order.
        index: usize,
        /// The byte found.
        got: u8,
    },
    /// The elements were asked for, or joined, as another datatype.
    #[error("expected {expected} elements, got {got}")]
    WrongDatatype {
        /// The datatype asked for.
        expected: Datatype,
        /// The tensor's own.
        got: Datatype,
    },
    /// No tensors were given to join.
    #[error("expected at least one tensor to join, got none")]
    NothingToJoin,
    /// A scalar has no first axis to join or split.
    #[error("a tensor of shape [] has no rows")]
    NoRows,
    /// Rows of different shapes cannot be joined.
    #[error("expected rows of the shape of {expected}, got {got}")]
    RowShape {
        /// Shape of the first tensor.
        expected: Shape,
        /// Shape of the one that differs.
        got: Shape,
    },
    /// The parts asked for are not the rows that there are.
    #[error("expected parts that sum to {expected} rows, got {got}")]
    RowCount {
        /// Rows of the tensor.
        expected: usize,
        /// Rows that the parts sum to, at most `usize::MAX`.
        got: usize,
    },
}
