//! Shadow traffic: what it finds, and that no client and no breaker notices.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::time::Duration;

use aegis_e2e::digits::{self, MODEL};
use aegis_e2e::{
    Backend, BackendSetup, Binaries, CANARY, Client, Hammer, Play, Proxy, ProxySetup, STABLE,
    Scene, SceneSetup, Upstream, until, workspace_root,
};
use aegis_protocol::grpc::{self, InferOutputTensor, ModelInferRequest, ModelInferResponse};
use aegis_protocol::headers::JSON_LENGTH;
use anyhow::{Result, ensure};
use http::header::{CONTENT_TYPE, TE};
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tempfile::TempDir;
use toml_edit::Array;

const REQUESTS: &str = "aegis_proxy_shadow_requests_total";
const BODY: &str = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1]}]}"#;

/// An answer with the scores of three classes.
fn scores(scores: [f64; 3]) -> String {
    let outputs = json!([{"name": "scores", "datatype": "FP32", "shape": [1, 3], "data": scores}]);
    json!({"model_name": "m", "outputs": outputs}).to_string()
}

/// One endpoint of each version; version 2 gets no traffic but the shadow's.
async fn scene(more: &[(&str, i64)]) -> Scene {
    let setup = SceneSetup::new(1, 1).await.unwrap();
    let setup = setup.with(|proxy| {
        let proxy = proxy
            .set_model("versions.2.weight", 0)
            .set_model("shadow.version", CANARY)
            .set_model("shadow.percent", 100.0);
        more.iter()
            .fold(proxy, |proxy, (key, value)| proxy.set_model(key, *value))
    });
    setup.start().await.unwrap()
}

async fn ended(proxy: &Proxy, result: &str) -> Result<u64> {
    proxy
        .metrics()
        .await?
        .count(REQUESTS, &[("result", result)])
}

/// Waits until so many requests for the shadow have ended like this.
async fn until_ended(proxy: &Proxy, result: &str, count: u64) {
    until(&format!("{count} to end in {result}"), async || {
        let now = ended(proxy, result).await?;
        ensure!(
            now >= count,
            "{now} have: {}",
            proxy.ask_admin("/metrics").await?.text()
        );
        Ok(())
    })
    .await
    .unwrap();
}

async fn shadow_status(proxy: &Proxy) -> Value {
    let status = proxy.ask_admin("/status").await.unwrap().json().unwrap();
    status["models"]["m"]["shadow"].clone()
}

async fn ask(proxy: &Proxy, times: u64) {
    for _ in 0..times {
        let answer = proxy.infer(BODY).await.unwrap();
        assert_eq!((answer.status, answer.version()), (StatusCode::OK, STABLE));
    }
}

#[tokio::test]
async fn equal_versions_agree_and_a_planted_difference_is_found() {
    let scene = scene(&[]).await;
    let (stable, canary) = (&scene.stable[0], &scene.canary[0]);
    stable.set_answer(scores([0.1, 0.7, 0.2]));
    canary.set_answer(scores([0.1, 0.7, 0.2]));
    ask(&scene.proxy, 20).await;
    until_ended(&scene.proxy, "agreed", 20).await;
    assert_eq!(ended(&scene.proxy, "differed").await.unwrap(), 0);
    let status = shadow_status(&scene.proxy).await;
    assert_eq!(status["worst"]["absolute"], 0.0, "{status}");

    canary.set_answer(scores([0.1, 0.701, 0.2]));
    ask(&scene.proxy, 5).await;
    until_ended(&scene.proxy, "differed", 5).await;
    let status = shadow_status(&scene.proxy).await;
    assert_eq!(
        (&status["compared"], &status["agreed"]),
        (&json!(25), &json!(20))
    );
    assert_eq!(status["worst"]["output"], "scores");
    let worst = status["worst"]["absolute"].as_f64().unwrap();
    assert!((worst - 1e-3).abs() < 1e-6, "{worst}");

    // The largest moves with it.
    canary.set_answer(scores([0.8, 0.7, 0.2]));
    ask(&scene.proxy, 3).await;
    until_ended(&scene.proxy, "differed", 8).await;
    let metrics = scene.proxy.metrics().await.unwrap();
    let rows = |result| {
        let labels = [("output", "scores"), ("result", result)];
        metrics
            .count("aegis_proxy_shadow_argmax_total", &labels)
            .unwrap()
    };
    assert_eq!((rows("agreed"), rows("differed")), (25, 3));

    canary.set_answer(json!({"model_name": "m", "outputs": []}).to_string());
    ask(&scene.proxy, 1).await;
    until_ended(&scene.proxy, "mismatched", 1).await;
}

