//! The way out: nothing that was accepted is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aegis_backend::app::Phase;
use aegis_backend::clock;
use aegis_backend::server::Drained;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Backend, Client, ECHO, LONG, echo_body, infer, until};

fn slow() -> String {
    format!("{ECHO}\nbatch_ms = 200")
}

async fn end(backend: Backend) -> Drained {
    tokio::time::timeout(LONG, backend.ended)
        .await
        .expect("it ends")
        .unwrap()
}

#[tokio::test]
async fn while_leaving_it_is_not_ready_and_still_serves() {
    let keys = "drain_delay_ms = 10000";
    let backend = Backend::ready_with_drain(keys, &[("echo", ECHO)]).await;
    let mut kept = Client::connect(backend.address).await;
    assert_eq!(
        kept.send(infer("echo", echo_body(&[1.0])))
            .await
            .header("connection"),
        None
    );
    backend.stop.send(()).await.unwrap();
    until(|| async { backend.app.phase() == Phase::Leaving }).await;
    for path in ["/health", "/v2/health/ready", "/v2/models/echo/ready"] {
        let reply = backend.get(path).await;
        assert_eq!(reply.status, 503, "{path}");
        assert_eq!(reply.header("x-aegis-reason"), Some("draining"), "{path}");
        assert_eq!(reply.header("retry-after"), Some("1"), "{path}");
    }
    let health = backend.get("/health").await.json();
    assert_eq!(
        (&health["draining"], &health["loaded"]),
        (&true.into(), &true.into())
    );
    assert_eq!(backend.get("/v2/health/live").await.status, 200);
    let reply = kept.send(infer("echo", echo_body(&[1.0]))).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("connection"), Some("close"));
    // A second stop does not wait for the delay.
    backend.stop.send(()).await.unwrap();
    assert_eq!(end(backend).await, Drained::Interrupted);
}

#[tokio::test]
async fn a_request_that_runs_is_answered_and_then_it_ends_at_once() {
    let model = slow();
    let backend = Backend::ready(&[("m", &model)]).await;
    let in_flight = "aegis_inference_in_flight{model=\"m\",model_version=\"1\"}";
    let address = backend.address;
    let asked = tokio::spawn(async move {
        Client::connect(address)
            .await
            .send(infer("m", echo_body(&[5.0])))
            .await
    });
    until(|| async { backend.metric(in_flight).await > 0.5 }).await;
    backend.stop.send(()).await.unwrap();
    let reply = asked.await.unwrap();
    assert_eq!(reply.output(0), [5.0, 5.0]);
    assert_eq!(reply.header("connection"), Some("close"));
    assert_eq!(end(backend).await, Drained::Idle);
    assert!(
        TcpStream::connect(address).await.is_err(),
        "the port is closed"
    );
}

#[tokio::test]
async fn idle_connections_do_not_hold_it_up() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let mut kept = Client::connect(backend.address).await;
    kept.send(infer("echo", echo_body(&[1.0]))).await;
    let _silent = TcpStream::connect(backend.address).await.unwrap();
    backend.stop.send(()).await.unwrap();
    assert_eq!(end(backend).await, Drained::Idle);
}

