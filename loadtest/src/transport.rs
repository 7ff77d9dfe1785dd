//! How questions are written: as JSON, in binary behind JSON, or over gRPC.

use std::time::Duration;

use aegis_protocol::grpc::{
    InferInputTensor, InferRequestedOutput, ModelInferRequest, ModelInferResponse, NamedParameter,
    frame,
};
use aegis_protocol::headers::{GRPC_TIMEOUT, JSON_LENGTH, REQUEST_TIMEOUT_MS};
use aegis_protocol::{InferRequest, Parameter, Tensor, timeout};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::client::{Answer, Letter};
use crate::load::LoadError;
use crate::plan::Target;
use crate::score::{BadAnswer, Scored, score, score_tensor, shown};

/// The path of an inference over gRPC.
const GRPC_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// The parameter of a request for outputs in binary.
const BINARY_OUTPUT: &str = "binary_data_output";

/// How requests and answers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// REST, all of it JSON.
    #[default]
    Json,
    /// REST, with tensors in binary behind the JSON.
    Binary,
    /// gRPC, with raw tensors.
    Grpc,
}

// === impl Transport ===

impl Transport {
    /// Writes a request, which says how long it may take where `deadline` is set.
    pub(crate) fn letter(
        self,
        target: &Target,
        mut request: InferRequest,
        deadline: Option<Duration>,
    ) -> Result<Letter, LoadError> {
        let mut headers = HeaderMap::new();
        let body = match self {
            Self::Json => Bytes::from(request.to_json()?),
            Self::Binary => {
                let all = Parameter::Bool(true);
                request.parameters.insert(BINARY_OUTPUT.to_owned(), all);
                let encoded = request.to_binary()?;
                if let Some(length) = encoded.json_length() {
                    headers.insert(JSON_LENGTH, HeaderValue::from(length));
                }
                Bytes::from(encoded.joined())
            }
            Self::Grpc => frame(&message(target, request)),
        };
        if let Some(deadline) = deadline {
            let millis = u64::try_from(deadline.as_millis())
                .unwrap_or(u64::MAX)
                .max(1);
            match self {
                Self::Json | Self::Binary => {
                    headers.insert(REQUEST_TIMEOUT_MS, HeaderValue::from(millis))
                }
                Self::Grpc => headers.insert(GRPC_TIMEOUT, timeout::to_grpc(deadline)),
            };
        }
        headers.insert(header::CONTENT_TYPE, self.content_type(&headers));
        if self == Self::Grpc {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        Ok(Letter {
            method: Method::POST,
            path: self.path(target)?,
            headers,
            body,
        })
    }

    fn content_type(self, headers: &HeaderMap) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Binary if headers.contains_key(JSON_LENGTH) => "application/octet-stream",
            Self::Json | Self::Binary => "application/json",
            Self::Grpc => "application/grpc",
        })
    }

    fn path(self, target: &Target) -> Result<Uri, LoadError> {
        Ok(match self {
            Self::Json | Self::Binary => {
                let uri = target.infer()?;
                let path = uri.path_and_query().cloned();
                path.map_or_else(Uri::default, Uri::from)
            }
            Self::Grpc => GRPC_INFER.parse()?,
        })
    }

    /// Whether an answer is one, and right where `label` is known.
    pub(crate) fn score(
        self,
        answer: &Answer,
        output: &str,
        label: Option<i64>,
    ) -> Result<Scored, BadAnswer> {
        match self {
            Self::Json | Self::Binary => score(&answer.body, answer.json_length, output, label),
            Self::Grpc => score_message(answer, output, label),
        }
    }
}

fn message(target: &Target, request: InferRequest) -> ModelInferRequest {
    let axes = |tensor: &Tensor| {
        let sizes = tensor.shape().iter();
        sizes
            .map(|&size| i64::try_from(size).unwrap_or(i64::MAX))
            .collect()
    };
    let inputs = request.inputs.iter().map(|input| InferInputTensor {
        name: input.name.clone(),
        datatype: input.tensor.datatype().to_string(),
        shape: axes(&input.tensor),
        parameters: Vec::new(),
        contents: None,
    });
    let outputs = request
        .outputs
        .into_iter()
        .map(|output| InferRequestedOutput {
            name: output.name,
            parameters: output
                .parameters
                .into_iter()
                .map(NamedParameter::from)
                .collect(),
        });
    ModelInferRequest {
        model_name: target.model().to_owned(),
        model_version: target.version().unwrap_or_default().to_owned(),
        id: request.id.unwrap_or_default(),
        inputs: inputs.collect(),
        outputs: outputs.collect(),
        raw_input_contents: request
            .inputs
            .iter()
            .map(|input| input.tensor.data().clone())
            .collect(),
        parameters: request
            .parameters
            .into_iter()
            .map(NamedParameter::from)
            .collect(),
    }
}