/// The same scores as tensors behind their JSON, and how long that is.
fn binary_scores(scores: [f32; 3]) -> (usize, Vec<u8>) {
    let parameters = json!({"binary_data_size": 12});
    let outputs = json!([
        {"name": "scores", "datatype": "FP32", "shape": [1, 3], "parameters": parameters}
    ]);
    let json = json!({"model_name": "m", "outputs": outputs}).to_string();
    let raw = scores.iter().flat_map(|score| score.to_le_bytes());
    (json.len(), json.bytes().chain(raw).collect())
}

#[tokio::test]
async fn tensors_behind_the_json_are_asked_for_and_compared_as_numbers() {
    let scene = scene(&[]).await;
    let (stable, canary) = (&scene.stable[0], &scene.canary[0]);
    let input = json!({"name": "x", "datatype": "FP32", "shape": [1],
        "parameters": {"binary_data_size": 4}});
    let json = json!({"inputs": [input], "parameters": {"binary_data_output": true}}).to_string();
    let body = [json.as_bytes(), &1.0_f32.to_le_bytes()].concat();
    let length = json.len().to_string();
    let ask = async || {
        let headers = [
            (CONTENT_TYPE, "application/octet-stream"),
            (JSON_LENGTH, length.as_str()),
        ];
        let answer = scene
            .proxy
            .infer_with(body.clone(), &headers)
            .await
            .unwrap();
        assert_eq!(answer.status, StatusCode::OK);
    };
    let same = binary_scores([0.1, 0.7, 0.2]);
    stable.set_binary_answer(same.0, same.1.clone());
    canary.set_binary_answer(same.0, same.1);
    ask().await;
    until_ended(&scene.proxy, "agreed", 1).await;
    let seen = canary.take_seen().pop().unwrap();
    assert_eq!(seen.body, body);
    assert_eq!(seen.headers["inference-header-content-length"], length);
    assert_eq!(seen.headers["content-type"], "application/octet-stream");

    let other = binary_scores([0.1, 0.701, 0.2]);
    canary.set_binary_answer(other.0, other.1);
    ask().await;
    until_ended(&scene.proxy, "differed", 1).await;
    let status = shadow_status(&scene.proxy).await;
    let worst = status["worst"]["absolute"].as_f64().unwrap();
    assert!((worst - 1e-3).abs() < 1e-6, "{worst}");

    // One may answer in JSON what the other answers in bytes.
    canary.set_answer(scores([0.1, 0.7, 0.2]));
    ask().await;
    until_ended(&scene.proxy, "agreed", 2).await;

    // Fewer bytes than it says are no answer.
    let (length, whole) = binary_scores([0.1, 0.7, 0.2]);
    canary.set_binary_answer(length, whole[..length + 8].to_vec());
    ask().await;
    until_ended(&scene.proxy, "unreadable", 1).await;
}

/// The same scores as the answer to a call.
fn call_scores(scores: [f32; 3]) -> ModelInferResponse {
    let raw: Vec<u8> = scores
        .iter()
        .flat_map(|score| score.to_le_bytes())
        .collect();
    ModelInferResponse {
        model_name: "m".to_owned(),
        outputs: vec![InferOutputTensor {
            name: "scores".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![1, 3],
        }],
        raw_output_contents: vec![raw.into()],
        ..ModelInferResponse::default()
    }
}