#[tokio::test]
async fn the_first_request_of_a_connection_that_was_accepted_is_answered() {
    let model = slow();
    let backend = Backend::ready(&[("m", &model)]).await;
    // One keeps the server closing while the other, which said nothing yet, asks.
    let address = backend.address;
    let asked = tokio::spawn(async move {
        Client::connect(address)
            .await
            .send(infer("m", echo_body(&[1.0])))
            .await
    });
    let mut fresh = TcpStream::connect(address).await.unwrap();
    let in_flight = "aegis_inference_in_flight{model=\"m\",model_version=\"1\"}";
    until(|| async { backend.metric(in_flight).await > 0.5 }).await;
    backend.stop.send(()).await.unwrap();
    until(|| async { backend.app.phase() == Phase::Closing }).await;
    fresh
        .write_all(b"GET /v2 HTTP/1.1\r\nhost: test\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    fresh.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(asked.await.unwrap().status, 200);
    assert_eq!(end(backend).await, Drained::Idle);
}

#[tokio::test]
async fn the_grace_bounds_what_never_ends() {
    let model = format!("{ECHO}\nhang_every = 1");
    let keys = "drain_delay_ms = 0\ngrace_ms = 100";
    let backend = Backend::ready_with_drain(keys, &[("m", &model)]).await;
    let address = backend.address;
    let asked = tokio::spawn(async move {
        Client::connect(address)
            .await
            .try_send(infer("m", echo_body(&[1.0])))
            .await
            .is_ok()
    });
    let in_flight = "aegis_inference_in_flight{model=\"m\",model_version=\"1\"}";
    until(|| async { backend.metric(in_flight).await > 0.5 }).await;
    backend.stop.send(()).await.unwrap();
    assert_eq!(end(backend).await, Drained::GraceOver);
    asked.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_every_request_on_an_accepted_connection_is_answered() {
    let keys = "drain_delay_ms = 300";
    let backend = Backend::ready_with_drain(keys, &[("echo", ECHO)]).await;
    let stopped = Arc::new(AtomicBool::new(false));
    let answers = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..8)
        .map(|client| {
            tokio::spawn(hammer(
                backend.address,
                client,
                Arc::clone(&stopped),
                Arc::clone(&answers),
            ))
        })
        .collect();
    until(|| async { answers.load(Ordering::Relaxed) > 200 }).await;
    stopped.store(true, Ordering::SeqCst);
    backend.stop.send(()).await.unwrap();
    assert_eq!(end(backend).await, Drained::Idle);
    for client in clients {
        client.await.unwrap();
    }
}

/// Asks as fast as it can, half of the clients on kept connections, until none is accepted.
async fn hammer(
    address: std::net::SocketAddr,
    client: u32,
    stopped: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
) {
    let keeps = client.is_multiple_of(2);
    while let Ok(stream) = TcpStream::connect(address).await {
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut send, connection) = hyper::client::conn::http1::handshake(io)
            .await
            .expect("a handshake is local");
        tokio::spawn(connection);
        loop {
            let mut request = infer("echo", echo_body(&[f64::from(client)]));
            request
                .headers_mut()
                .insert("host", "test".parse().unwrap());
            if send.ready().await.is_err() {
                break;
            }
            let response = send.send_request(request).await;
            let response = response.unwrap_or_else(|error| {
                panic!(
                    "lost (stopping: {}): {error}",
                    stopped.load(Ordering::SeqCst)
                )
            });
            assert_eq!(response.status(), 200);
            answers.fetch_add(1, Ordering::Relaxed);
            let closes = response.headers().contains_key("connection");
            http_body_util::BodyExt::collect(response.into_body())
                .await
                .unwrap();
            if closes || !keeps {
                break;
            }
        }
    }
    assert!(
        stopped.load(Ordering::SeqCst),
        "refused before it was told to stop"
    );
}

#[tokio::test]
async fn models_that_hang_are_given_up_together_and_not_one_after_the_other() {
    let hung = format!("{ECHO}\nhang_every = 1");
    let names: Vec<_> = (0..10).map(|at| format!("m{at}")).collect();
    let models: Vec<_> = names.iter().map(|name| (&**name, &*hung)).collect();
    let backend = Backend::ready(&models).await;
    let address = backend.address;
    for name in &names {
        let request = infer(name, echo_body(&[1.0]));
        tokio::spawn(async move { Client::connect(address).await.try_send(request).await });
        let in_flight =
            format!("aegis_inference_in_flight{{model=\"{name}\",model_version=\"1\"}}");
        until(|| async { backend.metric(&in_flight).await > 0.5 }).await;
    }
    let begin = clock::now();
    let patience = Duration::from_millis(300);
    let app = Arc::clone(&backend.app);
    let stopping = tokio::task::spawn_blocking(move || app.models.stop(begin + patience));
    assert!(!stopping.await.unwrap());
    let took = clock::now().duration_since(begin);
    assert!(took >= patience && took < patience * 10, "{took:?}");
}
