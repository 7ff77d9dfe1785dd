//! Clients that mean no good: what they send is refused, counted, and never forwarded.
//!
//! Everything goes over bare sockets, and behind the proxy stands an endpoint that writes down
//! every byte it is sent.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use aegis_e2e::{
    Answer, Binaries, Heard, Proxy, ProxySetup, RawAnswer, Recorder, STABLE, raw_exchange, until,
};
use aegis_protocol::Reason;
use anyhow::{Context, Result, ensure};
use http::{StatusCode, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MODEL: &str = "m";
const INFER: &str = "/v2/models/m/infer";
const REJECTED: &str = "aegis_proxy_rejected_total";

/// A proxy before an endpoint that writes everything down.
struct Edge {
    recorder: Recorder,
    proxy: Proxy,
}

impl Edge {
    async fn start() -> Self {
        Self::with(|setup| setup).await
    }

    async fn with(change: impl FnOnce(ProxySetup) -> ProxySetup) -> Self {
        let recorder = Recorder::start().await.unwrap();
        let setup = ProxySetup::new(MODEL).pool(STABLE, 1, &[recorder.address()]);
        let proxy = change(setup).start(Binaries::built().unwrap()).await;
        Self {
            recorder,
            proxy: proxy.unwrap(),
        }
    }

    async fn send(&self, bytes: &[u8]) -> Result<RawAnswer> {
        raw_exchange(self.proxy.data(), &[bytes]).await
    }

    async fn rejected(&self, reason: Reason) -> u64 {
        let metrics = self.proxy.metrics().await.unwrap();
        metrics
            .count(REJECTED, &[("reason", reason.name())])
            .unwrap()
    }

    /// Sends bytes that must be refused for this reason, counted once, and answered in our shape.
    async fn refuses(&self, bytes: &[u8], reason: Reason) -> Result<Answer> {
        let before = self.rejected(reason).await;
        let answer = self.send(bytes).await?.answer()?;
        refused_for(&answer, reason)?;
        let counted = self.rejected(reason).await - before;
        ensure!(counted == 1, "counted {counted} times");
        Ok(answer)
    }

    /// Sends all of them, and says which were not refused as they should be.
    async fn not_refused(&self, cases: &[(&'static str, Vec<u8>, Reason)]) -> String {
        let mut wrong = Vec::new();
        for (what, bytes, reason) in cases {
            if let Err(error) = self.refuses(bytes, *reason).await.context(*what) {
                wrong.push(format!("{error:#}"));
            }
        }
        wrong.join("\n")
    }

    /// Waits for what the endpoint hears of a request that was broken off.
    async fn cut(&self) -> Heard {
        let cut = until("the endpoint to see the request end", async || {
            let heard = self.recorder.heard();
            let last = heard.last().context("it has heard nothing")?;
            ensure!(last.cut || last.whole, "it waits: {:?}", last.text());
            Ok(last.clone())
        });
        cut.await.unwrap()
    }
}

fn refused_for(answer: &Answer, reason: Reason) -> Result<()> {
    ensure!(
        answer.status == reason.status() && answer.reason() == reason.name(),
        "{} for `{}`, expected {} for `{reason}`: {}",
        answer.status,
        answer.reason(),
        reason.status(),
        answer.text()
    );
    ensure!(!answer.error()?.is_empty(), "no error in the body");
    Ok(())
}

/// A request with these lines after its first one; the last of them ends it.
fn post(lines: &str) -> Vec<u8> {
    format!("POST {INFER} HTTP/1.1\r\n{lines}").into_bytes()
}

/// A request that is good but for this field, and for which the connection ends.
fn field(field: &str) -> Vec<u8> {
    post(&format!("host: a\r\nconnection: close\r\n{field}\r\n\r\n"))
}

fn lines_that_are_no_request() -> Vec<(&'static str, Vec<u8>, Reason)> {
    use Reason::{BadRequest, HttpVersion, MethodNotAllowed};
    let tls = [
        0x16, 0x03, 0x01, 0x00, 0x05, 0x01, 0x00, 0x00, 0x01, 0x03, b'\r', b'\n', b'\r', b'\n',
    ];
    vec![
        ("a TLS handshake", tls.to_vec(), BadRequest),
        ("HTTP/0.9", b"GET /v2\r\n\r\n".to_vec(), BadRequest),
        (
            "HTTP/1.2",
            b"GET /v2 HTTP/1.2\r\nhost: a\r\n\r\n".to_vec(),
            HttpVersion,
        ),
        (
            "another protocol",
            b"GET /v2 RTSP/1.0\r\nhost: a\r\n\r\n".to_vec(),
            BadRequest,
        ),
        (
            "a tunnel",
            b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n".to_vec(),
            MethodNotAllowed,
        ),
        (
            "a user before the host",
            b"GET http://u@a/v2 HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
            BadRequest,
        ),
        ("no host", post("content-length: 0\r\n\r\n"), BadRequest),
        (
            "a host in the target alone",
            b"GET http://a/v2 HTTP/1.1\r\nconnection: close\r\n\r\n".to_vec(),
            BadRequest,
        ),
        (
            "a target that is no URI",
            b"GET /v2?a={\"x\":1} HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
            BadRequest,
        ),
        ("two hosts", field("host: b"), BadRequest),
    ]
}

fn fields_that_are_none() -> Vec<(&'static str, Vec<u8>, Reason)> {
    let bad = |what, bytes| (what, bytes, Reason::BadRequest);
    vec![
        bad("a NUL", field("x: a\0b")),
        bad("a carriage return alone", field("x: a\rb")),
        bad("a folded line", field("x: a\r\n b")),
        bad("a space before the colon", field("content-length : 5")),
        bad("no colon", field("content-length")),
        bad("no name", field(": 5")),
        bad("a line feed alone", field("x: a\ncontent-length: 5")),
        bad(
            "a head of line feeds",
            format!("GET {INFER} HTTP/1.1\nhost: a\n\n").into_bytes(),
        ),
    ]
}

fn lengths_that_lie() -> Vec<(&'static str, Vec<u8>, Reason)> {
    let bad = |what, field_text| (what, field(field_text), Reason::BadRequest);
    let unknown = |what, field_text| (what, field(field_text), Reason::NotImplemented);
    vec![
        bad("a signed length", "content-length: +5"),
        bad("a negative length", "content-length: -5"),
        bad("a length in hex", "content-length: 0x5"),
        bad("no length", "content-length:"),
        bad("a length list", "content-length: 5, 5"),
        bad("equal lengths", "content-length: 5\r\ncontent-length: 5"),
        bad("unequal lengths", "content-length: 5\r\ncontent-length: 6"),
        bad(
            "a length past 64 bits",
            "content-length: 99999999999999999999",
        ),
        bad(
            "length, then chunks",
            "content-length: 5\r\ntransfer-encoding: chunked",
        ),
        bad(
            "chunks, then length",
            "transfer-encoding: chunked\r\nContent-Length: 5",
        ),
        bad("chunked twice", "transfer-encoding: chunked, chunked"),
        bad(
            "chunked on two lines",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        ),
        bad("a coding without an end", "transfer-encoding: gzip"),
        bad("a coding that looks like it", "transfer-encoding: xchunked"),
        unknown("an unknown coding", "transfer-encoding: gzip, chunked"),
        (
            "chunks in HTTP/1.0",
            format!(
                "POST {INFER} HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
            )
            .into_bytes(),
            Reason::BadRequest,
        ),
    ]
}

fn what_is_too_much() -> Vec<(&'static str, Vec<u8>, Reason)> {
    use Reason::{BadRequest, ExpectationFailed, HeaderTooLarge, UriTooLong};
    let long = |bytes: usize| format!("x: {}", "a".repeat(bytes));
    let mut line = format!("GET {INFER}?").into_bytes();
    line.resize(3 * 1024 * 1024, b'a');
    vec![
        ("a field of 33 KiB", field(&long(33 * 1024)), HeaderTooLarge),
        ("a field of 2 MiB", field(&long(2 << 20)), HeaderTooLarge),
        (
            "300 fields",
            field(&["a: b"; 300].join("\r\n")),
            HeaderTooLarge,
        ),
        ("a target of 3 MB", line, UriTooLong),
        ("an expectation", field("expect: 200-ok"), ExpectationFailed),
        (
            "a connection that owns the length",
            field("connection: content-length\r\ncontent-length: 5"),
            BadRequest,
        ),
        (
            "a connection that owns the host",
            field("connection: close, Host"),
            BadRequest,
        ),
    ]
}

#[tokio::test]
async fn what_is_no_request_is_refused_counted_and_not_forwarded() {
    let edge = Edge::start().await;
    let groups = [
        lines_that_are_no_request(),
        fields_that_are_none(),
        lengths_that_lie(),
        what_is_too_much(),
    ];
    for group in groups {
        assert_eq!(edge.not_refused(&group).await, "");
    }
    let heard = edge.recorder.heard();
    assert!(heard.is_empty(), "forwarded: {heard:?}");
    // And who means well is still served.
    let good = edge.proxy.infer("{}").await.unwrap();
    assert_eq!(good.status, StatusCode::OK);
}

#[tokio::test]
async fn names_are_never_more_than_names() {
    let edge = Edge::start().await;
    let long = "n".repeat(300);
    let names = [
        "..",
        "%2e%2e",
        ".",
        "m%2f..%2fm",
        "m%0d%0ax-evil:%201",
        "m%00",
        "%ff%fe",
        "m%",
        "m%zz",
        "m\u{e9}",
        "",
        "n",
        &long,
    ];
    for name in names {
        let request = format!(
            "POST /v2/models/{name}/infer HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
             content-length: 0\r\n\r\n"
        );
        let refused = edge.refuses(request.as_bytes(), Reason::UnknownModel).await;
        let answer = refused.with_context(|| format!("{name:?}")).unwrap();
        assert!(
            !answer.headers.contains_key("x-evil"),
            "{name:?}: {answer:?}"
        );
        assert!(answer.text().len() < 600, "{name:?}: {answer:?}");
    }
    for version in ["..", "1/../1", "1%0d%0a", "\u{ff}", "-1"] {
        let request = field(&format!("x-aegis-model-version: {version}"));
        let refused = edge.refuses(&request, Reason::UnknownVersion).await;
        refused.with_context(|| format!("{version:?}")).unwrap();
    }
    assert!(edge.recorder.heard().is_empty());
}

#[tokio::test]
async fn absurd_timeouts_are_refused_and_long_ones_are_cut_to_ours() {
    let edge = Edge::start().await;
    for timeout in ["0", "-1", "+5", "1e9", "soon", "", "18446744073709551616"] {
        let request = field(&format!("x-request-timeout-ms: {timeout}"));
        let refused = edge.refuses(&request, Reason::BadRequest).await;
        refused.with_context(|| format!("{timeout:?}")).unwrap();
    }
    assert!(edge.recorder.heard().is_empty());
    let request = field("x-request-timeout-ms: 18446744073709551615");
    let answer = edge.send(&request).await.unwrap().answer().unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let heard = edge.recorder.heard();
    let text = heard[0].text();
    let passed_on = text.split("x-request-timeout-ms: ").nth(1);
    let passed_on: u64 = passed_on
        .and_then(|rest| rest.split("\r\n").next()?.parse().ok())
        .unwrap();
    assert!((1..=1_500).contains(&passed_on), "{passed_on}");
}

/// Sends a byte of a head now and then, until the proxy has had enough of it.
async fn trickle(mut stream: TcpStream, pace: Duration) -> Result<RawAnswer> {
    let (mut from, mut to) = stream.split();
    let mut ticks = tokio::time::interval(pace);
    let sending = async {
        to.write_all(b"GET /v2 HTTP/1.1\r\nhost: a\r\nx: ").await?;
        loop {
            ticks.tick().await;
            to.write_all(b"a").await?;
        }
    };
    let mut bytes = Vec::new();
    tokio::select! {
        read = from.read_to_end(&mut bytes) => { read?; }
        failed = sending => {
            let never: Result<std::convert::Infallible, std::io::Error> = failed;
            return Err(never.unwrap_err().into());
        }
    }
    Ok(RawAnswer {
        bytes: bytes.into(),
    })
}

#[tokio::test]
async fn heads_that_trickle_in_are_given_up_and_hold_up_nobody() {
    const LORISES: u64 = 50;
    let edge = Edge::with(|setup| setup.set("limits.header_timeout_ms", 400)).await;
    let mut lorises = tokio::task::JoinSet::new();
    for _ in 0..LORISES {
        let stream = TcpStream::connect(edge.proxy.data()).await.unwrap();
        lorises.spawn(trickle(stream, Duration::from_millis(50)));
    }
    let good = edge.proxy.infer("{}").await.unwrap();
    assert_eq!(good.status, StatusCode::OK);
    while let Some(told) = lorises.join_next().await {
        let answer = told.unwrap().unwrap().answer().unwrap();
        refused_for(&answer, Reason::RequestTimeout).unwrap();
    }
    assert_eq!(edge.rejected(Reason::RequestTimeout).await, LORISES);

    // A connection that has been good once gets no more time than the others.
    let mut stream = TcpStream::connect(edge.proxy.data()).await.unwrap();
    let good = b"GET /v2/health/live HTTP/1.1\r\nhost: a\r\n\r\n";
    stream.write_all(good).await.unwrap();
    let mut first = [0; 1024];
    let read = stream.read(&mut first).await.unwrap();
    assert!(first[..read].starts_with(b"HTTP/1.1 200"));
    let told = trickle(stream, Duration::from_millis(50)).await.unwrap();
    // What was left of the first answer comes before it.
    let text = String::from_utf8_lossy(&told.bytes).into_owned();
    assert!(text.contains("HTTP/1.1 408 "), "{text}");
    assert_eq!(edge.rejected(Reason::RequestTimeout).await, LORISES + 1);
    assert_eq!(edge.recorder.heard().len(), 1, "the good one alone");
}

#[tokio::test]
async fn clients_that_leave_in_the_middle_of_a_head_leave_nothing_behind() {
    let edge = Edge::start().await;
    for part in [&b"G"[..], b"GET /v2 HT", b"GET /v2 HTTP/1.1\r\nhost: a\r\n"] {
        let mut stream = TcpStream::connect(edge.proxy.data()).await.unwrap();
        stream.write_all(part).await.unwrap();
    }
    until("their connections to be gone", async || {
        let metrics = edge.proxy.metrics().await?;
        let open = metrics.value("aegis_proxy_connections", &[]);
        ensure!(open == Some(0.0), "{open:?} are open");
        Ok(())
    })
    .await
    .unwrap();
    assert!(edge.recorder.heard().is_empty());
}

#[tokio::test]
async fn what_follows_a_refused_head_is_not_taken_for_a_request() {
    let edge = Edge::start().await;
    let smuggled = format!("POST {INFER} HTTP/1.1\r\nhost: b\r\ncontent-length: 0\r\n\r\n");
    for lie in [
        "content-length: 4\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked, chunked",
        "transfer-encoding: gzip, chunked",
        "content-length: 5, 5",
        "x: y\nz: a",
    ] {
        let request = post(&format!("host: a\r\n{lie}\r\n\r\n0\r\n\r\n{smuggled}"));
        let raw = edge.send(&request).await.unwrap();
        let answer = raw.answer().with_context(|| lie.to_owned()).unwrap();
        assert!(answer.status.is_client_error() || answer.status.is_server_error());
        assert_eq!(answer.header(&header::CONNECTION), "close", "{lie:?}");
    }
    // A body that is longer than it says is no body from there on.
    let request = post("host: a\r\ncontent-length: 2\r\n\r\n{}GARBAGE\r\n\r\n");
    let answers = edge.send(&request).await.unwrap().answers().unwrap();
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert_eq!(answers[0].status, StatusCode::OK);
    refused_for(&answers[1], Reason::BadRequest).unwrap();
    let heard = edge.recorder.heard();
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(!heard[0].text().contains("GARBAGE"));
}

#[tokio::test]
async fn a_head_that_comes_along_with_the_one_before_has_the_same_limit() {
    let edge = Edge::start().await;
    let first = format!("POST {INFER} HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{{}}");
    let second = field(&format!("x: {}", "a".repeat(40 * 1024)));
    let both = [first.as_bytes(), &second].concat();
    let answers = edge.send(&both).await.unwrap().answers().unwrap();
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert_eq!(answers[0].status, StatusCode::OK);
    refused_for(&answers[1], Reason::HeaderTooLarge).unwrap();
    assert_eq!(edge.recorder.heard().len(), 1);
}

#[tokio::test]
async fn a_body_that_is_shorter_than_it_says_is_not_forwarded_as_a_whole() {
    for (replay_limit, forwarded) in [(8_388_608, false), (0, true)] {
        let edge = Edge::with(|setup| {
            let setup = setup.set("limits.upload_timeout_ms", 60_000);
            setup.set_model("retry.replay_limit_bytes", replay_limit)
        });
        let edge = edge.await;
        let mut stream = TcpStream::connect(edge.proxy.data()).await.unwrap();
        let request = post("host: a\r\ncontent-length: 100000\r\n\r\n{\"a");
        stream.write_all(&request).await.unwrap();
        if forwarded {
            until("the endpoint to hear of it", async || {
                ensure!(!edge.recorder.heard().is_empty());
                Ok(())
            })
            .await
            .unwrap();
        }
        drop(stream);
        until("the connection to be gone", async || {
            let metrics = edge.proxy.metrics().await?;
            ensure!(metrics.value("aegis_proxy_connections", &[]) == Some(0.0));
            Ok(())
        })
        .await
        .unwrap();
        if forwarded {
            let heard = edge.cut().await;
            assert!(!heard.whole, "{}", heard.text());
        } else {
            assert!(edge.recorder.heard().is_empty());
        }
    }
}

#[tokio::test]
async fn a_chunk_that_is_none_ends_the_request_upstream_without_its_end() {
    for (what, chunks) in [
        ("no number", "4\r\n{\"a\"\r\nxyz\r\n"),
        ("no end of a chunk", "4\r\n{\"a\"XX4\r\n"),
        ("a negative size", "4\r\n{\"a\"\r\n-1\r\n"),
        ("an overflow", "4\r\n{\"a\"\r\nfffffffffffffffff\r\n"),
        ("a sign", "4\r\n{\"a\"\r\n+0\r\n\r\n"),
    ] {
        let edge = Edge::start().await;
        let request = post(&format!(
            "host: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}"
        ));
        let before = edge.rejected(Reason::BadRequest).await;
        let raw = edge.send(&request).await.unwrap();
        let answer = raw.answer().context(what).unwrap();
        refused_for(&answer, Reason::BadRequest)
            .context(what)
            .unwrap();
        assert_eq!(
            edge.rejected(Reason::BadRequest).await,
            before + 1,
            "{what}"
        );
        // It may have been broken off before the endpoint heard of it.
        if !edge.recorder.heard().is_empty() {
            let heard = edge.cut().await;
            assert!(!heard.whole, "{what}: {}", heard.text());
        }
        // Nobody is blamed for it.
        let metrics = edge.proxy.metrics().await.unwrap();
        let opened = metrics.count("aegis_proxy_breaker_transitions_total", &[("to", "open")]);
        assert_eq!(opened.unwrap(), 0, "{what}");
    }
}

#[tokio::test]
async fn what_the_connection_names_is_not_passed_on_and_ours_is_always_there() {
    let edge = Edge::start().await;
    let request = post(
        "host: a\r\nconnection: close, x-aegis-attempt, x-private, x-request-timeout-ms\r\n\
         x-private: secret\r\nx-aegis-attempt: 7\r\nx-request-timeout-ms: 900\r\n\
         content-length: 2\r\n\r\n{}",
    );
    let answer = edge.send(&request).await.unwrap().answer().unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let text = edge.recorder.heard()[0].text().to_lowercase();
    assert!(!text.contains("secret"), "{text}");
    assert!(text.contains("x-aegis-attempt: 1\r\n"), "{text}");
    assert!(text.contains("x-request-timeout-ms: "), "{text}");
}

#[tokio::test]
async fn a_target_with_its_host_is_understood_and_goes_on_as_a_path() {
    let edge = Edge::start().await;
    let request = format!(
        "POST http://a.example{INFER} HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\
         content-length: 2\r\n\r\n{{}}"
    );
    let answer = edge
        .send(request.as_bytes())
        .await
        .unwrap()
        .answer()
        .unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let text = edge.recorder.heard()[0].text();
    assert!(
        text.starts_with("POST /v2/models/m/versions/1/infer HTTP/1.1\r\n"),
        "{text}"
    );
}
