//! What is charged to an endpoint and what is not, and how its breaker opens to probes.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use aegis_e2e::{CANARY, Play, Scene, SceneSetup, until};
use anyhow::ensure;
use http::StatusCode;
use serde_json::Value;

const RETRIES: &str = "aegis_proxy_retries_total";
const TRANSITIONS: &str = "aegis_proxy_breaker_transitions_total";

/// The first endpoint of a version, as `/status` shows it.
async fn endpoint(scene: &Scene, version: &str) -> Value {
    let status = scene.proxy.ask_admin("/status").await.unwrap();
    status.json().unwrap()["models"]["m"]["versions"][version]["endpoints"][0].clone()
}

async fn count(scene: &Scene, metric: &str, labels: &[(&str, &str)]) -> u64 {
    let metrics = scene.proxy.metrics_when(0).await.unwrap();
    metrics.count(metric, labels).unwrap()
}

#[tokio::test]
async fn a_reset_on_a_kept_connection_is_charged_to_nobody_once() {
    let scene = Scene::start(1, 0).await.unwrap();
    let broken = [("reason", "stale_connection")];
    // One connection is kept, and closes on the next request: it may have been on its way out.
    scene.proxy.infer("{}").await.unwrap();
    scene.stable[0].play_once(Play::HangUp);
    let answer = scene.proxy.infer("{}").await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(count(&scene, RETRIES, &broken).await, 1);
    let state = endpoint(&scene, "1").await;
    assert_eq!(
        (&state["failures"], &state["failures_in_a_row"]),
        (&0.into(), &0.into())
    );

    // Two are kept, and both close on the same request: that is no accident any more.
    let slow = Play::AnswerAfter(Duration::from_millis(200));
    scene.stable[0].play_once(slow);
    scene.stable[0].play_once(slow);
    let (one, two) = tokio::join!(scene.proxy.infer("{}"), scene.proxy.infer("{}"));
    assert!(one.is_ok() && two.is_ok());
    scene.stable[0].play_once(Play::HangUp);
    scene.stable[0].play_once(Play::HangUp);
    let _ = scene.proxy.infer("{}").await.unwrap();
    assert_eq!(count(&scene, RETRIES, &broken).await, 3);
    let state = endpoint(&scene, "1").await;
    assert_eq!(state["failures"], 1, "{state}");
}

#[tokio::test]
async fn with_no_live_request_an_active_check_opens_the_door_to_probes() {
    let setup = SceneSetup::new(1, 1).await.unwrap();
    let setup = setup.with(|proxy| proxy.set_model("breaker.open_base_ms", 300));
    let scene = setup.start().await.unwrap();
    scene.canary[0].play(Play::Status(StatusCode::INTERNAL_SERVER_ERROR));
    until("the canary's breaker to open", async || {
        scene.proxy.infer_pinned(CANARY, "{}").await?;
        ensure!(count(&scene, TRANSITIONS, &[("to", "open")]).await > 0);
        Ok(())
    })
    .await
    .unwrap();
    let asked = scene.canary[0].asked();
    // Nobody asks for an inference from here on.
    until("the breaker to be half-open", async || {
        let state = endpoint(&scene, CANARY).await;
        ensure!(state["breaker"] == "half_open", "{state}");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(count(&scene, TRANSITIONS, &[("to", "half_open")]).await, 1);
    assert_eq!(count(&scene, TRANSITIONS, &[("to", "closed")]).await, 0);
    assert_eq!(scene.canary[0].asked(), asked, "a check is no inference");

    // And live requests do the rest.
    scene.canary[0].play(Play::Answer);
    until("the breaker to close", async || {
        scene.proxy.infer_pinned(CANARY, "{}").await?;
        ensure!(count(&scene, TRANSITIONS, &[("to", "closed")]).await == 1);
        Ok(())
    })
    .await
    .unwrap();
}
