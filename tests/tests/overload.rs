//! More requests than the endpoints may hold: they wait in the order of their
//! deadlines, and those for whom there is no place are told at once.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::sync::Arc;

use aegis_e2e::{Answer, Hammer, Play, STABLE, Scene, SceneSetup, until};
use aegis_protocol::headers;
use anyhow::{Result, ensure};
use http::header;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

type Asked = JoinHandle<Result<Answer>>;

/// One endpoint that may hold one request, and a queue of so many places.
async fn scene(max_queued: i64) -> Arc<Scene> {
    let setup = SceneSetup::new(1, 0).await.unwrap();
    let setup = setup.with(|proxy| {
        proxy
            .set_model("balance.max_in_flight", 1)
            .set_model("admission.max_queued", max_queued)
            .set_model("timeouts.request_ms", 60_000)
            // What holds the endpoint is meant to hang.
            .set_model("breaker.enforce", false)
    });
    Arc::new(setup.start().await.unwrap())
}

fn ask(scene: &Arc<Scene>, body: &'static str, patience: Option<&'static str>) -> Asked {
    let scene = Arc::clone(scene);
    tokio::spawn(async move {
        let more = patience.map(|ms| (headers::REQUEST_TIMEOUT_MS, ms));
        scene.proxy.infer_with(body, more.as_slice()).await
    })
}

/// Takes the endpoint's only slot, until the task is aborted.
async fn hold(scene: &Arc<Scene>) -> Asked {
    let asked = scene.stable[0].asked();
    scene.stable[0].play_once(Play::Hang);
    let holder = ask(scene, "{}", None);
    until("the endpoint to be held", async || {
        ensure!(scene.stable[0].asked() > asked);
        Ok(())
    })
    .await
    .unwrap();
    holder
}

async fn until_queued(scene: &Scene, expected: f64) {
    until("the queue to be so long", async || {
        let metrics = scene.proxy.metrics().await?;
        let queued = metrics.value("aegis_proxy_queued", &[("model", "m")]);
        ensure!(queued == Some(expected), "{queued:?} wait, not {expected}");
        Ok(())
    })
    .await
    .unwrap();
}

async fn rejected(scene: &Scene, reason: &str) -> u64 {
    let metrics = scene.proxy.metrics().await.unwrap();
    let labels = [("reason", reason)];
    metrics
        .count("aegis_proxy_rejected_total", &labels)
        .unwrap()
}

fn is_turned_away(answer: &Answer, reason: &str) {
    assert_eq!(answer.status.as_u16(), 429, "{answer:?}");
    assert_eq!(answer.reason(), reason);
    assert_eq!(answer.header(&header::RETRY_AFTER), "1");
    assert!(
        answer
            .error()
            .unwrap()
            .contains("as many requests as it may")
    );
}