fn score_message(answer: &Answer, output: &str, label: Option<i64>) -> Result<Scored, BadAnswer> {
    let message = ModelInferResponse::decode(answer.body.clone());
    let message = message.map_err(|error| BadAnswer::Message(error.to_string()))?;
    let version = Some(shown(&message.model_version)).filter(|version| !version.is_empty());
    let Some(label) = label else {
        return Ok(Scored {
            right: None,
            version,
        });
    };
    let mut tensors = message.outputs.iter().zip(&message.raw_output_contents);
    let found = tensors.find(|(tensor, _)| tensor.name == output);
    let (tensor, data) = found.ok_or_else(|| BadAnswer::NoOutput {
        output: output.to_owned(),
    })?;
    let unreadable = |error: String| BadAnswer::Message(error);
    let datatype = tensor.datatype.parse();
    let datatype =
        datatype.map_err(|error: aegis_protocol::UnknownDatatype| unreadable(error.to_string()))?;
    let shape = tensor
        .shape
        .iter()
        .map(|&size| usize::try_from(size).unwrap_or(usize::MAX));
    let tensor = Tensor::new(datatype, shape.collect::<Vec<_>>(), data.clone());
    let tensor = tensor.map_err(|error| unreadable(error.to_string()))?;
    Ok(Scored {
        right: Some(score_tensor(&tensor, output, label)?),
        version,
    })
}

#[cfg(test)]
mod tests {
    use aegis_protocol::grpc::{InferOutputTensor, read_call};
    use aegis_protocol::{NamedTensor, RequestedOutput};

    use super::*;

    fn target() -> Target {
        Target::new("http://h:1", "m").unwrap().pinned("3")
    }

    fn request() -> InferRequest {
        let tensor = Tensor::from_f32([1, 2], &[0.5, 2.0]).unwrap();
        let parameters = [("binary_data".to_owned(), Parameter::Bool(false))];
        InferRequest {
            id: Some("mine".to_owned()),
            inputs: vec![NamedTensor::new("x", tensor)],
            parameters: [("priority".to_owned(), Parameter::Int(2))].into(),
            outputs: vec![RequestedOutput {
                name: "y".to_owned(),
                parameters: parameters.into(),
            }],
        }
    }

    #[test]
    fn each_transport_writes_the_same_request() {
        let deadline = Some(Duration::from_millis(300));
        let json = Transport::Json
            .letter(&target(), request(), deadline)
            .unwrap();
        assert_eq!(InferRequest::from_json(&json.body).unwrap(), request());
        assert_eq!(json.path, "/v2/models/m/versions/3/infer");
        assert_eq!(json.headers[REQUEST_TIMEOUT_MS], "300");

        let binary = Transport::Binary
            .letter(&target(), request(), None)
            .unwrap();
        let length = aegis_protocol::binary::json_length(&binary.headers).unwrap();
        let mut read = InferRequest::from_body(&binary.body, length).unwrap();
        assert_eq!(
            read.parameters.remove(BINARY_OUTPUT),
            Some(Parameter::Bool(true))
        );
        assert_eq!(read, request());
        assert!(!binary.headers.contains_key(REQUEST_TIMEOUT_MS));

        let grpc = Transport::Grpc
            .letter(&target(), request(), deadline)
            .unwrap();
        let read: ModelInferRequest = read_call(&grpc.body).unwrap();
        assert_eq!(
            (read.model_name.as_str(), read.model_version.as_str()),
            ("m", "3")
        );
        assert_eq!(read.into_request().unwrap(), request());
        assert_eq!(grpc.headers[GRPC_TIMEOUT], "300m");
    }

    #[test]
    fn an_answer_over_grpc_is_scored() {
        let answer = |label: i64| {
            let tensor = Tensor::from_i64([1], &[label]).unwrap();
            let message = ModelInferResponse {
                model_version: "2".to_owned(),
                outputs: vec![InferOutputTensor {
                    name: "label".to_owned(),
                    datatype: "INT64".to_owned(),
                    shape: vec![1],
                }],
                raw_output_contents: vec![tensor.data().clone()],
                ..ModelInferResponse::default()
            };
            Answer {
                status: 200,
                from: crate::outcome::Origin::default(),
                reason: None,
                flags: None,
                json_length: None,
                message: None,
                body: message.encode_to_vec().into(),
            }
        };
        let scored = |got, label| Transport::Grpc.score(&answer(got), "label", label);
        assert_eq!(scored(7, Some(7)).unwrap().right, Some(true));
        assert_eq!(scored(7, Some(8)).unwrap().right, Some(false));
        assert_eq!(scored(7, None).unwrap().right, None);
        assert_eq!(scored(7, None).unwrap().version.as_deref(), Some("2"));
        let error = Transport::Grpc
            .score(&answer(7), "digit", Some(7))
            .unwrap_err();
        assert_eq!(error.to_string(), "expected an output `digit`, got none");
    }
}