#[tokio::test]
async fn a_call_is_asked_of_the_shadow_too_and_its_answers_compared() {
    let scene = scene(&[]).await;
    let (stable, canary) = (&scene.stable[0], &scene.canary[0]);
    let client = Client::http2();
    let asked = grpc::frame(&ModelInferRequest {
        model_name: "m".to_owned(),
        id: "one".to_owned(),
        ..ModelInferRequest::default()
    });
    let ask = async || {
        let at = scene.proxy.data();
        let uri = format!("http://{at}/inference.GRPCInferenceService/ModelInfer");
        let request = Request::post(uri)
            .header(CONTENT_TYPE, "application/grpc")
            .header(TE, "trailers")
            .body(Full::new(asked.clone()));
        let answer = client.send(request.unwrap()).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.version(), STABLE);
    };
    stable.set_call_answer(call_scores([0.1, 0.7, 0.2]));
    canary.set_call_answer(call_scores([0.1, 0.7, 0.2]));
    ask().await;
    until_ended(&scene.proxy, "agreed", 1).await;
    let copy = canary.take_seen().pop().unwrap();
    assert_eq!(copy.headers["x-aegis-shadow"], "1");
    let message = copy.infer_request().unwrap();
    assert_eq!((&*message.model_version, &*message.id), (CANARY, "one"));

    canary.set_call_answer(call_scores([0.1, 0.701, 0.2]));
    ask().await;
    until_ended(&scene.proxy, "differed", 1).await;
    let status = shadow_status(&scene.proxy).await;
    let worst = status["worst"]["absolute"].as_f64().unwrap();
    assert!((worst - 1e-3).abs() < 1e-6, "{worst}");

    // It is taken for no answer where its trailers say that it failed, or there is none.
    canary.play(Play::FailLate);
    ask().await;
    until_ended(&scene.proxy, "status", 1).await;
    canary.play(Play::Status(StatusCode::BAD_REQUEST));
    ask().await;
    until_ended(&scene.proxy, "status", 2).await;
    // And a call that fails late is asked of nobody else.
    stable.play(Play::FailLate);
    let copies = canary.asked();
    ask().await;
    until_ended(&scene.proxy, "cut_short", 1).await;
    assert_eq!(canary.asked(), copies);
}

#[tokio::test]
async fn a_copy_is_the_request_and_says_what_it_is() {
    let scene = scene(&[]).await;
    // One that pingora keeps, and one that is longer.
    let long = format!("{BODY}{}", " ".repeat(200_000));
    for (n, body) in [(1, BODY.to_owned()), (2, long)] {
        scene.proxy.infer(body.clone()).await.unwrap();
        until("the copy", async || {
            ensure!(
                scene.canary[0].asked() == n,
                "{} came",
                scene.canary[0].asked()
            );
            Ok(())
        })
        .await
        .unwrap();
        let seen = until("the copy's body", async || {
            scene.canary[0]
                .take_seen()
                .pop()
                .ok_or_else(|| anyhow::anyhow!("none yet"))
        })
        .await
        .unwrap();
        assert_eq!(seen.body, body);
        assert_eq!(seen.path, "/v2/models/m/versions/2/infer");
        assert_eq!(seen.headers["x-aegis-shadow"], "1");
    }
}

