//! What probes see: before, while and after models load.

use std::sync::Arc;

use aegis_backend::app::Phase;
use aegis_backend::model::{Model, ModelError};
use aegis_protocol::Tensor;

use crate::support::{Backend, ECHO, Setup, echo_body, until};

/// A model whose file is not there.
const MISSING: &str = r#"
[[inputs]]
name = "x"
datatype = "FP32"
shape = [-1, 2]
[[outputs]]
name = "y"
datatype = "FP32"
shape = [-1, 2]
"#;

const FAULTY: &str = "platfrom = \"scripted\"\ninstances = 0";

#[tokio::test]
async fn a_ready_server_says_so_everywhere() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    for path in [
        "/health",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/echo/ready",
        "/v2/models/echo/versions/2/ready",
    ] {
        assert_eq!(backend.get(path).await.status, 200, "{path}");
    }
    let health = backend.get("/health").await.json();
    assert_eq!(health["loaded"], true);
    assert_eq!(health["draining"], false);
    assert_eq!(health["model_version"], "echo:1,echo:2");
    assert_eq!(health["models"][1]["version"], "2");
    assert_eq!(health["models"][1]["warm"], true);
    let ready = backend.get("/v2/models/echo/versions/2/ready").await;
    assert_eq!(ready.header("x-aegis-model-version"), Some("2"));
    assert_eq!(ready.json()["ready"], true);
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_is_explained_and_the_others_are_served() {
    let models = [("echo", ECHO), ("missing", MISSING), ("faulty", FAULTY)];
    let backend = Setup {
        keys: "",
        models: &models,
    }
    .start()
    .await;
    let ready = || async { backend.get("/v2/models/echo/versions/2/ready").await.status == 200 };
    until(ready).await;
    // The models load in the order of their names.
    let decided = || async {
        let health = backend.get("/health").await.json();
        let models = health["models"].as_array().unwrap().clone();
        models.iter().all(|model| model["reason"] != "loading")
    };
    until(decided).await;
    let reply = backend.get("/health").await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header("x-aegis-reason"), Some("not_ready"));
    let health = reply.json();
    assert_eq!(health["loaded"], false);
    let reason = |model: &str| {
        let models = health["models"].as_array().unwrap();
        let found = models.iter().find(|one| one["name"] == model).unwrap();
        assert_eq!(found["loaded"], false, "{model}");
        found["reason"].as_str().unwrap().to_owned()
    };
    let file = if cfg!(feature = "torch") {
        "missing/1/model.pt"
    } else {
        "no executor"
    };
    assert!(reason("missing").contains(file), "{}", reason("missing"));
    let faulty = reason("faulty");
    assert!(
        faulty.contains("platfrom") && faulty.contains("instances"),
        "{faulty}"
    );

    let reply = backend.infer("missing", "{}").await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header("x-aegis-reason"), Some("not_ready"));
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert!(reply.error().contains(file), "{}", reply.error());
    assert_eq!(backend.get("/v2/models/missing/ready").await.status, 503);
    assert_eq!(backend.get("/v2/health/ready").await.status, 503);
    assert_eq!(
        backend.get("/v2/health/live").await.status,
        200,
        "a restart would not help"
    );
    assert_eq!(
        backend.get("/v2/models/missing").await.status,
        200,
        "its description is right"
    );
    assert_eq!(backend.get("/v2/models/faulty").await.status, 503);
    assert_eq!(backend.infer("echo", echo_body(&[1.0])).await.status, 200);
    let loaded = "aegis_model_loaded{model=\"missing\",model_version=\"1\"}";
    assert!(backend.metric(loaded).await < 0.5);
    let loaded = "aegis_model_loaded{model=\"echo\",model_version=\"1\"}";
    assert!(backend.metric(loaded).await > 0.5);
}

#[tokio::test]
async fn while_models_load_it_answers_that_they_are_not() {
    let backend = Setup {
        keys: "",
        models: &[("echo", ECHO)],
    }
    .listen()
    .await;
    let reply = backend.get("/health").await;
    assert_eq!(reply.status, 503);
    let health = reply.json();
    assert_eq!(
        (&health["loaded"], &health["models"][0]["loaded"]),
        (&false.into(), &false.into())
    );
    assert_eq!(health["models"][0]["reason"], "loading");
    assert_eq!(backend.get("/v2/health/live").await.status, 200);
    let ready = backend.get("/v2/models/echo/ready").await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.header("x-aegis-reason"), Some("not_ready"));
    let reply = backend.infer("echo", echo_body(&[1.0])).await;
    assert_eq!(
        reply.error(),
        "model `echo` version `1` is not ready: it is loading"
    );
    backend.load();
    assert_eq!(backend.when_ready().await.get("/health").await.status, 200);
}

