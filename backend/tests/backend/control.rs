//! Models that are loaded and unloaded while the server runs.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aegis_backend::clock;
use aegis_protocol::path::{self, REPOSITORY_INDEX};
use serde_json::{Value, json};

use crate::integrity::Signed;
use crate::support::{Backend, Client, ECHO, LONG, Reply, Setup, echo_body, infer, until};

const EXPLICIT: &str = "model_control = \"explicit\"";

async fn explicit() -> Backend {
    Backend::ready_with(EXPLICIT, &[("echo", ECHO)]).await
}

/// Writes the description of a model into the repository, and makes folders for its versions.
fn write(backend: &Backend, model: &str, text: &str, versions: &[&str]) {
    let folder = backend.folder.path().join("models").join(model);
    for version in versions {
        fs::create_dir_all(folder.join(version)).unwrap();
    }
    fs::write(folder.join("model.toml"), text).unwrap();
}

async fn load(backend: &Backend, model: &str) -> Reply {
    backend.post(&path::repository_load(model), "").await
}

async fn unload(backend: &Backend, model: &str) -> Reply {
    backend.post(&path::repository_unload(model), "").await
}

async fn index(backend: &Backend, body: &str) -> Vec<Value> {
    let reply = backend.post(REPOSITORY_INDEX, body.to_owned()).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json().as_array().unwrap().clone()
}

/// A slow model: `ms` for each of the three runs of its warm-up.
fn slow(ms: u32) -> String {
    let text = ECHO.replace("platform", "max_batch_size = 1\nplatform");
    format!("{text}batch_ms = {ms}\n")
}

#[tokio::test]
async fn unless_it_is_allowed_nothing_is_loaded_and_nothing_is_unloaded() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    for path in [
        path::repository_load("echo"),
        path::repository_unload("echo"),
    ] {
        let reply = backend.post(&path, "").await;
        assert_eq!(reply.status, 403, "{path}");
        assert_eq!(reply.header("x-aegis-reason"), Some("forbidden"));
        assert!(reply.error().contains("model_control"), "{}", reply.error());
    }
    assert_eq!(index(&backend, "").await.len(), 2);
    assert_eq!(backend.infer("echo", echo_body(&[1.0])).await.status, 200);
    assert_eq!(
        backend.get("/v2").await.json()["extensions"],
        json!(["binary_tensor_data"])
    );
}

#[tokio::test]
async fn a_model_of_the_repository_is_loaded_and_unloaded_again() {
    let backend = explicit().await;
    write(&backend, "more", ECHO, &["9", "10"]);
    let line = json!({ "name": "more", "state": "UNAVAILABLE", "reason": "not loaded" });
    assert_eq!(index(&backend, "").await[2], line);
    assert_eq!(backend.infer("more", echo_body(&[1.0])).await.status, 404);

    let reply = load(&backend, "more").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let reply = backend.infer("more", echo_body(&[3.0])).await;
    assert_eq!(
        reply.header("x-aegis-model-version"),
        Some("10"),
        "the latest"
    );
    assert_eq!(reply.output(0), [3.0, 3.0]);
    let ready = index(&backend, "{\"ready\": true}").await;
    assert_eq!(
        ready[2],
        json!({ "name": "more", "version": "10", "state": "READY" })
    );
    let health = backend.get("/health").await.json();
    assert_eq!(health["model_version"], "echo:1,echo:2,more:10");
    let series = "aegis_model_loaded{model=\"more\",model_version=\"10\"}";
    assert!(backend.metric(series).await > 0.5);
    let extensions = backend.get("/v2").await.json()["extensions"].clone();
    assert_eq!(
        extensions,
        json!(["binary_tensor_data", "model_repository"])
    );

    assert_eq!(unload(&backend, "more").await.status, 200);
    assert_eq!(backend.infer("more", echo_body(&[1.0])).await.status, 404);
    assert_eq!(backend.get("/v2/models/more/ready").await.status, 404);
    assert_eq!(
        backend.get("/health").await.json()["model_version"],
        "echo:1,echo:2"
    );
    assert_eq!(backend.get("/v2/health/ready").await.status, 200);
    let metrics = backend.get("/metrics").await.text();
    assert!(!metrics.contains("more"), "{metrics}");
    let reply = unload(&backend, "more").await;
    assert_eq!(reply.status, 404);
    assert_eq!(reply.error(), "model `more` is not loaded");
    for (action, result, times) in [
        ("load", "done", 1.0),
        ("unload", "done", 1.0),
        ("unload", "failed", 1.0),
    ] {
        let series =
            format!("aegis_model_control_total{{action=\"{action}\",result=\"{result}\"}}");
        let counted = backend.metric(&series).await;
        assert!((counted - times).abs() < 0.1, "{series}: {counted}");
    }
}

