//! When a version cannot answer, the next one does, and says so.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use aegis_e2e::digits::{self, MODEL};
use aegis_e2e::{
    BackendSetup, Binaries, CANARY, Hammer, Health, Play, Proxy, ProxySetup, STABLE, Scene,
    SceneSetup, until,
};
use anyhow::ensure;
use http::StatusCode;

const CLIENTS: usize = 4;
const FALLBACKS: &str = "aegis_proxy_fallbacks_total";

/// Asks until the canary's share has come by many times; each answer is 200 and by version 1.
async fn version_1_answers_for_both(proxy: &Proxy, body: &'static str) {
    let load = Hammer::start(proxy.data(), &proxy.infer_path(), body, CLIENTS);
    load.ask(1_000).await.unwrap();
    let tally = load.stop().await;
    tally.all_ok().unwrap();
    assert_eq!(tally.by_version(STABLE), tally.asked, "{tally:?}");
    let share = tally.by_route("fallback") as f64 / tally.asked as f64;
    // Ten percent of 1,000 with a deviation of 0.95 points, at five of them.
    assert!(
        (share - 0.1).abs() < 0.05,
        "{share} of the requests fell back"
    );
    assert_eq!(
        tally.by_route("fallback") + tally.by_route("split"),
        tally.asked
    );
}

/// Loads until the canary's breaker has opened; no client hears of it.
async fn fail_until_open(scene: &Scene) {
    let load = Hammer::start(scene.proxy.data(), &scene.proxy.infer_path(), "{}", CLIENTS);
    scene.proxy.until_available(CANARY, 0.0).await.unwrap();
    load.stop().await.all_ok().unwrap();
}

async fn fallbacks(proxy: &Proxy) -> u64 {
    let labels = [("from", CANARY), ("to", STABLE)];
    proxy
        .metrics_when(0)
        .await
        .unwrap()
        .count(FALLBACKS, &labels)
        .unwrap()
}

#[tokio::test]
async fn a_killed_version_is_answered_for() {
    let programs = Binaries::built().unwrap();
    let stable = BackendSetup::new(MODEL, &[STABLE])
        .start(programs)
        .await
        .unwrap();
    let mut canary = BackendSetup::new(MODEL, &[CANARY])
        .start(programs)
        .await
        .unwrap();
    stable.ready().await.unwrap();
    canary.ready().await.unwrap();
    let setup = ProxySetup::new(MODEL).fallback(&[STABLE]);
    let setup = setup
        .pool(STABLE, 50, &[stable.address()])
        .pool(CANARY, 50, &[canary.address()]);
    let proxy = setup.start(programs).await.unwrap();

    let body = digits::request(&digits::held_out().unwrap()[..1]);
    let load = Hammer::start(proxy.data(), &proxy.infer_path(), body.clone(), CLIENTS);
    load.ask(200).await.unwrap();
    canary.process.kill().await.unwrap();
    load.ask(200).await.unwrap();
    let tally = load.stop().await;
    tally.all_ok().unwrap();
    assert!(
        tally.by_version(CANARY) > 0 && tally.by_route("fallback") > 0,
        "{tally:?}"
    );

    let load = Hammer::start(proxy.data(), &proxy.infer_path(), body, CLIENTS);
    load.ask(200).await.unwrap();
    let tally = load.stop().await;
    tally.all_ok().unwrap();
    assert_eq!(tally.by_version(STABLE), tally.asked, "{tally:?}");
    assert!(tally.by_route("fallback") > tally.asked / 4, "{tally:?}");
    assert!(fallbacks(&proxy).await >= tally.by_route("fallback"));
}

#[tokio::test]
async fn a_version_that_refuses_connections_is_answered_for() {
    let mut scene = Scene::start(2, 1).await.unwrap();
    scene.canary.remove(0).stop().await;
    version_1_answers_for_both(&scene.proxy, "{}").await;
    assert!(fallbacks(&scene.proxy).await > 0);
}

