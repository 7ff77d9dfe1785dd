//! Asks a server what a model takes, before it is put under load.

use std::time::Duration;

use aegis_protocol::grpc::{ModelMetadataResponse, Target as GrpcTarget, TensorSignature, frame};
use aegis_protocol::{ErrorBody, ModelMetadata, TensorMetadata, UnknownDatatype, excerpt, path};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use prost::Message as _;

use crate::client::{Answer, GrpcClient, HttpClient, Letter};
use crate::plan::Target;
use crate::transport::Transport;

/// The path of the question over gRPC.
const GRPC_METADATA: &str = "/inference.GRPCInferenceService/ModelMetadata";

/// Says why a model's signature is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Nobody answered.
    #[error("{url} answered no request: {text}")]
    NoAnswer {
        /// Who was asked.
        url: String,
        /// The kind of failure, and what the system said.
        text: String,
    },
    /// The server knows no such model or version.
    #[error("{url} has no model {what}: {text}")]
    Unknown {
        /// Who was asked.
        url: String,
        /// The model, and its version where one was asked for.
        what: String,
        /// What it said.
        text: String,
    },
    /// The server does not tell.
    #[error("{url} does not say what model {what} takes: {status} {text}")]
    Refused {
        /// Who was asked.
        url: String,
        /// The model, and its version where one was asked for.
        what: String,
        /// The HTTP status, or the one that says what a gRPC status says.
        status: u16,
        /// What it said.
        text: String,
    },
}

/// Asks for the signature of a model, the way that its requests will go.
///
/// # Errors
///
/// When there is no answer, no such model, or an answer that says nothing.
pub async fn fetch(
    target: &Target,
    transport: Transport,
    timeout: Duration,
) -> Result<ModelMetadata, MetadataError> {
    let url = target.url();
    let what = match target.version() {
        Some(version) => format!("`{}` version {version}", excerpt(target.model())),
        None => format!("`{}`", excerpt(target.model())),
    };
    let asked = tokio::time::timeout(timeout, ask(target, transport, timeout)).await;
    let late = || format!("timeout: no answer within {timeout:?}");
    let answer = asked.unwrap_or_else(|_| Err(late()));
    let answer = answer.map_err(|text| MetadataError::NoAnswer {
        url: url.clone(),
        text,
    })?;
    let status = answer.status;
    let refused = |text: String| match status {
        404 => MetadataError::Unknown {
            url: url.clone(),
            what: what.clone(),
            text,
        },
        status => MetadataError::Refused {
            url: url.clone(),
            what: what.clone(),
            status,
            text,
        },
    };
    if status != 200 {
        return Err(refused(told(&answer)));
    }
    read(&answer, transport).map_err(refused)
}

async fn ask(target: &Target, transport: Transport, timeout: Duration) -> Result<Answer, String> {
    let no_address = |error: &dyn std::fmt::Display| format!("connect: {error}");
    let path = match transport {
        Transport::Json | Transport::Binary => path::model(target.model(), target.version()),
        Transport::Grpc => GRPC_METADATA.to_owned(),
    };
    let mut letter = Letter {
        method: Method::GET,
        path: path.parse().map_err(|error| no_address(&error))?,
        headers: HeaderMap::new(),
        body: Bytes::new(),
    };
    let sent = match transport {
        Transport::Json | Transport::Binary => {
            let client = HttpClient::new(target.uri(), Some(1), timeout);
            let client = client.map_err(|error| no_address(&error))?;
            client.lease().await.send(&letter, None).await
        }
        Transport::Grpc => {
            letter.method = Method::POST;
            let kind = HeaderValue::from_static("application/grpc");
            letter.headers.insert(header::CONTENT_TYPE, kind);
            letter
                .headers
                .insert(header::TE, HeaderValue::from_static("trailers"));
            letter.body = frame(&GrpcTarget {
                model: target.model().to_owned(),
                version: target.version().unwrap_or_default().to_owned(),
            });
            let client = GrpcClient::new(target.uri(), Some(1), timeout);
            client.send(&letter, None).await
        }
    };
    sent.map_err(|error| match error.kind {
        Some(kind) => format!("{kind}: {}", error.text),
        None => error.text,
    })
}

/// What a refusal says.
fn told(answer: &Answer) -> String {
    let error = serde_json::from_slice::<ErrorBody>(&answer.body).map(|body| body.error);
    let text = answer.message.clone().or(error.ok());
    let text = text.unwrap_or_else(|| String::from_utf8_lossy(&answer.body).into_owned());
    excerpt(&text).to_string()
}

fn read(answer: &Answer, transport: Transport) -> Result<ModelMetadata, String> {
    match transport {
        Transport::Json | Transport::Binary => {
            serde_json::from_slice(&answer.body).map_err(|error| error.to_string())
        }
        Transport::Grpc => {
            let message = ModelMetadataResponse::decode(answer.body.clone());
            let message = message.map_err(|error| error.to_string())?;
            let tensors = |tensors: Vec<TensorSignature>| {
                tensors.into_iter().map(tensor).collect::<Result<_, _>>()
            };
            Ok(ModelMetadata {
                name: message.name,
                versions: message.versions,
                platform: message.platform,
                inputs: tensors(message.inputs)?,
                outputs: tensors(message.outputs)?,
            })
        }
    }
}

fn tensor(tensor: TensorSignature) -> Result<TensorMetadata, String> {
    let datatype = tensor.datatype.parse();
    Ok(TensorMetadata {
        name: tensor.name,
        datatype: datatype.map_err(|error: UnknownDatatype| error.to_string())?,
        shape: tensor.shape,
    })
}