#[tokio::test]
async fn a_load_takes_what_the_repository_holds_now() {
    let backend = explicit().await;
    let sums = ECHO
        .replace("identity", "sum")
        .replace("shape = [-1, 2]\n[scripted]", "shape = [-1]\n[scripted]");
    write(&backend, "echo", &sums, &[]);
    assert_eq!(
        backend.infer("echo", echo_body(&[2.0])).await.output(0),
        [2.0, 2.0]
    );
    let reply = load(&backend, "echo").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(
        backend.infer("echo", echo_body(&[2.0])).await.output(0),
        [4.0]
    );
    let versions = backend.get("/v2/models/echo").await.json()["versions"].clone();
    assert_eq!(versions, json!(["1", "2"]), "those that were served");
}

#[tokio::test]
async fn a_load_that_fails_leaves_what_ran() {
    let backend = explicit().await;
    for (text, words) in [
        ("platfrom = 1", "platfrom"),
        (&*ECHO.replace("FP32", "FP99"), "FP99"),
    ] {
        write(&backend, "echo", text, &[]);
        let reply = load(&backend, "echo").await;
        assert_eq!(reply.status, 500);
        let error = reply.error();
        assert!(
            error.starts_with("model `echo` version `1` was not loaded: "),
            "{error}"
        );
        assert!(error.contains(words), "{error}");
        assert_eq!(
            backend.infer("echo", echo_body(&[2.0])).await.output(0),
            [2.0, 2.0]
        );
        assert_eq!(backend.get("/v2/health/ready").await.status, 200);
        let loaded = "aegis_model_loaded{model=\"echo\",model_version=\"1\"}";
        assert!(backend.metric(loaded).await > 0.5);
    }
    // A version that is not served leaves no series behind.
    let body = json!({ "parameters": { "versions": "7" } }).to_string();
    let reply = backend.post(&path::repository_load("echo"), body).await;
    assert_eq!(reply.status, 500);
    let metrics = backend.get("/metrics").await.text();
    assert!(!metrics.contains("model_version=\"7\""), "{metrics}");
    let reply = load(&backend, "nothing").await;
    assert_eq!(reply.status, 404);
    assert_eq!(reply.error(), "the repository holds no model `nothing`");
}

#[tokio::test]
async fn a_load_that_the_memory_cannot_hold_is_not_begun() {
    let keys = format!("{EXPLICIT}\nmax_model_bytes = {}", 1_u64 << 50);
    let backend = Backend::ready_with(&keys, &[("echo", ECHO)]).await;
    let text = ECHO
        .split("[scripted]")
        .next()
        .unwrap()
        .replace("scripted", "torchscript");
    write(&backend, "huge", &text, &["1"]);
    let weights = backend.folder.path().join("models/huge/1/model.pt");
    // Nothing is written: it only says that it is so large.
    fs::File::create(weights).unwrap().set_len(1 << 42).unwrap();
    let reply = load(&backend, "huge").await;
    assert_eq!(reply.status, 500);
    let expected = format!("it needs {} bytes of memory", 2_u64 << 42);
    assert!(reply.error().contains(&expected), "{}", reply.error());
    assert_eq!(backend.infer("echo", echo_body(&[1.0])).await.status, 200);
}

#[tokio::test]
async fn each_instance_needs_memory_though_its_number_is_known_only_once_it_is_admitted() {
    let free = aegis_backend::memory::free().unwrap();
    let keys = format!(
        "verify = \"warn\"\ntrusted_keys = [\"team.pub\"]\n{EXPLICIT}\nmax_model_bytes = {}",
        1_u64 << 50
    );
    let backend = Signed::new(&keys).serve().await.when_ready().await;
    let text = ECHO
        .split("[scripted]")
        .next()
        .unwrap()
        .replace("platform = \"scripted\"", "instances = 64");
    write(&backend, "huge", &text, &["1"]);
    let weights = backend.folder.path().join("models/huge/1/model.pt");
    // It could be read, and not be loaded 64 times.
    let bytes = free / 16;
    fs::File::create(weights).unwrap().set_len(bytes).unwrap();
    let reply = load(&backend, "huge").await;
    assert_eq!(reply.status, 500);
    let expected = format!("it needs {} bytes of memory", bytes * 65);
    assert!(reply.error().contains(&expected), "{}", reply.error());
    assert_eq!(backend.infer("echo", echo_body(&[1.0])).await.status, 200);
}

