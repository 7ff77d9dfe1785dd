//! Endpoints from Kubernetes: the pool follows the slices of a service, and survives an API server
//! that is away, ill, silent or forgetful.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "kubernetes/credentials.rs"]
mod credentials;
#[path = "kubernetes/outage.rs"]
mod outage;
#[path = "kubernetes/reload.rs"]
mod reload;

use std::net::SocketAddr;

use aegis_e2e::{
    Binaries, Cluster, Hammer, Mood, Play, PodState, Proxy, ProxySetup, STABLE, Upstream, until,
};
use anyhow::{Context, Result, ensure};
use http::StatusCode;
use serde_json::Value;
use tempfile::TempDir;
use toml_edit::InlineTable;

const MODEL: &str = "m";
const NAMESPACE: &str = "models";
const SERVICE: (&str, &str) = (NAMESPACE, "digits");
const KEY: &str = "models/digits";
/// Long enough that a machine that is busy makes no try fail: tests count them.
const API_TIMEOUT_MS: i64 = 3_000;

/// An API server, pods, and a proxy that is to bring them together.
struct Rig {
    cluster: Cluster,
    pods: Vec<Upstream>,
    port: u16,
    folder: TempDir,
}

impl Rig {
    /// Pods on one port of several loopback addresses, and a cluster that knows none of them.
    async fn new(count: u8) -> Self {
        let first = Upstream::start_at(([127, 0, 0, 2], 0).into(), MODEL, STABLE);
        let mut pods = vec![first.await.unwrap()];
        let port = pods[0].address().port();
        for last in 1..count {
            let at = SocketAddr::from(([127, 0, 0, 2 + last], port));
            pods.push(Upstream::start_at(at, MODEL, STABLE).await.unwrap());
        }
        Self {
            cluster: Cluster::start().await.unwrap(),
            pods,
            port,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Says that these are the pods of the service, in one slice.
    fn set(&self, pods: &[PodState]) {
        let port = ("http", self.port);
        self.cluster.set_slice(SERVICE, "digits-a", port, pods);
    }

    fn ready(&self, pods: impl IntoIterator<Item = usize>) -> Vec<PodState> {
        let pods = pods.into_iter();
        pods.map(|n| PodState::ready(self.pods[n].address()))
            .collect()
    }

    /// A proxy that asks the cluster at a test's pace; it has no version yet.
    fn setup(&self) -> ProxySetup {
        let kubeconfig = self.cluster.write_kubeconfig(self.folder.path(), NAMESPACE);
        let kubeconfig = kubeconfig.unwrap().display().to_string();
        ProxySetup::new(MODEL)
            .set("kubernetes.kubeconfig", kubeconfig)
            .set("kubernetes.api_timeout_ms", API_TIMEOUT_MS)
            .set("kubernetes.renew_after_ms", 1_000)
            .set("kubernetes.retry_base_ms", 20)
            .set("kubernetes.retry_max_ms", 100)
            .set_model("balance.slow_start_ms", 0)
            .set_model(&format!("versions.{STABLE}.weight"), 1)
    }

    async fn start(&self) -> Proxy {
        self.start_as(self.setup()).await
    }

    /// A proxy whose version is the service.
    async fn start_as(&self, setup: ProxySetup) -> Proxy {
        let key = format!("versions.{STABLE}.kubernetes");
        let setup = setup.set_model(&key, service("http"));
        setup
            .start_unsettled(Binaries::built().unwrap())
            .await
            .unwrap()
    }

    /// Waits until these are the endpoints, all of them ready.
    async fn until_pool_is(&self, proxy: &Proxy, pods: &[usize]) -> Vec<Value> {
        let addresses = pods.iter().map(|n| self.pods[*n].address().to_string());
        let mut expected: Vec<String> = addresses.collect();
        expected.sort();
        until(&format!("the pool to be {expected:?}"), async || {
            let endpoints = endpoints(proxy).await?;
            let ready = endpoints.iter().filter(|at| at["health"] == "ready");
            let mut names: Vec<&str> = ready.filter_map(|at| at["address"].as_str()).collect();
            names.sort_unstable();
            ensure!(
                names == expected && endpoints.len() == expected.len(),
                "{}",
                status(proxy).await?
            );
            Ok(endpoints)
        })
        .await
        .unwrap()
    }

    /// Asserts that requests go to pods other than this one.
    async fn assert_left_alone(&self, load: &Hammer, pod: usize) {
        // What was on its way to it has arrived.
        load.ask(20).await.unwrap();
        let asked = self.pods[pod].asked();
        load.ask(200).await.unwrap();
        assert_eq!(self.pods[pod].asked(), asked, "pod {pod} is left alone");
    }
}

fn service(port: &str) -> InlineTable {
    InlineTable::from_iter([
        ("service", SERVICE.1),
        ("namespace", SERVICE.0),
        ("port", port),
    ])
}

fn hammer(proxy: &Proxy) -> Hammer {
    Hammer::start(proxy.data(), &proxy.infer_path(), "{}", 4)
}

async fn status(proxy: &Proxy) -> Result<Value> {
    proxy.ask_admin("/status").await?.json()
}

/// The endpoints of the version, as the status tells them.
async fn endpoints(proxy: &Proxy) -> Result<Vec<Value>> {
    let status = status(proxy).await?;
    let endpoints = &status["models"][MODEL]["versions"][STABLE]["endpoints"];
    Ok(endpoints.as_array().cloned().unwrap_or_default())
}

/// What the status says of the service.
async fn of_service(proxy: &Proxy) -> Value {
    status(proxy).await.unwrap()["kubernetes"]["services"][KEY].clone()
}

async fn stale_seconds(proxy: &Proxy) -> f64 {
    let metrics = proxy.metrics().await.unwrap();
    let labels = [("service", KEY)];
    let stale = metrics.value("aegis_proxy_kubernetes_stale_seconds", &labels);
    stale.unwrap()
}

/// How often something was heard of the service.
async fn heard(proxy: &Proxy, result: &str) -> u64 {
    const WATCHES: &str = "aegis_proxy_kubernetes_watches_total";
    let metrics = proxy.metrics().await.unwrap();
    metrics.count(WATCHES, &[("result", result)]).unwrap()
}

/// Waits until so much more was heard of the service.
async fn until_heard(proxy: &Proxy, result: &str, more: u64) {
    let goal = more + heard(proxy, result).await;
    until(&format!("{result} to be heard {goal} times"), async || {
        let now = heard(proxy, result).await;
        ensure!(now >= goal, "{now} times");
        Ok(())
    })
    .await
    .unwrap();
}

async fn until_fresh(proxy: &Proxy) {
    until("the service to be watched again", async || {
        let service = of_service(proxy).await;
        ensure!(service["stale_for_seconds"].is_null(), "{service}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_come_and_go_and_no_request_fails() {
    let rig = Rig::new(4).await;
    rig.set(&rig.ready([0, 1]));
    let proxy = rig.start().await;
    rig.until_pool_is(&proxy, &[0, 1]).await;
    let generation = proxy.generation().await.unwrap();
    let load = hammer(&proxy);
    load.ask(100).await.unwrap();

    // A pod comes, and another in a slice of its own.
    rig.set(&rig.ready([0, 1, 2]));
    rig.until_pool_is(&proxy, &[0, 1, 2]).await;
    let port = ("http", rig.port);
    let fourth = rig.ready([3]);
    rig.cluster.set_slice(SERVICE, "digits-b", port, &fourth);
    rig.until_pool_is(&proxy, &[0, 1, 2, 3]).await;
    let asked = rig.pods[3].asked();
    load.ask(200).await.unwrap();
    assert!(rig.pods[3].asked() > asked, "the pod that came is used");

    // One is terminating and serves still; it is asked no more, and then it is gone.
    let leaving = PodState::leaving(rig.pods[0].address());
    let mut pods = rig.ready([1, 2]);
    pods.push(leaving);
    rig.set(&pods);
    rig.until_pool_is(&proxy, &[1, 2, 3]).await;
    rig.assert_left_alone(&load, 0).await;
    rig.set(&rig.ready([1, 2]));
    rig.cluster.remove_slice(NAMESPACE, "digits-b");
    rig.until_pool_is(&proxy, &[1, 2]).await;
    rig.assert_left_alone(&load, 3).await;

    // One is not ready for a while.
    let mut pods = rig.ready([1, 2]);
    pods[0].conditions = Some((false, false, false));
    rig.set(&pods);
    rig.until_pool_is(&proxy, &[2]).await;
    rig.set(&rig.ready([1, 2]));
    rig.until_pool_is(&proxy, &[1, 2]).await;
    load.ask(100).await.unwrap();
    load.stop().await.all_ok().unwrap();

    assert_eq!(proxy.generation().await.unwrap(), generation);
    assert_eq!(rig.cluster.asked().lists, 1, "the rest was told by watches");
    let metrics = proxy.metrics().await.unwrap();
    let address = rig.pods[0].address().to_string();
    let labels = [("endpoint", address.as_str())];
    let series = metrics.samples("aegis_proxy_breaker_state", &labels);
    assert_eq!(series.count(), 0, "its series went with it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_fails_in_every_way_and_comes_back_and_no_request_fails() {
    let rig = Rig::new(3).await;
    rig.set(&rig.ready([0, 1]));
    // Silence is to be found out soon, and nothing here counts tries.
    let hasty = rig.setup().set("kubernetes.api_timeout_ms", 300);
    let proxy = rig.start_as(hasty).await;
    rig.until_pool_is(&proxy, &[0, 1]).await;
    let load = hammer(&proxy);
    let (some, other) = (rig.ready([0, 1]), rig.ready([1, 2]));
    let ways = [
        (
            "failed",
            Some(Mood::Status(StatusCode::INTERNAL_SERVER_ERROR)),
        ),
        ("refused", Some(Mood::Status(StatusCode::FORBIDDEN))),
        ("refused", Some(Mood::Status(StatusCode::UNAUTHORIZED))),
        (
            "failed",
            Some(Mood::Status(StatusCode::SERVICE_UNAVAILABLE)),
        ),
        ("timeout", Some(Mood::Silent)),
        ("unreachable", None),
    ];
    for (turn, (result, mood)) in ways.into_iter().enumerate() {
        match mood {
            Some(mood) => {
                rig.cluster.set_mood(mood);
                rig.cluster.cut();
            }
            None => rig.cluster.stop().await,
        }
        until_heard(&proxy, result, 3).await;
        // It happens while nobody can tell.
        let (pods, pool) = if turn % 2 == 0 {
            (&other, [1, 2])
        } else {
            (&some, [0, 1])
        };
        rig.set(pods);
        load.ask(100).await.unwrap();
        assert_eq!(endpoints(&proxy).await.unwrap().len(), 2, "{result}");
        let service = of_service(&proxy).await;
        assert!(service["error"].is_string(), "{service}");
        let since = service["stale_for_seconds"].as_f64().unwrap();
        assert!(stale_seconds(&proxy).await >= since, "{result}");
        assert_eq!(proxy.ask_admin("/readyz").await.unwrap().status, 200);

        match mood {
            Some(_) => rig.cluster.set_mood(Mood::Well),
            None => rig.cluster.start_again().await.unwrap(),
        }
        rig.until_pool_is(&proxy, &pool).await;
        until_fresh(&proxy).await;
        assert!(stale_seconds(&proxy).await.abs() < 1e-9);
    }
    load.ask(100).await.unwrap();
    load.stop().await.all_ok().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_dies_in_silence_is_found_out() {
    let rig = Rig::new(2).await;
    rig.set(&rig.ready([0]));
    let proxy = rig.start().await;
    rig.until_pool_is(&proxy, &[0]).await;
    // The connection stays, and nothing comes over it.
    rig.cluster.set_mood(Mood::Silent);
    rig.set(&rig.ready([0, 1]));
    until_heard(&proxy, "silent", 1).await;
    assert!(stale_seconds(&proxy).await > 0.0);
    rig.cluster.set_mood(Mood::Well);
    rig.until_pool_is(&proxy, &[0, 1]).await;
    assert_eq!(rig.cluster.asked().lists, 1, "it went on where it was");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_from_the_last_bookmark() {
    let rig = Rig::new(1).await;
    rig.set(&rig.ready([0]));
    let proxy = rig.start().await;
    rig.until_pool_is(&proxy, &[0]).await;
    let first = until("the first watch", async || {
        let from = rig.cluster.asked().from;
        from.first().cloned().context("none yet")
    });
    let first = first.await.unwrap();
    // Things happen that are no concern of this service's, and are forgotten afterwards.
    let others = ("models", "others");
    rig.cluster.set_slice(others, "others", ("http", 1), &[]);
    until_heard(&proxy, "watched", 1).await;
    let told = heard(&proxy, "watched").await;
    rig.cluster.bookmark();
    until("the bookmark to be heard", async || {
        ensure!(heard(&proxy, "watched").await > told, "not yet");
        Ok(())
    })
    .await
    .unwrap();
    rig.cluster.cut();
    until("the watch to go on from the bookmark", async || {
        let from = rig.cluster.asked().from;
        let last = from.last().unwrap();
        ensure!(
            last.parse::<u64>()? >= first.parse::<u64>()? + 2,
            "{from:?}"
        );
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(rig.cluster.asked().lists, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_expired_is_listed_anew_and_what_stayed_keeps_its_breaker() {
    let rig = Rig::new(4).await;
    rig.set(&rig.ready([0, 1, 2]));
    let setup = rig
        .setup()
        .set_model("breaker.open_base_ms", 600_000)
        .set_model("breaker.open_max_ms", 600_000);
    let proxy = rig.start_as(setup).await;
    rig.until_pool_is(&proxy, &[0, 1, 2]).await;
    rig.pods[0].play(Play::HangUp);
    let load = hammer(&proxy);
    let ill = rig.pods[0].address().to_string();
    let breaker = async || {
        let endpoints = endpoints(&proxy).await?;
        let ill = endpoints.iter().find(|at| at["address"] == ill.as_str());
        let ill = ill.ok_or_else(|| anyhow::anyhow!("it is gone: {endpoints:?}"))?;
        anyhow::Ok((ill["breaker"].clone(), ill["requests"].as_u64()))
    };
    until("the breaker to open", async || {
        let (state, _) = breaker().await?;
        ensure!(state == "open", "{state}");
        Ok(())
    })
    .await
    .unwrap();
    load.ask(50).await.unwrap();
    let before = breaker().await.unwrap();

    // Another pod comes and one goes.
    rig.set(&rig.ready([0, 1, 2, 3]));
    rig.until_pool_is(&proxy, &[0, 1, 2, 3]).await;
    rig.set(&rig.ready([0, 1, 3]));
    rig.until_pool_is(&proxy, &[0, 1, 3]).await;
    assert_eq!(breaker().await.unwrap(), before, "after changes");

    // While nobody watches, one goes, and all that happened is forgotten.
    rig.cluster
        .set_mood(Mood::Status(StatusCode::SERVICE_UNAVAILABLE));
    rig.cluster.cut();
    until_heard(&proxy, "failed", 1).await;
    rig.set(&rig.ready([0, 3]));
    rig.cluster.compact();
    let lists = rig.cluster.asked().lists;
    rig.cluster.set_mood(Mood::Well);
    rig.until_pool_is(&proxy, &[0, 3]).await;
    assert!(rig.cluster.asked().lists > lists);
    assert_eq!(breaker().await.unwrap(), before, "after a list");

    // And a watch that stands is told that it has expired.
    let expired = heard(&proxy, "expired").await;
    rig.cluster.compact();
    until("the watch to expire", async || {
        ensure!(heard(&proxy, "expired").await > expired, "not yet");
        Ok(())
    })
    .await
    .unwrap();
    until_fresh(&proxy).await;
    assert_eq!(breaker().await.unwrap(), before, "after an expiry");
    load.stop().await.all_ok().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_terminate_serve_on_until_another_is_ready() {
    let rig = Rig::new(3).await;
    rig.set(&rig.ready([0, 1]));
    let proxy = rig.start().await;
    rig.until_pool_is(&proxy, &[0, 1]).await;
    let load = hammer(&proxy);
    // All of them at once, as when a deployment is made anew.
    let leaving = [0, 1].map(|n| PodState::leaving(rig.pods[n].address()));
    rig.set(&leaving);
    until("both to be known as terminating", async || {
        let endpoints = endpoints(&proxy).await?;
        let all = endpoints.iter().all(|at| at["terminating"] == true);
        ensure!(all && endpoints.len() == 2, "{endpoints:?}");
        Ok(())
    })
    .await
    .unwrap();
    load.ask(200).await.unwrap();
    let mut pods = leaving.to_vec();
    pods.extend(rig.ready([2]));
    rig.set(&pods);
    rig.until_pool_is(&proxy, &[2]).await;
    rig.assert_left_alone(&load, 0).await;
    load.stop().await.all_ok().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_are_all_unready_serve_on_as_the_proxy_finds_them() {
    let rig = Rig::new(2).await;
    rig.set(&rig.ready([0, 1]));
    let proxy = rig.start().await;
    rig.until_pool_is(&proxy, &[0, 1]).await;
    let load = hammer(&proxy);
    load.ask(50).await.unwrap();
    let mut pods = rig.ready([0, 1]);
    for pod in &mut pods {
        pod.conditions = Some((false, false, false));
    }
    rig.set(&pods);
    until("both to be known as unready", async || {
        let endpoints = endpoints(&proxy).await?;
        let all = endpoints.iter().all(|at| at["unready"] == true);
        ensure!(all && endpoints.len() == 2, "{endpoints:?}");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(of_service(&proxy).await["unready"], 2);
    load.ask(200).await.unwrap();
    load.stop().await.all_ok().unwrap();
}

#[tokio::test]
async fn a_proxy_starts_without_an_api_server_and_is_ready_when_there_is_one() {
    let rig = Rig::new(1).await;
    rig.cluster.stop().await;
    let proxy = rig.start().await;
    until_heard(&proxy, "unreachable", 1).await;
    let ready = proxy.ask_admin("/readyz").await.unwrap();
    assert_eq!(ready.status, 503, "{ready:?}");
    let reason = "service models/digits was never listed (the API server cannot be reached";
    assert!(ready.text().contains(reason), "{}", ready.text());
    assert_eq!(proxy.infer("{}").await.unwrap().reason(), "no_endpoint");

    rig.cluster.start_again().await.unwrap();
    until("the empty service to be told", async || {
        let ready = proxy.ask_admin("/readyz").await?;
        let reason = "service models/digits:http: it has no pods, or there is no such service";
        ensure!(ready.text().contains(reason), "{}", ready.text());
        Ok(())
    })
    .await
    .unwrap();
    let mut pod = PodState::ready(rig.pods[0].address());
    pod.zone = Some("eu-1a");
    rig.cluster
        .set_slice(SERVICE, "digits-a", ("other", rig.port), &[pod.clone()]);
    until("the missing port to be told", async || {
        let ready = proxy.ask_admin("/readyz").await?;
        let reason = "it has no port http; its pods have: other=";
        ensure!(ready.text().contains(reason), "{}", ready.text());
        Ok(())
    })
    .await
    .unwrap();
    rig.set(&[pod]);
    let endpoints = rig.until_pool_is(&proxy, &[0]).await;
    assert_eq!(endpoints[0]["service"], "models/digits:http");
    assert_eq!(endpoints[0]["zone"], "eu-1a");
    assert_eq!(proxy.ask_admin("/readyz").await.unwrap().status, 200);
    assert_eq!(proxy.infer("{}").await.unwrap().status, 200);
    let credentials = rig.cluster.asked().credentials;
    assert_eq!(credentials.as_deref(), Some("Bearer a-token"));
}

#[tokio::test]
async fn a_long_list_comes_in_pages_and_a_pod_in_many_slices_is_one_endpoint() {
    let rig = Rig::new(1).await;
    for n in 0..250 {
        let name = format!("digits-{n:04}");
        let port = ("http", rig.port);
        rig.cluster.set_slice(SERVICE, &name, port, &rig.ready([0]));
    }
    let proxy = rig.start().await;
    rig.until_pool_is(&proxy, &[0]).await;
    assert_eq!(rig.cluster.asked().lists, 3);
    let service = of_service(&proxy).await;
    assert_eq!(
        (&service["slices"], &service["ready"]),
        (&250.into(), &1.into())
    );
}
