//! gRPC through the proxy, with a client that others wrote.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use aegis_e2e::{PATIENCE, Play, Scene, SceneSetup, Seen, until};
use aegis_protocol::grpc::{
    HealthCheckRequest, HealthCheckResponse, InferInputTensor, InferParameter, ModelInferRequest,
    ModelInferResponse, ModelReadyResponse, ModelStreamInferResponse, NamedParameter,
    ParameterChoice, ServerLiveResponse, ServerMetadataResponse, ServerReadyResponse,
    ServingStatus, Target,
};
use aegis_protocol::{Reason, headers};
use anyhow::{Result, ensure};
use bytes::Bytes;
use futures::StreamExt;
use http::StatusCode;
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;

const SERVICE: &str = "/inference.GRPCInferenceService/";
const KIB: usize = 1024;

/// A client on one connection.
struct Client(Grpc<Channel>);

impl Client {
    async fn of(scene: &Scene) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{}", scene.proxy.data()));
        let channel = endpoint.unwrap().connect().await.unwrap();
        Self(Grpc::new(channel))
    }

    async fn call<Q, A>(&mut self, path: &str, request: Request<Q>) -> Result<Response<A>, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        self.0.ready().await.unwrap();
        let path = PathAndQuery::try_from(path).unwrap();
        self.0.unary(request, path, ProstCodec::default()).await
    }

    async fn ask<Q, A>(&mut self, method: &str, request: Q) -> Result<A, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let path = format!("{SERVICE}{method}");
        let answer = self.call(&path, Request::new(request)).await?;
        Ok(answer.into_inner())
    }

    async fn infer(
        &mut self,
        request: ModelInferRequest,
    ) -> Result<Response<ModelInferResponse>, Status> {
        let path = format!("{SERVICE}ModelInfer");
        self.call(&path, Request::new(request)).await
    }
}

fn request(version: &str, tensor: &Bytes) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "m".to_owned(),
        model_version: version.to_owned(),
        id: "7".to_owned(),
        inputs: vec![InferInputTensor {
            name: "x".to_owned(),
            datatype: "UINT8".to_owned(),
            shape: vec![i64::try_from(tensor.len()).unwrap()],
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![tensor.clone()],
        ..ModelInferRequest::default()
    }
}

fn tensor(size: usize) -> Bytes {
    (0..size)
        .map(|at| u8::try_from((at * 2_654_435_761) >> 13 & 0xff).unwrap())
        .collect()
}

fn header<'a, T>(answer: &'a Response<T>, name: &http::HeaderName) -> &'a str {
    let value = answer.metadata().get(name.as_str());
    value.and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// What arrived, at any endpoint.
fn seen(scene: &Scene) -> Vec<Seen> {
    let endpoints = scene.stable.iter().chain(&scene.canary);
    endpoints.flat_map(aegis_e2e::Upstream::take_seen).collect()
}

#[tokio::test]
async fn a_call_goes_to_the_version_that_was_chosen_and_says_so_in_its_message() {
    let scene = Scene::start(1, 1).await.unwrap();
    let mut client = Client::of(&scene).await;
    for (asked, route) in [("", "split"), ("2", "pinned"), ("1", "pinned")] {
        let answer = client.infer(request(asked, &tensor(10))).await.unwrap();
        let version = header(&answer, &headers::MODEL_VERSION).to_owned();
        assert_eq!(header(&answer, &headers::ROUTE), route);
        assert!(asked.is_empty() || asked == version, "{asked}: {version}");
        assert_eq!(answer.get_ref().model_version, version);
        let seen = seen(&scene);
        // A client that names no version sends one to the endpoint all the same.
        let expected = request(&version, &tensor(10));
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert_eq!(seen[0].infer_request(), Some(expected));
        assert_eq!(seen[0].headers["te"], "trailers");
        assert!(seen[0].headers.contains_key(headers::GRPC_TIMEOUT));
    }
    let metrics = scene.proxy.metrics_when(0).await.unwrap();
    let counted = metrics.count("aegis_proxy_requests_total", &[("code", "200")]);
    assert_eq!(counted.unwrap(), 3);
}

