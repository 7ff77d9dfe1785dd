//! Between messages and tensors.
//!
//! Raw contents are taken as they stand: the tensor's data is a part of the message's bytes, and
//! nothing is copied. Typed contents are written into the raw encoding, each datatype from the one
//! list that the protocol gives it. A request has either the one or the other.

use bytes::Bytes;

use super::{
    InferInputTensor, InferOutputTensor, ModelInferRequest, ModelInferResponse, NamedParameter,
    TensorContents,
};
use crate::datatype::{Datatype, UnknownDatatype};
use crate::element::Element;
use crate::infer::{InferRequest, InferResponse, MAX_TENSORS, NamedTensor, RequestedOutput};
use crate::parameters::Parameters;
use crate::shape::{MAX_RANK, Shape};
use crate::tensor::{Tensor, TensorError};
use crate::text::excerpt;

/// A message that is no inference. The client's fault.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ContentsError {
    /// A datatype that there is not.
    #[error("{field}.datatype: {fault}")]
    Datatype {
        /// The tensor's place, such as `inputs[0]`.
        field: String,
        /// What it is.
        fault: UnknownDatatype,
    },
    /// An axis of less than nothing, or more axes than anybody has.
    #[error("{field}.shape: expected at most {MAX_RANK} sizes >= 0, got {got}")]
    Shape {
        /// The tensor's place.
        field: String,
        /// What it says.
        got: String,
    },
    /// Elements stand in both places that there are for them.
    #[error("{field}.contents: expected none beside raw_input_contents, got some")]
    Both {
        /// The tensor's place.
        field: String,
    },
    /// Elements stand in the list of another type.
    #[error("{field}.contents: expected {expected} for {datatype}, got other contents beside them")]
    WrongList {
        /// The tensor's place.
        field: String,
        /// The tensor's type.
        datatype: Datatype,
        /// The list of its type.
        expected: &'static str,
    },
    /// The type has no list.
    #[error("{field}.contents: expected raw_input_contents for {datatype}, which has no other")]
    OnlyRaw {
        /// The tensor's place.
        field: String,
        /// The tensor's type.
        datatype: Datatype,
    },
    /// An element does not fit its type.
    #[error("{field}.contents: expected {datatype} at element {index}, got {got}")]
    Range {
        /// The tensor's place.
        field: String,
        /// The tensor's type.
        datatype: Datatype,
        /// Index of the element.
        index: usize,
        /// What it is.
        got: i64,
    },
    /// More or fewer contents than tensors.
    #[error("raw_input_contents: expected {expected}, one for each input, got {got}")]
    Count {
        /// Tensors that there are.
        expected: usize,
        /// Contents that there are.
        got: usize,
    },
    /// More tensors than anybody has.
    #[error("{field}: expected at most {MAX_TENSORS}, got {got}")]
    TooMany {
        /// `inputs` or `outputs`.
        field: &'static str,
        /// How many there are.
        got: usize,
    },
    /// Shape and elements do not fit.
    #[error("{field}: {fault}")]
    Tensor {
        /// The tensor's place.
        field: String,
        /// What is wrong.
        fault: TensorError,
    },
    /// A name stands twice.
    #[error("{field}.name: `{name}` is given twice")]
    Twice {
        /// The second one's place.
        field: String,
        /// The name, cut.
        name: String,
    },
}

// === impl ModelInferRequest ===

impl ModelInferRequest {
    /// Reads what is asked. Raw contents are not copied.
    ///
    /// # Errors
    /// The first thing that is wrong, by its place.
    pub fn into_request(self) -> Result<InferRequest, ContentsError> {
        // Names are compared with each other below.
        for (field, got) in [
            ("inputs", self.inputs.len()),
            ("outputs", self.outputs.len()),
        ] {
            if got > MAX_TENSORS {
                return Err(ContentsError::TooMany { field, got });
            }
        }
        let (count, raw) = (self.inputs.len(), self.raw_input_contents);
        if !raw.is_empty() && raw.len() != count {
            let (expected, got) = (count, raw.len());
            return Err(ContentsError::Count { expected, got });
        }
        let mut raw = raw.into_iter();
        let mut inputs: Vec<NamedTensor> = Vec::with_capacity(count);
        for (at, input) in self.inputs.into_iter().enumerate() {
            let field = || format!("inputs[{at}]");
            if inputs.iter().any(|other| other.name == input.name) {
                let name = excerpt(&input.name).to_string();
                let field = field();
                return Err(ContentsError::Twice { field, name });
            }
            inputs.push(tensor(input, raw.next(), field)?);
        }
        let mut outputs: Vec<RequestedOutput> = Vec::with_capacity(self.outputs.len());
        for (at, output) in self.outputs.into_iter().enumerate() {
            if outputs.iter().any(|other| other.name == output.name) {
                let name = excerpt(&output.name).to_string();
                let field = format!("outputs[{at}]");
                return Err(ContentsError::Twice { field, name });
            }
            outputs.push(RequestedOutput {
                name: output.name,
                parameters: parameters(output.parameters),
            });
        }
        Ok(InferRequest {
            id: Some(self.id).filter(|id| !id.is_empty()),
            parameters: parameters(self.parameters),
            inputs,
            outputs,
        })
    }
}

// === impl ModelInferResponse ===