/// What the proxy knows of the canary's endpoint, less what its checks find.
async fn traces(proxy: &Proxy) -> Value {
    let status = proxy.ask_admin("/status").await.unwrap().json().unwrap();
    let endpoint = &status["models"]["m"]["versions"][CANARY]["endpoints"][0];
    let keys = [
        "breaker",
        "failures",
        "requests",
        "in_flight",
        "slow",
        "failures_in_a_row",
    ];
    keys.iter().map(|key| endpoint[key].clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_that_fails_or_hangs_is_noticed_by_nobody_else() {
    let scene = scene(&[("shadow.max_at_once", 2), ("shadow.answer_timeout_ms", 300)]).await;
    let before = traces(&scene.proxy).await;
    let canary: &Upstream = &scene.canary[0];
    let load = Hammer::start(scene.proxy.data(), &scene.proxy.infer_path(), BODY, 4);
    for (play, result) in [
        (Play::Status(StatusCode::INTERNAL_SERVER_ERROR), "status"),
        (Play::HangUp, "failed"),
        (Play::Hang, "timeout"),
    ] {
        canary.play(play);
        until_ended(&scene.proxy, result, 10).await;
    }
    until_ended(&scene.proxy, "busy", 100).await;
    let tally = load.stop().await;
    tally.all_ok().unwrap();
    assert_eq!(tally.by_version(STABLE), tally.asked);
    assert_eq!(traces(&scene.proxy).await, before);
    let metrics = scene.proxy.metrics().await.unwrap();
    assert_eq!(metrics.count("aegis_proxy_retries_total", &[]).unwrap(), 0);
    let requests = |version| {
        metrics
            .count("aegis_proxy_requests_total", &[("model_version", version)])
            .unwrap()
    };
    assert_eq!(requests(CANARY), 0);
}

#[tokio::test]
async fn what_is_too_large_or_not_drawn_is_not_copied() {
    let mut scene = scene(&[("shadow.max_kept_bytes", 500)]).await;
    scene
        .proxy
        .infer(format!("{BODY}{}", " ".repeat(500)))
        .await
        .unwrap();
    until_ended(&scene.proxy, "too_large", 1).await;
    scene.stable[0].set_answer(format!("{}{}", scores([0.1, 0.7, 0.2]), " ".repeat(500)));
    ask(&scene.proxy, 1).await;
    until_ended(&scene.proxy, "too_large", 2).await;
    assert_eq!(scene.canary[0].asked(), 0);

    // Off again: its series leave, and nothing is drawn any more.
    scene.proxy.set_model("shadow.version", STABLE);
    scene.proxy.apply().await.unwrap();
    ask(&scene.proxy, 10).await;
    let metrics = scene.proxy.metrics().await.unwrap();
    let old = metrics
        .samples(REQUESTS, &[("model_version", CANARY)])
        .count();
    assert_eq!((old, metrics.count(REQUESTS, &[]).unwrap()), (0, 0));
}

#[tokio::test]
async fn a_part_of_the_traffic_is_a_part_of_the_traffic() {
    let setup = SceneSetup::new(1, 1).await.unwrap();
    let setup = setup.with(|proxy| {
        proxy
            .set_model("versions.2.weight", 0)
            .set_model("shadow.version", CANARY)
            .set_model("shadow.percent", 20.0)
    });
    let scene = setup.start().await.unwrap();
    scene.canary[0].play(Play::AnswerAfter(Duration::ZERO));
    ask(&scene.proxy, 500).await;
    let drawn = scene.proxy.metrics().await.unwrap().sum(REQUESTS, &[]);
    // 100 are expected, with a standard deviation of 9.
    until("the last copies", async || {
        let metrics = scene.proxy.metrics().await?;
        let ended = metrics.sum(REQUESTS, &[]);
        ensure!(
            (50.0..150.0).contains(&ended),
            "{ended} were drawn, {drawn} at first"
        );
        Ok(())
    })
    .await
    .unwrap();
}

/// The shipped model with its first version under the name of the second.
fn twins() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let shipped = workspace_root().join("config/models").join(MODEL);
    let ours = folder.path().join(MODEL);
    fs::create_dir_all(ours.join(CANARY)).unwrap();
    for (from, to) in [
        ("model.toml", "model.toml"),
        ("1/model.pt", "2/model.pt"),
        ("1/safety.json", "2/safety.json"),
    ] {
        fs::copy(shipped.join(from), ours.join(to)).unwrap();
    }
    folder
}

async fn backend(setup: BackendSetup) -> Backend {
    let backend = setup.start(Binaries::built().unwrap()).await.unwrap();
    backend.ready().await.unwrap();
    backend
}

#[tokio::test]
async fn real_models_that_are_equal_agree_and_others_differ() {
    let twins = twins();
    let primary = backend(BackendSetup::new(MODEL, &[STABLE])).await;
    let twin = backend(BackendSetup::new(MODEL, &[CANARY]).repository(twins.path())).await;
    let other = backend(BackendSetup::new(MODEL, &[CANARY])).await;
    let setup = ProxySetup::new(MODEL)
        .pool(STABLE, 1, &[primary.address()])
        .pool(CANARY, 0, &[twin.address()])
        .set_model("shadow.version", CANARY)
        .set_model("shadow.percent", 100.0);
    let mut proxy = setup.start(Binaries::built().unwrap()).await.unwrap();
    let digits = digits::held_out().unwrap();
    for digit in &digits[..50] {
        proxy.infer(digits::request(&[*digit])).await.unwrap();
    }
    until_ended(&proxy, "agreed", 50).await;

    let endpoints = Array::from_iter([other.address().to_string()]);
    proxy.set_model("versions.2.endpoints", endpoints);
    proxy.apply().await.unwrap();
    proxy.until_available(CANARY, 1.0).await.unwrap();
    for digit in &digits[..50] {
        proxy.infer(digits::request(&[*digit])).await.unwrap();
    }
    until("all to be compared", async || {
        let metrics = proxy.metrics().await?;
        let ended = metrics.count(REQUESTS, &[])?;
        ensure!(ended == 100, "{ended} are");
        Ok(())
    })
    .await
    .unwrap();
    // Of an image that both are sure about, the numbers are alike too.
    let differed = ended(&proxy, "differed").await.unwrap();
    let agreed = ended(&proxy, "agreed").await.unwrap();
    assert!(
        differed >= 20 && agreed + differed == 100,
        "{differed} differ"
    );
    let metrics = proxy.metrics().await.unwrap();
    let rows = |result| {
        let labels = [("output", "probabilities"), ("result", result)];
        metrics
            .count("aegis_proxy_shadow_argmax_total", &labels)
            .unwrap()
    };
    // Both are right about nearly all of them, with other probabilities.
    assert!(rows("agreed") >= 90 && rows("agreed") + rows("differed") == 100);
}