#[tokio::test]
async fn what_cannot_be_forwarded_is_refused_in_the_words_of_grpc() {
    let scene = Scene::start(1, 0).await.unwrap();
    let mut client = Client::of(&scene).await;
    let other = ModelInferRequest {
        model_name: "other".to_owned(),
        ..request("", &tensor(1))
    };
    let refused = client.infer(other).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused:?}");
    assert!(refused.message().contains("known: m"), "{refused:?}");
    let reason = refused.metadata().get(headers::REASON.as_str());
    assert_eq!(reason.unwrap(), "unknown_model");
    let refused = client.infer(request("9", &tensor(1))).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused:?}");
    let refused = client
        .infer(ModelInferRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    for path in ["/inference.Nobody/Infer", "/grpc.health.v1.Health/Watch"] {
        let refused = client
            .call::<_, ModelInferResponse>(path, Request::new(Target::default()))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented, "{path}: {refused:?}");
    }
    let unloaded = client.ask::<_, ModelInferResponse>("RepositoryModelUnload", Target::default());
    assert_eq!(unloaded.await.unwrap_err().code(), Code::Unimplemented);
    assert_eq!(scene.stable[0].asked(), 0);
    let metrics = scene.proxy.metrics_when(0).await.unwrap();
    let refused = metrics.count("aegis_proxy_rejected_total", &[("reason", "unknown_model")]);
    assert_eq!(refused.unwrap(), 1);
}

