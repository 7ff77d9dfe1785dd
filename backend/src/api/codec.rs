//! Bodies of inferences: from one to a request that is checked, and from outputs to an answer.
//!
//! JSON, with tensors behind it where the client sends or asks for them so
//! ([`aegis_protocol::binary`]), and all of it compressed where both sides know how.

use std::sync::Arc;

use aegis_protocol::{Encoded, InferRequest, OutputForms, headers};
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use http::{HeaderValue, Response};

use super::body::Upload;
use super::coding::Coding;
use super::{Answer, JSON, Payload, Refused};
use crate::infer::{Answered, Asked, work};
use crate::repository::ModelSpec;

/// JSON with tensors behind it.
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// From this size on, an answer is compressed for who accepts it. Below, a millisecond of the
/// network is cheaper than the work.
const COMPRESS_FROM: usize = 16 << 10;

/// Up to this size, tensors are copied behind their JSON: one piece to send costs less than two.
const JOIN_UP_TO: usize = 4 << 10;

/// Compressing takes about as long for one byte as other work for so many.
const COMPRESSION_COST: usize = 16;

/// Decodes and checks a body, which is let go of then, but for tensors that lie in it. `length` is
/// that of the JSON where anything follows it, `limit` is on what a compressed body expands to.
pub(super) async fn decode(
    spec: &Arc<ModelSpec>,
    body: Upload,
    length: Option<usize>,
    coding: Option<Coding>,
    limit: usize,
) -> Result<(Asked, OutputForms), Refused> {
    let spec = Arc::clone(spec);
    // What a compressed body expands to is not known before.
    let size = coding.map_or(body.bytes.len(), |_| usize::MAX);
    work(size, move || {
        let body = match coding {
            Some(coding) => body.expand(coding, limit)?,
            None => body,
        };
        let request = InferRequest::from_body(&body.bytes, length)?;
        let forms = OutputForms::of(&request)?;
        Ok((Asked::check(&spec, request)?, forms))
    })
    .await?
}

/// Writes the outputs that were asked for, in the forms asked for.
pub(super) async fn encode(
    spec: &Arc<ModelSpec>,
    answered: Answered,
    forms: OutputForms,
    accepted: Option<Coding>,
) -> Result<Answer, Refused> {
    let spec = Arc::clone(spec);
    let cost = accepted.map_or(1, |_| COMPRESSION_COST);
    work(answered.size().saturating_mul(cost), move || {
        let encoded = answered.response(&spec).encode(&forms)?;
        Ok(answer(encoded, accepted))
    })
    .await?
}

fn answer(encoded: Encoded, accepted: Option<Coding>) -> Answer {
    let (length, size) = (encoded.json_length(), encoded.len());
    let coding = accepted.filter(|_| size >= COMPRESS_FROM);
    let payload = match coding {
        Some(coding) => Payload::from(coding.compress(&encoded)),
        None => payload(encoded),
    };
    let mut answer = Response::new(payload);
    let headers = answer.headers_mut();
    if let Some(length) = length {
        headers.insert(headers::JSON_LENGTH, length.into());
    }
    headers.insert(CONTENT_TYPE, length.map_or(JSON, |_| BINARY));
    if let Some(coding) = coding {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    }
    // It would be another body for a client that accepts something else.
    if size >= COMPRESS_FROM {
        headers.insert(VARY, ACCEPT_ENCODING.into());
    }
    answer
}

fn payload(encoded: Encoded) -> Payload {
    let tensors = encoded.len() - encoded.head.len();
    if tensors <= JOIN_UP_TO {
        return Payload::from(encoded.joined());
    }
    let mut parts: Vec<Bytes> = encoded.parts.unwrap_or_default();
    parts.retain(|part| !part.is_empty());
    Payload::pieces(encoded.head.into(), parts)
}

#[cfg(test)]
mod tests;
