//! Endpoints by name: the pool follows what a name server says, and survives what it does not say.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::net::{IpAddr, SocketAddr};

use aegis_e2e::{Binaries, Hammer, NameServer, Proxy, ProxySetup, STABLE, Upstream, Zone, until};
use anyhow::{Result, ensure};
use serde_json::Value;
use toml_edit::Array;

const MODEL: &str = "m";
const NAME: &str = "pods.test";

/// Endpoints on one port of several loopback addresses, as the pods of a service are.
async fn pods(count: u8) -> Vec<Upstream> {
    let first = Upstream::start_at(([127, 0, 0, 2], 0).into(), MODEL, STABLE);
    let mut pods = vec![first.await.unwrap()];
    let port = pods[0].address().port();
    for last in 1..count {
        let at = SocketAddr::from(([127, 0, 0, 2 + last], port));
        pods.push(Upstream::start_at(at, MODEL, STABLE).await.unwrap());
    }
    pods
}

fn addresses(pods: &[Upstream]) -> Zone {
    Zone::Addresses(pods.iter().map(|pod| pod.address().ip()).collect())
}

fn by_name(pods: &[Upstream]) -> Array {
    Array::from_iter([format!("{NAME}:{}", pods[0].address().port())])
}

/// A proxy that asks this name server, at a test's pace.
fn setup(server: &NameServer) -> ProxySetup {
    let servers = Array::from_iter([server.address().to_string()]);
    ProxySetup::new(MODEL)
        .set("dns.servers", servers)
        .set("dns.lookup_timeout_ms", 200)
        .set("dns.min_ttl_ms", 20)
        .set("dns.max_ttl_ms", 100)
        .set_model("balance.slow_start_ms", 0)
        .set_model(&format!("versions.{STABLE}.weight"), 1)
}

