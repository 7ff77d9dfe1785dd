//! A model that cannot be loaded takes down neither the server nor the traffic.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::path::Path;

use aegis_e2e::digits::{self, MODEL};
use aegis_e2e::{Backend, BackendSetup, Binaries, Hammer, ProxySetup, STABLE, workspace_root};
use aegis_protocol::path;
use http::StatusCode;
use tempfile::TempDir;

/// A copy of the shipped model, with one version, for a test to break.
fn repository() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let shipped = workspace_root().join("config/models").join(MODEL);
    let ours = folder.path().join(MODEL);
    fs::create_dir_all(ours.join(STABLE)).unwrap();
    for file in ["model.toml", "1/model.pt", "1/safety.json"] {
        fs::copy(shipped.join(file), ours.join(file)).unwrap();
    }
    folder
}

fn weights(repository: &Path) -> std::path::PathBuf {
    repository.join(MODEL).join(STABLE).join("model.pt")
}

/// Changes `model.toml`; the text must have been there.
fn edit(repository: &Path, from: &str, to: &str) {
    let path = repository.join(MODEL).join("model.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "no {from:?} in {text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

/// Starts a backend on this repository and waits until it says why it is not loaded.
async fn refused(repository: &Path) -> (Backend, String) {
    let setup = BackendSetup::new(MODEL, &[STABLE]).repository(repository);
    let backend = setup.start(Binaries::built().unwrap()).await.unwrap();
    let reason = backend.failure().await.unwrap();
    let (status, report) = backend.health().await.unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        (report.loaded, &*report.model_version),
        (false, STABLE),
        "{report:?}"
    );
    assert!(
        report
            .models
            .iter()
            .all(|model| !model.loaded && !model.warm),
        "{report:?}"
    );
    (backend, reason)
}

/// The process lives, says that it is not ready, and refuses requests.
async fn assert_alive_and_not_ready(backend: &mut Backend) {
    assert!(backend.process.ended().is_none());
    assert_eq!(
        backend.get(path::LIVE).await.unwrap().status,
        StatusCode::OK
    );
    let ready = path::model_ready(MODEL, Some(STABLE));
    for path in [path::READY, ready.as_str()] {
        let answer = backend.get(path).await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.reason()),
            (503, "not_ready"),
            "{path}"
        );
    }
    let body = digits::request(&digits::held_out().unwrap()[..1]);
    let answer = backend
        .infer(&path::infer(MODEL, Some(STABLE)), body)
        .await
        .unwrap();
    assert_eq!(
        (answer.status.as_u16(), answer.reason()),
        (503, "not_ready")
    );
    assert!(!answer.header(&http::header::RETRY_AFTER).is_empty());
    let loaded = [("model", MODEL), ("model_version", STABLE)];
    let metrics = backend.metrics().await.unwrap();
    assert_eq!(metrics.value("aegis_model_loaded", &loaded), Some(0.0));
}

#[tokio::test]
async fn a_missing_file_is_not_loaded_and_the_reason_names_it() {
    let repository = repository();
    fs::remove_file(weights(repository.path())).unwrap();
    let (mut backend, reason) = refused(repository.path()).await;
    assert!(reason.contains("model.pt"), "{reason}");
    assert_alive_and_not_ready(&mut backend).await;
}

#[tokio::test]
async fn a_corrupt_file_is_not_loaded_and_the_reason_is_one_line() {
    let good = fs::read(weights(repository().path())).unwrap();
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle..].fill(0);
    for bytes in [
        b"not a model".to_vec(),
        Vec::new(),
        good[..good.len() / 2].to_vec(),
        flipped,
    ] {
        let repository = repository();
        fs::write(weights(repository.path()), bytes).unwrap();
        let (mut backend, reason) = refused(repository.path()).await;
        assert!(
            !reason.is_empty() && reason.lines().count() == 1,
            "{reason}"
        );
        assert_alive_and_not_ready(&mut backend).await;
    }
}

#[tokio::test]
async fn a_model_that_is_not_what_its_signature_says_is_not_loaded() {
    let lies = [
        ("shape = [-1, 10]", "shape = [-1, 11]"),
        ("datatype = \"INT64\"", "datatype = \"FP64\""),
        ("shape = [-1, 64]", "shape = [-1, 65]"),
    ];
    for (truth, lie) in lies {
        let repository = repository();
        edit(repository.path(), truth, lie);
        let (mut backend, reason) = refused(repository.path()).await;
        assert!(!reason.is_empty(), "{lie}");
        assert_alive_and_not_ready(&mut backend).await;
    }
}

#[tokio::test]
async fn a_bad_description_is_not_loaded_and_the_reason_names_the_key() {
    let repository = repository();
    edit(
        repository.path(),
        "max_batch_size = 8",
        "max_batch_siez = 8",
    );
    let (mut backend, reason) = refused(repository.path()).await;
    assert!(reason.contains("max_batch_siez"), "{reason}");
    assert_alive_and_not_ready(&mut backend).await;
}

#[tokio::test]
async fn the_proxy_sends_nothing_to_a_backend_without_its_model() {
    let repository = repository();
    fs::remove_file(weights(repository.path())).unwrap();
    let (bad, _) = refused(repository.path()).await;
    let programs = Binaries::built().unwrap();
    let good = BackendSetup::new(MODEL, &[STABLE])
        .start(programs)
        .await
        .unwrap();
    good.ready().await.unwrap();
    let pool = [bad.address(), good.address()];
    let setup = ProxySetup::new(MODEL).pool(STABLE, 1, &pool);
    let proxy = setup.start_unsettled(programs).await.unwrap();
    proxy.until_available(STABLE, 0.5).await.unwrap();

    let body = digits::request(&digits::held_out().unwrap()[..1]);
    let before = refusals(&bad).await;
    let load = Hammer::start(proxy.data(), &proxy.infer_path(), body, 4);
    load.ask(200).await.unwrap();
    load.stop().await.all_ok().unwrap();
    assert_eq!(refusals(&bad).await, before, "it was asked to infer");
}

async fn refusals(backend: &Backend) -> u64 {
    let metrics = backend.metrics().await.unwrap();
    metrics
        .count("aegis_inference_rejected_total", &[("reason", "not_ready")])
        .unwrap()
}
