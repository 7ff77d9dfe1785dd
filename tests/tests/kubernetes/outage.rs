//! Half a minute without an API server, in which pods come, drain and are lost.

use std::time::Duration;

use aegis_e2e::{Health, Play, PodState, until};
use anyhow::{Context, ensure};

use crate::{Rig, endpoints, hammer, heard, of_service, stale_seconds, until_fresh, until_heard};

/// For how long the API server is gone.
const OUTAGE_SECONDS: f64 = 30.0;
/// How long an answer takes: a pod that is lost loses requests that it has, and the load leaves the machine to others.
const ANSWER_AFTER: Duration = Duration::from_millis(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_is_gone_for_30_s_while_pods_come_drain_and_are_lost_and_no_request_fails() {
    const STAYS: usize = 0;
    const COMES: usize = 1;
    const DRAINS: usize = 2;
    const IS_LOST: usize = 3;
    let mut rig = Rig::new(4).await;
    for pod in &rig.pods {
        pod.play(Play::AnswerAfter(ANSWER_AFTER));
    }
    let [drains, lost] = [DRAINS, IS_LOST].map(|n| rig.pods[n].address());
    rig.set(&rig.ready([STAYS, DRAINS, IS_LOST]));
    let proxy = rig.start().await;
    rig.until_pool_is(&proxy, &[STAYS, DRAINS, IS_LOST]).await;
    let load = hammer(&proxy);
    load.ask(100).await.unwrap();
    let until_not_ready = async |address: std::net::SocketAddr| {
        until(&format!("{address} to be found not ready"), async || {
            let endpoints = endpoints(&proxy).await?;
            let mut all = endpoints.iter();
            let pod = all.find(|at| at["address"] == address.to_string());
            let pod = pod.context("it has left the pool")?;
            ensure!(pod["health"] != "ready", "{pod}");
            Ok(())
        })
        .await
        .unwrap();
    };

    rig.cluster.stop().await;
    until_heard(&proxy, "unreachable", 1).await;
    // Of all that happens from here on Kubernetes tells nobody. A pod is lost with what it was asked, and one is
    // made in its place.
    rig.pods.pop().unwrap().stop().await;
    let mut pods = rig.ready([STAYS, COMES]);
    pods.push(PodState::leaving(drains));
    rig.set(&pods);
    until_not_ready(lost).await;
    load.ask(100).await.unwrap();
    // Another one drains, and goes when nobody asks it any more.
    rig.pods[DRAINS].set_health(Health::Draining);
    until_not_ready(drains).await;
    rig.assert_left_alone(&load, DRAINS).await;
    rig.pods.pop().unwrap().stop().await;
    rig.set(&rig.ready([STAYS, COMES]));
    // Nor can it tell all of it afterwards.
    rig.cluster.compact();

    until("the outage to have lasted", async || {
        let stale = stale_seconds(&proxy).await;
        ensure!(stale >= OUTAGE_SECONDS, "{stale} s");
        Ok(())
    })
    .await
    .unwrap();
    load.ask(100).await.unwrap();
    assert_eq!(proxy.ask_admin("/readyz").await.unwrap().status, 200);
    assert_eq!(rig.pods[COMES].asked(), 0, "nobody told of it");
    let service = of_service(&proxy).await;
    assert!(service["error"].is_string(), "{service}");
    assert_eq!(
        (rig.cluster.asked().lists, heard(&proxy, "expired").await),
        (1, 0)
    );

    rig.cluster.start_again().await.unwrap();
    rig.until_pool_is(&proxy, &[STAYS, COMES]).await;
    until_fresh(&proxy).await;
    let before = rig.pods[COMES].asked();
    load.ask(100).await.unwrap();
    assert!(
        rig.pods[COMES].asked() > before,
        "the pod that came is used"
    );
    load.stop().await.all_ok().unwrap();
    assert_eq!(
        (rig.cluster.asked().lists, heard(&proxy, "expired").await),
        (2, 1)
    );
}