impl From<InferResponse> for ModelInferResponse {
    /// Outputs go into raw contents, and are not copied.
    fn from(response: InferResponse) -> Self {
        let mut outputs = Vec::with_capacity(response.outputs.len());
        let mut raw = Vec::with_capacity(response.outputs.len());
        for NamedTensor { name, tensor } in response.outputs {
            let sizes = tensor.shape().iter();
            outputs.push(InferOutputTensor {
                name,
                datatype: tensor.datatype().name().to_owned(),
                // No tensor in memory has an axis that does not fit.
                shape: sizes
                    .map(|size| i64::try_from(*size).unwrap_or(i64::MAX))
                    .collect(),
            });
            raw.push(tensor.data().clone());
        }
        Self {
            model_name: response.model_name,
            model_version: response.model_version.unwrap_or_default(),
            id: response.id.unwrap_or_default(),
            parameters: response
                .parameters
                .into_iter()
                .map(NamedParameter::from)
                .collect(),
            outputs,
            raw_output_contents: raw,
        }
    }
}

/// What is there twice counts as the last, as decoders of maps have it.
fn parameters(entries: Vec<NamedParameter>) -> Parameters {
    let entry = |entry: NamedParameter| Some((entry.name, entry.value?.choice?.into()));
    entries.into_iter().filter_map(entry).collect()
}

fn tensor(
    input: InferInputTensor,
    raw: Option<Bytes>,
    field: impl Fn() -> String,
) -> Result<NamedTensor, ContentsError> {
    let datatype: Datatype = input.datatype.parse().map_err(|fault| {
        let field = field();
        ContentsError::Datatype { field, fault }
    })?;
    let shape = shape(&input.shape, &field)?;
    let contents = input.contents.unwrap_or_default();
    let data = match raw {
        Some(_) if contents != TensorContents::default() => {
            return Err(ContentsError::Both { field: field() });
        }
        Some(raw) => raw,
        None => typed(contents, datatype, &field)?.into(),
    };
    let tensor = Tensor::new(datatype, shape, data).map_err(|fault| {
        let field = field();
        ContentsError::Tensor { field, fault }
    })?;
    Ok(NamedTensor::new(input.name, tensor))
}

fn shape(sizes: &[i64], field: impl Fn() -> String) -> Result<Shape, ContentsError> {
    let read: Result<Vec<usize>, _> = sizes.iter().map(|size| usize::try_from(*size)).collect();
    match read {
        Ok(sizes) if sizes.len() <= MAX_RANK => Ok(sizes.into()),
        Ok(sizes) => {
            let got = format!("{} of them", sizes.len());
            Err(ContentsError::Shape {
                field: field(),
                got,
            })
        }
        Err(_) => {
            let least = sizes.iter().min().copied().unwrap_or(0).to_string();
            Err(ContentsError::Shape {
                field: field(),
                got: least,
            })
        }
    }
}

/// Typed contents in the raw encoding.
fn typed(
    mut contents: TensorContents,
    datatype: Datatype,
    field: impl Fn() -> String,
) -> Result<Vec<u8>, ContentsError> {
    use std::mem::take;
    let (data, expected) = match datatype {
        Datatype::Bool => (raw(&take(&mut contents.bools)), "bool_contents"),
        Datatype::Int8 => (
            narrow::<i8, _>(take(&mut contents.ints), datatype, &field)?,
            "int_contents",
        ),
        Datatype::Int16 => (
            narrow::<i16, _>(take(&mut contents.ints), datatype, &field)?,
            "int_contents",
        ),
        Datatype::Int32 => (raw(&take(&mut contents.ints)), "int_contents"),
        Datatype::Int64 => (raw(&take(&mut contents.int64s)), "int64_contents"),
        Datatype::Uint8 => (
            narrow::<u8, _>(take(&mut contents.uints), datatype, &field)?,
            "uint_contents",
        ),
        Datatype::Uint16 => (
            narrow::<u16, _>(take(&mut contents.uints), datatype, &field)?,
            "uint_contents",
        ),
        Datatype::Uint32 => (raw(&take(&mut contents.uints)), "uint_contents"),
        Datatype::Uint64 => (raw(&take(&mut contents.uint64s)), "uint64_contents"),
        Datatype::Fp32 => (raw(&take(&mut contents.fp32s)), "fp32_contents"),
        Datatype::Fp64 => (raw(&take(&mut contents.fp64s)), "fp64_contents"),
        Datatype::Bytes => (
            strings(&take(&mut contents.bytes), &field)?,
            "bytes_contents",
        ),
        Datatype::Fp16 | Datatype::Bf16 => {
            let field = field();
            return Err(ContentsError::OnlyRaw { field, datatype });
        }
    };
    if contents == TensorContents::default() {
        return Ok(data);
    }
    Err(ContentsError::WrongList {
        field: field(),
        datatype,
        expected,
    })
}

fn raw<T: Element>(elements: &[T]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(size_of_val(elements));
    for element in elements {
        element.put(&mut raw);
    }
    raw
}

fn narrow<T, U>(
    elements: Vec<U>,
    datatype: Datatype,
    field: impl Fn() -> String,
) -> Result<Vec<u8>, ContentsError>
where
    T: Element + TryFrom<U>,
    U: Copy + Into<i64>,
{
    let mut raw = Vec::with_capacity(elements.len() * T::SIZE);
    for (index, element) in elements.into_iter().enumerate() {
        match T::try_from(element) {
            Ok(element) => element.put(&mut raw),
            Err(_) => {
                return Err(ContentsError::Range {
                    field: field(),
                    datatype,
                    index,
                    got: element.into(),
                });
            }
        }
    }
    Ok(raw)
}

fn strings(elements: &[Bytes], field: impl Fn() -> String) -> Result<Vec<u8>, ContentsError> {
    let mut raw = Vec::with_capacity(elements.iter().map(|element| element.len() + 4).sum());
    for element in elements {
        crate::tensor::put_string(&mut raw, element).map_err(|fault| {
            let field = field();
            ContentsError::Tensor { field, fault }
        })?;
    }
    Ok(raw)
}

#[cfg(test)]
mod tests;
