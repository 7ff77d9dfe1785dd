//! The finer rules of HTTP/1: how long connections are kept, what is of one connection only, old
//! clients, answers that come early, and endpoints that do what nobody asked for.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::sync::Arc;

use aegis_e2e::{Binaries, Proxy, ProxySetup, Recorder, STABLE, raw_exchange, until};
use anyhow::ensure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

const INFER: &str = "/v2/models/m/infer";

/// A proxy before one endpoint, with a change to its configuration.
async fn proxy(endpoint: &Recorder, change: impl FnOnce(ProxySetup) -> ProxySetup) -> Proxy {
    let setup = ProxySetup::new("m").pool(STABLE, 1, &[endpoint.address()]);
    let programs = Binaries::built().unwrap();
    change(setup).start(programs).await.unwrap()
}

/// What a client is answered whose connection ends with the answer, in lower case.
async fn answer(proxy: &Proxy, request: &str) -> String {
    let raw = raw_exchange(proxy.data(), &[request.as_bytes()]).await;
    String::from_utf8_lossy(&raw.unwrap().bytes).to_lowercase()
}

fn post(version: &str, lines: &str) -> String {
    format!("POST {INFER} HTTP/{version}\r\nhost: a\r\n{lines}content-length: 2\r\n\r\n{{}}")
}

/// Reads until this has come.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    let mut bytes = [0; 4096];
    while !text.contains(end) {
        let read = stream.read(&mut bytes).await.unwrap();
        assert_ne!(read, 0, "it closed after {text:?}");
        text.push_str(&String::from_utf8_lossy(&bytes[..read]).to_lowercase());
    }
    text
}

#[tokio::test]
async fn a_connection_is_kept_for_as_long_as_the_configuration_says_and_no_client_can_change_that()
{
    let endpoint = Recorder::start().await.unwrap();
    let proxy = proxy(&endpoint, |setup| {
        setup.set("limits.keepalive_timeout_ms", 1_000)
    })
    .await;
    for lines in ["", "connection: keep-alive\r\nkeep-alive: timeout=3600\r\n"] {
        let request = format!("GET /v2/health/live HTTP/1.1\r\nhost: a\r\n{lines}\r\n");
        // Returns when the proxy has closed, and fails when it does not.
        let answered = answer(&proxy, &request).await;
        assert!(answered.starts_with("http/1.1 200"), "{answered}");
    }
}

#[tokio::test]
async fn a_connection_to_an_endpoint_is_kept_for_as_long_as_the_configuration_says() {
    let endpoint = Recorder::start().await.unwrap();
    let proxy = proxy(&endpoint, |setup| {
        setup.set("upstream.idle_timeout_ms", 500)
    })
    .await;
    for _ in 0..2 {
        let answered = answer(&proxy, &post("1.1", "connection: close\r\n")).await;
        assert!(answered.starts_with("http/1.1 200"), "{answered}");
    }
    until("the one connection to be closed", async || {
        let closed: Vec<bool> = endpoint.heard().iter().map(|heard| heard.last).collect();
        ensure!(closed == [false, true], "{closed:?}");
        Ok(())
    })
    .await
    .unwrap();
    let answered = answer(&proxy, &post("1.1", "connection: close\r\n")).await;
    assert!(answered.starts_with("http/1.1 200"), "{answered}");
}

