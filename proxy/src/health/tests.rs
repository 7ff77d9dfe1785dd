//! Against servers of this process, on ports that the kernel chose.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use aegis_protocol::Reason;
use parking_lot::Mutex;
use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use super::{
    Check, Checks, Down, Findings, HealthSink, JITTER, MAX_BODY_BYTES, Target, jittered, probe,
};
use crate::{
    config::{self, Config, Name},
    pools::Pools,
};

/// Answers every request with the same bytes, and remembers the requests.
struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Server {
    async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let (answer, seen) = (answer.into(), Arc::clone(&requests));
        let task = tokio::spawn(async move {
            loop {
                let (mut tcp, _) = listener.accept().await.unwrap();
                let mut head = vec![0; 4096];
                let length = tcp.read(&mut head).await.unwrap_or_default();
                let head = String::from_utf8_lossy(&head[..length]).into_owned();
                seen.lock().push(head);
                // A client that has heard enough may hang up first.
                let _ = tcp.write_all(&answer).await;
            }
        });
        Self {
            address,
            requests,
            task,
        }
    }

    async fn up() -> Self {
        Self::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await
    }

    fn count(&self) -> usize {
        self.requests.lock().len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn check(address: SocketAddr) -> Check {
    let asked = probe::ask(address, "/v2/models/digits/versions/2/ready").await;
    match asked {
        Ok(answer) => answer.verdict("digits", "2"),
        Err(down) => Check::Down(down),
    }
}

/// Remembers every check, by address.
#[derive(Default)]
struct Recorder(Mutex<HashMap<SocketAddr, Vec<Check>>>);

impl HealthSink for Recorder {
    fn checked(&self, target: &Target, check: &Check) {
        let mut checks = self.0.lock();
        checks
            .entry(target.address)
            .or_default()
            .push(check.clone());
    }
}

/// Waits until something holds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

fn config(endpoints: &[SocketAddr], timeout_ms: u64) -> Config {
    let endpoints: Vec<String> = endpoints.iter().map(|e| format!("\"{e}\"")).collect();
    let text = format!(
        "[models.digits.health_check]\ninterval_ms = 10\ntimeout_ms = {timeout_ms}\n\
         [models.digits.versions.2]\nweight = 1\nendpoints = [{}]\n",
        endpoints.join(",")
    );
    config::parse("a", &text).unwrap()
}

fn target(address: SocketAddr) -> Target {
    Target {
        model: Name::new("digits").unwrap(),
        version: Name::new("2").unwrap(),
        address,
    }
}

#[tokio::test]
async fn the_ready_path_of_the_version_is_asked_for() {
    let server = Server::up().await;
    assert_eq!(check(server.address).await, Check::Up);
    let head = server.requests.lock()[0].to_lowercase();
    assert!(
        head.starts_with("get /v2/models/digits/versions/2/ready http/1.1\r\n"),
        "{head}"
    );
    assert!(
        head.contains(&format!("host: {}\r\n", server.address)),
        "{head}"
    );
    assert!(head.contains("connection: close\r\n"), "{head}");
}

#[tokio::test]
async fn refusals_are_read_with_their_reason() {
    let refusal = |reason: Reason| {
        format!("HTTP/1.1 503 Unavailable\r\nx-aegis-reason: {reason}\r\ncontent-length: 0\r\n\r\n")
    };
    let server = Server::answering(refusal(Reason::Draining)).await;
    assert_eq!(check(server.address).await, Check::Draining);
    let server = Server::answering(refusal(Reason::NotReady)).await;
    let down = Down::Status {
        status: 503,
        reason: Some(Reason::NotReady),
    };
    assert_eq!(check(server.address).await, Check::Down(down));
}

#[tokio::test]
async fn an_answer_without_a_length_is_read_to_its_end() {
    let server = Server::answering("HTTP/1.1 200 OK\r\n\r\n{\"loaded\": false}").await;
    assert_eq!(check(server.address).await, Check::Down(Down::NotLoaded));
}

#[tokio::test]
async fn what_does_not_speak_http_or_hangs_up_is_down() {
    for answer in [
        "garbage\r\n\r\n",
        "",
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx",
    ] {
        let server = Server::answering(answer).await;
        let found = check(server.address).await;
        assert!(
            matches!(found, Check::Down(Down::Broken(_))),
            "{answer:?}: {found:?}"
        );
    }
}

#[tokio::test]
async fn nobody_there_is_down() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let found = check(address).await;
    assert!(matches!(found, Check::Down(Down::Connect(_))), "{found:?}");
}

