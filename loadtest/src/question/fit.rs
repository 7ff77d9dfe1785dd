//! Whether a question is what the model takes.

use aegis_protocol::{Datatype, NamedTensor, Shape, TensorError, TensorMetadata, excerpt, listed};

/// Says where a question is not what the model takes, and what was expected.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Misfit {
    /// The model has no such input.
    #[error("input `{}`: the model has {inputs}", excerpt(.name))]
    NoSuch {
        /// Its name.
        name: String,
        /// The inputs that there are.
        inputs: String,
    },
    /// An input is left out.
    #[error("input `{}`: expected {expected}, got none", excerpt(.name))]
    Missing {
        /// Its name.
        name: String,
        /// Its datatype and shape.
        expected: String,
    },
    /// An input has another datatype or shape.
    #[error("input `{}`: expected {expected}, got {got}", excerpt(.name))]
    Other {
        /// Its name.
        name: String,
        /// Its datatype and shape in the signature.
        expected: String,
        /// What it is.
        got: String,
    },
    /// A number does not fit the datatype.
    #[error("input `{}`: expected {expected}, got the number {got}", excerpt(.name))]
    Number {
        /// The input's name.
        name: String,
        /// Its datatype and shape.
        expected: String,
        /// The number.
        got: f64,
    },
    /// Shape and elements do not fit.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// As another, in a line of a file.
    #[error("line {line}: {misfit}")]
    InLine {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        misfit: Box<Misfit>,
    },
}

// === impl Misfit ===

impl Misfit {
    pub(super) fn no_such(name: &str, inputs: &[TensorMetadata]) -> Self {
        let inputs = inputs.iter().map(|input| input.name.as_str());
        Self::NoSuch {
            name: name.to_owned(),
            inputs: listed(inputs),
        }
    }

    /// The same, in a line.
    pub(super) fn at(self, line: usize) -> Self {
        Self::InLine {
            line,
            misfit: Box::new(self),
        }
    }
}

/// What an input takes: `FP32 [-1,64]`.
pub(super) fn expected(input: &TensorMetadata) -> String {
    let sizes: Vec<_> = input.shape.iter().map(i64::to_string).collect();
    format!("{} [{}]", input.datatype, sizes.join(","))
}

/// Whether inputs are those that the model takes.
pub(super) fn fit(inputs: &[NamedTensor], signature: &[TensorMetadata]) -> Result<(), Misfit> {
    known(inputs, signature)?;
    let names: Vec<_> = inputs.iter().map(|input| input.name.as_str()).collect();
    missing(&names, signature)
}

/// Whether inputs are some of those that the model takes. Which of them may be left out, no signature says: whoever
/// writes whole requests knows, and the server has the last word.
pub(super) fn fit_some(inputs: &[NamedTensor], signature: &[TensorMetadata]) -> Result<(), Misfit> {
    known(inputs, signature)?;
    if inputs.is_empty() {
        return missing(&[], signature);
    }
    Ok(())
}

fn known(inputs: &[NamedTensor], signature: &[TensorMetadata]) -> Result<(), Misfit> {
    for input in inputs {
        let found = signature.iter().find(|known| known.name == input.name);
        let known = found.ok_or_else(|| Misfit::no_such(&input.name, signature))?;
        let tensor = &input.tensor;
        if tensor.datatype() != known.datatype || !is_of(tensor.shape(), &known.shape) {
            return Err(Misfit::Other {
                name: input.name.clone(),
                expected: expected(known),
                got: got(tensor.datatype(), tensor.shape()),
            });
        }
    }
    Ok(())
}

/// Whether no input is left out. Arguments without axes may be optional, which no signature says.
pub(super) fn missing(names: &[&str], signature: &[TensorMetadata]) -> Result<(), Misfit> {
    let missing = signature
        .iter()
        .find(|known| !known.shape.is_empty() && !names.contains(&known.name.as_str()));
    match missing {
        Some(known) => Err(Misfit::Missing {
            name: known.name.clone(),
            expected: expected(known),
        }),
        None => Ok(()),
    }
}

fn got(datatype: Datatype, shape: &Shape) -> String {
    format!("{datatype} {shape}")
}

/// Whether a shape is one of a signature's.
pub(super) fn is_of(shape: &Shape, signature: &[i64]) -> bool {
    shape.len() == signature.len()
        && shape
            .iter()
            .zip(signature)
            .all(|(&size, &known)| known < 0 || usize::try_from(known) == Ok(size))
}
