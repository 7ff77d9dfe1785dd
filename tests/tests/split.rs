//! Which version answers: by weight, or as the client says.

use aegis_e2e::{CANARY, Client, Hammer, STABLE, Scene, SceneSetup};
use aegis_protocol::{headers, path};
use http::StatusCode;

const REQUESTS: u64 = 20_000;
const CANARY_SHARE: f64 = 0.1;
const COUNTER: &str = "aegis_proxy_requests_total";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_20_000_requests_the_canary_gets_its_share_and_the_metrics_say_so() {
    let scene = Scene::start(2, 1).await.unwrap();
    let load = Hammer::start(scene.proxy.data(), &scene.proxy.infer_path(), "{}", 16);
    load.ask(REQUESTS).await.unwrap();
    let tally = load.stop().await;
    tally.all_ok().unwrap();
    assert_eq!(tally.by_route("split"), tally.asked, "{tally:?}");

    let (asked, canary) = (tally.asked as f64, tally.by_version(CANARY) as f64);
    let five_sigma = 5.0 * (CANARY_SHARE * (1.0 - CANARY_SHARE) / asked).sqrt();
    assert!(
        five_sigma < 0.0107,
        "for 20,000 requests this is 1.06 points: {five_sigma}"
    );
    let share = canary / asked;
    assert!(
        (share - CANARY_SHARE).abs() < five_sigma,
        "{share} is not {CANARY_SHARE} ± {five_sigma}"
    );

    let metrics = scene.proxy.metrics_when(0).await.unwrap();
    for (version, endpoints) in [(STABLE, &scene.stable), (CANARY, &scene.canary)] {
        let labels = [
            ("model", "m"),
            ("model_version", version),
            ("kind", "split"),
        ];
        assert_eq!(
            metrics.count(COUNTER, &labels).unwrap(),
            tally.by_version(version)
        );
        let arrived: u64 = endpoints.iter().map(aegis_e2e::Upstream::asked).sum();
        assert_eq!(
            arrived,
            tally.by_version(version),
            "version {version} at its endpoints"
        );
    }
    assert!(
        scene.stable.iter().all(|endpoint| endpoint.asked() > 0),
        "both endpoints of one pool"
    );
}

#[tokio::test]
async fn a_client_names_a_version_by_path_or_by_header() {
    let scene = Scene::start(1, 1).await.unwrap();
    let client = Client::new();
    for version in [STABLE, CANARY] {
        let answer = scene.proxy.infer_pinned(version, "{}").await.unwrap();
        assert_eq!(
            (answer.status, answer.version(), answer.route()),
            (StatusCode::OK, version, "pinned")
        );
        let by_header = [(headers::MODEL_VERSION, version)];
        let unversioned = scene.proxy.infer_path();
        let answer = client
            .post_with(scene.proxy.data(), &unversioned, "{}", &by_header)
            .await;
        let answer = answer.unwrap();
        assert_eq!(
            (answer.status, answer.version(), answer.route()),
            (StatusCode::OK, version, "pinned")
        );
    }
    for (version, endpoint) in [(STABLE, &scene.stable[0]), (CANARY, &scene.canary[0])] {
        let seen = endpoint.take_seen();
        assert_eq!(seen.len(), 2);
        for seen in seen {
            assert_eq!(
                seen.path,
                path::infer("m", Some(version)),
                "the choice goes upstream"
            );
            assert_eq!(seen.headers[headers::ATTEMPT], "1");
        }
    }
}

#[tokio::test]
async fn a_version_of_weight_0_serves_only_those_who_name_it() {
    let setup = SceneSetup::new(1, 1).await.unwrap();
    let setup = setup.with(|proxy| proxy.set_model("versions.2.weight", 0));
    let scene = setup.start().await.unwrap();
    for _ in 0..200 {
        assert_eq!(scene.proxy.infer("{}").await.unwrap().version(), STABLE);
    }
    assert_eq!(scene.canary[0].asked(), 0);
    assert_eq!(
        scene
            .proxy
            .infer_pinned(CANARY, "{}")
            .await
            .unwrap()
            .version(),
        CANARY
    );
}

#[tokio::test]
async fn a_model_or_version_that_is_not_there_is_refused_with_those_that_are() {
    let scene = Scene::start(1, 1).await.unwrap();
    let client = Client::new();
    let data = scene.proxy.data();
    for version in [None, Some("1")] {
        let answer = client
            .post(data, &path::infer("n", version), "{}")
            .await
            .unwrap();
        assert_eq!(
            (answer.status, answer.reason()),
            (StatusCode::NOT_FOUND, "unknown_model")
        );
        let error = answer.error().unwrap();
        assert!(error.contains("`n`") && error.ends_with('m'), "{error}");
    }
    let by_path = client
        .post(data, &path::infer("m", Some("3")), "{}")
        .await
        .unwrap();
    let by_header = [(headers::MODEL_VERSION, "3")];
    let by_header = client
        .post_with(data, &path::infer("m", None), "{}", &by_header)
        .await
        .unwrap();
    for answer in [by_path, by_header] {
        assert_eq!(
            (answer.status, answer.reason()),
            (StatusCode::NOT_FOUND, "unknown_version")
        );
        let error = answer.error().unwrap();
        assert!(
            ["3", "1", "2"]
                .iter()
                .all(|version| error.contains(version)),
            "{error}"
        );
    }
    assert_eq!(scene.stable[0].asked() + scene.canary[0].asked(), 0);
}
