//! HTTP/2 on the data port does what HTTP/1.1 does there, and is bounded as that is.

use std::convert::Infallible;
use std::time::Duration;

use aegis_e2e::{Client, PATIENCE, Play, Scene, SceneSetup, Signal, until};
use aegis_protocol::headers;
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::StreamExt;
use http::{Request, StatusCode};
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const KIB: usize = 1024;
/// Within a frame, past pingora's buffer, far past it.
const SIZES: [usize; 4] = [10, 60 * KIB, 200 * KIB, 5 * 1024 * KIB];

/// Bytes in which no part looks like another.
fn body(size: usize) -> Bytes {
    (0..size)
        .map(|at| u8::try_from((at * 2_654_435_761) >> 13 & 0xff).unwrap_or(0))
        .collect()
}

/// What arrived at the attempt of this number.
fn arrived(scene: &Scene, attempt: &str) -> Result<Bytes> {
    let mut seen = scene.stable.iter().flat_map(aegis_e2e::Upstream::take_seen);
    let is_it = |seen: &aegis_e2e::Seen| {
        seen.headers
            .get(headers::ATTEMPT)
            .is_some_and(|number| number == attempt)
    };
    let seen = seen.find(is_it);
    Ok(seen
        .with_context(|| format!("nothing at attempt {attempt}"))?
        .body)
}

