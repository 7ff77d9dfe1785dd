//! What a model takes and returns, and whether given tensors are that.
//!
//! The runtime knows neither names nor shapes, so they come from `model.toml`, and everything is
//! compared with them at the edges: a request before it is queued, an answer before it is cut into
//! rows. What lies between may then rely on order, datatypes and shapes.

use aegis_protocol::{Datatype, NamedTensor, Tensor, TensorMetadata};
use bytes::Bytes;

mod error;
mod kind;
mod padding;
#[cfg(test)]
mod tests;

pub use error::{Axes, Names, Rows, SignatureError};
pub use kind::{Kind, Plain};
pub use padding::{Follows, Padding};

/// One axis of a declared tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Any size: -1 on the wire.
    Free,
    /// This size and no other.
    Fixed(usize),
}

/// One declared tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name on the wire.
    pub name: String,
    /// The type of its elements.
    pub datatype: Datatype,
    /// Its axes, outermost first.
    pub axes: Vec<Axis>,
    /// Sizes that its free axes (but for the batch axis) take at warm-up.
    pub example: Vec<usize>,
    /// How it enters the model.
    pub kind: Kind,
    /// Whether a request may leave a tensor out, which the model gets as `None` then. Of what is plain,
    /// [`Plain::optional`] says that.
    pub optional: bool,
    /// The list that it is an element of, where an argument takes several tensors. Elements of one stand one
    /// after the other.
    pub list: Option<String>,
    /// How a free axis of an input is filled up.
    pub padding: Option<Padding>,
    /// Which input an axis of an output is as long as.
    pub follows: Option<Follows>,
}

/// The inputs and outputs of a model, in the order of its arguments and results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Whether axis 0 of every tensor that is not plain is the batch axis.
    pub batched: bool,
    /// What it takes.
    pub inputs: Vec<TensorSpec>,
    /// What it returns.
    pub outputs: Vec<TensorSpec>,
}

/// A request's tensors, checked, in the order of the signature.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs {
    /// One for each declared input.
    pub tensors: Vec<Tensor>,
    /// Their size on the batch axis; 1 where the model does not batch.
    pub rows: usize,
    /// Which of them are no rows, but arguments of the call: the [plain](Kind::Plain) ones, and tensors
    /// that were left out, in whose place there is one without elements.
    pub plain: Vec<usize>,
}

// === impl Signature ===

impl Signature {
    /// Puts a request's inputs in order.
    ///
    /// # Errors
    ///
    /// The first difference from the signature, naming field, expected and got.
    pub fn arrange(&self, inputs: Vec<NamedTensor>) -> Result<Inputs, SignatureError> {
        let mut slots: Vec<Option<Tensor>> = self.inputs.iter().map(|_| None).collect();
        for NamedTensor { name, tensor } in inputs {
            let Some(at) = self.inputs.iter().position(|spec| spec.name == name) else {
                let expected = Names::of(&self.inputs);
                return Err(SignatureError::Unknown {
                    expected,
                    got: name,
                });
            };
            if slots[at].replace(tensor).is_some() {
                return Err(SignatureError::Twice { name });
            }
        }
        let mut tensors = Vec::with_capacity(slots.len());
        for (spec, slot) in self.inputs.iter().zip(slots) {
            let name = || spec.name.clone();
            // One without elements stands for what was left out.
            if let Some(tensor) = slot.as_ref().filter(|_| spec.optional) {
                spec.check_not_empty(tensor)?;
            }
            let tensor = slot.or_else(|| spec.left_out());
            tensors.push(tensor.ok_or_else(|| SignatureError::Missing { name: name() })?);
        }
        let rows = self.check(&self.inputs, &tensors, Rows::Some)?;
        for (spec, tensor) in self.inputs.iter().zip(&tensors) {
            if !spec.optional {
                spec.check_not_empty(tensor)?;
            }
            spec.check_elements(tensor)?;
            spec.check_length(tensor)?;
        }
        Ok(Inputs {
            plain: self.plain(&tensors),
            tensors,
            rows,
        })
    }

    /// Compares what a model returned for `rows` rows with what it declares.
    ///
    /// # Errors
    ///
    /// The first difference.
    pub fn check_outputs(&self, outputs: &[Tensor], rows: usize) -> Result<(), SignatureError> {
        self.check(&self.outputs, outputs, Rows::Exactly(rows))?;
        Ok(())
    }

    /// Inputs of zeros, for a warm-up run of so many rows; plain arguments have their declared value.
    #[must_use]
    pub fn zeros(&self, rows: usize) -> Inputs {
        self.made(rows, |spec| spec.zeros(self.batched, rows))
    }

    /// All that has to be run before requests of so many rows are fast: each length that inputs are filled up to,
    /// the longest first, with and without what may be left out.
    #[must_use]
    pub fn warm_ups(&self, rows: usize) -> Vec<Inputs> {
        let padded = self.inputs.iter().filter_map(|spec| spec.padding.as_ref());
        let lengths = padded.map(|padding| padding.lengths.len()).max();
        let has_optional = self.inputs.iter().any(|spec| spec.optional);
        let mut all = Vec::new();
        for nth in 0..lengths.unwrap_or(1) {
            let whole = |spec: &TensorSpec| spec.of_length(nth).zeros(self.batched, rows);
            all.push(self.made(rows, whole));
            if has_optional {
                let least = |spec: &TensorSpec| spec.left_out().or_else(|| whole(spec));
                all.push(self.made(rows, least));
            }
        }
        all
    }

