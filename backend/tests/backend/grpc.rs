//! The protocol over gRPC, with a client that others wrote, on the port of REST.

use aegis_backend::server::Drained;
use aegis_protocol::grpc::{
    HealthCheckRequest, HealthCheckResponse, InferInputTensor, InferParameter,
    InferRequestedOutput, ModelInferRequest, ModelInferResponse, ModelMetadataResponse,
    ModelReadyResponse, ModelStreamInferResponse, NamedParameter, ParameterChoice,
    RepositoryChangeRequest, RepositoryChangeResponse, RepositoryIndexRequest,
    RepositoryIndexResponse, ServerLiveResponse, ServerMetadataResponse, ServerReadyResponse,
    ServingStatus, Target, TensorContents,
};
use bytes::Bytes;
use futures::StreamExt;
use futures::channel::mpsc;
use http::uri::PathAndQuery;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::support::{Backend, ECHO, LONG, echo_body, until};

mod bounds;
mod stream;

const SERVICE: &str = "/inference.GRPCInferenceService/";
const REQUESTS: &str =
    "aegis_inference_requests_total{code=\"CODE\",model=\"echo\",model_version=\"1\"}";

/// A client on one connection.
struct Client(Grpc<Channel>);

impl Client {
    async fn of(backend: &Backend) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{}", backend.address));
        let channel = endpoint.unwrap().connect().await.unwrap();
        Self(Grpc::new(channel))
    }

    async fn call<Q, A>(&mut self, path: &str, request: Request<Q>) -> Result<Response<A>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.0.ready().await.unwrap();
        let path = PathAndQuery::try_from(path).unwrap();
        self.0.unary(request, path, ProstCodec::default()).await
    }

    async fn ask<Q, A>(&mut self, method: &str, request: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let path = format!("{SERVICE}{method}");
        let answer = self.call(&path, Request::new(request)).await?;
        Ok(answer.into_inner())
    }

    async fn infer(&mut self, request: ModelInferRequest) -> Result<ModelInferResponse, Status> {
        self.ask("ModelInfer", request).await
    }
}

fn target(model: &str, version: &str) -> Target {
    Target {
        model: model.to_owned(),
        version: version.to_owned(),
    }
}