#[tokio::test]
async fn a_request_over_http_2_is_answered_as_over_http_1() {
    let scene = Scene::start(1, 1).await.unwrap();
    let (client, data) = (Client::http2(), scene.proxy.data());
    let path = aegis_protocol::path::infer("m", Some("2"));
    let answer = client.post(data, &path, "{}").await.unwrap();
    assert_eq!(
        (answer.status, answer.version(), answer.route()),
        (StatusCode::OK, "2", "pinned"),
        "{answer:?}"
    );
    assert!(answer.text().contains("2 bytes"), "{answer:?}");
    let unknown = client.get(data, "/v2/models/nobody").await.unwrap();
    assert_eq!(
        (unknown.status, unknown.reason()),
        (StatusCode::NOT_FOUND, "unknown_model")
    );
    let ready = client.get(data, "/v2/health/ready").await.unwrap();
    assert_eq!(ready.status, StatusCode::OK);
    let connections = scene.proxy.metrics().await.unwrap();
    assert_eq!(
        connections.value("aegis_proxy_connections", &[]),
        Some(1.0),
        "all of it went over one connection"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_over_http_2_arrive_byte_for_byte_at_the_second_endpoint() {
    for play in [
        Play::HangUp,
        Play::Reset,
        Play::Status(StatusCode::BAD_GATEWAY),
    ] {
        let setup = SceneSetup::new(2, 0).await.unwrap();
        // The breaker is not what is tested here.
        let setup = setup.with(|proxy| proxy.set_model("breaker.enforce", false));
        let scene = setup.start().await.unwrap();
        for endpoint in &scene.stable {
            endpoint.play_first_attempts(play);
        }
        let (client, data) = (Client::http2(), scene.proxy.data());
        for size in SIZES {
            let sent = body(size);
            let path = scene.proxy.infer_path();
            let answer = client.post(data, &path, sent.clone()).await.unwrap();
            assert_eq!(
                answer.status,
                StatusCode::OK,
                "{play:?}, {size}: {answer:?}"
            );
            assert!(
                arrived(&scene, "2").unwrap() == sent,
                "{play:?}: {size} other bytes arrived"
            );
        }
    }
}

#[tokio::test]
async fn a_body_too_long_to_be_kept_streams_once_and_one_too_long_is_refused() {
    let setup = SceneSetup::new(2, 0).await.unwrap();
    let kib = |kib: usize| i64::try_from(kib * KIB).unwrap_or(0);
    let setup = setup.with(|proxy| {
        proxy
            .set_model("retry.replay_limit_bytes", kib(100))
            .set("limits.max_body_bytes", kib(1_000))
    });
    let scene = setup.start().await.unwrap();
    let (client, data) = (Client::http2(), scene.proxy.data());
    let path = scene.proxy.infer_path();
    let sent = body(900 * KIB);
    let answer = client.post(data, &path, sent.clone()).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert!(arrived(&scene, "1").unwrap() == sent, "other bytes arrived");
    let answer = client.post(data, &path, body(1_100 * KIB)).await.unwrap();
    assert_eq!(
        (answer.status, answer.reason()),
        (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large")
    );
    for endpoint in &scene.stable {
        endpoint.play(Play::HangUp);
    }
    let answer = client.post(data, &path, sent).await.unwrap();
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{answer:?}");
    let metrics = scene.proxy.metrics().await.unwrap();
    let given_up = metrics.count("aegis_proxy_retries_total", &[("result", "not_replayable")]);
    assert_eq!(given_up.unwrap(), 1);
}

#[tokio::test]
async fn a_client_that_resets_its_stream_frees_the_endpoint() {
    let setup = SceneSetup::new(1, 0).await.unwrap();
    let setup = setup.with(|proxy| proxy.set_model("timeouts.request_ms", 60_000));
    let scene = setup.start().await.unwrap();
    scene.stable[0].play(Play::Hang);
    let (client, data) = (Client::http2(), scene.proxy.data());
    let path = scene.proxy.infer_path();
    let asking = {
        let client = client.clone();
        tokio::spawn(async move { client.post(data, &path, "{}").await })
    };
    until("the request at its endpoint", async || {
        ensure!(scene.stable[0].asked() == 1);
        Ok(())
    })
    .await
    .unwrap();
    asking.abort();
    let metrics = scene.proxy.metrics_when(0).await.unwrap();
    let gone = metrics.count("aegis_proxy_requests_total", &[("code", "499")]);
    assert_eq!(gone.unwrap(), 1, "it is given up");
    // The connection is as good as before.
    scene.stable[0].play(Play::Answer);
    let answer = client.post(data, &scene.proxy.infer_path(), "{}").await;
    assert_eq!(answer.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn a_drain_answers_what_runs_and_tells_the_client_to_go() {
    let setup = SceneSetup::new(1, 0).await.unwrap();
    let setup = setup.with(|proxy| {
        proxy
            .set("drain.grace_ms", 25_000)
            .set("drain.delay_ms", 300)
            .set_model("timeouts.request_ms", 20_000)
    });
    let mut scene = setup.start().await.unwrap();
    scene.stable[0].play(Play::AnswerAfter(Duration::from_millis(1_500)));
    let (client, data) = (Client::http2(), scene.proxy.data());
    let path = scene.proxy.infer_path();
    let slow: Vec<_> = (0..5)
        .map(|_| {
            let (client, path) = (client.clone(), path.clone());
            tokio::spawn(async move { client.post(data, &path, "{}").await })
        })
        .collect();
    // It has sent its preface, and will never send a request.
    let mut idle = TcpStream::connect(data).await.unwrap();
    idle.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    until("the slow requests at their endpoint", async || {
        ensure!(scene.stable[0].asked() == 5);
        Ok(())
    })
    .await
    .unwrap();
    scene.proxy.process.signal(Signal::TERM).unwrap();
    for answer in slow {
        assert_eq!(answer.await.unwrap().unwrap().status, StatusCode::OK);
    }
    let exit = scene.proxy.process.exited().await.unwrap();
    assert_eq!(exit.code, Some(0), "{exit}");
    assert!(exit.after < Duration::from_secs(10), "{exit}");
}

/// The server's settings, by number, as a connection is told first.
async fn settings(stream: &mut TcpStream) -> Result<Vec<(u16, u32)>> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    ensure!(head[3] == 4, "the first frame is of type {}", head[3]);
    let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
    stream.read_exact(&mut payload).await?;
    let entries = payload.chunks_exact(6).map(|entry| {
        let number = u16::from_be_bytes([entry[0], entry[1]]);
        let value = u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]);
        (number, value)
    });
    Ok(entries.collect())
}

#[tokio::test]
async fn a_client_is_told_how_many_streams_and_how_long_a_header_there_may_be() {
    let setup = SceneSetup::new(1, 0).await.unwrap();
    let setup = setup.with(|proxy| proxy.set("limits.max_h2_streams", 7));
    let scene = setup.start().await.unwrap();
    let mut stream = TcpStream::connect(scene.proxy.data()).await.unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let settings = settings(&mut stream).await.unwrap();
    // SETTINGS_MAX_CONCURRENT_STREAMS and SETTINGS_MAX_HEADER_LIST_SIZE.
    assert!(settings.contains(&(3, 7)), "{settings:?}");
    assert!(settings.contains(&(6, 32 * 1024)), "{settings:?}");
}

#[tokio::test]
async fn half_a_preface_is_waited_for_no_longer_than_a_header() {
    let setup = SceneSetup::new(1, 0).await.unwrap();
    let setup = setup.with(|proxy| proxy.set("limits.read_timeout_ms", 200));
    let scene = setup.start().await.unwrap();
    let mut stream = TcpStream::connect(scene.proxy.data()).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "{rest:?}");
    assert!(scene.proxy.infer("{}").await.unwrap().status.is_success());
}

#[tokio::test]
async fn a_client_that_falls_silent_in_the_middle_of_a_body_is_given_up() {
    let setup = SceneSetup::new(1, 0).await.unwrap();
    let setup = setup.with(|proxy| {
        proxy
            .set("limits.read_timeout_ms", 200)
            .set("limits.upload_timeout_ms", 3_600_000)
    });
    let scene = setup.start().await.unwrap();
    let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build(HttpConnector::new());
    for start in [&[][..], &["{"], &["{", "}"]] {
        let start = start.iter().map(|part| Bytes::from_static(part.as_bytes()));
        let start = start.map(|part| Ok::<_, Infallible>(Frame::data(part)));
        let silence = futures::stream::iter(start).chain(futures::stream::pending());
        let uri = format!("http://{}{}", scene.proxy.data(), scene.proxy.infer_path());
        let request = Request::post(uri).body(StreamBody::new(silence)).unwrap();
        let answer = tokio::time::timeout(PATIENCE, client.request(request)).await;
        let answer = answer.expect("an answer").unwrap();
        assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);
    }
    assert_eq!(scene.stable[0].asked(), 0);
}
