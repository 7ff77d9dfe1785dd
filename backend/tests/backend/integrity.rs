//! Nothing is loaded but what a trusted key signed, and what was refused says why.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use aegis_signing::{PrivateKey, SIGNATURE_FILE};
use p256::elliptic_curve::pkcs8::{EncodePrivateKey, LineEnding};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Backend, ECHO, Setup, echo_body, until};

const REQUIRED: &str = "verify = \"required\"\ntrusted_keys = [\"old.pub\", \"team.pub\"]";

/// A model repository that is signed, and its configuration.
pub(crate) struct Signed {
    pub(crate) folder: TempDir,
}

impl Signed {
    /// Both versions of the model `echo`, signed by `team`.
    pub(crate) fn new(keys: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let setup = Setup {
            keys,
            models: &[("echo", ECHO)],
        };
        setup.write(folder.path());
        let signed = Self { folder };
        for (name, seed) in [("old", 5), ("team", 7)] {
            let pem = key(seed).public().unwrap().to_pem().unwrap();
            fs::write(signed.folder.path().join(name).with_extension("pub"), pem).unwrap();
        }
        for version in ["1", "2"] {
            fs::create_dir(signed.version(version)).unwrap();
            fs::write(signed.version(version).join("model.toml"), ECHO).unwrap();
            fs::write(signed.version(version).join("labels.txt"), "zero\n").unwrap();
            signed.sign(version, 7);
        }
        signed
    }

    pub(crate) fn version(&self, version: &str) -> PathBuf {
        self.folder.path().join("models/echo").join(version)
    }

    pub(crate) fn sign(&self, version: &str, seed: u8) {
        let folder = self.version(version);
        sign(&folder, seed);
    }

    /// Serves it, and waits until both versions are decided on.
    pub(crate) async fn serve(self) -> Backend {
        let backend = Backend::start_in(self.folder).await;
        let decided = || async {
            let versions = versions(&backend).await;
            versions.iter().all(|one| one["reason"] != "loading")
        };
        until(decided).await;
        backend
    }
}

pub(crate) fn sign(folder: &Path, seed: u8) {
    let signature = folder.join(SIGNATURE_FILE);
    let bundle = aegis_signing::sign(folder, &signature, &key(seed)).unwrap();
    fs::write(signature, bundle).unwrap();
}

/// The key of that number.
pub(crate) fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_pem(&private_pem(seed)).unwrap()
}

pub(crate) fn private_pem(seed: u8) -> String {
    let secret = p256::SecretKey::from_slice(&[seed; 32]).unwrap();
    secret.to_pkcs8_pem(LineEnding::LF).unwrap().to_string()
}

async fn versions(backend: &Backend) -> Vec<Value> {
    let health = backend.get("/health").await.json();
    health["models"].as_array().unwrap().clone()
}

async fn count(backend: &Backend, outcome: &str) -> u64 {
    let series = format!("aegis_model_verifications_total{{outcome=\"{outcome}\"}}");
    let value = backend.metric(&series).await;
    format!("{value}").parse().unwrap()
}

/// Version 1 is not loaded, for this reason, and version 2 is.
#[track_caller]
fn assert_refused(versions: &[Value], words: &str) {
    let [first, second] = versions else {
        panic!("{versions:?}")
    };
    assert_eq!(first["loaded"], false, "{first}");
    let reason = first["reason"].as_str().unwrap();
    assert!(reason.contains(words), "{reason}");
    assert_eq!(second["loaded"], true, "{second}");
}

#[tokio::test]
async fn what_a_trusted_key_signed_is_served_and_says_who_signed_it() {
    let signed = Signed::new(REQUIRED);
    // The old key still counts while the new one takes over.
    signed.sign("2", 5);
    let backend = signed.serve().await.when_ready().await;
    let versions = versions(&backend).await;
    assert_eq!(versions[0]["signer"], "team");
    assert_eq!(versions[1]["signer"], "old");
    let digest = versions[0]["digest"].as_str().unwrap();
    assert!(
        digest.starts_with("sha256:") && digest.len() == 71,
        "{digest}"
    );
    assert_eq!(
        versions[0]["digest"], versions[1]["digest"],
        "the same files"
    );
    assert_eq!(backend.infer("echo", echo_body(&[1.0])).await.status, 200);
    assert_eq!(count(&backend, "verified").await, 2);
}

