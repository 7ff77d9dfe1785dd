//! Bodies arrive whole, also at the second endpoint after the first one broke off.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::convert::Infallible;
use std::time::Duration;

use aegis_e2e::{Answer, Client, Play, Scene, SceneSetup, raw_exchange};
use aegis_protocol::headers;
use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// Up to pingora's own retry buffer of 64 KiB, just past it, and far past it.
const SIZES: [usize; 5] = [10, 60 * KIB, 70 * KIB, MIB, 5 * MIB];

/// Bytes in which no part looks like another.
fn body(size: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes.into()
}

/// Sends a body whose length is not said before its end.
async fn post_chunked(scene: &Scene, body: &Bytes, chunk: usize) -> Result<Answer> {
    let chunks: Vec<_> = body.chunks(chunk).map(Bytes::copy_from_slice).collect();
    let frames = chunks
        .into_iter()
        .map(|chunk| Ok::<_, Infallible>(Frame::data(chunk)));
    let uri = format!("http://{}{}", scene.proxy.data(), scene.proxy.infer_path());
    let request = Request::post(uri).header("content-type", "application/json");
    let request = request.body(StreamBody::new(futures::stream::iter(frames)))?;
    let builder = hyper_util::client::legacy::Client::builder(TokioExecutor::new());
    let client = builder.build(HttpConnector::new());
    let (head, body) = client.request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body,
    })
}

/// Two endpoints of one version; whichever is asked first does this.
async fn first_attempt(play: Play) -> Scene {
    let setup = SceneSetup::new(2, 0).await.unwrap();
    // The breaker is not what is tested here.
    let setup = setup.with(|proxy| proxy.set_model("breaker.enforce", false));
    let scene = setup.start().await.unwrap();
    for endpoint in &scene.stable {
        endpoint.play_first_attempts(play);
    }
    scene
}

