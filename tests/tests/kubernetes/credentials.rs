//! Whom the proxy trusts, and as whom it asks.

use std::{fs, path::Path};

use aegis_e2e::Cluster;
use serde_json::{Value, json};

use crate::{NAMESPACE, Rig, heard, of_service, until_heard};

#[tokio::test]
async fn a_cluster_is_asked_over_tls_and_a_new_token_is_read_at_once() {
    let mut rig = Rig::new(2).await;
    rig.cluster = Cluster::start_secure().await.unwrap();
    rig.set(&rig.ready([0]));
    let proxy = rig.start().await;
    rig.until_pool_is(&proxy, &[0]).await;
    let folder = rig.folder.path();
    rig.cluster.rotate_token(folder, "another").unwrap();
    rig.cluster.cut();
    rig.set(&rig.ready([0, 1]));
    rig.until_pool_is(&proxy, &[0, 1]).await;
    assert!(heard(&proxy, "refused").await >= 1, "the old one was tried");
    let credentials = rig.cluster.asked().credentials;
    assert_eq!(credentials.as_deref(), Some("Bearer another"));
}

#[tokio::test]
async fn an_api_server_with_a_strange_certificate_is_not_asked() {
    let mut rig = Rig::new(1).await;
    rig.cluster = Cluster::start_secure().await.unwrap();
    rig.set(&rig.ready([0]));
    let setup = rig.setup();
    // Whom to trust is somebody else.
    let other = Cluster::start_secure().await.unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    other.write_kubeconfig(elsewhere.path(), NAMESPACE).unwrap();
    let authority = |folder: &Path| folder.join("ca.crt");
    fs::copy(authority(elsewhere.path()), authority(rig.folder.path())).unwrap();
    let proxy = rig.start_as(setup).await;
    until_heard(&proxy, "unreachable", 1).await;
    let error = of_service(&proxy).await["error"].clone();
    let error = error.as_str().unwrap();
    assert!(error.contains("certificate"), "{error}");
    assert_eq!(rig.cluster.asked().targets.len(), 0);
}

/// Makes a token, and takes longer for it than a try may. Says whether it ran twice at a time.
const SLOW_PROGRAM: &str = r#"
mkdir "$FOLDER/running" || echo twice >> "$FOLDER/twice"
sleep 1
rmdir "$FOLDER/running"
echo '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "a-token"}}'
"#;

#[tokio::test]
async fn a_program_for_credentials_may_take_longer_than_a_try_and_no_other_is_started() {
    let rig = Rig::new(1).await;
    rig.set(&rig.ready([0]));
    let setup = rig.setup().set("kubernetes.api_timeout_ms", 200);
    let folder = rig.folder.path();
    let file = folder.join("kubeconfig");
    let mut kubeconfig: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    kubeconfig["users"][0]["user"] = json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "sh",
        "args": ["-c", SLOW_PROGRAM],
        "env": [{"name": "FOLDER", "value": folder}],
        "interactiveMode": "Never",
    }});
    fs::write(&file, kubeconfig.to_string()).unwrap();
    let proxy = rig.start_as(setup).await;
    rig.until_pool_is(&proxy, &[0]).await;
    assert!(heard(&proxy, "timeout").await >= 1, "it was slow");
    // The library runs it several times for one client, one after another.
    assert!(!folder.join("twice").exists(), "one at a time");
    let credentials = rig.cluster.asked().credentials;
    assert_eq!(credentials.as_deref(), Some("Bearer a-token"));
}
