use std::io::{Read, Write};
use std::net::TcpStream as StdStream;
use std::path::Path;

use super::*;
use crate::config::Config;

const REQUEST: &[u8] = b"GET /v2 HTTP/1.1\r\nhost: test\r\n\r\n";

fn app(keys: &str) -> Arc<App> {
    let text = format!("{keys}\n[models.m]\nversions = [\"1\"]");
    App::open(&Config::parse("b.toml", &text, Path::new("nowhere")).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_the_kernel_completed_are_answered_after_the_listener_closed() {
    let app = app("");
    let server = Server::bind("127.0.0.1:0".parse().unwrap(), Arc::clone(&app))
        .await
        .unwrap();
    let address = server.address().unwrap();
    // Nobody accepts yet: these wait in the kernel's queue.
    let mut clients: Vec<_> = (0..5)
        .map(|_| StdStream::connect(address).unwrap())
        .collect();
    let Server {
        listener, permits, ..
    } = server;
    app.enter(Phase::Closing);
    take_waiting(listener, &app, &permits).await;
    assert!(
        StdStream::connect(address).is_err(),
        "the listener is closed"
    );
    for client in &mut clients {
        client.write_all(REQUEST).unwrap();
    }
    for mut client in clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    all_closed(&app, &permits).await;
    assert_eq!(app.metrics.connections.get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_over_the_limit_are_answered_too_when_the_server_stops() {
    let app = app("max_connections = 2");
    let server = Server::bind("127.0.0.1:0".parse().unwrap(), Arc::clone(&app))
        .await
        .unwrap();
    let address = server.address().unwrap();
    let mut clients: Vec<_> = (0..7)
        .map(|_| StdStream::connect(address).unwrap())
        .collect();
    for client in &mut clients {
        client.write_all(REQUEST).unwrap();
    }
    let (stop, stops) = mpsc::channel(1);
    stop.send(()).await.unwrap();
    let times = DrainTimes {
        delay: Duration::ZERO,
        grace: Duration::from_secs(30),
    };
    let ended = tokio::spawn(server.run(times, stops));
    for mut client in clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert_eq!(ended.await.unwrap(), Drained::Idle);
}