async fn start(server: &NameServer, pods: &[Upstream]) -> Proxy {
    let setup = setup(server).set_model(&format!("versions.{STABLE}.endpoints"), by_name(pods));
    setup
        .start_unsettled(Binaries::built().unwrap())
        .await
        .unwrap()
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

/// Waits until these are the endpoints, all of them ready.
async fn until_pool_is(proxy: &Proxy, pods: &[Upstream]) {
    let mut expected: Vec<String> = pods.iter().map(|pod| pod.address().to_string()).collect();
    expected.sort();
    until(&format!("the pool to be {expected:?}"), async || {
        let endpoints = endpoints(proxy).await?;
        let ready = endpoints.iter().filter(|at| at["health"] == "ready");
        let mut names: Vec<&str> = ready.filter_map(|at| at["address"].as_str()).collect();
        names.sort_unstable();
        ensure!(
            names == expected && endpoints.len() == expected.len(),
            "{endpoints:?}"
        );
        Ok(())
    })
    .await
    .unwrap();
}

async fn count(proxy: &Proxy, name: &str, labels: &[(&str, &str)]) -> u64 {
    let metrics = proxy.metrics().await.unwrap();
    metrics.count(name, labels).unwrap()
}

/// Waits until so many more lookups have ended like this.
async fn until_looked_up(proxy: &Proxy, result: &str, more: u64) {
    const LOOKUPS: &str = "aegis_proxy_dns_lookups_total";
    let goal = more + count(proxy, LOOKUPS, &[("result", result)]).await;
    until(&format!("{goal} lookups to end in {result}"), async || {
        let now = count(proxy, LOOKUPS, &[("result", result)]).await;
        ensure!(now >= goal, "{now} did");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_come_and_go_and_names_fail_and_no_request_does() {
    let (server, mut pods) = (NameServer::start().await.unwrap(), pods(3).await);
    server.set(NAME, addresses(&pods[..2]));
    let proxy = start(&server, &pods).await;
    until_pool_is(&proxy, &pods[..2]).await;
    let generation = proxy.generation().await.unwrap();
    let load = Hammer::start(proxy.data(), &proxy.infer_path(), "{}", 4);
    load.ask(100).await.unwrap();

    server.set(NAME, addresses(&pods));
    until_pool_is(&proxy, &pods).await;
    let asked = pods[2].asked();
    load.ask(200).await.unwrap();
    assert!(pods[2].asked() > asked, "the pod that came is used");

    for (zone, result) in [
        (Some(Zone::Failure), "refused"),
        (Some(Zone::Silence), "timeout"),
        (Some(Zone::Addresses(Vec::new())), "no_address"),
        (None, "no_such_name"),
    ] {
        match zone {
            Some(zone) => server.set(NAME, zone),
            None => server.remove(NAME),
        }
        until_looked_up(&proxy, result, 3).await;
        load.ask(50).await.unwrap();
        assert_eq!(endpoints(&proxy).await.unwrap().len(), 3, "{result}");
        assert_eq!(count(&proxy, "aegis_proxy_dns_names_failing", &[]).await, 1);
        let status = status(&proxy).await.unwrap();
        assert!(
            status["dns"]["names"][NAME]["error"].is_string(),
            "{status}"
        );
    }

    let gone = pods.remove(0);
    server.set(NAME, addresses(&pods));
    until_pool_is(&proxy, &pods).await;
    // What was on its way to it has arrived.
    load.ask(20).await.unwrap();
    let asked = gone.asked();
    load.ask(200).await.unwrap();
    assert_eq!(gone.asked(), asked, "the pod that went is left alone");
    load.stop().await.all_ok().unwrap();
    assert_eq!(proxy.generation().await.unwrap(), generation);
    let metrics = proxy.metrics().await.unwrap();
    let address = gone.address().to_string();
    let labels = [("endpoint", address.as_str())];
    let series = metrics.samples("aegis_proxy_breaker_state", &labels);
    assert_eq!(series.count(), 0, "its series went with it");
}

#[tokio::test]
async fn a_proxy_starts_without_a_name_server_and_is_ready_when_there_is_one() {
    let (server, pods) = (NameServer::start().await.unwrap(), pods(1).await);
    server.set(NAME, Zone::Silence);
    let proxy = start(&server, &pods).await;
    until_looked_up(&proxy, "timeout", 1).await;
    let ready = proxy.ask_admin("/readyz").await.unwrap();
    assert_eq!(ready.status, 503, "{ready:?}");
    let reason = "name pods.test was never resolved (no name server answered in time)";
    assert!(ready.text().contains(reason), "{}", ready.text());
    assert_eq!(proxy.infer("{}").await.unwrap().reason(), "no_endpoint");

    server.set(NAME, addresses(&pods));
    until_pool_is(&proxy, &pods).await;
    assert_eq!(proxy.ask_admin("/readyz").await.unwrap().status, 200);
    assert_eq!(proxy.infer("{}").await.unwrap().status, 200);
    let endpoint = &endpoints(&proxy).await.unwrap()[0];
    let name = format!("{NAME}:{}", pods[0].address().port());
    assert_eq!(endpoint["name"], name.as_str());
}

#[tokio::test]
async fn a_name_server_that_answers_in_turns_moves_nothing() {
    let (server, pods) = (NameServer::start().await.unwrap(), pods(4).await);
    server.set(NAME, addresses(&pods));
    let setup = setup(&server)
        // A busy machine may see one turn for many answers.
        .set("dns.forget_after", 1_000)
        .set_model(&format!("versions.{STABLE}.endpoints"), by_name(&pods));
    let programs = Binaries::built().unwrap();
    let proxy = setup.start_unsettled(programs).await.unwrap();
    until_pool_is(&proxy, &pods).await;
    let health_checks = async || {
        let metrics = proxy.metrics().await.unwrap();
        metrics.sum("aegis_proxy_endpoint_healthy", &[])
    };
    for turn in 0..10 {
        let part = if turn % 2 == 0 {
            &pods[..2]
        } else {
            &pods[2..]
        };
        let asked = server.asked(NAME);
        server.set(NAME, addresses(part));
        until("the name to be asked for", async || {
            ensure!(server.asked(NAME) > asked, "not yet");
            Ok(())
        })
        .await
        .unwrap();
        assert!((health_checks().await - 4.0).abs() < 1e-9, "turn {turn}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_keeps_what_a_name_stands_for_and_what_a_new_name_is_to_replace() {
    let (server, pods) = (NameServer::start().await.unwrap(), pods(2).await);
    server.set(NAME, Zone::Silence);
    let listed: Vec<SocketAddr> = pods.iter().map(Upstream::address).collect();
    let setup = setup(&server).pool(STABLE, 1, &listed);
    let mut proxy = setup.start(Binaries::built().unwrap()).await.unwrap();
    let load = Hammer::start(proxy.data(), &proxy.infer_path(), "{}", 4);
    load.ask(100).await.unwrap();

    // From addresses to a name that nobody answers for.
    proxy.set_model(&format!("versions.{STABLE}.endpoints"), by_name(&pods));
    proxy.apply().await.unwrap();
    load.ask(100).await.unwrap();
    let kept = endpoints(&proxy).await.unwrap();
    let name = format!("{NAME}:{}", pods[0].address().port());
    assert_eq!(kept.len(), 2);
    assert!(
        kept.iter().all(|at| at["kept_for"] == name.as_str()),
        "{kept:?}"
    );

    server.set(NAME, addresses(&pods[..1]));
    until_pool_is(&proxy, &pods[..1]).await;
    let requests = async |proxy: &Proxy| {
        let at = endpoints(proxy).await.unwrap()[0].clone();
        at["requests"].as_u64().unwrap()
    };
    let before = requests(&proxy).await;
    assert!(before > 0, "what stayed kept what is known of it");

    // A reload of something else, while the name fails.
    server.set(NAME, Zone::Failure);
    until_looked_up(&proxy, "refused", 1).await;
    proxy.set_model("timeouts.request_ms", 1_400);
    proxy.apply().await.unwrap();
    load.ask(100).await.unwrap();
    assert!(requests(&proxy).await > before);
    load.stop().await.all_ok().unwrap();
}

#[tokio::test]
async fn both_families_are_endpoints_unless_one_is_chosen() {
    let (server, pods) = (NameServer::start().await.unwrap(), pods(1).await);
    let six: IpAddr = "fd00::1".parse().unwrap();
    server.set(NAME, Zone::Addresses(vec![pods[0].address().ip(), six]));
    for (families, count) in [("both", 2), ("ipv4", 1)] {
        let setup = setup(&server)
            .set("dns.families", families)
            .set_model(&format!("versions.{STABLE}.endpoints"), by_name(&pods));
        let programs = Binaries::built().unwrap();
        let proxy = setup.start_unsettled(programs).await.unwrap();
        until_looked_up(&proxy, "found", 1).await;
        until("the endpoints", async || {
            let endpoints = endpoints(&proxy).await?;
            ensure!(endpoints.len() == count, "{endpoints:?}");
            Ok(())
        })
        .await
        .unwrap();
    }
}
