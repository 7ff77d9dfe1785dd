//! What an operator does by hand: going back to the configuration before, draining an endpoint.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use aegis_e2e::{CANARY, Hammer, Proxy, STABLE, Scene, SceneSetup};
use http::StatusCode;

/// The weight of the canary that is in force.
async fn weight(proxy: &Proxy) -> Option<f64> {
    let metrics = proxy.metrics().await.unwrap();
    metrics.value("aegis_proxy_split_weight", &[("model_version", CANARY)])
}

#[tokio::test]
async fn a_rollback_takes_what_ran_before_until_a_newer_file_comes() {
    let mut scene = Scene::start(1, 1).await.unwrap();
    let nothing = scene.proxy.tell_admin("/rollback").await.unwrap();
    assert_eq!(nothing.status, StatusCode::CONFLICT);
    scene.proxy.set_model("versions.2.weight", 50);
    let second = scene.proxy.apply().await.unwrap();
    assert_eq!(weight(&scene.proxy).await, Some(50.0));

    let back = scene.proxy.tell_admin("/rollback").await.unwrap();
    assert_eq!(back.status, StatusCode::OK, "{back:?}");
    assert_eq!(back.json().unwrap()["trigger"], "rollback");
    assert_eq!(weight(&scene.proxy).await, Some(10.0));
    assert!(scene.proxy.generation().await.unwrap() > second);

    scene.proxy.set_model("versions.2.weight", 20);
    scene.proxy.apply().await.unwrap();
    assert_eq!(weight(&scene.proxy).await, Some(20.0));
}

#[tokio::test]
async fn a_drained_endpoint_gets_nothing_until_it_is_put_back() {
    let setup = SceneSetup::new(2, 0).await.unwrap();
    let setup = setup.with(|proxy| proxy.set_model("balance.slow_start_ms", 0));
    let scene = setup.start().await.unwrap();
    let path = |address: &str, word: &str| {
        format!("/models/m/versions/{STABLE}/endpoints/{address}/{word}")
    };
    let address = scene.stable[0].address().to_string();
    let answer = scene
        .proxy
        .tell_admin(&path(&address, "drain"))
        .await
        .unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let asked = scene.stable[0].asked();
    let load = Hammer::start(scene.proxy.data(), &scene.proxy.infer_path(), "{}", 4);
    load.ask(200).await.unwrap();
    load.stop().await.all_ok().unwrap();
    assert_eq!(scene.stable[0].asked(), asked);

    scene
        .proxy
        .tell_admin(&path(&address, "undrain"))
        .await
        .unwrap();
    let load = Hammer::start(scene.proxy.data(), &scene.proxy.infer_path(), "{}", 4);
    load.ask(200).await.unwrap();
    load.stop().await.all_ok().unwrap();
    assert!(scene.stable[0].asked() > asked);

    for (path, status) in [
        (path("10.9.9.9:1", "drain"), StatusCode::NOT_FOUND),
        (path("nonsense", "drain"), StatusCode::BAD_REQUEST),
        (path(&address, "dance"), StatusCode::NOT_FOUND),
        (
            "/models/x/versions/1/endpoints/10.0.0.1:1/drain".to_owned(),
            StatusCode::NOT_FOUND,
        ),
    ] {
        let answer = scene.proxy.tell_admin(&path).await.unwrap();
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert!(!answer.error().unwrap().is_empty());
    }
}
