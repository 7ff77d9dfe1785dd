//! The protocol over gRPC, on the port of REST: `inference.GRPCInferenceService`, `grpc.health.v1.Health`
//! and `grpc.reflection.v1.ServerReflection`.
//!
//! A call is a request of HTTP/2 whose content type says so; whether it is one is decided once, in
//! front of REST's paths. Messages are framed and read by [`aegis_protocol::grpc`], which the proxy
//! uses too, and what lies between them is [`crate::infer`], which REST uses too. A server framework
//! would bring a second listener, a second set of limits and a second way to drain; a call that fits
//! into memory is a body and a trailer.
//!
//! A refusal is a head without a body: `grpc-status` of its reason, `grpc-message` with the text, and
//! the same headers that REST answers with.

use std::sync::Arc;
use std::time::Duration;

use aegis_protocol::grpc::{
    self as wire, Code, HealthCheckRequest, HealthCheckResponse, Method, ModelInferResponse,
    ModelMetadataResponse, ModelReadyResponse, ServerLiveResponse, ServerMetadataResponse,
    ServerReadyResponse, ServingStatus, Target, TensorSignature,
};
use aegis_protocol::{ServerMetadata, TensorMetadata, excerpt, headers, timeout};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use hyper::body::{Body, Frame, Incoming};
use prost::Message;
use tokio::sync::mpsc;

use super::body::{BodyError, Upload};
use super::infer::{flag, mark, report_load};
use super::{Answer, Payload, Refused, body, caller, find, is_live, server_metadata};
use crate::app::{App, Phase};
use crate::clock;
use crate::infer::{self, Answered, Asked, InFlight, TimeoutError, work};
use crate::served::{Served, Standing};
use stream::Talk;

mod compressed;
mod repository;
mod stream;
mod unread;
mod watch;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// No message but that of an inference says more than a few words; as over REST.
const MAX_WORDS: usize = 64 << 10;
/// Both versions have the same messages.
const REFLECTION: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
/// The services whose state is told; the empty name is the server.
const SERVICES: [&str; 2] = ["", "inference.GRPCInferenceService"];

/// Answers a call. `is_first` says that its connection has carried none before.
pub(super) async fn handle(
    app: &Arc<App>,
    parts: &Parts,
    mut body: Incoming,
    is_first: bool,
) -> Answer {
    let path = parts.uri.path();
    let is_refused = app.phase() == Phase::Closing && !is_first;
    let method = Method::parse(path);
    let outcome = match method {
        _ if is_refused => Err(Refused::Draining),
        // What the proxy has no word for.
        None if REFLECTION.contains(&path) => {
            return stream::answer(app, parts, body, Talk::Reflection);
        }
        None if path == watch::PATH => read(app, parts, &mut body, MAX_WORDS)
            .await
            .and_then(|call| watch::watch(app, &call)),
        None => {
            let text = format!("no such method: `{}`", excerpt(path));
            Ok(refusal(Code::Unimplemented, &text))
        }
        Some(Method::Repository) => match read(app, parts, &mut body, MAX_WORDS).await {
            Ok(call) => repository::call(app, path, &call).await,
            Err(refused) => Err(refused),
        },
        Some(Method::ModelInfer) => Ok(infer(app, parts, &mut body).await),
        Some(Method::ModelStreamInfer) => {
            return stream::answer(app, parts, body, Talk::Inferences);
        }
        Some(method) => read(app, parts, &mut body, MAX_WORDS)
            .await
            .and_then(|call| tell(app, method, &call)),
    };
    if !body.is_end_stream() {
        tokio::spawn(body::discard(body));
    }
    outcome.unwrap_or_else(|refused| refused_early(app, &refused))
}

/// Answers what was refused before its model was known. Who has left is refused nothing.
fn refused_early(app: &App, refused: &Refused) -> Answer {
    if !refused.is_client_gone() {
        app.metrics.rejected(refused.reason());
        tracing::debug!("refused: {refused}");
    }
    refused_call(refused)
}

