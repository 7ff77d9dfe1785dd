//! Through a real socket: what an operator's tools would see.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::Duration,
};

use aegis_config::Rejected;
use aegis_policy::{BreakerState, Health, TripReason, status as policy};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::{
    config::{self, Config},
    pools::Pools,
    reload::{Applied, Apply, Reloader, Timing},
    status::{BreakerWord, DnsStatus, HealthWord, KubernetesStatus, ModelStatus},
};

/// Longer than any test that goes well.
const PATIENCE: Duration = Duration::from_secs(20);

const CONFIG: &str = r#"
[models.digits]
fallback = ["1"]
[models.digits.versions.1]
weight = 90
endpoints = ["10.0.0.1:1"]
[models.digits.versions.2]
weight = 10
endpoints = ["10.0.0.3:1"]
"#;

/// A state that tests set.
struct Source {
    running: Mutex<Running>,
    /// Whoever looks at it all waits for this.
    held: Mutex<Option<mpsc::Receiver<()>>>,
    looks: AtomicU32,
}

impl StatusSource for Source {
    fn running(&self) -> Running {
        if let Some(held) = &*self.held.lock() {
            // The test lets go of it.
            let _ = held.recv_timeout(PATIENCE);
        }
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.running.lock().clone()
    }

    fn serves_all(&self) -> bool {
        self.running.lock().shortcomings().is_empty()
    }
}

/// One endpoint that can be drained.
struct One;

impl Controls for One {
    fn set_drained(&self, model: &str, version: &str, endpoint: SocketAddr, _: bool) -> bool {
        (model, version, endpoint.to_string().as_str()) == ("digits", "1", "10.0.0.1:1")
    }
}

struct Applier(Config);

impl Apply for Applier {
    fn apply(&mut self, origin: &str, text: &str) -> Result<Applied, Rejected> {
        let config = config::reload(origin, text, &self.0)?;
        let changes = config.diff(&self.0);
        self.0 = config;
        Ok(Applied {
            generation: 2,
            changes,
        })
    }
}

struct Rig {
    address: SocketAddr,
    source: Arc<Source>,
    folder: TempDir,
    _watched: TempDir,
}

impl Rig {
    async fn new() -> Self {
        // Behind a link into another folder, which the watcher does not hear:
        // only the admin port causes reloads here.
        let (folder, watched) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let real = folder.path().join("real.toml");
        fs::write(&real, CONFIG).unwrap();
        let path = watched.path().join("proxy.toml");
        symlink(&real, &path).unwrap();
        let config = config::parse("proxy.toml", CONFIG).unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        metrics.reconcile(&config, &Pools::listed(&config), 1);
        let timing = Timing {
            poll: Duration::from_hours(1),
            ..Timing::default()
        };
        let applier = Applier(config);
        let mut reloader =
            Reloader::new(&path, CONFIG.into(), timing, applier, Arc::clone(&metrics)).unwrap();
        let reloads = reloader.handle();
        tokio::spawn(async move { reloader.run().await });
        let source = Arc::new(Source {
            running: Mutex::new(running()),
            held: Mutex::default(),
            looks: AtomicU32::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let findings = Findings::default();
        tokio::spawn(serve(
            listener,
            Admin {
                source: source.clone(),
                controls: Arc::new(One),
                metrics,
                reloads,
                findings,
            },
        ));
        Self {
            address,
            source,
            folder,
            _watched: watched,
        }
    }

    fn write(&self, text: &str) {
        fs::write(self.folder.path().join("real.toml"), text).unwrap();
    }

    /// The status, the head and the body of an answer.
    async fn ask(&self, method: &str, path: &str) -> (u16, String, String) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        let mut tcp = TcpStream::connect(self.address).await.unwrap();
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), body.to_owned())
    }

    async fn json<T: DeserializeOwned>(&self, method: &str, path: &str, expected: u16) -> T {
        let (status, head, body) = self.ask(method, path).await;
        assert_eq!(status, expected, "{body}");
        assert!(head.contains("content-type: application/json"), "{head}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
    }
}