/// Comes up, and panics on 13.
struct Unlucky;

impl Model for Unlucky {
    fn run(&mut self, batch: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        assert!(
            !batch[0].as_f32().unwrap().contains(&13.0),
            "a panic that the test asked for"
        );
        Ok(batch.to_vec())
    }

    fn warm_up(&mut self, batch: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        Ok(batch.to_vec())
    }
}

#[tokio::test]
async fn one_lost_instance_of_several_asks_for_a_restart_while_the_others_serve() {
    let two = format!("instances = 2\n{ECHO}");
    let backend = Setup {
        keys: "drain_delay_ms = 10000",
        models: &[("echo", &two)],
    }
    .listen()
    .await;
    for served in backend.app.models.all() {
        served.load(Ok(Arc::new(|| Ok(Box::new(Unlucky)))), &Arc::default());
    }
    let live = "/v2/health/live";
    assert_eq!(backend.get(live).await.status, 200);
    assert_eq!(backend.infer("echo", echo_body(&[13.0])).await.status, 500);
    until(|| async { backend.get("/v2/health/ready").await.status == 503 }).await;
    let reply = backend.get(live).await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.json()["live"], false);
    // Whoever still comes is answered.
    for _ in 0..4 {
        assert_eq!(backend.infer("echo", echo_body(&[1.0])).await.status, 200);
    }
    // The restart comes as a drain, which nobody should cut short.
    backend.stop.send(()).await.unwrap();
    until(|| async { backend.app.phase() == Phase::Leaving }).await;
    assert_eq!(backend.get(live).await.status, 200);
    assert_eq!(backend.infer("echo", echo_body(&[1.0])).await.status, 200);
    backend.stop.send(()).await.unwrap();
}

/// Comes up, and then panics.
struct Panics;

impl Model for Panics {
    fn run(&mut self, _: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        panic!("a panic that the test asked for")
    }

    fn warm_up(&mut self, batch: &[Tensor]) -> Result<Vec<Tensor>, ModelError> {
        Ok(batch.to_vec())
    }
}

#[tokio::test]
async fn a_model_whose_thread_died_is_not_ready_and_the_process_asks_to_be_restarted() {
    let backend = Setup {
        keys: "",
        models: &[("echo", ECHO)],
    }
    .listen()
    .await;
    for served in backend.app.models.all() {
        served.load(Ok(Arc::new(|| Ok(Box::new(Panics)))), &Arc::default());
    }
    assert_eq!(backend.get("/health").await.status, 200);
    let reply = backend.infer("echo", echo_body(&[1.0])).await;
    assert_eq!(reply.status, 500);
    assert_eq!(reply.header("x-aegis-reason"), Some("model_error"));
    assert_eq!(reply.error(), "the instance that ran the request died");
    until(|| async { backend.get("/v2/models/echo/ready").await.status == 503 }).await;
    let ready = backend.get("/v2/models/echo/ready").await;
    assert!(
        ready.error().contains("instance 0 of echo/1 panicked"),
        "{}",
        ready.error()
    );
    let reply = backend.infer("echo", echo_body(&[1.0])).await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header("x-aegis-reason"), Some("not_ready"));
    let health = backend.get("/health").await.json();
    assert_eq!(
        (&health["models"][0]["loaded"], &health["models"][0]["warm"]),
        (&true.into(), &false.into())
    );
    assert_eq!(backend.get("/v2/health/live").await.status, 503);
    assert_eq!(
        backend.get("/v2/models/echo/versions/2/ready").await.status,
        200
    );
}

#[tokio::test]
async fn head_is_answered_like_get_without_a_body() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let request = http::Request::head("/health")
        .body(http_body_util::Full::default())
        .unwrap();
    let reply = backend.send(request).await;
    assert_eq!(reply.status, 200);
    assert!(reply.body.is_empty());
}