/// One row for [`ECHO`], in raw contents.
fn request(values: [f32; 2]) -> ModelInferRequest {
    let raw: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    ModelInferRequest {
        model_name: "echo".to_owned(),
        id: "7".to_owned(),
        inputs: vec![InferInputTensor {
            name: "x".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![1, 2],
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![raw.into()],
        ..ModelInferRequest::default()
    }
}

/// The same in typed contents.
fn typed(values: [f32; 2]) -> ModelInferRequest {
    let mut request = request(values);
    request.raw_input_contents.clear();
    request.inputs[0].contents = Some(TensorContents {
        fp32s: values.to_vec(),
        ..TensorContents::default()
    });
    request
}

fn parameter(name: &str, choice: ParameterChoice) -> NamedParameter {
    let choice = Some(choice);
    NamedParameter {
        name: name.to_owned(),
        value: Some(InferParameter { choice }),
    }
}

fn numbers(raw: &Bytes) -> Vec<f32> {
    let (numbers, rest) = raw.as_chunks::<4>();
    assert!(rest.is_empty());
    numbers
        .iter()
        .map(|four| f32::from_le_bytes(*four))
        .collect()
}

async fn echo() -> Backend {
    Backend::ready(&[("echo", ECHO)]).await
}

#[tokio::test]
async fn an_inference_is_answered_with_its_id_version_and_raw_outputs() {
    let backend = echo().await;
    let mut client = Client::of(&backend).await;
    for request in [request([1.5, -2.0]), typed([1.5, -2.0])] {
        let answer = client.infer(request).await.unwrap();
        assert_eq!(
            (&*answer.model_name, &*answer.model_version, &*answer.id),
            ("echo", "1", "7")
        );
        let output = &answer.outputs[0];
        assert_eq!((&*output.name, &*output.datatype), ("y", "FP32"));
        assert_eq!(output.shape, [1, 2]);
        assert_eq!(numbers(&answer.raw_output_contents[0]), [1.5, -2.0]);
    }
    let ok = REQUESTS.replace("CODE", "200");
    assert!((backend.metric(&ok).await - 2.0).abs() < 0.5);
    // REST is answered on the same port.
    assert_eq!(backend.infer("echo", echo_body(&[1.0])).await.status, 200);
}

#[tokio::test]
async fn a_large_tensor_goes_in_and_out_whole() {
    let model = ECHO.replace("[-1, 2]", "[-1, 100000]");
    let backend = Backend::ready(&[("echo", &model)]).await;
    let mut client = Client::of(&backend).await;
    client.0 = client.0.max_decoding_message_size(64 << 20);
    let raw: Bytes = (0..400_000_u32 * 3)
        .map(|at| (at % 251) as u8 & 0x3f)
        .collect();
    let mut request = request([0.0; 2]);
    request.inputs[0].shape = vec![3, 100_000];
    request.raw_input_contents = vec![raw.clone()];
    let answer = client.infer(request).await.unwrap();
    assert_eq!(answer.raw_output_contents[0], raw);
}

#[tokio::test]
async fn version_and_outputs_are_as_asked() {
    let backend = echo().await;
    let mut client = Client::of(&backend).await;
    let asked = ModelInferRequest {
        model_version: "2".to_owned(),
        outputs: vec![InferRequestedOutput {
            name: "y".to_owned(),
            ..InferRequestedOutput::default()
        }],
        ..request([1.0, 2.0])
    };
    let path = format!("{SERVICE}ModelInfer");
    let answer: Response<ModelInferResponse> = client
        .call(&path, Request::new(asked.clone()))
        .await
        .unwrap();
    assert_eq!(answer.metadata().get("x-aegis-model-version").unwrap(), "2");
    assert_eq!(answer.get_ref().model_version, "2");
    let unknown = ModelInferRequest {
        outputs: vec![InferRequestedOutput {
            name: "z".to_owned(),
            ..InferRequestedOutput::default()
        }],
        ..asked
    };
    let status = client.infer(unknown).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "outputs: expected `y`, got `z`");
}

#[tokio::test]
async fn each_refusal_has_its_code_its_text_and_its_reason() {
    let backend = echo().await;
    let mut client = Client::of(&backend).await;
    let unknown = ModelInferRequest {
        model_name: "nobody".to_owned(),
        ..request([1.0; 2])
    };
    let version = ModelInferRequest {
        model_version: "9".to_owned(),
        ..request([1.0; 2])
    };
    let both = ModelInferRequest {
        raw_input_contents: request([1.0; 2]).raw_input_contents,
        ..typed([1.0; 2])
    };
    let short = ModelInferRequest {
        raw_input_contents: vec![Bytes::from_static(b"abc")],
        ..request([1.0; 2])
    };
    let priority = ModelInferRequest {
        parameters: vec![parameter("priority", ParameterChoice::Int(77))],
        ..request([1.0; 2])
    };
    let timeout = ModelInferRequest {
        parameters: vec![parameter("timeout", ParameterChoice::Int(-1))],
        ..request([1.0; 2])
    };
    let nan = request([f32::NAN, 1.0]);
    for (request, code, text, reason) in [
        (
            unknown,
            Code::NotFound,
            "unknown model `nobody`; known: echo",
            "unknown_model",
        ),
        (
            version,
            Code::NotFound,
            "model `echo` has no version `9`",
            "unknown_version",
        ),
        (
            both,
            Code::InvalidArgument,
            "inputs[0].contents: expected none beside",
            "bad_request",
        ),
        (
            short,
            Code::InvalidArgument,
            "inputs[0]: expected 8 bytes",
            "bad_request",
        ),
        (
            priority,
            Code::InvalidArgument,
            "parameters.priority: expected",
            "bad_request",
        ),
        (
            timeout,
            Code::InvalidArgument,
            "parameters.timeout: expected",
            "bad_request",
        ),
        (
            nan,
            Code::InvalidArgument,
            "input `x`: expected finite numbers, got NaN",
            "safety",
        ),
    ] {
        let status = client.infer(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().starts_with(text), "{status:?}");
        assert_eq!(status.metadata().get("x-aegis-reason").unwrap(), reason);
    }
    let status: Result<ServerLiveResponse, _> = client.ask("Nothing", ()).await;
    assert_eq!(status.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn the_timeout_among_the_parameters_counts() {
    let model = format!("{ECHO}\nhang_every = 1");
    let backend = Backend::ready(&[("echo", &model)]).await;
    let mut client = Client::of(&backend).await;
    let asked = ModelInferRequest {
        parameters: vec![parameter("timeout", ParameterChoice::Uint(50_000))],
        ..request([1.0; 2])
    };
    let status = client.infer(asked).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_eq!(status.metadata().get("x-aegis-reason").unwrap(), "deadline");
}

#[tokio::test]
async fn the_server_and_its_models_describe_themselves() {
    let backend = echo().await;
    let mut client = Client::of(&backend).await;
    let live: ServerLiveResponse = client.ask("ServerLive", ()).await.unwrap();
    let ready: ServerReadyResponse = client.ask("ServerReady", ()).await.unwrap();
    assert!(live.live && ready.ready);
    let server: ServerMetadataResponse = client.ask("ServerMetadata", ()).await.unwrap();
    assert_eq!(server.name, "aegis-backend");
    let ready: ModelReadyResponse = client.ask("ModelReady", target("echo", "2")).await.unwrap();
    assert!(ready.ready);
    let metadata: ModelMetadataResponse = client
        .ask("ModelMetadata", target("echo", ""))
        .await
        .unwrap();
    assert_eq!(metadata.versions, ["1", "2"]);
    assert_eq!(metadata.platform, "scripted");
    let (input, output) = (&metadata.inputs[0], &metadata.outputs[0]);
    assert_eq!(
        (&*input.name, &*input.datatype, &*input.shape),
        ("x", "FP32", &[-1, 2][..])
    );
    assert_eq!(&*output.name, "y");
    let nobody: Result<ModelReadyResponse, _> =
        client.ask("ModelReady", target("nobody", "")).await;
    assert_eq!(nobody.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn the_health_service_follows_readiness() {
    let drain = "drain_delay_ms = 60000\ngrace_ms = 60001";
    let backend = Backend::ready_with_drain(drain, &[("echo", ECHO)]).await;
    let mut client = Client::of(&backend).await;
    let mut health = async |service: &str| -> Result<HealthCheckResponse, Status> {
        let service = service.to_owned();
        let asked = Request::new(HealthCheckRequest { service });
        let answer = client.call("/grpc.health.v1.Health/Check", asked).await?;
        Ok(answer.into_inner())
    };
    for service in ["", "inference.GRPCInferenceService"] {
        assert_eq!(
            health(service).await.unwrap().status(),
            ServingStatus::Serving
        );
    }
    assert_eq!(health("nobody").await.unwrap_err().code(), Code::NotFound);
    backend.stop.send(()).await.unwrap();
    let drains = async {
        while health("").await.unwrap().status() != ServingStatus::NotServing {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, drains)
        .await
        .expect("it is not ready any more");
}

#[tokio::test]
async fn a_compressed_message_is_read() {
    let backend = echo().await;
    let mut client = Client::of(&backend).await;
    client.0 = client.0.send_compressed(CompressionEncoding::Gzip);
    let answer = client.infer(request([1.0, 2.0])).await.unwrap();
    assert_eq!(numbers(&answer.raw_output_contents[0]), [1.0, 2.0]);
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused() {
    let backend = Backend::ready_with("max_body_bytes = 1000", &[("echo", ECHO)]).await;
    let mut client = Client::of(&backend).await;
    let mut large = request([1.0; 2]);
    large.raw_input_contents = vec![Bytes::from(vec![0; 2_000])];
    let status = client.infer(large).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert_eq!(
        status.metadata().get("x-aegis-reason").unwrap(),
        "body_too_large"
    );
    assert_eq!(client.infer(request([1.0; 2])).await.unwrap().id, "7");
}

#[tokio::test]
async fn a_stream_answers_each_message_before_the_next_is_sent_and_outlives_a_bad_one() {
    let backend = echo().await;
    let mut client = Client::of(&backend).await;
    let (send, messages) = mpsc::unbounded::<ModelInferRequest>();
    client.0.ready().await.unwrap();
    let path = PathAndQuery::from_static("/inference.GRPCInferenceService/ModelStreamInfer");
    let call = client.0.streaming(
        Request::new(messages),
        path,
        ProstCodec::<ModelInferRequest, ModelStreamInferResponse>::default(),
    );
    send.unbounded_send(request([1.0, 2.0])).unwrap();
    let mut answers = call.await.unwrap().into_inner();
    let mut next = async || -> ModelStreamInferResponse {
        let next = tokio::time::timeout(LONG, answers.next()).await.unwrap();
        next.unwrap().unwrap()
    };
    let first = next().await.infer_response.unwrap();
    assert_eq!(numbers(&first.raw_output_contents[0]), [1.0, 2.0]);
    let unknown = ModelInferRequest {
        model_name: "nobody".to_owned(),
        ..request([0.0; 2])
    };
    send.unbounded_send(unknown).unwrap();
    let refused = next().await;
    assert!(refused.infer_response.is_none());
    assert!(
        refused.error_message.starts_with("unknown model"),
        "{refused:?}"
    );
    send.unbounded_send(request([3.0, 4.0])).unwrap();
    let last = next().await.infer_response.unwrap();
    assert_eq!(numbers(&last.raw_output_contents[0]), [3.0, 4.0]);
    drop(send);
    let end = tokio::time::timeout(LONG, answers.next()).await.unwrap();
    assert!(end.is_none(), "{end:?}");
}

/// Asks for a model to be loaded or unloaded, with one parameter.
fn change(model: &str, name: &str, value: ParameterChoice) -> RepositoryChangeRequest {
    RepositoryChangeRequest {
        repository_name: String::new(),
        model_name: model.to_owned(),
        parameters: vec![NamedParameter {
            name: name.to_owned(),
            value: Some(InferParameter {
                choice: Some(value),
            }),
        }],
    }
}

#[tokio::test]
async fn models_are_listed_loaded_and_unloaded_over_grpc_too() {
    let keys = "model_control = \"explicit\"";
    let backend = Backend::ready_with(keys, &[("echo", ECHO)]).await;
    let mut client = Client::of(&backend).await;
    let only = change("echo", "versions", ParameterChoice::Text("2".to_owned()));
    let loaded: Result<RepositoryChangeResponse, _> = client.ask("RepositoryModelLoad", only).await;
    loaded.unwrap();
    let index = RepositoryIndexRequest::default();
    let index: RepositoryIndexResponse = client.ask("RepositoryIndex", index).await.unwrap();
    let lines: Vec<_> = index
        .models
        .iter()
        .map(|line| (&*line.version, &*line.state))
        .collect();
    assert_eq!(lines, [("2", "READY")]);
    let wrong = change("echo", "config", ParameterChoice::Text("{}".to_owned()));
    let loaded: Result<RepositoryChangeResponse, _> =
        client.ask("RepositoryModelLoad", wrong).await;
    let refused = loaded.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused
            .message()
            .contains("parameters.config: not supported"),
        "{refused}"
    );
    let mut many = change("echo", "versions", ParameterChoice::Text("2".to_owned()));
    many.parameters = vec![many.parameters[0].clone(); 300];
    let loaded: Result<RepositoryChangeResponse, _> =
        client.ask("RepositoryModelLoad", many.clone()).await;
    let refused = loaded.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(
        refused.message(),
        "parameters: expected at most 256, got more"
    );
    // As tritonclient sends it.
    let unload = change("echo", "unload_dependents", ParameterChoice::Bool(false));
    let unloaded: Result<RepositoryChangeResponse, _> =
        client.ask("RepositoryModelUnload", unload).await;
    unloaded.unwrap();
    assert_eq!(backend.infer("echo", echo_body(&[1.0])).await.status, 404);

    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let mut client = Client::of(&backend).await;
    let unload = change("echo", "unload_dependents", ParameterChoice::Bool(false));
    let refused: Result<RepositoryChangeResponse, _> =
        client.ask("RepositoryModelUnload", unload).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    // What is refused in any case is not read.
    let refused: Result<RepositoryChangeResponse, _> =
        client.ask("RepositoryModelLoad", many).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_message_of_a_stream_that_stays_unfinished_is_given_up_and_its_room_is_free_again() {
    let keys = "body_timeout_ms = 100";
    let backend = Backend::ready_with(keys, &[("echo", ECHO)]).await;
    let stream = tokio::net::TcpStream::connect(backend.address)
        .await
        .unwrap();
    let (mut send, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    // It says that it has a thousand bytes, sends ten, and stays.
    let part = Bytes::from_static(&[0, 0, 0, 3, 232, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    let first = futures::stream::iter([Ok::<_, std::convert::Infallible>(Frame::data(part))]);
    let body = StreamBody::new(first.chain(futures::stream::pending()));
    let request = http::Request::post(format!("http://test{SERVICE}ModelStreamInfer"))
        .header("content-type", "application/grpc")
        .body(body)
        .unwrap();
    let response = send.send_request(request).await.unwrap();
    until(|| async { backend.app.uploads.used() > 0 }).await;
    let answer = tokio::time::timeout(LONG, response.into_body().collect()).await;
    let answer = answer.expect("the stream ends").unwrap();
    let trailers = answer.trailers().expect("they say how it ended");
    assert_eq!(trailers["x-aegis-reason"], "request_timeout");
    let answer = answer.to_bytes();
    let told = ModelStreamInferResponse::decode(answer.slice(5..)).unwrap();
    assert!(
        told.error_message
            .contains("expected to arrive within 100 ms"),
        "{told:?}"
    );
    until(|| async { backend.app.uploads.used() == 0 }).await;
}

#[tokio::test]
async fn a_request_id_comes_back_with_a_call_that_is_answered_and_one_that_is_refused() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let mut client = Client::of(&backend).await;
    let named = |message: ModelInferRequest| {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert("x-request-id", "a-7".parse().unwrap());
        request
    };
    let path = format!("{SERVICE}ModelInfer");
    let answer: Response<ModelInferResponse> = client
        .call(&path, named(request([1.0, 2.0])))
        .await
        .unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "a-7");
    let unknown = ModelInferRequest {
        model_name: "none".to_owned(),
        ..ModelInferRequest::default()
    };
    let refused = client
        .call::<_, ModelInferResponse>(&path, named(unknown))
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert_eq!(refused.metadata().get("x-request-id").unwrap(), "a-7");
}

#[tokio::test]
async fn who_watches_the_health_is_told_when_the_server_leaves_and_let_go_when_it_closes() {
    let keys = "drain_delay_ms = 1000";
    let backend = Backend::ready_with_drain(keys, &[("echo", ECHO)]).await;
    let mut client = Client::of(&backend).await;
    client.0.ready().await.unwrap();
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Watch");
    let codec = ProstCodec::<_, HealthCheckResponse>::default();
    let asked = Request::new(HealthCheckRequest::default());
    let told = client.0.server_streaming(asked, path, codec).await;
    let mut told = told.unwrap().into_inner();
    let first = told.next().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);
    backend.stop.send(()).await.unwrap();
    let then = told.next().await.unwrap().unwrap();
    assert_eq!(then.status(), ServingStatus::NotServing);
    assert!(told.next().await.is_none(), "nothing holds the server up");
    let ended = tokio::time::timeout(LONG, backend.ended).await;
    assert_eq!(ended.unwrap().unwrap(), Drained::Idle);
}