/// Reads the one message of a call, with its part of the budget for bodies. It has at most `limit` bytes.
async fn read(
    app: &App,
    parts: &Parts,
    body: &mut Incoming,
    limit: usize,
) -> Result<Upload, Refused> {
    let arrived = clock::now();
    let patience = patience(&parts.headers)?;
    let deadline = infer::deadline(arrived, [patience, None], app.http.request_timeout);
    let upload = body::read(body, app, arrived, deadline).await?;
    let (is_compressed, message) = wire::message_of(&upload.bytes)?;
    let message = Upload::new(message, upload.into_reserved());
    let limit = limit.min(app.http.body_bytes);
    if is_compressed {
        compressed::read(&parts.headers, message, limit).await
    } else if message.bytes.len() > limit {
        Err(BodyError::TooLarge { limit }.into())
    } else {
        Ok(message)
    }
}

/// Reads where an inference goes. All of the message is walked over for it, field by field, so that a
/// large one takes a thread of its own.
async fn target(call: &Upload) -> Result<Target, Refused> {
    let message = call.bytes.clone();
    work(message.len(), move || decode(&message)).await?
}

/// The least of what the call's headers say.
fn patience(headers: &HeaderMap) -> Result<Option<Duration>, Refused> {
    let own = timeout::of_grpc(headers).map_err(TimeoutError::from)?;
    let ours = timeout::from_headers(headers).map_err(TimeoutError::from)?;
    Ok(own.into_iter().chain(ours).min())
}

/// Answers what needs no model to run.
fn tell(app: &App, method: Method, call: &Upload) -> Result<Answer, Refused> {
    let target = || decode::<Target>(&call.bytes);
    Ok(match method {
        Method::ServerLive => answer(&ServerLiveResponse { live: is_live(app) }),
        Method::ServerReady => answer(&ServerReadyResponse {
            ready: is_ready(app),
        }),
        Method::ServerMetadata => {
            let ServerMetadata {
                name,
                version,
                extensions,
            } = server_metadata(app);
            answer(&ServerMetadataResponse {
                name,
                version,
                extensions,
            })
        }
        Method::ModelReady => {
            let served = asked_for(app, &target()?)?;
            let is_ready = app.models.standing(&served) == Standing::Ready;
            let ready = app.phase() == Phase::Serving && is_ready;
            let mut answer = answer(&ModelReadyResponse { ready });
            mark(&mut answer, &served);
            answer
        }
        Method::ModelMetadata => metadata(app, &*asked_for(app, &target()?)?)?,
        Method::HealthCheck => {
            let HealthCheckRequest { service } = decode(&call.bytes)?;
            if !SERVICES.contains(&&*service) {
                let text = format!("no such service: `{}`", excerpt(&service));
                return Ok(refusal(Code::NotFound, &text));
            }
            answer(&HealthCheckResponse {
                status: state(app).into(),
            })
        }
        Method::ModelInfer | Method::ModelStreamInfer | Method::Repository => {
            unreachable!("handled before")
        }
    })
}

fn is_ready(app: &App) -> bool {
    app.phase() == Phase::Serving && app.models.first_not_ready().is_none()
}

fn state(app: &App) -> ServingStatus {
    if is_ready(app) {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    }
}

fn metadata(app: &App, served: &Served) -> Result<Answer, Refused> {
    let metadata = app.models.metadata(served);
    let metadata = metadata.ok_or_else(|| infer::not_ready(served, served.standing()))?;
    let tensors = |tensors: Vec<TensorMetadata>| {
        let tensor = |tensor: TensorMetadata| TensorSignature {
            name: tensor.name,
            datatype: tensor.datatype.name().to_owned(),
            shape: tensor.shape,
        };
        tensors.into_iter().map(tensor).collect()
    };
    Ok(answer(&ModelMetadataResponse {
        name: metadata.name,
        versions: metadata.versions,
        platform: metadata.platform,
        inputs: tensors(metadata.inputs),
        outputs: tensors(metadata.outputs),
    }))
}

