//! Calls with many messages: what becomes of them when the client leaves, or the server does.

use aegis_backend::server::Drained;
use aegis_protocol::grpc::{ModelInferRequest, ModelStreamInferResponse, ServerLiveResponse};
use futures::StreamExt;
use futures::channel::mpsc;
use http::uri::PathAndQuery;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::{Client, REQUESTS, request};
use crate::support::{Backend, ECHO, LONG, until};

const RAN: &str = "aegis_inference_queue_seconds_count{model=\"echo\",model_version=\"1\"}";
const DEPTH: &str = "aegis_inference_queue_depth{model=\"echo\",model_version=\"1\"}";

/// A call: what is sent on it, and what comes back.
struct Call {
    send: mpsc::UnboundedSender<ModelInferRequest>,
    answers: Streaming<ModelStreamInferResponse>,
}

// === impl Call ===

impl Call {
    /// Opens a call that begins with so many messages.
    async fn open(client: &mut Client, messages: usize) -> Self {
        let (send, queued) = mpsc::unbounded();
        for _ in 0..messages {
            send.unbounded_send(request([1.0, 2.0])).unwrap();
        }
        client.0.ready().await.unwrap();
        let path = PathAndQuery::from_static("/inference.GRPCInferenceService/ModelStreamInfer");
        let codec = ProstCodec::<ModelInferRequest, ModelStreamInferResponse>::default();
        let call = client.0.streaming(Request::new(queued), path, codec);
        let answers = call.await.unwrap().into_inner();
        Self { send, answers }
    }
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_is_taken_out_of_the_queue_and_counted() {
    let model = format!("{ECHO}\nhang_every = 1");
    let backend = Backend::ready(&[("echo", &model)]).await;
    let mut client = Client::of(&backend).await;
    let runs = Call::open(&mut client, 1).await;
    until(|| async { backend.metric(RAN).await > 0.5 }).await;
    let waits = Call::open(&mut client, 1).await;
    until(|| async { backend.metric(DEPTH).await > 0.5 }).await;
    // Both ways of the call are given up; its connection stays.
    drop(waits);
    until(|| async { backend.metric(DEPTH).await < 0.5 }).await;
    let left = REQUESTS.replace("CODE", "499");
    until(|| async { backend.metric(&left).await > 0.5 }).await;
    drop(runs);
}

/// What is answered in turn, and how the call ends then.
async fn to_the_end(call: &mut Call) -> (usize, Option<Status>) {
    let mut answered = 0;
    loop {
        let next = tokio::time::timeout(LONG, call.answers.next()).await;
        match next.expect("an answer, or the end") {
            Some(Ok(answer)) => assert!(answer.infer_response.is_some(), "{answer:?}"),
            Some(Err(status)) => return (answered, Some(status)),
            None => return (answered, None),
        }
        answered += 1;
    }
}

/// A server of a model that takes its time.
async fn slow() -> Backend {
    let model = format!("{ECHO}\nbatch_ms = 100");
    Backend::ready(&[("echo", &model)]).await
}

#[tokio::test]
async fn messages_that_are_there_when_the_server_closes_are_answered_and_the_call_ends_as_draining()
{
    let backend = slow().await;
    let mut client = Client::of(&backend).await;
    // Two come together; two more come by themselves, and lie in the connection while the first run.
    let mut call = Call::open(&mut client, 2).await;
    until(|| async { backend.metric(RAN).await > 0.5 }).await;
    for _ in 0..2 {
        call.send.unbounded_send(request([3.0, 4.0])).unwrap();
        // On the same connection, so that it is answered when the message is there.
        let live: ServerLiveResponse = client.ask("ServerLive", ()).await.unwrap();
        assert!(live.live);
    }
    backend.stop.send(()).await.unwrap();
    let (answered, status) = to_the_end(&mut call).await;
    assert_eq!(answered, 4);
    // It has not said that it was done.
    let status = status.expect("it does not end well");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(status.metadata().get("x-aegis-reason").unwrap(), "draining");
    let ended = tokio::time::timeout(LONG, backend.ended).await;
    assert_eq!(ended.unwrap().unwrap(), Drained::Idle);
}

#[tokio::test]
async fn a_call_whose_client_has_said_all_ends_well_though_the_server_closes() {
    let backend = slow().await;
    let mut client = Client::of(&backend).await;
    let mut call = Call::open(&mut client, 3).await;
    call.send.close_channel();
    until(|| async { backend.metric(RAN).await > 0.5 }).await;
    backend.stop.send(()).await.unwrap();
    let (answered, status) = to_the_end(&mut call).await;
    assert!(status.is_none(), "{status:?}");
    assert_eq!(answered, 3);
}
