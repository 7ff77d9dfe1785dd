//! Answers that come in pieces pass piece by piece, and connections that become something else.

use std::time::Duration;

use aegis_e2e::{Play, Scene};
use aegis_protocol::{headers, path};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn an_event_arrives_before_the_server_makes_the_next() {
    for http2 in [false, true] {
        let scene = Scene::start(1, 0).await.unwrap();
        scene.stable[0].play(Play::Events(3));
        let mut builder = Client::builder(TokioExecutor::new());
        let client = builder.http2_only(http2).build(HttpConnector::new());
        let path = path::generate("m", None, true);
        let request = Request::post(format!("http://{}{path}", scene.proxy.data()));
        let request = request.body(Full::new(Bytes::from_static(b"{}"))).unwrap();
        let answer = client.request(request).await.unwrap();
        assert_eq!(answer.headers()[headers::MODEL_VERSION], "1");
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/event-stream");
        let mut events = answer.into_body();
        for event in 1..=3 {
            scene.stable[0].allow_event();
            let frame = events.frame().await.unwrap().unwrap();
            let data = frame.into_data().unwrap();
            assert_eq!(data, format!("data: {event}\n\n"), "http2: {http2}");
        }
        let rest = events.collect().await.unwrap().to_bytes();
        assert!(rest.is_empty(), "{rest:?}");
        let seen = scene.stable[0].take_seen();
        assert_eq!(seen[0].path, path::generate("m", Some("1"), true));
    }
}

#[tokio::test]
async fn a_websocket_passes_both_ways_to_the_version_that_was_chosen() {
    let scene = Scene::start(1, 0).await.unwrap();
    // pingora ends an upgraded connection when the endpoint agrees before pingora has looked for
    // the request's end once, which takes it microseconds, or a time slice of a busy machine.
    scene.stable[0].play(Play::AnswerAfter(Duration::from_millis(100)));
    let mut socket = TcpStream::connect(scene.proxy.data()).await.unwrap();
    let request = "GET /v2/models/m/generate_stream HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\n\
                   upgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(head.contains("x-aegis-model-version: 1"), "{head}");
    for said in ["one", "and two"] {
        socket.write_all(said.as_bytes()).await.unwrap();
        let mut echo = vec![0; said.len()];
        socket.read_exact(&mut echo).await.unwrap();
        assert_eq!(echo, said.as_bytes());
    }
    let seen = scene.stable[0].take_seen();
    assert_eq!(seen[0].path, path::generate("m", Some("1"), true));
    drop(socket);
    // The connection is given up.
    scene.proxy.metrics_when(0).await.unwrap();
}

#[tokio::test]
async fn models_are_not_loaded_through_the_proxy() {
    let scene = Scene::start(1, 0).await.unwrap();
    let path = "/v2/repository/models/m/unload";
    let client = aegis_e2e::Client::new();
    let answer = client.post(scene.proxy.data(), path, "{}").await.unwrap();
    assert_eq!(answer.status.as_u16(), 404);
    assert!(answer.error().unwrap().contains("backends"), "{answer:?}");
    assert_eq!(scene.stable[0].asked(), 0);
}