/// Version 1 serves; version 2's only endpoint has tripped.
fn running() -> Running {
    let endpoint = |address: &str| policy::EndpointStatus {
        health: Health::Ready,
        in_flight: 1,
        attempts: 9,
        failures: 5,
        ..policy::EndpointStatus::new(address.parse().unwrap())
    };
    let tripped = policy::EndpointStatus {
        breaker: BreakerState::Open,
        tripped_by: Some(TripReason::ConsecutiveFailures { failures: 5 }),
        open_for: Some(Duration::from_millis(2500)),
        ..endpoint("10.0.0.3:1")
    };
    let version = |name: &str, weight, share, available, endpoint| policy::VersionStatus {
        name: name.into(),
        weight,
        share,
        available,
        endpoints: vec![endpoint],
    };
    let versions = [
        version("1", 90.0, 0.9, 1.0, endpoint("10.0.0.1:1")),
        version("2", 10.0, 0.1, 0.0, tripped),
    ];
    let model = ModelStatus {
        static_answer: true,
        queued: 3,
        max_queued: 7,
        ready: true,
        fallback: vec!["1".into()],
        shadow: None,
        versions: versions
            .iter()
            .map(|version| (version.name.to_string(), version.into()))
            .collect(),
    };
    Running {
        generation: 1,
        draining: false,
        ready: true,
        models: [("digits".to_owned(), model)].into(),
        dns: DnsStatus::default(),
        kubernetes: KubernetesStatus::default(),
    }
}

#[tokio::test]
async fn alive_and_ready() {
    let rig = Rig::new().await;
    let live: serde_json::Value = rig.json("GET", "/livez", 200).await;
    assert_eq!(live["live"], true);
    let readiness: Readiness = rig.json("GET", "/readyz", 200).await;
    assert!(readiness.ready && readiness.reasons.is_empty());
}