#[tokio::test]
async fn the_proxy_answers_for_all_that_lies_behind_it() {
    let scene = Scene::start(1, 0).await.unwrap();
    let mut client = Client::of(&scene).await;
    let nothing = Target::default;
    let live: ServerLiveResponse = client.ask("ServerLive", nothing()).await.unwrap();
    let ready: ServerReadyResponse = client.ask("ServerReady", nothing()).await.unwrap();
    assert!(live.live && ready.ready);
    let server: ServerMetadataResponse = client.ask("ServerMetadata", nothing()).await.unwrap();
    assert_eq!(server.name, "aegis-proxy");
    let model = Target {
        model: "m".to_owned(),
        version: "1".to_owned(),
    };
    let ready: ModelReadyResponse = client.ask("ModelReady", model.clone()).await.unwrap();
    assert!(ready.ready);
    for service in ["", "inference.GRPCInferenceService", "m"] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let health: Response<HealthCheckResponse> = client
            .call("/grpc.health.v1.Health/Check", Request::new(request))
            .await
            .unwrap();
        let expected = i32::from(ServingStatus::Serving);
        assert_eq!(health.get_ref().status, expected, "{service}");
    }
    // What a model's tensors look like, an endpoint is asked.
    let metadata = client
        .ask::<_, ModelInferResponse>("ModelMetadata", model)
        .await;
    assert_eq!(metadata.unwrap().model_name, "m");
    assert_eq!(scene.stable[0].asked(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_fails_is_whole_at_the_second_endpoint() {
    for play in [
        Play::Status(StatusCode::SERVICE_UNAVAILABLE),
        Play::HangUp,
        Play::Hang,
    ] {
        let setup = SceneSetup::new(2, 0).await.unwrap();
        // The breaker is not what is tested here.
        let setup = setup.with(|proxy| {
            proxy
                .set_model("breaker.enforce", false)
                .set_model("timeouts.request_ms", 10_000)
        });
        let scene = setup.start().await.unwrap();
        let mut client = Client::of(&scene).await;
        // One that hangs is left when it is known how long one takes.
        for _ in 0..300 {
            client.infer(request("", &tensor(1))).await.unwrap();
        }
        let _ = seen(&scene);
        for endpoint in &scene.stable {
            endpoint.play_first_attempts(play);
        }
        for size in [10, 70 * KIB, 3 * KIB * KIB] {
            let sent = tensor(size);
            let answer = client.infer(request("", &sent)).await;
            assert!(answer.is_ok(), "{play:?}, {size} bytes: {answer:?}");
            let seen = seen(&scene);
            let is_second = |seen: &&Seen| seen.headers[headers::ATTEMPT] == "2";
            let second = seen.iter().find(is_second).unwrap();
            let got = second.infer_request().unwrap();
            assert!(got == request("1", &sent), "{play:?}: other bytes arrived");
        }
    }
}

#[tokio::test]
async fn a_version_that_fails_falls_back_to_another_which_the_message_then_names() {
    let setup = SceneSetup::new(1, 1).await.unwrap();
    let setup = setup.with(|proxy| proxy.set_model("pinned_fallback", true));
    let scene = setup.start().await.unwrap();
    scene.canary[0].play(Play::Status(StatusCode::SERVICE_UNAVAILABLE));
    let mut client = Client::of(&scene).await;
    let answer = client
        .infer(request("2", &tensor(100 * KIB)))
        .await
        .unwrap();
    assert_eq!(header(&answer, &headers::MODEL_VERSION), "1");
    assert_eq!(header(&answer, &headers::ROUTE), "fallback");
    let seen = scene.stable[0].take_seen();
    let expected = request("1", &tensor(100 * KIB));
    assert_eq!(seen[0].infer_request(), Some(expected));
}

#[tokio::test]
async fn failures_in_trailers_open_the_breaker_and_the_clients_own_do_not() {
    let setup = SceneSetup::new(1, 1).await.unwrap();
    let setup = setup.with(|proxy| proxy.set_model("pinned_fallback", true));
    let scene = setup.start().await.unwrap();
    let mut client = Client::of(&scene).await;
    scene.canary[0].play(Play::Status(StatusCode::BAD_REQUEST));
    for _ in 0..10 {
        let refused = client.infer(request("2", &tensor(1))).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    assert!((scene.proxy.available("2").await.unwrap() - 1.0).abs() < 1e-9);
    scene.canary[0].play(Play::FailLate);
    for _ in 0..5 {
        let failed = client.infer(request("2", &tensor(1))).await.unwrap_err();
        assert_eq!(failed.code(), Code::Internal, "{failed:?}");
    }
    scene.proxy.until_available("2", 0.0).await.unwrap();
    let answer = client.infer(request("2", &tensor(1))).await.unwrap();
    assert_eq!(header(&answer, &headers::ROUTE), "fallback");
    let metrics = scene.proxy.metrics_when(0).await.unwrap();
    for (code, count) in [("400", 10), ("500", 5), ("200", 1)] {
        let labels = [("code", code)];
        let counted = metrics.count("aegis_proxy_requests_total", &labels);
        assert_eq!(counted.unwrap(), count, "{code}");
    }
}

#[tokio::test]
async fn a_call_that_says_that_its_time_is_over_charges_nobody() {
    let setup = SceneSetup::new(1, 1).await.unwrap();
    let setup = setup.with(|proxy| proxy.set_model("pinned_fallback", false));
    let scene = setup.start().await.unwrap();
    let mut client = Client::of(&scene).await;
    for play in [
        // With our reason beside the status, and as any other server says it.
        Play::Refuse(Reason::Deadline),
        Play::Status(StatusCode::GATEWAY_TIMEOUT),
    ] {
        scene.canary[0].play(play);
        for _ in 0..10 {
            let late = client.infer(request("2", &tensor(1))).await.unwrap_err();
            assert_eq!(late.code(), Code::DeadlineExceeded, "{late:?}");
        }
        let available = scene.proxy.available("2").await.unwrap();
        assert!((available - 1.0).abs() < 1e-9, "{play:?}");
    }
}

#[tokio::test]
async fn a_call_ends_when_its_time_is_up_and_others_beside_it_do_not() {
    let setup = SceneSetup::new(1, 0).await.unwrap();
    let setup = setup.with(|proxy| proxy.set_model("timeouts.request_ms", 20_000));
    let scene = setup.start().await.unwrap();
    let mut client = Client::of(&scene).await;
    scene.stable[0].play_once(Play::AnswerAfter(Duration::from_secs(1)));
    scene.stable[0].play_once(Play::Hang);
    let mut other = Client(client.0.clone());
    let slow = tokio::spawn(async move { other.infer(request("", &tensor(1))).await });
    until("the slow call at its endpoint", async || {
        ensure!(scene.stable[0].asked() == 1);
        Ok(())
    })
    .await
    .unwrap();
    // Of a time that it knows, the client would make an end itself.
    let mut hurried = Request::new(request("", &tensor(1)));
    hurried
        .metadata_mut()
        .insert("x-request-timeout-ms", "200".parse().unwrap());
    let late = client
        .call::<_, ModelInferResponse>(&format!("{SERVICE}ModelInfer"), hurried)
        .await
        .unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late:?}");
    assert!(slow.await.unwrap().is_ok(), "it was on another connection");
    let hurried = seen(&scene);
    let told = hurried
        .iter()
        .map(|seen| &seen.headers[headers::GRPC_TIMEOUT]);
    let told: Vec<_> = told.filter_map(|told| told.to_str().ok()).collect();
    let short = told
        .iter()
        .filter_map(|told| told.strip_suffix('m')?.parse::<u64>().ok());
    assert_eq!(
        short.filter(|ms| (1..=200).contains(ms)).count(),
        1,
        "{told:?}"
    );
}

/// An inference with parameters.
#[derive(Clone, PartialEq, prost::Message)]
struct Hurried {
    #[prost(string, tag = "1")]
    model_name: String,
    #[prost(message, repeated, tag = "4")]
    parameters: Vec<NamedParameter>,
}

#[tokio::test]
async fn the_time_that_a_message_asks_for_bounds_its_call() {
    let scene = Scene::start(1, 0).await.unwrap();
    let mut client = Client::of(&scene).await;
    let asking = |us: i64| Hurried {
        model_name: "m".to_owned(),
        parameters: vec![NamedParameter {
            name: "timeout".to_owned(),
            value: Some(InferParameter {
                choice: Some(ParameterChoice::Int(us)),
            }),
        }],
    };
    let answer: Result<ModelInferResponse, _> = client.ask("ModelInfer", asking(400_000)).await;
    answer.unwrap();
    let told = seen(&scene).pop().unwrap();
    let told = told.headers[headers::GRPC_TIMEOUT].to_str().unwrap();
    let told: u64 = told.strip_suffix('m').unwrap().parse().unwrap();
    assert!((1..=400).contains(&told), "{told}");
    let refused: Result<ModelInferResponse, _> = client.ask("ModelInfer", asking(0)).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert!(refused.message().contains("parameters.timeout"));
}

#[tokio::test]
async fn a_stream_brings_each_answer_before_the_next_question() {
    let scene = Scene::start(1, 0).await.unwrap();
    let mut client = Client::of(&scene).await;
    client.0.ready().await.unwrap();
    let (questions, asked) = tokio::sync::mpsc::channel(1);
    let asked =
        futures::stream::unfold(asked, async |mut asked| Some((asked.recv().await?, asked)));
    questions.send(request("", &tensor(1))).await.unwrap();
    let path = PathAndQuery::try_from(format!("{SERVICE}ModelStreamInfer")).unwrap();
    let codec = ProstCodec::<ModelInferRequest, ModelStreamInferResponse>::default();
    let answer = client.0.streaming(Request::new(asked), path, codec);
    let answer = answer.await.unwrap();
    assert_eq!(header(&answer, &headers::MODEL_VERSION), "1");
    let mut answers = answer.into_inner();
    for size in [1, 40 * KIB, 200 * KIB, 3] {
        if size > 1 {
            questions.send(request("", &tensor(size))).await.unwrap();
        }
        // The endpoint has not been asked anything else yet.
        let answer = answers.next().await.unwrap().unwrap();
        assert_eq!(answer.infer_response.unwrap().id, "7");
        let seen = seen(&scene);
        assert_eq!(seen.len(), 1);
        let expected = request("1", &tensor(size));
        assert!(
            seen[0].infer_request() == Some(expected),
            "{size} other bytes"
        );
    }
    drop(questions);
    assert!(answers.next().await.is_none());
    let metrics = scene.proxy.metrics_when(0).await.unwrap();
    let counted = metrics.count("aegis_proxy_requests_total", &[("code", "200")]);
    assert_eq!(counted.unwrap(), 1, "a stream is one request");
}

#[tokio::test]
async fn a_silent_call_is_given_up_and_a_stream_with_nothing_to_say_yet_is_not() {
    let setup = SceneSetup::new(1, 0).await.unwrap();
    let setup = setup.with(|proxy| {
        proxy
            .set("limits.read_timeout_ms", 200)
            .set("limits.upload_timeout_ms", 3_600_000)
    });
    let scene = setup.start().await.unwrap();
    let mut client = Client::of(&scene).await;
    let mut other = Client(client.0.clone());
    client.0.ready().await.unwrap();
    other.0.ready().await.unwrap();
    let path = |method| PathAndQuery::try_from(format!("{SERVICE}{method}")).unwrap();

    let (question, asked) = tokio::sync::oneshot::channel();
    let asked = futures::stream::once(async { asked.await.unwrap() });
    let codec = ProstCodec::<ModelInferRequest, ModelStreamInferResponse>::default();
    let opening = client
        .0
        .streaming(Request::new(asked), path("ModelStreamInfer"), codec);
    let codec = ProstCodec::<ModelInferRequest, ModelInferResponse>::default();
    let nothing = Request::new(futures::stream::pending());
    let silent = other.0.streaming(nothing, path("ModelInfer"), codec);
    let (opening, silent) = (std::pin::pin!(opening), std::pin::pin!(silent));
    // The silent call was made later, so the stream has been silent for longer.
    let first = futures::future::select(opening, silent);
    let first = tokio::time::timeout(PATIENCE, first).await;
    let first = first.expect("neither ended in time");
    let futures::future::Either::Right((silent, opening)) = first else {
        panic!("the stream ended before the silent call");
    };
    assert_eq!(silent.unwrap_err().code(), Code::Cancelled);
    question.send(request("", &tensor(1))).unwrap();
    let mut answers = opening.await.unwrap().into_inner();
    assert!(answers.next().await.unwrap().is_ok());
}
