//! From the members of a body to a request or an answer that can be trusted.

use std::collections::HashSet;

use bytes::Bytes;
use serde::Deserialize;

use super::bounded::Bounded;
use super::cut::Cut;
use super::error::DecodeError;
use super::wire::{Object, Outputs, RawRequest, RawResponse, RawTensor, Size, Tensors};
use super::{data, fault};
use crate::binary::{self, Parts};
use crate::infer::{InferRequest, InferResponse, NamedTensor, RequestedOutput};
use crate::shape::{MAX_RANK, Shape};
use crate::tensor::Tensor;
use crate::text::excerpt;

// === impl InferRequest ===

impl InferRequest {
    /// Reads a request's body.
    ///
    /// `data` may be flat or nested as `shape` says, and may stand before or
    /// after `datatype`. Memory is bounded by the body: at worst 4 bytes a byte.
    ///
    /// # Errors
    ///
    /// When the body is no JSON object, or a member is missing or not what the
    /// protocol says; the error names the first such member.
    pub fn from_json(body: &[u8]) -> Result<Self, DecodeError> {
        Self::read(body, &Parts::none())
    }

    /// Reads a request's body, in which tensors may lie behind the JSON: `head` is the JSON's length,
    /// as [`binary::json_length`] finds it. Such tensors are slices of the body.
    ///
    /// # Errors
    ///
    /// As [`InferRequest::from_json`]; and when the parts are not what the JSON says.
    pub fn from_body(body: &Bytes, head: Option<usize>) -> Result<Self, DecodeError> {
        let (json, parts) = Parts::cut(body, head)?;
        Self::read(json, &parts)
    }

    fn read(json: &[u8], parts: &Parts) -> Result<Self, DecodeError> {
        read(json, |text, cut| Self::read_text(text, parts.clone(), cut))
    }

    pub(super) fn read_text(
        text: &[u8],
        parts: Parts,
        cut: Option<&Cut<'_>>,
    ) -> Result<Self, DecodeError> {
        let raw: RawRequest<'_> = members(text)?;
        let inputs = required("inputs", raw.inputs, "a list of tensors")?;
        Ok(Self {
            id: raw.id,
            parameters: raw.parameters.unwrap_or_default().0,
            inputs: tensors("inputs", inputs, parts, cut)?,
            outputs: requested(raw.outputs)?,
        })
    }
}

// === impl InferResponse ===

impl InferResponse {
    /// Reads an answer's body, as [`InferRequest::from_json`] reads a request's.
    ///
    /// # Errors
    ///
    /// When the body is no JSON object, or a member is missing or not what the
    /// protocol says; the error names the first such member.
    pub fn from_json(body: &[u8]) -> Result<Self, DecodeError> {
        Self::read(body, &Parts::none())
    }

    /// Reads an answer's body, as [`InferRequest::from_body`] reads a request's.
    ///
    /// # Errors
    ///
    /// As [`InferResponse::from_json`]; and when the parts are not what the JSON says.
    pub fn from_body(body: &Bytes, head: Option<usize>) -> Result<Self, DecodeError> {
        let (json, parts) = Parts::cut(body, head)?;
        Self::read(json, &parts)
    }

    fn read(json: &[u8], parts: &Parts) -> Result<Self, DecodeError> {
        read(json, |text, cut| Self::read_text(text, parts.clone(), cut))
    }

    fn read_text(text: &[u8], parts: Parts, cut: Option<&Cut<'_>>) -> Result<Self, DecodeError> {
        let raw: RawResponse<'_> = members(text)?;
        let model_name = required("model_name", raw.model_name, "the model's name")?;
        let outputs = required("outputs", raw.outputs, "a list of tensors")?;
        Ok(Self {
            model_name,
            model_version: raw.model_version,
            id: raw.id,
            parameters: raw.parameters.unwrap_or_default().0,
            outputs: tensors("outputs", outputs, parts, cut)?,
        })
    }
}

