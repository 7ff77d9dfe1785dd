//! What the body of an inference is made of: JSON, JSON with tensors behind it, or the message of a
//! gRPC call.

use aegis_protocol::{InferResponse, NamedTensor, Tensor, binary, grpc, headers::JSON_LENGTH};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// How the messages of a call are compressed.
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// How a body is to be read, as its headers say. The tensors of the binary extension
/// (`docs/protocol/extension_binary_data.md` of Triton) stand behind the JSON, whose length a
/// header gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// All of it is JSON.
    Json,
    /// So many bytes are.
    Binary(usize),
    /// It is one message with its prefix.
    Call,
}

// === impl Form ===

impl Form {
    /// None where it is something else, or compressed.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        if headers.contains_key(header::CONTENT_ENCODING) {
            return None;
        }
        if grpc::is_grpc(headers) {
            let encoding = headers.get(GRPC_ENCODING);
            return encoding
                .is_none_or(|encoding| encoding == "identity")
                .then_some(Self::Call);
        }
        // Some clients name the one and send the other: the length decides.
        let known = headers.get(header::CONTENT_TYPE).is_none_or(|kind| {
            let kind = kind.as_bytes();
            kind.starts_with(b"application/json") || kind.starts_with(b"application/octet-stream")
        });
        let length = binary::json_length(headers).ok().filter(|_| known)?;
        Some(length.map_or(Self::Json, Self::Binary))
    }

    /// Says of a request that it is made of this.
    pub(super) fn tell(self, headers: &mut HeaderMap) {
        let kind = match self {
            Self::Json => "application/json",
            Self::Binary(length) => {
                headers.insert(JSON_LENGTH, length.into());
                "application/octet-stream"
            }
            Self::Call => {
                headers.insert(header::TE, HeaderValue::from_static("trailers"));
                "application/grpc"
            }
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }

    /// Reads an answer; none where it is none.
    pub(super) fn read(self, body: &Bytes) -> Option<InferResponse> {
        match self {
            Self::Json => InferResponse::from_body(body, None).ok(),
            Self::Binary(length) => InferResponse::from_body(body, Some(length)).ok(),
            Self::Call => answer(grpc::read_call(body).ok()?),
        }
    }
}

/// The answer to a call, whose outputs are raw.
fn answer(message: grpc::ModelInferResponse) -> Option<InferResponse> {
    if message.outputs.len() != message.raw_output_contents.len() {
        return None;
    }
    let output = |(output, raw): (grpc::InferOutputTensor, Bytes)| {
        let sizes = output.shape.iter().map(|size| usize::try_from(*size).ok());
        let sizes: Vec<usize> = sizes.collect::<Option<_>>()?;
        let tensor = Tensor::new(output.datatype.parse().ok()?, sizes, raw).ok()?;
        Some(NamedTensor::new(output.name, tensor))
    };
    let outputs = message.outputs.into_iter().zip(message.raw_output_contents);
    Some(InferResponse {
        model_name: message.model_name,
        outputs: outputs.map(output).collect::<Option<_>>()?,
        ..InferResponse::default()
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn headers(fields: &[(HeaderName, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(HeaderName, &'static str)| {
            (name.clone(), HeaderValue::from_static(value))
        };
        fields.iter().map(field).collect()
    }

    #[test]
    fn a_body_is_told_by_its_headers_and_told_of_as_it_was() {
        let kind = |value| (header::CONTENT_TYPE, value);
        let length = |value| (JSON_LENGTH, value);
        for (fields, form) in [
            (vec![], Some(Form::Json)),
            (
                vec![kind("application/json; charset=utf-8")],
                Some(Form::Json),
            ),
            (vec![length("17")], Some(Form::Binary(17))),
            (
                vec![kind("application/octet-stream"), length("17")],
                Some(Form::Binary(17)),
            ),
            (
                vec![kind("application/json"), length("17")],
                Some(Form::Binary(17)),
            ),
            (vec![kind("application/octet-stream")], Some(Form::Json)),
            (vec![kind("application/grpc")], Some(Form::Call)),
            (
                vec![kind("application/grpc+proto"), (GRPC_ENCODING, "identity")],
                Some(Form::Call),
            ),
            (
                vec![kind("application/grpc"), (GRPC_ENCODING, "gzip")],
                None,
            ),
            (vec![kind("text/plain"), length("17")], None),
            (vec![length("-1")], None),
            (vec![(header::CONTENT_ENCODING, "gzip")], None),
        ] {
            let found = Form::of(&headers(&fields));
            assert_eq!(found, form, "{fields:?}");
            if let Some(form) = found {
                let mut told = HeaderMap::new();
                form.tell(&mut told);
                assert_eq!(Form::of(&told), Some(form));
            }
        }
    }
}