#[tokio::test]
async fn those_who_wait_are_answered_in_the_order_of_their_deadlines() {
    let scene = scene(16).await;
    let holder = hold(&scene).await;
    let mut waiting = Vec::new();
    let patience = [
        ("a", "50000"),
        ("b", "30000"),
        ("c", "40000"),
        ("d", "20000"),
    ];
    for (i, (name, ms)) in (1_u8..).zip(patience) {
        waiting.push(ask(&scene, name, Some(ms)));
        until_queued(&scene, f64::from(i)).await;
    }
    let status = scene
        .proxy
        .ask_admin("/status")
        .await
        .unwrap()
        .json()
        .unwrap();
    let model = &status["models"]["m"];
    assert_eq!(
        (&model["queued"], &model["max_queued"]),
        (&4.into(), &16.into())
    );

    let _ = scene.stable[0].take_seen();
    holder.abort();
    for answer in waiting {
        let answer = answer.await.unwrap().unwrap();
        assert_eq!((answer.status.as_u16(), answer.version()), (200, STABLE));
    }
    let seen = scene.stable[0].take_seen();
    let order: Vec<_> = seen.iter().map(|seen| seen.body.as_ref()).collect();
    assert_eq!(order, [b"d", b"b", b"c", b"a"]);
    until_queued(&scene, 0.0).await;
    let metrics = scene.proxy.metrics().await.unwrap();
    assert_eq!(
        metrics
            .count("aegis_proxy_queue_seconds_count", &[])
            .unwrap(),
        4
    );
    let all_rejected = metrics.count("aegis_proxy_rejected_total", &[]).unwrap();
    assert_eq!(all_rejected, 0);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_says_when_to_come_back() {
    let scene = scene(1).await;
    let holder = hold(&scene).await;
    let waiting = ask(&scene, "{}", None);
    until_queued(&scene, 1.0).await;
    let refused = scene.proxy.infer("{}").await.unwrap();
    is_turned_away(&refused, "queue_full");
    assert_eq!(rejected(&scene, "queue_full").await, 1);
    assert!(!waiting.is_finished(), "it still waits");
    holder.abort();
    assert_eq!(waiting.await.unwrap().unwrap().status.as_u16(), 200);
}

#[tokio::test]
async fn a_queue_of_no_places_refuses_as_soon_as_the_endpoints_are_full() {
    let scene = scene(0).await;
    let holder = hold(&scene).await;
    is_turned_away(&scene.proxy.infer("{}").await.unwrap(), "queue_full");
    holder.abort();
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_place() {
    let scene = scene(1).await;
    let holder = hold(&scene).await;
    let gone = ask(&scene, "gone", None);
    until_queued(&scene, 1.0).await;
    gone.abort();
    until_queued(&scene, 0.0).await;
    let stays = ask(&scene, "stays", None);
    until_queued(&scene, 1.0).await;
    let _ = scene.stable[0].take_seen();
    holder.abort();
    assert_eq!(stays.await.unwrap().unwrap().status.as_u16(), 200);
    let seen = scene.stable[0].take_seen();
    let bodies: Vec<_> = seen.iter().map(|seen| seen.body.as_ref()).collect();
    assert_eq!(bodies, [b"stays"], "who has left is never sent");
}

#[tokio::test]
async fn a_deadline_that_passes_in_the_queue_is_told_when_it_does() {
    let scene = scene(16).await;
    let holder = hold(&scene).await;
    let late = ask(&scene, "{}", Some("150")).await.unwrap().unwrap();
    is_turned_away(&late, "deadline");
    let metrics = scene.proxy.metrics().await.unwrap();
    let waited = metrics.sum("aegis_proxy_queue_seconds_sum", &[]);
    assert!(waited > 0.1, "it was turned away after {waited} s of 0.15");
    assert_eq!(rejected(&scene, "deadline").await, 1);
    assert_eq!(scene.stable[0].asked(), 1, "it was never sent");
    holder.abort();
}

#[tokio::test]
async fn a_refused_clients_connection_stays_and_so_does_what_it_sent_ahead() {
    let scene = scene(1).await;
    let holder = hold(&scene).await;
    let path = scene.proxy.infer_path();
    let one = format!("POST {path} HTTP/1.1\r\nhost: m\r\ncontent-length: 2\r\n\r\n{{}}");
    let last = one.replace("host: m", "host: m\r\nconnection: close");
    let mut client = TcpStream::connect(scene.proxy.data()).await.unwrap();
    client.write_all(one.as_bytes()).await.unwrap();
    until_queued(&scene, 1.0).await;
    // While it waits; and the beginning of a third, which comes in pieces.
    client.write_all(one.as_bytes()).await.unwrap();
    client.write_all(&last.as_bytes()[..7]).await.unwrap();
    is_turned_away(&scene.proxy.infer("{}").await.unwrap(), "queue_full");
    holder.abort();
    client.write_all(&last.as_bytes()[7..]).await.unwrap();
    let mut answers = String::new();
    client.read_to_string(&mut answers).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "{answers}");
}

#[tokio::test]
async fn a_crowd_is_served_one_by_one_and_nobody_is_forgotten() {
    let scene = scene(64).await;
    let load = Hammer::start(scene.proxy.data(), &scene.proxy.infer_path(), "{}", 24);
    load.ask(600).await.unwrap();
    let tally = load.stop().await;
    tally.all_ok().unwrap();
    until_queued(&scene, 0.0).await;
    let metrics = scene.proxy.metrics().await.unwrap();
    let waited = metrics
        .count("aegis_proxy_queue_seconds_count", &[])
        .unwrap();
    assert!(
        waited > tally.asked / 2,
        "{waited} of {} have waited",
        tally.asked
    );
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_one_to_end() {
    let setup = SceneSetup::new(1, 0).await.unwrap();
    let scene = setup
        .with(|proxy| proxy.set("limits.max_connections", 3))
        .start()
        .await
        .unwrap();
    let data = scene.proxy.data();
    let ask = async |stream: &mut TcpStream| {
        let head = "GET /v2/health/live HTTP/1.1\r\nhost: test\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
    };
    let is_ok = async |stream: &mut TcpStream| {
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
    };
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(data).await.unwrap();
        ask(&mut stream).await;
        is_ok(&mut stream).await;
        open.push(stream);
    }
    let mut fourth = TcpStream::connect(data).await.unwrap();
    ask(&mut fourth).await;
    // The kernel has it, and the proxy does not. Others are answered on their connections.
    for stream in &mut open {
        let mut rest = vec![0; 4096];
        let _ = stream.read(&mut rest).await.unwrap();
        ask(stream).await;
        is_ok(stream).await;
    }
    let metrics = scene.proxy.metrics().await.unwrap();
    assert_eq!(metrics.value("aegis_proxy_connections", &[]), Some(3.0));
    let nothing = fourth.try_read(&mut [0; 1]).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    open.pop();
    is_ok(&mut fourth).await;
}