#[tokio::test]
async fn a_version_whose_model_is_not_loaded_is_answered_for() {
    let scene = Scene::start(2, 1).await.unwrap();
    scene.canary[0].set_health(Health::NotLoaded);
    scene.canary[0].play(Play::Refuse(aegis_protocol::Reason::NotReady));
    scene.proxy.until_available(CANARY, 0.0).await.unwrap();
    let asked = scene.canary[0].asked();
    version_1_answers_for_both(&scene.proxy, "{}").await;
    assert_eq!(
        scene.canary[0].asked(),
        asked,
        "it was asked although it said that it is not loaded"
    );

    // And once it is loaded it gets its share again.
    scene.canary[0].set_health(Health::Ready);
    scene.canary[0].play(Play::Answer);
    scene.proxy.settled().await.unwrap();
    until("an answer by version 2", async || {
        let answer = scene.proxy.infer("{}").await?;
        ensure!(answer.version() == CANARY, "{answer:?}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_version_that_drains_is_answered_for() {
    let scene = Scene::start(2, 1).await.unwrap();
    scene.canary[0].set_health(Health::Draining);
    scene.canary[0].play(Play::Refuse(aegis_protocol::Reason::Draining));
    scene.proxy.until_available(CANARY, 0.0).await.unwrap();
    version_1_answers_for_both(&scene.proxy, "{}").await;
}

#[tokio::test]
async fn a_version_that_fails_is_left_when_its_breaker_opens() {
    let setup = SceneSetup::new(2, 1).await.unwrap();
    // Open for longer than this test runs, so that no probe comes in between.
    let setup = setup.with(|proxy| proxy.set_model("breaker.open_base_ms", 120_000));
    let scene = setup.start().await.unwrap();
    scene.canary[0].play(Play::Status(StatusCode::INTERNAL_SERVER_ERROR));

    fail_until_open(&scene).await;
    let metrics = scene.proxy.metrics().await.unwrap();
    let labels = [("model", "m"), ("model_version", CANARY)];
    assert_eq!(
        metrics.value("aegis_proxy_breaker_state", &labels),
        Some(2.0),
        "open"
    );
    let opened = [("model_version", CANARY), ("to", "open")];
    assert_eq!(
        metrics
            .count("aegis_proxy_breaker_transitions_total", &opened)
            .unwrap(),
        1
    );

    let asked = scene.canary[0].asked();
    version_1_answers_for_both(&scene.proxy, "{}").await;
    assert_eq!(
        scene.canary[0].asked(),
        asked,
        "an open breaker lets nothing through"
    );
}

#[tokio::test]
async fn a_version_that_recovers_is_probed_and_used_again() {
    let setup = SceneSetup::new(1, 1).await.unwrap();
    let setup = setup.with(|proxy| proxy.set_model("breaker.open_base_ms", 200));
    let scene = setup.start().await.unwrap();
    scene.canary[0].play(Play::Status(StatusCode::SERVICE_UNAVAILABLE));
    fail_until_open(&scene).await;
    scene.canary[0].play(Play::Answer);
    let load = Hammer::start(scene.proxy.data(), &scene.proxy.infer_path(), "{}", CLIENTS);
    scene.proxy.until_available(CANARY, 1.0).await.unwrap();
    load.ask(300).await.unwrap();
    let tally = load.stop().await;
    tally.all_ok().unwrap();
    assert!(tally.by_version(CANARY) > 0, "{tally:?}");
}

#[tokio::test]
async fn when_nothing_is_left_the_refusal_says_so() {
    let mut scene = Scene::start(1, 1).await.unwrap();
    scene.stable.remove(0).stop().await;
    scene.canary.remove(0).stop().await;
    let answer = scene.proxy.infer("{}").await.unwrap();
    assert!(answer.status.is_server_error(), "{answer:?}");
    assert!(
        ["no_endpoint", "upstream_error"].contains(&answer.reason()),
        "{answer:?}"
    );
    assert!(!answer.error().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_falls_back_goes_to_the_path_of_the_version_that_answers() {
    let scene = Scene::start(1, 1).await.unwrap();
    scene.canary[0].play(Play::Status(StatusCode::BAD_GATEWAY));
    until("some to fall back", async || {
        let answer = scene.proxy.infer("{}").await?;
        ensure!(answer.status == StatusCode::OK, "{answer:?}");
        let seen = scene.stable[0].take_seen();
        ensure!(!seen.is_empty() && seen.iter().all(|seen| seen.path == infer(STABLE)));
        ensure!(answer.route() == "fallback", "it was drawn for version 1");
        Ok(())
    })
    .await
    .unwrap();
    let canary = scene.canary[0].take_seen();
    assert!(!canary.is_empty() && canary.iter().all(|seen| seen.path == infer(CANARY)));
}

/// The path at which a version is asked.
fn infer(version: &str) -> String {
    aegis_protocol::path::infer("m", Some(version))
}