#[tokio::test]
async fn the_first_version_that_a_load_names_answers_requests_that_name_none() {
    let backend = explicit().await;
    let body = json!({ "parameters": { "versions": "2,1" } }).to_string();
    let path = path::repository_load("echo");
    assert_eq!(backend.post(&path, body).await.status, 200);
    let reply = backend.infer("echo", echo_body(&[1.0])).await;
    assert_eq!(reply.header("x-aegis-model-version"), Some("2"));
    // One that is left out is served no more.
    let body = json!({ "parameters": { "versions": "1" } }).to_string();
    assert_eq!(backend.post(&path, body).await.status, 200);
    assert_eq!(
        backend.get("/v2/models/echo/versions/2/ready").await.status,
        404
    );
    let metrics = backend.get("/metrics").await.text();
    assert!(!metrics.contains("model_version=\"2\""), "{metrics}");
    // And after an unload the configuration counts again.
    assert_eq!(unload(&backend, "echo").await.status, 200);
    assert_eq!(load(&backend, "echo").await.status, 200);
    assert_eq!(
        backend.get("/v2/models/echo/versions/2/ready").await.status,
        200
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_anything_is_touched() {
    let backend = explicit().await;
    let path = path::repository_load("echo");
    for (body, words) in [
        ("{", "body: "),
        ("[]", "body: "),
        (
            r#"{"parameters": {"config": "{}"}}"#,
            "parameters.config: not supported",
        ),
        (
            r#"{"parameters": {"versions": "../../etc"}}"#,
            "parameters.versions: expected",
        ),
        (
            r#"{"parameters": {"versions": ""}}"#,
            "parameters.versions: expected",
        ),
        (
            r#"{"parameters": {"versions": "1,1"}}"#,
            "parameters.versions: expected",
        ),
    ] {
        let reply = backend.post(&path, body).await;
        assert_eq!(reply.status, 400, "{body}");
        assert!(reply.error().contains(words), "{body}: {}", reply.error());
    }
    let reply = backend.post(&path, vec![b' '; 70_000]).await;
    assert_eq!(reply.status, 413);
    assert_eq!(load(&backend, ".hidden").await.status, 404);
    assert_eq!(backend.get(&path).await.status, 405);
    assert_eq!(backend.get("/v2/health/ready").await.status, 200);
}

#[tokio::test]
async fn a_request_that_runs_is_answered_though_its_model_is_unloaded() {
    let backend = Backend::ready_with(EXPLICIT, &[("slow", &slow(100))]).await;
    let mut client = Client::connect(backend.address).await;
    let asked = tokio::spawn(async move { client.send(infer("slow", echo_body(&[5.0]))).await });
    let in_flight = "aegis_inference_in_flight{model=\"slow\",model_version=\"1\"}";
    until(|| async { backend.metric(in_flight).await > 0.5 }).await;
    assert_eq!(unload(&backend, "slow").await.status, 200);
    assert_eq!(asked.await.unwrap().output(0), [5.0, 5.0]);
    assert_eq!(backend.get("/v2/models/slow").await.status, 404);
}

#[tokio::test]
async fn the_gauges_of_a_version_that_is_loaded_anew_are_those_of_what_is_served() {
    let backend = Backend::ready_with(EXPLICIT, &[("slow", &slow(700))]).await;
    let address = backend.address;
    let ask = |_| {
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            client.send(infer("slow", echo_body(&[5.0]))).await
        })
    };
    let asked: Vec<_> = (0..3).map(ask).collect();
    let gauge = |name: &str| format!("{name}{{model=\"slow\",model_version=\"1\"}}");
    let depth = async || backend.metric(&gauge("aegis_inference_queue_depth")).await;
    until(|| async { depth().await > 1.5 }).await;
    assert_eq!(load(&backend, "slow").await.status, 200);
    // Two wait for the one that was there before.
    assert!(depth().await < 0.5);
    for asked in asked {
        assert_eq!(asked.await.unwrap().output(0), [5.0, 5.0]);
        assert!(depth().await < 0.5);
    }
    assert!(backend.metric(&gauge("aegis_model_loaded")).await > 0.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_its_model_is_loaded_anew() {
    let backend = Arc::new(explicit().await);
    let stop = Arc::new(AtomicBool::new(false));
    let ask = |_| {
        let (address, stop) = (backend.address, Arc::clone(&stop));
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            let mut answered = 0;
            while !stop.load(Ordering::Relaxed) {
                let reply = client.send(infer("echo", echo_body(&[1.0]))).await;
                assert_eq!(reply.status, 200, "{}", reply.text());
                answered += 1;
            }
            answered
        })
    };
    let clients: Vec<_> = (0..4).map(ask).collect();
    for _ in 0..20 {
        assert_eq!(load(&backend, "echo").await.status, 200);
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_and_unloads_that_meet_end_as_the_last_of_them_says() {
    let backend = Arc::new(explicit().await);
    let change = |at: usize| {
        let backend = Arc::clone(&backend);
        tokio::spawn(async move {
            let reply = if at.is_multiple_of(2) {
                load(&backend, "echo").await
            } else {
                unload(&backend, "echo").await
            };
            // An unload that meets another finds nothing, and the seventeenth finds no room.
            assert!(
                [200, 404, 429].contains(&reply.status.as_u16()),
                "{}",
                reply.text()
            );
        })
    };
    let changes: Vec<_> = (0..24).map(change).collect();
    for change in changes {
        change.await.unwrap();
    }
    assert_eq!(load(&backend, "echo").await.status, 200);
    assert_eq!(backend.infer("echo", echo_body(&[1.0])).await.status, 200);
    assert_eq!(backend.get("/v2/health/ready").await.status, 200);
    assert_eq!(unload(&backend, "echo").await.status, 200);
    assert_eq!(backend.infer("echo", echo_body(&[1.0])).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_so_many_changes_wait() {
    let backend = Backend::ready_with(EXPLICIT, &[("slow", &slow(5))]).await;
    let backend = Arc::new(backend);
    let change = |_| {
        let backend = Arc::clone(&backend);
        tokio::spawn(async move { load(&backend, "slow").await })
    };
    let changes: Vec<_> = (0..40).map(change).collect();
    let (mut done, mut refused) = (0, 0);
    for change in changes {
        let reply = change.await.unwrap();
        match reply.status.as_u16() {
            200 => done += 1,
            429 => {
                assert_eq!(reply.header("retry-after"), Some("1"));
                refused += 1;
            }
            other => panic!("{other}: {}", reply.text()),
        }
    }
    // How many may wait is proved beside the queue. Here some of those that wait have their turn while
    // others still come.
    assert!(done >= 16 && refused >= 1, "{done} done, {refused} refused");
}

#[tokio::test]
async fn what_is_loaded_at_run_time_must_be_signed_too() {
    let keys = "verify = \"required\"\ntrusted_keys = [\"team.pub\"]\nmodel_control = \"explicit\"";
    let backend = Signed::new(keys).serve().await.when_ready().await;
    let version = backend.folder.path().join("models/echo/2");
    fs::write(version.join("labels.txt"), "changed").unwrap();
    let reply = load(&backend, "echo").await;
    assert_eq!(reply.status, 500);
    assert!(
        reply.error().contains("labels.txt is not as it was signed"),
        "{}",
        reply.error()
    );
    let health = backend.get("/health").await.json();
    assert_eq!(health["loaded"], true, "what was verified is served still");
    assert_eq!(
        backend.get("/v2/models/echo/versions/2/ready").await.status,
        200
    );
}

#[tokio::test]
async fn a_server_that_stops_ends_what_was_unloaded_too() {
    let setup = Setup {
        keys: &format!("{EXPLICIT}\ndrain_delay_ms = 0"),
        models: &[("echo", ECHO)],
    };
    let backend = setup.start().await.when_ready().await;
    for _ in 0..3 {
        assert_eq!(load(&backend, "echo").await.status, 200);
    }
    assert_eq!(unload(&backend, "echo").await.status, 200);
    let deadline = clock::now() + LONG;
    assert!(backend.app.models.stop(deadline));
}
