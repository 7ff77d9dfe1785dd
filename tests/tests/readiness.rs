//! When the proxy says that requests are to be sent to it, while models come and go.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::net::{SocketAddr, TcpListener};

use aegis_e2e::{Binaries, Health, Proxy, ProxySetup, STABLE, Upstream, until};
use anyhow::ensure;
use serde_json::Value;
use toml_edit::Array;

/// The models of the start.
const MODELS: [&str; 2] = ["m", "other"];
/// The one that a reload adds.
const LATER: &str = "later";

/// Where nobody listens.
fn nowhere() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

async fn readyz(proxy: &Proxy) -> (u16, Value) {
    let answer = proxy.ask_admin("/readyz").await.unwrap();
    (answer.status.as_u16(), answer.json().unwrap())
}

/// Waits for a status, and for the models that its reasons name.
async fn until_readyz(proxy: &Proxy, status: u16, named: &[&str]) {
    until(&format!("{status} that names {named:?}"), async || {
        let (is, said) = readyz(proxy).await;
        let reasons = said["reasons"].as_array().unwrap();
        let models = reasons.iter().filter_map(Value::as_str);
        let models = models.filter_map(|reason| reason.strip_prefix("model "));
        let models: Vec<&str> = models.filter_map(|rest| rest.split(' ').next()).collect();
        ensure!(is == status && models == named, "{is}: {said}");
        ensure!(said["ready"] == (status == 200), "{said}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_model_without_endpoints_takes_no_proxy_out_that_was_ready_before() {
    let mut upstreams = Vec::new();
    for model in MODELS {
        upstreams.push(Upstream::start(model, STABLE).await.unwrap());
    }
    upstreams[1].set_health(Health::NotLoaded);
    let [one, other] = [0, 1].map(|n: usize| upstreams[n].address().to_string());
    let pool = |address: String| Array::from_iter([address]);
    let setup = ProxySetup::new(MODELS[0])
        .pool(STABLE, 1, &[upstreams[0].address()])
        .set("models.other.health_check.interval_ms", 50)
        .set("models.other.versions.1.weight", 1)
        .set("models.other.versions.1.endpoints", pool(other));
    let programs = Binaries::built().unwrap();
    let mut proxy = setup.start_unsettled(programs).await.unwrap();
    until(&format!("{one} to be found well"), async || {
        let answer = proxy.infer("{}").await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    })
    .await
    .unwrap();
    // At the start every model has to be there.
    until_readyz(&proxy, 503, &["other"]).await;
    assert_eq!(proxy.get("/v2/health/ready").await.unwrap().status, 503);
    upstreams[1].set_health(Health::Ready);
    until_readyz(&proxy, 200, &[]).await;

    // A model comes before its pods do.
    let file = &mut proxy.file;
    file.set("models.later.versions.1.weight", 1);
    let nobody = pool(nowhere().to_string());
    file.set("models.later.versions.1.endpoints", nobody);
    proxy.apply().await.unwrap();
    until_readyz(&proxy, 200, &[LATER]).await;
    assert_eq!(proxy.get("/v2/health/ready").await.unwrap().status, 200);
    assert_eq!(proxy.infer("{}").await.unwrap().status, 200);

    // One goes, and then there is none left.
    upstreams[1].set_health(Health::NotLoaded);
    until_readyz(&proxy, 200, &[LATER, "other"]).await;
    upstreams[0].set_health(Health::NotLoaded);
    until_readyz(&proxy, 503, &[LATER, "m", "other"]).await;
    upstreams[0].set_health(Health::Ready);
    until_readyz(&proxy, 200, &[LATER, "other"]).await;
}
