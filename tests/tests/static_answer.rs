//! The end of the fallback chain: what the configuration says to answer.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use aegis_e2e::{Answer, CANARY, Hammer, Health, Play, STABLE, Scene, SceneSetup, raw_exchange};
use aegis_protocol::headers;
use http::{HeaderName, StatusCode, header};
use toml_edit::Array;

const BODY: &str = r#"{"outputs": [], "degraded": true}"#;
const FALLBACKS: &str = "aegis_proxy_fallbacks_total";

/// So many endpoints of each version, and a static answer behind them.
async fn scene(stable: usize, canary: usize) -> Scene {
    let setup = SceneSetup::new(stable, canary).await.unwrap();
    let headers: Array = ["content-type: application/json", "x-degraded: yes"]
        .into_iter()
        .collect();
    let setup = setup.with(|proxy| {
        proxy
            .set_model("static_answer.status", 203)
            .set_model("static_answer.body", BODY)
            .set_model("static_answer.headers", headers)
            .set_model("breaker.open_base_ms", 120_000)
    });
    setup.start().await.unwrap()
}

fn is_static(answer: &Answer) {
    assert_eq!(answer.status.as_u16(), 203, "{answer:?}");
    assert_eq!(answer.text(), BODY);
    assert_eq!(answer.route(), "static");
    assert_eq!(answer.version(), "", "no version has answered");
    assert_eq!(answer.header(&HeaderName::from_static("x-degraded")), "yes");
    assert_eq!(answer.header(&header::CONTENT_TYPE), "application/json");
    assert!(
        answer.headers.get("x-aegis-reason").is_none(),
        "it is no refusal"
    );
}

async fn count(scene: &Scene, name: &str, labels: &[(&str, &str)]) -> u64 {
    scene
        .proxy
        .metrics_when(0)
        .await
        .unwrap()
        .count(name, labels)
        .unwrap()
}

#[tokio::test]
async fn when_every_endpoint_is_gone_the_static_answer_is_given_and_counted() {
    let mut scene = scene(2, 1).await;
    for endpoint in scene.stable.drain(..).chain(scene.canary.drain(..)) {
        endpoint.stop().await;
    }
    scene.proxy.until_available(STABLE, 0.0).await.unwrap();
    scene.proxy.until_available(CANARY, 0.0).await.unwrap();
    for _ in 0..50 {
        is_static(&scene.proxy.infer("{}").await.unwrap());
    }
    let to_static = [("to", "static")];
    assert_eq!(count(&scene, FALLBACKS, &to_static).await, 50);
    let answered = [("kind", "static"), ("code", "2xx")];
    assert_eq!(
        count(&scene, "aegis_proxy_requests_total", &answered).await,
        50
    );
    assert_eq!(
        count(&scene, "aegis_inference_requests_total", &[]).await,
        0
    );
    assert_eq!(count(&scene, "aegis_proxy_rejected_total", &[]).await, 0);

    // Who asks for a version, or for something that is no inference, is told the truth.
    let pinned = scene.proxy.infer_pinned(CANARY, "{}").await.unwrap();
    assert!(pinned.status.is_server_error(), "{pinned:?}");
    let metadata = scene.proxy.get("/v2/models/m").await.unwrap();
    assert!(metadata.status.is_server_error(), "{metadata:?}");
}

#[tokio::test]
async fn a_connection_outlives_static_answers() {
    let mut scene = scene(1, 0).await;
    scene.stable.remove(0).stop().await;
    scene.proxy.until_available(STABLE, 0.0).await.unwrap();
    let head = format!("POST {} HTTP/1.1\r\nhost: m\r\n", scene.proxy.infer_path());
    let one = format!("{head}content-length: 2\r\n\r\n{{}}");
    let last = format!("{head}connection: close\r\ncontent-length: 2\r\n\r\n{{}}");
    let parts = [one.as_bytes(), one.as_bytes(), last.as_bytes()];
    let answers = raw_exchange(scene.proxy.data(), &parts).await.unwrap();
    let answers = answers.answers().unwrap();
    assert_eq!(answers.len(), 3);
    answers.iter().for_each(is_static);
}

#[tokio::test]
async fn a_request_whose_attempts_have_failed_gets_it_whatever_failed() {
    let failures = [
        Play::Reset,
        Play::HangUp,
        Play::Status(StatusCode::SERVICE_UNAVAILABLE),
        Play::Refuse(aegis_protocol::Reason::QueueFull),
        Play::Status(StatusCode::BAD_GATEWAY),
    ];
    for failure in failures {
        let scene = scene(2, 0).await;
        for endpoint in &scene.stable {
            endpoint.play(failure);
        }
        is_static(&scene.proxy.infer("{}").await.unwrap());
        let failed = [("to", "static"), ("reason", "attempts_failed")];
        assert_eq!(count(&scene, FALLBACKS, &failed).await, 1, "{failure:?}");
    }
}

#[tokio::test]
async fn a_single_endpoint_that_hangs_or_fails_is_covered_until_its_breaker_opens_and_then_too() {
    for play in [Play::Hang, Play::Status(StatusCode::INTERNAL_SERVER_ERROR)] {
        let setup = SceneSetup::new(1, 0).await.unwrap();
        let setup = setup.with(|proxy| {
            proxy
                .set_model("static_answer.status", 203)
                .set_model("static_answer.body", BODY)
                .set_model("timeouts.request_ms", 200)
                .set_model("breaker.latency_threshold_ms", 50)
                .set_model("breaker.open_base_ms", 120_000)
        });
        let scene = setup.start().await.unwrap();
        scene.stable[0].play(play);
        let load = Hammer::start(scene.proxy.data(), &scene.proxy.infer_path(), "{}", 4);
        scene.proxy.until_available(STABLE, 0.0).await.unwrap();
        load.ask(20).await.unwrap();
        let tally = load.stop().await;
        assert_eq!(
            tally.statuses.keys().copied().collect::<Vec<_>>(),
            [203],
            "{tally:?}"
        );
        assert_eq!(tally.by_route("static"), tally.asked);
    }
}

#[tokio::test]
async fn a_500_that_two_endpoints_give_is_the_inputs_and_is_passed_on() {
    let scene = scene(2, 0).await;
    for endpoint in &scene.stable {
        endpoint.play(Play::Status(StatusCode::INTERNAL_SERVER_ERROR));
    }
    let answer = scene.proxy.infer("{}").await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.route()), (500, "split"));
}

#[tokio::test]
async fn a_version_that_comes_back_answers_again() {
    let scene = scene(1, 0).await;
    scene.stable[0].set_health(Health::NotLoaded);
    scene.proxy.until_available(STABLE, 0.0).await.unwrap();
    is_static(&scene.proxy.infer("{}").await.unwrap());
    scene.stable[0].set_health(Health::Ready);
    scene.proxy.until_available(STABLE, 1.0).await.unwrap();
    let answer = scene.proxy.infer("{}").await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.route()), (200, "split"));
    // Who has no patience learns nothing of the version.
    scene.stable[0].play(Play::Hang);
    let patience = [(headers::REQUEST_TIMEOUT_MS, "1")];
    let late = scene.proxy.infer_with("{}", &patience).await.unwrap();
    is_static(&late);
}
