//! Real weights, signed by the real program: what is verified is what answers.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use aegis_e2e::digits::{self, MODEL};
use aegis_e2e::{BackendSetup, Binaries, CANARY, STABLE, until, workspace_root};
use aegis_protocol::path;
use anyhow::ensure;
use p256::elliptic_curve::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};
use tempfile::TempDir;
use toml_edit::Array;

/// A copy of the shipped model, each version with its description, signed by a key of the test's own.
fn signed() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let secret = p256::SecretKey::from_slice(&[7; 32]).unwrap();
    let private = secret.to_pkcs8_pem(LineEnding::LF).unwrap();
    let public = secret
        .public_key()
        .to_public_key_pem(LineEnding::LF)
        .unwrap();
    fs::write(folder.path().join("team.pem"), private.as_bytes()).unwrap();
    fs::write(folder.path().join("team.pub"), public).unwrap();
    let shipped = workspace_root().join("config/models").join(MODEL);
    for version in [STABLE, CANARY] {
        let ours = folder.path().join(MODEL).join(version);
        fs::create_dir_all(&ours).unwrap();
        fs::copy(shipped.join("model.toml"), ours.join("model.toml")).unwrap();
        fs::copy(
            shipped.join(version).join("model.pt"),
            ours.join("model.pt"),
        )
        .unwrap();
        fs::copy(
            shipped.join(version).join("safety.json"),
            ours.join("safety.json"),
        )
        .unwrap();
        let output = backend(
            &["sign", "--key"],
            &[&folder.path().join("team.pem"), &ours],
        );
        assert!(output.status.success(), "{output:?}");
    }
    folder
}

fn backend(arguments: &[&str], files: &[&Path]) -> Output {
    let program = &Binaries::built().unwrap().backend;
    Command::new(program)
        .args(arguments)
        .args(files)
        .output()
        .unwrap()
}

fn setup(repository: &Path) -> BackendSetup {
    let keys: Array = [repository.join("team.pub").to_str().unwrap()]
        .into_iter()
        .collect();
    BackendSetup::new(MODEL, &[STABLE, CANARY])
        .repository(repository)
        .set("verify", "required")
        .set("trusted_keys", keys)
}

#[tokio::test]
async fn the_bundled_model_is_signed_by_the_key_that_ships() {
    let setup = BackendSetup::new(MODEL, &[STABLE, CANARY]).verified();
    let backend = setup.start(Binaries::built().unwrap()).await.unwrap();
    backend
        .ready()
        .await
        .expect("if config/models/digits has changed, run scripts/sign_digits.sh");
    let (_, report) = backend.health().await.unwrap();
    for model in &report.models {
        assert_eq!(model.signer.as_deref(), Some("demo"), "{model:?}");
    }
}

#[tokio::test]
async fn verified_weights_are_loaded_from_memory_and_answer_rightly() {
    let repository = signed();
    let backend = setup(repository.path())
        .start(Binaries::built().unwrap())
        .await
        .unwrap();
    backend.ready().await.unwrap();
    let (_, report) = backend.health().await.unwrap();
    for model in &report.models {
        assert_eq!(model.signer.as_deref(), Some("team"), "{model:?}");
        assert!(model.digest.is_some(), "{model:?}");
    }
    let plain = BackendSetup::new(MODEL, &[STABLE, CANARY]);
    let plain = plain.start(Binaries::built().unwrap()).await.unwrap();
    plain.ready().await.unwrap();
    let body = digits::request(&digits::held_out().unwrap()[..8]);
    for version in [STABLE, CANARY] {
        let path = path::infer(MODEL, Some(version));
        let (ours, theirs) = (
            backend.infer(&path, body.clone()).await.unwrap(),
            plain.infer(&path, body.clone()).await.unwrap(),
        );
        assert_eq!(
            digits::labels(&ours.body).unwrap(),
            digits::labels(&theirs.body).unwrap()
        );
    }
}

#[tokio::test]
async fn one_flipped_byte_of_the_weights_keeps_a_version_out_and_serves_the_other() {
    let repository = signed();
    let weights = repository.path().join(MODEL).join(STABLE).join("model.pt");
    let mut bytes = fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&weights, bytes).unwrap();
    let backend = setup(repository.path())
        .start(Binaries::built().unwrap())
        .await
        .unwrap();
    let reason = backend.failure().await.unwrap();
    assert!(
        reason.contains("model.pt is not as it was signed"),
        "{reason}"
    );
    let metrics = backend.metrics().await.unwrap();
    let changed = metrics.count("aegis_model_verifications_total", &[("outcome", "changed")]);
    assert_eq!(changed.unwrap(), 1);
    let path = path::infer(MODEL, Some(CANARY));
    let body = digits::request(&digits::held_out().unwrap()[..1]);
    let answered = until("the other version answers", async || {
        let answer = backend.infer(&path, body.clone()).await?;
        ensure!(answer.status == 200, "{}", answer.text());
        Ok(())
    });
    answered.await.unwrap();

    let folder = repository.path().join(MODEL).join(STABLE);
    let key = repository.path().join("team.pub");
    let output = backend_verify(&key, &folder);
    assert_eq!(output.status.code(), Some(1));
    let output = backend_verify(&key, &repository.path().join(MODEL).join(CANARY));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

fn backend_verify(key: &Path, folder: &Path) -> Output {
    backend(&["verify", "--key"], &[key, folder])
}
