//! The differences between tensors and a signature, in words.

use std::fmt;

use aegis_protocol::{Datatype, Shape, excerpt};

use super::{Axis, TensorSpec};

/// How tensors differ from the signature. The sender's fault: the client's for inputs, the model's
/// for outputs. A retry does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// A declared input is not there.
    #[error("inputs: expected `{name}`, which is missing")]
    Missing {
        /// The name in the signature.
        name: String,
    },
    /// A tensor is there that is not declared.
    #[error("inputs: expected {expected}, got `{}`", excerpt(.got))]
    Unknown {
        /// The names in the signature.
        expected: Names,
        /// The name given.
        got: String,
    },
    /// A name is given twice.
    #[error("inputs: `{name}` is given twice")]
    Twice {
        /// The name in the signature.
        name: String,
    },
    /// Another count of results than declared.
    #[error("expected {expected} tensors, got {got}")]
    Count {
        /// As declared.
        expected: usize,
        /// As given.
        got: usize,
    },
    /// Another type of element than declared.
    #[error("`{name}`.datatype: expected {expected}, got {got}")]
    Datatype {
        /// The name in the signature.
        name: String,
        /// As declared.
        expected: Datatype,
        /// As given.
        got: Datatype,
    },
    /// Another shape than declared.
    #[error("`{name}`.shape: expected {expected}, got {got}")]
    Shape {
        /// The name in the signature.
        name: String,
        /// As declared.
        expected: Axes,
        /// As given.
        got: Shape,
    },
    /// A free axis of an input is empty: there would be nothing to compute, and an empty tensor's
    /// other axes may have any size.
    #[error("`{name}`.shape: expected at least 1 on axis {axis}, got {got}")]
    EmptyAxis {
        /// The name in the signature.
        name: String,
        /// The first axis that is empty.
        axis: usize,
        /// As given.
        got: Shape,
    },
    /// Longer than the longest that an input is filled up to.
    #[error(
        "`{name}`.shape: expected at most {longest} on axis {axis}, the longest of pad_to, got {got}"
    )]
    TooLong {
        /// The name in the signature.
        name: String,
        /// The axis that is filled up.
        axis: usize,
        /// The most that it may have.
        longest: usize,
        /// What it has.
        got: usize,
    },
    /// An output is not as long as the input that it should follow.
    #[error(
        "`{name}`.shape: expected {expected} on axis {axis}, as the input that it follows, got {got}"
    )]
    Length {
        /// The name in the signature.
        name: String,
        /// The axis that should follow.
        axis: usize,
        /// What the input was filled up to.
        expected: usize,
        /// What the output has.
        got: usize,
    },
    /// A UINT64 that the executor cannot count.
    #[error("`{name}`: expected UINT64 up to 9223372036854775807, element {element} is larger")]
    TooLarge {
        /// The name in the signature.
        name: String,
        /// Which element, from 0.
        element: usize,
    },
    /// A BYTES element that the executor cannot take as text.
    #[error("`{name}`: expected UTF-8 without NUL, element {element} is something else")]
    NotText {
        /// The name in the signature.
        name: String,
        /// Which element, from 0.
        element: usize,
    },
    /// Not the same number of rows as the others, or none.
    #[error("`{name}`.shape: expected {expected} rows, got {got}")]
    Rows {
        /// The name in the signature.
        name: String,
        /// Rows of the first tensor, or of the inputs.
        expected: Rows,
        /// Rows of this one.
        got: usize,
    },
}

/// Names, shown as a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names(Vec<String>);

/// Axes, shown as the wire writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axes(Vec<Axis>);

/// How many rows there should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// One or more.
    Some,
    /// So many.
    Exactly(usize),
}

// === impl Rows ===

impl Rows {
    /// What the next tensor must have, after one of `got` rows.
    pub(super) fn agree(self, spec: &TensorSpec, got: usize) -> Result<Self, SignatureError> {
        let agrees = match self {
            Self::Some => got > 0,
            Self::Exactly(rows) => got == rows,
        };
        if agrees {
            Ok(Self::Exactly(got))
        } else {
            Err(SignatureError::Rows {
                name: spec.name.clone(),
                expected: self,
                got,
            })
        }
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Some => f.write_str("1 or more"),
            Self::Exactly(rows) => write!(f, "{rows}"),
        }
    }
}

// === impl Names ===

impl Names {
    /// The names of these declarations.
    #[must_use]
    pub fn of(specs: &[TensorSpec]) -> Self {
        Self(specs.iter().map(|spec| spec.name.clone()).collect())
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}`{name}`")?;
        }
        Ok(())
    }
}

// === impl Axes ===

impl Axes {
    /// The axes of this declaration.
    #[must_use]
    pub fn of(spec: &TensorSpec) -> Self {
        Self(spec.axes.clone())
    }
}

impl fmt::Display for Axes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (at, axis) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{}", axis.wire())?;
        }
        f.write_str("]")
    }
}