#[tokio::test]
async fn an_answer_of_no_known_length_that_stalls_does_not_seem_whole() {
    let endless = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\npart";
    let endpoint = Recorder::answering(endless, false).await.unwrap();
    let proxy = proxy(&endpoint, |setup| setup.set_model("timeouts.idle_ms", 200)).await;
    let answered = answer(&proxy, &post("1.1", "connection: close\r\n")).await;
    assert!(answered.starts_with("http/1.1 200"), "{answered}");
    assert!(answered.contains("part"), "{answered}");
    assert!(
        !answered.contains("\r\n0\r\n"),
        "it ends like a whole one: {answered}"
    );
    until("it to be counted as cut short", async || {
        let metrics = proxy.metrics().await?;
        let cut = metrics.count("aegis_proxy_requests_total", &[("code", "502")])?;
        ensure!(cut == 1, "{cut} are");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_client_that_reads_slowly_is_not_held_against_the_endpoint() {
    const LENGTH: usize = 48 << 20;
    let mut long = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n").into_bytes();
    long.resize(long.len() + LENGTH, b'x');
    let endpoint = Recorder::answering(long.leak(), false).await.unwrap();
    let proxy = proxy(&endpoint, |setup| setup.set_model("timeouts.idle_ms", 200)).await;
    let mut stream = TcpStream::connect(proxy.data()).await.unwrap();
    let request = post("1.1", "connection: close\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut first = [0; 1];
    stream.peek(&mut first).await.unwrap();
    // Several times as long as an endpoint may be silent.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let mut answered = Vec::new();
    stream.read_to_end(&mut answered).await.unwrap();
    let body = answered.iter().rev().take_while(|byte| **byte == b'x');
    assert_eq!(body.count(), LENGTH);
}

#[tokio::test]
async fn a_client_that_was_told_to_go_on_keeps_its_connection() {
    let endpoint = Recorder::start().await.unwrap();
    let proxy = proxy(&endpoint, |setup| setup).await;
    let mut stream = TcpStream::connect(proxy.data()).await.unwrap();
    let head = format!(
        "POST {INFER} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
    );
    for _ in 0..2 {
        stream.write_all(head.as_bytes()).await.unwrap();
        read_until(&mut stream, "100 continue\r\n").await;
        stream.write_all(b"{}").await.unwrap();
        let answered = read_until(&mut stream, "{}").await;
        assert!(answered.contains("http/1.1 200"), "{answered}");
        assert!(!answered.contains("connection: close"), "{answered}");
    }
    assert_eq!(endpoint.heard().len(), 2);
}

#[tokio::test]
async fn a_switch_of_protocols_that_nobody_asked_for_is_a_failure_of_the_endpoint() {
    let switch =
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let endpoint = Recorder::answering(switch, false).await.unwrap();
    let proxy = proxy(&endpoint, |setup| setup).await;
    for lines in [
        "connection: close\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\n",
    ] {
        let answered = answer(&proxy, &post("1.1", lines)).await;
        assert!(answered.starts_with("http/1.1 502"), "{answered}");
        assert!(
            answered.contains("x-aegis-reason: upstream_error"),
            "{answered}"
        );
    }
    for heard in endpoint.heard() {
        assert!(
            !heard.text().to_lowercase().contains("upgrade"),
            "{}",
            heard.text()
        );
    }
}

#[tokio::test]
async fn only_a_websocket_of_http_1_1_without_a_body_is_an_upgrade() {
    let endpoint = Recorder::start().await.unwrap();
    let proxy = proxy(&endpoint, |setup| setup).await;
    let path = "/v2/models/m/generate_stream";
    for (version, lines, status) in [
        ("1.1", "upgrade: h2c\r\n", 405),
        (
            "1.1",
            "upgrade: websocket\r\ntransfer-encoding: chunked\r\n",
            405,
        ),
        ("1.1", "upgrade: websocket\r\ncontent-length: 9\r\n", 405),
        ("1.0", "upgrade: websocket\r\n", 400),
    ] {
        let connection = if version == "1.0" {
            ""
        } else {
            "connection: close, upgrade\r\n"
        };
        let request = format!("GET {path} HTTP/{version}\r\nhost: a\r\n{connection}{lines}\r\n");
        let answered = answer(&proxy, &request).await;
        let expected = format!(" {status} ");
        let line = answered.lines().next().unwrap_or_default();
        assert!(line.contains(&expected), "{lines}: {answered}");
    }
    assert!(endpoint.heard().is_empty());
}

#[tokio::test]
async fn an_old_client_gets_an_answer_of_no_known_length_until_the_connection_ends() {
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let until_closed = b"HTTP/1.1 200 OK\r\n\r\nhello";
    for (from, closes) in [(&chunked[..], false), (&until_closed[..], true)] {
        let endpoint = Recorder::answering(from, closes).await.unwrap();
        let proxy = proxy(&endpoint, |setup| setup).await;
        for lines in ["", "connection: keep-alive\r\n"] {
            let answered = answer(&proxy, &post("1.0", lines)).await;
            assert!(!answered.contains("transfer-encoding"), "{answered}");
            assert!(answered.contains("connection: close"), "{answered}");
            assert!(answered.ends_with("\r\n\r\nhello"), "{answered}");
        }
    }
}

#[tokio::test]
async fn what_is_of_the_endpoints_connection_stays_there() {
    let from =
        b"HTTP/1.1 200 Fine\r\nset-cookie: a=1\r\nset-cookie: b=2\r\nconnection: X-Secret\r\n\
        x-secret: s\r\nkeep-alive: timeout=5\r\nproxy-connection: keep-alive\r\ntrailer: x\r\n\
        upgrade: h2c\r\ncontent-length: 2\r\n\r\n{}";
    let endpoint = Recorder::answering(from, false).await.unwrap();
    let proxy = proxy(&endpoint, |setup| setup).await;
    let answered = answer(&proxy, &post("1.1", "connection: close\r\n")).await;
    assert!(answered.starts_with("http/1.1 200 fine\r\n"), "{answered}");
    for name in [
        "secret",
        "keep-alive",
        "proxy-connection",
        "trailer",
        "upgrade",
    ] {
        assert!(!answered.contains(name), "{name}: {answered}");
    }
    assert!(answered.contains("set-cookie: a=1\r\n"), "{answered}");
    assert!(answered.contains("set-cookie: b=2\r\n"), "{answered}");
}

#[tokio::test]
async fn what_an_endpoint_says_beforehand_is_not_for_clients() {
    let from =
        b"HTTP/1.1 103 Early Hints\r\nendpoint-load-metrics: x\r\nx-aegis-route: pinned\r\n\r\n\
        HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    let endpoint = Recorder::answering(from, false).await.unwrap();
    let proxy = proxy(&endpoint, |setup| setup).await;
    for version in ["1.1", "1.0"] {
        let answered = answer(&proxy, &post(version, "connection: close\r\n")).await;
        assert!(answered.starts_with("http/1.1 200"), "{answered}");
        assert!(
            !answered.contains("hints") && !answered.contains("load"),
            "{answered}"
        );
    }
}

#[tokio::test]
async fn a_client_cannot_take_its_requests_name_away() {
    let endpoint = Recorder::start().await.unwrap();
    let proxy = proxy(&endpoint, |setup| setup).await;
    let lines = "connection: close, x-request-id\r\nx-request-id: mine\r\n";
    answer(&proxy, &post("1.1", lines)).await;
    let heard = until("the request", async || {
        let heard = endpoint.heard();
        ensure!(heard.len() == 1, "{heard:?}");
        Ok(heard[0].text().to_lowercase())
    });
    let heard = heard.await.unwrap();
    assert!(heard.contains("x-request-id: mine\r\n"), "{heard}");
}

/// Answers in two pieces, the second of them when it is told to.
async fn hesitate(mut stream: TcpStream, go_on: Arc<Notify>) {
    let mut bytes = [0; 4096];
    while let Ok(1..) = stream.read(&mut bytes).await {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab";
        stream.write_all(head).await.unwrap();
        if !bytes.starts_with(b"GET ") {
            go_on.notified().await;
        }
        stream.write_all(b"cd").await.unwrap();
    }
}

#[tokio::test]
async fn the_beginning_of_a_slow_answer_does_not_wait_for_its_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let setup = ProxySetup::new("m").pool(STABLE, 1, &[listener.local_addr().unwrap()]);
    let go_on = Arc::new(Notify::new());
    let told = Arc::clone(&go_on);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(hesitate(stream, Arc::clone(&told)));
        }
    });
    let proxy = setup.start(Binaries::built().unwrap()).await.unwrap();
    let mut stream = TcpStream::connect(proxy.data()).await.unwrap();
    for _ in 0..2 {
        stream.write_all(post("1.1", "").as_bytes()).await.unwrap();
        read_until(&mut stream, "\r\n\r\nab").await;
        go_on.notify_one();
        assert_eq!(read_until(&mut stream, "cd").await, "cd");
    }
}