fn asked_for(app: &App, target: &Target) -> Result<Arc<Served>, Refused> {
    let version = Some(&*target.version).filter(|version| !version.is_empty());
    find(app, &target.model, version)
}

/// Answers an inference, and counts how it ended.
async fn infer(app: &App, parts: &Parts, body: &mut Incoming) -> Answer {
    let arrived = clock::now();
    let read = async {
        let call = read(app, parts, body, app.http.body_bytes).await?;
        let served = asked_for(app, &target(&call).await?)?;
        Ok::<_, Refused>((call, served))
    };
    let (call, served) = match read.await {
        Ok(read) => read,
        Err(refused) => return refused_early(app, &refused),
    };
    let mut in_flight = InFlight::new(&served.metrics, caller(&parts.headers), arrived);
    let outcome = response(app, &served, &parts.headers, call, &mut in_flight).await;
    let mut answer = match outcome {
        Ok(answer) => {
            in_flight.end(http::StatusCode::OK);
            answer
        }
        Err(refused) => {
            let flags = infer::count(app, &served, &in_flight, &refused);
            in_flight.end(refused.status());
            let mut answer = refused_call(&refused);
            flag(&mut answer, flags);
            answer
        }
    };
    mark(&mut answer, &served);
    report_load(&mut answer, &served, &parts.headers);
    answer
}

async fn response(
    app: &App,
    served: &Served,
    headers: &HeaderMap,
    call: Upload,
    in_flight: &mut InFlight<'_>,
) -> Result<Answer, Refused> {
    let answered = run(app, served, patience(headers)?, call, in_flight).await?;
    let (spec, _) = infer::loaded(served)?;
    let spec = Arc::clone(spec);
    let size = answered.size();
    let flags = answered.flags();
    let response = work(size, move || answered.response(&spec)).await?;
    let (first, rest) = frame(ModelInferResponse::from(response));
    let mut answer = respond(Payload::pieces(first, rest));
    flag(&mut answer, flags);
    Ok(answer)
}

/// Decodes, checks and runs the inference of a message.
async fn run(
    app: &App,
    served: &Served,
    patience: Option<Duration>,
    mut call: Upload,
    in_flight: &mut InFlight<'_>,
) -> Result<Answered, Refused> {
    let (spec, _) = infer::loaded(served)?;
    let spec = Arc::clone(spec);
    let limit = app.http.body_bytes;
    let asked = work(call.bytes.len(), move || {
        let request = decode_infer(&mut call, limit)?;
        Asked::check(&spec, request.into_request()?)
    });
    let asked = asked.await??;
    infer::run(app, served, asked, patience, in_flight).await
}

/// Decodes an inference, with room for what it becomes. The budget for bodies counts on at most four times a
/// body, as JSON takes: a list in typed contents is there twice, and where that is more, more is taken.
fn decode_infer(call: &mut Upload, limit: usize) -> Result<wire::ModelInferRequest, Refused> {
    let message = wire::Weighed::of(&call.bytes, limit)?;
    call.take((message.lists() / 2).saturating_sub(call.bytes.len()))?;
    Ok(message.decode()?)
}

/// A message with its prefix: what describes the tensors, and the tensors themselves, uncopied.
fn frame(mut response: ModelInferResponse) -> (Bytes, Vec<Bytes>) {
    /// The number of `raw_output_contents`, and that it is a string of bytes.
    const RAW: u8 = 6 << 3 | 2;
    let raw = std::mem::take(&mut response.raw_output_contents);
    let head = response.encoded_len();
    let field = |bytes: &Bytes| 1 + prost::length_delimiter_len(bytes.len()) + bytes.len();
    let length = head + raw.iter().map(field).sum::<usize>();
    let mut buffer = Vec::with_capacity(wire::PREFIX + head + 16);
    buffer.push(0);
    // Answers are far from 4 GiB.
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    buffer.extend_from_slice(&length.to_be_bytes());
    // A vector takes every write.
    let _ = response.encode(&mut buffer);
    let mut pieces: Vec<Bytes> = Vec::with_capacity(raw.len() * 2);
    for bytes in raw {
        buffer.push(RAW);
        let _ = prost::encode_length_delimiter(bytes.len(), &mut buffer);
        if bytes.len() < SMALL {
            buffer.extend_from_slice(&bytes);
        } else {
            pieces.push(std::mem::take(&mut buffer).into());
            pieces.push(bytes);
        }
    }
    pieces.push(buffer.into());
    let first = pieces.remove(0);
    (first, pieces)
}