#[tokio::test]
async fn what_is_not_as_it_was_signed_is_not_loaded_and_the_others_are_served() {
    type Break = fn(&Path);
    let cases: [(Break, &str, &str); 8] = [
        (
            |folder| fs::write(folder.join("labels.txt"), "zerp\n").unwrap(),
            "changed",
            "labels.txt is not as it was signed",
        ),
        (
            |folder| fs::remove_file(folder.join("labels.txt")).unwrap(),
            "missing",
            "labels.txt was signed and is not there",
        ),
        (
            |folder| fs::write(folder.join("extra.txt"), "").unwrap(),
            "unlisted",
            "extra.txt was not signed",
        ),
        (
            |folder| symlink("labels.txt", folder.join("link.txt")).unwrap(),
            "link",
            "link.txt is a link",
        ),
        (
            |folder| fs::remove_file(folder.join("model.sig")).unwrap(),
            "unsigned",
            "not signed",
        ),
        (
            |folder| fs::write(folder.join("model.sig"), "{}").unwrap(),
            "bad_signature",
            "no Sigstore bundle",
        ),
        (
            |folder| sign(folder, 9),
            "untrusted",
            "key that is not trusted",
        ),
        (
            |folder| {
                fs::remove_file(folder.join("model.toml")).unwrap();
                sign(folder, 7);
            },
            "uncovered",
            "model.toml is not among the verified files",
        ),
    ];
    for (break_it, outcome, words) in cases {
        let signed = Signed::new(REQUIRED);
        break_it(&signed.version("1"));
        let backend = signed.serve().await;
        assert_refused(&versions(&backend).await, words);
        assert_eq!(count(&backend, outcome).await, 1, "{outcome}");
        assert_eq!(count(&backend, "verified").await, 1, "{outcome}");
        assert_eq!(backend.get("/v2/health/ready").await.status, 503);
        let reply = backend.infer("echo", echo_body(&[1.0])).await;
        assert_eq!(reply.status, 503);
        assert!(reply.error().contains(words), "{}", reply.error());
        assert_eq!(
            backend.get("/v2/models/echo/versions/2/ready").await.status,
            200
        );
    }
}

#[tokio::test]
async fn a_description_that_is_not_signed_changes_nothing() {
    let signed = Signed::new(REQUIRED);
    // Somebody who cannot sign turns the safety checks off.
    let unsafe_text = format!("{ECHO}[safety]\nnan_inf_output = \"off\"\n[safety2]");
    let shared = signed.folder.path().join("models/echo/model.toml");
    fs::write(shared, unsafe_text).unwrap();
    signed.serve().await.when_ready().await;
}

#[tokio::test]
async fn a_version_may_be_described_on_its_own() {
    let signed = Signed::new("");
    let named = ECHO.replace("name = \"y\"", "name = \"z\"");
    fs::write(signed.version("2").join("model.toml"), named).unwrap();
    let backend = signed.serve().await.when_ready().await;
    let output = |version: &str| {
        let path = format!("/v2/models/echo/versions/{version}");
        let backend = &backend;
        async move { backend.get(&path).await.json()["outputs"][0]["name"].clone() }
    };
    assert_eq!(output("1").await, "y");
    assert_eq!(output("2").await, "z");
    assert_eq!(count(&backend, "verified").await, 0, "nobody asked");
    assert!(versions(&backend).await[0].get("signer").is_none());
}

#[tokio::test]
async fn where_it_only_warns_all_is_loaded_and_health_says_what_is_wrong() {
    let signed = Signed::new("verify = \"warn\"\ntrusted_keys = [\"team.pub\"]");
    fs::write(signed.version("1").join("labels.txt"), "other\n").unwrap();
    let backend = signed.serve().await.when_ready().await;
    let versions = versions(&backend).await;
    assert_eq!(versions[0]["loaded"], true);
    let reason = versions[0]["reason"].as_str().unwrap();
    assert!(
        reason.contains("labels.txt is not as it was signed"),
        "{reason}"
    );
    assert!(
        versions[0].get("digest").is_none(),
        "nothing is vouched for"
    );
    assert_eq!(versions[1]["signer"], "team");
    assert_eq!(count(&backend, "changed").await, 1);
}

#[tokio::test]
async fn a_trusted_key_that_cannot_be_read_lets_nothing_in() {
    let signed = Signed::new(REQUIRED);
    fs::write(signed.folder.path().join("old.pub"), private_pem(5)).unwrap();
    let backend = signed.serve().await;
    for version in versions(&backend).await {
        let reason = version["reason"].as_str().unwrap();
        assert!(
            reason.contains("old.pub: expected a public key, got a private one"),
            "{reason}"
        );
    }
    assert_eq!(count(&backend, "no_key").await, 2);
}

#[tokio::test]
async fn a_version_over_the_limit_is_not_loaded() {
    let signed =
        Signed::new("verify = \"required\"\ntrusted_keys = [\"team.pub\"]\nmax_model_bytes = 1000");
    fs::write(signed.version("1").join("weights.bin"), [0; 1000]).unwrap();
    signed.sign("1", 7);
    let backend = signed.serve().await;
    assert_refused(&versions(&backend).await, "more than 1000 bytes in all");
    assert_eq!(count(&backend, "too_large").await, 1);
}