/// With thousands of endpoints, it takes a while to look at all of them.
#[tokio::test]
async fn whoever_asks_for_the_whole_state_holds_up_nobody_else() {
    let rig = Rig::new().await;
    let (held, waits) = mpsc::channel();
    *rig.source.held.lock() = Some(waits);
    let mut slow = Vec::new();
    for path in ["/status", "/metrics"] {
        let mut tcp = TcpStream::connect(rig.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        tcp.write_all(request.as_bytes()).await.unwrap();
        slow.push(tcp);
    }
    // There is one thread for tasks here.
    let readiness: Readiness = rig.json("GET", "/readyz", 200).await;
    assert!(readiness.ready && readiness.reasons.is_empty());
    assert_eq!(rig.source.looks.load(Ordering::Relaxed), 0);
    drop(held);
    for mut tcp in slow {
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[tokio::test]
async fn not_ready_says_why() {
    let rig = Rig::new().await;
    {
        let mut running = rig.source.running.lock();
        running.draining = true;
        running.ready = false;
        let model = running.models.get_mut("digits").unwrap();
        model.ready = false;
        model.versions.get_mut("1").unwrap().endpoints[0].health = HealthWord::NotReady;
    }
    let readiness: Readiness = rig.json("GET", "/readyz", 503).await;
    assert!(!readiness.ready);
    assert_eq!(
        readiness.reasons,
        [
            "draining",
            "model digits cannot be answered (version 1: 0 of 1 endpoints, version 2: 0 of 1 endpoints)",
        ]
    );
    let _: serde_json::Value = rig.json("GET", "/livez", 200).await;
}

#[tokio::test]
async fn what_is_ready_names_what_cannot_be_answered_all_the_same() {
    let rig = Rig::new().await;
    let model = running().models["digits"].clone();
    let ill = ModelStatus {
        ready: false,
        ..model
    };
    let mut running = running();
    running.models.insert("another".to_owned(), ill);
    *rig.source.running.lock() = running;
    let readiness: Readiness = rig.json("GET", "/readyz", 200).await;
    assert!(readiness.ready);
    let [reason] = &readiness.reasons[..] else {
        panic!("{readiness:?}");
    };
    assert!(
        reason.starts_with("model another cannot be answered ("),
        "{reason}"
    );
}

#[tokio::test]
async fn status_says_which_rule_tripped_with_its_figures_and_until_when() {
    let rig = Rig::new().await;
    let status: Status = rig.json("GET", "/status", 200).await;
    assert_eq!(status.running.generation, 1);
    assert!(status.config.origin.ends_with("proxy.toml"));
    assert_eq!(status.config.last_reload, None);
    let versions = &status.running.models["digits"].versions;
    assert!((versions["1"].share_percent - 90.0).abs() < 1e-9);
    let tripped = &versions["2"].endpoints[0];
    assert_eq!(tripped.breaker, BreakerWord::Open);
    let trip = tripped.tripped_by.as_ref().unwrap();
    assert_eq!(trip.rule, "consecutive_failures");
    assert_eq!(trip.detail, "5 failures in a row");
    assert_eq!(tripped.open_for_seconds, Some(2.5));
    assert_eq!(
        (tripped.in_flight, tripped.requests, tripped.failures),
        (1, 9, 5)
    );
}

#[tokio::test]
async fn metrics_show_the_state_at_the_moment_of_asking() {
    let rig = Rig::new().await;
    let (status, head, text) = rig.ask("GET", "/metrics").await;
    assert_eq!(status, 200);
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    let open =
        "aegis_proxy_breaker_state{endpoint=\"10.0.0.3:1\",model=\"digits\",model_version=\"2\"}";
    assert!(text.contains(&format!("{open} 2\n")), "{text}");
    assert!(
        text.contains(
            "aegis_proxy_version_available_ratio{model=\"digits\",model_version=\"1\"} 1\n"
        )
    );

    let closed = policy::VersionStatus {
        name: "2".into(),
        weight: 10.0,
        share: 0.1,
        available: 1.0,
        endpoints: vec![policy::EndpointStatus {
            health: Health::Ready,
            ..policy::EndpointStatus::new("10.0.0.3:1".parse().unwrap())
        }],
    };
    let mut running = running();
    let model = running.models.get_mut("digits").unwrap();
    model.versions.insert("2".into(), (&closed).into());
    *rig.source.running.lock() = running;
    let (_, _, text) = rig.ask("GET", "/metrics").await;
    assert!(text.contains(&format!("{open} 0\n")), "{text}");
}

#[tokio::test]
async fn a_reload_is_answered_with_what_it_did() {
    let rig = Rig::new().await;
    let report: Report = rig.json("POST", "/reload", 200).await;
    assert_eq!(report.result, ReloadResult::Unchanged);

    rig.write(&CONFIG.replace("weight = 10", "weight = 30"));
    let report: Report = rig.json("POST", "/reload", 200).await;
    assert_eq!(report.generation, Some(2));
    assert_eq!(report.changes.len(), 2, "{report:?}");

    rig.write(&CONFIG.replace("weight = 10", "weight = -1\nwat = 1"));
    let refused: Refused = rig.json("POST", "/reload", 422).await;
    assert!(refused.error.contains("refused"));
    let faults = &refused.report.faults;
    assert_eq!(faults.len(), 2, "{refused:?}");
    assert_eq!(faults[0].path, "models.digits.versions.2.weight");
    assert_eq!(faults[0].line, Some(8));

    let status: Status = rig.json("GET", "/status", 200).await;
    let last = status.config.last_reload.unwrap();
    assert_eq!(last.faults, refused.report.faults);
}

#[tokio::test]
async fn wrong_paths_and_methods_get_an_error_that_helps() {
    let rig = Rig::new().await;
    let error: ErrorBody = rig.json("GET", "/nope", 404).await;
    assert!(error.error.contains("GET /status"), "{}", error.error);
    for (method, path, allowed) in [
        ("POST", "/status", "allow: get"),
        ("GET", "/reload", "allow: post"),
        ("DELETE", "/livez", "allow: get"),
    ] {
        let (status, head, body) = rig.ask(method, path).await;
        assert_eq!(status, 405, "{method} {path}: {body}");
        assert!(head.contains(allowed), "{head}");
        let error: ErrorBody = serde_json::from_str(&body).unwrap();
        assert!(error.error.contains(method), "{}", error.error);
    }
}

#[tokio::test]
async fn what_is_not_http_does_no_harm() {
    let rig = Rig::new().await;
    let mut tcp = TcpStream::connect(rig.address).await.unwrap();
    let mut garbage = b"GET / HTTP/1.1\r\nx: ".to_vec();
    garbage.resize(200_000, b'x');
    // The server may hang up while this is being written.
    let _ = tcp.write_all(&garbage).await;
    let mut answer = Vec::new();
    let _ = tcp.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    let _: serde_json::Value = rig.json("GET", "/livez", 200).await;
}
