//! Calls with many messages: what becomes of them when the client leaves, or the server does.

use aegis_protocol::grpc::{ModelInferRequest, ModelStreamInferResponse};
use futures::channel::mpsc;
use http::uri::PathAndQuery;
use tonic::{Request, Streaming};
use tonic_prost::ProstCodec;

use super::{Client, REQUESTS, request};
use crate::support::{Backend, ECHO, until};

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