#[tokio::test]
async fn a_long_answer_is_read_to_the_limit_and_no_further() {
    for (length, expected) in [
        (MAX_BODY_BYTES, Check::Up),
        (MAX_BODY_BYTES + 1, Check::Down(Down::TooLong)),
    ] {
        let mut answer =
            format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + length, b' ');
        let server = Server::answering(answer).await;
        assert_eq!(check(server.address).await, expected, "{length}");
    }
    // Headers without end.
    let mut answer = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
    answer.resize(4 * MAX_BODY_BYTES, b'x');
    let server = Server::answering(answer).await;
    let found = check(server.address).await;
    assert!(matches!(found, Check::Down(Down::Broken(_))), "{found:?}");
}

#[tokio::test]
async fn a_silent_endpoint_is_down_after_the_timeout() {
    // Bound and never accepted from: the kernel connects, and nobody answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sink = Arc::new(Recorder::default());
    let checks = start(sink.clone(), &config(&[address], 20));
    until("the check times out", || {
        let timeout = Check::Down(Down::Timeout {
            after: Duration::from_millis(20),
        });
        sink.0
            .lock()
            .get(&address)
            .is_some_and(|checks| checks[0] == timeout)
    })
    .await;
    let finding = checks.findings().of(&target(address));
    assert_eq!(finding.as_deref(), Some("no answer within 20 ms"));
}

fn start(sink: Arc<Recorder>, config: &Config) -> Checks {
    Checks::start_with_seed(sink, config, &Pools::listed(config), 1)
}

fn follow(checks: &mut Checks, config: &Config) {
    checks.follow(config, &Pools::listed(config));
}

#[tokio::test]
async fn checks_follow_the_configuration_and_leave_what_stays_alone() {
    let (stays, goes, comes) = (Server::up().await, Server::up().await, Server::up().await);
    let sink = Arc::new(Recorder::default());
    let both = config(&[stays.address, goes.address], 500);
    let mut checks = start(sink.clone(), &both);
    until("both are checked", || {
        stays.count() >= 2 && goes.count() >= 2
    })
    .await;
    let task = checks.tasks[&target(stays.address)].handle.id();

    follow(&mut checks, &config(&[stays.address, comes.address], 500));
    assert_eq!(
        checks.tasks[&target(stays.address)].handle.id(),
        task,
        "was restarted"
    );
    until("the new one is checked", || comes.count() >= 2).await;
    // Its last check may still have been under way when it went.
    let (at_most, others) = (goes.count() + 1, stays.count());
    until("the others go on", || stays.count() >= others + 5).await;
    assert!(goes.count() <= at_most, "what went is still checked");

    follow(&mut checks, &config(&[stays.address], 400));
    let restarted = checks.tasks[&target(stays.address)].handle.id();
    assert_ne!(restarted, task, "new settings take a new task");
    drop(checks);
    assert!(
        sink.0.lock()[&stays.address]
            .iter()
            .all(|check| *check == Check::Up)
    );
}

#[tokio::test]
async fn findings_are_kept_for_what_is_down_and_leave_with_it() {
    let server = Server::answering("HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n").await;
    let sink = Arc::new(Recorder::default());
    let mut checks = start(sink, &config(&[server.address], 500));
    let findings = checks.findings();
    let target = target(server.address);
    until("it is found down", || findings.of(&target).is_some()).await;
    assert_eq!(findings.of(&target).as_deref(), Some("answered 500"));

    let other = Server::up().await;
    follow(&mut checks, &config(&[other.address], 500));
    assert_eq!(findings.of(&target), None);
}

#[test]
fn findings_of_what_passes_are_forgotten() {
    let findings = Findings::default();
    let target = target("10.0.0.1:1".parse().unwrap());
    findings.note(&target, &Check::Down(Down::NotLoaded));
    assert!(findings.of(&target).is_some());
    findings.note(&target, &Check::Up);
    assert_eq!(findings.of(&target), None);
}

#[test]
fn intervals_stray_by_a_tenth_and_repeat_from_their_seed() {
    let interval = Duration::from_secs(1);
    let draw = |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        (0..1000)
            .map(|_| jittered(interval, &mut rng))
            .collect::<Vec<_>>()
    };
    let drawn = draw(7);
    assert_eq!(drawn, draw(7));
    assert_ne!(drawn, draw(8));
    let (least, most) = (drawn.iter().min().unwrap(), drawn.iter().max().unwrap());
    assert!(*least >= interval.mul_f64(1.0 - JITTER) && *least < interval.mul_f64(0.95));
    assert!(*most <= interval.mul_f64(1.0 + JITTER) && *most > interval.mul_f64(1.05));
}
