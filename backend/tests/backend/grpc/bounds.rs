//! Small messages that would become large, or keep what is.

use aegis_protocol::grpc::{InferInputTensor, ModelInferRequest, Target, TensorContents};
use prost::Message;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tonic::Code;
use tonic::codec::CompressionEncoding;

use super::{Client, echo, request, typed};
use crate::support::{Backend, ECHO, echo_body, until};

#[tokio::test]
async fn a_small_message_that_would_become_large_is_refused_before_it_is_decoded() {
    let backend = Backend::ready_with("max_body_bytes = 4000", &[("echo", ECHO)]).await;
    let mut client = Client::of(&backend).await;
    let many = ModelInferRequest {
        inputs: vec![InferInputTensor::default(); 1_500],
        ..request([1.0; 2])
    };
    let mut long = typed([1.0; 2]);
    long.inputs[0].contents = Some(TensorContents {
        int64s: vec![0; 1_000],
        ..TensorContents::default()
    });
    for (request, code, text, reason) in [
        (
            many,
            Code::InvalidArgument,
            "inputs: expected at most 1024, got more",
            "bad_request",
        ),
        (
            long,
            Code::ResourceExhausted,
            "inputs[0].contents: expected all lists of numbers and texts to become at most 4000 bytes",
            "body_too_large",
        ),
    ] {
        let status = client.infer(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().starts_with(text), "{status:?}");
        assert_eq!(status.metadata().get("x-aegis-reason").unwrap(), reason);
    }
    assert_eq!(client.infer(request([1.0; 2])).await.unwrap().id, "7");
}

#[tokio::test]
async fn what_a_message_becomes_counts_against_the_budget_for_bodies() {
    let keys = "max_body_bytes = 4000\nmax_upload_bytes = 4000";
    let backend = Backend::ready_with(keys, &[("echo", ECHO)]).await;
    let mut client = Client::of(&backend).await;
    let mut long = typed([1.0; 2]);
    long.inputs[0].contents = Some(TensorContents {
        int64s: vec![0; 450],
        ..TensorContents::default()
    });
    let size = long.encoded_len();
    let holder = unfinished(&backend, 3_400).await;
    assert!(3_400 + size < 4_000, "the message itself finds room");
    let status = client.infer(long.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(
        status.message().contains("fill `max_upload_bytes`"),
        "{status:?}"
    );
    drop(holder);
    until(|| async { backend.app.uploads.used() == 0 }).await;
    // Then it is read, and is no FP32.
    let status = client.infer(long).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert_eq!(backend.app.uploads.used(), 0);
}

/// A connection that has sent so many bytes of a body that never ends.
async fn unfinished(backend: &Backend, sent: usize) -> TcpStream {
    let mut stream = TcpStream::connect(backend.address).await.unwrap();
    let head = "POST /v2/models/echo/infer HTTP/1.1\r\nhost: test\r\ncontent-length: 3900\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b' '; sent]).await.unwrap();
    until(|| async { backend.app.uploads.used() == sent }).await;
    stream
}

#[tokio::test]
async fn an_id_over_its_limit_is_refused_over_rest_and_grpc() {
    let backend = echo().await;
    let mut client = Client::of(&backend).await;
    let named = |id: &str| ModelInferRequest {
        id: id.to_owned(),
        ..request([1.0; 2])
    };
    let (most, more) = ("i".repeat(1_024), "i".repeat(1_025));
    assert_eq!(client.infer(named(&most)).await.unwrap().id, most);
    let status = client.infer(named(&more)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let text = "id: expected at most 1024 bytes, got 1025";
    assert_eq!(status.message(), text);
    let body = |id: &str| echo_body(&[1.0]).replacen('{', &format!("{{\"id\":\"{id}\","), 1);
    let reply = backend.infer("echo", body(&most)).await;
    assert_eq!(reply.json()["id"], most);
    let reply = backend.infer("echo", body(&more)).await;
    assert_eq!((reply.status.as_u16(), &*reply.error()), (400, text));
    assert_eq!(reply.header("x-aegis-reason"), Some("bad_request"));
}

#[tokio::test]
async fn no_message_but_that_of_an_inference_is_long() {
    let backend = echo().await;
    let mut client = Client::of(&backend).await;
    // Far under `max_body_bytes`.
    let long = Target {
        model: "m".repeat(70_000),
        version: String::new(),
    };
    for compressed in [false, true] {
        if compressed {
            client.0 = client.0.send_compressed(CompressionEncoding::Gzip);
        }
        for method in ["ModelReady", "ModelMetadata", "RepositoryModelLoad"] {
            let status = client.ask::<_, ()>(method, long.clone()).await.unwrap_err();
            assert_eq!(
                status.code(),
                Code::ResourceExhausted,
                "{method}: {status:?}"
            );
            let text = "body: expected at most 65536 bytes, got more";
            assert_eq!(status.message(), text, "{method}");
        }
    }
}