    fn made(&self, rows: usize, make: impl Fn(&TensorSpec) -> Option<Tensor>) -> Inputs {
        let tensors: Vec<Tensor> = self.inputs.iter().filter_map(make).collect();
        Inputs {
            plain: self.plain(&tensors),
            tensors,
            rows: if self.batched { rows } else { 1 },
        }
    }

    /// Which inputs are no rows. Allocates nothing where none is.
    fn plain(&self, tensors: &[Tensor]) -> Vec<usize> {
        let inputs = self.inputs.iter().zip(tensors).enumerate();
        inputs
            .filter(|(_, (spec, tensor))| spec.is_plain() || spec.is_left_out(tensor))
            .map(|(at, _)| at)
            .collect()
    }

    /// Compares tensors with their declarations; returns the rows that they agree on.
    fn check(
        &self,
        specs: &[TensorSpec],
        tensors: &[Tensor],
        mut rows: Rows,
    ) -> Result<usize, SignatureError> {
        if specs.len() != tensors.len() {
            let (expected, got) = (specs.len(), tensors.len());
            return Err(SignatureError::Count { expected, got });
        }
        for (spec, tensor) in specs.iter().zip(tensors) {
            if spec.is_left_out(tensor) {
                continue;
            }
            spec.check(tensor)?;
            if self.batched && !spec.is_plain() {
                rows = rows.agree(spec, tensor.rows().unwrap_or(0))?;
            }
        }
        match rows {
            Rows::Exactly(rows) => Ok(rows),
            Rows::Some => Ok(1),
        }
    }
}

// === impl TensorSpec ===

impl TensorSpec {
    /// A tensor that has to be there, and is no element of a list.
    #[must_use]
    pub fn new(name: &str, datatype: Datatype, axes: Vec<Axis>) -> Self {
        Self {
            name: name.to_owned(),
            datatype,
            axes,
            example: Vec::new(),
            kind: Kind::Tensor,
            optional: false,
            list: None,
            padding: None,
            follows: None,
        }
    }

    /// The declaration as metadata shows it.
    #[must_use]
    pub fn metadata(&self) -> TensorMetadata {
        TensorMetadata {
            name: self.name.clone(),
            datatype: self.datatype,
            shape: self.axes.iter().map(|axis| axis.wire()).collect(),
        }
    }

    fn check(&self, tensor: &Tensor) -> Result<(), SignatureError> {
        if tensor.datatype() != self.datatype {
            return Err(SignatureError::Datatype {
                name: self.name.clone(),
                expected: self.datatype,
                got: tensor.datatype(),
            });
        }
        let fits = |(axis, size): (&Axis, &usize)| match axis {
            Axis::Free => true,
            Axis::Fixed(fixed) => fixed == size,
        };
        let shape = tensor.shape();
        if shape.len() != self.axes.len() || !self.axes.iter().zip(shape.iter()).all(fits) {
            return Err(SignatureError::Shape {
                name: self.name.clone(),
                expected: Axes::of(self),
                got: shape.clone(),
            });
        }
        Ok(())
    }

    /// For inputs only; a model may well answer with nothing, as when it detects no object.
    fn check_not_empty(&self, tensor: &Tensor) -> Result<(), SignatureError> {
        match tensor.shape().iter().position(|size| *size == 0) {
            None => Ok(()),
            Some(axis) => Err(SignatureError::EmptyAxis {
                name: self.name.clone(),
                axis,
                got: tensor.shape().clone(),
            }),
        }
    }

    /// Bytes of a warm-up tensor of so many rows; `None` where they cannot be counted.
    #[must_use]
    pub fn zeroed_bytes(&self, batched: bool, rows: usize) -> Option<usize> {
        // A zeroed element of BYTES is the length of an empty string.
        let element = self.datatype.size().unwrap_or(size_of::<u32>());
        let shape = self.zeroed_shape(batched, rows);
        shape
            .iter()
            .try_fold(element, |bytes, size| bytes.checked_mul(*size))
    }

    fn zeroed_shape(&self, batched: bool, rows: usize) -> Vec<usize> {
        let mut example = self.example.iter();
        let size = |(at, axis): (usize, &Axis)| match axis {
            Axis::Free if batched && at == 0 => rows,
            Axis::Free => example.next().copied().unwrap_or(1),
            Axis::Fixed(size) => *size,
        };
        self.axes.iter().enumerate().map(size).collect()
    }

    /// `None` only where memory could not hold the shape, which `model.toml` is refused for.
    fn zeros(&self, batched: bool, rows: usize) -> Option<Tensor> {
        if let Kind::Plain(plain) = &self.kind {
            return Some(plain.value.clone());
        }
        let data = Bytes::from(vec![0; self.zeroed_bytes(batched, rows)?]);
        Tensor::new(self.datatype, self.zeroed_shape(batched, rows), data).ok()
    }
}

// === impl Axis ===

impl Axis {
    /// As the wire writes it.
    #[must_use]
    pub fn wire(self) -> i64 {
        match self {
            Self::Free => -1,
            Self::Fixed(size) => i64::try_from(size).unwrap_or(i64::MAX),
        }
    }
}