/// A piece of its own costs more than a copy of so few bytes.
const SMALL: usize = 4 << 10;

fn decode<M: Message + Default>(message: &Bytes) -> Result<M, Refused> {
    Ok(M::decode(message.clone()).map_err(wire::CallError::from)?)
}

/// A call that went well, with one message.
fn answer(message: &impl Message) -> Answer {
    respond(wire::frame(message).into())
}

/// A call that goes well to the end of its messages.
fn respond(payload: Payload) -> Answer {
    call(payload.with_trailers(went_well()))
}

/// A call whose messages are still being made, and which ends with the trailers behind them.
fn streamed(answers: mpsc::Receiver<Frame<Bytes>>) -> Answer {
    call(Payload::stream(answers))
}

fn call(payload: Payload) -> Answer {
    let mut answer = Response::new(payload);
    answer.headers_mut().insert(CONTENT_TYPE, GRPC);
    answer
}

fn refused_call(refused: &Refused) -> Answer {
    without_message(refused.code(), ended(refused))
}

/// No message: a head that says how it ended.
fn refusal(code: Code, text: &str) -> Answer {
    without_message(code, status(code, text))
}

fn without_message(code: Code, ended: HeaderMap) -> Answer {
    let mut answer = call(Payload::default());
    let headers = answer.headers_mut();
    headers.extend(ended);
    if code == Code::Unimplemented {
        headers.insert(ACCEPT_ENCODING, compressed::ACCEPTED);
    }
    answer
}

/// How a call ends that goes well.
fn went_well() -> HeaderMap {
    HeaderMap::from_iter([(headers::GRPC_STATUS, Code::Ok.header())])
}

/// How a call ends that is refused.
fn ended(refused: &Refused) -> HeaderMap {
    let mut ended = status(refused.code(), &refused.text());
    refused.explain(&mut ended);
    ended
}

fn status(code: Code, text: &str) -> HeaderMap {
    HeaderMap::from_iter([
        (headers::GRPC_STATUS, code.header()),
        (headers::GRPC_MESSAGE, wire::message_header(text)),
    ])
}

#[cfg(test)]
mod tests {
    use aegis_protocol::grpc::InferOutputTensor;

    use super::*;

    #[test]
    fn the_least_of_the_headers_counts() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            let pair = |&(name, value)| {
                let name = HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            };
            patience(&pairs.iter().map(pair).collect::<HeaderMap>())
        };
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(of(&[]).unwrap(), None);
        assert_eq!(of(&[("grpc-timeout", "50m")]).unwrap(), ms(50));
        let both = [("grpc-timeout", "50m"), ("x-request-timeout-ms", "40")];
        assert_eq!(of(&both).unwrap(), ms(40));
        assert!(of(&[("grpc-timeout", "soon")]).is_err());
    }

    #[test]
    fn a_message_is_what_another_encoder_makes_of_it_and_large_tensors_are_not_copied() {
        let output = |name: &str| InferOutputTensor {
            name: name.to_owned(),
            ..InferOutputTensor::default()
        };
        let large = Bytes::from(vec![7; SMALL]);
        let response = ModelInferResponse {
            model_name: "m".to_owned(),
            outputs: vec![output("a"), output("b"), output("c")],
            raw_output_contents: vec![Bytes::from_static(b"small"), large.clone(), Bytes::new()],
            ..ModelInferResponse::default()
        };
        let (first, rest) = frame(response.clone());
        assert!(rest.iter().any(|piece| piece.as_ptr() == large.as_ptr()));
        let whole = [vec![first], rest].concat().concat();
        assert_eq!(whole, wire::frame(&response));
    }
}