/// What arrived at the attempt of this number.
fn arrived(scene: &Scene, attempt: &str) -> Result<Bytes> {
    let mut seen = scene.stable.iter().flat_map(aegis_e2e::Upstream::take_seen);
    let seen = seen.find(|seen| {
        seen.headers
            .get(headers::ATTEMPT)
            .is_some_and(|a| a == attempt)
    });
    Ok(seen
        .with_context(|| format!("nothing arrived at attempt {attempt}"))?
        .body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_arrive_byte_for_byte_at_the_second_endpoint() {
    for play in [Play::HangUp, Play::HangUpEarly, Play::Reset] {
        let scene = first_attempt(play).await;
        for size in SIZES {
            let sent = body(size);
            let answer = scene.proxy.infer(sent.clone()).await.unwrap();
            assert_eq!(
                answer.status,
                StatusCode::OK,
                "{play:?}, {size} bytes: {answer:?}"
            );
            let got = arrived(&scene, "2").unwrap();
            assert_eq!(got.len(), size, "{play:?}");
            assert!(got == sent, "{play:?}: {size} other bytes arrived");
        }
        let metrics = scene.proxy.metrics().await.unwrap();
        let retries = metrics
            .count("aegis_proxy_retries_total", &[("result", "made")])
            .unwrap();
        assert_eq!(retries, SIZES.len() as u64, "{play:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_in_chunks_arrives_whole() {
    let scene = Scene::start(1, 0).await.unwrap();
    for size in SIZES {
        let sent = body(size);
        let answer = post_chunked(&scene, &sent, 7 * KIB).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{size} bytes: {answer:?}");
        assert!(
            arrived(&scene, "1").unwrap() == sent,
            "{size} other bytes arrived"
        );
    }
}

#[tokio::test]
async fn a_short_body_in_chunks_is_sent_again_too() {
    let scene = first_attempt(Play::HangUp).await;
    let sent = body(10 * KIB);
    let answer = post_chunked(&scene, &sent, KIB).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert!(arrived(&scene, "2").unwrap() == sent);
}

/// Its time begins when all of it is there, and once.
#[tokio::test]
async fn a_body_in_chunks_that_is_sent_again_gets_what_is_left_of_its_time() {
    let half = Duration::from_millis(750);
    let scene = first_attempt(Play::StatusAfter(half, StatusCode::BAD_GATEWAY)).await;
    let answer = post_chunked(&scene, &body(KIB), 100).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let seen = scene.stable.iter().flat_map(aegis_e2e::Upstream::take_seen);
    let again: Vec<_> = seen
        .filter(|seen| seen.headers[headers::ATTEMPT] == "2")
        .collect();
    assert_eq!(again.len(), 1, "{again:?}");
    let told = again[0].headers.get(headers::REQUEST_TIMEOUT_MS);
    let told = told.expect("the second endpoint is told how long it has");
    let told: u64 = told.to_str().unwrap().parse().unwrap();
    assert!((1..=750).contains(&told), "{told} ms of 1500");
}

#[tokio::test]
async fn a_body_too_long_to_be_kept_is_sent_once() {
    let setup = SceneSetup::new(2, 0).await.unwrap();
    let limit = i64::try_from(MIB).unwrap();
    let setup = setup.with(|proxy| proxy.set_model("retry.replay_limit_bytes", limit));
    let scene = setup.start().await.unwrap();
    let sent = body(2 * MIB);
    let answer = scene.proxy.infer(sent.clone()).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert!(arrived(&scene, "1").unwrap() == sent);

    for endpoint in &scene.stable {
        endpoint.play(Play::HangUp);
    }
    let answer = scene.proxy.infer(sent).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), answer.reason()),
        (502, "upstream_error"),
        "{answer:?}"
    );
    let asked: u64 = scene.stable.iter().map(aegis_e2e::Upstream::asked).sum();
    assert_eq!(asked, 2, "one request each time");
}

/// Two endpoints, and memory for a mebibyte of bodies.
async fn with_little_memory() -> Scene {
    let setup = SceneSetup::new(2, 0).await.unwrap();
    let setup = setup.with(|proxy| {
        proxy
            .set("limits.replay_memory_bytes", i64::try_from(MIB).unwrap())
            .set_model("breaker.enforce", false)
    });
    setup.start().await.unwrap()
}

#[tokio::test]
async fn who_announces_much_and_sends_little_keeps_nobody_from_being_sent_again() {
    let scene = with_little_memory().await;
    let path = scene.proxy.infer_path();
    let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {MIB}\r\n\r\nx");
    let mut tricklers = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(scene.proxy.data()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        tricklers.push(stream);
    }
    scene.proxy.metrics_when(4).await.unwrap();
    for endpoint in &scene.stable {
        endpoint.play_first_attempts(Play::HangUp);
    }
    let sent = body(200 * KIB);
    let answer = scene.proxy.infer(sent.clone()).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert!(arrived(&scene, "2").unwrap() == sent);
}

#[tokio::test]
async fn a_body_for_which_the_memory_ends_goes_on_as_a_stream_and_gives_it_back() {
    let scene = with_little_memory().await;
    for size in [MIB + 1, 2 * MIB, 5 * MIB] {
        let sent = body(size);
        let answer = scene.proxy.infer(sent.clone()).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{size} bytes: {answer:?}");
        let got = arrived(&scene, "1").unwrap();
        assert_eq!(got.len(), size);
        assert!(got == sent, "{size} other bytes arrived");
    }
    for endpoint in &scene.stable {
        endpoint.play_first_attempts(Play::HangUp);
    }
    let answer = scene.proxy.infer(body(5 * MIB)).await.unwrap();
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{answer:?}");
    let sent = body(MIB);
    let answer = scene.proxy.infer(sent.clone()).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert!(arrived(&scene, "2").unwrap() == sent);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_however_it_comes() {
    let setup = SceneSetup::new(1, 0).await.unwrap();
    let limit = i64::try_from(MIB).unwrap();
    let setup = setup.with(|proxy| proxy.set("limits.max_body_bytes", limit));
    let scene = setup.start().await.unwrap();
    let at_limit = scene.proxy.infer(body(MIB)).await.unwrap();
    assert_eq!(at_limit.status, StatusCode::OK);
    let over = body(MIB + 1);
    let announced = scene.proxy.infer(over.clone()).await.unwrap();
    let chunked = post_chunked(&scene, &over, 64 * KIB).await.unwrap();
    for answer in [announced, chunked] {
        assert_eq!(
            (answer.status.as_u16(), answer.reason()),
            (413, "body_too_large")
        );
        assert!(answer.error().unwrap().contains("1048576"), "{answer:?}");
    }
    // And the next request is none the worse for it.
    assert_eq!(
        scene.proxy.infer(body(10)).await.unwrap().status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_body_that_trickles_in_is_given_up_and_charged_to_nobody() {
    let setup = SceneSetup::new(1, 0).await.unwrap();
    let setup = setup.with(|proxy| proxy.set("limits.upload_timeout_ms", 300));
    let scene = setup.start().await.unwrap();
    let path = scene.proxy.infer_path();
    let head = |more: &str| format!("POST {path} HTTP/1.1\r\nhost: a\r\n{more}\r\n\r\n");
    for (more, chunk, status, reason) in [
        ("content-length: 100000", "x", 408, "request_timeout"),
        (
            "transfer-encoding: chunked",
            "1\r\nx\r\n",
            408,
            "request_timeout",
        ),
        (
            "content-length: 9\r\nx-request-timeout-ms: 80",
            "x",
            504,
            "deadline",
        ),
    ] {
        let trickle = async {
            let mut stream = TcpStream::connect(scene.proxy.data()).await?;
            stream.write_all(head(more).as_bytes()).await?;
            let (mut from, mut to) = stream.into_split();
            let mut pace = tokio::time::interval(Duration::from_millis(20));
            let sender = tokio::spawn(async move {
                // Far below any silence that would end it, until it is ended.
                while to.write_all(chunk.as_bytes()).await.is_ok() {
                    pace.tick().await;
                }
            });
            let mut answer = [0; 512];
            let read = from.read(&mut answer).await?;
            sender.abort();
            anyhow::Ok(String::from_utf8_lossy(&answer[..read]).into_owned())
        };
        let answer = trickle.await.unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{more}: {answer}"
        );
        assert!(answer.contains(reason), "{more}: {answer}");
    }
    let metrics = scene.proxy.metrics().await.unwrap();
    let opened = metrics.count("aegis_proxy_breaker_transitions_total", &[("to", "open")]);
    assert_eq!(opened.unwrap(), 0);
}

#[tokio::test]
async fn requests_follow_each_other_on_one_connection() {
    let scene = Scene::start(1, 0).await.unwrap();
    let path = scene.proxy.infer_path();
    let first = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc");
    let last = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\n\r\ndefgh"
    );
    // At once, as a pipelining client sends them.
    let both = [first.as_bytes(), last.as_bytes()].concat();
    let answers = raw_exchange(scene.proxy.data(), &[&both])
        .await
        .unwrap()
        .answers()
        .unwrap();
    let texts: Vec<_> = answers.iter().map(Answer::text).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(
        texts[0].contains("3 bytes") && texts[1].contains("5 bytes"),
        "{texts:?}"
    );
}

#[tokio::test]
async fn a_request_with_two_lengths_is_refused_and_not_forwarded() {
    let scene = Scene::start(1, 0).await.unwrap();
    let path = scene.proxy.infer_path();
    let smuggled = format!("GET {path} HTTP/1.1\r\nhost: b\r\n\r\n");
    let heads = [
        "content-length: 4\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 4",
        "content-length: 4\r\ncontent-length: 5",
        "transfer-encoding: xchunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity",
    ];
    for head in heads {
        let request =
            format!("POST {path} HTTP/1.1\r\nhost: a\r\n{head}\r\n\r\n0\r\n\r\n{smuggled}");
        let raw = raw_exchange(scene.proxy.data(), &[request.as_bytes()])
            .await
            .unwrap();
        let answers = raw.answers().unwrap_or_default();
        assert!(answers.len() <= 1, "{head:?}: {answers:?}");
        let refused = answers
            .iter()
            .all(|answer| answer.status == StatusCode::BAD_REQUEST);
        assert!(refused, "{head:?}: {answers:?}");
        assert_eq!(scene.stable[0].asked(), 0, "{head:?} was forwarded");
    }
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_to_go_on_is_told() {
    let scene = Scene::start(1, 0).await.unwrap();
    let path = scene.proxy.infer_path();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\nconnection: close\r\n\
         content-length: 3\r\n\r\n"
    );
    let raw = raw_exchange(scene.proxy.data(), &[head.as_bytes(), b"abc"])
        .await
        .unwrap();
    let answers = raw.answers().unwrap();
    let last = answers.last().unwrap();
    assert_eq!(last.status, StatusCode::OK, "{answers:?}");
    assert!(last.text().contains("3 bytes"), "{answers:?}");
}

#[tokio::test]
async fn an_attempt_that_fails_everywhere_is_a_502_that_says_why() {
    let scene = Scene::start(2, 0).await.unwrap();
    for endpoint in &scene.stable {
        endpoint.play(Play::HangUp);
    }
    let client = Client::new();
    let (data, path) = (scene.proxy.data(), scene.proxy.infer_path());
    for _ in 0..2 {
        let answer = client.post(data, &path, "{}").await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.reason()),
            (502, "upstream_error"),
            "{answer:?}"
        );
        assert!(!answer.error().unwrap().is_empty());
    }
}
