//! Clients that are slow, silent or too many.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::{Backend, Client, ECHO, LONG, echo_body, infer, raw, until};

#[tokio::test]
async fn a_connection_that_says_nothing_or_half_a_preface_is_closed() {
    let backend = Backend::ready_with("header_timeout_ms = 100", &[("echo", ECHO)]).await;
    for said in [
        "",
        "PRI * HTT",
        "POST /v2/models/echo/infer HTTP/1.1\r\nhost: te",
    ] {
        assert_eq!(raw(backend.address, said.as_bytes()).await, "", "{said:?}");
    }
}

#[tokio::test]
async fn a_connection_that_has_asked_outlives_the_header_timeout() {
    let backend = Backend::ready_with("header_timeout_ms = 50", &[("echo", ECHO)]).await;
    let mut client = Client::connect(backend.address).await;
    client.send(infer("echo", echo_body(&[1.0]))).await;
    // A connection that came later and said nothing has been closed: so the time is over.
    assert_eq!(raw(backend.address, b"").await, "");
    assert_eq!(
        client.send(infer("echo", echo_body(&[1.0]))).await.status,
        200
    );
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time() {
    let backend = Backend::ready_with("idle_timeout_ms = 100", &[("echo", ECHO)]).await;
    let answer = raw(backend.address, b"GET /v2 HTTP/1.1\r\nhost: test\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// A connection over HTTP/2, and its end.
async fn h2(backend: &Backend) -> (SendRequest<Full<Bytes>>, JoinHandle<hyper::Result<()>>) {
    let stream = TcpStream::connect(backend.address).await.unwrap();
    let (send, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    (send, tokio::spawn(connection))
}

/// Asks for something small, and reads the answer to its end.
async fn ask(send: &mut SendRequest<Full<Bytes>>) {
    let request = Request::get("http://test/v2")
        .body(Full::default())
        .unwrap();
    let answer = send.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.into_body().collect().await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_over_http2_is_closed_in_time_and_one_with_an_open_stream_is_not() {
    let backend = Backend::ready_with("idle_timeout_ms = 100", &[("echo", ECHO)]).await;
    let (mut used, mut used_ended) = h2(&backend).await;
    let watch = Request::post("http://test/grpc.health.v1.Health/Watch")
        .header("content-type", "application/grpc")
        .body(Full::from(vec![0; 5]))
        .unwrap();
    let mut watched = used.send_request(watch).await.unwrap();
    watched.body_mut().frame().await.unwrap().unwrap();
    ask(&mut used).await;
    let (mut idle, idle_ended) = h2(&backend).await;
    ask(&mut idle).await;
    let ended = tokio::time::timeout(LONG, idle_ended).await;
    ended.expect("it is closed").unwrap().unwrap();
    // The other's last answer is older.
    ask(&mut used).await;
    drop(watched);
    let ended = tokio::time::timeout(LONG, &mut used_ended).await;
    ended.expect("it is closed").unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_answer_the_farewell_of_http2_is_not_waited_for() {
    let backend = Backend::ready_with("idle_timeout_ms = 100", &[("echo", ECHO)]).await;
    let mut stream = TcpStream::connect(backend.address).await.unwrap();
    // A preface, no settings, and a stream that asks for `GET /v2`; after that it says nothing.
    let request = b"\x82\x86\x04\x03/v2\x01\x04test";
    let length = u8::try_from(request.len()).unwrap();
    let frames = [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..],
        &[0, 0, length, 1, 5, 0, 0, 0, 1],
        request,
    ];
    stream.write_all(&frames.concat()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await;
    read.expect("it is closed").unwrap();
    let server = b"aegis-backend";
    assert!(answer.windows(server.len()).any(|part| part == server));
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_408() {
    let backend = Backend::ready_with("body_timeout_ms = 100", &[("echo", ECHO)]).await;
    let mut stream = TcpStream::connect(backend.address).await.unwrap();
    let head = "POST /v2/models/echo/infer HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let length = tokio::time::timeout(LONG, stream.read(&mut answer))
        .await
        .unwrap()
        .unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(
        answer.contains("x-aegis-reason: request_timeout"),
        "{answer}"
    );
    assert!(
        answer.contains("expected to arrive within 100 ms"),
        "{answer}"
    );
}

#[tokio::test]
async fn connections_over_the_limit_wait_until_one_closes() {
    let backend = Backend::ready_with("max_connections = 2", &[("echo", ECHO)]).await;
    let first = kept(&backend).await;
    let second = kept(&backend).await;
    let address = backend.address;
    let third = tokio::spawn(async move {
        Client::connect(address)
            .await
            .send(infer("echo", echo_body(&[3.0])))
            .await
    });
    let paused = || async { backend.app.metrics.accept_paused.get() > 0 };
    until(paused).await;
    assert!(!third.is_finished());
    drop(first);
    let reply = tokio::time::timeout(LONG, third).await.unwrap().unwrap();
    assert_eq!(reply.output(0), [3.0, 3.0]);
    drop(second);
}

async fn kept(backend: &Backend) -> Client {
    let mut client = Client::connect(backend.address).await;
    client.send(infer("echo", echo_body(&[1.0]))).await;
    client
}

#[tokio::test]
async fn what_is_no_http_is_answered_400_and_the_server_goes_on() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let answer = raw(
        backend.address,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(backend.get("/v2").await.status, 200);
}

const LATENCY: &str = "aegis_inference_latency_seconds_count{model=\"echo\",model_version=\"1\"}";

/// A connection that has sent this head and so many bytes of a body of 900.
async fn unfinished(backend: &Backend, headers: &str, sent: usize) -> TcpStream {
    let mut stream = TcpStream::connect(backend.address).await.unwrap();
    let head = format!(
        "POST /v2/models/echo/infer HTTP/1.1\r\nhost: test\r\n{headers}content-length: 900\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b' '; sent]).await.unwrap();
    stream
}

#[tokio::test]
async fn bodies_that_are_being_read_share_one_budget() {
    let keys = "max_body_bytes = 1000\nmax_upload_bytes = 1000";
    let backend = Backend::ready_with(keys, &[("echo", ECHO)]).await;
    let holder = unfinished(&backend, "", 800).await;
    let uploads = &backend.app.uploads;
    until(|| async { uploads.used() == 800 }).await;
    let body = format!("{:<300}", echo_body(&[1.0]));
    let reply = backend.infer("echo", body.clone()).await;
    assert_eq!(reply.status, 429);
    assert_eq!(reply.header("x-aegis-reason"), Some("queue_full"));
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(
        reply.error(),
        "the bodies that are being read fill `max_upload_bytes`, which is 1000"
    );
    drop(holder);
    until(|| async { uploads.used() == 0 }).await;
    assert_eq!(backend.infer("echo", body).await.status, 200);
    assert_eq!(uploads.used(), 0);
}

#[tokio::test]
async fn a_deadline_ends_the_reading_of_a_body() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let mut stream = unfinished(&backend, "x-request-timeout-ms: 50\r\n", 10).await;
    let mut answer = vec![0; 4096];
    // Long before `body_timeout_ms` would answer 408.
    let length = tokio::time::timeout(LONG, stream.read(&mut answer))
        .await
        .unwrap()
        .unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    assert!(answer.contains("x-aegis-reason: deadline"), "{answer}");
    assert!(backend.metric(LATENCY).await < 0.5, "it was never queued");
}

#[tokio::test]
async fn a_deadline_that_passed_while_a_body_was_decoded_queues_nothing() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let body = echo_body(&[1.0]).replacen('{', "{\"parameters\":{\"timeout\":1},", 1);
    let reply = backend.infer("echo", body).await;
    assert_eq!(reply.status, 504, "{}", reply.text());
    assert_eq!(reply.header("x-aegis-reason"), Some("deadline"));
    assert!(backend.metric(LATENCY).await < 0.5, "it was never queued");
    backend.infer("echo", echo_body(&[1.0])).await;
    assert!((backend.metric(LATENCY).await - 1.0).abs() < 0.5);
}

#[tokio::test]
async fn a_client_that_leaves_before_its_body_is_whole_is_no_refusal() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let code = |code: u16| {
        format!(
            "aegis_inference_requests_total{{code=\"{code}\",model=\"echo\",model_version=\"1\"}}"
        )
    };
    let (left, bad) = (code(499), code(400));
    let client = unfinished(&backend, "", 10).await;
    until(|| async { backend.app.uploads.used() == 10 }).await;
    drop(client);
    until(|| async { backend.metric(&left).await > 0.5 }).await;
    assert!(backend.metric(&bad).await < 0.5);
    let rejected = "aegis_inference_rejected_total{reason=\"bad_request\"}";
    assert!(backend.metric(rejected).await < 0.5);
    // One that frames its body wrongly is still there, and is told.
    let head = "POST /v2/models/echo/infer HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\
                transfer-encoding: chunked\r\n\r\nnonsense\r\n";
    let answer = raw(backend.address, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!((backend.metric(&bad).await - 1.0).abs() < 0.5);
}
