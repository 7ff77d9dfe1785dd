//! Writes requests and answers as JSON, in one pass over the raw bytes.

use std::io;

use bytes::Bytes;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};

use super::error::EncodeError;
use crate::binary::{self, Encoded, OutputForms};
use crate::datatype::Datatype;
use crate::element::Element;
use crate::infer::{InferRequest, InferResponse, NamedTensor};
use crate::parameters::{Parameter, Parameters};
use crate::tensor::Tensor;
use crate::text::excerpt;

/// Bytes to reserve for one element: right for small numbers, and for the rest
/// a start to grow from.
const ELEMENT_TEXT: usize = 8;

// === impl InferRequest ===

impl InferRequest {
    /// Writes the request's body, with flat `data`.
    ///
    /// # Errors
    ///
    /// When an element or a parameter is NaN or infinite, or a `BYTES` element
    /// is no UTF-8: JSON has neither.
    pub fn to_json(&self) -> Result<Vec<u8>, EncodeError> {
        Ok(self.write(&OutputForms::default())?.head)
    }

    /// Writes the request's body with the inputs' data behind the JSON, where every value can be.
    ///
    /// # Errors
    ///
    /// When a parameter is NaN or infinite.
    pub fn to_binary(&self) -> Result<Encoded, EncodeError> {
        self.write(&OutputForms::BINARY)
    }

    fn write(&self, forms: &OutputForms) -> Result<Encoded, EncodeError> {
        let mut body = Body::new(&self.inputs, forms);
        body.text_member("id", self.id.as_deref());
        body.parameters(&self.parameters)?;
        body.tensors("inputs", &self.inputs, forms)?;
        if !self.outputs.is_empty() {
            body.key("outputs");
            body.list(&self.outputs, |body, output| {
                body.object(|body| {
                    body.text_member("name", Some(&output.name));
                    body.parameters(&output.parameters)
                })
            })?;
        }
        Ok(body.finish())
    }
}

// === impl InferResponse ===

impl InferResponse {
    /// Writes the answer's body, with flat `data`.
    ///
    /// # Errors
    ///
    /// When an element or a parameter is NaN or infinite, or a `BYTES` element
    /// is no UTF-8: JSON has neither.
    pub fn to_json(&self) -> Result<Vec<u8>, EncodeError> {
        Ok(self.encode(&OutputForms::default())?.head)
    }

    /// Writes the answer's body, each output in its form. One that is written in binary may hold
    /// any value.
    ///
    /// # Errors
    ///
    /// As [`InferResponse::to_json`], for outputs that are written in JSON.
    pub fn encode(&self, forms: &OutputForms) -> Result<Encoded, EncodeError> {
        let mut body = Body::new(&self.outputs, forms);
        body.text_member("model_name", Some(&self.model_name));
        body.text_member("model_version", self.model_version.as_deref());
        body.text_member("id", self.id.as_deref());
        body.parameters(&self.parameters)?;
        body.tensors("outputs", &self.outputs, forms)?;
        Ok(body.finish())
    }
}

/// A body that is being written: an object, open until [`Body::finish`].
struct Body {
    text: Vec<u8>,
    parts: Option<Vec<Bytes>>,
}

// === impl Body ===

impl Body {
    fn new(tensors: &[NamedTensor], forms: &OutputForms) -> Self {
        let in_text = tensors.iter().enumerate();
        let elements: usize = in_text
            .filter(|(index, _)| !forms.is_binary(*index))
            .map(|(_, named)| named.tensor.element_count())
            .sum();
        let mut text = Vec::with_capacity(256 + elements * ELEMENT_TEXT);
        text.push(b'{');
        Self { text, parts: None }
    }

    fn finish(mut self) -> Encoded {
        self.text.push(b'}');
        Encoded {
            head: self.text,
            parts: self.parts,
        }
    }

    /// Writes a key, after a comma where it is not the first.
    fn key(&mut self, key: &str) {
        if self.text.last() != Some(&b'{') {
            self.text.push(b',');
        }
        self.value(key);
        self.text.push(b':');
    }

