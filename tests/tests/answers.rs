//! What stands on an answer beside what the endpoint wrote: who gave it and why. And what does not.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use aegis_e2e::{Answer, CANARY, Play, STABLE, Scene, SceneSetup, until};
use aegis_protocol::{headers, path};
use anyhow::ensure;
use bytes::Bytes;
use http::{HeaderName, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;

const USER: HeaderName = HeaderName::from_static("x-user-id");

/// One endpoint of each version, every way to choose between them, and an end of the chain.
async fn scene() -> Scene {
    let setup = SceneSetup::new(1, 1).await.unwrap();
    let setup = setup.with(|proxy| {
        proxy
            .set_model("sticky.header", "x-user-id")
            .set_model("pinned_fallback", true)
            .set_model("static_answer.status", 203)
            .set_model("static_answer.body", "{}")
            .set_model("breaker.open_base_ms", 120_000)
    });
    setup.start().await.unwrap()
}

/// Asks for an inference, and says which version has really answered.
async fn ask(scene: &Scene, more: &[(HeaderName, &str)]) -> (Answer, &'static str) {
    let before = (scene.stable[0].asked(), scene.canary[0].asked());
    let answer = scene.proxy.infer_with("{}", more).await.unwrap();
    let by = match (
        scene.stable[0].asked() - before.0,
        scene.canary[0].asked() - before.1,
    ) {
        (1, 0) => STABLE,
        (0, 1) => CANARY,
        both => panic!("{both:?} requests arrived for one answer: {answer:?}"),
    };
    (answer, by)
}

#[tokio::test]
async fn an_answer_names_its_version_and_its_route_in_each_case() {
    let scene = scene().await;
    for (more, route) in [
        (&[][..], "split"),
        (&[(USER, "ada")], "sticky"),
        (&[(USER, "grace")], "sticky"),
        (&[(headers::MODEL_VERSION, STABLE)], "pinned"),
        (&[(headers::MODEL_VERSION, CANARY)], "pinned"),
    ] {
        let (answer, by) = ask(&scene, more).await;
        assert_eq!((answer.route(), answer.version()), (route, by), "{more:?}");
    }
    let by_path = scene.proxy.infer_pinned(CANARY, "{}").await.unwrap();
    assert_eq!((by_path.route(), by_path.version()), ("pinned", CANARY));

    // The client's own mistake, as the endpoint tells it.
    scene.canary[0].play(Play::Status(StatusCode::UNPROCESSABLE_ENTITY));
    let mistake = scene.proxy.infer_pinned(CANARY, "{}").await.unwrap();
    assert_eq!(mistake.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!((mistake.route(), mistake.version()), ("pinned", CANARY));

    // The canary cannot, and stable answers for it.
    scene.canary[0].play(Play::Status(StatusCode::BAD_GATEWAY));
    let fallback = scene.proxy.infer_pinned(CANARY, "{}").await.unwrap();
    assert_eq!(fallback.status, StatusCode::OK, "{fallback:?}");
    assert_eq!((fallback.route(), fallback.version()), ("fallback", STABLE));

    // Nobody can.
    scene.stable[0].play(Play::Status(StatusCode::BAD_GATEWAY));
    let end = scene.proxy.infer("{}").await.unwrap();
    assert_eq!(end.status.as_u16(), 203, "{end:?}");
    assert_eq!((end.route(), end.version()), ("static", ""));

    // And what no version was chosen for names none.
    let unknown = scene.proxy.infer_pinned("nine", "{}").await.unwrap();
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert_eq!((unknown.route(), unknown.version()), ("", ""));
}

#[tokio::test]
async fn what_an_endpoint_says_of_its_load_stays_here() {
    let scene = Scene::start(1, 1).await.unwrap();
    for endpoint in scene.stable.iter().chain(&scene.canary) {
        endpoint.report_load("TEXT named_metrics.queue_depth=1, named_metrics.in_flight=2");
    }
    for play in [Play::Answer, Play::Status(StatusCode::BAD_REQUEST)] {
        scene.stable[0].play(play);
        for version in [STABLE, CANARY] {
            let answer = scene.proxy.infer_pinned(version, "{}").await.unwrap();
            let names: Vec<_> = answer.headers.keys().collect();
            assert!(!names.contains(&&headers::LOAD_REPORT), "{names:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_has_begun_and_stalls_is_ended() {
    for http2 in [false, true] {
        let setup = SceneSetup::new(1, 0).await.unwrap();
        let setup = setup.with(|proxy| {
            proxy
                .set_model("timeouts.request_ms", 100)
                .set_model("timeouts.idle_ms", 300)
        });
        let scene = setup.start().await.unwrap();
        scene.stable[0].play(Play::Events(2));
        let mut builder = Client::builder(TokioExecutor::new());
        let client = builder.http2_only(http2).build(HttpConnector::new());
        let path = path::generate("m", None, true);
        let request = Request::post(format!("http://{}{path}", scene.proxy.data()));
        let request = request.body(Full::new(Bytes::from_static(b"{}"))).unwrap();
        let asked = client.request(request);
        // The head comes with the first event.
        scene.stable[0].allow_event();
        let mut events = asked.await.unwrap().into_body();
        let first = events.frame().await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "data: 1\n\n");
        let end = tokio::time::timeout(aegis_e2e::PATIENCE, events.frame()).await;
        let end = end.expect("the idle timeout ends it");
        assert!(matches!(end, Some(Err(_))), "cut off, not ended: {end:?}");
        until("the stream to be counted as cut short", async || {
            let metrics = scene.proxy.metrics().await?;
            let cut = metrics.count("aegis_proxy_requests_total", &[("code", "502")])?;
            ensure!(cut == 1, "{cut} are; http2: {http2}");
            Ok(())
        })
        .await
        .unwrap();
    }
}
