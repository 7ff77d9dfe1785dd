//! What is sent, in each form, and what an answer says.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use aegis_protocol::grpc::{InferInputTensor, ModelInferRequest, ModelInferResponse};
use anyhow::{Context, Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use serde_json::Value;

use super::MODEL;
use super::contender::Contender;

/// Numbers in and out of the perceptron.
pub(super) const FEATURES: usize = 784;
pub(super) const CLASSES: usize = 10;
/// Bytes before a message: whether it is compressed, and its length.
const FRAME: usize = 5;
/// Two BLAS libraries add in different orders.
const TOLERANCE: f32 = 1e-3;

/// How tensors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// The binary tensor extension; for mosec the bare numbers.
    Binary,
    Json,
    /// With `raw_input_contents`.
    Grpc,
}

/// A request's body, with the length of its JSON part where a header tells it.
#[derive(Clone, Debug)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    pub(super) header_length: Option<usize>,
}

/// Inputs, and what libtorch itself answers to them.
#[derive(Debug)]
pub(crate) struct Examples {
    inputs: Vec<f32>,
    outputs: Vec<f32>,
}

// === impl Form ===

impl Form {
    pub(super) const ALL: [Self; 3] = [Self::Binary, Self::Json, Self::Grpc];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Json => "json",
            Self::Grpc => "grpc",
        }
    }

    pub(super) fn named(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|one| one.name() == name);
        found.with_context(|| format!("no form `{name}`; known: binary, json, grpc"))
    }

    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Binary => "application/octet-stream",
            Self::Json => "application/json",
            Self::Grpc => "application/grpc",
        }
    }

    /// A request for one row.
    pub(super) fn body(self, to: Contender, row: &[f32]) -> Body {
        let raw: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
        match self {
            Self::Binary if to == Contender::Mosec => Body::plain(raw),
            Self::Binary => {
                let head = format!(
                    "{{\"inputs\":[{{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1,{FEATURES}],\
                     \"parameters\":{{\"binary_data_size\":{}}}}}],\
                     \"parameters\":{{\"binary_data_output\":true}}}}",
                    raw.len()
                );
                let header_length = Some(head.len());
                let bytes = [head.into_bytes(), raw].concat().into();
                Body {
                    bytes,
                    header_length,
                }
            }
            Self::Json => Body::plain(json(row).into_bytes()),
            Self::Grpc => Body::plain(grpc(raw)),
        }
    }

    /// The numbers of an answer.
    pub(super) fn read(
        self,
        from: Contender,
        header_length: usize,
        body: &[u8],
    ) -> Result<Vec<f32>> {
        match self {
            Self::Binary if from == Contender::Mosec => numbers(body),
            Self::Binary => numbers(body.get(header_length..).context("no tensor")?),
            Self::Json => {
                let mut answer: Value = serde_json::from_slice(body)?;
                let data = answer["outputs"][0]["data"].take();
                serde_json::from_value(data).context("no numbers in `data`")
            }
            Self::Grpc => {
                let message = body.get(FRAME..).context("no message")?;
                let answer = ModelInferResponse::decode(message)?;
                numbers(answer.raw_output_contents.first().context("no output")?)
            }
        }
    }
}

// === impl Body ===

impl Body {
    fn plain(bytes: impl Into<Bytes>) -> Self {
        Self {
            bytes: bytes.into(),
            header_length: None,
        }
    }
}

// === impl Examples ===

impl Examples {
    /// Those that came with the model.
    pub(crate) fn read(models: &Path) -> Result<Self> {
        let read = |name: &str| {
            let file = models.join(MODEL).join(name);
            let bytes = fs::read(&file).with_context(|| format!("{}", file.display()))?;
            numbers(&bytes)
        };
        let (inputs, outputs) = (read("inputs.f32")?, read("outputs.f32")?);
        ensure!(
            !inputs.is_empty() && inputs.len() / FEATURES == outputs.len() / CLASSES,
            "inputs and outputs of different rows"
        );
        Ok(Self { inputs, outputs })
    }

    pub(super) fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.inputs.chunks_exact(FEATURES)
    }

    /// Compares an answer to that row with libtorch's own.
    pub(super) fn check(&self, row: usize, got: &[f32]) -> Result<()> {
        let expected = &self.outputs[row * CLASSES..][..CLASSES];
        ensure!(got.len() == CLASSES, "{} numbers in an answer", got.len());
        for (got, expected) in got.iter().zip(expected) {
            ensure!(
                (got - expected).abs() <= TOLERANCE * (1.0 + expected.abs()),
                "row {row}: {got} in place of {expected}"
            );
        }
        Ok(())
    }
}

fn json(row: &[f32]) -> String {
    let mut text = format!(
        "{{\"inputs\":[{{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1,{FEATURES}],\"data\":["
    );
    for (at, value) in row.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}{value}");
    }
    text.push_str("]}]}");
    text
}

fn grpc(raw: Vec<u8>) -> Bytes {
    let input = InferInputTensor {
        name: "x".to_owned(),
        datatype: "FP32".to_owned(),
        shape: vec![1, i64::try_from(FEATURES).unwrap_or(i64::MAX)],
        ..InferInputTensor::default()
    };
    let request = ModelInferRequest {
        model_name: MODEL.to_owned(),
        inputs: vec![input],
        raw_input_contents: vec![raw.into()],
        ..ModelInferRequest::default()
    };
    let message = request.encode_to_vec();
    let mut frame = BytesMut::with_capacity(FRAME + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(&message);
    frame.freeze()
}

fn numbers(bytes: &[u8]) -> Result<Vec<f32>> {
    ensure!(
        bytes.len().is_multiple_of(4),
        "{} bytes of FP32",
        bytes.len()
    );
    let (numbers, _) = bytes.as_chunks::<4>();
    Ok(numbers
        .iter()
        .map(|four| f32::from_le_bytes(*four))
        .collect())
}