/// Reads a body without its lists of numbers, which are read by themselves; where anything is wrong, as it is.
fn read<T>(
    json: &[u8],
    text: impl Fn(&[u8], Option<&Cut<'_>>) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    if let Some(cut) = Cut::of(json)
        && let Ok(read) = text(cut.text(), Some(&cut))
        && cut.is_used_up()
    {
        return Ok(read);
    }
    text(json, None)
}

/// Reads the one object that a body must be.
fn members<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, DecodeError> {
    if body.trim_ascii().is_empty() {
        return Err(DecodeError::Empty);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let Object(members) = serde_path_to_error::deserialize::<_, Object<T>>(&mut deserializer)
        .map_err(|error| fault::from_serde(body, fault::field(error.path()), error.inner()))?;
    let body_field = || "body".to_owned();
    deserializer
        .end()
        .map_err(|error| fault::from_serde(body, body_field(), &error))?;
    Ok(members)
}

fn tensors(
    list: &str,
    Bounded(raw): Tensors<'_>,
    mut parts: Parts,
    cut: Option<&Cut<'_>>,
) -> Result<Vec<NamedTensor>, DecodeError> {
    let mut tensors = Vec::with_capacity(raw.len());
    for (index, Object(raw)) in raw.into_iter().enumerate() {
        tensors.push(tensor(&format!("{list}[{index}]"), raw, &mut parts, cut)?);
    }
    parts.end()?;
    unique(list, tensors.iter().map(|named| named.name.as_str()))?;
    Ok(tensors)
}

fn tensor(
    field: &str,
    raw: RawTensor<'_>,
    parts: &mut Parts,
    cut: Option<&Cut<'_>>,
) -> Result<NamedTensor, DecodeError> {
    let member = |name: &str| format!("{field}.{name}");
    let name = required(&member("name"), raw.name, "the tensor's name")?;
    let datatype = required(&member("datatype"), raw.datatype, "the name of a datatype")?;
    let shape = shape_of(required(&member("shape"), raw.shape, "a list of sizes")?);
    let size = match &raw.parameters {
        Some(parameters) => binary::data_size(field, &parameters.0)?,
        None => None,
    };
    let data = match (raw.data, size) {
        (Some(_), Some(size)) => {
            let expected = "no data beside a binary_data_size";
            let got = format!("both, the latter of {size}");
            return Err(binary::mismatch(&member("data"), expected, got));
        }
        (None, Some(size)) => parts.take(field, size)?,
        (data, None) => {
            let data = required(&member("data"), data, "a list of elements")?.get();
            match cut.and_then(|cut| cut.elements(data, datatype, &shape)) {
                Some(elements) => elements.into(),
                None => data::decode(&member("data"), data, datatype, &shape)?.into(),
            }
        }
    };
    let tensor = Tensor::new(datatype, shape, data).map_err(|fault| DecodeError::Tensor {
        field: field.to_owned(),
        fault,
    })?;
    Ok(NamedTensor { name, tensor })
}

fn shape_of(Bounded(sizes): Bounded<Size, MAX_RANK>) -> Shape {
    sizes
        .into_iter()
        .map(|Size(size)| size)
        .collect::<Vec<_>>()
        .into()
}

fn requested(raw: Option<Outputs>) -> Result<Vec<RequestedOutput>, DecodeError> {
    let Bounded(raw) = raw.unwrap_or(Bounded(Vec::new()));
    let mut outputs = Vec::with_capacity(raw.len());
    for (index, Object(raw)) in raw.into_iter().enumerate() {
        let name = required(
            &format!("outputs[{index}].name"),
            raw.name,
            "the output's name",
        )?;
        outputs.push(RequestedOutput {
            name,
            parameters: raw.parameters.unwrap_or_default().0,
        });
    }
    unique("outputs", outputs.iter().map(|output| output.name.as_str()))?;
    Ok(outputs)
}

fn required<T>(field: &str, member: Option<T>, expected: &str) -> Result<T, DecodeError> {
    member.ok_or_else(|| DecodeError::Mismatch {
        field: field.to_owned(),
        expected: expected.to_owned(),
        got: "nothing".to_owned(),
    })
}

fn unique<'a>(list: &str, names: impl Iterator<Item = &'a str>) -> Result<(), DecodeError> {
    let mut seen = HashSet::new();
    for (index, name) in names.enumerate() {
        if !seen.insert(name) {
            return Err(DecodeError::Duplicate {
                field: format!("{list}[{index}].name"),
                name: excerpt(name).to_string(),
            });
        }
    }
    Ok(())
}
