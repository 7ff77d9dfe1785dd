//! How a declared tensor enters the model, where that is not simply as a tensor.

use aegis_protocol::{Datatype, Tensor};
use bytes::Bytes;

use super::{SignatureError, TensorSpec};

/// What the executor makes of a tensor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A tensor, whatever its elements.
    #[default]
    Tensor,
    /// A tensor of which the executor cannot take every element: a UINT64 over `i64::MAX`, or a BYTES
    /// that is no text.
    Limited,
    /// One value for the whole call, which is no row: requests run together only where theirs are
    /// equal.
    Plain(Plain),
}

/// A plain argument: a number, a boolean or a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain {
    /// What it is at warm-up, and where a request may leave it out and does. One element.
    pub value: Tensor,
    /// Whether a request may leave it out.
    pub optional: bool,
}

// === impl TensorSpec ===

impl TensorSpec {
    /// Whether it is one value for the whole call.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        matches!(self.kind, Kind::Plain(_))
    }

    /// What it is where a request leaves it out; none where that is an error.
    pub(super) fn left_out(&self) -> Option<Tensor> {
        match &self.kind {
            Kind::Plain(plain) if plain.optional => Some(plain.value.clone()),
            Kind::Tensor | Kind::Limited if self.optional => {
                Tensor::new(self.datatype, [0], Bytes::new()).ok()
            }
            _ => None,
        }
    }

    /// Whether this stands for a tensor that was left out: no tensor of a request is empty.
    pub(super) fn is_left_out(&self, tensor: &Tensor) -> bool {
        self.optional && tensor.element_count() == 0
    }

    /// Refuses elements that the executor cannot take. Looks at none of them in an ordinary tensor.
    pub(super) fn check_elements(&self, tensor: &Tensor) -> Result<(), SignatureError> {
        if self.kind == Kind::Tensor {
            return Ok(());
        }
        let name = || self.name.clone();
        match self.datatype {
            Datatype::Uint64 => {
                let mut values = tensor.elements::<u64>().into_iter().flatten();
                match values.position(|value| i64::try_from(value).is_err()) {
                    Some(element) => Err(SignatureError::TooLarge {
                        name: name(),
                        element,
                    }),
                    None => Ok(()),
                }
            }
            Datatype::Bytes => {
                let mut texts = tensor.strings().into_iter().flatten();
                let is_none = |bytes: Bytes| bytes.contains(&0) || str::from_utf8(&bytes).is_err();
                match texts.position(is_none) {
                    Some(element) => Err(SignatureError::NotText {
                        name: name(),
                        element,
                    }),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}