    fn text_member(&mut self, key: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.key(key);
            self.value(text);
        }
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) {
        written(serde_json::to_writer(&mut self.text, value).map_err(io::Error::from));
    }

    fn parameters(&mut self, parameters: &Parameters) -> Result<(), EncodeError> {
        for (name, parameter) in parameters {
            if let Parameter::Float(value) = *parameter
                && !value.is_finite()
            {
                let name = excerpt(name).to_string();
                return Err(EncodeError::NonFiniteParameter { name, value });
            }
        }
        if !parameters.is_empty() {
            self.key("parameters");
            self.value(parameters);
        }
        Ok(())
    }

    fn tensors(
        &mut self,
        key: &str,
        tensors: &[NamedTensor],
        forms: &OutputForms,
    ) -> Result<(), EncodeError> {
        self.key(key);
        let tensors = tensors.iter().enumerate();
        self.list(tensors, |body, (index, NamedTensor { name, tensor })| {
            body.object(|body| {
                body.text_member("name", Some(name));
                body.text_member("datatype", Some(tensor.datatype().name()));
                body.key("shape");
                body.value(&**tensor.shape());
                if forms.is_binary(index) {
                    return body.part(tensor.data());
                }
                body.key("data");
                body.data(name, tensor)
            })
        })
    }

    /// Leaves a tensor's data for behind the JSON.
    fn part(&mut self, data: &Bytes) -> Result<(), EncodeError> {
        self.key("parameters");
        self.object(|body| {
            body.key(binary::SIZE);
            body.value(&data.len());
            Ok(())
        })?;
        self.parts.get_or_insert_default().push(data.clone());
        Ok(())
    }

    fn object(
        &mut self,
        members: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.text.push(b'{');
        members(self)?;
        self.text.push(b'}');
        Ok(())
    }

    fn list<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut item: impl FnMut(&mut Self, T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.text.push(b'[');
        for (index, value) in items.into_iter().enumerate() {
            if index > 0 {
                self.text.push(b',');
            }
            item(self, value)?;
        }
        self.text.push(b']');
        Ok(())
    }

    fn data(&mut self, name: &str, tensor: &Tensor) -> Result<(), EncodeError> {
        if let Some((index, value)) = tensor.first_non_finite() {
            let tensor = excerpt(name).to_string();
            return Err(EncodeError::NonFinite {
                tensor,
                index,
                value,
            });
        }
        let f = CompactFormatter;
        match tensor.datatype() {
            Datatype::Bool => self.elements(tensor, f, CompactFormatter::write_bool),
            Datatype::Uint8 => self.elements(tensor, f, CompactFormatter::write_u8),
            Datatype::Uint16 => self.elements(tensor, f, CompactFormatter::write_u16),
            Datatype::Uint32 => self.elements(tensor, f, CompactFormatter::write_u32),
            Datatype::Uint64 => self.elements(tensor, f, CompactFormatter::write_u64),
            Datatype::Int8 => self.elements(tensor, f, CompactFormatter::write_i8),
            Datatype::Int16 => self.elements(tensor, f, CompactFormatter::write_i16),
            Datatype::Int32 => self.elements(tensor, f, CompactFormatter::write_i32),
            Datatype::Int64 => self.elements(tensor, f, CompactFormatter::write_i64),
            Datatype::Fp32 => self.elements(tensor, f, CompactFormatter::write_f32),
            Datatype::Fp64 => self.elements(tensor, f, CompactFormatter::write_f64),
            Datatype::Fp16 => self.elements(tensor, f, |f, out, value: half::f16| {
                f.write_f32(out, value.to_f32())
            }),
            Datatype::Bf16 => self.elements(tensor, f, |f, out, value: half::bf16| {
                f.write_f32(out, value.to_f32())
            }),
            Datatype::Bytes => self.strings(name, tensor),
        }
    }

    fn elements<T: Element>(
        &mut self,
        tensor: &Tensor,
        mut formatter: CompactFormatter,
        write: impl Fn(&mut CompactFormatter, &mut Vec<u8>, T) -> io::Result<()>,
    ) -> Result<(), EncodeError> {
        let elements = tensor.data().chunks_exact(T::SIZE).map(T::get);
        self.list(elements, |body, element| {
            written(write(&mut formatter, &mut body.text, element));
            Ok(())
        })
    }

    fn strings(&mut self, name: &str, tensor: &Tensor) -> Result<(), EncodeError> {
        let elements = tensor.strings().into_iter().flatten().enumerate();
        self.list(elements, |body, (index, bytes)| {
            let text = std::str::from_utf8(&bytes).map_err(|_| EncodeError::NotText {
                tensor: excerpt(name).to_string(),
                index,
            })?;
            body.value(text);
            Ok(())
        })
    }
}

/// A vector takes every write, and the values written here have no way to fail.
fn written(result: io::Result<()>) {
    if let Err(error) = result {
        unreachable!("writing JSON to a vector failed: {error}");
    }
}
